"""Problems that hypothesis makes up, of small integers: their results are exact."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from tests.oracle.cases import Array
from tests.oracle.paths import BACKENDS
from tests.oracle.problems import MODES, random_case

DTYPES = ("float32", "float64", "int32")


class Problem(NamedTuple):
    """Operands and options of one call."""

    x: Array
    w: Array
    b: Array | None
    options: dict[str, Any]

    @property
    def patches(self) -> dict[str, Any]:
        """The options that im2col shares."""
        return {name: self.options[name] for name in ("stride", "padding", "dilation")}


def integers(shape: tuple[int, ...], seed: int, dtype: str) -> Array:
    return np.random.default_rng(seed).integers(-4, 4, shape, endpoint=True).astype(dtype)


@st.composite
def problems(
    draw: st.DrawFn,
    *,
    ranks: tuple[int, ...] = (1, 2, 3),
    modes: tuple[str, ...] = MODES,
    max_groups: int = 3,
    pad: int = 3,
) -> Problem:
    """A valid problem of any rank, in channels-first order, drawn for hypothesis to shrink."""
    case = random_case(
        lambda least, most: draw(st.integers(least, most)),
        ranks=ranks,
        modes=modes,
        max_groups=max_groups,
        longest={1: 40, 2: 11, 3: 6},
        pad=pad,
    )
    seed, dtype = draw(st.integers(0, 2**32 - 1)), draw(st.sampled_from(DTYPES))
    x, w = integers(case.input, seed, dtype), integers(case.weight, seed + 1, dtype)
    b = integers(case.weight[:1], seed + 2, dtype) if case.bias else None
    return Problem(x, w, b, case.kwargs)


backends = st.sampled_from(BACKENDS)
