"""Gradients and transposed convolutions.

The adjoint of a convolution (`adjoint`) is a convolution of stride 1 for each phase of the stride,
each on its engine, or one job where an engine computes all as a whole; `adjoint_chain` packs the
weights of all phases and runs them in one launch. Of few channels it is one product, whose results
`fold` adds where they belong. Gradients that are layers of another kind
(`as_layers`) are run so, too. Else the gradient of the weights (`weight`) is a sum over all pixels:
`weight_tasks` cuts the pixels into slabs that follow from the problem alone and are added in order,
so that bits do not depend on the number of threads; `weight_products` (lanes are input channels),
`weight_dots` and `weight_strips` (lanes are pixels) compute the sums.

Imports: what lies below it in `numbaconv.cpu`, and no engine.
"""
