"""How good is the automatic choice? ``python benchmarks/choose.py --help``."""

import itertools
import json
import random
import statistics
import sys
from pathlib import Path
from typing import Annotated, Any, NamedTuple

if __name__ == "__main__":  # as a script, not as a module of the package `benchmarks`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.lib.layers import LAYERS, Layer, arrays
from benchmarks.lib.machine import describe
from benchmarks.lib.worker import median_time

BACKENDS = ("direct", "im2col")
QUICK = 600
"""Problems that --quick draws from the grid."""
FLOPS = (1e5, 2e9)
"""Problems smaller and larger than these are left out."""
CLOSE = 1.05
"""A choice is good if it takes at most this many times as long as the better backend."""


class Choice(NamedTuple):
    """What was chosen for a problem, and how long each backend takes."""

    layer: Layer
    backend: str
    seconds: dict[str, float]

    @property
    def loss(self) -> float:
        """How many times as long the choice takes as the better backend."""
        return self.seconds[self.backend] / min(self.seconds.values())

    @property
    def family(self) -> str:
        """Kind of problem, to count the choices by."""
        return "layer table" if self.layer.id in LAYERS else self.layer.what


def grid() -> list[Layer]:
    """List problems of every rank: dense, grouped and depthwise, strided and dilated.

    Returns
    -------
    list of Layer
        The problems, each with the padding that keeps its size at stride 1. Dilated taps
        may reach further than the input does.
    """
    dense = [(1, 1, 1), (3, 32, 1), (16, 16, 1), (19, 33, 1), (64, 64, 1), (64, 256, 1)]
    dense += [(256, 64, 1), (256, 256, 1), (512, 512, 1)]
    grouped = [(32, 32, 32), (128, 128, 128), (512, 512, 512), (128, 128, 32), (256, 256, 4)]
    axes = {
        1: ((128, 2000, 32000), (1, 2, 3, 9, 31), (1, 8)),
        2: ((7, 14, 28, 56, 112, 224), (1, 2, 3, 5, 7, 11), (1, 8)),
        3: ((8, 16, 32), (1, 3, 5), (1,)),
    }
    found = []
    for rank, (sizes, kernels, batches) in axes.items():
        problems = itertools.product(dense + grouped, sizes, kernels, (1, 2), (1, 2, 16), batches)
        for (c_in, c_out, groups), size, k, stride, dilation, n in problems:
            reach = dilation * (k - 1)
            if k > size or (k == 1 and dilation > 1):
                continue
            kind = "depthwise" if groups == c_in > 1 else "grouped" if groups > 1 else "dense"
            if dilation > 2:
                kind = f"dilated {kind}"
            layer = Layer(
                "",
                f"{rank}-D {kind}",
                n,
                c_in,
                (size,) * rank,
                c_out,
                (k,) * rank,
                stride,
                reach // 2,
                dilation,
                groups,
            )
            if FLOPS[0] <= layer.flops <= FLOPS[1]:
                found.append(layer)
    return found


def judge(nc: Any, layer: Layer, seconds: float) -> Choice:
    """Time both backends on a problem, in turn, and ask which one numbaconv chooses."""
    x, w = arrays(layer)
    conv = getattr(nc, f"conv{layer.rank}d")
    kwargs = layer.conv_kwargs
    times: dict[str, list[float]] = {name: [] for name in BACKENDS}
    for turn, name in itertools.product(range(4), BACKENDS):

        def run(name: str = name) -> Any:
            return conv(x, w, backend=name, **kwargs)

        if turn:
            times[name].append(median_time(run, seconds, at_least=3))
        else:  # warm up
            run()
    chosen = nc.explain(x, w, **kwargs).backend
    return Choice(layer, chosen, {name: statistics.median(t) for name, t in times.items()})


def describe_problem(layer: Layer) -> str:
    """Write a problem in one line."""
    size, kernel = ("x".join(map(str, extents)) for extents in (layer.size, layer.kernel))
    text = f"{layer.n}x{layer.c_in}x{size}, {kernel} to {layer.c_out}"
    names = {"stride": 1, "dilation": 1, "groups": 1}
    extra = (f"{k} {getattr(layer, k)}" for k, usual in names.items() if getattr(layer, k) != usual)
    return ", ".join([text, *extra])


def summary(choices: list[Choice]) -> Table:
    """Count the good choices of each family, and what always taking one backend would give."""
    table = Table("problems", title="Within 5% of the better backend")
    for name in ("number", "good", "share", "mean loss", *(f"always {name}" for name in BACKENDS)):
        table.add_column(name, justify="right")

    def add(name: str, chosen: list[Choice]) -> None:
        good = sum(choice.loss <= CLOSE for choice in chosen)
        cells = [str(len(chosen)), str(good), f"{100 * good / len(chosen):.0f}%"]
        always = ([c._replace(backend=backend).loss for c in chosen] for backend in BACKENDS)
        losses = map(mean_loss, ([choice.loss for choice in chosen], *always))
        table.add_row(name, *cells, *losses)

    for family in sorted({choice.family for choice in choices}):
        add(family, [choice for choice in choices if choice.family == family])
    table.add_section()
    add("all", choices)
    return table


def mean_loss(losses: list[float]) -> str:
    """Write by how much a geometric mean exceeds 1."""
    return f"{100 * (statistics.geometric_mean(losses) - 1):.1f}%"


def main(
    count: Annotated[int | None, typer.Option(min=1, help="Draw so many from the grid.")] = None,
    quick: Annotated[bool, typer.Option(help=f"Draw {QUICK}: about three minutes.")] = False,
    seed: Annotated[int, typer.Option(help="Which problems are drawn.")] = 0,
    seconds: Annotated[float, typer.Option(help="Time for each measurement.")] = 0.02,
    worst: Annotated[int, typer.Option(help="How many of the worst choices to list.")] = 15,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all figures.")] = None,
) -> None:
    """Time direct and im2col over a grid of problems and judge numbaconv's choice between them.

    The layers of the benchmarks' own table that are no larger are always among the problems.
    """
    import numbaconv as nc

    problems = grid()
    count = min(count or (QUICK if quick else len(problems)), len(problems))
    problems = random.Random(seed).sample(problems, count)
    problems += [layer for layer in LAYERS.values() if layer.flops <= FLOPS[1]]
    console = Console(width=None if sys.stdout.isatty() else 150)
    choices = [judge(nc, p, seconds) for p in track(problems, "timing", console=console)]

    table = Table("problem", title="Worst choices")
    for name in ("chosen", *(f"{name} us" for name in BACKENDS), "loss"):
        table.add_column(name, justify="right")
    choices.sort(key=lambda choice: -choice.loss)
    for choice in choices[:worst]:
        times = (f"{1e6 * choice.seconds[name]:.0f}" for name in BACKENDS)
        table.add_row(describe_problem(choice.layer), choice.backend, *times, f"{choice.loss:.2f}")
    console.print(table)
    console.print(summary(choices))
    good = sum(choice.loss <= CLOSE for choice in choices)
    share = 100 * good / len(choices)
    console.print(f"{good} of {len(choices)} choices ({share:.0f}%) within 5% of the better")
    console.print(describe(), soft_wrap=True)
    if json_file:
        rows = [{**c._asdict(), "layer": c.layer._asdict()} for c in choices]
        json_file.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
