"""From plain loops to numbaconv, one idea at a time: ``python benchmarks/ladder.py --help``.

Every step computes the same 2-D convolutions from the same arrays. The first three are written
out here; the others are numbaconv with its backends forced. docs/how-it-works.md explains them.
"""

import ctypes
import datetime
import functools
import shlex
import statistics
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

if __name__ == "__main__":  # as a script, not as a module of the package `benchmarks`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numba as nb
import numpy as np
import typer
from numpy.lib.stride_tricks import sliding_window_view
from rich.console import Console

from benchmarks.lib import report, rivals
from benchmarks.lib.layers import Layer, arrays, select
from benchmarks.lib.machine import describe, fma_rate
from benchmarks.lib.verify import reference
from benchmarks.lib.worker import TOLERANCE, largest_error, median_time

Run = Callable[[], Any]
"""Do a convolution once, from its arrays to a new output."""

Times = dict[str, dict[str, float]]
"""Seconds of a call: step, then row."""


# --- Step 1: plain loops ----------------------------------------------------------------------


@nb.njit(parallel=True)
def convolve_by_loops(x: Any, w: Any, y: Any, stride: int, padding: int, dilation: int) -> None:
    """Compute each output as its sum of products; a task is one row of the output."""
    N, C_out, OH, OW = y.shape
    _, C_in, H, W = x.shape
    _, C_g, KH, KW = w.shape
    group_out = C_out // (C_in // C_g)
    for task in nb.prange(N * C_out * OH):
        plane, oh = divmod(nb.int64(task), OH)  # prange counts in unsigned integers
        n, oc = divmod(plane, C_out)
        first = oc // group_out * C_g
        for ow in range(OW):
            total = nb.float32(0)
            for ic in range(C_g):
                for kh in range(KH):
                    for kw in range(KW):
                        h = oh * stride + kh * dilation - padding
                        v = ow * stride + kw * dilation - padding
                        if 0 <= h < H and 0 <= v < W:
                            total += w[oc, ic, kh, kw] * x[n, first + ic, h, v]
            y[n, oc, oh, ow] = total


def plain_loops(layer: Layer, x: Any, w: Any) -> Run:
    """Seven loops, the output rows shared out over the threads."""

    def run() -> Any:
        y = np.empty(layer.output_shape, x.dtype)
        convolve_by_loops(x, w, y, layer.stride, layer.padding, layer.dilation)
        return y

    return run


# --- Step 2: the patch matrix, and one product for each group ---------------------------------


def patch_matrix(layer: Layer, x: Any, slack: int = 0) -> Any:
    """Return the patch matrix (N, groups, K, OH * OW), with some elements of slack behind it.

    Written by NumPy and not by threads of Numba's: they spin for a while after a parallel region,
    and NumPy's product, which has threads of its own, then takes five times as long.
    """
    edge = (layer.padding, layer.padding)
    padded = np.pad(x, ((0, 0), (0, 0), edge, edge))
    spans = [layer.dilation * (k - 1) + 1 for k in layer.kernel]
    windows = sliding_window_view(padded, spans, axis=(2, 3))  # N, C, H, W, KH, KW
    windows = windows[:, :, :: layer.stride, :: layer.stride, :: layer.dilation, :: layer.dilation]
    columns = np.empty(windows.size + slack, x.dtype)[: windows.size]
    windows = windows.transpose(0, 1, 4, 5, 2, 3)
    columns.reshape(windows.shape)[:] = windows
    return columns.reshape(layer.n, layer.groups, layer.reduction, -1)


def dot(layer: Layer, x: Any, w: Any) -> Run:
    """The whole patch matrix, and NumPy's product; `np.matmul` is `np.dot` group by group."""

    def run() -> Any:
        weights = w.reshape(layer.groups, -1, layer.reduction)
        return np.matmul(weights, patch_matrix(layer, x)).reshape(layer.output_shape)

    return run


# --- Step 3: the same matrix under the register tile ------------------------------------------


@functools.cache
def tile_product() -> Callable[..., None]:
    """Compile the product of weights and patch matrix through numbaconv's register tile."""
    from numbaconv.codegen.target import VECTOR_BYTES
    from numbaconv.cpu.blocking import TILE_ROWS as MR
    from numbaconv.cpu.blocking import TILE_VECTORS
    from numbaconv.cpu.microkernels import matrix

    # From the tile's own signature, so that a call that no longer fits it is refused.
    kinds = {nb.int64: ctypes.c_int64, nb.float32: ctypes.c_float}
    arguments = (
        ctypes.POINTER(kinds[a.dtype]) if isinstance(a, nb.types.CPointer) else kinds[a]
        for a in matrix.tile.signature(nb.float32).args
    )
    tile = ctypes.CFUNCTYPE(None, *arguments)(matrix.tile.address(nb.float32))
    lanes = VECTOR_BYTES // 4
    NR = TILE_VECTORS * lanes

    @nb.njit(parallel=True)
    def multiply(weights: Any, columns: Any, y: Any, packed: Any) -> None:
        """y[n, g] = weights[g] @ columns[n, g], MR x NR values at a time."""
        N, groups, K, L = columns.shape
        M = weights.shape[1]
        blocks, panels = (M + MR - 1) // MR, (L + NR - 1) // NR
        # To the tile each row of the patch matrix is a channel of one tap, with its offsets 0.
        one_tap, bias = np.zeros(2, np.int64), np.zeros(MR, weights.dtype)
        # The tile reads its weights as [k][MR].
        for task in nb.prange(groups * blocks):
            g, block = divmod(nb.int64(task), blocks)
            rows = weights[g, block * MR : (block + 1) * MR]
            first = (g * M + block * MR) * K
            packed[first : first + rows.size] = rows.T.copy().ravel()
        for task in nb.prange(N * groups * panels):
            rest, panel = divmod(nb.int64(task), panels)
            n, g = divmod(rest, groups)
            pixel = panel * NR
            width = min(NR, L - pixel)
            vectors = (width + lanes - 1) // lanes
            last = width - (vectors - 1) * lanes
            for block in range(blocks):
                row = block * MR
                rows = min(MR, M - row)
                a = packed[(g * M + row) * K :].ctypes
                b, c = columns[n, g, 0, pixel:].ctypes, y[n, g, row, pixel:].ctypes
                tile(
                    rows, vectors, K, 1, one_tap.ctypes, a, rows, b, L,
                    c, L, bias.ctypes, 0, last, 1, 0, 0, 0, b, 0, 0,
                )  # fmt: skip

    multiply.slack = NR  # the tile loads whole vectors
    return multiply


def tile(layer: Layer, x: Any, w: Any) -> Run:
    """The whole patch matrix, and a block of registers in place of `np.dot`."""
    multiply = tile_product()
    weights = w.reshape(layer.groups, -1, layer.reduction)
    shape = (layer.n, *weights.shape[:2], int(np.prod(layer.output_shape[2:])))

    def run() -> Any:
        y = np.empty(shape, x.dtype)
        multiply(weights, patch_matrix(layer, x, multiply.slack), y, np.empty(w.size, w.dtype))
        return y.reshape(layer.output_shape)

    return run


# --- Steps 4 to 6: numbaconv ------------------------------------------------------------------


def library(prepared: bool = False, **options: Any) -> Callable[[Layer, Any, Any], Run]:
    """Convolve with numbaconv."""
    return lambda layer, x, w: rivals.numbaconv(prepared, **options)(layer, x, w).run


STEPS: dict[str, Callable[[Layer, Any, Any], Run]] = {
    "plain loops": plain_loops,
    "im2col + np.dot": dot,
    "im2col + register tile": tile,
    "packed panels (im2col)": library(backend="im2col"),
    "no patch matrix (direct)": library(backend="direct"),
    "weights packed ahead (auto)": library(prepared=True, backend="auto"),
}


def check(layers: list[Layer]) -> None:
    """Refuse any step whose result differs from the definition; compiles them on the way."""
    for layer in layers:
        x, w = arrays(layer)
        expected = reference(layer, x, w)
        for name, prepare in STEPS.items():
            error = largest_error(prepare(layer, x, w)(), expected)
            if not error <= TOLERANCE["float32"]:
                raise SystemExit(f"{name} is wrong on {layer.id}: error {error:.1e}")


def measure(layers: list[Layer], passes: int, seconds: float) -> Times:
    """Time all steps in turn, several times over, and return the medians."""
    times: dict[tuple[str, str], list[float]] = {}
    for _ in range(passes):
        for name, prepare in STEPS.items():
            time.sleep(0.2)  # idle threads of the last step may still be spinning
            for layer in layers:
                run = prepare(layer, *arrays(layer))
                run()
                taken = median_time(run, seconds, at_least=3)
                times.setdefault((name, layer.id), []).append(taken)
    return {
        name: {layer.id: statistics.median(times[name, layer.id]) for layer in layers}
        for name in STEPS
    }


def tabulate(layers: list[Layer], times: Times, limit: float) -> report.Sheet:
    """Write GFLOP/s, and how many times the speed of the step before."""
    header = ["step", *(f"{layer.id} {layer.what}" for layer in layers)]
    lines = []
    before: dict[str, float] | None = None
    for name, by_row in times.items():
        cells = []
        for layer in layers:
            gain = f" (x{report.number(before[layer.id] / by_row[layer.id])})" if before else ""
            cells.append(report.number(layer.flops / by_row[layer.id] / 1e9) + gain)
        lines.append([name, *cells])
        before = by_row
    lines.append(["limit of multiply-adds", *[report.number(limit / 1e9)] * len(layers)])
    return report.Sheet("GFLOP/s, and times the step before", header, lines)


def plot(layers: list[Layer], times: Times, limit: float, path: Path) -> None:
    """Draw a line for each layer, climbing from step to step towards the limit."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    steps = [textwrap.fill(name, 16) for name in times]
    for layer, marker in zip(layers, "osDv^<>" * len(layers), strict=False):
        speeds = [layer.flops / by_row[layer.id] / 1e9 for by_row in times.values()]
        axes.plot(steps, speeds, marker=marker, label=f"{layer.id} {layer.what}", alpha=0.85)
    axes.axhline(limit / 1e9, color="black", linewidth=1)
    axes.annotate("limit of multiply-adds", (0, limit / 1e9), (0, -12), textcoords="offset points")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(lambda speed, _: f"{speed:g}")
    axes.tick_params(axis="x", labelsize=8)
    axes.grid(alpha=0.3)
    axes.set_ylabel("GFLOP/s")
    axes.set_title(f"{describe().split(',')[0]}, {nb.get_num_threads()} threads, float32")
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main(
    rows: Annotated[str, typer.Option(help="2-D rows of the layer table.")] = "R3,R9,M1,I2",
    passes: Annotated[int, typer.Option(min=1, help="Turns that each step gets.")] = 3,
    seconds: Annotated[float, typer.Option(help="Time for each row in each pass.")] = 0.25,
    quick: Annotated[bool, typer.Option(help="One short pass: a rough idea.")] = False,
    markdown: Annotated[Path | None, typer.Option(help="Write the table.")] = None,
    picture: Annotated[Path | None, typer.Option("--plot", help="Write a picture.")] = None,
) -> None:
    """Time the steps from plain loops to numbaconv, each checked against the definition."""
    try:
        layers = select([row.strip() for row in rows.split(",")])
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    if wrong := [layer.id for layer in layers if layer.rank != 2]:
        raise typer.BadParameter(f"the first steps are for 2-D rows, not {', '.join(wrong)}")
    if quick:
        passes, seconds = 1, 0.05
    console = Console(width=None if sys.stdout.isatty() else 150)
    check(layers)
    limit = fma_rate(nb.get_num_threads())
    times = measure(layers, passes, seconds)
    limit = max(limit, fma_rate(nb.get_num_threads()))
    sheet = tabulate(layers, times, limit)
    console.print(report.terminal(sheet))
    lines = [
        f"{describe()}, {nb.get_num_threads()} threads, float32",
        f"{datetime.date.today().isoformat()}, {passes} passes",
        shlex.join(["python", "benchmarks/ladder.py", *sys.argv[1:]]),
    ]
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if markdown:
        text = "\n".join(f"- {line}" for line in lines)
        markdown.write_text(f"{text}\n\n{report.markdown_table(sheet)}\n")
    if picture:
        plot(layers, times, limit, picture)


if __name__ == "__main__":
    typer.run(main)
