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

from benchmarks.lib.layers import Layer, select

ROTATED_BYTES = 256 << 20  # several times the largest second-level cache
MOST_BYTES = 24 << 30
PRECISIONS = {"ieee": "float32", "tf32": "float32", "fast": "float32", "float16": "float16"}
# Largest error that is let through, in units of the sum of the products' magnitudes.
TOLERANCE = {"ieee": 1e-5, "tf32": 2e-3, "fast": 2e-3, "float16": 2e-3}
CHECKED_OUTPUTS = 500
CHECKED_WEIGHTS = 50  # of a weight gradient, each the sum over a whole batch
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


def check(layer: Layer, a: Any, b: Any, y: Any, precision: str) -> None:
    """Compare outputs at random places with the definition in float64; none may be NaN."""
    if not np.all(np.isfinite(y)):
        raise ValueError("outputs that were not stored, or are not finite")
    of = {"input": input_products, "weight": weight_products}.get(layer.gradient, output_products)
    rng = np.random.default_rng(1)
    count = CHECKED_WEIGHTS if layer.gradient == "weight" else CHECKED_OUTPUTS
    places = [tuple(rng.integers(0, s) for s in y.shape) for _ in range(count)]
    for place in (*places, (0,) * y.ndim, tuple(s - 1 for s in y.shape)):
        products = of(layer, a, b, place)
        exact, magnitude = float(products.sum()), float(np.abs(products).sum())
        if abs(float(y[place]) - exact) > TOLERANCE[precision] * (magnitude + 1e-3):
            raise ValueError(f"output {place} is {y[place]}, and should be {exact}")


def output_products(layer: Layer, x: Any, w: Any, place: tuple[int, ...]) -> Any:
    """Return all products of an output, in float64."""
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
    return seen * w[oc][np.ix_(channels, *taps)].astype("f8")


def input_products(layer: Layer, g: Any, w: Any, place: tuple[int, ...]) -> Any:
    """Return all products of an element of the input's gradient: the outputs that read it."""
    n, ic, *at = place
    group, c = divmod(ic, layer.c_in // layer.groups)
    per_group = layer.c_out // layer.groups
    channels = group * per_group + np.arange(per_group)
    outputs, taps = [], []
    for p, out, k in zip(at, layer.output_shape[2:], layer.kernel, strict=True):
        first, past = np.divmod(p + layer.padding - layer.dilation * np.arange(k), layer.stride)
        reads = (past == 0) & (first >= 0) & (first < out)
        outputs.append(first[reads])
        taps.append(np.arange(k)[reads])
    sent = g[n][np.ix_(channels, *outputs)].astype("f8")
    return sent * w[:, c][np.ix_(channels, *taps)].astype("f8")


def weight_products(layer: Layer, x: Any, g: Any, place: tuple[int, ...]) -> Any:
    """Return all products of a weight's gradient: one for each pixel whose tap is inside."""
    oc, c, *tap = place
    channel = oc // (layer.c_out // layer.groups) * (layer.c_in // layer.groups) + c
    outputs, reads = [], []
    for t, size, out in zip(tap, layer.size, layer.output_shape[2:], strict=True):
        where = np.arange(out) * layer.stride - layer.padding + t * layer.dilation
        inside = (where >= 0) & (where < size)
        outputs.append(np.arange(out)[inside])
        reads.append(where[inside])
    images = np.arange(layer.n)
    factors = g[:, oc][np.ix_(images, *outputs)].astype("f8")
    return factors * x[:, channel][np.ix_(images, *reads)].astype("f8")


def ours(layer: Layer, firsts: list[Any], others: list[Any], precision: str) -> Any:
    """Plain calls of numbaconv on arrays that are on the device."""
    from numba import cuda

    import numbaconv as nc

    there = [[cuda.to_device(array) for array in arrays] for arrays in (firsts, others)]
    options = {"precision": "ieee" if precision == "float16" else precision, "backend": "cuda"}
    options |= layer.conv_kwargs
    if layer.gradient:
        function = getattr(nc.grad, f"conv{layer.rank}d_{layer.gradient}")

        def gradient(i: int) -> Any:
            a, b = (arrays[i % len(arrays)] for arrays in there)
            if layer.gradient == "input":
                return function(layer.input_shape, b, a, **options)
            return function(a, layer.weight_shape, b, **options)

        return gradient
    poison = np.full(layer.output_shape, np.nan, firsts[0].dtype)
    outputs = [cuda.to_device(poison) for _ in firsts]

    def call(i: int) -> Any:
        return nc.conv(there[0][i], there[1][0], out=outputs[i], **options)

    return call


def cudnn(
    layer: Layer, firsts: list[Any], others: list[Any], precision: str, last: bool
) -> Callable[[int], Any] | None:
    """Return the same calls of PyTorch, or None where it is missing or has no such format."""
    try:
        import torch
    except ImportError:
        return None
    if not torch.cuda.is_available() or (last and layer.rank == 1):
        return None
    torch.backends.cudnn.benchmark = True
    allow_tf32 = precision in ("tf32", "fast")
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = allow_tf32
    channels_last = torch.channels_last if layer.rank == 2 else torch.channels_last_3d
    form = channels_last if last else torch.contiguous_format
    there = [
        [torch.from_numpy(a).cuda().contiguous(memory_format=form) for a in arrays]
        for arrays in (firsts, others)
    ]
    if layer.gradient:
        return cudnn_gradient(layer, there, form)
    convolve = getattr(torch.nn.functional, f"conv{layer.rank}d")

    @torch.inference_mode()
    def call(i: int) -> Any:
        return convolve(there[0][i], there[1][0], **layer.conv_kwargs)

    return call


def cudnn_gradient(layer: Layer, there: Any, form: Any) -> Callable[[int], Any]:
    """Return calls of PyTorch's backward convolution, for one of its results."""
    import torch

    per_axis = ([value] * layer.rank for value in (layer.stride, layer.padding, layer.dilation))
    of_input = layer.gradient == "input"
    wanted = [of_input, not of_input, False]
    options = (None, *per_axis, False, [0] * layer.rank, layer.groups, wanted)
    unread = layer.input_shape if of_input else layer.weight_shape  # its shape is what is asked for
    shaped = torch.empty(unread, dtype=there[0][0].dtype, device="cuda").to(memory_format=form)

    @torch.inference_mode()
    def call(i: int) -> Any:
        a, b = (arrays[i % len(arrays)] for arrays in there)
        operands = (a, shaped, b) if of_input else (b, a, shaped)
        return torch.ops.aten.convolution_backward(*operands, *options)[0 if of_input else 1]

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
    shapes = {
        "": (layer.input_shape, layer.weight_shape),
        "input": (layer.output_shape, layer.weight_shape),
        "weight": (layer.input_shape, layer.output_shape),
    }[layer.gradient]
    rng = np.random.default_rng(0)
    pair = [rng.random(shape, "f4").astype(dtype) - dtype.type(0.5) for shape in shapes]
    firsts, others = (
        [array, *(np.roll(array, i + 1, axis=-1) for i in range(rotations - 1))] for array in pair
    )
    if layer.gradient != "weight":
        others = others[:1]  # weights, which stay in the cache between layers too
    calls = {
        "nc": ours(layer, firsts, others, precision),
        "cudnn": cudnn(layer, firsts, others, precision, last=False),
        "cudnn-cl": cudnn(layer, firsts, others, precision, last=True),
    }
    times = {}
    for name, call in calls.items():
        if call is not None:
            check(layer, *pair, to_numpy(call(0)), precision)
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
        calls = {
            "nc": ours(layer, [x], [w], "ieee"),
            "cudnn": cudnn(layer, [x], [w], "ieee", False),
        }
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
        f"{layer.id:10}{layer.n:5} {row.precision:8}{speeds}{row.ratio:8.2f}"
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


def report_gradients(rows: list[Row]) -> None:
    """Print the means of the gradients' ratios, by precision; there are no targets."""
    found: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        if row.layer.gradient and not math.isnan(row.ratio):
            found.setdefault((row.layer.gradient, row.precision), []).append(row.ratio)
    for (of, precision), ratios in sorted(found.items()):
        mean = statistics.geometric_mean(ratios)
        print(f"gradients of the {of}, {precision}: mean {mean:5.2f}, worst {min(ratios):5.2f}")


def problems(
    names: list[str], kinds: str, batches: list[int], backward: bool = False
) -> Iterator[Layer]:
    """Return the layers of the table with each of the batches; images and volumes as they are."""
    for layer in select(names, () if names else kinds, backward):
        if layer.id[0] == "I":
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
    parser.add_argument("--backward", action="store_true", help="both gradients of each row")
    parser.add_argument("--seconds", type=float, default=0.2, help="for each figure")
    return parser.parse_args()


def main() -> int:
    """Measure and print; 1 if a result was wrong."""
    options = parse()
    import numbaconv as nc
    from numbaconv.dispatch.backends import load_backend

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
        f"{'row':10}{'N':>5} {'':8}{'nc':>10}{'cudnn':>10}{'cudnn-cl':>10}"
        f"{'ratio':>8}{'FMA':>8}{'copy':>8}"
    )
    rows, failed = [], False
    names = [name for name in options.rows.split(",") if name]
    batches = [int(n) for n in options.batches.split(",")]
    for layer in problems(names, options.kinds, batches, options.backward):
        for precision in options.precisions.split(","):
            try:
                row = measure(layer, precision, options.seconds)
            except (MemoryError, RuntimeError, ValueError) as error:
                failed |= isinstance(error, ValueError)
                print(f"{layer.id:10}{layer.n:5} {precision:8} failed: {error}")
                continue
            if row is not None:
                rows.append(row)
                print(line(row, fma, copy), flush=True)
    print()
    if options.backward:
        report_gradients(rows)
    else:
        print("small calls, from end to end")
        for text in small_calls(options.seconds):
            print(text)
        print()
        report_targets(rows)
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
