"""The speed over commits as a picture, from the files that asv keeps in `benchmarks/history`.

One picture for a page of text: asv's own pages (`history_site.py`) have a graph for each benchmark.
"""

import datetime
import itertools
import json
import math
import sys
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.lib.layers import EVERY_ROW
from benchmarks.lib.report import number

HISTORY = Path(__file__).parent / "history"
SUITES = ("bench_layers.Prepared", "bench_gradients.Gradients")
BACKEND = "direct"


class Commit(NamedTuple):
    """What was measured of a commit: GFLOP/s by row, for each suite."""

    name: str
    day: str
    speeds: dict[str, dict[str, float]]


def speeds_of(result: list[Any] | None) -> dict[str, float]:
    """GFLOP/s by row of one backend; the file has the product of all parameters, in order."""
    if result is None or result[0] is None:
        return {}
    figures, parameters = result[0], result[1]
    found = {}
    for (backend, row), figure in zip(itertools.product(*parameters), figures, strict=True):
        if backend.strip("'") == BACKEND and figure is not None and not math.isnan(figure):
            found[row.strip("'")] = figure
    return found


def read(machine: Path) -> list[Commit]:
    """The commits that were measured on a machine, the first one first."""
    found = []
    for path in set(machine.glob("*.json")) - {machine / "machine.json"}:
        content = json.loads(path.read_text("utf-8"))
        results = content["results"]
        speeds = {s: speeds_of(results.get(f"{s}.track_gflops")) for s in SUITES}
        found.append((content["date"], content["commit_hash"][:8], speeds))
    return [
        Commit(name, f"{datetime.datetime.fromtimestamp(date / 1000, datetime.UTC):%m-%d}", speeds)
        for date, name, speeds in sorted(found, key=lambda each: each[:2])
        if any(speeds.values())
    ]


def change(speeds: list[float]) -> list[float]:
    """How many times as fast as the first measured each commit is, as log2: above 0 is faster."""
    first = next(speed for speed in speeds if not math.isnan(speed))
    return [math.log2(speed / first) for speed in speeds]


def plot(machine: str, commits: list[Commit], path: Path) -> None:
    """Draw a row for each layer and a column for each commit: green is faster than the first.

    Parameters
    ----------
    machine : str
        Its name, for the title.
    commits : list of Commit
        In the order of columns.
    path : Path
        Where the picture goes; its ending says in which format.
    """
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    lines = [
        (row, [commit.speeds[suite].get(row, math.nan) for commit in commits])
        for suite in SUITES
        for row in dict.fromkeys(row for commit in commits for row in commit.speeds[suite])
    ]
    size = 2.6 + 0.62 * len(commits), 1.2 + 0.28 * len(lines)
    figure, axes = plt.subplots(figsize=size, layout="constrained")
    changes = [change(speeds) for _, speeds in lines]
    # From half the speed to twice.
    axes.imshow(changes, cmap="RdYlGn", vmin=-1, vmax=1, alpha=0.75, aspect="auto")
    for y, (_, speeds) in enumerate(lines):
        for x, speed in enumerate(speeds):
            if not math.isnan(speed):
                axes.text(x, y, number(speed), ha="center", va="center", fontsize=7)
    axes.set_xticks(range(len(commits)), [f"{c.name}\n{c.day}" for c in commits], fontsize=6)
    names = [f"{row}  {EVERY_ROW[row].what}" for row, _ in lines]
    axes.set_yticks(range(len(lines)), names, fontsize=7)
    axes.tick_params(length=0)
    axes.set_title(f"{machine}: GFLOP/s of {BACKEND}, green: faster than at first", fontsize=9)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(
    plot_to: Annotated[Path, typer.Option("--plot", help="Where the picture goes.")] = Path(
        "commits.png"
    ),
    machine: Annotated[str, typer.Option(help="A folder of benchmarks/history.")] = "zen4-2core",
) -> None:
    """Draw the speed of layers and gradients over the commits that asv has measured."""
    folder = HISTORY / machine
    if not folder.is_dir():
        raise typer.BadParameter(f"benchmarks/history has no folder {machine}")
    described = json.loads((folder / "machine.json").read_text("utf-8"))
    commits = read(folder)
    plot(f"{described['cpu']}, {described['num_cpu']} cores", commits, plot_to)
    print(f"{len(commits)} commits, drawn to {plot_to}")


if __name__ == "__main__":
    typer.run(main)
