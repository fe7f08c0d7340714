"""A run as tables for the terminal, as Markdown, and as a picture."""

import math
import statistics
from pathlib import Path
from typing import NamedTuple

from rich import box
from rich.table import Table

from benchmarks.lib.layers import EVERY_ROW, Layer
from benchmarks.lib.results import Results, verdicts
from benchmarks.lib.rivals import OURS


class Sheet(NamedTuple):
    """A table that has no form yet; the first column is text, the others are figures."""

    title: str
    header: list[str]
    lines: list[list[str]]


def number(value: float) -> str:
    """Write a figure with three significant digits, or a dash for NaN."""
    if math.isnan(value):
        return "-"
    return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f}"


def speeds(results: Results, baseline: Results | None = None, names: bool = True) -> Sheet:
    """Tabulate speeds: a line for each layer, a column for each library.

    Parameters
    ----------
    results : Results
        The run.
    baseline : Results, optional
        An earlier run, to which numbaconv's times are compared.
    names : bool
        Whether to say what each layer is, beside its id.

    Returns
    -------
    Sheet
        GFLOP/s, the share of the FMA limit (of the fastest form of numbaconv, or of the fastest
        library where numbaconv was not timed), and numbaconv's ratio to the fastest rival.
    """
    libraries = results.libraries
    ours = [name for name in libraries if name in OURS]
    compared = [name for name in ("nc", "nc-prep") if name in ours]
    header = ["row", *libraries, "of limit", *(f"{name}/best" for name in compared)]
    if baseline:
        header += [f"{name}/base" for name in compared]

    def line(row: str) -> list[str]:
        shares = [results.share(name, row) for name in ours or libraries]
        share = max((s for s in shares if not math.isnan(s)), default=math.nan)
        figures = [results.gflops(name, row) for name in libraries]
        figures += [share, *(results.ratio(name, row) for name in compared)]
        if baseline:
            figures += [results.gflops(n, row) / baseline.gflops(n, row) for n in compared]
        return [f"{row} {EVERY_ROW[row].what}" if names else row, *map(number, figures)]

    title = f"GFLOP/s, {results.threads} threads, {results.dtype}"
    return Sheet(title, header, [line(row) for row in results.rows])


def targets(results: Results) -> Sheet:
    """Tabulate the targets beside what was measured."""
    header = ["target", "rows", "mean", "wanted", "worst", "row", "wanted", "reached"]
    lines = []
    for v in verdicts(results):
        worst, row = v.worst
        wanted = number(v.mean_target or math.nan), number(v.worst_target or math.nan)
        reached = "yes" if v.reached else "no"
        means, worsts = [number(v.mean), wanted[0]], [number(worst), row, wanted[1]]
        lines.append(
            [f"{v.stage}: {v.name}", f"{len(v.values)}/{v.rows}", *means, *worsts, reached]
        )
    return Sheet("Targets: geometric mean and worst row", header, lines)


def circumstances(results: Results) -> list[str]:
    """Say where and how the figures were taken."""
    limits = results.limits
    fma, fma1, copy = (number(limits.get(k, math.nan) / 1e9) for k in ("fma", "fma1", "copy"))
    lines = [
        results.machine,
        f"FMA limit {fma} GFLOP/s on {results.threads} threads, {fma1} on one; copy {copy} GB/s",
        ", ".join(f"{name} {version}" for name, version in results.versions.items()),
        f"{results.date}, load {results.load_average:.1f} before, {results.passes} passes",
        results.command,
    ]
    if unsteady := results.unsteady:
        worst = ", ".join(f"{name} {row} x{number(spread)}" for spread, name, row in unsteady[:5])
        lines.append(f"{len(unsteady)} figures differ by over 25% between passes: {worst} ...")
    for name, rows in results.failures.items():
        lines += [f"FAILED {name} {row}: {reason}" for row, reason in rows.items()]
    return lines


def terminal(sheet: Sheet) -> Table:
    """Give a sheet the form that rich prints."""
    table = Table(title=sheet.title, box=box.SIMPLE_HEAD, pad_edge=False)
    for i, name in enumerate(sheet.header):
        table.add_column(name, justify="right" if i else "left", no_wrap=not i, overflow="fold")
    for line in sheet.lines:
        table.add_row(*line)
    return table


def markdown_table(sheet: Sheet) -> str:
    """Give a sheet the form of a Markdown table."""
    rule = [":--"] + ["--:"] * (len(sheet.header) - 1)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [sheet.header, rule, *sheet.lines])


def markdown(results: Results, sheets: list[Sheet]) -> str:
    """Write sheets, and the circumstances of their run, as Markdown."""
    parts = ["\n".join(f"- {line}" for line in circumstances(results))]
    for sheet in filter(lambda sheet: sheet.lines, sheets):
        parts += [f"### {sheet.title}", markdown_table(sheet)]
    return "\n\n".join(parts) + "\n"


def plot(results: Results, path: Path) -> None:
    """Draw every library's share of the FMA limit, layer by layer.

    Parameters
    ----------
    results : Results
        The run.
    path : Path
        Where the picture goes; its ending says in which format.
    """
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    rows = results.rows
    figure, axes = plt.subplots(figsize=(8, 1.8 + 0.24 * len(rows)), layout="constrained")
    markers = iter("osDv^<>")
    for name in results.libraries:
        ours = name in OURS
        style = {"marker": "|", "s": 110, "linewidth": 2.5} if ours else {"marker": next(markers)}
        shares = [results.share(name, row) for row in rows]
        axes.scatter(shares, rows, label=name, alpha=0.85, zorder=3 + ours, **style)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda share, _: f"{100 * share:g}%")
    axes.set_yticks(rows, [f"{row}  {EVERY_ROW[row].what}" for row in rows], fontsize=8)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(alpha=0.3)
    axes.set_xlabel(f"share of the FMA limit ({number(results.limits['fma'] / 1e9)} GFLOP/s)")
    axes.set_title(f"{results.machine.split(',')[0]}, {results.threads} threads, {results.dtype}")
    figure.legend(loc="outside lower center", ncols=5, frameon=False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def form(layer: Layer) -> str:
    """Name the form of a problem, by which the points of a distribution are coloured."""
    if layer.groups > 1:
        return "depthwise" if layer.groups == layer.c_in else "groups"
    return "pointwise" if math.prod(layer.kernel) == 1 else "dense"


def distribution(results: Results, path: Path) -> None:
    """Draw the ratios to the best of the other libraries, in order: losses left, wins right.

    Parameters
    ----------
    results : Results
        The run, with one of `OURS` at least; of several the last is drawn, as prepared layers are.
    path : Path
        Where the picture goes; its ending says in which format.
    """
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import NullFormatter

    ours = [name for name in results.libraries if name in OURS][-1]
    ratios = {row: results.ratio(ours, row) for row in results.rows}
    ordered = sorted((ratio, row) for row, ratio in ratios.items() if not math.isnan(ratio))
    values = [ratio for ratio, _ in ordered]
    ahead = sum(value >= 1 for value in values)
    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    axes.axhspan(min(values) / 1.2, 1, color="tab:red", alpha=0.08)
    axes.axhline(1, color="black", linewidth=1)
    forms = [form(EVERY_ROW[row]) for _, row in ordered]
    for name, marker in {"dense": "o", "pointwise": "s", "groups": "D", "depthwise": "v"}.items():
        places = [i for i, found in enumerate(forms) if found == name]
        heights = [values[i] for i in places]
        axes.scatter(places, heights, s=18, marker=marker, alpha=0.85, label=name, zorder=3)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(lambda ratio, _: f"{ratio:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_yticks([ratio for ratio in (0.25, 0.5, 1, 2, 4, 8, 16) if ratio < 1.2 * values[-1]])
    axes.set_ylim(min(values) / 1.2, max(values) * 1.2)
    axes.set_xlabel(f"{len(values)} problems, {ahead} of them at 1 or above")
    axes.set_ylabel(f"speed of {ours} / best of the others")
    mean = statistics.geometric_mean(values)
    machine = results.machine.split(",")[0]
    axes.set_title(
        f"geometric mean {number(mean)}; {machine}, {results.threads} threads, {results.dtype}"
    )
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", frameon=False)
    figure.savefig(path, dpi=150)
    plt.close(figure)
