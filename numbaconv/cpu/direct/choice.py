"""Which lowering of the direct engine serves a problem: predicates of the problem alone.

`find_lowering` asks them, the most special first. docs/decisions.md has, by name, what was measured
for each rule.
"""

from collections.abc import Callable
from math import gcd

from numbaconv.codegen.integers import ceil_div, round_up
from numbaconv.codegen.pointers import CACHE_LINE
from numbaconv.codegen.target import VECTOR_BYTES, last_level_caches, second_level_cache
from numbaconv.cpu.blocking import (
    BAND_CHANNELS,
    SHALLOW_K,
    SMALL_FILTERS,
    STRIP_ROWS,
    STRIP_STRIDES,
    TILE_ROWS,
    TILE_VECTORS,
)
from numbaconv.cpu.direct.tap_lists import leaves_out_padding
from numbaconv.cpu.packing.halo import axis_phase_count, copies_padding, has_padded_halo, is_far_out
from numbaconv.problem.shape import kernel_taps, pads_zeros
from numbaconv.problem.taps import axis_taps

# Up to so many pixels, dot products with unpacked weights take no longer than packed ones; and up
# to so many where the weights come from beyond the second-level cache, which takes longer.
DOT_PIXELS, FAR_DOT_PIXELS = 4, 8

# Vectors of 16 bytes (SSE, NEON) are loaded whole, or lane by lane.
HAS_MASKS = VECTOR_BYTES > 16

# Widest block of columns of `depthwise_channels`: its halo rows stay in the second-level cache,
# under tall kernels too.
CHANNEL_COLUMNS = 256

# Bytes of weights that `depthwise_interleaved` repeats for the lanes of vectors.
MOST_REPEATED = 1 << 16

# Rows of fewer vectors of pixels are short: see `uses_transposed`.
SHORT_VECTORS = 14

# Bytes of an input that stays in cache from one block of weights to the next.
MOST_CACHED = 6 << 20

# From so long a k on, short rows of an odd number of vectors are transposed; or, of one tap, packed
# if there are so many output channels.
ODD_K, ODD_CHANNELS = 256, 96

# Pages of memory whose places a core has at hand, about, and their bytes: see `uses_panels`.
MOST_PAGES, PAGE_BYTES = 96, 4096

# Multiply-adds that take as long as reading a vector of pixels from a page that is not at hand, and
# as copying one to a panel.
PAGE_COST, PACK_COST = 10, 15

# Multiply-adds that take as long as transposing a vector of results on its way to the output, and
# as copying a vector of pixels, with its share of the halo, to a halo tile.
MOVE_COST, COPY_COST = 13, 14


def reads_in_place(s):
    """Whether kernels can read elements of the input where they lie: they have the sums' dtype."""
    return s.converts == 0


def is_depthwise(s):
    """Whether each group has one channel and one output."""
    return s.c_in == s.c_out == 1


def has_bands(s):
    """Whether neighbouring rows of outputs, or those a dilation apart, share input rows."""
    return s.stride[1] == 1 or s.dilation[1] == 1


def has_folds(s):
    """Whether taps are neighbours in a row."""
    return s.kernel[1] == 1 and s.dilation[2] == 1


def uses_bands(s):
    """Few output channels a group, and rows that share input rows."""
    return s.c_out < BAND_CHANNELS and has_bands(s)


def uses_folds(s):
    """Of bands, long filters along long rows: signals, and rows of an image.

    A fold saves loads. Under 20 taps these are few; on short rows the edges of blocks and the halo
    cost more.
    """
    long = s.kernel[2] >= 20 * s.stride[2] and s.output[2] * s.kernel[2] >= 20_000
    return uses_bands(s) and has_folds(s) and long


def exceeds_caches(s, lanes, threads):
    """Whether input and output are too large for the caches."""
    elements = s.n * (s.in_strides[0] + s.out_strides[0])
    return elements * VECTOR_BYTES > last_level_caches(threads) * lanes


def nontemporal_results(s, lanes, threads):
    """Whether results go past the caches, if they are complete when they are first stored.

    An ordinary store reads the line that it writes to. That is for nothing where all of the line is
    written, and a nontemporal store saves it: one stream of three. Rows must be whole lines, arrays
    larger than the caches, and the input about as large: writing alone is slower past the caches.
    """
    line = CACHE_LINE * lanes // VECTOR_BYTES
    whole = s.out_strides[4] == 1 and all(step % line == 0 for step in s.out_strides[1:4])
    balanced = 2 * s.in_strides[0] >= s.out_strides[0]
    return whole and balanced and exceeds_caches(s, lanes, threads)


def nontemporal_bands(s, lanes, threads):
    """Of bands, filters of a single channel: others add to their results."""
    phases = axis_phase_count(s.kernel[1], s.stride[1], s.dilation[1])
    once = s.c_in * s.kernel[0] * phases == 1
    return once and nontemporal_results(s, lanes, threads)


def nontemporal_planes(s, lanes, threads):
    """Of depthwise layers, filters as high as a strip."""
    once = s.kernel[0] == 1 and s.kernel[1] in STRIP_ROWS
    return once and nontemporal_results(s, lanes, threads)


def has_strips(s):
    """Depthwise, on rows that lie dense in memory, where masks can stand for the padding."""
    in_place = pads_zeros(s) and reads_in_place(s)
    dense = s.in_strides[4] == 1 and s.out_strides[4] == 1 and in_place
    stride = s.stride[1]
    regular = stride == s.stride[2] and (
        stride == 1 or (stride in STRIP_STRIDES and s.dilation[1] == 1 and s.dilation[2] == 1)
    )
    return is_depthwise(s) and dense and regular and HAS_MASKS


def uses_planes(s):
    """Strips of several planes, but where rows of a plane do better.

    Strips go down a plane, bands along its rows, which memory prefers: on planes that no cache
    holds, filters of 5x5 and more get bands.
    """
    cached = kernel_taps(s) < 25 or s.output[1] * s.output[2] <= 1 << 17
    return has_strips(s) and s.groups > 1 and cached and not uses_folds(s)


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
    flat = kd == 1 and s.padding[0] == 0 and (s.output[0] - 1) * s.stride[0] < s.size[0]
    dense = s.dilation[1] == 1 and s.dilation[2] == 1
    return fits and filtered and flat and dense and uses_planes(s)


def period_of(s, lanes):
    """Vectors of outputs after which the channels of their lanes repeat."""
    channels = s.groups * s.c_out
    return channels // gcd(channels, lanes)


def has_dense_pixels(s, lanes):
    """Depthwise, with pixels that lie dense, channels innermost.

    The weights are repeated for all vectors of a period, which must not take too much memory.
    """
    channels = s.groups * s.c_out
    read = s.in_strides[1] == 1 and s.in_strides[4] == s.groups
    written = s.out_strides[1] == 1 and s.out_strides[4] == channels
    repeated = period_of(s, lanes) * (kernel_taps(s) + 1) * VECTOR_BYTES
    return s.c_in == 1 and read and written and repeated <= MOST_REPEATED


def uses_interleaved(s, lanes):
    """Dense pixels whose channels fill no vectors.

    So it is with few channels, with some that are left over, and where each has several outputs.
    """
    filled = s.c_out == 1 and s.groups % lanes == 0
    others = filled or fills_lanes(s, lanes) or uses_folds(s)
    return has_dense_pixels(s, lanes) and s.groups > 1 and not others


def uses_channels(s, lanes):
    """Depthwise, with channels enough to fill a vector, unless rows of pixels do better.

    They do so where the copy to lanes and back costs more than it saves: on wide rows that are
    neighbours in memory, under filters of 5x5 and more, or of elements that are converted.
    """
    wide_rows = s.in_strides[4] == 1 and s.stride[2] == 1 and s.output[2] >= 64
    neighbours = s.out_strides[1] == 1 or s.out_strides[4] == 1  # not in a phase of a gradient
    large = (kernel_taps(s) >= 25 or not reads_in_place(s)) and wide_rows
    folds = uses_folds(s) and s.in_strides[4] == 1
    fills = is_depthwise(s) and s.groups >= lanes
    return fills and neighbours and not large and not folds


def has_tall_filter(s, lanes):
    """Of depthwise layers, filters taller than a strip, where channels fill vectors better.

    Such a filter is a sum of strips, each of which stores its sums for the next one to add to.
    """
    by_rows = s.output[2] / round_up(s.output[2], lanes)
    fuller = by_rows < s.groups / round_up(s.groups, lanes)
    return s.kernel[1] > STRIP_ROWS[-1] and fuller and uses_channels(s, lanes)


def is_pointwise(s):
    """Whether each output reads the one pixel at its place."""
    return (*s.kernel, *s.stride, *s.padding) == (1,) * 6 + (0,) * 3 and s.size == s.output


def has_dots(s):
    """A pointwise layer on one row, with channels that lie side by side."""
    side_by_side = s.in_strides[1] == 1 and s.out_strides[1] == 1
    one_row = s.n == 1 and is_signal(s)
    return one_row and is_pointwise(s) and side_by_side and reads_in_place(s)


def uses_dots(s, lanes):
    """Dot products where few of them share weights or pixels."""
    far = s.c_out * s.c_in * VECTOR_BYTES > second_level_cache() * lanes
    few = s.c_out < BAND_CHANNELS or s.output[2] <= (FAR_DOT_PIXELS if far else DOT_PIXELS)
    return has_dots(s) and few and s.c_in >= lanes


def fills_lanes(s, lanes):
    """Whether the output channels of a group fill vectors."""
    filled = -(-s.c_out // lanes) * lanes
    return s.c_out >= lanes and 5 * filled <= 6 * s.c_out


def has_short_rows(s, lanes):
    """Whether output rows have less than SHORT_VECTORS vectors."""
    return s.output[2] < SHORT_VECTORS * lanes


def padded_columns(s):
    """Columns of a row of outputs, summed over a row of taps, that read zero padding."""
    count, first = 0, 0
    for taps, until in axis_taps(s, 2):
        count += (until - first) * (s.kernel[2] - (taps.end - taps.begin))
        first = until
    return count


def has_zones(s):
    """Whether zones can be computed: their columns are neighbours, what is left out are zeros."""
    return s.stride[2] == 1 and pads_zeros(s) and reads_in_place(s)


def uses_zones(s, lanes):
    """Dilated layers on short rows, with channels enough on both sides.

    Cutting rows into zones costs a time that few channels do not repay: a twentieth of the columns
    must read padding, and 3 / C_in more. Under a dilation of 2 it does not pay.
    """
    dilated = s.kernel[2] > 1 and s.dilation[2] > 2
    fills = s.c_in >= 2 * lanes and s.c_out >= 2 * lanes and fills_lanes(s, lanes)
    if not (has_zones(s) and dilated and fills and has_short_rows(s, lanes)):
        return False
    padded = padded_columns(s)
    return padded >= (1 / 20 + 3 / s.c_in) * (s.kernel[2] * s.output[2] - padded)


def gets_zones(s):
    """Whether zones serve a problem, its dtype aside: for `auto`, with the lanes of float32."""
    return uses_zones(s, VECTOR_BYTES // 4)


def is_signal(s):
    """Whether there is one row alone, as in a pointwise layer."""
    return s.size[:2] == s.output[:2] == s.kernel[:2] == (1, 1)


def copied_pixels(s):
    """Pixels of a channel that vectors of pixels have copied to halo tiles, for each output."""
    kd, kh, kw = s.kernel
    if is_signal(s) and s.stride[2] == 1:
        return 0
    return kd * min(kh, s.stride[1]) * min(kw, s.stride[2])


def pages_of_pixels(s, lanes):
    """Pages in which one pixel of all input channels of a group lies."""
    return s.c_in * min(1, s.in_strides[1] * VECTOR_BYTES / (PAGE_BYTES * lanes))


def has_far_pixels(s, lanes):
    """Whether a layer of one tap reads channels on more pages than are at hand."""
    return kernel_taps(s) == 1 and pages_of_pixels(s, lanes) > MOST_PAGES


def columns_in_line(s):
    """Columns of a row of outputs, or of all rows of an image where `matrix` joins them.

    It does under a single tap. Rows of a pointwise layer in its simplest form are images.
    """
    neighbours = s.out_strides[3] == s.output[2] * s.out_strides[4]
    return s.output[2] * (s.output[1] if kernel_taps(s) == 1 and neighbours else 1)


def wasted(s, lanes):
    """Multiply-adds that rows waste at their ends, for each vector of results."""
    cols = columns_in_line(s)
    return s.c_in * kernel_taps(s) * (-cols % lanes) / cols


def ends_singly(s, lanes):
    """Whether short rows with a long k end with a tile of a single vector of pixels.

    That loads a weight for each multiply-add.
    """
    cols = columns_in_line(s)
    long = s.c_in * kernel_taps(s) >= ODD_K
    return long and cols < SHORT_VECTORS * lanes and ceil_div(cols, lanes) % 2 == 1


def uses_transposed(s, lanes):
    """Whether lanes are output channels: where vectors of pixels would take longer.

    Two costs are compared, in multiply-adds for each vector of results. By pixels: the lanes that
    rows waste at their ends, and the pixels that are copied to a halo tile. By channels: moving the
    results, which the tile does not store where they belong, and a tile of a single vector, which
    loads a pixel for each multiply-add; and where pixels lie on pages that are not at hand, looking
    these up. With the channels last results are stored as they are, so channels that fill the lanes
    decide. Channels that leave lanes over waste these, and can repay it under a stride, where many
    pixels are copied for few outputs.
    """
    filled, last = fills_lanes(s, lanes), s.out_strides[1] == 1
    if filled and last:
        return True
    if not (last or s.out_strides[4] == 1) or not (filled or max(s.stride[1:]) > 1):
        return False
    k_size, by_pixels = s.c_in * kernel_taps(s), wasted(s, lanes)
    if k_size > SHALLOW_K and leaves_out_padding(s):
        by_pixels += COPY_COST * copied_pixels(s) * s.c_in / s.c_out
    by_channels = MOVE_COST if s.c_out >= 2 * lanes else MOVE_COST + k_size // 9
    if not filled:
        by_channels += k_size * (round_up(s.c_out, lanes) - s.c_out) / s.c_out
    if has_far_pixels(s, lanes):
        by_channels += PAGE_COST * k_size / (TILE_ROWS * TILE_VECTORS)
    return by_pixels > by_channels or (filled and ends_singly(s, lanes))


def uses_panels(s, lanes):
    """Layers of one tap whose pixels are better packed, once for all output channels.

    A tile that reads them in place takes from each channel two vectors. Where channels lie on more
    pages than are at hand, each register block looks all of these up again; packing does it once.
    Two register blocks repay that. Panels are also full at the ends of rows and of images: with a
    long k, and outputs enough, that repays packing by itself.
    """
    if kernel_taps(s) > 1 or max(s.padding) > 0 or s.in_strides[4] != 1 or s.out_strides[4] != 1:
        return False
    if is_pointwise(s) and s.output[0] == 1 and has_far_pixels(s, lanes):
        return PAGE_COST * ceil_div(s.c_out, TILE_ROWS) > PACK_COST
    large = s.c_in >= ODD_K and s.c_out >= ODD_CHANNELS
    return large and (wasted(s, lanes) > MOVE_COST or ends_singly(s, lanes))


def gets_panels(s):
    """Whether panels serve a problem, its dtype aside: for `auto`, with the lanes of float32."""
    return s.c_out >= BAND_CHANNELS and uses_panels(s, VECTOR_BYTES // 4)


def stays_cached(s, lanes):
    """Whether a cache keeps the input."""
    return s.n * s.in_strides[0] * VECTOR_BYTES <= MOST_CACHED * lanes


def has_rows_apart(s, lanes):
    """Whether pixels are neighbours, and channels lie where caches have room for many at once.

    A large power of two apart they push each other out.
    """
    return s.in_strides[4] == 1 and s.in_strides[1] * VECTOR_BYTES % (8192 * lanes) != 0


def reads_pixels_in_place(s, lanes):
    """Whether `matrix_transposed` needs no halo tile.

    It reads pixels one by one, at any distance, and prefetches those of later channels, so it needs
    none if the taps that it leaves out are all that read padding. Pixels a page apart, as of 1024
    channels that are innermost, all want the same few places in the first-level cache.
    """
    apart = s.stride[2] * s.in_strides[4] * VECTOR_BYTES % (4096 * lanes) != 0
    return leaves_out_padding(s) and apart and reads_in_place(s)


def reads_rows_in_place(s, lanes):
    """Whether `matrix` needs no halo tile: for pointwise layers on rows of whole vectors.

    Other rows are left to `reads_signals_in_place`, which asks for each task.
    """
    whole = s.output[2] % lanes == 0 and has_rows_apart(s, lanes)
    return is_pointwise(s) and whole and reads_in_place(s)


def reads_signals_in_place(s, lanes):
    """Whether tasks of `matrix` that meet no padding need no halo tile: those of signals.

    Signals from memory are faster in place only because the tile prefetches them.
    """
    single = s.stride[1] == 1 and s.stride[2] == 1
    return single and is_signal(s) and has_rows_apart(s, lanes) and reads_in_place(s)


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
    """Name the lowerings that can compute a problem: `find_lowering` returns one of them."""
    return [name for name, applies in APPLIES.items() if applies(s, lanes)]


def find_lowering(s, lanes):
    """Return the name of the lowering that serves a problem: the most special that does.

    A problem whose halo tiles would be nearly all padding goes to `im2col`, whose panels hold what
    the taps read, and so does one whose channels lie on too many pages.
    """
    if uses_dots(s, lanes):
        return "dots"
    if uses_planes(s) and not has_tall_filter(s, lanes):
        return "depthwise_planes"
    if uses_interleaved(s, lanes):
        return "patch_matrix" if has_padded_channels(s) else "depthwise_interleaved"
    if uses_channels(s, lanes):
        return "patch_matrix" if has_padded_channels(s) else "depthwise_channels"
    if uses_zones(s, lanes):
        return "matrix_zones"
    if uses_bands(s):
        if has_padded_halo(s):
            return "patch_matrix"
        return "filter_folds" if uses_folds(s) else "filter_rows"
    if uses_panels(s, lanes):
        return "patch_matrix"
    transposed = uses_transposed(s, lanes)
    in_place = reads_pixels_in_place(s, lanes) if transposed else reads_rows_in_place(s, lanes)
    if has_padded_halo(s) and not in_place:
        return "patch_matrix"
    return "matrix_transposed" if transposed else "matrix"
