"""The definition of a convolution in plain loops and float64: every library has to agree.

It shares nothing with numbaconv: no padding, packing or shape code.
"""

from typing import Any

import numba as nb
import numpy as np

from benchmarks.lib.layers import Layer, output_gradient


@nb.njit(parallel=True, fastmath={"contract"})
def _convolve(
    x: Any, w: Any, y: Any, stride: Any, padding: Any, dilation: Any, groups: int
) -> None:
    """Add to y, which is zero, every product of the definition; a task is one row of y.

    x is (N, C_in, D, H, W), w is (C_out, C_in/groups, KD, KH, KW), y is (N, C_out, OD, OH, OW).
    """
    N, C_out, OD, OH, OW = y.shape
    _, _, D, H, W = x.shape
    _, C_g, KD, KH, KW = w.shape
    for task in nb.prange(N * C_out * OD * OH):
        plane, oh = divmod(nb.int64(task), OH)  # prange counts in unsigned integers
        volume, od = divmod(plane, OD)
        n, oc = divmod(volume, C_out)
        first = oc // (C_out // groups) * C_g
        for ic in range(C_g):
            for kd in range(KD):
                d = od * stride[0] + kd * dilation[0] - padding[0]
                for kh in range(KH):
                    h = oh * stride[1] + kh * dilation[1] - padding[1]
                    if not (0 <= d < D and 0 <= h < H):
                        continue
                    for kw in range(KW):
                        left = kw * dilation[2] - padding[2]
                        lo = max(0, -(left // stride[2]))
                        hi = min(OW, (W - 1 - left) // stride[2] + 1)
                        source = x[n, first + ic, d, h, lo * stride[2] + left :: stride[2]]
                        target = y[n, oc, od, oh, lo:hi]
                        factor = w[oc, ic, kd, kh, kw]
                        for i in range(hi - lo):
                            target[i] += factor * source[i]


@nb.njit(parallel=True, fastmath={"contract"})
def _input_gradient(
    dx: Any, w: Any, g: Any, stride: Any, padding: Any, dilation: Any, groups: int
) -> None:
    """Send each product back to the input element that it read; a task is one channel of dx.

    dx is (N, C_in, D, H, W) and zero, the others have the shapes of `_convolve`.
    """
    N, C_out, OD, OH, OW = g.shape
    _, C_in, D, H, W = dx.shape
    _, C_g, KD, KH, KW = w.shape
    per_group = C_out // groups
    for task in nb.prange(N * C_in):
        n, ic = divmod(nb.int64(task), C_in)  # prange counts in unsigned integers
        first = ic // C_g * per_group
        for oc in range(first, first + per_group):
            for kd in range(KD):
                for od in range(OD):
                    d = od * stride[0] + kd * dilation[0] - padding[0]
                    for kh in range(KH):
                        for oh in range(OH):
                            h = oh * stride[1] + kh * dilation[1] - padding[1]
                            if not (0 <= d < D and 0 <= h < H):
                                continue
                            for kw in range(KW):
                                left = kw * dilation[2] - padding[2]
                                lo = max(0, -(left // stride[2]))
                                hi = min(OW, (W - 1 - left) // stride[2] + 1)
                                target = dx[n, ic, d, h, lo * stride[2] + left :: stride[2]]
                                source = g[n, oc, od, oh, lo:hi]
                                factor = w[oc, ic % C_g, kd, kh, kw]
                                for i in range(hi - lo):
                                    target[i] += factor * source[i]


@nb.njit(parallel=True, fastmath={"contract", "reassoc"})
def _weight_gradient(
    x: Any, dw: Any, g: Any, stride: Any, padding: Any, dilation: Any, groups: int
) -> None:
    """Sum over all pixels, for each weight; a task is one (C_out, C_in/groups) of dw."""
    N, C_out, OD, OH, OW = g.shape
    _, _, D, H, W = x.shape
    _, C_g, KD, KH, KW = dw.shape
    for task in nb.prange(C_out * C_g):
        oc, ic = divmod(nb.int64(task), C_g)  # prange counts in unsigned integers
        channel = oc // (C_out // groups) * C_g + ic
        for kd in range(KD):
            for kh in range(KH):
                for kw in range(KW):
                    left = kw * dilation[2] - padding[2]
                    lo = max(0, -(left // stride[2]))
                    hi = min(OW, (W - 1 - left) // stride[2] + 1)
                    total = 0.0
                    for row in range(N * OD * OH):
                        plane, oh = divmod(row, OH)
                        n, od = divmod(plane, OD)
                        d = od * stride[0] + kd * dilation[0] - padding[0]
                        h = oh * stride[1] + kh * dilation[1] - padding[1]
                        if not (0 <= d < D and 0 <= h < H):
                            continue
                        source = x[n, channel, d, h, lo * stride[2] + left :: stride[2]]
                        factors = g[n, oc, od, oh, lo:hi]
                        for i in range(hi - lo):
                            total += factors[i] * source[i]
                    dw[oc, ic, kd, kh, kw] = total


# Products from which on the definition's plain loops would take minutes.
MANY_PRODUCTS = 10**10


def _by_transforms(layer: Layer, x: Any, w: Any) -> Any:
    """Convolve without stride and dilation by NumPy's transforms of whole arrays, in float64."""
    spatial, within = (tuple(range(i, i + layer.rank)) for i in (2, 1))
    pads = [(p, p) for p in layer.per_axis("padding")]
    x = np.pad(x.astype("float64"), [(0, 0), (0, 0), *pads])
    size, each = x.shape[2:], layer.c_in // layer.groups
    spectra = np.fft.rfftn(x, axes=spatial)
    y = np.empty(layer.output_shape)
    for o in range(layer.c_out):
        first = o // (layer.c_out // layer.groups) * each
        weights = np.conj(np.fft.rfftn(w[o].astype("float64"), size, within))
        total = (spectra[:, first : first + each] * weights).sum(1)
        sums = np.fft.irfftn(total, size, within)
        y[:, o] = sums[(slice(None), *map(slice, layer.output_shape[2:]))]
    return y


def reference(layer: Layer, x: Any, w: Any) -> Any:
    """Convolve by the definition, or compute the gradient that the layer stands for.

    Where that would take minutes, large filters go through NumPy's transforms in float64 instead.

    Parameters
    ----------
    layer : Layer
        The problem.
    x, w : ndarray
        Its input and weight.

    Returns
    -------
    ndarray
        The result, float64, of shape `layer.result_shape`.
    """
    plain = max(*layer.per_axis("stride"), *layer.per_axis("dilation")) == 1
    if plain and not layer.gradient and layer.flops > 2 * MANY_PRODUCTS and max(layer.kernel) > 7:
        return _by_transforms(layer, x, w)
    missing = 3 - layer.rank
    axes = tuple(range(2, 2 + missing))

    def volume(array: Any) -> Any:
        return np.expand_dims(array, axes).astype("float64")

    def whole(option: str, absent: int) -> tuple[int, ...]:
        return (absent,) * missing + layer.per_axis(option)

    options = (whole("stride", 1), whole("padding", 0), whole("dilation", 1))
    result = volume(np.zeros(layer.result_shape, "i1"))
    if layer.gradient:
        g = volume(output_gradient(layer, x.dtype))
    if layer.gradient == "input":
        _input_gradient(result, volume(w), g, *options, layer.groups)
    elif layer.gradient == "weight":
        _weight_gradient(volume(x), result, g, *options, layer.groups)
    else:
        _convolve(volume(x), volume(w), result, *options, layer.groups)
    return result.reshape(layer.result_shape)
