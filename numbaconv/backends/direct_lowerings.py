"""Which lowering of the direct backend serves a problem: predicates of the problem alone.

`direct.own_plan` and `direct.set_addresses` ask them, the most special first.
"""

from numbaconv.backends.direct_taps import leaves_out_padding
from numbaconv.blocking import SHALLOW_K, SMALL_FILTERS, STRIP_ROWS, STRIP_STRIDES
from numbaconv.halo import axis_phases, halo_layout
from numbaconv.jit import inline
from numbaconv.pointers import CACHE_LINE
from numbaconv.shape import ZEROS, kernel_taps
from numbaconv.taps import axis_taps
from numbaconv.target import VECTOR_BYTES, last_level_caches

# Vectors of 16 bytes (SSE, NEON) are loaded whole, or lane by lane.
HAS_MASKS = VECTOR_BYTES > 16

# Below this many output channels a group, rows of one channel fill the register block better.
BAND_CHANNELS = 4

# Rows of fewer vectors of pixels are short: see `uses_transposed`.
SHORT_VECTORS = 14

# Bytes of an input that stays in cache from one block of weights to the next.
MOST_CACHED = 6 << 20

# From so long a k on, rows of an odd number of vectors are better transposed: `uses_transposed`.
ODD_K = 256

# Multiply-adds that take as long as transposing a vector of results on its way to the output, and
# as copying a vector of pixels, with its share of the halo, to a halo tile.
MOVE_COST, COPY_COST = 13, 14


@inline
def uses_bands(s):
    """Few output channels a group, and rows that share input rows (stride or dilation is 1)."""
    return s.c_out < BAND_CHANNELS and (s.stride[1] == 1 or s.dilation[1] == 1)


@inline
def uses_folds(s):
    """Of bands, long filters along long rows: signals, and rows of an image.

    Under 20 taps few of the loads are saved: 17 taps ran at 0.9 of the speed of a band, 21 taps at
    1.1, 32 at 1.4, 64 at 1.6. On short rows the edges of blocks and the halo take more than that:
    512 columns under 31 taps ran at 0.9, 700 under 101 at 1.4.
    """
    single = s.kernel[1] == 1 and s.dilation[2] == 1
    long = s.kernel[2] >= 20 * s.stride[2] and s.output[2] * s.kernel[2] >= 20_000
    return uses_bands(s) and single and long


def streams_results(s, lanes, threads):
    """Whether results go past the caches, if they are complete when they are first stored.

    An ordinary store reads the line that it writes to, for nothing where all of it is written: of
    three streams two remain. Images larger than the caches are filtered 1.1 (7x7) to 1.5 times as
    fast, depthwise layers in batches 1.4 to 1.9. Rows must be whole lines, and the input about as
    large: writing alone is slower past the caches (0.8).
    """
    line = CACHE_LINE * lanes // VECTOR_BYTES
    whole = s.out_strides[4] == 1 and all(step % line == 0 for step in s.out_strides[1:4])
    read, written = s.n * s.in_strides[0], s.n * s.out_strides[0]
    large = (read + written) * VECTOR_BYTES > last_level_caches(threads) * lanes
    return whole and large and 2 * read >= written


def streams_bands(s, lanes, threads):
    """Of bands, filters of a single channel: others add to their results."""
    phases = axis_phases(s.kernel[1], s.stride[1], s.dilation[1])
    once = s.c_in * s.kernel[0] * phases == 1 and not uses_folds(s)
    return once and streams_results(s, lanes, threads)


def streams_planes(s, lanes, threads):
    """Of depthwise layers, filters as high as a strip."""
    once = s.kernel[0] == 1 and s.kernel[1] in STRIP_ROWS
    return once and streams_results(s, lanes, threads)


@inline
def uses_planes(s):
    """Depthwise, on rows that lie dense in memory, where masks can stand for the padding.

    Strips go down a plane, bands along its rows, which memory prefers: on planes that no cache
    holds, filters of 5x5 and more get bands (7x7 on 512 x 512: 1.6 times as fast). On smaller
    planes strips are 1.2 times as fast and more; 3x3 keeps 1.5 on 600 x 600, 0.9 to 1.0 on 1080 x
    1080.
    """
    depthwise = s.c_in == 1 and s.c_out == 1 and s.groups > 1
    dense = s.in_strides[4] == 1 and s.out_strides[4] == 1 and s.padding_mode == ZEROS
    stride = s.stride[1]
    regular = stride == s.stride[2] and (
        stride == 1 or (stride in STRIP_STRIDES and s.dilation[1] == 1 and s.dilation[2] == 1)
    )
    cached = kernel_taps(s) < 25 or s.output[1] * s.output[2] <= 1 << 17
    return depthwise and dense and regular and cached and HAS_MASKS and not uses_folds(s)


@inline
def has_half(cols, lanes):
    """Whether half a vector holds so many columns."""
    return 2 * cols <= lanes


@inline
def uses_small_planes(s, lanes):
    """Of planes, those whose rows all fit the registers, under the usual filters and padding.

    Against strips 1.4 times as fast on 7 x 7 under 5x5 and 7x7, 1.05 to 1.1 on 14 x 14, 1.0 to 1.2
    under 3x3 and with a stride of 2.
    """
    kd, kh, kw = s.kernel
    most = lanes // 2 if has_half(s.output[2], lanes) else lanes
    fits = max(s.output[1], s.output[2]) <= most and s.size[1] <= most * s.stride[1]
    # Input rows, and planes of a volume, are read without asking whether they are padding.
    filtered = kh == kw and kh in SMALL_FILTERS and s.padding[1] == kh // 2
    flat = kd == 1 and s.padding[0] == 0 and (s.output[0] - 1) * s.stride[0] < s.size[0]
    dense = s.dilation[1] == 1 and s.dilation[2] == 1
    return fits and filtered and flat and dense and uses_planes(s)


@inline
def uses_channels(s, lanes):
    """Depthwise, with channels enough to fill a vector, unless rows of pixels do better.

    They do so where the copy to lanes and back costs more than it saves: under filters of 5x5 and
    more on wide rows that are neighbours in memory (1.2 times as fast under 7x7 on 512 columns).
    """
    wide_rows = s.in_strides[4] == 1 and s.stride[2] == 1 and s.output[2] >= 64
    depthwise = s.c_in == 1 and s.c_out == 1 and s.groups >= lanes
    neighbours = s.out_strides[1] == 1 or s.out_strides[4] == 1  # not in a phase of a gradient
    large = kernel_taps(s) >= 25 and wide_rows
    folds = uses_folds(s) and s.in_strides[4] == 1
    return depthwise and neighbours and not large and not folds


@inline
def fills_lanes(s, lanes):
    """Whether the output channels of a group fill vectors."""
    filled = -(-s.c_out // lanes) * lanes
    return s.c_out >= lanes and 5 * filled <= 6 * s.c_out


@inline
def has_short_rows(s, lanes):
    """Whether output rows have less than SHORT_VECTORS vectors."""
    return s.output[2] < SHORT_VECTORS * lanes


def is_far_out(s):
    """Whether an axis of the padded input is far longer than the input: no layer, a stray option.

    With padding of 12 a 3x3 filter of dilation 12 makes 31 columns of 7: that is not far.
    """
    axes = zip(s.size, s.kernel, s.stride, s.dilation, s.output, strict=True)
    return any((o - 1) * step + (k - 1) * d + 1 > 4 * n for n, k, step, d, o in axes)


def copies_padding(s, tile, blocks):
    """Whether halo tiles of so many elements a channel would be nothing but padding, nearly.

    They then take time, and memory, that neither input nor output explain. Here `im2col` is better,
    as its panels have what the taps read: that many elements at most, and the input's once.
    """
    read = kernel_taps(s) * s.output[0] * s.output[1] * s.output[2]
    return tile * blocks > 64 * (read + s.size[0] * s.size[1] * s.size[2])


def has_padded_halo(s):
    """Whether halo tiles of a usual size would be nothing but padding, nearly."""
    if not is_far_out(s):
        return False
    cols = min(s.output[2], 1024)
    rows = min(s.output[1], max(1, 1024 // cols))
    tile = s.kernel[0] * halo_layout(s, rows, cols, 4).depth
    blocks = s.output[0] * -(-s.output[1] // rows) * -(-s.output[2] // cols)
    return copies_padding(s, tile, blocks)


def padded_columns(s):
    """Columns of a row of outputs, summed over a row of taps, that read zero padding."""
    count, first = 0, 0
    for taps, until in axis_taps(s, 2):
        count += (until - first) * (s.kernel[2] - (taps.end - taps.begin))
        first = until
    return count


def uses_zones(s, lanes):
    """Dilated layers, with channels enough on both sides: up to 1.9 times as fast on short rows.

    Cutting rows into zones takes longer with few channels: where less than a twentieth of the
    columns read padding, and with 32 or 64 channels a tenth, it is 0.85 to 1.0 times as fast. With
    a dilation of 2 it is 0.9 to 1.0. Rows, too, leave their taps out without zones.
    """
    dilated = s.kernel[2] > 1 and s.dilation[2] > 2 and s.stride[2] == 1
    fills = s.c_in >= 2 * lanes and s.c_out >= 2 * lanes and fills_lanes(s, lanes)
    zeros = s.padding_mode == ZEROS and has_short_rows(s, lanes)
    if not (dilated and fills and zeros):
        return False
    padded = padded_columns(s)
    return padded >= (1 / 20 + 3 / s.c_in) * (s.kernel[2] * s.output[2] - padded)


def is_signal(s):
    """Whether there is one row alone, as in a pointwise layer."""
    return s.size[:2] == s.output[:2] == s.kernel[:2] == (1, 1)


def copied_pixels(s):
    """Pixels of a channel that vectors of pixels have copied to halo tiles, for each output."""
    kd, kh, kw = s.kernel
    if is_signal(s) and s.stride[2] == 1:
        return 0
    return kd * min(kh, s.stride[1]) * min(kw, s.stride[2])


def uses_transposed(s, lanes):
    """Output channels that fill vectors, where vectors of pixels would take longer.

    These waste lanes at the ends of rows, and read what is copied; the product transposed moves
    each vector of its results, and copies nothing if the taps that it leaves out are all that read
    padding. Counted in multiply-adds for each vector of results: rows of 7 to 50 pixels are up to
    1.3 times as fast transposed (R5, R8, G1 of `benchmarks/layers.csv`), other rows under a stride
    of 2 1.0 to 1.1 times, volumes under one 1.2 times, wide rows of as many channels in as out
    0.94 to 1.03, on 32 columns 1.02 to 1.03; first layers (S1) and others of a short k,
    where a call for each few pixels costs more, down to 0.84 times.

    A tile of a single vector of channels loads a pixel for each multiply-add and is a ninth slower;
    one of a single vector of pixels, which ends rows of an odd number of them, a weight for each:
    with a longer k the product transposed is 1.05 to 1.3 times as fast on 16 columns, 1.05 to 1.1
    on 48, 1.02 to 1.04 on 80 and 112. Results with the channels last it stores as they are.
    """
    if s.out_strides[1] == 1:
        return fills_lanes(s, lanes)
    if s.out_strides[4] != 1 or not fills_lanes(s, lanes):
        return False
    k_size, cols = s.c_in * kernel_taps(s), s.output[2]
    by_pixels = k_size * (-cols % lanes) / cols
    if k_size > SHALLOW_K and leaves_out_padding(s):
        by_pixels += COPY_COST * copied_pixels(s) * s.c_in / s.c_out
    by_channels = MOVE_COST if s.c_out >= 2 * lanes else MOVE_COST + k_size // 9
    odd = has_short_rows(s, lanes) and k_size >= ODD_K and (cols + lanes - 1) // lanes % 2 == 1
    return by_pixels > by_channels or odd


def stays_cached(s, lanes):
    """Whether a cache keeps the input."""
    return s.n * s.in_strides[0] * VECTOR_BYTES <= MOST_CACHED * lanes


def has_rows_apart(s, lanes):
    """Whether pixels are neighbours, and channels lie where caches have room for many at once.

    A large power of two apart they push each other out (64 x 64 pointwise layers: 0.87).
    """
    return s.in_strides[4] == 1 and s.in_strides[1] * VECTOR_BYTES % (8192 * lanes) != 0


def reads_in_place(s, lanes):
    """Whether no task needs a halo tile: 1.05 to 1.4 times as fast without.

    The product transposed reads pixels one by one, at any distance, and asks for those of later
    channels, so it needs none if the taps that it leaves out are all that read padding (against
    halo tiles 1.02 to 1.1 times as fast, with a stride or from memory 1.05 to 1.25). Vectors of
    pixels must be whole: those of pointwise layers are, on rows of whole vectors; other rows are
    left to `reads_inside_in_place`, which asks for each task.
    """
    if uses_bands(s):
        return False
    if uses_transposed(s, lanes):
        # Pixels a page apart, as of 1024 channels that are innermost, all want the same few places
        # in the first-level cache (0.4 to 0.9 times as fast).
        apart = s.stride[2] * s.in_strides[4] * VECTOR_BYTES % (4096 * lanes) != 0
        return leaves_out_padding(s) and apart
    pointwise = (*s.kernel, *s.stride, *s.padding) == (1,) * 6 + (0,) * 3 and s.size == s.output
    return pointwise and s.output[2] % lanes == 0 and has_rows_apart(s, lanes)


def reads_inside_in_place(s, lanes):
    """Whether tasks that meet no padding need no halo tile: filters, and signals in cache.

    Under a filter each input row serves a task once or twice. Signals of some channels are 1.01 to
    1.15 times as fast in place; those from memory only because the tile asks for them ahead of
    time (else 0.87 to 1.0).
    """
    single = s.stride[1] == 1 and s.stride[2] == 1
    if uses_bands(s):
        return single and s.in_strides[4] == 1
    signal = is_signal(s) and not uses_transposed(s, lanes)
    return single and signal and has_rows_apart(s, lanes)
