"""Executes a grid: all threads side by side, one element of an array for each.

Threads are kept in groups of one program counter; the group with the lowest one runs next, so that
diverged threads meet again. Barriers hold the threads of a block until all of them are there.

What is checked, as `FaultError`: alignment and bounds of every access to global and shared memory,
reads of memory that was never written, two threads at one word of shared memory between two
barriers with a write among them, double writes and reads-after-writes of global memory within one
launch, .sync instructions with part of a warp, division by zero, tf32 operands with bits that the
tensor cores ignore, threads that left while others wait at a barrier, and what cp.async brings
touched before its thread has waited for it, or by another before a barrier behind that. Of wgmma:
sums touched, or shared memory overwritten, before the wait; sums touched with no wgmma.fence before
the product; and what it reads written with no fence.proxy.async, or no barrier, in between.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

import numpy as np

from tests.cuda.executed import tensor_cores
from tests.cuda.executed.instructions import numpy_type
from tests.cuda.executed.memory import ALLOCATED, BASE, NOBODYS, WRITTEN, FaultError, Memory
from tests.cuda.executed.program import Program
from tests.cuda.executed.shared import POISON, WARP, SharedMemory
from tests.cuda.executed.warpgroups import GROUP, Products, places

LANES = 1 << 16  # threads that are executed together
MOST_STEPS = 2_000_000
MOST_SHARED = 48 * 1024  # bytes of a block without an opt-in
MOST_THREADS = 1024
MOST_BLOCKS = 2**31 - 1


class Launch(NamedTuple):
    """A kernel and what it is launched with; `dynamic` bytes of shared memory."""

    program: Program
    blocks: int
    threads: int
    arguments: tuple[int, ...]
    dynamic: int = 0


class Run:
    """Some blocks of a launch, executed together.

    Translated blocks of a program call its methods: `idx` are the lanes that are executed, or None
    for all of them, and `where` their predicate or None.
    """

    def __init__(self, launch: Launch, memory: Memory, first: int, count: int) -> None:
        self.launch, self.program, self.memory = launch, launch.program, memory
        self.threads, self.count = launch.threads, count
        self.total = count * launch.threads
        self.all = np.arange(self.total)
        self.block_of = self.all // self.threads
        self.special_values = {
            "%tid.x": (self.all % self.threads).astype("u4"),
            "%ctaid.x": (first + self.block_of).astype("u4"),
            "%ntid.x": np.uint32(self.threads),
            "%nctaid.x": np.uint32(launch.blocks),
            "%dynamic_smem_size": np.uint32(launch.dynamic),
        }
        self.registers: dict[str, Any] = {}
        self.parameters = dict(zip(self.program.parameters, launch.arguments, strict=True))
        size = self.program.shared_bytes(launch.dynamic)
        self.shared = SharedMemory(size, self.threads, count, self.place)
        self.products = Products(self.shared, self.total)
        self.local = np.full((self.total, self.program.local_bytes // 4), POISON, "u4")
        self.local_set = np.zeros(self.local.shape, bool)
        self.passed = np.zeros(len(self.program.functions), "i8")  # threads, by basic block

    def place(self, lane: int) -> tuple[int, int]:
        """Block and thread of a lane."""
        return int(self.special_values["%ctaid.x"][lane]), lane % self.threads

    # Registers.

    def get(self, register: str, idx: Any) -> Any:
        value = self.registers.get(register)
        if value is None:
            count = self.total if idx is None else len(idx)
            return np.zeros(count, numpy_type(self.program.types[register]))
        return value if value.ndim == 0 or idx is None else value[idx]

    def put(self, register: str, value: Any, idx: Any) -> None:
        if idx is None:
            self.registers[register] = np.asarray(value)
            return
        old = self.registers.get(register)
        if old is None:
            old = np.zeros(self.total, numpy_type(self.program.types[register]))
        else:  # after a mov, several registers may have one array
            old = np.full(self.total, old) if old.ndim == 0 else old.copy()
        old[idx] = value
        self.registers[register] = old

    def special(self, name: str, idx: Any) -> Any:
        value = self.special_values[name]
        return value if idx is None or np.ndim(value) == 0 else value[idx]

    def param(self, name: str) -> Any:
        return np.int64(self.parameters[name]).view("u8")

    def _lanes(self, idx: Any) -> Any:
        return self.all if idx is None else idx

    def _active(self, at: Any, idx: Any, where: Any) -> tuple[Any, Any, Any]:
        """Addresses of the active lanes, those lanes, and where they are among all."""
        lanes = self._lanes(idx)
        at = np.broadcast_to(at, lanes.shape)
        if where is None:
            return at, lanes, slice(None)
        keep = np.flatnonzero(np.broadcast_to(where, lanes.shape))
        return at[keep], lanes[keep], keep

    def _spread(self, values: list[Any], idx: Any, where: Any, keep: Any) -> list[Any]:
        """Loaded values as arrays over all lanes."""
        if where is None:
            return values
        spread = []
        for value in values:
            full = np.zeros(len(self._lanes(idx)), value.dtype)
            full[keep] = value
            spread.append(full)
        return spread

    def _picked(self, values: tuple[Any, ...], idx: Any, keep: Any) -> list[Any]:
        shape = self._lanes(idx).shape
        return [np.broadcast_to(value, shape)[keep] for value in values]

    # Global memory.

    def _global(self, at: Any, size: int, text: str) -> Any:
        if np.any(at % size):
            raise FaultError(f"misaligned {text} at {at[at % size != 0][:4]}")
        offset = at - BASE
        bad = (offset < 0) | (offset + size > self.memory.size)
        if np.any(bad):
            raise FaultError(f"outside memory: {text}, offset {offset[bad][:4]}")
        return offset

    def load_global(self, at: Any, count: int, size: int, idx: Any, where: Any, text: str) -> Any:
        at, lanes, keep = self._active(at, idx, where)
        memory, offset = self.memory, self._global(at, count * size, text)
        item, known, values = offset // size, sum(WRITTEN << (8 * k) for k in range(size)), []
        for k in range(count):
            bad = memory.states[size][item + k] != known
            if memory.huge and np.any(bad):
                bad = bad & ~memory.in_huge(offset, count * size)
            if np.any(bad):
                first = int(offset[bad][0]) + k * size
                outside = np.any(memory.state[first : first + size] == NOBODYS)
                what = "outside an allocation" if outside else "uninitialised"
                who = self.place(int(lanes[bad][0]))
                raise FaultError(
                    f"global read {what}: {text}, {int(bad.sum())} lanes, thread {who}"
                )
            if np.any(memory.marked[size][item + k]):
                raise FaultError(f"global read of what this launch wrote: {text}")
            values.append(memory.views[size][item + k])
        return self._spread(values, idx, where, keep)

    def store_global(
        self, at: Any, values: tuple[Any, ...], size: int, idx: Any, where: Any, text: str
    ) -> None:
        at, lanes, keep = self._active(at, idx, where)
        memory, count = self.memory, len(values)
        offset = self._global(at, count * size, text)
        item = offset // size
        for k, value in enumerate(self._picked(values, idx, keep)):
            state = memory.states[size][item + k].astype("u8")
            each = (state[:, None] >> (8 * np.arange(size)).astype("u8")) & 255
            bad = (each == NOBODYS).any(1)
            if memory.huge and np.any(bad):
                bad = bad & ~memory.in_huge(offset, count * size)
            if np.any(bad):
                who = self.place(int(lanes[bad][0]))
                raise FaultError(f"global write outside an allocation: {text}, thread {who}")
            if np.any(memory.marked[size][item + k]):
                raise FaultError(f"global double write: {text}")
            if len(np.unique(item)) != len(item):
                raise FaultError(f"global write of several lanes to one place: {text}")
            memory.views[size][item + k] = value
            memory.states[size][item + k] = sum(WRITTEN << (8 * j) for j in range(size))
            memory.marked[size][item + k] = sum(ALLOCATED << (8 * j) for j in range(size))

    # Shared memory.

    def load_shared(self, at: Any, count: int, size: int, idx: Any, where: Any, text: str) -> Any:
        at, lanes, keep = self._active(at, idx, where)
        return self._spread(self.shared.load(at, lanes, count, size, text), idx, where, keep)

    def store_shared(
        self, at: Any, values: tuple[Any, ...], size: int, idx: Any, where: Any, text: str
    ) -> None:
        at, lanes, keep = self._active(at, idx, where)
        self.shared.store(at, lanes, self._picked(values, idx, keep), size, text)

    def copy_async(
        self, to: Any, at: Any, size: int, taken: Any, idx: Any, where: Any, text: str
    ) -> None:
        """Begin to copy `size` bytes of global memory; zeros where `taken` of them is 0."""
        to, lanes, keep = self._active(to, idx, where)
        at, _, _ = self._active(at, idx, where)
        taken = np.broadcast_to(taken, self._lanes(idx).shape)[keep]
        if np.any((taken != 0) & (taken != size)):
            raise FaultError(f"a part of what is copied: {text}")
        inside = np.flatnonzero(taken)
        values = [np.zeros(len(lanes), "u4") for _ in range(size // 4)]
        if len(inside):
            found = self.load_global(at[inside], size // 4, 4, lanes[inside], None, text)
            for value, part in zip(values, found, strict=True):
                value[inside] = part
        self.shared.copy(to, lanes, values, text)

    def commit_group(self, idx: Any) -> None:
        self.shared.commit(self._lanes(idx))

    def wait_group(self, pending: int, idx: Any) -> None:
        self.shared.wait(self._lanes(idx), pending)

    def fence_proxy(self, idx: Any) -> None:
        self.shared.fence_proxy(self._lanes(idx))

    # Local memory: a stack of each thread.

    def _local(self, at: Any, size: int, text: str) -> Any:
        if np.any(at % size):
            raise FaultError(f"misaligned {text}")
        if np.any((at < 0) | (at + size > self.program.local_bytes)):
            raise FaultError(f"outside local memory: {text}")
        return at // 4

    def load_local(self, at: Any, count: int, size: int, idx: Any, where: Any, text: str) -> Any:
        assert where is None, text
        assert size == 4, text
        at, lanes, _ = self._active(at, idx, None)
        first = self._local(at, count * size, text)
        for k in range(count):
            if not self.local_set[lanes, first + k].all():
                raise FaultError(f"uninitialised local memory: {text}")
        return [self.local[lanes, first + k] for k in range(count)]

    def store_local(
        self, at: Any, values: tuple[Any, ...], size: int, idx: Any, where: Any, text: str
    ) -> None:
        assert where is None, text
        assert size == 4, text
        at, lanes, _ = self._active(at, idx, None)
        first = self._local(at, len(values) * size, text)
        for k, value in enumerate(values):
            self.local[lanes, first + k] = np.broadcast_to(value, lanes.shape)
            self.local_set[lanes, first + k] = True

    # Warps.

    def _whole(self, idx: Any, size: int, name: str, text: str) -> Any:
        """Return lanes that are all those of some groups of neighbours, so many each."""
        lanes = self._lanes(idx)
        if self.threads % size or len(lanes) % size:
            raise FaultError(f"part of a {name} at {text}")
        shaped = lanes.reshape(-1, size)
        if np.any(shaped[:, 0] % size) or np.any(np.diff(shaped) != 1):
            raise FaultError(f"part of a {name} at {text}")
        return lanes

    def _warps(self, idx: Any, text: str) -> Any:
        return self._whole(idx, WARP, "warp", text)

    def ldmatrix(self, at: Any, idx: Any, text: str) -> list[Any]:
        lanes = self._warps(idx, text)
        return self.shared.load_matrix(np.broadcast_to(at, lanes.shape), lanes, text)

    def mma(self, shape: str, dtype: str, a: Any, b: Any, c: Any, idx: Any) -> list[Any]:
        lanes = self._warps(idx, "mma.sync")
        fragments = (
            [np.broadcast_to(register, lanes.shape).reshape(-1, WARP) for register in fragment]
            for fragment in (a, b, c)
        )
        return [sums.reshape(-1) for sums in tensor_cores.multiply(shape, dtype, *fragments)]

    # Warpgroups.

    def _warpgroups(self, idx: Any, text: str) -> Any:
        return self._whole(idx, GROUP, "warpgroup", text)

    def touch(self, register: str, idx: Any, text: str) -> None:
        self.products.touch(register, self._lanes(idx), text)

    def fence_registers(self, idx: Any) -> None:
        self.products.fence(self._warpgroups(idx, "wgmma.fence"))

    def wgmma(
        self, columns: int, dtype: str, tiles: Any, sums: dict[str, Any], idx: Any
    ) -> list[Any]:
        """Begin to add a product of two described tiles to registers; what they will hold."""
        text = f"wgmma.mma_async of {columns} columns"
        lanes = self._warpgroups(idx, text)
        described = []
        for descriptors, rows in zip(tiles, (64, columns), strict=True):
            each = np.broadcast_to(descriptors, lanes.shape).reshape(-1, GROUP)
            if np.any(each != each[:, :1]):
                raise FaultError(f"lanes of a warpgroup describe several tiles: {text}")
            described.append(places(each[:, 0], rows, text))
        a, b = self.products.begin(lanes, tuple(sums), described, text)
        c = [np.broadcast_to(value, lanes.shape).reshape(-1, GROUP) for value in sums.values()]
        return [value.reshape(-1) for value in tensor_cores.multiply_tiles(dtype, a, b, c)]

    def commit_products(self, idx: Any) -> None:
        self.products.commit(self._warpgroups(idx, "wgmma.commit_group"))

    def wait_products(self, pending: int, idx: Any) -> None:
        self.products.wait(self._warpgroups(idx, "wgmma.wait_group"), pending)

    # Control.

    def run(self) -> None:
        """Execute until every thread has left."""
        groups: dict[int, list[Any]] = {0: [self.all]}
        waiting: list[tuple[int, Any]] = []
        self.live = np.full(self.count, self.threads)
        functions = self.program.functions
        for _ in range(MOST_STEPS):
            if not groups:
                if not waiting:
                    return
                waiting = self._pass_barrier(waiting, groups)
            at = min(groups)
            parts = groups.pop(at)
            idx = parts[0] if len(parts) == 1 else np.sort(np.concatenate(parts))
            if at >= len(functions):
                raise FaultError("ran past the end")
            self.passed[at] += len(idx)
            end = functions[at](self, None if len(idx) == self.total else idx)
            kind, target, where = end or ("bra", at + 1, None)
            if kind == "bar":
                waiting.append((at + 1, idx))
                continue
            taken = np.broadcast_to(True if where is None else where, idx.shape)
            if not taken.all():
                groups.setdefault(at + 1, []).append(idx[~taken])
            if taken.any():
                idx = idx if taken.all() else idx[taken]
                if kind == "bra":
                    groups.setdefault(target, []).append(idx)
                else:
                    self.shared.leave(idx)
                    self.products.leave(idx)
                    self.live -= np.bincount(self.block_of[idx], minlength=self.count)
        raise FaultError("too many steps")

    def _pass_barrier(
        self, waiting: list[tuple[int, Any]], groups: dict[int, list[Any]]
    ) -> list[tuple[int, Any]]:
        """Let the blocks go on whose threads are all there; return who still waits."""
        place = np.full(self.total, -1)
        for at, idx in waiting:
            place[idx] = at
        place = place.reshape(self.count, self.threads)
        arrived = (place >= 0).sum(1)
        ready = (arrived == self.live) & (arrived > 0)
        if not ready.any():
            raise FaultError("deadlock at a barrier")
        if np.any(self.live[ready] < self.threads):
            raise FaultError("a barrier after some threads of the block have left")
        if np.any(place[ready] != place[ready][:, :1]):
            raise FaultError("threads of a block meet at different barriers")
        self.shared.epoch[ready] += 1
        keep = []
        for at, idx in waiting:
            go = ready[self.block_of[idx]]
            if go.any():
                groups.setdefault(at, []).append(idx if go.all() else idx[go])
            if not go.all():
                keep.append((at, idx[~go]))
        return keep


class Notes(NamedTuple):
    """What is worth knowing of a launch that had no fault.

    Attributes
    ----------
    never_written : set
        Texts of instructions that read shared memory nobody wrote.
    conflicts : dict
        Accesses of shared memory and passes that they took, by kind of instruction.
    executed : Counter
        Instructions of all threads, by the first word of their names.
    """

    never_written: set[str]
    conflicts: dict[str, list[int]]
    executed: Counter[str]


def execute(
    launch: Launch,
    memory: Memory,
    profile: bool = False,
    only: tuple[int, int] | None = None,
) -> Notes:
    """Execute a grid, or some blocks of it."""
    program, threads = launch.program, launch.threads
    if not 1 <= launch.blocks <= MOST_BLOCKS:
        raise FaultError(f"a grid of {launch.blocks} blocks")
    if not 1 <= threads <= min(program.max_threads or MOST_THREADS, MOST_THREADS):
        raise FaultError(f"a block of {threads} threads, of at most {program.max_threads}")
    size = program.shared_bytes(launch.dynamic)
    if size > MOST_SHARED:
        raise FaultError(f"{size} bytes of shared memory without an opt-in")
    if launch.dynamic and program.dynamic is None:
        raise FaultError("dynamic shared memory that nobody uses")
    memory.begin_launch()
    never_written: set[str] = set()
    conflicts: dict[str, list[int]] = {}
    passed = np.zeros(len(program.functions), "i8")
    begin, end = only or (0, launch.blocks)
    together = max(1, LANES // threads)
    with np.errstate(all="ignore"):
        for first in range(begin, end, together):
            run = Run(launch, memory, first, min(together, end - first))
            if profile:
                run.shared.profile()
            run.run()
            never_written |= run.shared.never_written
            passed += run.passed
            for kind, counts in (run.shared.conflicts or {}).items():
                total = conflicts.setdefault(kind, [0, 0])
                total[0] += counts[0]
                total[1] += counts[1]
    executed: Counter[str] = Counter()
    for block, threads in zip(program.blocks, passed.tolist(), strict=True):
        for instruction in block:
            executed[instruction.op.split(".")[0]] += threads
    return Notes(never_written, conflicts, executed)
