"""How good is the automatic choice? ``python benchmarks/choose.py --help``."""

import itertools
import json
import math
import random
import statistics
import sys
import time
from pathlib import Path
from typing import Annotated, Any, NamedTuple

if __name__ == "__main__":  # as a script, not as a module of the package `benchmarks`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.lib.layers import TABLES, Layer, arrays, read_layers
from benchmarks.lib.machine import describe
from benchmarks.lib.turns import Run, find_clock

QUICK = 600
"""Problems that --quick draws from the grid."""
FLOPS = (1e5, 2e9)
"""Problems smaller and larger than these are left out."""
MOST_DRAWN = 7e8
"""And those of no grid that are larger than this."""
CLOSE = 1.05
"""A choice is good if it takes at most this many times as long as the best candidate."""
BAD = 1.3
"""No choice should take so many times as long."""
FAR = 3.0
"""A candidate that takes so many times as long as the best is timed twice, and no more."""
MOST_SCRATCH = 1 << 29
"""Bytes of scratch beyond which a candidate is not tried."""
SHORTEST = 2e-4
"""Seconds of calls behind a figure, at least: the clock of the CPU is too coarse for less."""
FEWEST_ROUNDS = 6
"""Turns of all candidates; the least time of each counts."""
DOUBTED = 1.02
"""A choice that seems to take so many times as long as a rival is timed against it again. Less than
CLOSE, so that luck cannot hide a miss more often than it makes one."""
SETS = 5
"""Sets of arrays that it is timed again on, each in memory of its own; the median counts."""
TABLE_NAMES = ("layers.csv", "tiny.csv", "sweep.csv", "cliffs.csv")
LAYOUTS = ("channels_first", "channels_last")


class Choice(NamedTuple):
    """What was chosen for a problem, and how long each candidate takes.

    Attributes
    ----------
    layer, family, layout
        The problem.
    chosen : str
        What numbaconv chooses.
    seconds : dict of str to float
        The least time of each candidate.
    again : list of float
        How many times as long the choice takes as the best of these, on each of some other sets of
        arrays. Empty if the choice was not in doubt.
    shape : ConvShape
        The problem as engines see it.
    """

    layer: Layer
    family: str
    layout: str
    chosen: str
    seconds: dict[str, float]
    again: list[float]
    shape: Any = None

    @property
    def best(self) -> str:
        """The candidate that takes least."""
        return min(self.seconds, key=self.seconds.__getitem__)

    @property
    def seeming_loss(self) -> float:
        """How many times as long the choice takes as the candidate that was the fastest by chance.

        The least of several times that are alike is one of luck.
        """
        return self.seconds[self.chosen] / self.seconds[self.best]

    @property
    def loss(self) -> float:
        """How many times as long the choice takes as the best candidate.

        If that was in doubt, only what was timed since then counts.
        """
        return max(1.0, statistics.median(self.again)) if self.again else self.seeming_loss

    @property
    def spread(self) -> float:
        """By how much the loss differs from one set of arrays to the next, in half of them."""
        middle = statistics.median(self.again)
        return statistics.median(abs(loss / middle - 1) for loss in self.again)


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


class Forced(NamedTuple):
    """An engine that computes every problem by one lowering of `direct`."""

    name: str

    def lower(self, s: Any, dtype: Any, threads: int) -> Any:
        """Return how it computes a problem."""
        from numbaconv.cpu import direct

        return direct.lower_as(self.name, s, dtype, threads)


def engines(plan: Any) -> dict[str, Any]:
    """Return the engines that can compute a planned problem, by the name of their lowering."""
    from numbaconv.codegen.target import VECTOR_BYTES
    from numbaconv.cpu import fft
    from numbaconv.cpu.direct.choice import candidates

    s, dtype = plan.simplest, plan.arithmetic.compute
    found: dict[str, Any] = {name: Forced(name) for name in candidates(s, VECTOR_BYTES // 4)}
    if s.taps >= fft.LEAST_TAPS and fft.unserved(s, dtype) is None:
        found["overlap_save"] = fft
    return {
        name: engine
        for name, engine in found.items()
        if engine.lower(s, dtype, 1).scratch_size * dtype.itemsize <= MOST_SCRATCH
    }


def repeats(call: Run) -> int:
    """Return how often a call is made for each figure."""
    call()  # compiles
    start = time.perf_counter()
    call()
    return math.ceil(SHORTEST / (time.perf_counter() - start))


def least_times(calls: dict[str, Run], seconds: float) -> dict[str, float]:
    """Return the least times of calls that are timed in turn for so many seconds.

    Calls that take FAR longer than another are soon left alone.
    """
    clock = find_clock(cpu=True)
    count = {name: repeats(call) for name, call in calls.items()}
    least = dict.fromkeys(calls, float("inf"))
    near, rounds, end = list(calls), 0, clock() + seconds
    while rounds < FEWEST_ROUNDS or clock() < end:
        for name in near:
            begin = clock()
            for _ in range(count[name]):
                calls[name]()
            least[name] = min(least[name], (clock() - begin) / count[name])
        if rounds == 1:
            best = min(least.values())
            near = [name for name in near if least[name] <= FAR * best]
        rounds += 1
    return least


class Problem(NamedTuple):
    """A planned problem, its arrays, and whether its weights come packed."""

    plan: Any
    x: Any
    w: Any
    prepared: bool

    def call(self, engine: Any) -> Run:
        """Return a call of an engine on arrays in memory of their own."""
        from numbaconv.cpu import execution

        x, w, kept = self.x.copy(), self.w.copy(), {} if self.prepared else None
        return lambda: execution.execute(self.plan, engine, x, w, None, None, kept)


def losses_again(problem: Problem, chosen: Any, rival: Any, seconds: float) -> list[float]:
    """Return how many times as long one engine takes as another, on each of SETS of arrays."""
    losses = []
    for _ in range(SETS):
        calls = {name: problem.call(x) for name, x in (("chosen", chosen), ("rival", rival))}
        least = least_times(calls, seconds / SETS)
        losses.append(least["chosen"] / least["rival"])
    return losses


def judge(layer: Layer, family: str, layout: str, seconds: float, prepared: bool) -> Choice:
    """Time all candidates for a problem, in turn, and ask which one numbaconv chooses."""
    import numpy as np

    import numbaconv as nc
    from numbaconv.problem.plan import find_plan

    x, w = arrays(layer)
    if layout == "channels_last":
        x = np.ascontiguousarray(np.moveaxis(x, 1, -1))
    options = *layer.conv_kwargs.values(), "zeros", layout, None, 0.0, None
    plan = find_plan(x, w, None, options)
    chosen = nc.explain(x, w, None, *options[:4], data_format=layout).lowering
    assert chosen is not None
    problem, found = Problem(plan, x, w, prepared), engines(plan)
    least = least_times({name: problem.call(engine) for name, engine in found.items()}, seconds)
    first = Choice(layer, family, layout, chosen, least, [], plan.simplest)
    if first.seeming_loss <= DOUBTED:
        return first
    again = losses_again(problem, found[chosen], found[first.best], seconds)
    return first._replace(again=again)


def describe_problem(choice: Choice) -> str:
    """Write a problem in one line."""
    layer = choice.layer
    size, kernel = ("x".join(map(str, extents)) for extents in (layer.size, layer.kernel))
    text = f"{layer.n}x{layer.c_in}x{size}, {kernel} to {layer.c_out}"
    names = {"stride": 1, "dilation": 1, "groups": 1}
    extra = [f"{k} {getattr(layer, k)}" for k, usual in names.items() if getattr(layer, k) != usual]
    last = ["channels last"] if choice.layout == "channels_last" else []
    return ", ".join([*([layer.id] if layer.id else []), text, *extra, *last])


def summary(choices: list[Choice]) -> Table:
    """Count the good choices of each family, and say what the others lose."""
    table = Table("problems", title=f"Within {100 * (CLOSE - 1):.0f}% of the best candidate")
    for name in ("number", "good", "share", f"over {BAD}", "mean loss", "worst"):
        table.add_column(name, justify="right")

    def add(name: str, chosen: list[Choice]) -> None:
        losses = [choice.loss for choice in chosen]
        good, bad = sum(x <= CLOSE for x in losses), sum(x > BAD for x in losses)
        mean = f"{100 * (statistics.geometric_mean(losses) - 1):.1f}%"
        share = f"{100 * good / len(chosen):.0f}%"
        table.add_row(
            name, str(len(chosen)), str(good), share, str(bad), mean, f"{max(losses):.2f}"
        )

    for family in sorted({choice.family for choice in choices}):
        add(family, [choice for choice in choices if choice.family == family])
    table.add_section()
    add("all", choices)
    return table


def confusions(choices: list[Choice]) -> Table:
    """Count the choices that are not good: what was chosen, and what is best."""
    table = Table("chosen", "best", title="What was chosen where another is faster")
    for name in ("number", "mean loss", "worst"):
        table.add_column(name, justify="right")
    wrong = [choice for choice in choices if choice.loss > CLOSE]
    for pair in sorted({(choice.chosen, choice.best) for choice in wrong}):
        losses = [choice.loss for choice in wrong if (choice.chosen, choice.best) == pair]
        mean = f"{100 * (statistics.geometric_mean(losses) - 1):.0f}%"
        table.add_row(*pair, str(len(losses)), mean, f"{max(losses):.2f}")
    return table


def worst_choices(choices: list[Choice], count: int) -> Table:
    """List the choices that lose most."""
    table = Table("problem", "chosen", "best", title="Worst choices")
    for name in ("chosen us", "best us", "loss"):
        table.add_column(name, justify="right")
    for choice in sorted(choices, key=lambda choice: -choice.loss)[:count]:
        pair = choice.chosen, choice.best
        times = (f"{1e6 * choice.seconds[name]:.0f}" for name in pair)
        table.add_row(describe_problem(choice), *pair, *times, f"{choice.loss:.2f}")
    return table


def draw(r: random.Random) -> tuple[Layer, str, str] | None:
    """Draw a problem from no grid: its sizes, its kind, its layout; None if it is out of bounds."""

    def channels(least: int, most: int = 1024) -> int:
        many = round(math.exp(r.uniform(math.log(least), math.log(most))))
        if many > 8 and r.random() < 0.6:
            many = round(many / 8) * 8
        return int(2 ** round(math.log2(many))) if many > 16 and r.random() < 0.4 else many

    rank = r.choice((1, 2, 2, 2, 3))
    least, most = {1: (50, 20000), 2: (5, 160), 3: (4, 28)}[rank]
    size = [round(math.exp(r.uniform(math.log(least), math.log(most)))) for _ in range(rank)]
    size = size[:1] * rank if r.random() < 0.7 else size
    kernels = {1: (1, 2, 3, 3, 5, 9, 16, 40), 2: (1, 1, 1, 2, 3, 3, 3, 5, 7), 3: (1, 2, 3, 3)}
    k = r.choice(kernels[rank])
    stride, dilation = r.choice((1, 1, 1, 1, 2, 2, 3, k)), 1
    if k > 1:
        dilation = r.choice((1, 1, 1, 1, 1, 2, 3, 4, 8, 12))
    kind, groups = r.choice(("dense",) * 6 + ("grouped", "depthwise", "few outputs")), 1
    c_in, c_out = channels(1), channels(4)
    if kind == "few outputs":
        c_out = r.choice((1, 2, 3))
    elif kind == "grouped":
        groups = r.choice((2, 4, 8, 16, 32))
        c_in, c_out = groups * channels(1, 64), groups * channels(1, 64)
    elif kind == "depthwise":
        c_in = groups = channels(2)
        c_out = c_in * r.choice((1, 1, 1, 2))
    reach = dilation * (k - 1)
    padding = r.choice((reach // 2, reach // 2, 0))
    n, what = r.choice((1, 1, 1, 2, 4, 8)), f"{rank}-D {kind}"
    layout = r.choice((LAYOUTS[0],) * 3 + LAYOUTS[1:])
    if min(size) + 2 * padding <= reach:
        return None
    layer = Layer(
        "", what, n, c_in, tuple(size), c_out, (k,) * rank, stride, padding, dilation, groups
    )
    return (layer, what, layout) if FLOPS[0] <= layer.flops <= MOST_DRAWN else None


def drawn_problems(count: int, seed: int) -> list[tuple[Layer, str, str]]:
    """Draw so many problems from no grid."""
    r, found = random.Random(seed), list[tuple[Layer, str, str]]()
    while len(found) < count:
        if (problem := draw(r)) is not None:
            found.append(problem)
    return found


def problems(count: int, seed: int) -> list[tuple[Layer, str, str]]:
    """Draw problems from the grid, and add those of the tables in both layouts.

    Returns
    -------
    list of (Layer, str, str)
        The problem, its family, and its layout.
    """
    drawn = random.Random(seed).sample(grid(), count)
    found = [(layer, layer.what, LAYOUTS[0]) for layer in drawn]
    for name, layout in itertools.product(TABLE_NAMES, LAYOUTS):
        rows = read_layers(TABLES / name).values()
        found += [(layer, name, layout) for layer in rows if 0 < layer.flops <= FLOPS[1]]
    return found


def main(
    count: Annotated[int | None, typer.Option(min=0, help="Draw so many from the grid.")] = None,
    quick: Annotated[bool, typer.Option(help=f"Draw {QUICK}: a quarter of an hour.")] = False,
    anew: Annotated[int, typer.Option(min=0, help="Draw so many of any sizes instead.")] = 0,
    seed: Annotated[int, typer.Option(help="Which problems are drawn.")] = 0,
    seconds: Annotated[float, typer.Option(help="Time for each problem.")] = 0.2,
    tables: Annotated[bool, typer.Option(help="Whether to add those of the tables.")] = True,
    prepared: Annotated[bool, typer.Option(help="Whether weights come packed.")] = False,
    fit: Annotated[bool, typer.Option(help="Fit the table of costs; weights are packed.")] = False,
    worst: Annotated[int, typer.Option(help="How many of the worst choices to list.")] = 15,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all figures.")] = None,
) -> None:
    """Time every lowering that can compute a problem and judge numbaconv's choice among them.

    CPU time of one thread, plain calls unless said otherwise. The problems are drawn from a grid;
    those of the tables of the benchmarks that are no larger are added, in both layouts.

    The least of several times is partly luck. Where a candidate seems to be more than 2% faster
    than the choice, both are timed again on five new sets of arrays, and the median of these ratios
    alone counts.
    """
    whole = len(grid())
    drawn = min(QUICK if quick and count is None else whole if count is None else count, whole)
    todo = [p for p in problems(drawn, seed) if tables or p[1] not in TABLE_NAMES]
    if anew:
        todo = drawn_problems(anew, seed)
    console = Console(width=None if sys.stdout.isatty() else 150)
    choices = [judge(*p, seconds, prepared or fit) for p in track(todo, "timing", console=console)]
    for table in (worst_choices(choices, worst), confusions(choices), summary(choices)):
        console.print(table)
    good = sum(choice.loss <= CLOSE for choice in choices)
    share = 100 * good / len(choices)
    console.print(f"{good} of {len(choices)} choices ({share:.0f}%) within 5% of the best")
    seeming = [choice for choice in choices if choice.seeming_loss > CLOSE]
    proved = sum(choice.loss > CLOSE for choice in seeming)
    console.print(f"{len(seeming)} seemed to miss that; timed again, {proved} of them do")
    if doubted := [choice.spread for choice in choices if choice.again]:
        half = 100 * statistics.median(doubted)
        console.print(f"noise: half of the sets of arrays are within {half:.1f}% of the median")
    console.print(describe(), soft_wrap=True)
    if fit:
        from benchmarks.lib.costs import fit as fitted
        from numbaconv.codegen.target import VECTOR_BYTES

        timed = ((choice.shape, choice.seconds) for choice in choices)
        for what, cycles in fitted(timed, VECTOR_BYTES // 4).items():
            console.print(f'    "{what}": {cycles:.2g},', highlight=False)
    if json_file:
        rows = [{**c._asdict(), "layer": c.layer._asdict(), "shape": None} for c in choices]
        json_file.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
