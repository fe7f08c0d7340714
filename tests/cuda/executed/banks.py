"""Bank conflicts of shared memory: passes that each phase of a warp's access takes; 1.0 is none.

python -m tests.cuda.executed.banks
"""

from __future__ import annotations

import warnings

import numpy as np

import numbaconv as nc
from numbaconv.cuda import tiles
from tests.cuda.executed.cases import convolve, element, forced
from tests.cuda.executed.device import GPU, installed
from tests.oracle.cases import integer_arrays, problem
from tests.oracle.gradient_cases import integer_operands

PRODUCTS = (
    *(("float32", tile, "plain") for tile in tiles.SIMT),
    ("float32", tiles.SIMT[0], "wide"),
    ("float32", tiles.SIMT[0], "weights"),
    ("float64", tiles.SIMT_DOUBLE[0], "plain"),
    ("tf32", tiles.TENSOR[0], "plain"),
    ("tf32", tiles.TENSOR[0], "weights"),
    ("float16", tiles.TENSOR[0], "wide"),
    ("float16", tiles.TENSOR[0], "weights"),
)
FILTERS = ((56, 3, 1), (56, 3, 2), (14, 3, 1), (64, 7, 1))


def passes() -> str:
    """Passes for each access of the last launch, by kind of instruction."""
    found = GPU.notes.conflicts.items()
    return ", ".join(f"{kind} {total / count:.2f} ({count})" for kind, (count, total) in found)


def measure_product(dtype: str, tile: tiles.Tile, option: str) -> None:
    """Print the conflicts of a kind of product."""
    GPU.begin()
    what, precision = element(dtype)
    lanes = 2 * (16 // np.dtype(what).itemsize)
    with forced(tile, 1):
        if option == "weights":
            shape = (tile.bm, -(-tile.bn // 9), 3, 3)
            case = problem("weights", (1, shape[1], 6, 10), shape, padding=1)
            o = integer_operands(case, what)
            nc.grad.conv2d_weight(o.x, shape, o.g, padding=1, backend="cuda", precision=precision)
        else:
            case = problem("patches", (1, lanes, 8, 16), (tile.bm, lanes, 3, 3), padding=1)
            x, w, _ = integer_arrays(case, what, 2)
            convolve(x, w, None, last=option == "wide", padding=1, precision=precision)
    print(f"{dtype} {'x'.join(map(str, tile[:5]))} {option}: {passes()}", flush=True)


def measure_filter(size: int, kernel: int, stride: int, last: bool) -> None:
    """Print the conflicts of a depthwise layer."""
    GPU.begin()
    options = {"padding": kernel // 2, "groups": 8, "stride": stride}
    case = problem("filter", (1, 8, size, size), (8, 1, kernel, kernel), **options)
    x, w, _ = integer_arrays(case)
    convolve(x, w, None, last=last, **options)
    order = "channels last" if last else "channels first"
    text = f"filter {kernel}x{kernel} of {size}x{size}, stride {stride}, {order}"
    print(f"{text}: {passes()}", flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    with installed():
        GPU.profile = True
        for product in PRODUCTS:
            measure_product(*product)
        for form in FILTERS:
            for last in (False, True):
                measure_filter(*form, last)
