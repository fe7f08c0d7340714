"""Filters of `numbaconv.signal` beside SciPy's, and missing values beside astropy, in turn.

``python benchmarks/signals.py --help``. Every result is compared before it is timed.
"""

import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple

if __name__ == "__main__":  # as a script, not as a module of the package `benchmarks`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import typer
from rich.console import Console
from scipy import signal

import numbaconv as nc
from benchmarks.lib import report
from benchmarks.lib.machine import describe
from benchmarks.lib.turns import Run, find_clock, in_turn


class Row(NamedTuple):
    """The same here and in another library."""

    name: str
    ours: Run
    theirs: Run


def signals(samples: int) -> Iterator[Row]:
    """FIR filters, changes of rate, polynomials, and two arrays."""
    rng = np.random.default_rng(0)
    for dtype in (np.float32, np.float64):
        x = rng.normal(size=(2, samples)).astype(dtype)
        b, one = np.hanning(67)[1:-1].astype(dtype), np.ones(1, dtype)
        image, kernel = rng.normal(size=(512, 512)).astype(dtype), x[0, :81].reshape(9, 9)
        calls: dict[str, Callable[[Any], Any]] = {
            "lfilter, 2 channels, 65 taps": lambda m, x=x, b=b, one=one: m.lfilter(b, one, x),
            "resample_poly 3/2": lambda m, x=x: m.resample_poly(x[0], 3, 2),
            "resample_poly 160/147": lambda m, x=x: m.resample_poly(x[0], 160, 147),
            "resample_poly 1/4": lambda m, x=x: m.resample_poly(x[0], 1, 4),
            "savgol_filter 31, 3": lambda m, x=x: m.savgol_filter(x[0], 31, 3),
            "convolve2d 512x512, 9x9": lambda m, i=image, k=kernel: m.convolve2d(i, k, "same"),
        }
        for name, call in calls.items():
            yield Row(
                f"{name}, {np.dtype(dtype)}",
                lambda call=call: call(nc.signal),  # type: ignore[misc]
                lambda call=call: call(signal),  # type: ignore[misc]
            )


def missing(samples: int) -> Iterator[Row]:
    """A tenth of an image is NaN."""
    del samples
    try:
        from astropy.convolution import convolve
    except ImportError:
        return
    rng = np.random.default_rng(0)
    kernel = rng.uniform(0.1, 1, (31, 31))
    kernel /= kernel.sum()
    for dtype in (np.float32, np.float64):
        x = rng.normal(size=(512, 512)).astype(dtype)
        x[rng.random(x.shape) < 0.1] = np.nan
        mask = nc.ndimage.prepare_mask(~np.isnan(x))
        how: dict[str, dict[str, Any]] = {'nan="omit"': {"nan": "omit"}, "mask": {"mask": mask}}
        for name, options in how.items():
            yield Row(
                f"512x512, 31x31, {name}, {np.dtype(dtype)}",
                lambda x=x, o=options: nc.ndimage.convolve(x, kernel, mode="constant", **o),  # type: ignore[misc]
                lambda x=x: convolve(x, kernel),  # type: ignore[misc]
            )


GROUPS = {"signals": signals, "missing": missing}


def main(
    samples: Annotated[int, typer.Option(help="Samples of a signal.")] = 10_000_000,
    passes: Annotated[int, typer.Option(help="How often each call has its turn.")] = 3,
    groups: Annotated[str, typer.Option(help="Of signals, missing.")] = ",".join(GROUPS),
    names: Annotated[str, typer.Option(help="Only rows that contain this.")] = "",
    cpu: Annotated[bool, typer.Option("--cpu", help="CPU time, of one thread.")] = False,
) -> None:
    """Time signals beside SciPy's, and missing values beside astropy's."""
    console, clock = Console(), find_clock(cpu)
    lines = []
    for group in groups.split(","):
        for found in GROUPS[group](samples):
            if names not in found.name:
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                got, expected = found.ours(), found.theirs()
            np.testing.assert_allclose(got, expected, atol=1e-4, err_msg=found.name)
            del got, expected
            ours, theirs = in_turn([found.ours, found.theirs], passes, 0.1, clock)
            lines.append(
                [found.name, *map(report.number, (1e3 * ours, 1e3 * theirs, theirs / ours))]
            )
    title = f"Signals and missing values{', CPU time of one thread' * cpu}"
    header = ["milliseconds", "numbaconv", "SciPy, astropy", "SciPy, astropy / nc"]
    console.print(report.terminal(report.Sheet(title, header, lines)))
    console.print(describe())


if __name__ == "__main__":
    typer.run(main)
