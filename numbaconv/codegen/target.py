"""The CPU that Numba compiles for: bytes in a vector, number of registers; its cache.

Vectors follow ``NUMBA_CPU_NAME`` and ``NUMBA_CPU_FEATURES`` and not only the host, so that code
built for another machine, or tested as if on one, has the register block of that machine.
"""

import functools
from pathlib import Path
from typing import NamedTuple

import llvmlite.binding as llvm

from numbaconv.codegen.integers import ceil_div
from numbaconv.codegen.machines import has, is_host, lacks, machine, target_machine

_PROBE = """
define void @probe(ptr %p) {
  %v = load <16 x float>, ptr %p, align 4
  %w = fadd <16 x float> %v, %v
  store <16 x float> %w, ptr %p, align 4
  ret void
}
"""


class VectorUnit(NamedTuple):
    """Width and number of the vector registers of a CPU."""

    vector_bytes: int
    registers: int


def probed_vector_unit() -> VectorUnit:
    """Ask LLVM which registers it would use for 16 floats on the target CPU.

    Feature strings alone do not say: a CPU's name implies features of its own, and only LLVM
    knows which. So a three-line function is compiled and its assembly is read.
    """
    module = llvm.parse_assembly(_PROBE)
    module.triple = machine().triple
    assembly = target_machine().emit_assembly(module)
    if "zmm" in assembly:
        return VectorUnit(64, 32)
    if "ymm" in assembly:
        return VectorUnit(32, 16)
    if "xmm" in assembly:
        return VectorUnit(16, 16)
    return VectorUnit(16, 32)  # NEON, VSX and the like


@functools.cache
def vector_unit() -> VectorUnit:
    """Return the vector registers that LLVM uses on the target CPU.

    The features of the host are complete. With AVX they leave no question, but where LLVM says that
    AVX-512 is there without its long vectors: compiling the probe takes a fiftieth of the time that
    importing Numba takes.
    """
    if is_host() and has("avx") and not lacks("evex512"):
        return VectorUnit(64, 32) if has("avx512f") else VectorUnit(32, 16)
    return probed_vector_unit()


VECTOR_BYTES, REGISTERS = vector_unit()

# Zen 4 executes a vector of 64 bytes as two halves. Beside it all else takes half as long. Plans
# depend on it, no compiled code.
HALVES_VECTORS = VECTOR_BYTES == 64 and machine().cpu == "znver4"

# Whether a core is one of AMD's with such vectors: it has the places of thousands of pages at hand,
# and sees far ahead what it will read. Plans depend on it, too.
ZEN = VECTOR_BYTES == 64 and machine().cpu in ("znver4", "znver5")


def _cache_entry(level: int, name: str) -> str:
    """What Linux tells of the first core's cache; empty if it does not."""
    try:
        return Path(f"/sys/devices/system/cpu/cpu0/cache/index{level}/{name}").read_text().strip()
    except OSError:
        return ""


def _cache_size(level: int, usual: int) -> int:
    digits = _cache_entry(level, "size").removesuffix("K")
    return int(digits) * 1024 if digits.isdigit() else usual


def _usual_size(level: int, least: int, most: int) -> int:
    """Bytes of a cache where Linux tells, but within the usual sizes; else the least of these."""
    return min(max(_cache_size(level, least), least), most)


def first_level_cache() -> int:
    """Bytes of a core's first-level cache where Linux tells: 32 to 64 KiB; else 32 KiB."""
    return _usual_size(0, 32 * 1024, 64 * 1024)


def second_level_cache() -> int:
    """Bytes of a core's second-level cache where Linux tells, within the usual sizes; else 512 KiB.

    No compiled code depends on it: it may differ between machines that share kernels.
    """
    return _usual_size(2, 512 * 1024, 2048 * 1024)


# Bytes of a third-level cache for each core that shares it: no CPU has more. A virtual machine of a
# few cores is told the size of a whole server's, most of which others use.
_MOST_OF_A_CORE = 16 << 20


@functools.cache
def last_level_caches(threads: int) -> int:
    """Bytes of the third-level caches that so many threads share; 32 MiB where Linux tells nothing.

    Several: on large machines a few cores each have one of their own.
    """
    sharing = _cache_entry(3, "shared_cpu_map").replace(",", "")
    try:
        cores = max(1, int(sharing, 16).bit_count())
    except ValueError:
        cores = max(2, threads)
    return min(_cache_size(3, 32 << 20), cores * _MOST_OF_A_CORE) * ceil_div(threads, cores)
