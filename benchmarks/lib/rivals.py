"""The libraries that are timed, each behind the same door.

`RIVALS` maps a name to a loader. A loader imports its library (so that an absent one costs
nothing but an ImportError) and returns a function ``prepare(layer, x, w)``, which does all that a
user can do ahead of the call and returns a `Call`, or None where the library has no such
convolution.
"""

import math
import timeit
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from benchmarks.lib.layers import Layer, output_gradient


class Call(NamedTuple):
    """A convolution that is ready to be timed."""

    run: Callable[[], Any]
    """Do the convolution once."""
    to_numpy: Callable[[Any], Any] = np.asarray
    """Turn what `run` returned into an array of shape `layer.result_shape`; not timed."""


Prepare = Callable[[Layer, Any, Any], Call | None]


def numbaconv(prepared: bool = False, **options: Any) -> Prepare:
    """Load numbaconv, as plain calls or as prepared layers, on the backend that `options` name."""
    import numbaconv as nc

    if prepared and not hasattr(nc, "prepare"):
        raise ImportError("this numbaconv has no prepare")

    def gradient(layer: Layer, x: Any, w: Any) -> Call:
        function = getattr(nc.grad, f"conv{layer.rank}d_{layer.gradient}")
        g, kwargs = output_gradient(layer, x.dtype), layer.conv_kwargs | options
        if layer.gradient == "input":
            return Call(lambda: function(x.shape, w, g, **kwargs))
        return Call(lambda: function(x, w.shape, g, **kwargs))

    def prepare(layer: Layer, x: Any, w: Any) -> Call | None:
        if layer.gradient:
            return None if prepared else gradient(layer, x, w)
        if prepared:
            ready = nc.prepare(w, **layer.conv_kwargs, **options)
            return Call(lambda: ready(x))
        conv = getattr(nc, f"conv{layer.rank}d")
        kwargs = layer.conv_kwargs | options
        return Call(lambda: conv(x, w, **kwargs))

    return prepare


def torch(threads: int, channels_last: bool = False) -> Prepare:
    """Load PyTorch; its tensors are made, and laid out, ahead of the call."""
    import torch

    torch.set_num_threads(threads)

    def gradient(layer: Layer, x: Any, w: Any, g: Any) -> Call:
        per_axis = map(layer.per_axis, ("stride", "padding", "dilation"))
        wanted = [layer.gradient == "input", layer.gradient == "weight", False]
        options = (None, *per_axis, False, [0] * layer.rank, layer.groups, wanted)

        @torch.inference_mode()
        def run() -> Any:
            return torch.ops.aten.convolution_backward(g, x, w, *options)

        return Call(run, lambda results: results[wanted.index(True)].numpy())

    def prepare(layer: Layer, x: Any, w: Any) -> Call | None:
        x, w = torch.from_numpy(x), torch.from_numpy(w)
        if channels_last:
            if layer.rank == 1:
                return None
            form = torch.channels_last if layer.rank == 2 else torch.channels_last_3d
            x, w = (a.contiguous(memory_format=form) for a in (x, w))
        if layer.gradient:
            g = torch.from_numpy(output_gradient(layer, x.numpy().dtype))
            return gradient(layer, x, w, g.contiguous(memory_format=form) if channels_last else g)
        conv = getattr(torch.nn.functional, f"conv{layer.rank}d")
        kwargs = layer.conv_kwargs

        @torch.inference_mode()
        def run() -> Any:
            return conv(x, w, **kwargs)

        return Call(run, lambda y: y.numpy())

    return prepare


def onnxruntime(threads: int) -> Prepare:
    """Load onnxruntime: a model of one node, its weights packed when the session is made."""
    import onnxruntime as ort
    from onnx import helper, numpy_helper
    from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as NoSuchKernel

    def session(layer: Layer, w: Any) -> Any:
        element = helper.np_dtype_to_tensor_dtype(w.dtype)
        node = helper.make_node(
            "Conv",
            ["x", "w"],
            ["y"],
            kernel_shape=layer.kernel,
            strides=layer.per_axis("stride"),
            pads=layer.per_axis("padding") * 2,
            dilations=layer.per_axis("dilation"),
            group=layer.groups,
        )
        graph = helper.make_graph(
            [node],
            layer.id,
            [helper.make_tensor_value_info("x", element, layer.input_shape)],
            [helper.make_tensor_value_info("y", element, layer.output_shape)],
            [numpy_helper.from_array(w, "w")],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        return ort.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def prepare(layer: Layer, x: Any, w: Any) -> Call | None:
        if layer.gradient:
            return None
        try:
            model = session(layer, w)
        except NoSuchKernel:  # float64
            return None
        x = ort.OrtValue.ortvalue_from_numpy(x)
        y = ort.OrtValue.ortvalue_from_shape_and_type(layer.output_shape, w.dtype, "cpu")
        binding = model.io_binding()
        binding.bind_ortvalue_input("x", x)
        binding.bind_ortvalue_output("y", y)

        def bound() -> Any:
            model.run_with_iobinding(binding)
            return y

        def plain() -> Any:
            return model.run_with_ort_values(["y"], {"x": x})[0]

        # Which is faster depends on the size of the output: the plain call allocates it every time.
        return Call(min(bound, plain, key=_quick_time), lambda y: y.numpy())

    return prepare


def opencv(threads: int) -> Prepare:
    """Load OpenCV: ``filter2D`` for one filter for each channel, channel by channel."""
    import cv2

    cv2.setNumThreads(threads)

    def prepare(layer: Layer, x: Any, w: Any) -> Call | None:
        crop = _crop(layer)
        if crop is None or layer.rank > 2:
            return None
        flat = (1,) * (2 - layer.rank)
        images, kernels = x.reshape(-1, *flat, *layer.size), w.reshape(-1, *flat, *layer.kernel)
        pairs = [(image, kernels[i % layer.c_in]) for i, image in enumerate(images)]
        y = np.empty_like(images)

        def run() -> Any:
            for (image, kernel), result in zip(pairs, y, strict=True):
                cv2.filter2D(image, -1, kernel, result, borderType=cv2.BORDER_CONSTANT)
            return y

        return Call(run, lambda y: y.reshape(x.shape)[crop])

    return prepare


def scipy() -> Prepare:
    """Load SciPy: ``ndimage.correlate`` for one filter on one channel."""
    from scipy.ndimage import correlate

    def prepare(layer: Layer, x: Any, w: Any) -> Call | None:
        crop = _crop(layer)
        if crop is None or layer.n * layer.c_in > 1:
            return None
        image, kernel = x[0, 0], w[0, 0]
        return Call(
            lambda: correlate(image, kernel, mode="constant"),
            lambda y: y[np.newaxis, np.newaxis][crop],
        )

    return prepare


def scipy_transforms(name: str, threads: int) -> Prepare:
    """Load SciPy's ``fftconvolve`` or ``oaconvolve``, for large filters without a stride.

    One filter of each channel is one call along the spatial axes. So is a dense layer of
    ``oaconvolve``: of all pairs of channels, whose results are added up. Beside ``fftconvolve``
    stands what it does, with each channel transformed once, and sums of spectra.
    """
    import scipy.fft
    import scipy.signal

    convolve = getattr(scipy.signal, name)

    def prepare(layer: Layer, x: Any, w: Any) -> Call | None:
        filters = layer.groups == layer.c_in == layer.c_out
        steps = (*layer.per_axis("stride"), *layer.per_axis("dilation"))
        padding, kernel = layer.per_axis("padding"), layer.kernel
        modes = {"valid": (0,) * layer.rank, "same": tuple((k - 1) // 2 for k in kernel)}
        mode = next((mode for mode, p in modes.items() if p == padding), None)
        known = mode and max(steps) == 1 and not layer.gradient and _is_large(layer)
        if not known or (layer.groups > 1 and not filters):
            return None
        axes = tuple(range(-layer.rank, 0))
        flipped = np.ascontiguousarray(np.flip(w, axes))
        pairs = np.broadcast_to(x[:, None], (layer.n, layer.c_out, *x.shape[1:]))
        whole = [n + k - 1 for n, k in zip(layer.size, kernel, strict=True)]
        lengths = [scipy.fft.next_fast_len(n, real=True) for n in whole]
        shown = (
            slice(k - 1 - p, n - k + 1 + p) for k, p, n in zip(kernel, padding, whole, strict=True)
        )
        crop = (..., *shown)

        def sum_spectra() -> Any:
            spectra, weights = (scipy.fft.rfftn(a, lengths, axes) for a in (x, flipped))
            sums = np.einsum("nc...,oc...->no...", spectra, weights)
            return scipy.fft.irfftn(sums, lengths, axes)[crop]

        def run() -> Any:
            with scipy.fft.set_workers(threads):
                if filters:
                    return convolve(x, flipped.swapaxes(0, 1), mode, axes)
                if name == "fftconvolve":
                    return sum_spectra()
                return convolve(pairs, flipped[None], mode, axes).sum(2)

        return Call(run)

    return prepare


def _is_large(layer: Layer) -> bool:
    """Whether a filter has taps enough for transforms."""
    return math.prod(layer.kernel) >= 64


def transforms() -> Prepare:
    """Load numbaconv's transforms, for large filters."""
    prepare = numbaconv(backend="fft")
    return lambda layer, x, w: prepare(layer, x, w) if _is_large(layer) else None


def minimal_filters() -> Prepare:
    """Load numbaconv's minimal filtering, prepared, for dense layers of kernels of 3."""
    prepare = numbaconv(prepared=True, backend="winograd")

    def serves(layer: Layer) -> bool:
        steps = *layer.per_axis("stride"), *layer.per_axis("dilation")
        return max(steps) == 1 < max(layer.kernel) == 3 and layer.groups < layer.c_in

    return lambda layer, x, w: prepare(layer, x, w) if serves(layer) else None


def _crop(layer: Layer) -> tuple[Any, ...] | None:
    """Where a filter that keeps the image's size holds the layer's output; None if nowhere."""
    filters = layer.groups == layer.c_in == layer.c_out and not layer.gradient
    if not filters or max(*layer.per_axis("stride"), *layer.per_axis("dilation")) > 1:
        return None
    starts = [k // 2 - p for k, p in zip(layer.kernel, layer.per_axis("padding"), strict=True)]
    if min(starts) < 0:
        return None
    return (..., *(slice(a, a + n) for a, n in zip(starts, layer.output_shape[2:], strict=True)))


def _quick_time(run: Callable[[], Any]) -> float:
    """Best time of a few calls, in seconds."""
    return min(timeit.repeat(run, number=1, repeat=3))


RIVALS: dict[str, Callable[[int], Prepare]] = {
    "torch": torch,
    "torch-cl": lambda threads: torch(threads, channels_last=True),
    "onnxruntime": onnxruntime,
    "opencv": opencv,
    "scipy": lambda threads: scipy(),
    "scipy-fft": lambda threads: scipy_transforms("fftconvolve", threads),
    "scipy-oa": lambda threads: scipy_transforms("oaconvolve", threads),
}
"""The other libraries, by name; each loader takes the number of threads."""

OURS: dict[str, Callable[[int], Prepare]] = {
    "nc": lambda threads: numbaconv(),
    "nc-prep": lambda threads: numbaconv(prepared=True),
    "nc-direct": lambda threads: numbaconv(backend="direct"),
    "nc-im2col": lambda threads: numbaconv(backend="im2col"),
    "nc-fft": lambda threads: transforms(),
    "nc-winograd": lambda threads: minimal_filters(),
}
"""numbaconv: its own choice, its own choice prepared, and each backend forced.

The threads are those of ``NUMBA_NUM_THREADS``, which the worker process is started with.
"""
