"""Which lowerings of the direct engine can compute a problem, and how: predicates of it alone.

Some lowerings are taken by a rule (`special_lowering`); the others are compared by `cost`.
docs/decisions.md has, by name, what was measured for each rule.
"""

from collections.abc import Callable
from math import gcd, prod

from numbaconv.codegen.integers import ceil_div
from numbaconv.codegen.pointers import CACHE_LINE
from numbaconv.codegen.target import (
    HALVES_VECTORS,
    REGISTERS,
    VECTOR_BYTES,
    ZEN,
    last_level_caches,
)
from numbaconv.cpu import blocking
from numbaconv.cpu.blocking import (
    BAND_CHANNELS,
    FIRST_LEVEL,
    MOST_SINGLE,
    PHASE_STRIDES,
    SECOND_LEVEL,
    SHALLOW_K,
    SMALL_FILTERS,
    SMALL_STRIDES,
    STRIP_ROWS,
    TILE_ROWS,
    TILE_VECTORS,
    WOVEN_ROWS,
)
from numbaconv.cpu.direct.tap_lists import (
    MOST_LISTED,
    leaves_out_padding,
    lines_of_channel,
    lists_lines,
    places_for,
)
from numbaconv.cpu.packing.halo import (
    axis_phase_count,
    axis_reach,
    copies_padding,
    has_padded_halo,
    is_far_out,
)
from numbaconv.problem.shape import is_pointwise, kernel_taps, pads_zeros, with_value
from numbaconv.problem.simplest import with_images_innermost
from numbaconv.problem.taps import taps_read

# Up to so many pixels, dot products with unpacked weights take no longer than packed ones; and up
# to so many where the weights come from beyond the second-level cache, which takes longer.
DOT_PIXELS, FAR_DOT_PIXELS = 4, 8

# Output channels of a group, at most, where dot products are compared with others: of more these
# are as fast, and it takes time to compare.
MOST_DOT_OUTPUTS = 64

# Vectors of 16 bytes (SSE, NEON) are loaded whole, or lane by lane.
HAS_MASKS = VECTOR_BYTES > 16

# Widest block of columns of `depthwise_channels`: its halo rows stay in the second-level cache,
# under tall kernels too.
CHANNEL_COLUMNS = 256

# Places of a map of `depthwise_maps`, at most, which its table lists; and bytes of the pieces that
# planes are copied by: none may reach beyond a plane.
MOST_PLACES, PIECE_BYTES = 1 << 14, 16

# Elements of a depthwise window that covers its map, at most, that are no dot product.
MOST_WINDOW = 81

# Bytes of weights that `depthwise_interleaved` repeats for the lanes of vectors.
MOST_REPEATED = 1 << 16

# Vectors of pixels in a row of results, at most, that `matrix_transposed` moves to the output.
SHORT_VECTORS = 14

# Bytes of an input that stays in cache from one block of weights to the next; and of one whose
# vectors a tile does not wait for, so that none of them is asked for ahead of time.
MOST_CACHED = 6 << 20
MOST_NEAR = SECOND_LEVEL if HALVES_VECTORS else MOST_CACHED

# Pages of memory whose places a core has at hand, about, and their bytes: see `cost`.
MOST_PAGES, PAGE_BYTES = 3072 if HALVES_VECTORS else 96, 4096

# Up to so many taps a channel, asking for each takes longer than a cache does to deliver it.
FEW_TAPS = 4

# Channels that a first-level cache has room for in the same places: it has 8 or 12 ways, of which
# results take some.
FEW_CHANNELS = 6

# Lines that a core reads at about the same time, each of a pixel of its own: of a tile of 14
# pixels, or of two of 6.
LINES_AT_ONCE = 14

# Zones of columns, at most, that are compared: under more taps than half of them zones were never
# the best.
MOST_ZONES = 16

# Output channels, at most, that add their channels in runs: see `adds_in_runs`.
FEW_OUTPUTS = 4

# Register blocks, at most, that read pixels in place though their channels lie on more pages.
FEW_BLOCKS = 3

# Copying a vector of pixels takes as long as so many multiply-adds.
COPY_COST = 7

# From so many input and output channels on, pixels are packed where rows leave lanes over, if that
# takes more multiply-adds a vector of results than moving it: see `uses_panels`.
PANEL_K, PANEL_OUTPUTS, MOVE_COST = 256, 96, 13

# From so many register blocks on, pixels of an image are packed so that vectors as wide as a cache
# line begin at one, if a first-level cache does not hold them beside weights and results: see
# `crosses_lines`.
PANEL_BLOCKS, NEAR_BYTES = 10, 2 * FIRST_LEVEL // 3


def reads_in_place(s):
    """Whether kernels can read elements of the input where they lie: they have the sums' dtype."""
    return s.converts == 0


def is_depthwise(s):
    """Whether each group has one channel and one output."""
    return s.c_in == s.c_out == 1


def has_bands(s):
    """Whether neighbouring rows of outputs, or those a dilation apart, share input rows."""
    return s.stride[1] == 1 or s.dilation[1] == 1


def is_patches(s):
    """Whether no two windows overlap, of several taps each."""
    apart = all(axis_reach(s.kernel[i], s.stride[i], s.dilation[i]) == 0 for i in range(3))
    return apart and kernel_taps(s) > 1


def has_gaps(s):
    """Whether a stride moves windows on, but not by what they cover without a gap."""
    axes = zip(s.stride, s.output, s.kernel, s.dilation, strict=True)
    return any(step > 1 < outputs and (step, d) != (k, 1) for step, outputs, k, d in axes)


def stores_apart(s):
    """Whether results are no neighbours in the output: in a phase of a gradient."""
    return 1 not in (s.out_strides[1], s.out_strides[4])


def has_folds(s):
    """Whether taps are neighbours in a row."""
    return s.kernel[1] == 1 and s.dilation[2] == 1


def uses_bands(s):
    """Few output channels a group, and rows that share input rows."""
    return s.c_out < BAND_CHANNELS and has_bands(s)


def exceeds_caches(s, lanes, threads):
    """Whether input and output are too large for the caches."""
    elements = s.n * (s.in_strides[0] + s.out_strides[0])
    return elements * VECTOR_BYTES > last_level_caches(threads) * lanes


def nontemporal_results(s, lanes, threads):
    """Whether results go past the caches, if they are complete when they are first stored.

    An ordinary store reads the line that it writes to. That is for nothing where all of the line is
    written, and a nontemporal store saves it: one stream of three. Rows must be whole lines, arrays
    larger than the caches, and the input about as large: writing alone is slower past the caches,
    but on a Zen 4.
    """
    line = CACHE_LINE * lanes // VECTOR_BYTES
    whole = s.out_strides[4] == 1 and all(step % line == 0 for step in s.out_strides[1:4])
    balanced = HALVES_VECTORS or 2 * s.in_strides[0] >= s.out_strides[0]
    return whole and balanced and exceeds_caches(s, lanes, threads)


def nontemporal_bands(s, lanes, threads):
    """Of bands, filters of a single channel: others add to their results."""
    phases = axis_phase_count(s.kernel[1], s.stride[1], s.dilation[1])
    once = s.c_in * s.kernel[0] * phases == 1
    return once and nontemporal_results(s, lanes, threads)


def nontemporal_planes(s, lanes, threads):
    """Of depthwise layers, filters as high as a strip."""
    return s.kernel[0] == 1 and is_one_strip(s) and nontemporal_results(s, lanes, threads)


def is_one_strip(s):
    """Whether a plane of a filter is as high as a strip: sums of it are stored once."""
    return s.kernel[1] in STRIP_ROWS[s.stride[1]]


def with_equal_strides(s):
    """Return a problem as strips see it: with one stride, if that is possible.

    Under a stride, rows that no tap crosses are planes; and an only row has no step to another.
    """
    alone = s.kernel[1] == s.stride[1] == 1 and s.size[1] == s.output[1]
    flat = s.size[0] == s.kernel[0] == s.output[0] == 1
    if alone and flat and s.stride[2] > 1 and not any(s.padding[:2]):
        s = s._replace(
            size=(s.size[1], 1, s.size[2]),
            output=(s.output[1], 1, s.output[2]),
            in_strides=with_value(s.in_strides, 2, s.in_strides[3]),
            out_strides=with_value(s.out_strides, 2, s.out_strides[3]),
        )
    return s._replace(stride=with_value(s.stride, 1, s.stride[2])) if is_one_row(s) else s


def has_strips(s):
    """Depthwise, on rows that lie dense in memory, where masks can stand for the padding."""
    in_place = pads_zeros(s) and reads_in_place(s)
    dense = s.in_strides[4] == 1 and s.out_strides[4] == 1 and in_place
    s = with_equal_strides(s)
    stride = s.stride[1]
    regular = stride == s.stride[2] and (
        stride == 1 or (stride in STRIP_ROWS and s.dilation[1] == 1 and s.dilation[2] == 1)
    )
    regular = regular and (stride < 3 or is_one_strip(s))  # others are sums of several
    return is_depthwise(s) and dense and regular and HAS_MASKS


def joins_phases(s):
    """Whether the adjoint of a problem is computed as a whole: depthwise, rows that lie dense.

    A group of its rows and columns has one element of each phase. Their sums must fit the
    registers, and the filter has taps for each.
    """
    stride, high = s.stride[2], s.stride[1]
    fits = stride in PHASE_STRIDES and high in (1, stride) and s.dilation[1:] == (1, 1)
    filled = s.kernel[1] >= high and s.kernel[2] >= stride
    flat = s.size[0] == s.kernel[0] == s.output[0] == 1
    dense = s.in_strides[4] == s.out_strides[4] == 1
    return is_depthwise(s) and fits and filled and flat and dense and HAS_MASKS


def has_outer_products(s):
    """Whether the adjoint of a problem is made of outer products: depthwise, under long strides.

    Phases would be many, each of few taps whose results lie far apart.
    """
    dense = s.in_strides[4] == 1 and s.dilation == (1, 1, 1)
    near = s.padding[2] <= s.kernel[2]
    return is_depthwise(s) and dense and near and s.stride[2] > PHASE_STRIDES[-1]


def joins_patches(s):
    """Whether the adjoint of a problem is one product: of patches, on rows that lie dense.

    They cover all elements, or leave so many out that the result is filled before. Vectors of 32
    bytes take long to transpose what cannot be woven.
    """
    axes = list(zip(s.size, s.output, s.kernel, s.stride, s.dilation, strict=True))
    apart = all(k == 1 or (k <= stride and d == 1) for _, _, k, stride, d in axes)
    left = [size - (out - 1) * stride - k for size, out, k, stride, _ in axes]
    filled = any(out > 1 and k < stride for _, out, k, stride, _ in axes)
    inside = not any(left) or (filled and min(left) >= 0)
    (_, h, w), taps = s.output, kernel_taps(s)
    dense = s.in_strides[4] == 1 and s.out_strides[2:] == (h * w, w, 1)
    quick = REGISTERS >= 32 or (s.kernel[2] == s.stride[2] and s.kernel[2] in WOVEN_ROWS)
    several = taps > 1 and s.pixels > 1 and not any(s.padding)
    return several and apart and inside and dense and quick


def holds_plane(s, lanes):
    """Whether the second-level cache holds what is read of a plane, and its results."""
    read = s.size[2] * (s.stride[1] * s.output[1] if s.kernel[1] > 1 else 1)
    return 2 * read * VECTOR_BYTES <= blocking.CACHE_BYTES * lanes


def is_one_row(s):
    """Whether a plane of results is one row, and so is what a plane of the filter reads."""
    return s.output[1] == s.kernel[1] == 1


def has_half(cols, lanes):
    """Whether half a vector holds so many columns."""
    return 2 * cols <= lanes


def uses_small_planes(s, lanes):
    """Of planes, those whose rows all fit the registers, under the usual filters and padding."""
    kd, kh, kw = s.kernel
    most = lanes // 2 if has_half(s.output[2], lanes) else lanes
    fits = max(s.output[1], s.output[2]) <= most and s.size[1] <= most * s.stride[1]
    # Input rows, and planes of a volume, are read without asking whether they are padding.
    filtered = kh == kw and kh in SMALL_FILTERS and s.padding[1] == kh // 2
    filtered = filtered and s.stride[1] in SMALL_STRIDES
    flat = kd == 1 and s.padding[0] == 0 and (s.output[0] - 1) * s.stride[0] < s.size[0]
    dense = s.dilation[1] == 1 and s.dilation[2] == 1
    return fits and filtered and flat and dense and has_strips(s)


def has_maps(s, lanes):
    """Depthwise, with planes that lie dense on both sides, and small enough for lists of pixels.

    Rows that no tap crosses may be the images of a batch, which lie apart: no batch may decide.
    """
    if kernel_taps(s) > 1 and s.kernel[1] == 1:
        return False
    s = with_taps_read(with_window(s))
    in_place = pads_zeros(s) and reads_in_place(s)
    dense = has_dense_planes(s.in_strides, s.size) and has_dense_planes(s.out_strides, s.output)
    fits = PIECE_BYTES * lanes <= prod(s.size) * VECTOR_BYTES and map_places(s) <= MOST_PLACES
    return is_depthwise(s) and in_place and dense and fits


def is_window(s):
    """Whether each output of a pixel has channels of its own, which lie side by side.

    A depthwise window that covers its map is such a layer in its simplest form. Where pixels do not
    follow one another images are no longer row, but rows, which are no such layer in any batch.
    """
    alone = s.groups > 1 and s.c_out == 1 and s.output[:2] == (1, 1) and 1 in (s.n, s.output[2])
    dense = (s.in_strides[4], s.out_strides[4]) == (s.groups * s.c_in, s.groups)
    return alone and (dense or s.output[2] == 1) and has_dots(s)


def with_window(s):
    """Return such a layer with the channels of a pixel as a row that its window covers."""
    if not is_window(s):
        return s
    k, apart = s.c_in, 0 if s.n > 1 else 4
    return s._replace(
        n=s.n * s.output[2],
        c_in=1,
        size=(1, 1, k),
        kernel=(1, 1, k),
        output=(1, 1, 1),
        in_strides=(s.in_strides[apart], k, k, k, 1),
        out_strides=(s.out_strides[apart], 1, 1, 1, 1),
    )


def with_taps_read(s):
    """Return a problem without the first taps and the last ones that read nothing but padding.

    Its padding is negative where the first tap that is left begins inside the input.
    """
    taps = [taps_read(s, axis) for axis in range(3)]
    before = zip(s.padding, taps, s.dilation, strict=True)
    return s._replace(
        kernel=tuple(axis.end - axis.begin for axis in taps),
        padding=tuple(padding - axis.begin * d for padding, axis, d in before),
    )


def has_dense_planes(steps, size):
    """Whether all elements of a channel are neighbours."""
    return steps[2:] == (size[1] * size[2], size[2], 1)


def map_places(s):
    """Places of a map of all pixels of an image and their padding."""
    return prod(map_extent(s, axis, s.output[axis]) for axis in range(3))


def map_extent(s, axis, outputs):
    """Places along an axis of a map for so many outputs: one for each element they may read."""
    reach = (outputs - 1) * s.stride[axis] + (s.kernel[axis] - 1) * s.dilation[axis]
    return reach // places_apart(s, axis) + 1


def places_apart(s, axis):
    """Elements from one place of a map to the next: windows leave out those in between."""
    over = s.stride[axis] if s.output[axis] > 1 else 0
    along = s.dilation[axis] if s.kernel[axis] > 1 else 0
    return gcd(over, along) or 1


def period_of(s, lanes):
    """Vectors of outputs after which the channels of their lanes repeat."""
    channels = s.groups * s.c_out
    return channels // gcd(channels, lanes)


def has_dense_pixels(s, lanes):
    """Depthwise, with pixels that lie dense, channels innermost.

    The weights are repeated for all vectors of a period, which must not take too much memory.
    """
    channels = s.groups * s.c_out
    read = s.in_strides[4] == s.groups and (s.in_strides[1] == 1 or s.groups == 1)
    written = s.out_strides[4] == channels and (s.out_strides[1] == 1 or channels == 1)
    repeated = period_of(s, lanes) * (kernel_taps(s) + 1) * VECTOR_BYTES
    return s.c_in == 1 and read and written and repeated <= MOST_REPEATED


def uses_interleaved(s, lanes):
    """Dense pixels of several channels, unless their outputs fill vectors.

    Of one channel where registers are few: bands move the results of each output then.
    """
    several = s.groups > 1 or (REGISTERS < 32 and s.c_out > 1)
    return has_dense_pixels(s, lanes) and several and not fills_lanes(s, lanes)


def uses_channels(s):
    """Depthwise layers, unless rows of pixels do better.

    They do so where the copy to lanes and back costs more than it saves: on wide rows that are
    neighbours in memory, of elements that are converted, or by vectors of 16 bytes under filters of
    5x5 and more.
    """
    wide_rows = s.in_strides[4] == 1 and s.stride[2] == 1 and s.output[2] >= 64
    large = not reads_in_place(s) or (kernel_taps(s) >= 25 and not HAS_MASKS)
    return not (stores_apart(s) or (large and wide_rows))


def depthwise_lowerings(s, lanes):
    """Name the lowerings made for depthwise layers that may serve a problem.

    Lanes are channels only where these fill half a vector; and a map that is copied as a whole
    takes no longer than row by row.
    """
    names = ["depthwise_planes"] if has_strips(s) else []
    interleaved = uses_interleaved(s, lanes)
    fills = is_depthwise(s) and s.groups > 1 and 2 * s.groups >= lanes
    if fills and has_maps(s, lanes):
        return [*names, "depthwise_maps"]
    channels = fills and (interleaved or uses_channels(s))
    if (interleaved or channels) and has_padded_channels(s):
        return names
    names += ["depthwise_channels"] if channels else []
    return [*names, "depthwise_interleaved"] if interleaved else names


def has_dots(s):
    """A pointwise layer with channels that lie side by side."""
    side_by_side = s.in_strides[1] == 1 and s.out_strides[1] == 1
    return is_pointwise(s) and side_by_side and reads_in_place(s)


def fills_dots(s, lanes):
    """Whether dot products can compute a problem, and channels fill their vectors."""
    return has_dots(s) and s.c_in >= lanes


def has_few_pixels(s, lanes):
    """Whether so few pixels share the weights that dot products, which pack none, take them."""
    far = s.c_out * s.c_in * VECTOR_BYTES > SECOND_LEVEL * lanes
    return fills_dots(s, lanes) and s.n * prod(s.output) <= (FAR_DOT_PIXELS if far else DOT_PIXELS)


def fills_lanes(s, lanes):
    """Whether the output channels of a group fill vectors."""
    filled = -(-s.c_out // lanes) * lanes
    return s.c_out >= lanes and 5 * filled <= 6 * s.c_out


def has_zones(s):
    """Whether zones can be computed: their columns are neighbours, what is left out are zeros."""
    return s.stride[2] == 1 and pads_zeros(s) and reads_in_place(s)


def has_few_zones(s):
    """Whether zones of columns are so few that it pays to look at them: see `MOST_ZONES`.

    A zone begins where a tap begins to read more than padding, and where one ceases to.
    """
    taps, step, most = s.kernel[2], s.dilation[2], s.stride[2] * (s.output[2] - 1)
    zones = 1
    for outside in (s.padding[2], s.size[2] + s.padding[2]):  # of the first tap, for output 0
        first = max(0, ceil_div(outside - most, step))
        zones += max(0, min(taps, ceil_div(outside, step)) - first)
    return zones <= MOST_ZONES


def is_signal(s):
    """Whether there is one row alone, as in a pointwise layer."""
    return s.size[:2] == s.output[:2] == s.kernel[:2] == (1, 1)


def pages_of_pixels(s, lanes):
    """Pages in which one pixel of all input channels of a group lies."""
    return s.c_in * min(1, s.in_strides[1] * VECTOR_BYTES / (PAGE_BYTES * lanes))


def are_rows(s):
    """Whether channels are rows that `matrix` can read in place: of pointwise layers, one each."""
    dense = s.in_strides[4] == s.out_strides[4] == 1
    return is_pointwise(s) and is_signal(s) and dense and reads_in_place(s)


def has_few_blocks(s, lanes):
    """Whether few register blocks read channels that lie on more pages than are at hand.

    They do not repay packing the pixels. What `matrix` reads in place are rows.
    """
    few = s.c_out <= FEW_BLOCKS * TILE_ROWS and pages_of_pixels(s, lanes) > MOST_PAGES
    return few and are_rows(s)


def adds_by_parts(s, lanes):
    """Whether `matrix` adds some channels of a task to all of its results, then the next ones.

    Pixels that come from beyond the second-level cache are then read in long runs, each page once,
    of so few channels that the prefetchers of the hardware follow all of them. The results of a
    task, of few register blocks, stay in cache in the meantime.
    """
    blocks = has_few_blocks(s, lanes) and is_far(s, lanes)
    return blocks or adds_in_runs(s, lanes) or is_one_stream(s, lanes)


def is_one_stream(s, lanes):
    """Whether, on a Zen 4, a register block alone reads more than its share of the last cache."""
    one = HALVES_VECTORS and s.c_out <= TILE_ROWS and s.c_in > MOST_SINGLE
    return one and are_rows(s) and not stays_cached(s, lanes, 2 * MOST_CACHED)


def is_far(s, lanes):
    """Whether input and output are larger than the second-level cache."""
    return s.n * (s.in_strides[0] + s.out_strides[0]) * VECTOR_BYTES > SECOND_LEVEL * lanes


def has_same_places(s, lanes):
    """Whether channels lie a multiple of a page apart, where a first-level cache has few places."""
    return s.in_strides[1] * VECTOR_BYTES % (PAGE_BYTES * lanes) == 0


def adds_in_runs(s, lanes):
    """Whether so few outputs add their channels by parts that they wait for pixels alone.

    On a Zen 4, whose prefetchers then follow the parts, of 8 or 16 channels. A cache that holds the
    pixels does not need them, unless channels push each other out of it.
    """
    few = HALVES_VECTORS and s.c_out <= FEW_OUTPUTS and s.c_in > FEW_CHANNELS
    return few and are_rows(s) and (has_same_places(s, lanes) or is_far(s, lanes))


def uses_rows(s, lanes):
    """Whether few register blocks read their pixels in place: see `has_few_blocks`."""
    return has_few_blocks(s, lanes) and has_rows_apart(s, lanes) and s.c_out >= BAND_CHANNELS


def columns_in_line(s):
    """Columns of a row of outputs, or of all rows of an image where `matrix` joins them.

    It does under a single tap. Rows of a pointwise layer in its simplest form are images.
    """
    neighbours = s.out_strides[3] == s.output[2] * s.out_strides[4]
    return s.output[2] * (s.output[1] if kernel_taps(s) == 1 and neighbours else 1)


def image_bytes(s, lanes):
    """Bytes of the pixels of all input channels in such a row."""
    return s.c_in * columns_in_line(s) * VECTOR_BYTES / lanes


def crosses_lines(s, lanes):
    """Whether many register blocks would read pixels in place by vectors that cross cache lines.

    Where a vector is as wide as a line, each that does not begin at one takes two. That costs time
    where lines come from beyond the first-level cache.
    """
    many = s.c_in > SHALLOW_K and s.c_out > (PANEL_BLOCKS - 1) * TILE_ROWS
    far = image_bytes(s, lanes) > NEAR_BYTES
    return VECTOR_BYTES == CACHE_LINE and many and far and reads_in_place(s)


def uses_panels(s, lanes):
    """Layers of one tap whose pixels are better packed, once for all output channels.

    A tile that reads them in place takes a vector or two from each channel. Where channels lie on
    more pages than are at hand, and do not stay in cache, each register block looks all of these
    up again; packing does it once, and two blocks repay it, where `uses_rows` does not hold. Many
    register blocks repay it where pixels in place lie across cache lines, unless rows leave lanes
    over, which `matrix_transposed` does not mind. Under a stride costs decide: nothing is read by
    vectors. So they do on a Zen, which has the places of more pages at hand, and cycles to spare
    for its loads, unless no cache keeps the input. With many channels its tiles then ask for the
    next panels' pixels while they multiply.

    Panels are also full at the ends of rows and of images, where tiles waste lanes, or end with a
    vector alone that loads a weight for each multiply-add. With many channels on both sides that
    repays packing by itself; but by vectors of 64 bytes costs decide if a cache keeps the input.
    """
    single = kernel_taps(s) == max(s.stride) == 1 and max(s.padding) == 0
    if not single or s.in_strides[4] != 1 or s.out_strides[4] != 1:
        return False
    cols = columns_in_line(s)
    wastes = s.c_in * (-cols % lanes) > MOVE_COST * cols
    cached = VECTOR_BYTES == 64 and stays_cached(s, lanes)
    if ZEN:
        if not cached and s.c_in > PANEL_K and s.c_out > FEW_BLOCKS * TILE_ROWS:
            return True
    elif is_pointwise(s) and s.output[0] == 1:
        if crosses_lines(s, lanes) and not wastes:
            return True
        far = image_bytes(s, lanes) > blocking.CACHE_BYTES
        if far and pages_of_pixels(s, lanes) > MOST_PAGES:
            return s.c_out > TILE_ROWS
    ends_singly = cols < SHORT_VECTORS * lanes and ceil_div(cols, lanes) % 2 == 1
    many = s.c_in >= PANEL_K and s.c_out >= PANEL_OUTPUTS
    return not cached and many and (wastes or ends_singly)


def stays_cached(s, lanes, most=MOST_CACHED):
    """Whether a cache keeps the input."""
    return s.n * s.in_strides[0] * VECTOR_BYTES <= most * lanes


def has_rows_apart(s, lanes):
    """Whether pixels are neighbours, and channels lie where caches have room for many at once.

    A large power of two apart they push each other out, unless they are few, or added by parts. On
    a Zen 4 that takes less time than a copy where few register blocks read each of them.
    """
    apart = s.c_in <= FEW_CHANNELS or s.in_strides[1] * VECTOR_BYTES % (8192 * lanes) != 0
    few = HALVES_VECTORS and s.c_out <= 2 * TILE_ROWS
    return s.in_strides[4] == 1 and (apart or few or adds_by_parts(s, lanes))


def reads_pixels_in_place(s, lanes):
    """Whether `matrix_transposed` needs no halo tile.

    It reads pixels one by one, at any distance, and prefetches those of later channels, so it needs
    none if the taps that it leaves out are all that read padding. Pixels a page apart, as of 1024
    channels that are innermost, all want the same few places in the first-level cache. Where pixels
    and weights stay in the next one that costs less than to copy them.
    """
    apart = s.stride[2] * s.in_strides[4] * VECTOR_BYTES % (PAGE_BYTES * lanes) != 0
    spread = apart or cached_pixels(s, lanes) is not None
    return leaves_out_padding(s) and spread and reads_in_place(s) and not crowds_cache(s, lanes)


def asks_for_pixels(s, apart, lanes):
    """Whether `matrix_transposed` asks for pixels of later channels, which lie so far apart.

    Channels side by side are lines that follow one another, which the hardware sees; and few taps a
    channel are asked for one by one, which pays if they come from memory. Of a single tap a Zen
    sees so far ahead that to ask takes longer.
    """
    taps = kernel_taps(s)
    quick = taps <= FEW_TAPS and stays_cached(s, lanes)
    return apart != 1 and not quick and not (ZEN and taps == 1)


def has_images(s):
    """Whether the pixels of a tile of `matrix_transposed` may be one of many images each.

    Two rows of a small map fill no half of a tile. With the images as columns tiles are full, each
    reads the weights that an image would have read by itself, and all taps that read padding are
    left out. That pixels may be a page apart costs less here.
    """
    short = 4 * s.output[2] <= TILE_ROWS
    flat = s.size[0] == s.kernel[0] == s.output[0] == 1 and s.padding[0] == 0
    possible = short and flat and kernel_taps(s) > 1 and reads_in_place(s)
    return possible and leaves_out_padding(with_images_innermost(s))


def takes_images(s):
    """Whether they are, in a batch: of many images, or of any where the map itself has padding.

    A list of all channels has another order with the images as columns, so that goes by no batch.
    """
    if not has_images(s):
        return False
    listed = s.c_in * kernel_taps(s) <= MOST_LISTED
    many = with_images_innermost(s).output[2] > 2 * s.output[2]
    return listed or many or not leaves_out_padding(s)


def wants_same_places(s, lanes):
    """Whether pixels that a tile reads of a channel push each other out of the first-level cache.

    The tile then reads their lines again for each channel of these. Where channels are innermost,
    and so many that pixels lie a large power of two apart, there are few places for them.
    """
    if s.in_strides[1] != 1 or kernel_taps(s) == 1:
        return False
    if lists_lines(s):  # a line of each pixel at a time
        return places_for(s.stride[2] * s.in_strides[4] * VECTOR_BYTES // lanes) < LINES_AT_ONCE
    return lines_of_channel(s) > places_for(s.in_strides[4] * VECTOR_BYTES // lanes)


def crowds_images(s, lanes):
    """Whether pixels of many images push each other out so, and a copy costs less.

    Of a problem that has its images innermost. The taps of a channel read a line of each image.
    """
    steps, taps = s.in_strides[2:], prod(map(min, s.kernel, s.size))
    places = places_for(*(step * VECTOR_BYTES // lanes for step in steps))
    return s.in_strides[1] == 1 and taps * LINES_AT_ONCE > places


def crowds_cache(s, lanes):
    """Whether they do so, and a copy costs less, as each pixel is read more than once."""
    reads = kernel_taps(s) * prod(s.output) * ceil_div(s.c_out, TILE_VECTORS * lanes)
    return wants_same_places(s, lanes) and reads >= 2 * prod(s.size)


def cached_pixels(s, lanes):
    """Pixels of a task that stay in cache beside all weights, or None where these do not.

    In a pointwise layer with the channels last, whose pixels lie dense: each block of output
    channels reads them again. Half of the cache is for the pixels, and half for the weights.
    """
    pixel, most = s.c_in * VECTOR_BYTES, blocking.CACHE_BYTES * lanes
    dense = s.in_strides[1] == 1 and s.in_strides[4] == s.groups * s.c_in
    if not (is_pointwise(s) and dense and pixel * s.c_out <= most):
        return None
    return max(2 * TILE_ROWS, most // pixel)


def reads_rows_in_place(s, lanes):
    """Whether `matrix` needs no halo tile: for pointwise layers on rows of whole vectors.

    Other rows are left to `reads_signals_in_place`, which asks for each task.
    """
    whole = s.output[2] % lanes == 0 and has_rows_apart(s, lanes)
    return is_pointwise(s) and whole and reads_in_place(s)


def reads_signals_in_place(s, lanes):
    """Whether tasks of `matrix` that meet no padding need no halo tile: those of signals.

    Signals from memory are faster in place only because the tile prefetches them. The rows of a
    pointwise layer, which are images, are as signals if a cache has them and they fill vectors.
    """
    signal = is_signal(s) and s.stride[1] == 1 and s.stride[2] == 1
    rows = is_pointwise(s) and stays_cached(s, lanes) and wastes_little(s, lanes)
    return (signal or rows) and has_rows_apart(s, lanes) and reads_in_place(s)


def wastes_little(s, lanes):
    """Whether products with lanes left over at the ends of rows take less time than to copy these.

    The rows of a copy are one long vector.
    """
    vectors, left_over = ceil_div(s.output[2], lanes), -s.output[2] % lanes
    return s.c_out * left_over <= COPY_COST * vectors * lanes


def reads_bands_in_place(s):
    """Whether tasks of `filter_rows` that meet no padding need no halo tile.

    Under a filter each input row serves a task once or twice.
    """
    single = s.stride[1] == 1 and s.stride[2] == 1
    return single and s.in_strides[4] == 1 and reads_in_place(s)


def has_padded_channels(s):
    """Whether halo tiles of depthwise channels, of single rows, would be nearly all padding."""
    if not is_far_out(s):
        return False
    cols = min(s.output[2], CHANNEL_COLUMNS)
    height = (s.kernel[1] - 1) * s.dilation[1] + 1
    width = (cols - 1) * s.stride[2] + (s.kernel[2] - 1) * s.dilation[2] + 1
    blocks = s.output[0] * s.output[1] * ceil_div(s.output[2], cols)
    return copies_padding(s, s.kernel[0] * height * width, blocks)


def always(s, lanes):
    """What can compute any problem."""
    return True


# Whether a lowering can compute a problem, right and within its memory, be it fast or not.
APPLIES: dict[str, Callable[..., bool]] = {
    "dots": lambda s, lanes: has_dots(s),
    "depthwise_planes": lambda s, lanes: has_strips(s),
    "depthwise_maps": has_maps,
    "depthwise_interleaved": has_dense_pixels,
    "depthwise_channels": lambda s, lanes: is_depthwise(s),
    "matrix_zones": lambda s, lanes: has_zones(s),
    "filter_rows": lambda s, lanes: has_bands(s),
    "filter_folds": lambda s, lanes: has_folds(s),
    "matrix_transposed": always,
    "matrix": always,
    "patch_matrix": always,
}


def candidates(s, lanes):
    """Name the lowerings that can compute a problem: `cost.find_lowering` returns one of them."""
    return [name for name, applies in APPLIES.items() if applies(s, lanes)]


def special_lowering(s, lanes):
    """Name the lowering that serves a problem by a rule of its own, or None: costs decide then.

    Packing weights is not counted, so a rule says when too few pixels share them. What tiles of
    single taps wait for the memory is not counted well enough, so a rule says when panels serve
    them; nor is what results take that are no neighbours, so depthwise layers with such are bands.
    """
    if is_window(s) and s.c_in <= MOST_WINDOW and has_maps(s, lanes) and 2 * s.groups >= lanes:
        return "depthwise_maps"
    if has_few_pixels(s, lanes):
        return "dots"
    phase = is_depthwise(s) and stores_apart(s) and not depthwise_lowerings(s, lanes)
    if phase and uses_bands(s):
        return "patch_matrix" if has_padded_halo(s) else "filter_rows"
    if uses_rows(s, lanes):
        return "matrix"
    if uses_panels(s, lanes):
        return "patch_matrix"
    return None


def comparable(s, lanes):
    """Name the lowerings that `cost` compares, dot products apart.

    One whose halo tiles would be nearly all padding is left out; panels hold what the taps read.
    Filters of a single channel each never repay panels and zones, nor vectors of a single output.
    Those whose channels are neighbours in memory take these together, and so do those by vectors of
    16 bytes; but several outputs of a channel repeat it, few channels leave half of a vector empty,
    and under a stride products read just what they need. Pixels that are read once do not repay a
    halo tile if their channels have to be transposed. Nor do windows that leave out most of the
    input, which vectors of a single output read alone.

    Few outputs have bands, and folds, unless channels fill vectors. Vectors of outputs are nearly
    empty then, those of pixels are not. Of one channel there are two kinds that products are not
    good at: a filter with one output, as they load a vector for each multiply-add, and images whose
    outputs they have to bring together.
    """
    names, padded = depthwise_lowerings(s, lanes), has_padded_halo(s)
    filters, single = s.c_in == 1 and s.groups > 1, kernel_taps(s) == 1
    side_by_side, far_out = s.in_strides[1] == 1, is_far_out(s)
    alone = "depthwise_channels" in names and side_by_side and not far_out
    if names and filters and not HAS_MASKS:
        return names
    if alone and filters and s.c_out == 1:
        return [*names, "matrix_transposed", "matrix"] if has_gaps(s) else names
    once = is_patches(s) and side_by_side
    bands = uses_bands(s) and not (padded or once or fills_dots(s, lanes))
    image = s.c_in == s.groups == 1 and bands
    poor = (bands and s.c_in == s.c_out == 1 and not single) or (image and s.out_strides[4] != 1)
    filled = s.stride[2] == 1 and s.output[2] >= lanes and not (single and s.in_strides[4] != 1)
    sparse = 2 * kernel_taps(s) * prod(s.output) < prod(s.size) and reads_pixels_in_place(s, lanes)
    few = (filters and s.c_out == 1 and bool(names) and not (sparse or once)) or (bands and filled)
    if not (few or poor) and (not padded or reads_pixels_in_place(s, lanes) or has_images(s)):
        names.append("matrix_transposed")
    if not (once or poor) and (not padded or reads_rows_in_place(s, lanes)):
        names.append("matrix")
    if bands:
        names += ["filter_rows", "filter_folds"] if has_folds(s) else ["filter_rows"]
    if far_out or not (filters or image):
        names.append("patch_matrix")
        if has_zones(s) and has_few_zones(s):
            names.append("matrix_zones")
    return names
