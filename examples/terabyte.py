"""A pyramid of a volume that memory does not hold: smoothed, half the size, again and again.

Each level is one convolution of stride 2 with binomial weights: smoothed and sampled down at once.
The volume is made on disk, slab by slab, and so are the levels, as arrays of zarr. The first way is
`numbaconv.tiled`; with ``--dask`` the same call is made on Dask arrays. The program says how much
memory it took. The size is an option, so that it can be a terabyte.

    python examples/terabyte.py                                  # 256 x 512 x 512: 0.27 GB
    python examples/terabyte.py --size 6400 6400 6400 --memory "8 GB"
    python examples/terabyte.py --dask
"""

import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import matplotlib.pyplot as plt
import numpy as np
import typer
import zarr
from rich.console import Console

import numbaconv as nc

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

console = Console()

LINE = np.array([1, 4, 6, 4, 1], np.float32) / 16
WEIGHT = (LINE[:, None, None] * LINE[:, None] * LINE)[None, None]
OPTIONS: dict[str, Any] = {"weight": WEIGHT, "stride": 2, "padding": 2, "padding_mode": "reflect"}


def new_array(path: Path, shape: tuple[int, ...]) -> Any:
    """An array of zarr; its first axis is that of the channels, of which there is one."""
    chunks = (1, *(min(n, 64) for n in shape[1:]))
    return zarr.create_array(str(path), shape=shape, chunks=chunks, dtype="float32", overwrite=True)


def make_volume(path: Path, size: tuple[int, int, int]) -> Any:
    """Write a volume with blobs of many sizes and noise, a slab at a time."""
    volume = new_array(path, (1, *size))
    rng = np.random.default_rng(0)
    y, x = np.ogrid[: size[1], : size[2]]
    for start in range(0, size[0], 64):
        z = np.arange(start, min(start + 64, size[0]))[:, None, None]
        blobs = sum(np.sin(z / p) * np.sin(y / p) * np.sin(x / p) for p in (3.0, 11.0, 40.0))
        volume[0, start : start + 64] = blobs + rng.normal(0, 0.7, blobs.shape)
    return volume


def half(n: int) -> int:
    """Elements of the next level along an axis."""
    return (n + 1) // 2


def make_level(source: Any, out: Any, memory: str, by_dask: bool) -> None:
    """Smooth and down-sample one level into the next."""
    if not by_dask:
        nc.tiled(nc.conv3d, source, out, memory=memory, **OPTIONS)
        return
    import dask.array as da

    # Blocks of whole chunks of the store: 128^3 elements are 8 MB.
    lazy = da.from_zarr(source).rechunk((1, 128, 128, 128))
    result = nc.conv3d(lazy, **OPTIONS).rechunk(out.chunks)
    da.store(result, out, lock=False, scheduler="threads")


def save_picture(levels: list[Any], path: Path) -> None:
    """Draw the middle slice of each level, all at the same scale."""
    plt.style.use("dark_background")
    count = len(levels)
    figure, axes = plt.subplots(1, count, figsize=(3 * count, 3.4), layout="constrained")
    for axis, level in zip(np.ravel(axes), levels, strict=True):
        _, d, h, w = level.shape
        axis.imshow(level[0, d // 2, : h // 4 + 1, : w // 4 + 1], cmap="magma", vmin=-2, vmax=2)
        axis.set_title(f"{d} x {h} x {w}", loc="left", fontsize=10)
        axis.set_axis_off()
    figure.savefig(path, dpi=80)
    console.print(f"saved {path}")


def main(
    size: Annotated[tuple[int, int, int], typer.Option(help="Of the volume.")] = (256, 512, 512),
    levels: Annotated[int, typer.Option(help="Below the volume itself.")] = 3,
    memory: Annotated[str, typer.Option(help="That `tiled` may take for blocks.")] = "100 MB",
    dask: Annotated[bool, typer.Option(help="Compute by Dask's threads.")] = False,
    folder: Annotated[Path | None, typer.Option(help="Where the levels are kept.")] = None,
    output: Annotated[Path, typer.Option(help="Where the picture goes.")] = Path("terabyte.png"),
) -> None:
    """Make a multi-resolution volume larger than memory."""
    nc.conv3d(np.ones((1, 8, 8, 8), np.float32), **OPTIONS)  # compiles
    with tempfile.TemporaryDirectory() as temporary:
        place = folder or Path(temporary)
        made = [make_volume(place / "0", size)]
        console.print(f"volume of {made[0].nbytes / 1e9:.2f} GB")
        for number in range(1, levels + 1):
            source = made[-1]
            out = new_array(place / str(number), (1, *map(half, source.shape[1:])))
            begin = time.perf_counter()
            make_level(source, out, memory, dask)
            seconds = time.perf_counter() - begin
            speed = source.nbytes / seconds / 1e6
            console.print(f"level {number}: {seconds:.2f} s, {speed:.0f} MB/s read")
            made.append(out)
        if resource is not None:
            # Of the whole process, with Python, Numba and what wrote the volume.
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            megabytes = peak / (1e6 if sys.platform == "darwin" else 1e3)
            console.print(f"peak memory of the process: {megabytes:.0f} MB")
        save_picture(made, output)


if __name__ == "__main__":
    typer.run(main)
