"""A validated call as values: no kernels, no memory, no threads.

The values can be hashed, printed and tested without compiling. A call goes through the files in
this order:

1. `validation` turns each argument into integers, or raises an error that names the argument.
2. `forward` describes the convolution of a call as a `shape.ConvShape`. `backward` does so for a
   gradient or a transposed convolution: it describes the convolution that they belong to.
3. `plan` makes of it what a call needs beside its data, and keeps that for the next call with the
   same shapes, dtypes and options.

The other files answer questions about arguments: `libraries` (whose arrays these are), `dtypes`,
`out_dtype`, `layout`, `activations`, `padding_modes` and `padding_value`. And about problems:
`simplest` (the same sums with fewer axes), `pieces` and `parts` (a convolution as several),
`phases` (of a stride), `taps` (those that read more than padding), and `toom_cook` with its
`points` (fewer products for kernels of 3).

Of the package these files import each other and ``numbaconv.codegen``: some of their functions are
part of compiled code too.
"""
