"""The commands of ``python -m numbaconv``; needs typer and rich."""

import time
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import numba
import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

import numbaconv as nc
from numbaconv.built_ahead.build import DIRECTORY, NAMES, build
from numbaconv.problem.dtypes import SUPPORTED

COMMON = ("float32", "float64")
FILTERED = (*COMMON, "uint8")  # images for which filters are compiled

# Shapes of input and weight, stride, padding and dilation of a small problem for each kind of
# kernel.
PROBLEMS = {
    "layer": ((1, 4, 16, 16), (8, 4, 3, 3), 1, 0, 1),
    "layer, small map": ((1, 128, 7, 7), (32, 128, 3, 3), 1, 1, 1),
    "layer, dilated": ((1, 32, 16, 16), (32, 32, 3, 3), 1, 4, 4),
    "fully connected": ((1, 64, 1, 1), (8, 64, 1, 1), 1, 0, 1),
    "depthwise": ((1, 4, 32, 32), (4, 1, 3, 3), 1, 1, 1),
    "depthwise, small map": ((1, 4, 4, 4), (4, 1, 3, 3), 1, 1, 1),  # one vector of AVX2, float64
    # Rows of more than a vector, and with the channels last vectors of channels.
    "depthwise, stride": ((1, 32, 64, 64), (32, 1, 3, 3), 2, 1, 1),
    "depthwise, window": ((1, 64, 5, 5), (64, 1, 5, 5), 1, 0, 1),
    "image": ((1, 1, 16, 16), (1, 1, 3, 3), 1, 1, 1),
    "image, stride": ((1, 3, 64, 64), (64, 3, 4, 4), 2, 1, 1),  # whose adjoint is folded
    "patches": ((1, 16, 32, 32), (32, 16, 2, 2), 2, 0, 1),
    "signal": ((1, 1, 1, 2000), (1, 1, 1, 101), 1, 0, 1),
    "signal, filters": ((1, 1, 1, 2000), (4, 1, 1, 11), 1, 0, 1),
}

app = typer.Typer(
    help="numbaconv: fast convolution for NumPy and Numba.",
    no_args_is_help=True,
    add_completion=False,
)


@app.command()
def info() -> None:
    """Print versions, the CPU target, threads and backends: what a bug report needs."""
    nc.show_config()


@app.command("build-kernels")
def build_kernels(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help=f"Families of CPUs: {', '.join(NAMES)}.", show_default="all", metavar="[NAME]..."
        ),
    ] = None,
    directory: Annotated[
        Path, typer.Option(help="Where to write them; only in the package are they used.")
    ] = DIRECTORY,
) -> None:
    """Compile the usual kernels ahead, as data of the package: first calls then compile nothing."""
    start = time.perf_counter()
    console = Console()
    with console.status("building kernels"):
        try:
            paths = build(list(names or NAMES), directory)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
    for path in paths:
        console.print(f"{path} ({path.stat().st_size / 1e6:.2f} MB)", soft_wrap=True)
    console.print(f"{time.perf_counter() - start:.0f} s")


@app.command()
def warmup(
    dtypes: Annotated[
        list[str] | None,
        typer.Argument(
            help=f"Of the arrays: {', '.join(SUPPORTED)}.",
            show_default=" ".join(COMMON),
            metavar="[DTYPE]...",
        ),
    ] = None,
    all_dtypes: Annotated[bool, typer.Option("--all", help="Every supported dtype.")] = False,
) -> None:
    """Compile the common kernels into the cache, so that no later process has to wait for them.

    These are kernels of plain and prepared layers, with the channels first or last, of transposed
    convolutions and gradients, on each backend of the CPU; filters of images and signals; and what
    compiled functions of yours call. Other combinations of dtypes, what only arrays beyond the
    caches need, and your own functions are compiled by their first call.
    """
    chosen = SUPPORTED if all_dtypes else tuple(dtypes or COMMON)
    for dtype in chosen:
        if dtype not in SUPPORTED:
            raise typer.BadParameter(f"{dtype!r} is none of {', '.join(SUPPORTED)}")
    # What runs on a GPU is compiled for the device that is there, when it is first used.
    backends = [name for name in nc.available_backends() if name != "cuda"]
    calls: list[tuple[str, Callable[[], Any]]] = [
        (f"{backend}, {dtype}, {problem}", partial(_call_layers, problem, dtype, backend))
        for backend, dtype, problem in product(backends, chosen, PROBLEMS)
    ]
    calls += [(f"compiled code, {dtype}", partial(_call_compiled, dtype)) for dtype in chosen]
    images = dict.fromkeys((*FILTERED, *chosen))
    calls += [(f"filters, {dtype}", partial(_call_filters, dtype)) for dtype in images]
    console = Console()
    start = time.perf_counter()
    columns = (TextColumn("{task.description:32}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
        task = progress.add_task("", total=len(calls))
        for description, call in calls:
            progress.update(task, description=description)
            call()
            progress.advance(task)
        progress.update(task, description="done")
    console.print(
        f"{', '.join(backends)} are compiled for {', '.join(chosen)} "
        f"({time.perf_counter() - start:.1f} s)"
    )


def _call_layers(problem: str, dtype: str, backend: str) -> None:
    """Make the calls for which a problem has kernels: both ways, and in each order of channels."""
    input_shape, weight_shape, stride, padding, dilation = PROBLEMS[problem]
    x, w = np.ones(input_shape, dtype), np.ones(weight_shape, dtype)
    options: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation}
    options["backend"], options["groups"] = backend, input_shape[1] // weight_shape[1]
    activation = "relu" if np.dtype(dtype).kind == "f" else None
    y = nc.conv2d(x, w, **options, activation=activation)
    nc.prepare(w, **options, activation=activation)(x)
    nc.conv2d(np.moveaxis(x, 1, -1).copy(), w, **options, data_format="channels_last")
    nc.conv_transpose2d(y, w, **options)
    nc.grad.conv2d_input(x.shape, w, y, **options)
    nc.grad.conv2d_weight(x, w.shape, y, **options)


def _call_compiled(dtype: str) -> None:
    """Make a call from a compiled function, which Numba has for all dtypes but float16."""
    if dtype != "float16":
        blur = numba.njit(lambda x, w: nc.conv2d(x, w, padding=1))
        blur(np.ones((1, 1, 16, 16), dtype), np.ones((1, 1, 3, 3), dtype))


def _call_filters(dtype: str) -> None:
    """Make calls of filters, of a photograph among them."""
    if np.dtype(dtype).kind != "c":
        nc.ndimage.gaussian_filter(np.ones((64, 64), dtype), 1)
    nc.signal.upfirdn(np.ones(2, dtype), np.ones(64, dtype), 2)
    photograph, box = np.ones((64, 64, 3), dtype), np.ones((3, 1, 3, 3), np.float32)
    nc.conv2d(photograph, box, groups=3, data_format="channels_last")
