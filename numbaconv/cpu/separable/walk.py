"""A walk, as a table of integers: which passes it makes, and how it cuts the image.

A walk makes up to three passes over an image in one go. Its axes have roles:

- *lanes*: the innermost axis, with those behind it that no pass runs along: a vector holds
  neighbours of it;
- *rows*: an axis along which a task proceeds, with the rows that the next sums need in a ring;
- *planes*: all other axes. A task has one index of each, or a block of them.

A pass along the planes comes first, then one along the rows, then one along the lanes. A pass along
the rows may also have taps in several planes and at several lanes: then it is a full kernel.
"""

from typing import NamedTuple

from numbaconv.cpu.job import places


class Taps(NamedTuple):
    """Taps of a pass, as `tap_sums` takes them.

    Attributes
    ----------
    taps : int
        Taps or pairs; 0: there is no such pass.
    kind : int
        How they are listed.
    entries : int
        Offsets of a list.
    offsets : int
        Where in the table their list begins.
    weights : int
        Where among the weights theirs begin.
    divides, truncates : int
        What happens to the sums.
    exact : int
        Where in the table the weights in float64 begin, as `cut_off` takes them; 0: it is not
        called.
    """

    taps: int = 0
    kind: int = 0
    entries: int = 0
    offsets: int = 0
    weights: int = 0
    divides: int = 0
    truncates: int = 0
    exact: int = 0


class Walk(NamedTuple):
    """How the image is cut.

    Attributes
    ----------
    tasks : int
        How many there are.
    axes, axes_at : int
        Axes of planes, and where in the table they begin, the innermost first: see `PlaneAxis`.
    planes, ring_planes : int
        Planes that a task reads, and those of them that the ring has.
    block_out : int
        Elements of the output from one plane of a block to the next.
    rows, row_block, row_blocks : int
        Rows, those of a task, and blocks of these.
    row_mode, row_before, row_window : int
        What lies outside; a sum reads `row_window` rows, from so many before its own on.
    row_in, row_out : int
        Elements of the input, and of the output, from one row to the next.
    lanes, strip, strips : int
        Lanes, those of a task, and strips of these.
    lane_mode, pixel, pixels : int
        What lies outside; lanes that are neighbours for a vector alone, as the colours of a pixel;
        and how many such pixels there are.
    lane_before, lane_after : int
        Lanes that the sums of a row read before the first and behind the last of them.
    start : int
        Elements from where a row of scratch begins to the first lane that is read into it.
    edges : int
        Where in the table stand the lanes that continue a whole row, -1 for the constant: those
        before it, then those behind it. 0: rows are strips, read with what lies outside of them.
    lane_in, lane_out : int
        Elements from one lane to the next.
    step, chunk, ring : int
        Rows that are computed at a time, lanes of them in the last pass, and rows of the ring.
    pitch, ring_plane : int
        Elements of scratch from one row, and from one plane of the ring, to the next.
    rows_at, results_at, bundle_at : int
        Where in a worker's scratch the passes along the rows and along the lanes store, and where a
        row of each plane lies that the pass along the planes reads. The ring lies at 0.
    lists_at : int
        Where among a worker's integers its lists of offsets lie.
    in_size, out_size : int
        Bytes of an element.
    """

    tasks: int
    axes: int
    axes_at: int
    planes: int
    ring_planes: int
    block_out: int
    rows: int
    row_block: int
    row_blocks: int
    row_mode: int
    row_before: int
    row_window: int
    row_in: int
    row_out: int
    lanes: int
    strip: int
    strips: int
    lane_mode: int
    pixel: int
    pixels: int
    lane_before: int
    lane_after: int
    start: int
    edges: int
    lane_in: int
    lane_out: int
    step: int
    chunk: int
    ring: int
    pitch: int
    ring_plane: int
    rows_at: int
    results_at: int
    bundle_at: int
    lists_at: int
    in_size: int
    out_size: int


class PlaneAxis(NamedTuple):
    """An axis of planes.

    Attributes
    ----------
    blocks, block : int
        Blocks along it, and indices of each.
    size, mode : int
        Its length, and what lies outside.
    before, window : int
        A block reads `window` indices, from so many before its first on.
    in_step, out_step : int
        Elements of the input, and of the output, from one index to the next.
    """

    blocks: int
    block: int
    size: int
    mode: int
    before: int
    window: int
    in_step: int
    out_step: int


class Part(NamedTuple):
    """What a task writes: the first of a worker's integers.

    Attributes
    ----------
    out : int
        Element of the output at which its planes begin.
    blocks : int
        Planes.
    row0, row1 : int
        Its rows.
    lane0, lanes : int
        Its first lane, and how many.
    """

    out: int
    blocks: int
    row0: int
    row1: int
    lane0: int
    lanes: int


# The places of these: of the walk and its passes in the table, where axes and lists of offsets
# follow, and of the part among a worker's integers, where an element for each plane follows.
WALK: Walk = places(Walk, 0)
PLANE_TAPS: Taps = places(Taps, len(WALK))
ROW_TAPS: Taps = places(Taps, PLANE_TAPS[0] + len(PLANE_TAPS))
LANE_TAPS: Taps = places(Taps, ROW_TAPS[0] + len(ROW_TAPS))
LISTS = LANE_TAPS[0] + len(LANE_TAPS)
PART: Part = places(Part, 0)
BASES = len(PART)

AXIS: PlaneAxis = places(PlaneAxis, 0)
AXIS_SIZE = len(AXIS)
CONSTANT_AT = 0  # where among the weights the constant lies
