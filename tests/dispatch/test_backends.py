"""Which backend a call runs on: argument, use_backend, set_backend, environment, auto."""

from __future__ import annotations

import asyncio
import itertools
import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import numbaconv as nc

VARIABLE = "NUMBACONV_BACKEND"
NAMES = ("auto", "direct", "im2col", "fft", "winograd", "cuda")

x = np.arange(101.0 * 103).reshape(1, 1, 101, 103)
w = np.ones((2, 1, 3, 5))


def runs_on(**options: Any) -> str:
    """The backend that ``explain`` says a call would use."""
    text = str(nc.explain(x, w, **options))
    named = set(re.findall(r"\b(direct|im2col|fft|winograd|cuda)\b", text.splitlines()[0]))
    assert len(named) == 1, text
    return named.pop()


# Each way to choose, strongest first, as a context in which a call is made.


@contextmanager
def by_argument(name: str, options: dict[str, Any], _: pytest.MonkeyPatch) -> Iterator[None]:
    options["backend"] = name
    yield


@contextmanager
def by_use_backend(name: str, _: dict[str, Any], __: pytest.MonkeyPatch) -> Iterator[None]:
    with nc.use_backend(name):
        yield


@contextmanager
def by_set_backend(name: str, _: dict[str, Any], __: pytest.MonkeyPatch) -> Iterator[None]:
    nc.set_backend(name)
    yield


@contextmanager
def by_environment(name: str, _: dict[str, Any], patch: pytest.MonkeyPatch) -> Iterator[None]:
    patch.setenv(VARIABLE, name)
    yield


WAYS = (by_argument, by_use_backend, by_set_backend, by_environment)


@pytest.mark.parametrize(
    "spell", [str.lower, str.upper, str.title], ids=["lower", "upper", "title"]
)
@pytest.mark.parametrize("way", WAYS)
def test_each_way_chooses_in_any_case(
    way: Any, spell: Any, backend: str, monkeypatch: pytest.MonkeyPatch
):
    options: dict[str, Any] = {}
    with way(spell(backend), options, monkeypatch):
        assert runs_on(**options) == backend
        if way is not by_argument:
            assert nc.get_backend() == backend
        y = nc.conv2d(x, w, **options)
    np.testing.assert_array_equal(y, nc.conv2d(x, w, backend=backend))


@pytest.mark.parametrize(("stronger", "weaker"), list(itertools.combinations(WAYS, 2)))
def test_precedence(stronger: Any, weaker: Any, backend: str, monkeypatch: pytest.MonkeyPatch):
    other = {"direct": "im2col", "im2col": "direct"}[backend]
    options: dict[str, Any] = {}
    with weaker(other, options, monkeypatch), stronger(backend, options, monkeypatch):
        assert runs_on(**options) == backend


@pytest.mark.parametrize("way", WAYS[:-1])
def test_auto_is_a_choice_too(way: Any, monkeypatch: pytest.MonkeyPatch):
    """Said aloud, it hides what a weaker level says: here, something invalid."""
    monkeypatch.setenv(VARIABLE, "nonsense")
    options: dict[str, Any] = {}
    with way("auto", options, monkeypatch):
        assert runs_on(**options) in nc.available_backends()


def test_auto_is_the_default_and_runs():
    assert nc.get_backend() == "auto"
    assert runs_on() in nc.available_backends()
    np.testing.assert_array_equal(nc.conv2d(x, w), nc.conv2d(x, w, backend="direct"))


def test_explain_runs_on_what_conv_runs_on(monkeypatch: pytest.MonkeyPatch):
    """A choice that cannot run stops both."""
    monkeypatch.setenv(VARIABLE, "nonsense")
    for function in (nc.conv2d, nc.explain):
        with pytest.raises(ValueError, match=VARIABLE):
            function(x, w)


def test_environment_is_read_at_each_call(monkeypatch: pytest.MonkeyPatch):
    for name in ("direct", "im2col", "direct", "auto"):
        monkeypatch.setenv(VARIABLE, name)
        assert nc.get_backend() == name
    monkeypatch.setenv(VARIABLE, "")
    assert nc.get_backend() == "auto"
    monkeypatch.delenv(VARIABLE)
    assert nc.get_backend() == "auto"


def test_environment_is_read_at_import_by_no_one(run_script: Any):
    code = """
import os
import numpy as np, numbaconv as nc
os.environ["NUMBACONV_BACKEND"] = "im2col"
print(nc.get_backend(), nc.available_backends())
"""
    done = run_script("-c", code, NUMBACONV_BACKEND="nonsense")
    assert done.stdout.startswith("im2col (")


@pytest.mark.parametrize("name", ["nonsense", "direct,im2col", "cpu", "none"])
def test_unknown_name_in_the_environment(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(VARIABLE, name)
    for call in (nc.get_backend, lambda: nc.conv2d(x, w), lambda: nc.explain(x, w)):
        with pytest.raises(ValueError, match=VARIABLE) as refusal:
            call()
        for word in (name, *NAMES):
            assert word in str(refusal.value)


def test_stronger_choices_do_not_read_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(VARIABLE, "nonsense")
    assert nc.conv2d(x, w, backend="direct").shape == (1, 2, 99, 99)
    with nc.use_backend("im2col"):
        assert nc.get_backend() == "im2col"
    nc.set_backend("direct")
    assert nc.get_backend() == "direct"


@pytest.mark.parametrize("name", ["nonsense", "", "direct,im2col"])
def test_unknown_name_elsewhere_lists_the_valid_ones(name: str):
    def use() -> None:
        with nc.use_backend(name):
            pass

    for call in (lambda: nc.conv2d(x, w, backend=name), lambda: nc.set_backend(name), use):
        with pytest.raises(ValueError, match=r"\b(backend|name)\b") as refusal:
            call()
        for word in NAMES:
            assert word in str(refusal.value)
        assert VARIABLE not in str(refusal.value)
    assert nc.get_backend() == "auto"


def test_set_backend_none_takes_the_choice_back(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(VARIABLE, "im2col")
    nc.set_backend("direct")
    nc.set_backend(None)
    assert nc.get_backend() == "im2col"


def test_available_backends():
    available = nc.available_backends()
    assert isinstance(available, tuple)
    assert {"direct", "im2col"} <= set(available) <= set(NAMES) - {"auto"}


@pytest.mark.parametrize("way", WAYS)
def test_cuda_runs_or_says_why_not(way: Any, monkeypatch: pytest.MonkeyPatch):
    assert issubclass(nc.BackendUnavailableError, RuntimeError)
    options: dict[str, Any] = {}

    def call() -> Any:
        with way("cuda", options, monkeypatch):
            return nc.conv2d(x, w, **options)

    if "cuda" in nc.available_backends():
        np.testing.assert_array_equal(call(), nc.conv2d(x, w, backend="direct"))
        return
    with pytest.raises(nc.BackendUnavailableError, match=r"\bcuda\b") as refusal:
        call()
    reason = str(refusal.value)
    assert len(reason.split()) > 5  # a sentence, not a name
    assert (VARIABLE in reason) == (way is by_environment)
    assert all(name in reason for name in nc.available_backends())


# use_backend.


def test_use_backend_nests_and_ends():
    nc.set_backend("im2col")
    with nc.use_backend("direct"):
        with nc.use_backend("im2col"):
            assert nc.get_backend() == "im2col"
        assert nc.get_backend() == "direct"
        with nc.use_backend("auto"):
            assert nc.get_backend() == "auto"
    assert nc.get_backend() == "im2col"


def test_use_backend_ends_when_an_exception_leaves_it():
    with pytest.raises(KeyError), nc.use_backend("direct"):
        raise KeyError
    assert nc.get_backend() == "auto"


def test_use_backend_holds_in_its_own_thread_only():
    """Two threads inside use_backend at once, and one outside."""
    inside, seen = threading.Barrier(3), {}

    def run(name: str | None) -> None:
        with ExitStack() as stack:
            if name:
                stack.enter_context(nc.use_backend(name))
            inside.wait(60)
            seen[name] = (nc.get_backend(), runs_on())
            inside.wait(60)

    threads = [threading.Thread(target=run, args=(name,)) for name in ("direct", "im2col")]
    for thread in threads:
        thread.start()
    run(None)
    for thread in threads:
        thread.join()
    assert seen["direct"] == ("direct", "direct")
    assert seen["im2col"] == ("im2col", "im2col")
    assert seen[None][0] == "auto"


def test_use_backend_holds_in_its_own_task_only():
    """Two tasks of one thread take turns inside use_backend."""

    async def run(name: str) -> list[str]:
        seen = []
        with nc.use_backend(name):
            for _ in range(3):
                seen.append(nc.get_backend())
                await asyncio.sleep(0)
        return seen

    async def both() -> list[list[str]]:
        return await asyncio.gather(run("direct"), run("im2col"))

    assert asyncio.run(both()) == [["direct"] * 3, ["im2col"] * 3]


def test_set_backend_holds_in_every_thread():
    nc.set_backend("im2col")
    seen = []
    thread = threading.Thread(target=lambda: seen.append(nc.get_backend()))
    thread.start()
    thread.join()
    assert seen == ["im2col"]


# What they say.


@pytest.mark.parametrize(
    ("way", "source"),
    [
        (by_argument, "argument"),
        (by_use_backend, "use_backend"),
        (by_set_backend, "set_backend"),
        (by_environment, VARIABLE),
    ],
)
def test_explain_says_who_chose(
    way: Any, source: str, backend: str, monkeypatch: pytest.MonkeyPatch
):
    options: dict[str, Any] = {}
    with way(backend, options, monkeypatch):
        text = str(nc.explain(x, w, **options))
    assert backend in text
    assert source in text


def test_explain_says_the_geometry():
    text = str(nc.explain(x, w, None, 1, 0, 1, 1, backend="direct"))
    for number in (101, 103, 3, 5, 99):
        assert re.search(rf"\b{number}\b|x{number}\b|\b{number}x", text), (number, text)


def test_explain_gives_a_reason_of_its_own_for_what_auto_chose():
    chosen = nc.explain(x, w)
    forced = nc.explain(x, w, backend=runs_on())
    assert str(chosen) != str(forced)


@pytest.mark.parametrize("of", ["transposed", "input", "weight"])
@pytest.mark.parametrize("weight", [None, np.ones((2, 2)), np.float32(1), np.ones((1,) * 6)])
def test_explain_refuses_what_is_no_weight(of: str, weight: Any):
    with pytest.raises((TypeError, ValueError), match=r"^weight must"):
        nc.explain(np.ones((1, 2, 8, 8)), weight, of=of)


def test_explain_takes_every_option_and_computes_nothing():
    y = nc.explain(
        np.zeros((1, 2**15, 2**15, 2), np.int8)[:, :9, :9],
        np.zeros((4, 1, 3, 3), np.int8),
        np.zeros(4, np.int8),
        stride=2,
        padding="same",
        dilation=2,
        groups=2,
        padding_mode="reflect",
        data_format="channels_last",
        activation=None,
        backend="im2col",
    )
    assert "im2col" in str(y)


def test_show_config(capsys: pytest.CaptureFixture[str]):
    returned = nc.show_config()
    text = (returned or "") + capsys.readouterr().out
    for word in (nc.__version__, np.__version__, "numba", "thread", "direct", "im2col", "cuda"):
        assert word.lower() in text.lower()


def test_what_is_for_cuda_alone_is_refused_on_the_cpu(
    backend: str, monkeypatch: pytest.MonkeyPatch
):
    for function in (nc.conv2d, nc.explain):
        with pytest.raises(ValueError, match=rf"stream is for backend 'cuda'.*{backend}"):
            function(x, w, backend=backend, stream=0)
        with pytest.raises(ValueError, match=rf"precision 'tf32' is for backend 'cuda'.*{backend}"):
            function(x, w, backend=backend, precision="tf32")
        with pytest.raises(ValueError, match=r"precision must be one of ieee, tf32, fast"):
            function(x, w, backend=backend, precision="half")
        function(x, w, backend=backend, precision="ieee")
    with pytest.raises(ValueError, match=r"precision must be one of ieee, tf32, fast"):
        nc.prepare(w, precision="half")
    with pytest.raises(TypeError, match="precision"):
        nc.conv2d(x, w, precision=32)
    with pytest.raises(ValueError, match="tf32"):
        nc.prepare(w, backend=backend, precision="tf32")(x)
    monkeypatch.setenv("NUMBACONV_PRECISION", "tf32")  # for the calls that run on a GPU
    nc.conv2d(x, w, backend=backend)


class Elsewhere:
    """An array that says it is on a GPU."""

    def __init__(self, array: Any) -> None:
        self.__cuda_array_interface__ = dict(array.__array_interface__)


def test_arrays_on_a_gpu_are_never_copied_behind_the_back(backend: str):
    for function in (nc.conv2d, nc.explain):
        with pytest.raises(TypeError, match=rf"on a GPU.*{backend}"):
            function(Elsewhere(x), Elsewhere(w), backend=backend)
    with pytest.raises(TypeError, match=r"on a GPU is input; in host memory is weight"):
        nc.conv2d(Elsewhere(x), w)
    for arrays in ({"weight": Elsewhere(w)}, {"bias": Elsewhere(w)}, {"out": Elsewhere(x)}):
        with pytest.raises(TypeError, match=rf"{next(iter(arrays))}.*GPU.*host memory"):
            nc.conv2d(**{"input": x, "weight": w, "backend": backend} | arrays)
    if "cuda" not in nc.available_backends():
        with pytest.raises(nc.BackendUnavailableError, match="cuda"):
            nc.conv2d(Elsewhere(x), Elsewhere(w))


BROKEN = {
    "missing": "",
    "raises": "raise OSError('libcuda.so: wrong ELF class')",
    "exits": "raise SystemError('half of it is missing')",
}


@pytest.mark.parametrize("how", BROKEN)
def test_broken_cuda_packages_touch_nothing_else(how: str, run_script: Any, tmp_path: Path):
    """With a numba-cuda that cannot be imported, the CPU works and `cuda` says why it does not."""
    if how != "missing":
        info = tmp_path / "numba_cuda-0.30.4.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: numba-cuda\nVersion: 0.30.4\n")
    code = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[:2] in (["numba", "cuda"], ["numba_cuda"]):
            {BROKEN[how] or "raise ModuleNotFoundError(name)"}
sys.meta_path.insert(0, Finder())
import numpy as np, numbaconv as nc
y = nc.conv2d(np.ones((1, 4, 4)), np.ones((1, 1, 3, 3)))
assert not any(name.startswith("numba.cuda") for name in sys.modules), "imported for nothing"
assert "cuda" not in nc.available_backends()
try:
    nc.conv2d(np.ones((1, 4, 4)), np.ones((1, 1, 3, 3)), backend="cuda")
except nc.BackendUnavailableError as error:
    print(error)
nc.show_config()
"""
    text = run_script("-c", code).stdout
    assert "cannot run here" in text
    if how == "raises":
        assert "wrong ELF class" in text or "NumPy" in text


@pytest.mark.parametrize("version", ["2.5.0", "2.5rc1", "3.0.0.dev0+git"])
def test_a_numpy_too_new_for_cuda_is_named(version: str, monkeypatch: pytest.MonkeyPatch):
    from numbaconv.cuda import toolkit

    monkeypatch.setattr(toolkit, "package_version", lambda: "0.30.4")
    monkeypatch.setattr(toolkit.np, "__version__", version)
    reason = toolkit.unavailable.__wrapped__()
    assert re.search(rf"NumPy {re.escape(version)}.*NumPy < 2.5.*pip install", reason)
    monkeypatch.setattr("numbaconv.cuda.unavailable", lambda: reason)
    with pytest.raises(nc.BackendUnavailableError, match=r"cuda.*NumPy < 2.5"):
        nc.conv2d(x, w, backend="cuda")
    nc.conv2d(x, w)


def test_a_numpy_old_enough_is_not_what_cuda_lacks(monkeypatch: pytest.MonkeyPatch):
    from numbaconv.cuda import toolkit

    monkeypatch.setattr(toolkit, "package_version", lambda: "0.30.4")
    monkeypatch.setattr(toolkit.np, "__version__", "2.4.99")
    assert toolkit._missing_package() is None


def test_show_config_says_what_there_is_of_cuda(capsys: pytest.CaptureFixture[str]):
    from numbaconv.cuda import toolkit

    nc.show_config()
    lines = dict(
        line.split(None, 2)[1:]
        for line in capsys.readouterr().out.splitlines()
        if line.startswith("cuda ")
    )
    assert all(tool in lines["toolkit"] for tool in ("nvvm", "ptxas", "nvrtc"))
    if toolkit.unavailable() is not None:
        assert lines["device"] == f"none: {toolkit.unavailable()}"


def test_gradients_refuse_on_the_cpu_what_is_for_cuda_alone(backend: str):
    g = np.ones((1, 1, 2, 2), "f4")
    kernel = np.ones((1, 1, 3, 3), "f4")
    image = np.ones((1, 1, 4, 4), "f4")
    for call in (
        lambda **more: nc.grad.conv2d_input(image.shape, kernel, g, **more),
        lambda **more: nc.grad.conv2d_weight(image, kernel.shape, g, **more),
        lambda **more: nc.conv_transpose2d(g, kernel, **more),
    ):
        with pytest.raises(ValueError, match=rf"stream is for backend 'cuda'.*{backend}"):
            call(stream=0, backend=backend)
        with pytest.raises(ValueError, match=rf"precision 'tf32' is for backend 'cuda'.*{backend}"):
            call(precision="tf32", backend=backend)
        call(precision="ieee", backend=backend)


@pytest.mark.parametrize(
    ("input", "weight", "options"),
    [
        ((1, 64, 28, 28), (64, 64, 3, 3), {"padding": 1}),
        ((1, 64, 56, 56), (64, 64, 3, 3), {"stride": 2}),
        ((1, 64, 500), (64, 64, 3), {"dilation": 256, "padding": 256}),
    ],
)
def test_explain_prints_the_costs_of_what_was_compared(input, weight, options):
    x, w = np.zeros(input, np.float32), np.zeros(weight, np.float32)
    explained = nc.explain(x, w, **options)
    assert explained.backend == "direct"
    assert explained.cycles is not None
    assert explained.lowering == next(iter(explained.cycles))
    assert list(explained.cycles.values()) == sorted(explained.cycles.values())
    assert all(name in str(explained) for name in explained.cycles)


def test_there_are_no_costs_where_a_rule_decides():
    x, w = np.zeros((1, 2048, 1, 1), np.float32), np.zeros((100, 2048, 1, 1), np.float32)
    explained = nc.explain(x, w)
    assert (explained.lowering, explained.cycles) == ("dots", None)
    assert "cycles" not in str(explained)


def test_taps_far_apart_are_served_without_halo_tiles():
    x, w = np.zeros((1, 64, 33, 33), np.float32), np.zeros((64, 64, 3, 3), np.float32)
    served = nc.explain(x, w, dilation=17, padding=17).lowering
    assert served in ("patch_matrix", "matrix_zones")
