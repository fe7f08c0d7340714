"""The benchmarks that lean on the package's insides still fit it; their history is of a piece."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from benchmarks import busy
from tests.conftest import ROOT, Script

LADDER = """
from benchmarks import ladder
from benchmarks.lib.layers import Layer

ladder.check([
    Layer("dense", "odd tails", 2, 5, (9, 11), 33, (3, 3), padding=1),
    Layer("grouped", "and strided", 1, 6, (12, 10), 4, (3, 2), stride=2, padding=1, groups=2),
    Layer("dilated", "one channel", 1, 1, (20, 40), 1, (3, 5), dilation=2),
])
"""


@pytest.mark.slow
def test_every_step_of_the_ladder_convolves(run_script: Script):
    run_script("-c", LADDER)


@pytest.mark.slow
def test_a_table_of_ones_own_is_compared(run_script: Script, tmp_path: Path):
    table = tmp_path / "mine.csv"
    table.write_text(
        "id,what,n,c_in,size,c_out,kernel,stride,padding,dilation,groups\n"
        "mine,a signal,1,3,50,4,5,1,2,1,1\n"
    )
    script = str(ROOT / "benchmarks" / "compare.py")
    done = run_script(script, "--table", str(table), "--quick", "--rivals", "nc,nc-prep")
    assert "MINE a signal" in done.stdout
    assert "failed" not in done.stdout


@pytest.mark.slow
def test_limits_are_measured(run_script: Script):
    script = str(ROOT / "benchmarks" / "limits.py")
    done = run_script(script, "--rows", "Q1,Q2", "--passes", "1", "--seconds", "0.001")
    assert "float64 at least" in done.stdout


@pytest.mark.slow
def test_shared_cores_are_measured(run_script: Script):
    script = str(ROOT / "benchmarks" / "busy.py")
    done = run_script(script, "--passes", "1", "--seconds", "0.01", "--size", "2")
    lines = [line.split() for line in done.stdout.splitlines() if ", beside " in line]
    assert len(lines) == 3
    assert all(len(line) > 7 and min(map(float, line[7:])) > 0 for line in lines)
    wanted = next(line for line in done.stdout.splitlines() if "wanted, at most" in line)
    assert wanted.split()[3:] == ["2.20", "1.30", "1.00"]


def test_ratios_beside_a_process():
    """Of numbaconv beside it: to itself alone, to one thread alone, to onnxruntime beside it."""
    assert busy.verdict([8.0, 4.0, 5.0], [20.0, 6.0, 12.0]) == [1.5, 0.75, 0.5]
    without_rival = busy.verdict([8.0, 4.0], [20.0, 6.0])
    assert without_rival[:2] == [1.5, 0.75]
    assert math.isnan(without_rival[2])


@pytest.mark.slow
def test_transposed_layers_are_measured(run_script: Script):
    done = run_script(str(ROOT / "benchmarks" / "transposed.py"), "--seconds", "0")
    assert done.stdout.count("x |") == 16


@pytest.mark.slow
def test_filters_are_measured(run_script: Script):
    script = str(ROOT / "benchmarks" / "filters.py")
    options = ("--size", "96", "--passes", "1", "--seconds", "0.001")
    done = run_script(script, *options, "--names", "float32")
    lines = [line for line in done.stdout.splitlines() if "float32" in line]
    assert len(lines) > 20


@pytest.mark.slow
def test_signals_are_measured(run_script: Script):
    script = str(ROOT / "benchmarks" / "signals.py")
    options = ("--samples", "2000", "--passes", "1", "--groups", "signals")
    done = run_script(script, *options, "--names", "float32")
    assert sum("float32" in line for line in done.stdout.splitlines()) >= 6


def test_the_history_is_of_machines_that_are_described_alike():
    """asv draws results with other parameters, or fewer, as a series of its own."""
    history = ROOT / "benchmarks" / "history"
    names = set()
    for path in set(history.glob("*/*.json")) - set(history.glob("*/machine.json")):
        found = json.loads(path.read_text())
        machine = json.loads(path.with_name("machine.json").read_text())
        del machine["version"]  # of the file's form
        names.add(frozenset(machine))
        versions = {"python": found["python"]} | found["requirements"]
        assert found["params"] == machine | versions, path.name
    assert len(names) == 1


def test_the_history_is_read_in_order():
    from benchmarks import commits

    found = commits.read(commits.HISTORY / "zen4-2core")
    assert [found[0].name, found[-1].name] == ["a1436ffd", "2f641f1b"]
    assert found[0].speeds["bench_layers.Prepared"]["M1"] == 16.58
    assert "R3-input" not in found[0].speeds["bench_gradients.Gradients"]  # came later


def test_faster_commits_are_green(tmp_path: Path):
    image = pytest.importorskip("matplotlib.image")
    from benchmarks import commits

    def colours(speed: float) -> tuple[bool, bool]:
        """Whether there is green, and red, beside a speed that was 1 at first."""
        made = [
            commits.Commit("a", "01-01", {suite: {"R1": value} for suite in commits.SUITES})
            for value in (1.0, speed)
        ]
        commits.plot("a machine", made, tmp_path / "commits.png")
        red, green = image.imread(tmp_path / "commits.png")[..., :2].transpose(2, 0, 1)
        return bool((green > red + 0.2).any()), bool((red > green + 0.2).any())

    assert colours(2.0) == (True, False)
    assert colours(0.5) == (False, True)
