"""Time numbaconv beside cuDNN on a GPU: ``python benchmarks/compare_cuda.py --help``.

Needs numbaconv with its extra ``cuda12`` or ``cuda13``, and PyTorch with CUDA for the rival; it
builds nothing and reads no network. A result is verified, then timed with CUDA events, while the
inputs rotate so that none is still in the second-level cache. A figure is the median of the calls.
"""

import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

if __name__ == "__main__":  # as a script, not as a module of the package `benchmarks`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks.layers import Layer, select

ROTATED_BYTES = 256 << 20  # several times the largest second-level cache
MOST_BYTES = 24 << 30
PRECISIONS = {"ieee": "float32", "tf32": "float32", "float16": "float16"}
# Largest error that is let through, in units of the sum of the products' magnitudes.
TOLERANCE = {"ieee": 1e-5, "tf32": 2e-3, "float16": 2e-3}
CHECKED_OUTPUTS = 500
TARGETS = (  # (name, kinds of rows, precision, geometric mean, worst)
    ("networks, float32", "RVUBC", "ieee", 0.9, 0.6),
    ("networks, tf32", "RVUBC", "tf32", 0.5, 0.0),
    ("networks, float16", "RVUBC", "float16", 0.5, 0.0),
    ("depthwise and images, float32", "MI", "ieee", 1.0, 0.0),
)


class Row(NamedTuple):
    """One measured problem."""

    layer: Layer
    precision: str
    seconds: dict[str, float]

    @property
    def ratio(self) -> float:
        """Speed of numbaconv over that of the rival's best memory format."""
        rivals = [s for name, s in self.seconds.items() if name != "nc"]
        return min(rivals) / self.seconds["nc"] if rivals else math.nan


def median_time(call: Callable[[int], Any], rotations: int, seconds: float) -> float:
    """Median time of a call on the device, in seconds."""
    from numba import cuda

    for i in range(max(3, rotations)):
        call(i % rotations)
    cuda.synchronize()
    times, end, i = [], time.perf_counter() + seconds, 0
    while len(times) < 20 or time.perf_counter() < end:
        begin, finish = cuda.event(), cuda.event()
        begin.record()
        call(i % rotations)
        finish.record()
        finish.synchronize()
        times.append(begin.elapsed_time(finish) / 1e3)
        i += 1
    return statistics.median(times)


def check(layer: Layer, x: Any, w: Any, y: Any, precision: str) -> None:
    """Compare outputs at random places with the definition in float64; none may be NaN."""
    if not np.all(np.isfinite(y)):
        raise ValueError("outputs that were not stored, or are not finite")
    rng = np.random.default_rng(1)
    places = [tuple(rng.integers(0, s) for s in y.shape) for _ in range(CHECKED_OUTPUTS)]
    for place in (*places, (0,) * y.ndim, tuple(s - 1 for s in y.shape)):
        exact, magnitude = one_output(layer, x, w, place)
        if abs(float(y[place]) - exact) > TOLERANCE[precision] * (magnitude + 1e-3):
            raise ValueError(f"output {place} is {y[place]}, and should be {exact}")


def one_output(layer: Layer, x: Any, w: Any, place: tuple[int, ...]) -> tuple[float, float]:
    """Return an output, worked out tap by tap, and the sum of its products' magnitudes."""
    n, oc, *at = place
    c_group = layer.c_in // layer.groups
    first = oc // (layer.c_out // layer.groups) * c_group
    reads, taps = [], []
    for o, size, k in zip(at, layer.size, layer.kernel, strict=True):
        where = o * layer.stride - layer.padding + layer.dilation * np.arange(k)
        inside = (where >= 0) & (where < size)
        reads.append(where[inside])
        taps.append(np.arange(k)[inside])
    channels = np.arange(c_group)
    seen = x[n][np.ix_(first + channels, *reads)].astype("f8")
    products = seen * w[oc][np.ix_(channels, *taps)].astype("f8")
    return float(products.sum()), float(np.abs(products).sum())


def ours(layer: Layer, xs: list[Any], w: Any, precision: str) -> Callable[[int], Any]:
    """Plain calls of numbaconv on arrays that are on the device."""
    from numba import cuda

    import numbaconv as nc

    inputs, weight = [cuda.to_device(x) for x in xs], cuda.to_device(w)
    poison = np.full(layer.output_shape, np.nan, w.dtype)
    outputs = [cuda.to_device(poison) for _ in xs]
    how = "tf32" if precision == "tf32" else "ieee"

    def call(i: int) -> Any:
        nc.conv(
            inputs[i], weight, **layer.conv_kwargs, out=outputs[i], precision=how, backend="cuda"
        )
        return outputs[i]

    return call


def cudnn(layer: Layer, xs: list[Any], w: Any, precision: str, last: bool) -> Any:
    """Return the same calls of PyTorch, or None where it is missing or has no such format."""
    try:
        import torch
    except ImportError:
        return None
    if not torch.cuda.is_available() or (last and layer.rank == 1):
        return None
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    channels_last = torch.channels_last if layer.rank == 2 else torch.channels_last_3d
    form = channels_last if last else torch.contiguous_format
    weight = torch.from_numpy(w).cuda().contiguous(memory_format=form)
    inputs = [torch.from_numpy(x).cuda().contiguous(memory_format=form) for x in xs]
    convolve = getattr(torch.nn.functional, f"conv{layer.rank}d")

    @torch.inference_mode()
    def call(i: int) -> Any:
        return convolve(inputs[i], weight, **layer.conv_kwargs)

    return call


def to_numpy(array: Any) -> Any:
    """Copy a device array of either library to the host."""
    return array.copy_to_host() if hasattr(array, "copy_to_host") else array.cpu().numpy()


def measure(layer: Layer, precision: str, seconds: float) -> Row | None:
    """Verify and time one problem; None if it does not fit on the device."""
    dtype = np.dtype(PRECISIONS[precision])
    rotations = max(1, min(32, ROTATED_BYTES // (layer.elements * dtype.itemsize) + 1))
    if layer.elements * dtype.itemsize * (rotations + 1) > MOST_BYTES:
        return None
    rng = np.random.default_rng(0)
    xs = [rng.random(layer.input_shape, "f4").astype(dtype) - dtype.type(0.5)] * 1
    xs += [np.roll(xs[0], i + 1, axis=-1) for i in range(rotations - 1)]
    w = (rng.random(layer.weight_shape, "f4") - 0.5).astype(dtype)
    calls = {
        "nc": ours(layer, xs, w, precision),
        "cudnn": cudnn(layer, xs, w, precision, last=False),
        "cudnn-cl": cudnn(layer, xs, w, precision, last=True),
    }
    times = {}
    for name, call in calls.items():
        if call is not None:
            check(layer, xs[0], w, to_numpy(call(0)), precision)
            times[name] = median_time(call, rotations, seconds)
    return Row(layer, precision, times)


def fma_limit() -> float:
    """Measure the FLOP/s of multiply-adds in registers."""
    from numba import cuda, float32

    @cuda.jit
    def multiply_add(out: Any, factor: Any, rounds: int) -> None:
        a = b = c = d = e = f = g = h = float32(cuda.threadIdx.x)
        for _ in range(rounds):
            a, b, c, d = a * factor + a, b * factor + b, c * factor + c, d * factor + d
            e, f, g, h = e * factor + e, f * factor + f, g * factor + g, h * factor + h
        if a + b + c + d + e + f + g + h == factor:  # never, but the compiler cannot know
            out[0] = a

    out = cuda.device_array(1, np.float32)
    processors = cuda.get_current_device().MULTIPROCESSOR_COUNT
    blocks, threads, rounds = processors * 8, 256, 20_000
    factor = np.float32(1e-30)
    seconds = median_time(lambda i: multiply_add[blocks, threads](out, factor, rounds), 1, 0.5)
    return 16.0 * rounds * blocks * threads / seconds


def copy_limit() -> float:
    """Measure the bytes a second, read and written, of a copy on the device."""
    from numba import cuda

    source = cuda.to_device(np.ones(1 << 27, np.float32))
    target = cuda.device_array_like(source)
    return 2.0 * source.nbytes / median_time(lambda i: target.copy_to_device(source), 1, 0.5)


def small_calls(seconds: float) -> Iterator[str]:
    """Time tiny calls from end to end, on the host's clock: what the library itself takes."""
    from numba import cuda

    for layer in select(kinds="Q"):
        rng = np.random.default_rng(0)
        x = rng.random(layer.input_shape, "f4")
        w = rng.random(layer.weight_shape, "f4")
        calls = {"nc": ours(layer, [x], w, "ieee"), "cudnn": cudnn(layer, [x], w, "ieee", False)}
        parts = [f"{layer.id:4}"]
        for name, call in calls.items():
            if call is None:
                continue
            for _ in range(20):
                call(0)
            cuda.synchronize()
            times, end = [], time.perf_counter() + seconds
            while time.perf_counter() < end:
                start = time.perf_counter()
                call(0)
                cuda.synchronize()
                times.append(time.perf_counter() - start)
            parts.append(f"{name} {statistics.median(times) * 1e6:8.1f} us")
        yield "  ".join(parts)


def line(row: Row, fma: float, copy: float) -> str:
    """Write a row of the table."""
    layer, seconds = row.layer, row.seconds
    itemsize = np.dtype(PRECISIONS[row.precision]).itemsize
    speeds = "".join(
        f"{layer.flops / seconds[name] / 1e12:10.2f}" if name in seconds else f"{'-':>10}"
        for name in ("nc", "cudnn", "cudnn-cl")
    )
    of_fma = layer.flops / seconds["nc"] / fma
    of_copy = layer.elements * itemsize / seconds["nc"] / copy
    return (
        f"{layer.id:4}{layer.n:5} {row.precision:8}{speeds}{row.ratio:8.2f}"
        f"{of_fma:8.0%}{of_copy:8.0%}  {layer.what}"
    )


def report_targets(rows: list[Row]) -> None:
    """Print what was meant to be reached, at N = 32, beside what was."""
    for name, kinds, precision, mean, worst in TARGETS:
        ratios = [
            row.ratio
            for row in rows
            if row.layer.kind in kinds
            and row.precision == precision
            and (row.layer.n == 32 or row.layer.kind == "I")
            and not math.isnan(row.ratio)
        ]
        if ratios:
            reached = statistics.geometric_mean(ratios)
            met = reached >= mean and min(ratios) >= worst
            print(
                f"{name:32} mean {reached:5.2f} (target {mean}), worst {min(ratios):5.2f} "
                f"(target {worst}) {'met' if met else 'NOT MET'}"
            )


def problems(names: list[str], kinds: str, batches: list[int]) -> Iterator[Layer]:
    """Return the layers of the table with each of the batches; images and volumes as they are."""
    for layer in select(names, () if names else kinds):
        if layer.kind == "I":
            yield layer
        else:
            yield from (layer._replace(n=n) for n in batches)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", default="", help="rows by id, such as R3,V1")
    parser.add_argument("--kinds", default="RVUBCMI", help="rows by kind, such as RV")
    parser.add_argument("--batches", default="1,32,128")
    parser.add_argument("--precisions", default="ieee,tf32,float16")
    parser.add_argument("--seconds", type=float, default=0.2, help="for each figure")
    return parser.parse_args()


def main() -> int:
    """Measure and print; 1 if a result was wrong."""
    options = parse()
    import numbaconv as nc
    from numbaconv.dispatch import load_backend

    try:
        load_backend("cuda")
    except nc.BackendUnavailableError as error:
        print(f"no CUDA device: nothing was measured ({error})")
        return 0
    nc.show_config()
    fma, copy = fma_limit(), copy_limit()
    print(
        f"\nlimits measured here: {fma / 1e12:.1f} TFLOP/s float32, {copy / 1e12:.2f} TB/s copied"
    )
    print("TFLOP/s; ratio: numbaconv over the better of cuDNN's formats; of FMA: the float32 limit")
    print(
        f"{'row':4}{'N':>5} {'':8}{'nc':>10}{'cudnn':>10}{'cudnn-cl':>10}"
        f"{'ratio':>8}{'FMA':>8}{'copy':>8}"
    )
    rows, failed = [], False
    names = [name for name in options.rows.split(",") if name]
    for layer in problems(names, options.kinds, [int(n) for n in options.batches.split(",")]):
        for precision in options.precisions.split(","):
            try:
                row = measure(layer, precision, options.seconds)
            except (MemoryError, RuntimeError, ValueError) as error:
                failed |= isinstance(error, ValueError)
                print(f"{layer.id:4}{layer.n:5} {precision:8} failed: {error}")
                continue
            if row is not None:
                rows.append(row)
                print(line(row, fma, copy), flush=True)
    print("\nsmall calls, from end to end")
    for text in small_calls(options.seconds):
        print(text)
    print()
    report_targets(rows)
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
