"""A problem in its simplest form: the same sums over the same memory, described with fewer axes.

Names of axes cost nothing and decide much: an image one pixel wide is a signal, and a fully
connected layer is a pointwise one on a row whose pixels are the images. So the engines, and the
choice among them, see no problem as it was called, but what `simplest` makes of it. Input, weights
and output stay as they lie in memory; only the sizes and steps that describe them change.
"""

from typing import NamedTuple

from numbaconv.problem.shape import ZEROS, ConvShape, with_value

# Rows of at most so many pixels are short: a task on the row of one image would compute too few.
SHORT_ROW = 256


class Axis(NamedTuple):
    """A spatial axis, or the batch as one: the fields of a `ConvShape` along it."""

    size: int
    kernel: int
    stride: int
    dilation: int
    padding: int
    output: int
    mode: int
    in_step: int
    out_step: int

    @property
    def is_plain(self) -> bool:
        """Whether each output reads one element, the one at its own place."""
        alone = self.kernel == 1 and self.stride == 1 and not self.padding
        return alone and self.size == self.output

    @property
    def is_covered(self) -> bool:
        """Whether its one window covers it."""
        whole = self.size == self.kernel and self.output == 1
        return whole and self.dilation == 1 and not self.padding


def simplest(s: ConvShape) -> ConvShape:
    """Return the simplest form of a problem.

    A window that covers its map sums over all of it: each element is a channel of the one pixel.
    Axes that no tap crosses are one where memory allows, and so are an axis that the windows cover
    and the one before it. What remains moves inwards. Rows that a pointwise layer leaves out are
    steps of memory. Images are rows, or pixels of one row, where there are no rows and few pixels.
    An only channel is neither first nor last.
    """
    s = covered_map(s)
    axes = [_without_stride(axis) if _leaves_out(axis, s) else axis for axis in _axes(s)]
    axes = _merged([axis for axis in axes if not _is_one(axis)], s)
    batch = _batch(s)
    if s.n > 1 and _takes_images(axes, batch, s):
        s = _as_one_image(s)
        axes = _merged([batch, *axes], s)
    return _with_axes(_without_layout(s), axes)


def with_fewest_axes(s: ConvShape) -> ConvShape:
    """Return a problem without the axes along which there is nothing, and those joined that can be.

    Its gradients are those of the problem: input, output and weights lie in memory as they did.
    """
    return _with_axes(s, _merged([axis for axis in _axes(s) if not _is_one(axis)], s))


def covered_map(s: ConvShape) -> ConvShape:
    """Return a problem whose window covers its map as one on single pixels, any other as it is.

    The elements of a channel become channels, if they lie in the order of the weights.
    """
    _, h, w = s.size
    covered = s.taps > 1 and all(axis.is_covered for axis in _axes(s))
    dense = s.in_strides[2:] == (h * w, w, 1)
    follow = s.in_strides[1] == s.taps or s.groups * s.c_in == 1
    if not (covered and dense and follow):
        return s
    one, steps = (1, 1, 1), (s.in_strides[0], 1, 1, 1, 1)
    return s._replace(c_in=s.c_in * s.taps, size=one, kernel=one, in_strides=steps)


def with_images_innermost(s: ConvShape) -> ConvShape:
    """Return a problem of at most two axes with its images as the last axis of one image.

    Rows that no tap crosses are images, if there is but one.
    """
    axes = [axis for axis in _axes(s) if not _is_one(axis)]
    if s.n == 1 and len(axes) == 2 and axes[0].is_plain:
        return _with_axes(s, axes[::-1])
    return _with_axes(_as_one_image(s), [*axes, _batch(s)])


def _batch(s: ConvShape) -> Axis:
    return Axis(s.n, 1, 1, 1, 0, s.n, ZEROS, s.in_strides[0], s.out_strides[0])


def _as_one_image(s: ConvShape) -> ConvShape:
    """Let all images be one, whose axes are to be said."""
    return s._replace(
        n=1,
        in_strides=(s.n * s.in_strides[0], *s.in_strides[1:]),
        out_strides=(s.n * s.out_strides[0], *s.out_strides[1:]),
    )


def _without_layout(s: ConvShape) -> ConvShape:
    """Let the step to another channel of the input, if it has but one, be that to another image.

    So is that of the output where both have one. (An only output of several channels may be the
    first of channels that lie side by side: dot products are for these.)
    """
    if s.groups * s.c_in > 1:
        return s
    s = s._replace(in_strides=with_value(s.in_strides, 1, s.in_strides[0]))
    if s.c_out > 1:
        return s
    return s._replace(out_strides=with_value(s.out_strides, 1, s.out_strides[0]))


def _axes(s: ConvShape) -> list[Axis]:
    fields = s.size, s.kernel, s.stride, s.dilation, s.padding, s.output, s.padding_mode
    steps = s.in_strides[2:], s.out_strides[2:]
    return [Axis(*values) for values in zip(*fields, *steps, strict=True)]


def _is_one(axis: Axis) -> bool:
    """Whether there is nothing along an axis."""
    return axis.is_plain and axis.size == 1


def _merged(axes: list[Axis], s: ConvShape) -> list[Axis]:
    """Join each axis with the one inside it, where that is possible."""
    found: list[Axis] = []
    for axis in reversed(axes):
        joined = _joined(axis, found[0], s) if found else None
        found[:1] = [axis, *found[:1]] if joined is None else [joined]
    return found


def _joined(outer: Axis, inner: Axis, s: ConvShape) -> Axis | None:
    """Return the axis that two are together, or None."""
    if outer.in_step != inner.size * inner.in_step:
        return None
    writes_on = outer.out_step == inner.output * inner.out_step
    if outer.is_plain and inner.is_plain and writes_on:
        pixels = outer.size * inner.size
        return inner._replace(size=pixels, output=pixels)
    if inner.is_covered and outer.dilation == 1 and outer.mode == ZEROS:
        # The rows of a window lie one behind the other: together they are one long row.
        return Axis(
            size=outer.size * inner.size,
            kernel=outer.kernel * inner.size,
            stride=outer.stride * inner.size,
            dilation=1,
            padding=outer.padding * inner.size,
            output=outer.output,
            mode=ZEROS,
            in_step=inner.in_step,
            out_step=outer.out_step,
        )
    return None


def _takes_images(axes: list[Axis], batch: Axis, s: ConvShape) -> bool:
    """Whether the images of a batch can be an axis, and should."""
    if not axes:
        return True
    joined = _joined(batch, axes[0], s)
    pixels_of_one = joined is not None and joined.is_plain
    return pixels_of_one or (len(axes) == 1 and axes[0].output <= SHORT_ROW)


def _leaves_out(axis: Axis, s: ConvShape) -> bool:
    """Whether a stride just leaves out elements that would not be neighbours in memory either way.

    A filter copies whole rows, and takes the same stride along both axes.
    """
    inside = axis.kernel == 1 and not axis.padding and (axis.output - 1) * axis.stride < axis.size
    return inside and axis.stride > 1 and axis.in_step > 1 and s.c_in > 1


def _without_stride(axis: Axis) -> Axis:
    return axis._replace(size=axis.output, stride=1, in_step=axis.stride * axis.in_step)


def _with_axes(s: ConvShape, axes: list[Axis]) -> ConvShape:
    """Describe a problem by at most three axes, the last of them innermost."""
    if not axes:
        axes = [Axis(1, 1, 1, 1, 0, 1, ZEROS, 1, 1)]
    steps = axes[0].size * axes[0].in_step, axes[0].output * axes[0].out_step
    axes = [Axis(1, 1, 1, 1, 0, 1, ZEROS, *steps)] * (3 - len(axes)) + axes
    size, kernel, stride, dilation, padding, output, mode, in_steps, out_steps = zip(
        *axes, strict=True
    )
    return s._replace(
        size=size,
        kernel=kernel,
        stride=stride,
        dilation=dilation,
        padding=padding,
        output=output,
        padding_mode=mode,
        in_strides=(*s.in_strides[:2], *in_steps),
        out_strides=(*s.out_strides[:2], *out_steps),
    )
