"""The CPU: its engines, the gradients, and what these are made of.

An engine is a folder with two functions. ``lower(s, dtype, threads)`` says how it computes a
problem, as a `lowering.Lowering`; ``unavailable()`` says why it cannot run here. A planned call
goes from `execution` (flat arrays, a job, the launch) through `job` (what workers are given, their
queues, the one parallel region) to the worker of a lowering, which takes tasks until none is left:

=====================  ==========  =================  ==========================================
lowering               engine      microkernel        what a task copies
=====================  ==========  =================  ==========================================
matrix                 direct      matrix             a halo tile; nothing of a pointwise layer
matrix_transposed      direct      matrix_transposed  nothing where only zeros are padded
matrix_zones           direct      matrix_transposed  the rows that it reads
filter_rows            direct      band, fold         a halo tile; of wide rows the ends alone
dots                   direct      dot                nothing
depthwise_planes       direct      strip, plane       nothing
depthwise_phases       direct      phases             nothing
depthwise_maps         direct      maps               the map with its padding, channels innermost
depthwise_outer        direct      (lanes)            nothing
patch_phases           direct      matrix, weave      its pixels
depthwise_interleaved  direct      depthwise          a halo tile; nothing inside an image
depthwise_channels     direct      depthwise          a halo tile, a vector of channels innermost
patch_matrix           im2col      matrix             the patches of its pixels
overlap_save           fft         transform          tiles, as columns of vectors
minimal_filtering      winograd    matrix             a halo tile, in phases of a tile's outputs
=====================  ==========  =================  ==========================================

The loops of a task have BLIS's names: jc and ic over blocks of columns and rows of the output, pc
over k = (input channel, tap) KC at a time, jr and ir over register blocks NR x MR. `blocking` has
their sizes, each with its arithmetic.

Filters of images (`separable`) are no layers: they have walks in place of lowerings, and the same
job and launch. A result of another dtype than its sums is computed part by part (`pieces`), each a
convolution of its own, and a job that stores what that has computed. So are complex numbers
(`complex_parts`), whose real and imaginary parts are channels of their own.

Read `lowering`, `direct.choice`, `job`, `direct.tasks`, then one lowering and its microkernel.
Imports: `numbaconv.problem`, `numbaconv.runtime`, `numbaconv.codegen`; nothing of `numbaconv.cuda`.
Inside, `fft` and `winograd` stand above `direct`, `gradients` and `separable`, these above
`im2col`, that above `execution`, then `packing` and `microkernels`, then `job`.
"""
