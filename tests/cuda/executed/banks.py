"""What kernels cost without a clock: bank conflicts, and the instructions that are executed.

Of shared memory, passes that each phase of a warp's access takes; 1.0 is no conflict. Of a filter,
instructions of PTX for each output, or element of the output's gradient.

python -m tests.cuda.executed.banks
"""

from __future__ import annotations

import warnings

import numpy as np

import numbaconv as nc
from numbaconv.cuda import tiles, transposition
from numbaconv.cuda.convolution import transpose_kernel
from tests.cuda.executed.cases import convolve, element, forced
from tests.cuda.executed.device import GPU, DeviceArray, installed
from tests.oracle.cases import Case, integer_arrays, problem
from tests.oracle.gradient_cases import integer_operands

PRODUCTS = (
    *(("float32", tile, "plain") for tile in tiles.SIMT),
    ("float32", tiles.SIMT[0], "wide"),
    ("float32", tiles.SIMT[0], "weights"),
    ("float64", tiles.SIMT_DOUBLE[0], "plain"),
    ("tf32", tiles.TENSOR[1], "plain"),
    ("tf32", tiles.TENSOR[1], "wide"),
    ("tf32", tiles.TENSOR[1], "weights"),
    ("float16", tiles.TENSOR[1], "wide"),
    ("float16", tiles.TENSOR[0], "wide"),
    ("tf32", tiles.TENSOR[0], "plain"),
    ("float16", tiles.TENSOR[1], "weights"),
    ("float16", tiles.GROUPED[0], "wide"),
    ("tf32", tiles.GROUPED[3], "wide"),
)
# Size of the maps, kernel, stride.
FILTERS = ((56, 3, 1), (56, 3, 2), (14, 3, 1), (14, 3, 2), (7, 3, 1), (64, 7, 1))


def passes() -> dict[str, float]:
    """Passes for each access of the last launches, by kind of instruction."""
    found = GPU.notes.conflicts.items()
    return {kind: total / count for kind, (count, total) in found}


def measure_product(dtype: str, tile: tiles.Tile, option: str) -> dict[str, float]:
    """Return the passes of a kind of product."""
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
    return passes()


def depthwise(size: int, kernel: int, stride: int) -> Case:
    """A layer of 16 channels, with so many columns and rows of outputs."""
    options = {"padding": kernel // 2, "groups": 16, "stride": stride}
    return problem(
        "filter", (2, 16, size * stride, size * stride), (16, 1, kernel, kernel), **options
    )


def measure_filter(size: int, kernel: int, stride: int, last: bool) -> dict[str, float]:
    """Return the passes of a depthwise layer."""
    GPU.begin()
    case = depthwise(size, kernel, stride)
    x, w, _ = integer_arrays(case)
    convolve(x, w, None, last=last, **case.kwargs)
    return passes()


def measure_filter_gradient(size: int, kernel: int, stride: int) -> dict[str, float]:
    """Return the passes of the gradient of such a layer's weights."""
    GPU.begin(processors=1)  # one part
    case = depthwise(size, kernel, stride)
    o = integer_operands(case, "float32")
    nc.grad.conv2d_weight(o.x, case.weight, o.g, **case.kwargs, backend="cuda")
    return passes()


def measure_transposition(dtype: str) -> dict[str, float]:
    """Return the passes of what brings channels together, by the dtype of the elements."""
    GPU.begin()
    images, rows, columns = 2, 70, 100
    x, y = (DeviceArray(images * rows * columns, dtype) for _ in range(2))
    GPU.memory.write(x.address, bytes(x.nbytes))
    blocks = transposition.blocks(images, rows, columns)
    arguments = x.address, y.address, rows, columns
    transpose_kernel(dtype).launch(blocks, transposition.THREADS, 0, arguments)
    return passes()


def show(what: str, found: dict[str, float], outputs: int = 0) -> None:
    """Print the passes of a kernel, and what it executes for each output."""
    text = ", ".join(f"{kind} {each:.2f}" for kind, each in found.items())
    executed = GPU.notes.executed
    if outputs:
        text += (
            f"; {executed.total() / outputs:.0f} instructions, {executed['fma'] / outputs:.1f} fma"
        )
    print(f"{what}: {text}", flush=True)


def report() -> None:
    """Print those of the largest tiles, and of filters."""
    for dtype, tile, option in PRODUCTS:
        found = measure_product(dtype, tile, option)
        show(f"{dtype} {'x'.join(map(str, tile[:5]))} {option}", found)
    for dtype in ("uint16", "float32"):
        show(f"channels together, {dtype}", measure_transposition(dtype), 2 * 70 * 100)
    for size, kernel, stride in FILTERS:
        what = f"{kernel}x{kernel}, {size}x{size} outputs, stride {stride}"
        outputs = 32 * size * size
        for last in (False, True):
            order = "channels last" if last else "channels first"
            found = measure_filter(size, kernel, stride, last)
            show(f"filter {what}, {order}", found, outputs)
        found = measure_filter_gradient(size, kernel, stride)
        show(f"gradient of a filter {what}", found, outputs)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    with installed():
        GPU.profile = True
        report()
