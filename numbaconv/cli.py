"""The commands of ``python -m numbaconv``; needs typer and rich."""

import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

import numbaconv as nc
from numbaconv.built_ahead.build import DIRECTORY, NAMES, build
from numbaconv.problem.dtypes import SUPPORTED

COMMON = ("float32", "float64")
FILTERED = (*COMMON, "uint8")  # images for which filters are compiled

# Shapes of input and weight, padding and dilation of a small problem for each kind of kernel.
PROBLEMS = {
    "layer": ((1, 4, 16, 16), (8, 4, 3, 3), 0, 1),
    "layer, small map": ((1, 128, 7, 7), (32, 128, 3, 3), 1, 1),
    "layer, dilated": ((1, 32, 16, 16), (32, 32, 3, 3), 4, 4),
    "fully connected": ((1, 64, 1, 1), (8, 64, 1, 1), 0, 1),
    "depthwise": ((1, 4, 32, 32), (4, 1, 3, 3), 1, 1),
    "depthwise, small map": ((1, 4, 4, 4), (4, 1, 3, 3), 1, 1),  # a vector of float64 under AVX2
    "image": ((1, 1, 16, 16), (1, 1, 3, 3), 1, 1),
    "signal": ((1, 1, 1, 2000), (1, 1, 1, 101), 0, 1),
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
    all_dtypes: Annotated[
        bool, typer.Option("--all", help="Every supported dtype, not only float32 and float64.")
    ] = False,
) -> None:
    """Compile the common kernels into the cache, so that no later process has to wait for them."""
    dtypes = SUPPORTED if all_dtypes else COMMON
    # What runs on a GPU is compiled for the device that is there, when it is first used.
    backends = [name for name in nc.available_backends() if name != "cuda"]
    console = Console()
    start = time.perf_counter()
    columns = (TextColumn("{task.description:32}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
        task = progress.add_task(
            "", total=len(backends) * len(dtypes) * len(PROBLEMS) + len(FILTERED)
        )
        for backend in backends:
            for dtype in dtypes:
                for problem, (input_shape, weight_shape, padding, dilation) in PROBLEMS.items():
                    progress.update(task, description=f"{backend}, {dtype}, {problem}")
                    x, w = np.ones(input_shape, dtype), np.ones(weight_shape, dtype)
                    options: dict[str, Any] = {
                        "padding": padding,
                        "dilation": dilation,
                        "groups": input_shape[1] // weight_shape[1],
                        "activation": "relu" if dtype in COMMON else None,
                        "backend": backend,
                    }
                    nc.conv2d(x, w, **options)
                    nc.prepare(w, **options)(x)
                    progress.advance(task)
        for dtype in FILTERED:
            progress.update(task, description=f"filters, {dtype}")
            nc.ndimage.gaussian_filter(np.ones((64, 64), dtype), 1)
            nc.signal.upfirdn(np.ones(2, dtype), np.ones(64, dtype), 2)
            photograph, box = np.ones((64, 64, 3), dtype), np.ones((3, 1, 3, 3), np.float32)
            nc.conv2d(photograph, box, groups=3, data_format="channels_last")
            progress.advance(task)
        progress.update(task, description="done")
    console.print(
        f"{', '.join(backends)} are compiled for {', '.join(dtypes)} "
        f"({time.perf_counter() - start:.1f} s)"
    )
