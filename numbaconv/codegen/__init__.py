"""From Python functions to machine code, kept on disk.

A function is compiled in one of four ways:

- `jit.inline`: a helper, which becomes part of what calls it;
- `jit.native`: called through its address, compiled once for each element type. What many
  functions call, or what takes long to compile, is native. Its arguments are a class, by which
  each call is checked (`arguments`). Python calls some with arrays (`jit.from_python`);
- `jit.parallel`: native too, with the ``prange`` that runs a job on several threads: the one
  function that Numba compiles in its own way;
- `twins.emitted`: native too, but emitted as LLVM IR (`vectors`), where the registers are to be
  filled by hand. What it computes is said by its twin in NumPy.

Numba is the front end alone for helpers and natives: a native and all its helpers are one module of
IR, optimised once and kept as an object (`pipeline`, `objects`).

Single instructions that Numba has no words for are intrinsics (`pointers`, `packing.lanes`), each
with such a twin.

No fastmath: NaN and infinities go where arithmetic takes them, and sums have one order. Code is
made for the CPU that Numba compiles for (`target`).

The cache promises never to be the cause of an exception, and never to give a kernel of other
sources, another CPU or another version: see `cache`.
"""
