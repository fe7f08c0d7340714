"""The figures of one run, and what follows from them."""

import json
import math
import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.lib.layers import EVERY_ROW, Layer
from benchmarks.lib.rivals import OURS, RIVALS
from benchmarks.lib.targets import SHARES, TARGETS, Target


@dataclass
class Results:
    """Times by library and row, with what is needed to understand them later."""

    command: str
    date: str
    machine: str
    threads: int
    dtype: str
    passes: int
    load_average: float
    """Before the run: more than a little spoils the figures."""
    limits: dict[str, float] = field(default_factory=dict)
    """``fma`` and ``fma1`` (all threads, one thread) in FLOP/s, ``copy`` in bytes/s."""
    versions: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, dict[str, float]] = field(default_factory=dict)
    """Median time of a call: library, then row."""
    spread: dict[str, dict[str, float]] = field(default_factory=dict)
    """Slowest pass over fastest: library, then row."""
    failures: dict[str, dict[str, str]] = field(default_factory=dict)
    """What went wrong: library, then row."""

    @classmethod
    def load(cls, path: Path) -> "Results":
        """Read what `save` wrote."""
        return cls(**json.loads(path.read_text()))

    def save(self, path: Path) -> None:
        """Write all of it as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @property
    def rows(self) -> list[str]:
        """The rows that any library was timed on, in the tables' order."""
        return [row for row in EVERY_ROW if any(row in times for times in self.seconds.values())]

    @property
    def libraries(self) -> list[str]:
        """The libraries that were timed: the others first, numbaconv last."""
        return [name for name in RIVALS | OURS if self.seconds.get(name)]

    @property
    def unsteady(self) -> list[tuple[float, str, str]]:
        """Spread, library and row where the passes differ by more than a quarter; worst first."""
        found = (
            (spread, name, row)
            for name, rows in self.spread.items()
            for row, spread in rows.items()
            if spread > 1.25
        )
        return sorted(found, reverse=True)

    def gflops(self, library: str, row: str) -> float:
        """Speed in GFLOP/s; NaN where it was not measured."""
        return EVERY_ROW[row].flops / self._time(library, row) / 1e9

    def share(self, library: str, row: str, limit: str = "fma") -> float:
        """Share of a limit of the machine: multiply-adds, or bytes that have to be moved."""
        layer = EVERY_ROW[row]
        work = layer.elements * np.dtype(self.dtype).itemsize if limit == "copy" else layer.flops
        return work / self._time(library, row) / self.limits.get(limit, math.nan)

    def ratio(self, library: str, row: str, others: Iterable[str] = tuple(RIVALS)) -> float:
        """How many times as fast as the best of the others; NaN where one is missing."""
        times = [self.seconds[o][row] for o in others if row in self.seconds.get(o, {})]
        return min(times, default=math.nan) / self._time(library, row)

    def _time(self, library: str, row: str) -> float:
        return self.seconds.get(library, {}).get(row, math.nan)


@dataclass
class Verdict:
    """What was measured for a target."""

    stage: str
    name: str
    values: dict[str, float]
    """Ratio or share, by row."""
    rows: int
    """How many rows the target has; fewer may have been measured."""
    mean_target: float
    worst_target: float

    @property
    def mean(self) -> float:
        """Geometric mean."""
        return statistics.geometric_mean(self.values.values())

    @property
    def worst(self) -> tuple[float, str]:
        """Smallest value, and its row."""
        return min((value, row) for row, value in self.values.items())

    @property
    def reached(self) -> bool:
        """Whether what was measured is enough."""
        return self.mean >= self.mean_target and self.worst[0] >= self.worst_target


def verdicts(results: Results) -> list[Verdict]:
    """Hold a run against the targets.

    Parameters
    ----------
    results : Results
        The run.

    Returns
    -------
    list of Verdict
        One for each target of which a row was measured.
    """
    found = []
    for target in TARGETS + SHARES:
        rows = [row for row, layer in EVERY_ROW.items() if _names(layer) & set(target.rows)]
        if isinstance(target, Target):
            if target.dtype != results.dtype:
                continue
            values = {row: _preferred_ratio(results, target, row) for row in rows}
            mean = target.mean
        else:
            values = {row: results.share(target.ours, row, target.limit) for row in rows}
            mean = 0
        values = {row: value for row, value in values.items() if not math.isnan(value)}
        if values:
            found.append(Verdict(target.stage, target.name, values, len(rows), mean, target.worst))
    return found


def _names(layer: Layer) -> set[str]:
    """Return what targets call a row."""
    of_kind = f"{layer.id[0]}-{layer.gradient}" if layer.gradient else layer.kind
    return {layer.id, layer.kind, of_kind}


def _preferred_ratio(results: Results, target: Target, row: str) -> float:
    """Ratio to the best of the first set of libraries that has the row."""
    ratios = (results.ratio(target.ours, row, others) for others in target.theirs)
    return next((ratio for ratio in ratios if not math.isnan(ratio)), math.nan)
