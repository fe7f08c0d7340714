"""Tiny calls, of which most is overhead.

Everything is made and compiled when this module is imported: a `setup` would run before every
call, and asv would then time single calls.
"""

import contextlib
import itertools

from benchmarks.lib.layers import select
from benchmarks.lib.suite import BACKENDS, ready

ROWS = tuple(layer.id for layer in select(kinds="Q"))
FORMS = ("plain", "prepared")
CASES = tuple(itertools.product(BACKENDS, ROWS, FORMS))
CALLS = {}
for _backend, _row, _form in CASES:
    with contextlib.suppress(Exception):  # whatever it is, the other modules must load
        CALLS[_backend, _row, _form] = ready(_backend, _row, _form == "prepared")


class Small:
    """Time of one call; absent ones are skipped by `skip_params`, for want of a `setup`."""

    version = "1"
    rounds = 1
    param_names = ("backend", "layer", "form")
    params = (BACKENDS, ROWS, FORMS)
    skip_params = tuple(case for case in CASES if case not in CALLS)

    def time_call(self, backend: str, layer: str, form: str) -> None:
        """Do it once."""
        CALLS[backend, layer, form]()
