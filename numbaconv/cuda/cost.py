"""What an implicit matrix product would cost in cycles, and the tile and splits that cost least.

The blocks of a product run in rounds: as many at once as all processors hold. In a round every
block takes its steps along K, and a step takes as long as the slowest of four: to issue the
instructions of all blocks that a processor holds, to multiply, to read the tiles from the cache of
the device, and to wait for the memory, which other blocks can hide, and the steps by which copies
are ahead. What a tile computes of padding, and processors that idle in the last round, cost as much
as work.

The instructions of a step are those of the machine code, which the tests hold this to. **The other
constants were not measured yet**: they are what the vendor's documents and published
microbenchmarks say of an H100, and wait for a device.
"""

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

from numbaconv.cuda.kind import Kind
from numbaconv.cuda.tiles import WARP, Plan
from numbaconv.cuda.toolkit import Device
from numbaconv.problem.shape import ConvShape

# Of a multiprocessor.
SCHEDULERS = 4  # each issues an instruction of a warp a cycle
REGISTERS = 65536
THREADS = 1024  # of compute capability 7.5, which has the least
SHARED_BYTES = {7: 64 * 1024, 8: 100 * 1024, 9: 227 * 1024}  # by the major capability
MOST_REGISTERS = 255
OTHER_REGISTERS = 64  # of a thread, beside its sums
# Cycles and bytes: not measured yet.
WAIT = 900  # of a block for what it fetches: no step is shorter, or the steps by which it is ahead
BEGIN = 2000  # of a block, before its first step and after its last
CACHE_BYTES = 28.0  # a cycle and processor, from the cache of the device
MEMORY_BYTES = {7: 5.0, 8: 10.0, 9: 14.0}  # the same, from its memory, by the major capability
LAUNCH = 4000  # of a pass before or after the product
TENSOR_SHARE = 0.6  # of the tensor cores' peak that `mma.sync` reaches on 9.0,
GROUPED_SHARE = 0.9  # and `wgmma`
TURN = 150  # of a warpgroup, from the end of its products to the next ones
# Instructions of a thread's step, from the machine code.
STEP = 25
TENSOR_STEP = 30
GROUPED_STEP, GROUPED_PRODUCT = 38, 9  # of a step of a warpgroup, and of each product in it
ROUND = 5  # of a round of the loop over two rows in shared memory, if there is one
WEIGHT = 6  # of a vector of the weights, beside its stores
ELEMENT = 4.5  # of the patch matrix
VECTOR = 9
COPY = 4  # of an element or vector of either that is copied asynchronously
MAPPED = 390  # of an element or vector that is looked up
PIXEL = 35  # to find one of a weight gradient, then for each row of both factors
GRADIENT_ROW, GRADIENT_COLUMN = 4, 6
ROUNDING = 3  # of an element to tf32, where it is stored,
ROUNDING_READ = 2  # and where the tensor cores are given it,
ROUNDING_SHARED = 16  # and of a vector in shared memory
STORED = 12  # of a sum, at the end

LEAST_STEPS = 8  # of a part of the sums: a shorter one is not worth a second pass
MOST_SPLITS = 32
MOST_DEEP_SPLITS = 1024  # of a weight gradient, whose parts are small


class Prediction(NamedTuple):
    """What a plan is thought to cost.

    Attributes
    ----------
    plan : Plan
        A tile, and the parts of the sums.
    cycles : float
        Of a multiprocessor, for all of it.
    share : float
        Of the most multiply-adds that the device can do in them.
    brought : bool
        Whether the channels of the input are brought together before.
    """

    plan: Plan
    cycles: float
    share: float
    brought: bool = False

    def __str__(self) -> str:
        tile, splits = self.plan
        parts = "" if splits == 1 else f", the sums in {splits} parts"
        before = ", the channels brought together before" if self.brought else ""
        by = " by wgmma" if tile.together > 1 else ""
        return (
            f"product in tiles of {tile.bm} x {tile.bn} x {tile.bk}{by}{parts}{before}: "
            f"{self.share:.0%} of the peak, as predicted and not measured"
        )


def generation(capability: tuple[int, int]) -> int:
    """Return the major capability, or the nearest that is known."""
    return max(7, min(capability[0], 9))


def moving(count: float, device: Device) -> float:
    """Return the cycles in which the memory of a device reads or writes so many bytes."""
    return count / (MEMORY_BYTES[generation(device.capability)] * device.processors)


def multiply_adds(dtype: str, capability: tuple[int, int]) -> float:
    """Return how many of them a multiprocessor does in a cycle at most."""
    major = generation(capability)
    if dtype in ("float16", "tf32"):
        return {7: 512, 8: 1024, 9: 2048}[major] / (1 + (dtype == "tf32"))
    if dtype == "float64":
        return {(8, 0): 32, (9, 0): 64}.get(capability, 2)
    if dtype == "float32":
        return 64 if capability <= (8, 0) else 128
    return 64 if dtype == "int32" else 16


def instructions(kind: Kind) -> float:
    """Return the instructions of a thread's step along K."""
    tile, words, lanes = kind.tile, kind.words, kind.lanes
    if tile.together > 1:
        count, stores = GROUPED_STEP + tile.bk / 8 * tile.m / 16 * GROUPED_PRODUCT, 1
    elif tile.tensor:
        fragments = tile.m // 16 * (tile.n // 8)
        multiply = tile.bk / 8 * (fragments * (1 + kind.turing) + (tile.m + tile.n) / 16)
        count, stores = TENSOR_STEP + multiply, 1
    else:
        reads = (tile.m + tile.n) / words + (0 if kind.asynchronous else ROUND / 2)
        count = STEP + tile.bk * (tile.m * tile.n + reads)
        stores = words
    rounding = ROUNDING * (kind.dtype == "tf32")
    if kind.of_weights:
        together = tile.threads / tile.bk
        rows, columns = tile.bm / together, tile.bn / together
        halves = lanes / words
        column = MAPPED if kind.mapped else GRADIENT_COLUMN
        fetched = rows * (GRADIENT_ROW + rounding) + columns * (column + rounding)
        return count + halves * (PIXEL + fetched)
    weight, vector, element = WEIGHT + stores, VECTOR, ELEMENT
    if kind.asynchronous:
        weight, vector, element = (COPY,) * 3
    if kind.rounded:  # the patches alone, once or by each warp that reads them
        by_warps = tile.bk * tile.n / WARP * ROUNDING_READ
        once = kind.patch_rounds * ROUNDING_SHARED
        count, rounding = count + (once if tile.together > 1 else by_warps), 0
    count += kind.weight_rounds * (weight + words * rounding)
    each = MAPPED if kind.mapped else vector if kind.wide else element
    elements = 1 if kind.wide else lanes
    return count + kind.patch_rounds * (elements * each + words * rounding)


def resident(kind: Kind, capability: tuple[int, int]) -> int:
    """Return how many blocks of a kind a multiprocessor holds."""
    tile = kind.tile
    sums = tile.m * tile.n // (WARP if tile.tensor else 1) * int(kind.sum.bitwidth) // 32
    registers = min(sums + OTHER_REGISTERS, MOST_REGISTERS)
    shared = kind.stages * tile.shared_bytes(int(kind.shared.bitwidth) // 8)
    limits = (
        REGISTERS // (registers * tile.threads),
        THREADS // tile.threads,
        SHARED_BYTES[generation(capability)] // shared,
    )
    return max(1, min(limits))


Cost = Callable[[int], float]  # of so many parts of the sums, in cycles


def cost_of(s: ConvShape, kind: Kind, device: Device, uses: int = 1) -> Cost:
    """Return the function that says what a product costs, by the parts of its sums.

    Parameters
    ----------
    s : ConvShape
        Its problem.
    kind : Kind
        With the tile.
    device : Device
        Where it runs.
    uses : int
        How often an element of the input is in the patch matrix, about.
    """
    tile, (m, n, k), processors = kind.tile, s.gemm, device.processors
    item, warps = kind.stored.bitwidth // 8, tile.threads / WARP
    issue = instructions(kind) * warps / SCHEDULERS
    peak = multiply_adds(kind.dtype, device.capability)
    reached = GROUPED_SHARE if tile.together > 1 else TENSOR_SHARE if tile.tensor else 1
    multiply = tile.bm * tile.bn * kind.depth / (peak * reached)
    read = (tile.bm + tile.bn) * kind.depth * item / CACHE_BYTES
    store = tile.m * tile.n / (WARP if tile.tensor else 1) * STORED * warps / SCHEDULERS
    busy, held = max(issue, multiply, read), resident(kind, device.capability)
    values, tiles = s.groups * m * n, tile.blocks(s)
    outside = moving((values + s.groups * (m * k + n * k / uses)) * item, device)
    wait = WAIT / (kind.stages - 1)
    if tile.together > 1:
        wait = max(wait, multiply + TURN)
    part = values * (kind.sum.bitwidth // 8) / (CACHE_BYTES * processors)

    def cycles(splits: int) -> float:
        steps = -(-k // (kind.depth * splits))
        rounds, rest = divmod(tiles * splits, held * processors)
        last = -(-rest // processors)
        total = rounds * (BEGIN + steps * max(held * busy, wait) + held * store)
        if rest:
            total += BEGIN + steps * max(last * busy, wait) + last * store
        total = max(total, outside)
        return float(total + (LAUNCH + (2 * splits + 1) * part if splits > 1 else 0))

    return cycles


def _parts(steps: int, most: int) -> Iterable[int]:
    """Numbers of parts to look at, each about a quarter more than the one before."""
    most = max(1, min(steps // LEAST_STEPS, most))
    count = 1
    while count < most:
        yield count
        count += max(1, count // 4)
    yield most


def choose(s: ConvShape, kinds: Iterable[Kind], device: Device, uses: int = 1) -> Prediction:
    """Choose the cheapest plan of a product.

    Parameters
    ----------
    s : ConvShape
        Its problem.
    kinds : iterable of Kind
        The same with each tile that there is, the one to prefer first.
    device, uses
        As in `cost_of`.
    """
    found = []
    for kind in kinds:
        cost = cost_of(s, kind, device, uses)
        most = MOST_DEEP_SPLITS if kind.of_weights else MOST_SPLITS
        parts = _parts(-(-s.gemm[2] // kind.depth), most)
        found += [(cost(count), kind, count) for count in parts]
    least, kind, count = min(found, key=lambda plan: plan[0])
    peak = multiply_adds(kind.dtype, device.capability) * device.processors
    return Prediction(Plan(kind.tile, count), least, s.flops / 2 / (least * peak))


def passes(launches: int, moved: int, device: Device) -> float:
    """Return the cycles of passes that read and write so many bytes of memory."""
    return launches * LAUNCH + moving(moved, device)


def after_bringing(found: Prediction, s: ConvShape, itemsize: int, device: Device) -> Prediction:
    """Add to a prediction that the channels of the input are brought together before.

    Parameters
    ----------
    found : Prediction
        Of the product then.
    s : ConvShape
        Its problem.
    itemsize : int
        Bytes of an element.
    device : Device
        Where it runs.
    """
    moved = 2 * itemsize * s.n * s.groups * s.c_in * math.prod(s.size)
    cycles = found.cycles + passes(1, moved, device)
    return found._replace(cycles=cycles, share=found.share * found.cycles / cycles, brought=True)
