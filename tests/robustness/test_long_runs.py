"""What only many calls show: faults of rare problems, interrupts, memory that grows.

The numbers here are for every run of the suite; those marked `stress` are docs/reliability.md's.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.conftest import Script
from tests.scripts import fuzz

stress = pytest.mark.stress


def script(name: str) -> tuple[str, str]:
    return "-m", f"tests.scripts.{name}"


@pytest.mark.target
@pytest.mark.parametrize("gradients", [False, True], ids=["forward", "gradients"])
def test_fuzz(gradients: bool):
    assert fuzz.fuzz(seed=2, start=0, count=300, gradients=gradients) == 0


@stress
@pytest.mark.parametrize(
    "arguments",
    [
        "--count 100000",
        "--count 35000 --seed 1 --integers",
        "--count 20000 --gradients",
        "--count 10000 --seed 1 --gradients --integers",
    ],
)
def test_fuzz_at_length(arguments: str, run_script: Script):
    done = run_script(*script("fuzz"), *arguments.split(), timeout=7200)
    assert " 0 wrong" in done.stdout


def test_the_fuzzer_reports_what_is_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """A result with its last element off is found in every problem that has one."""
    run = fuzz.PATHS[0].run

    def spoiled(sample: fuzz.Sample) -> fuzz.Array:
        y = run(sample)
        y.reshape(-1)[-1:] += 1 + abs(y.reshape(-1)[-1:])
        return y

    monkeypatch.setattr(fuzz, "PATHS", (fuzz.Path("spoiled", spoiled),))
    assert fuzz.fuzz(seed=0, start=3, count=20) >= 19  # an empty batch has no last element
    report = capsys.readouterr().out
    assert "the result of spoiled" in report
    assert "python -m tests.scripts.fuzz --seed 0 --start 3 --count 1" in report


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("count", ["6", pytest.param("200", marks=stress)])
def test_interrupted_calls(count: str, run_script: Script):
    run_script(*script("interrupted"), "calls", "--count", count, timeout=3600)


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@stress
def test_interrupted_while_compiling(run_script: Script, tmp_path: Path):
    variables = {"NUMBA_CACHE_DIR": str(tmp_path)}
    run_script(*script("interrupted"), "compiling", "--count", "30", timeout=3600, **variables)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads Linux's /proc")
@pytest.mark.parametrize("count", ["50000", pytest.param("1000000", marks=stress)])
def test_memory_does_not_grow(count: str, run_script: Script):
    run_script(*script("growth"), "--count", count, timeout=3600)
