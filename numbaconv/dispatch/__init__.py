"""Which backend runs a call, and the way there.

The first that is set decides: the argument ``backend=``, `use_backend`, `set_backend`, the
environment variable ``NUMBACONV_BACKEND``, else ``auto``.

`backends`
    That precedence, and the names of the backends with their modules.
`choice`
    What ``auto`` does: a function of the problem. ``benchmarks/choose.py`` measures how good it is.
`host`
    Calls with NumPy arrays: to a CPU engine, or to the GPU and back.
`gradients`
    Gradients and transposed convolutions on the CPU: which engines compute them.
`precision`
    How exact a call has to be: the argument ``precision=``, else ``NUMBACONV_PRECISION``.
`gpu`
    Calls with arrays on a GPU, their streams and their precision. It imports nothing of CUDA.
"""
