"""What the machine can do at most, measured: multiply-adds and copying.

The loop of multiply-adds is LLVM IR with explicit vectors: left to itself, LLVM stops at 256 bits
on CPUs that have 512.
"""

import os
import platform
import time
import timeit
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite.binding as ll
import numba as nb
import numpy as np
from llvmlite import ir
from numba.core import cgutils, config, types
from numba.extending import intrinsic

ACCUMULATORS = 12
"""Independent sums: latency (4 cycles) times units (2) is 8, and some to spare."""


def vector_bits() -> int:
    """Width of the vector registers that Numba's code may use, in bits."""
    if config.CPU_FEATURES is None:
        features = ll.get_host_cpu_features().flatten()
    else:  # set, perhaps to nothing, by NUMBA_CPU_NAME and NUMBA_CPU_FEATURES
        features = config.CPU_FEATURES
    names = features.split(",")
    return 512 if "+avx512f" in names else 256 if "+avx" in names else 128


@intrinsic
def _multiply_add(typingctx: Any, rounds: Any, factor: Any) -> Any:
    """Sum of ``rounds * ACCUMULATORS * lanes`` multiply-adds of factor, in vector registers."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        rounds, factor = args
        lanes = vector_bits() // signature.args[1].bitwidth
        vector = ir.VectorType(factor.type, lanes)
        name = f"llvm.fma.v{lanes}f{signature.args[1].bitwidth}"
        fma = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(vector, [vector] * 3), name
        )
        factors = ir.Constant(vector, ir.Undefined)
        for lane in range(lanes):
            factors = builder.insert_element(factors, factor, ir.IntType(32)(lane))

        before, loop = builder.block, builder.append_basic_block("loop")
        after = builder.append_basic_block("after")
        builder.branch(loop)
        builder.position_at_end(loop)
        count = builder.phi(rounds.type)
        sums = [builder.phi(vector) for _ in range(ACCUMULATORS)]
        added = [builder.call(fma, [s, factors, factors]) for s in sums]
        next_count = builder.add(count, rounds.type(1))
        count.add_incoming(rounds.type(0), before)
        count.add_incoming(next_count, loop)
        for i, (old, new) in enumerate(zip(sums, added, strict=True)):
            old.add_incoming(ir.Constant(vector, [float(i)] * lanes), before)
            old.add_incoming(new, loop)
        builder.cbranch(builder.icmp_signed("<", next_count, rounds), loop, after)

        builder.position_at_end(after)
        total = added[0]
        for value in added[1:]:
            total = builder.fadd(total, value)
        return builder.extract_element(total, ir.IntType(32)(0))

    return factor(types.int64, factor), codegen


@nb.njit(parallel=True, nogil=True)
def _multiply_add_in_threads(results: Any, rounds: int, factor: Any) -> None:
    """Run `_multiply_add` once in each thread."""
    for thread in nb.prange(results.size):
        results[thread] = _multiply_add(rounds, factor)


@nb.njit(parallel=True, nogil=True)
def _copy(source: Any, target: Any) -> None:
    """Copy an array, a slice in each thread."""
    for i in nb.prange(source.size):
        target[i] = source[i]


@intrinsic
def _stream(typingctx: Any, source: Any, target: Any, first: Any, end: Any) -> Any:
    """Copy elements first .. end - 1, whole vectors, with stores that go past the caches."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        arrays = [
            context.make_array(kind)(context, builder, value)
            for kind, value in zip(signature.args[:2], args[:2], strict=True)
        ]
        lanes = vector_bits() // signature.args[0].dtype.bitwidth
        vector = ir.VectorType(arrays[0].data.type.pointee, lanes).as_pointer()
        hint = builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)])
        step = ir.Constant(ir.IntType(64), lanes)
        with cgutils.for_range_slice(builder, args[2], args[3], step) as (i, _):
            read, written = (
                builder.bitcast(builder.gep(array.data, [i]), vector) for array in arrays
            )
            store = builder.store(builder.load(read, align=8), written, align=64)
            store.set_metadata("nontemporal", hint)
        return context.get_dummy_value()

    return nb.types.void(source, target, first, end), codegen


@nb.njit(parallel=True, nogil=True)
def _copy_past_caches(source: Any, target: Any, threads: int) -> None:
    """Copy an array, a slice in each thread; the target begins at a cache line."""
    lines = source.size // 8
    for thread in nb.prange(threads):
        _stream(source, target, lines * thread // threads * 8, lines * (thread + 1) // threads * 8)


def _best_time(run: Callable[[], Any], repeat: int, cpu: bool = False) -> float:
    """Time a call several times; the best counts, since limits are looked for."""
    clock = time.process_time if cpu else time.perf_counter
    return min(timeit.repeat(run, number=1, repeat=repeat, timer=clock))


def fma_rate(
    threads: int, dtype: str = "float32", seconds: float = 0.02, cpu: bool = False
) -> float:
    """Measure the most that multiply-add instructions can do.

    Parameters
    ----------
    threads : int
        How many threads compute at once.
    dtype : str
        ``"float32"`` or ``"float64"``.
    seconds : float
        Rough length of one of the runs, of which the best counts.
    cpu : bool
        Whether CPU time counts, for one thread.

    Returns
    -------
    float
        FLOP/s, all threads together; a multiply-add is two FLOPs.
    """
    results = np.zeros(threads, dtype)
    factor = results.dtype.type(0.5)
    lanes = vector_bits() // (8 * results.itemsize)

    def best_time(rounds: int, repeat: int) -> float:
        return _best_time(lambda: _multiply_add_in_threads(results, rounds, factor), repeat, cpu)

    nb.set_num_threads(threads)
    few = 1 << 18
    rounds = max(few, int(few * seconds / best_time(few, repeat=5)))
    flops = 2 * lanes * ACCUMULATORS * rounds * threads
    return flops / best_time(rounds, repeat=21)


def copy_bandwidth(threads: int, megabytes: int = 256) -> float:
    """Measure how fast memory is copied to memory, by ordinary stores or past the caches.

    What an ordinary store overwrites is read first. Which way is faster goes by the machine.

    Parameters
    ----------
    threads : int
        How many threads copy at once.
    megabytes : int
        Size of the array, which has to be larger than the caches.

    Returns
    -------
    float
        Bytes per second, those read and those written together.
    """
    source = np.ones(megabytes << 17)
    target = np.zeros(source.size + 8)
    target = target[-target.ctypes.data % 64 // 8 :][: source.size]
    nb.set_num_threads(threads)
    times = (
        _best_time(lambda: _copy(source, target), repeat=11),
        _best_time(lambda: _copy_past_caches(source, target, threads), repeat=11),
    )
    return 2 * source.nbytes / min(times)


def describe() -> str:
    """Name the CPU, the number of cores that may be used, the system and the versions."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = (line for line in info.read_text().splitlines() if line.startswith("model name"))
        model = next(names, model).split(":")[-1].strip()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return (
        f"{model}, {cores} cores, {ll.get_host_cpu_name()}, {vector_bits()}-bit vectors, "
        f"{platform.system()}, Python {platform.python_version()}, "
        f"NumPy {np.__version__}, Numba {nb.__version__}"
    )
