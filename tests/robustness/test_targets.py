"""The tests marked `target`, run again as other machines would run them.

Numba compiles for the CPU that the environment names: lanes and register blocks must follow.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from numbaconv.codegen.target import last_level_caches
from tests.conftest import ROOT, Script, other_targets

OTHERS = other_targets()
FILES = (
    "convolution/test_conv",
    "convolution/test_gradients",
    "convolution/test_patches",
    "convolution/test_properties",
    "ndimage/test_filters",
)
# Of these, which have thousands, every fifteenth: the cases of both stay, under other dtypes and
# paths. `python -m pytest -m target` under NUMBA_CPU_NAME runs all.
THINNED = {"convolution/test_conv", "convolution/test_gradients"}
INTERPRETED = (
    "convolution/test_conv",
    "convolution/test_patches",
    "convolution/test_gradients",
    "ndimage/test_filters",
    "ndimage/test_missing",
)
QUIET = ("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-m")


def passed(report: str) -> int:
    """The number of tests that pytest's last line counts as passed."""
    return int(report.strip().splitlines()[-1].partition(" passed")[0].split()[-1])


def path_of(name: str) -> str:
    """Path of a file of tests."""
    return str(ROOT / "tests" / f"{name}.py")


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("target", OTHERS)
def test_target(target: str, file: str, run_as: Script):
    every = ("--every", "15") if file in THINNED else ()
    assert passed(run_as(target, *QUIET, "target", *every, path_of(file)).stdout) > 0


def test_one_thread(run_script: Script):
    """Large problems, the only ones that are shared out, where there is one thread."""
    one = {"NUMBA_NUM_THREADS": "1"}
    run_script("-c", "import numba; assert numba.config.NUMBA_NUM_THREADS == 1", **one)
    done = run_script(
        *QUIET, "target", "--every", "2", "-k", "large or definition or fuzz or identities",
        *(path_of(name) for name in FILES), **one,
    )  # fmt: skip
    assert passed(done.stdout) > 25


@pytest.mark.parametrize("target", OTHERS)
def test_target_is_the_one_compiled_for(target: str, run_as: Script):
    """What `test_target` runs is another machine's code, not this one's again."""
    code = """
from numba.core.registry import cpu_target
print(cpu_target.target_context.codegen()._tm_features.count("+avx512") > 0)
import numbaconv
numbaconv.show_config()
"""
    avx512, *config = run_as(target, "-c", code).stdout.splitlines()
    assert avx512 == "False"
    assert target in "\n".join(config)


def test_without_the_compiler(run_script: Script, tmp_path: Path):
    """Interpreted, the same few results; what an intrinsic alone can do may be refused by name."""
    done = run_script(
        *QUIET, "nojit", *(path_of(name) for name in INTERPRETED),
        NUMBA_DISABLE_JIT="1", NUMBA_CACHE_DIR=str(tmp_path),
    )  # fmt: skip
    assert passed(done.stdout) > 20


@pytest.mark.parametrize(
    ("size", "sharing", "expected"),
    [
        ("32768K", "00000000,000000ff", {1: 32, 8: 32, 9: 64, 64: 256}),  # eight cores each
        ("98304K", "ff", {1: 96, 8: 96, 9: 192}),
        ("491520K", "3", {1: 32, 2: 32, 3: 64}),  # a server's, of which a guest has two cores
        ("", "", {1: 32, 64: 32}),  # where Linux, or another system, tells nothing
        ("16384K", "", {64: 16}),
    ],
)
def test_last_level_caches(
    size: str, sharing: str, expected: dict[int, int], monkeypatch: pytest.MonkeyPatch
):
    entries = {"size": size, "shared_cpu_map": sharing}
    monkeypatch.setattr("numbaconv.codegen.target._cache_entry", lambda level, name: entries[name])
    for threads, megabytes in expected.items():
        assert last_level_caches.__wrapped__(threads) == megabytes << 20
