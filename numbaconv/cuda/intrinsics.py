"""What CUDA Python has no words for: wide loads and stores by address, and the tensor cores.

Kernels get the arrays in global memory as addresses, plain 64-bit integers: an array argument
would be seven parameters of a launch instead of one, and each costs time. `load` and `store` say
the element type, and tell the compiler that the address is global, so that no generic access is
left. In shared memory there are ordinary arrays, or 32-bit addresses where a loop moves along.

Each function is LLVM IR or inline PTX (`compiled_memory`, `compiled`), or a few lines of Python for
Numba's simulator (`simulated`), where an address is a flat NumPy array.
"""

from importlib import import_module
from typing import Any

from numba import types

from numbaconv.cuda.toolkit import simulated

SIMULATED = simulated()

float32, float64 = types.float32, types.float64
int32, int64 = types.int32, types.int64
uint16, uint32 = types.uint16, types.uint32

# Of a row of a tile for tensor cores. The simulator's shared arrays take none, and need none.
SHARED_ALIGNMENT = None if SIMULATED else 64

_package = "numbaconv.cuda."
_memory: Any = import_module(_package + ("simulated" if SIMULATED else "compiled_memory"))
_arithmetic: Any = import_module(_package + ("simulated" if SIMULATED else "compiled"))

commit = _memory.commit
flip = _memory.flip
is_aligned = _memory.is_aligned
load = _memory.load
load_header = _memory.load_header
load_two = _memory.load_two
load_wide = _memory.load_wide
fence_proxy = _memory.fence_proxy
make_copy = _memory.make_copy
make_gather = _memory.make_gather
make_patch = _memory.make_patch
make_read = _memory.make_read
make_wait = _memory.make_wait
move_on = _memory.move_on
shared_address = _memory.shared_address
store = _memory.store
store_apart = _memory.store_apart
store_wide = _memory.store_wide

bits_of_float = _arithmetic.bits_of_float
divide_nearly = _arithmetic.divide_nearly
float_of_bits = _arithmetic.float_of_bits
from_half = _arithmetic.from_half
make_begin_products = _arithmetic.make_begin_products
make_describe = _arithmetic.make_describe
make_finish_products = _arithmetic.make_finish_products
make_load_matrix = _arithmetic.make_load_matrix
make_outer = _arithmetic.make_outer
make_multiply = _arithmetic.make_multiply
make_row = _arithmetic.make_row
make_slide = _arithmetic.make_slide
make_tap_products = _arithmetic.make_tap_products
make_tap_sums = _arithmetic.make_tap_sums
make_transform = _arithmetic.make_transform
make_warp_multiply = _arithmetic.make_warp_multiply
make_zeros = _arithmetic.make_zeros
quotient = _arithmetic.quotient
read_thread = _arithmetic.read_thread
scaled = _arithmetic.scaled
to_half = _arithmetic.to_half
to_tf32 = _arithmetic.to_tf32
within = _arithmetic.within
