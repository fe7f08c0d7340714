"""Fixtures and settings of the whole suite."""

from __future__ import annotations

import errno
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.oracle.cases import REDUCED, Case

ROOT = Path(__file__).parents[1]

# What asserts outside of files of tests tells the values, too.
pytest.register_assert_rewrite("tests.njit.arrays", "tests.oracle.gradient_cases")

settings.register_profile(
    "numbaconv",
    derandomize=True,
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow],  # an emulated CPU is
)
settings.load_profile("numbaconv")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add an option that thins out tests which run again as others would run them.

    Those marked `always` run whatever N is.
    """
    parser.addoption("--every", type=int, default=1, metavar="N", help="run every N-th test")


@pytest.hookimpl(trylast=True)  # after -m and -k
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put tests that start processes of their own, the longest, first: none is left for the end."""
    every = config.getoption("--every")
    chosen = [
        item for i, item in enumerate(items) if i % every == 0 or item.get_closest_marker("always")
    ]
    config.hook.pytest_deselected(items=[item for item in items if item not in set(chosen)])
    items[:] = chosen
    order = ["test_targets", "test_memory"]  # these share kernels of other targets

    def rank(item: pytest.Item) -> int:
        if "run_script" not in getattr(item, "fixturenames", ()):
            return len(order) + 1
        return order.index(item.path.stem) if item.path.stem in order else len(order)

    items.sort(key=rank)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Let a worker that is done take over half of what another has left."""
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log)


@pytest.fixture(scope="module", params=("direct", "im2col"))
def backend(request: pytest.FixtureRequest) -> str:
    """Each CPU backend in turn."""
    return str(request.param)


@pytest.fixture(autouse=True)
def clean_choice(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every test begins, and leaves the next one, with no backend chosen."""
    monkeypatch.delenv("NUMBACONV_BACKEND", raising=False)
    yield
    if package := sys.modules.get("numbaconv"):  # the oracle's own tests do without it
        package.set_backend(None)


@pytest.fixture(params=(2_000, 20_000))
def small_cache(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks for a cache of a few bytes: small problems are cut, and stored, as large ones are."""
    monkeypatch.setattr("numbaconv.cpu.blocking.CACHE_BYTES", request.param)
    monkeypatch.setattr("numbaconv.cpu.direct.matrix_zones.MOST_BYTES", 4 * request.param)
    choice = "numbaconv.cpu.direct.choice"
    monkeypatch.setattr(f"{choice}.last_level_caches", lambda threads: request.param)
    monkeypatch.setattr(f"{choice}.MOST_CACHED", request.param)  # tiles prefetch
    for plans in ("_plans", "_adjoint_plans"):  # which may know the problem already
        monkeypatch.setattr(f"numbaconv.problem.plan.{plans}", {})


@pytest.fixture(scope="module")
def nothing_built_ahead() -> Iterator[None]:
    """What is compiled in processes of their own is compiled there, or comes from the cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NUMBACONV_BUILT_AHEAD", "0")
        yield


def thinned(cases: Sequence[Case], every: int) -> list[Any]:
    """One case of each kind and every n-th; the others are `stress` tests."""
    return [
        case if case in REDUCED or i % every == 0 else pytest.param(case, marks=pytest.mark.stress)
        for i, case in enumerate(cases)
    ]


# CPUs that kernels are compiled for. With no features beside the name: Numba would otherwise add
# the host's, AVX-512 among them.
TARGETS: dict[str, dict[str, str]] = {"host": {}}
if platform.machine() in ("x86_64", "AMD64"):
    TARGETS |= {
        name: {"NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": ""} for name in ("haswell", "generic")
    }


def other_targets() -> list[str]:
    """Those whose vectors are not the host's: what differs with them, the host's tests see not."""
    from numbaconv.codegen.target import VECTOR_BYTES

    sizes = {"host": VECTOR_BYTES, "haswell": 32, "generic": 16}
    return [target for target in TARGETS if sizes[target] != VECTOR_BYTES]


def stress_targets() -> list[Any]:
    """The same as parameters of tests that run for them at length alone."""
    return [pytest.param(target, marks=pytest.mark.stress) for target in other_targets()]


Script = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def run_script() -> Script:
    """Run Python code in a process of its own; fail with its output unless it exits with 0.

    Environment variables come as keywords; None removes one.
    """

    def run(*arguments: str, timeout: float = 900, **variables: str | None) -> object:
        environment = {k: v for k, v in os.environ.items() if k != "NUMBACONV_BACKEND"}
        environment["PYTHONPATH"] = str(ROOT)
        for name, value in variables.items():
            environment.pop(name, None)
            if value is not None:
                environment[name] = value
        try:
            done = subprocess.run(
                [sys.executable, "-W", "error", *arguments],
                env=environment,
                cwd=ROOT,
                capture_output=True,
                text=True,
                timeout=timeout,
            )
        except OSError as error:
            if error.errno != errno.ENOEXEC:
                raise
            pytest.skip("the system cannot start programs of the CPU that is emulated")
        assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    return run


@pytest.fixture
def run_as(run_script: Script, tmp_path_factory: pytest.TempPathFactory) -> Script:
    """`run_script` with the name of a target before the rest.

    Other targets than the host's keep what they compile in a directory of their own, which all
    tests of a session share, on whichever worker of xdist.
    """
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def run(target: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        kept = {} if target == "host" else {"NUMBA_CACHE_DIR": str(shared / f"kernels-{target}")}
        return run_script(*arguments, **kept, **TARGETS[target], **options)

    return run
