"""How passes become walks: the roles of axes, the sizes of blocks, the table of a job."""

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numba
import numpy as np
from numba.core import config

from numbaconv.codegen.integers import ceil_div, round_up
from numbaconv.codegen.pointers import CACHE_LINE
from numbaconv.codegen.target import VECTOR_BYTES, last_level_caches
from numbaconv.cpu import blocking
from numbaconv.cpu.job import AT, new_template, set_scratch
from numbaconv.cpu.launching import set_launch
from numbaconv.cpu.microkernels.cut_off import cut_off
from numbaconv.cpu.microkernels.tap_sums import DIFFERENCES, SINGLE, SUMS, tap_sums
from numbaconv.cpu.packing.conversion import (
    read_row,
    write_past_caches,
    write_rounded_row,
    write_row,
)
from numbaconv.cpu.separable.borders import CONSTANT
from numbaconv.cpu.separable.tasks import walk_work
from numbaconv.cpu.separable.walk import BASES, LISTS, PlaneAxis, Taps, Walk
from numbaconv.problem.padding_modes import padded_index

# Rows of sums at a time. Their taps read nearly the same rows, once from the second-level cache.
STEP = 8

# Bytes of sums, of all rows of a step, that are stored before the next ones are summed; and those
# of the rows that a step reads if no other reads them again. The first-level cache holds both.
SUMS_BYTES, READ_BYTES = 8 * 1024, 33 * 1024

# Lanes of a pixel, and of all that its taps reach, up to which an axis is the lanes' though others
# lie behind it.
MOST_PIXEL, MOST_REACH = 256, 4096

LEAST_STRIP = 512  # lanes: shorter ones are nearly all beginnings


class Pass(NamedTuple):
    """Sums along one axis.

    Attributes
    ----------
    axis : int
        Axis of the image.
    weights : tuple of float
        In the order in which they are correlated.
    before : int
        Elements before its own that a sum reads.
    mode : int
        What lies outside.
    divisor : int
        By which sums are divided.
    margin : float
        How far sums in float32 may be from those in float64 where these decide on integers: those
        so near to an integer are summed again. 0: none are.
    """

    axis: int
    weights: tuple[float, ...]
    before: int
    mode: int
    divisor: int = 1
    margin: float = 0.0


class Kernel(NamedTuple):
    """Sums over several axes at once.

    Attributes
    ----------
    axes : tuple of int
        Axes of the image, ascending.
    taps : tuple of tuples of int
        Where each tap reads, along each axis, counted from the first.
    weights : tuple of float
        Those of the taps.
    window, before : tuple of int
        Elements that the taps reach along each axis, and those before the sum's own.
    mode : int
        What lies outside.
    margin : float
        As of a `Pass`.
    """

    axes: tuple[int, ...]
    taps: tuple[tuple[int, ...], ...]
    weights: tuple[float, ...]
    window: tuple[int, ...]
    before: tuple[int, ...]
    mode: int
    margin: float = 0.0


class Problem(NamedTuple):
    """One walk over one layout of arrays: what its job depends on."""

    shape: tuple[int, ...]
    in_steps: tuple[int, ...]
    out_steps: tuple[int, ...]
    in_dtype: np.dtype[Any]
    out_dtype: np.dtype[Any]
    compute: np.dtype[Any]
    work: tuple[Pass, ...] | Kernel
    constant: float
    truncates: bool
    rounds: bool


class Axis(NamedTuple):
    """An axis of a problem, or several that no pass tells apart. `place` is -1 where none runs."""

    size: int
    in_step: int
    out_step: int
    place: int = -1


class Roles(NamedTuple):
    """Which axes are lanes, rows and planes: see `walk`. `pixel` are lanes that stay together."""

    lanes: Axis
    pixel: int
    rows: Axis
    planes: list[Axis]


class Template(NamedTuple):
    """A job without its data, with what it points to."""

    job: np.ndarray
    table: np.ndarray
    weights: np.ndarray

    def linked(self) -> "Template":
        """The template once the job has the address of its table."""
        self.job[AT.table] = self.table if config.DISABLE_JIT else self.table.ctypes.data
        return self


def merged_axes(problem: Problem, filtered: Sequence[int]) -> list[Axis]:
    """The axes of a problem; neighbours that lie in memory like one, and have no pass, are one."""
    axes: list[Axis] = []
    for place, (size, a, b) in enumerate(
        zip(problem.shape, problem.in_steps, problem.out_steps, strict=True)
    ):
        if place in filtered:
            axes.append(Axis(size, a, b, place))
        elif axes and axes[-1].place < 0 and axes[-1][1:3] == (size * a, size * b):
            axes[-1] = Axis(axes[-1].size * size, a, b)
        elif size > 1:
            axes.append(Axis(size, a, b))
    return axes


def together(axis: Axis, behind: Axis, windows: dict[int, int]) -> bool:
    """Whether an axis that a pass runs along and the one behind it are lanes together."""
    reach = behind.size * windows[axis.place]
    dense = axis[1:3] == (behind.size * behind.in_step, behind.size * behind.out_step)
    return dense and behind.size <= MOST_PIXEL and reach <= MOST_REACH


def find_roles(axes: list[Axis], windows: dict[int, int]) -> Roles:
    """Give each axis its role."""
    axes = list(axes) or [Axis(1, 1, 1)]
    lanes, pixel = axes.pop(), 1
    if axes and axes[-1].place >= 0 > lanes.place and together(axes[-1], lanes, windows):
        axis, pixel = axes.pop(), lanes.size
        lanes = Axis(axis.size * pixel, lanes.in_step, lanes.out_step, axis.place)
    passes = [axis for axis in axes if axis.place >= 0]
    rows = passes[-1] if passes else axes[-1] if axes else Axis(1, 0, 0)
    return Roles(lanes, pixel, rows, [axis for axis in axes if axis is not rows])


def most_passes(problem: Problem, passes: Sequence[Pass]) -> int:
    """How many of the next three passes one walk makes: two, and a third along the lanes."""
    windows = {each.axis: len(each.weights) for each in passes[:3]}
    roles = find_roles(merged_axes(problem, list(windows)), windows)
    return 3 if roles.lanes.place >= 0 else 2


def listed_taps(each: Pass) -> tuple[int, list[int], list[float]]:
    """How the taps of a pass are listed: the kind, the taps and the weights.

    As SciPy does: odd kernels that are symmetric up to an epsilon have pairs, and the last tap of
    others comes first.
    """
    w, n = each.weights, len(each.weights)
    half, epsilon = n // 2, np.finfo(float).eps
    pairs = [(half - k, half + k) for k in range(half, 0, -1)]
    if n > 1 and n % 2:
        for kind, sign in ((SUMS, 1), (DIFFERENCES, -1)):
            if all(abs(w[b] - sign * w[a]) <= epsilon for a, b in pairs):
                places = [half, *(i for pair in pairs for i in pair)]
                return kind, places, [w[half], *(w[a] for a, _ in pairs)]
    places = [n - 1, *range(n - 1)]
    return SINGLE, places, [w[i] for i in places]


class _Table:
    """The table and the weights of a job, while they are written."""

    def __init__(self, problem: Problem) -> None:
        self.integers: list[int] = []
        self.weights = [problem.constant]  # at `walk.CONSTANT_AT`
        self.problem = problem

    def place(self, integers: Sequence[int]) -> int:
        """Append integers; return where they lie."""
        self.integers += integers
        return LISTS + len(self.integers) - len(integers)

    def taps(self, each: Pass, step: int, last: bool, along_rows: bool = False) -> Taps:
        """Write the taps of a pass whose elements lie `step` apart, and which may be the last."""
        kind, places, weights = listed_taps(each)
        offsets = [(0, i, 0) for i in places] if along_rows else [(i * step,) for i in places]
        return Taps(
            taps=len(weights) - (kind != SINGLE),
            kind=kind,
            entries=len(places),
            offsets=self.place([i for offset in offsets for i in offset]),
            weights=self.place_weights(each, weights),
            divides=int(each.divisor != 1),
            truncates=int(self.problem.truncates and not last and not each.margin),
            exact=self.place_exact(each, weights),
        )

    def place_weights(self, each: Pass | Kernel, weights: Sequence[float]) -> int:
        """Append the weights as they are listed; return where they lie."""
        self.weights += [each.divisor if isinstance(each, Pass) else 1.0, *weights]
        return len(self.weights) - len(weights) - 1

    def place_exact(self, each: Pass | Kernel, weights: Sequence[float]) -> int:
        """Append the weights in float64 if some sums need them; return where they lie."""
        if not each.margin:
            return 0
        return self.place(np.array([0.5 - each.margin, *weights]).view(np.int64).tolist())


def task_blocks(pieces: int, rows: int, window: int, threads: int) -> tuple[int, int]:
    """Rows of a task, and tasks along the rows, beside so many pieces of the other axes.

    Each task reads again what the one above has read.
    """
    if threads == 1:
        return rows, 1
    wanted = ceil_div(blocking.TASKS_PER_THREAD * threads, pieces)
    most = max(1, rows // max(STEP, 2 * window))
    block = round_up(ceil_div(rows, min(wanted, most)), STEP)
    return block, ceil_div(rows, block)


class Windows(NamedTuple):
    """What a sum reads along each filtered axis: elements, those before its own, the mode."""

    size: dict[int, int]
    before: dict[int, int]
    mode: dict[int, int]

    def along(self, axis: Axis) -> tuple[int, int, int]:
        """Window, elements before, and mode of an axis, of one element where no pass runs."""
        place = axis.place
        return self.size.get(place, 1), self.before.get(place, 0), self.mode.get(place, CONSTANT)


def windows_of(work: tuple[Pass, ...] | Kernel) -> Windows:
    """What the sums of a walk read."""
    if isinstance(work, Kernel):
        axes = work.axes
        return Windows(
            dict(zip(axes, work.window, strict=True)),
            dict(zip(axes, work.before, strict=True)),
            dict.fromkeys(axes, work.mode),
        )
    return Windows(
        {each.axis: len(each.weights) for each in work},
        {each.axis: each.before for each in work},
        {each.axis: each.mode for each in work},
    )


class Sizes(NamedTuple):
    """Planes of a block, lanes of a strip, elements from one row of scratch to the next.

    `start` are those before the first lane that is read into a row of scratch, `step` the rows of
    sums at a time.
    """

    block: int
    strip: int
    pitch: int
    start: int
    step: int


def cut(roles: Roles, windows: Windows, separable: bool, itemsize: int) -> Sizes:
    """Blocks whose scratch stays in the second-level cache."""
    # All of the cache: what counts more is that memory is read and written in long rows.
    lanes, most = roles.lanes.size, 2 * blocking.CACHE_BYTES // itemsize
    reach = (windows.along(roles.lanes)[0] - 1) * roles.pixel
    ring = windows.along(roles.rows)[0] - 1 + STEP
    sizes = [windows.along(axis)[0] for axis in roles.planes]
    read, block = math.prod(sizes), 1
    if separable and read > 1:
        block = min(read - 1, next(axis.size for axis in roles.planes if axis.place >= 0))

    def rows_of(block: int) -> int:
        """Rows of scratch."""
        if separable:
            return block * (ring + 1) + read + 2 * STEP
        return read * ring + STEP

    while block > ceil_div(read, 3) and rows_of(block) * (min(lanes, LEAST_STRIP) + reach) > most:
        block -= 1
    strip = max(most // rows_of(block) - reach, min(LEAST_STRIP, lanes), 2 * reach)
    vector = VECTOR_BYTES // itemsize
    strip = round_up(ceil_div(lanes, ceil_div(lanes, strip)), vector)
    # The first lane of a whole row begins a vector; what lies before it is written later.
    before = windows.along(roles.lanes)[1] * roles.pixel if separable and strip >= lanes else 0
    start = round_up(before, vector)
    pitch = round_up(start + strip + reach, vector) + CACHE_LINE // itemsize
    alone = read == windows.along(roles.rows)[0] == 1
    step = min(STEP, max(1, READ_BYTES // (strip * itemsize))) if alone else STEP
    return Sizes(block, strip, pitch, start, step)


def edges_of(walk: Walk) -> list[int]:
    """The lanes that continue a row: before it and behind it; -1 where the constant lies."""
    outside = [*range(-walk.lane_before, 0), *range(walk.lanes, walk.lanes + walk.lane_after)]
    places = [divmod(lane, walk.pixel) for lane in outside]
    found = [(padded_index(place, walk.pixels, walk.lane_mode), rest) for place, rest in places]
    return [at * walk.pixel + rest if at >= 0 else -1 for at, rest in found]


def plane_axes(roles: Roles, windows: Windows, block: int, separable: bool) -> list[PlaneAxis]:
    """The axes of planes, the innermost first; a pass along one has blocks of several planes."""
    axes = []
    for axis in reversed(roles.planes):
        window, before, mode = windows.along(axis)
        indices = block if separable and axis.place >= 0 else 1
        axes.append(
            PlaneAxis(
                blocks=ceil_div(axis.size, indices),
                block=indices,
                size=axis.size,
                mode=mode,
                before=before,
                window=window + indices - 1,
                in_step=axis.in_step,
                out_step=axis.out_step,
            )
        )
    return axes


def plan_walk(
    problem: Problem, roles: Roles, windows: Windows, sizes: Sizes, threads: int
) -> tuple[Walk, list[PlaneAxis]]:
    """How a walk is cut, and its axes of planes."""
    lanes, rows, pixel = roles.lanes, roles.rows, roles.pixel
    separable = not isinstance(problem.work, Kernel)
    axes = plane_axes(roles, windows, sizes.block, separable)
    planes = math.prod(axis.window for axis in axes)
    in_blocks = [
        axis for axis, role in zip(axes, reversed(roles.planes), strict=True) if role.place >= 0
    ]
    strips = ceil_div(lanes.size, sizes.strip)
    pieces = strips * math.prod(axis.blocks for axis in axes)
    row_window, row_before, row_mode = windows.along(rows)
    lane_window, lane_before, lane_mode = windows.along(lanes)
    row_block, row_blocks = task_blocks(pieces, rows.size, row_window, threads)
    step = sizes.step
    ring = row_window - 1 + step
    ring_planes = sizes.block if separable else planes
    rows_at = ring_planes * ring * sizes.pitch
    walk = Walk(
        tasks=pieces * row_blocks,
        axes=len(axes),
        axes_at=LISTS,
        planes=planes,
        ring_planes=ring_planes,
        block_out=in_blocks[0].out_step if separable and in_blocks else 0,
        rows=rows.size,
        row_block=row_block,
        row_blocks=row_blocks,
        row_mode=row_mode,
        row_before=row_before,
        row_window=row_window,
        row_in=rows.in_step,
        row_out=rows.out_step,
        lanes=lanes.size,
        strip=sizes.strip,
        strips=strips,
        lane_mode=lane_mode,
        pixel=pixel,
        pixels=lanes.size // pixel,
        lane_before=lane_before * pixel,
        lane_after=(lane_window - 1 - lane_before) * pixel,
        start=sizes.start,
        edges=0,
        lane_in=lanes.in_step,
        lane_out=lanes.out_step,
        step=step,
        chunk=SUMS_BYTES // (step * problem.compute.itemsize),
        ring=ring,
        pitch=sizes.pitch,
        ring_plane=ring * sizes.pitch,
        rows_at=rows_at,
        results_at=rows_at + step * sizes.pitch,
        bundle_at=rows_at + 2 * step * sizes.pitch,
        lists_at=BASES + planes,
        in_size=problem.in_dtype.itemsize,
        out_size=problem.out_dtype.itemsize,
    )
    return walk, axes


def pass_taps(table: _Table, passes: Sequence[Pass], roles: Roles, pitch: int) -> list[Taps]:
    """Taps of the passes along the planes, the rows and the lanes."""
    taps = [Taps(), Taps(), Taps()]
    for each in passes:
        last = each is passes[-1]
        if each.axis == roles.lanes.place:
            taps[2] = table.taps(each, roles.pixel, last)
        elif each.axis == roles.rows.place:
            taps[1] = table.taps(each, 0, last, along_rows=True)
        else:
            taps[0] = table.taps(each, pitch, last)
    return taps


def kernel_taps(table: _Table, kernel: Kernel, roles: Roles, windows: Windows) -> Taps:
    """Taps of a full kernel, as those of a pass along the rows: plane, row and lane of each."""
    scale, planes = {}, 1
    for axis in reversed(roles.planes):
        scale[axis.place] = planes, 0, 0
        planes *= windows.along(axis)[0]
    scale[roles.rows.place] = 0, 1, 0
    scale[roles.lanes.place] = 0, 0, roles.pixel
    triples = []
    for tap in kernel.taps:
        place = [0, 0, 0]
        for at, index in zip(kernel.axes, tap, strict=True):
            place = [sum_ + index * step for sum_, step in zip(place, scale[at], strict=True)]
        triples += place
    taps = len(kernel.weights)
    return Taps(
        taps=taps,
        kind=SINGLE,
        entries=taps,
        offsets=table.place(triples),
        weights=table.place_weights(kernel, kernel.weights),
        exact=table.place_exact(kernel, kernel.weights),
    )


@functools.lru_cache(maxsize=256)
def make_template(problem: Problem, threads: int) -> Template:
    """The job of a walk, complete but for its data. Its kernels are compiled."""
    work, windows = problem.work, windows_of(problem.work)
    roles = find_roles(merged_axes(problem, list(windows.size)), windows.size)
    sizes = cut(roles, windows, not isinstance(work, Kernel), problem.compute.itemsize)
    walk, axes = plan_walk(problem, roles, windows, sizes, threads)
    table = _Table(problem)
    table.place([i for axis in axes for i in axis])
    if isinstance(work, Kernel):
        taps = [Taps(), kernel_taps(table, work, roles, windows), Taps()]
    else:
        taps = pass_taps(table, work, roles, sizes.pitch)
        if taps[2].taps and walk.strips == 1:
            walk = walk._replace(edges=table.place(edges_of(walk)))
    integers = [*walk, *(i for each in taps for i in each), *table.integers]
    return Template(
        write_job(problem, walk, taps, threads),
        np.array(integers, np.int64),
        np.array(table.weights, problem.compute),
    ).linked()


def way_out(problem: Problem, threads: int) -> Any:
    """The function that stores rows; past the caches, if floats lie dense that none will hold.

    An ordinary store reads the line that it writes to.
    """
    if problem.rounds:
        return write_rounded_row
    elements = math.prod(problem.shape)
    nbytes = elements * (problem.in_dtype.itemsize + problem.out_dtype.itemsize)
    dense = problem.out_steps[-1:] == (1,) and problem.shape[-1] >= LEAST_STRIP
    if problem.out_dtype.kind == "f" and dense and nbytes > last_level_caches(threads):
        return write_past_caches
    return write_row


def write_job(problem: Problem, walk: Walk, taps: list[Taps], threads: int) -> np.ndarray:
    """The job of a walk, complete but for its table and its data."""
    element = numba.from_dtype(problem.compute)
    job: np.ndarray = new_template()
    set_launch(job, threads)
    job[AT.worker], job[AT.tile] = walk_work.address(element), tap_sums.address(element)
    if any(each.exact for each in taps):
        job[AT.cut_off] = cut_off.address(element)
    job[AT.fill_halo] = read_row.address((element, numba.from_dtype(problem.in_dtype)))
    job[AT.store] = way_out(problem, threads).address(
        (element, numba.from_dtype(problem.out_dtype))
    )
    job[AT.itemsize] = problem.compute.itemsize
    job[AT.lanes] = VECTOR_BYTES // problem.compute.itemsize
    job[AT.workers] = max(1, min(threads, walk.tasks))
    set_scratch(job, walk.bundle_at + (walk.planes + 1) * walk.pitch)
    job[AT.index_size] = walk.lists_at + walk.step * taps[1].entries
    return job
