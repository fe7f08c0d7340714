"""What the host code asks of the device: streams, devices, memory; on one that is not there.

    python -m pytest tests/cuda/test_launches.py

Launches are executed (`tests/cuda/executed`), and the order between streams is checked: who touches
memory that another stream has not finished with is a `FaultError`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from tests.cuda.installed import require_compilers

require_compilers()

from numba import cuda  # noqa: E402 (what it takes is here)

import numbaconv as nc  # noqa: E402
from benchmarks import compare_cuda  # noqa: E402
from benchmarks.lib.layers import Layer  # noqa: E402
from numbaconv.cuda import tiles, workspace  # noqa: E402
from tests.cuda.executed.cases import bringing, forced  # noqa: E402
from tests.cuda.executed.device import GPU, DeviceArray, Gpu, installed, to_device  # noqa: E402
from tests.cuda.executed.memory import FaultError  # noqa: E402
from tests.cuda.minimal import minimal  # noqa: E402
from tests.oracle import reference  # noqa: E402
from tests.oracle.cases import Array, integer_arrays, problem  # noqa: E402

# One kernel serves most of these tests: one channel a group.
CASE = problem("depthwise", (2, 3, 7, 9), (3, 1, 3, 3), bias=True, padding=1, groups=3)
OPTIONS = CASE.kwargs
X, W, B = integer_arrays(CASE)
Y = reference.conv(X, W, B, **OPTIONS)
# And one product, whose weights have rows of 27 elements: padded to 28.
PADDED = problem("padded", (1, 3, 4, 5), (5, 3, 3, 3), bias=True, padding=1)
PRODUCT = tiles.Plan(tiles.SIMT[-1], 3)


@pytest.fixture(scope="module")
def driver() -> Iterator[Gpu]:
    with installed() as found:
        yield found


@pytest.fixture(autouse=True)
def gpu(driver: Gpu) -> Gpu:
    driver.begin()
    return driver


class Produced:
    """An array that a stream of another library has written, as that library passes it."""

    def __init__(self, array: Array, stream: int | None) -> None:
        self.memory = to_device(array)
        cuda.synchronize()
        self.stream = stream
        self.touch(writes=True)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return self.memory.__cuda_array_interface__ | {"stream": self.stream}

    def touch(self, writes: bool = False) -> None:
        """Use it on its own stream, where only that waits."""
        order, address = self.memory_order, [self.memory.address]
        order.submit(self.stream or 1, reads=address, writes=address if writes else ())

    @property
    def memory_order(self) -> Any:
        return GPU.order


def consume(gpu: Gpu, y: Any, stream: int = 77) -> Array:
    """Read a result as the array interface says: on a stream that waits for the one it names."""
    ready = y.__cuda_array_interface__["stream"]
    if ready is not None:
        assert ready != 0  # which the interface forbids
        event = cuda.event()
        event.record(cuda.external_stream(ready))
        event.wait(cuda.external_stream(stream))
    gpu.order.submit(stream, reads=[y.address])
    cuda.synchronize()
    return y.copy_to_host()


def streams_of(gpu: Gpu) -> set[int]:
    return {launch.stream for launch in gpu.launches}


# Streams.


def test_the_order_of_streams_is_checked(gpu: Gpu):
    a = to_device(np.zeros(4, "f4"))
    cuda.synchronize()
    gpu.order.submit(5, writes=[a.address])
    with pytest.raises(FaultError, match="before stream"):
        gpu.order.submit(6, reads=[a.address])
    event = cuda.event()
    event.record(cuda.external_stream(5))
    event.wait(cuda.external_stream(6))
    gpu.order.submit(6, reads=[a.address])
    with pytest.raises(FaultError, match="has read it"):
        gpu.order.submit(5, writes=[a.address])


@pytest.mark.parametrize("own", [None, 1, 5])
@pytest.mark.parametrize("stream", [None, 0, 9])
def test_a_result_says_on_which_stream_it_is_ready(gpu: Gpu, own: int | None, stream: int | None):
    x, w, b = (Produced(a, own) for a in (X, W, B))
    y = nc.conv(x, w, b, **OPTIONS, stream=stream)
    np.testing.assert_array_equal(consume(gpu, y), Y)
    expected = (own or 1) if stream is None else stream or 1
    assert y.__cuda_array_interface__["stream"] == expected
    assert streams_of(gpu) == {expected}


def test_gradients_and_empty_results_say_it_too(gpu: Gpu):
    w, g = Produced(W, 5), Produced(Y.astype("f4"), 5)
    options = {k: v for k, v in OPTIONS.items() if k != "padding_mode"}
    y = nc.grad.conv2d_input(X.shape, w, g, **options)
    expected = reference.conv_input(X.shape, W, Y.astype("f4"), **options)
    np.testing.assert_array_equal(consume(gpu, y), expected)
    y = nc.conv(Produced(X[:0], 5), Produced(W, 5), **OPTIONS)
    assert y.shape == (0, *Y.shape[1:])
    assert y.__cuda_array_interface__["stream"] == 5


def test_streams_of_all_arrays_are_waited_for(gpu: Gpu):
    for stream in (None, 9, 4):
        x, w, b = (Produced(a, own) for a, own in ((X, 4), (W, 5), (B, 6)))
        y = nc.conv(x, w, b, **OPTIONS, stream=stream)
        np.testing.assert_array_equal(consume(gpu, y), Y)


@pytest.mark.parametrize("stream", [None, 9])
def test_the_stream_of_out_is_waited_for_and_waits(gpu: Gpu, stream: int | None):
    x, w = Produced(X, 4), Produced(W, 4)
    out = Produced(np.zeros(Y.shape, "f4"), 8)
    for _ in range(2):
        out.touch()  # still read there, when it is written
        assert nc.conv(x, w, **OPTIONS, out=out, stream=stream) is out
        out.touch()
    cuda.synchronize()
    np.testing.assert_array_equal(out.memory.copy_to_host(), reference.conv(X, W, **OPTIONS))
    layer = nc.prepare(W, **OPTIONS)
    layer(x, out=out, stream=stream)
    out.touch()
    g = Produced(Y.astype("f4"), 4)
    back = Produced(np.zeros(X.shape, "f4"), 8)
    nc.conv_transpose2d(g, w, padding=1, groups=3, out=back, stream=stream)
    back.touch()


def test_calls_on_one_stream_share_memory_and_on_two_do_not(gpu: Gpu):
    """What is laid out for one call must not be overwritten by the next before it is read."""
    spread = np.repeat(X, 2, axis=-1)
    for stream in (4, 5, 4, 5):
        x = Produced(spread, stream)
        view = DeviceViews(
            x, X.shape, tuple(2 * s if i == 3 else s for i, s in enumerate(X.strides))
        )
        view.strides = spread[..., ::2].strides
        y = nc.conv(view, Produced(W, stream), **OPTIONS)
        np.testing.assert_array_equal(consume(gpu, y), reference.conv(X, W, **OPTIONS))


class DeviceViews:
    """A strided view of a produced array."""

    def __init__(self, of: Produced, shape: Any, strides: Any) -> None:
        self.of, self.shape, self.strides = of, shape, strides

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return self.of.__cuda_array_interface__ | {"shape": self.shape, "strides": self.strides}


def test_winograd_has_memory_of_its_own_on_each_stream(gpu: Gpu):
    """A layer's weights at the points are there for every stream."""
    x, w, b = integer_arrays(PADDED)
    w, y = 4 * w, reference.conv(x, 4 * w, b, padding=1)
    with minimal(2):
        layer = nc.prepare(w, b, padding=1, precision="fast")
        for stream in (4, 5, 4):
            results = [
                nc.conv(*(Produced(a, stream) for a in (x, w, b)), padding=1, precision="fast"),
                layer(Produced(x, stream)),
            ]
            for result in results:
                np.testing.assert_array_equal(consume(gpu, result), y)
    passes = [launch for launch in gpu.launches if launch.key.startswith("evaluation of weights")]
    assert len(passes) == 3 + 1
    assert {launch.stream for launch in gpu.launches if launch.key.startswith("inter")} == {4, 5}


def test_a_result_keeps_the_stream_that_it_was_given(gpu: Gpu):
    class Theirs:
        ptr = 9

    given = Theirs()
    y = nc.conv(to_device(X), to_device(W), **OPTIONS, stream=given)
    assert y.given_stream is given
    assert not any(kept.given for kept in workspace._kept.values())


# Memory.


def allocations(gpu: Gpu, call: Callable[[], Any]) -> int:
    before = gpu.allocations
    call()
    return gpu.allocations - before


def calls_with_out() -> Iterator[Any]:
    """(name, call, out, expected), each with something that must be laid out or kept."""
    x, w, b = integer_arrays(PADDED)
    on = (to_device(x), to_device(w), to_device(b))
    options, shape = PADDED.kwargs, PADDED.output
    exact = reference.conv(x, w, b, **options)
    out = to_device(np.zeros(shape, "f4"))
    yield "padded weights, split sums", lambda: nc.conv(*on, **options, out=out), out, exact
    case = problem("together", (1, 4, 4, 5), (5, 4, 3, 3), bias=True, padding=1)
    arrays = integer_arrays(case)
    there, together = [to_device(a) for a in arrays], to_device(np.zeros(case.output, "f4"))

    def bring() -> None:
        with bringing():
            nc.conv(*there, **case.kwargs, out=together)
        assert any(launch.key.startswith("transposition") for launch in GPU.launches)

    yield "channels brought together", bring, together, reference.conv(*arrays, **case.kwargs)
    weights = to_device(4 * w)

    def minimally() -> None:
        with minimal(2):
            nc.conv(on[0], weights, on[2], **options, out=fast, precision="fast")
        assert any(launch.key.startswith("interpolation") for launch in GPU.launches)

    fast = to_device(np.zeros(shape, "f4"))
    yield "winograd", minimally, fast, reference.conv(x, 4 * w, b, **options)
    last = to_device(np.zeros((*exact[0].shape[1:], 5), "f4").reshape(1, 4, 5, 5))
    in_front = DeviceViews(
        Plain(last), shape, np.moveaxis(np.zeros(last.shape, "f4"), -1, 1).strides
    )
    yield "strided out", lambda: nc.conv(*on, **options, out=in_front), last, last_of(exact)
    back = to_device(np.zeros(x.shape, "f4"))
    g = to_device(exact.astype("f4"))
    yield (
        "transposed",
        lambda: nc.conv_transpose2d(g, on[1], padding=1, out=back),
        back,
        reference.conv_transpose(exact.astype("f4"), w, padding=1),
    )


def last_of(y: Array) -> Array:
    return np.moveaxis(y, 1, -1)


class Plain:
    """An array as it is, for a view of it."""

    def __init__(self, array: DeviceArray) -> None:
        self.__cuda_array_interface__ = array.__cuda_array_interface__
        self.array = array


def test_with_out_nothing_is_allocated_after_the_first_call(gpu: Gpu):
    with forced(*PRODUCT):
        for name, call, out, exact in calls_with_out():
            assert allocations(gpu, call) > 0, name
            for _ in range(2):
                assert allocations(gpu, call) == 0, name
            np.testing.assert_array_equal(out.copy_to_host(), exact)


def test_a_smaller_call_takes_the_memory_of_a_larger_one(gpu: Gpu):
    with forced(*PRODUCT):
        x, w, b = (to_device(a) for a in integer_arrays(PADDED))
        small = to_device(integer_arrays(PADDED)[0][:, :, :2])
        for size in (4, 2):  # plans and their jobs, which stay
            nc.conv(x if size == 4 else small, w, b, padding=1)
        outs = [to_device(np.zeros((1, 5, size, 5), "f4")) for size in (2, 4)]

        def both() -> None:
            nc.conv(small, w, b, padding=1, out=outs[0])
            nc.conv(x, w, b, padding=1, out=outs[1])

        assert allocations(gpu, both) == 0


def test_calls_within_each_other_do_not_share_memory():
    with workspace.work_on({}, None):
        pass  # what it had is kept, and lent to the next
    with workspace.work_on({}, None) as outer, workspace.work_on({}, None) as inner:
        a, b = (w.buffer("input", 8, np.dtype("f4")) for w in (outer, inner))
        assert outer is not inner
        assert not np.may_share_memory(a, b)


def test_the_stream_of_each_thread_has_memory_of_its_own():
    found: list[Any] = []

    def call() -> None:
        with workspace.work_on({}, 2) as mine:
            found.append(mine)
        with workspace.work_on({}, 2) as mine:
            found.append(mine)

    for _ in range(2):
        thread = threading.Thread(target=call)
        thread.start()
        thread.join()
    assert found[0] is found[1]
    assert found[2] is found[3]
    assert found[0] is not found[2]


def test_a_full_device_takes_what_is_kept(gpu: Gpu, monkeypatch: pytest.MonkeyPatch):
    with workspace.work_on({}, 5) as kept:
        kept.buffer("input", 1 << 20, np.dtype("u1"))
    del kept
    monkeypatch.setattr(gpu.memory, "size", gpu.memory.top + (1 << 19))
    full = gpu.memory.allocate

    def allocate(size: int, skew: int = 0) -> int:
        if gpu.memory.live and max(gpu.memory.live.values()) >= 1 << 20:
            raise MemoryError("CUDA_ERROR_OUT_OF_MEMORY")
        monkeypatch.setattr(gpu.memory, "size", 1 << 26)
        return full(size, skew)

    monkeypatch.setattr(gpu.memory, "allocate", allocate)
    with workspace.work_on({}, 6) as mine:
        assert mine.allocate(1 << 20, np.dtype("u1")).size == 1 << 20


def keep(size: int, stream: int) -> None:
    """Leave some bytes to calls to come."""
    with workspace.work_on({}, stream) as mine:
        mine.buffer("input", size, np.dtype("u1"))


def test_what_is_kept_is_released(gpu: Gpu):
    nc.release_memory()
    gpu.count = 2
    before = set(gpu.memory.live)
    inside, done = threading.Event(), threading.Event()

    def call() -> None:
        keep(1 << 12, 2)
        inside.set()
        done.wait(60)

    thread = threading.Thread(target=call)
    thread.start()
    try:
        assert inside.wait(60)
        keep(1 << 10, 5)
        with cuda.gpus[1]:
            keep(1 << 11, 5)
        assert nc.release_memory() == (1 << 10) + (1 << 11) + (1 << 12)
        assert set(gpu.memory.live) == before
        assert nc.release_memory() == 0
    finally:
        done.set()
        thread.join()


def test_a_call_keeps_its_memory_while_others_release(gpu: Gpu):
    nc.release_memory()
    with workspace.work_on({}, 5) as mine:
        flat = mine.buffer("input", 100, np.dtype("u1"))
        assert nc.release_memory() == 0
        assert gpu.memory.owner(flat.__array_interface__["data"][0]) is not None
        assert np.shares_memory(mine.buffer("input", 50, np.dtype("u1")), flat)
    assert nc.release_memory() == 100

    errors: list[BaseException] = []
    stop = threading.Event()

    def lend(stream: int) -> None:
        try:
            while not stop.is_set():
                keep(16, stream)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=lend, args=(stream,)) for stream in (2, 2, 5, 5)]
    for thread in threads:
        thread.start()
    for _ in range(300):
        assert nc.release_memory() % 16 == 0
    stop.set()
    for thread in threads:
        thread.join()
    assert not errors
    nc.release_memory()


# Devices.


def test_a_call_runs_on_the_device_of_its_arrays(gpu: Gpu):
    gpu.count = 2
    layer = nc.prepare(W, B, **OPTIONS)
    for number in (1, 0, 1):
        with cuda.gpus[number]:
            x, w, b = to_device(X), to_device(W), to_device(B)
            out = to_device(np.zeros(Y.shape, "f4"))
        nc.conv(x, w, b, **OPTIONS, out=out)
        assert cuda.get_current_device().id == 0
        with cuda.gpus[number]:
            np.testing.assert_array_equal(out.copy_to_host(), Y)
        y = layer(x)
        with cuda.gpus[number]:
            np.testing.assert_array_equal(y.copy_to_host(), Y)
    assert [launch.device for launch in gpu.launches] == [1, 1, 0, 0, 1, 1]


def test_arrays_on_two_devices_are_refused(gpu: Gpu):
    gpu.count = 2
    x = to_device(X)
    with cuda.gpus[1]:
        w = to_device(W)
    with pytest.raises(ValueError, match=r"one GPU; got input on GPU 0, weight on GPU 1"):
        nc.conv(x, w, **OPTIONS)
    out = to_device(np.zeros(Y.shape, "f4"))
    with cuda.gpus[1]:
        there = to_device(X)
    with pytest.raises(ValueError, match="x on GPU 1, out on GPU 0"):
        nc.prepare(W, **OPTIONS)(there, out=out)
    assert not gpu.launches


# The benchmark.


@pytest.mark.parametrize("precision", ["ieee", "fast"])
@pytest.mark.parametrize("gradient", ["", "input", "weight"])
def test_the_benchmark_measures_a_row(
    gradient: str, precision: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(compare_cuda, "ROTATED_BYTES", 4000)
    name = "M1-" + gradient if gradient else "M1"
    layer = Layer(name, "small", 1, 2, (6, 7), 2, (3, 3), padding=1, groups=2)
    row = compare_cuda.measure(layer, precision, 0.0)
    assert row is not None
    assert row.seconds["nc"] > 0
    assert compare_cuda.line(row, 1e12, 1e12).startswith("M1")
