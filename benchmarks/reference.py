"""The definition of a convolution in plain loops and float64: every library has to agree.

It shares nothing with numbaconv: no padding, packing or shape code.
"""

from typing import Any

import numba as nb
import numpy as np

from benchmarks.layers import Layer


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


def reference(layer: Layer, x: Any, w: Any) -> Any:
    """Convolve by the definition.

    Parameters
    ----------
    layer : Layer
        The problem.
    x, w : ndarray
        Its input and weight.

    Returns
    -------
    ndarray
        The output, float64, of shape `layer.output_shape`.
    """
    missing = 3 - layer.rank
    axes = tuple(range(2, 2 + missing))
    x5, w5 = (np.expand_dims(a, axes).astype("float64") for a in (x, w))
    y5 = np.zeros(np.expand_dims(np.empty(layer.output_shape, "i1"), axes).shape)

    def whole(value: int, absent: int) -> tuple[int, ...]:
        return (absent,) * missing + (value,) * layer.rank

    stride, dilation = whole(layer.stride, 1), whole(layer.dilation, 1)
    _convolve(x5, w5, y5, stride, whole(layer.padding, 0), dilation, layer.groups)
    return y5.reshape(layer.output_shape)
