"""Register tiles: the innermost loops, emitted as LLVM IR, with their sums in registers.

=================  ==============  ===========================  =========  =========================
file               function        computes                     a lane is  used by
=================  ==============  ===========================  =========  =========================
matrix             tile            weights x vectors of pixels  a pixel    direct/matrix, im2col
                                   weights x inputs at a point  a tile     winograd
matrix_transposed  pixel_tile      pixels x vectors of weights  a channel  direct/matrix_transposed
                                   gradient x vectors of input  a channel  gradients/weight_products
matrix_transposed  zone_tile       the same, in cache           a channel  direct/matrix_zones
band               band            filtered rows                a column   direct/filter_rows
fold               fold            a row, long filter           a column   direct/filter_rows
strip              STRIPS          columns of planes            a column   direct/depthwise_planes
plane              small_planes    small planes, whole          a column   direct/depthwise_planes
phases             phase_rows      rows of an adjoint           a column   direct/depthwise_phases
maps               map_sums        pixels of small maps         a channel  direct/depthwise_maps
weave              weave           rows, in turn                any        direct/patch_phases
depthwise          depthwise_tile  pixels of many planes        a channel  direct/depthwise_channels
interleaved        interleaved_    rows of a photograph         a channel  direct, interleaved
                   tile
dot                dot             images x images, summed      a pixel    gradients/weight_dots
                                   pixels x filters, summed     a channel  direct/dots
strip_sums         strip_sums      planes x planes, summed      a pixel    gradients/weight_strips
transform          forward         transforms of columns        a column   fft
                   inverse         the same, back               a column   fft
spectrum           product         spectra x spectra, summed    a column   fft
                   move_vectors    copies                       any        fft
minimal_filters    evaluate        inputs at the points         a tile     winograd
                   evaluate_taps   weights at the points        a weight   winograd
                   interpolate     outputs from products        a tile     winograd
=================  ==============  ===========================  =========  =========================

`activations` has the formulas of the functions that are applied to a finished tile, and
`approximations` their coefficients.

`accumulators` has what tiles are made of: the block of sums, loops that carry it, and the switch
with a case for each size of a block. A function is compiled once for each element type and is
called through its address, with a tuple of its own class of arguments.

The rules that all obey:

- Where `accumulate` is 0, C is not read: it may hold anything, NaN among it.
- Edges belong to the tile. The last vector of a row may have fewer lanes (`last`), and a block
  fewer rows and vectors than the largest; nothing else of C is written.
- Operands are loaded by whole vectors, so there must be a vector of slack behind them. `strip`,
  `small_planes`, `phase_rows` and `dot` load under masks and need none.
- Sums are added up in the order of k, each product by one multiply-add. Nothing is reordered:
  there is no fastmath.
- Each has a twin in NumPy, which carries its documentation and runs under NUMBA_DISABLE_JIT=1.

The modules import each other, `blocking` and `codegen`; they know nothing of jobs or problems.
"""
