"""Packing: data put in the order in which register tiles read it, and results brought back.

==========  =======================================  ==============================================
file        packs                                    for
==========  =======================================  ==============================================
weights     panels of weights, [k][row]              the products of direct and im2col
halo        halo tiles: padded input, by phases      direct's products and bands, gradients' dots
rows        rows with their padding                  halo tiles, panels of im2col, rows of zones
results     tiles to the output, and back            all that is not stored where it is computed
maps        planes to vectors of channels, and back  depthwise layers on small maps
transpose   transposed copies                        weights, results, channels that are innermost
lanes       one vector, or a piece of some           the other files
conversion  rows of any dtype to scratch, and back   filters, interleaved channels, `out_dtype`
reading     vectors of another dtype, as they come   lanes, conversion
==========  =======================================  ==============================================

All copies stay inside the caller's memory: what a vector would reach beyond is masked, and not
read or written. Padding is written to the copy, and never read.

The modules import each other, `job`, `blocking`, `problem` and `codegen`; they and the register
tiles do not know each other.
"""
