"""Winograd's minimal filtering on small problems, where it would cost too much."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from numbaconv.cuda import winograd

# Of the largest output: no error is larger, which is what the tests hold the CPU's engine to.
UNIT = 64 * 2.0**-24


@contextlib.contextmanager
def minimal(outputs: int, most_values: int = winograd.MOST_VALUES) -> Iterator[None]:
    """Take Winograd's with so many outputs wherever it serves, as if it cost less than nothing."""
    before = winograd.plan_of, winograd.OUTPUTS, winograd.MOST_VALUES
    winograd.plan_of = lambda *arguments: before[0](*arguments)._replace(cycles=-1.0)
    winograd.OUTPUTS, winograd.MOST_VALUES = (outputs,), most_values
    try:
        yield
    finally:
        winograd.plan_of, winograd.OUTPUTS, winograd.MOST_VALUES = before
