"""The tasks of a walk.

Loops of a task: the rows of a block of planes and a strip of lanes, a few at a time. For these the
rows that they need and that are not there yet are read into the ring, through the pass along the
planes; then come the pass along the rows, the pass along the lanes, and the way out.

The functions share five pointers: the job, the table of the walk, the worker's integers `state`,
its scratch `memory`, and the weights.
"""

from numbaconv.codegen.jit import inline, native
from numbaconv.codegen.pointers import (
    behind,
    call,
    fence,
    indices_at,
    keep_scalar,
    pointer_at,
    shift,
)
from numbaconv.cpu.job import AT, WorkerArguments, next_task
from numbaconv.cpu.microkernels.tap_sums import TapSumsArguments
from numbaconv.cpu.packing.conversion import ReadRowArguments, WriteRowArguments
from numbaconv.cpu.separable.borders import CONSTANT
from numbaconv.cpu.separable.walk import (
    AXIS,
    AXIS_SIZE,
    BASES,
    CONSTANT_AT,
    LANE_TAPS,
    PART,
    PLANE_TAPS,
    ROW_TAPS,
    WALK,
)
from numbaconv.problem.padding_modes import padded_index

# In the place of an element at which a plane begins: it is the constant's.
_OUTSIDE = -(1 << 62)


@inline
def locate(table, state, number):
    """Write down what a task writes, and the elements at which the planes begin that it reads."""
    strip, rest = number % table[WALK.strips], number // table[WALK.strips]
    row_block, rest = rest % table[WALK.row_blocks], rest // table[WALK.row_blocks]
    out, blocks, planes = 0, 1, 1
    bases = shift(state, BASES)
    bases[0] = 0
    for i in range(table[WALK.axes]):
        axis = shift(table, table[WALK.axes_at] + i * AXIS_SIZE)
        first = rest % axis[AXIS.blocks] * axis[AXIS.block]
        rest = rest // axis[AXIS.blocks]
        out += first * axis[AXIS.out_step]
        if axis[AXIS.block] > 1:
            left = axis[AXIS.size] - first
            blocks = left if left < axis[AXIS.block] else axis[AXIS.block]
        for k in range(axis[AXIS.window] - 1, -1, -1):
            at = first - axis[AXIS.before] + k
            index = padded_index(at, axis[AXIS.size], axis[AXIS.mode])
            for plane in range(planes):
                keep_scalar()
                base = bases[plane]
                outside = index < 0 or base == _OUTSIDE
                bases[k * planes + plane] = (
                    _OUTSIDE if outside else base + index * axis[AXIS.in_step]
                )
        planes *= axis[AXIS.window]
    state[PART.out], state[PART.blocks] = out, blocks
    row0, lane0 = row_block * table[WALK.row_block], strip * table[WALK.strip]
    row1, lanes = row0 + table[WALK.row_block], table[WALK.lanes] - lane0
    state[PART.row0], state[PART.lane0] = row0, lane0
    state[PART.row1] = row1 if row1 < table[WALK.rows] else table[WALK.rows]
    state[PART.lanes] = lanes if lanes < table[WALK.strip] else table[WALK.strip]


@inline
def row_width(table, state):
    """Lanes of a row that are read: with those that the taps of a sum reach, but of whole rows."""
    if table[WALK.edges] > 0:
        return state[PART.lanes]
    return state[PART.lanes] + table[WALK.lane_before] + table[WALK.lane_after]


@inline
def fill(target, begin, end, value):
    """Set the elements from `begin` to before `end`."""
    for j in range(begin, end):
        keep_scalar()
        target[j] = value


@inline
def read_elements(job, table, target, at, elements):
    """Read neighbouring lanes, the first of which is element `at` of the image."""
    source, step = behind(job[AT.x], at, table[WALK.in_size]), table[WALK.lane_in]
    call(job[AT.fill_halo], ReadRowArguments(target, source, step, elements))


@inline
def read_lanes(job, table, state, target, base, constant):
    """Read the lanes of a row that begins at element `base`, of strips with what lies outside."""
    lanes, pixel, step = table[WALK.lanes], table[WALK.pixel], table[WALK.lane_in]
    if table[WALK.edges] > 0:
        read_elements(job, table, target, base, lanes)
        return
    first = state[PART.lane0] - table[WALK.lane_before]
    end = first + row_width(table, state)
    inside, inside_end = first if first > 0 else 0, end if end < lanes else lanes
    read_elements(
        job, table, shift(target, inside - first), base + inside * step, inside_end - inside
    )
    lane, place, left = first, first // pixel, pixel - first % pixel
    while lane < end:
        if lane == inside:
            lane, place, left = inside_end, inside_end // pixel, pixel - inside_end % pixel
            continue
        index = padded_index(place, table[WALK.pixels], table[WALK.lane_mode])
        copied = lane + (index - place) * pixel
        if index < 0:
            target[lane - first] = constant
        elif inside <= copied < inside_end:
            target[lane - first] = target[copied - first]
        else:
            read_elements(job, table, shift(target, lane - first), base + copied * step, 1)
        lane, left = lane + 1, left - 1
        if left == 0:
            place, left = place + 1, pixel


@inline
def sum_taps(
    job,
    table,
    taps,
    weights,
    lists,
    list_step,
    target,
    target_step,
    source,
    source_step,
    rows,
    width,
):
    """Make a pass: `taps` are the places of its taps in the table, `lists` those of each row."""
    exact = table[taps.exact]
    arguments = TapSumsArguments(
        target=target,
        target_step=target_step,
        source=source,
        source_step=source_step,
        offsets=lists,
        offset_step=list_step,
        weights=shift(weights, table[taps.weights]),
        exact=shift(table, exact),
        taps=table[taps.taps],
        kind=table[taps.kind],
        rows=rows,
        vectors=(width + job[AT.lanes] - 1) // job[AT.lanes],
        divides=table[taps.divides],
        truncates=table[taps.truncates],
    )
    call(job[AT.tile], arguments)
    if exact > 0:
        call(job[AT.cut_off], arguments)


@inline
def read_ring_row(job, table, state, memory, weights, row, slot):
    """Bring a row of all planes into the ring."""
    constant, width, pitch = weights[CONSTANT_AT], row_width(table, state), table[WALK.pitch]
    index = padded_index(row, table[WALK.rows], table[WALK.row_mode])
    memory = shift(memory, table[WALK.start])
    ring, ring_plane = shift(memory, slot * pitch), table[WALK.ring_plane]
    target, target_step, planes = ring, ring_plane, table[WALK.planes]
    along_planes = table[PLANE_TAPS.taps] > 0
    if along_planes and index < 0:
        planes = table[WALK.ring_planes]
    elif along_planes:
        target, target_step = shift(memory, table[WALK.bundle_at]), pitch
    for i in range(planes):
        copy, base = shift(target, i * target_step), state[BASES + i]
        if index < 0 or base == _OUTSIDE:
            fill(copy, 0, width, constant)
        else:
            read_lanes(job, table, state, copy, base + index * table[WALK.row_in], constant)
    if along_planes and index >= 0:
        lists, rows = shift(table, table[PLANE_TAPS.offsets]), state[PART.blocks]
        sum_taps(
            job, table, PLANE_TAPS, weights, lists, 0, ring, ring_plane, target, pitch, rows, width
        )


@inline
def list_row_taps(table, lists, first, rows):
    """Write the offsets of the pass along the rows: a list for each row of sums.

    `first` is the row that the first tap of the first sum reads, counted from the task's first.
    """
    entries, ring = table[ROW_TAPS.entries], table[WALK.ring]
    begin = first % ring
    for r in range(rows):
        for t in range(entries):
            keep_scalar()
            tap = shift(table, table[ROW_TAPS.offsets] + 3 * t)
            slot = begin + r + tap[1]
            slot = slot - ring if slot >= ring else slot
            plane = tap[0] * table[WALK.ring_plane]
            lists[r * entries + t] = plane + slot * table[WALK.pitch] + tap[2]


@inline
def restore_constant(table, state, rows, count, constant):
    """Set what lies outside of rows to the constant: passes along other axes have changed it."""
    width, first = row_width(table, state), state[PART.lane0] - table[WALK.lane_before]
    for r in range(count):
        row = shift(rows, r * table[WALK.pitch])
        fill(row, 0, -first, constant)
        fill(row, table[WALK.lanes] - first, width, constant)


@inline
def continue_rows(table, rows, count, constant):
    """Write what lies outside of whole rows, before them and behind them.

    `rows` begins with what lies before. It is here that it is needed first: passes along other axes
    would make the same of it.
    """
    lanes, before, pitch = table[WALK.lanes], table[WALK.lane_before], table[WALK.pitch]
    edges = shift(table, table[WALK.edges])
    for r in range(count):
        row = shift(rows, r * pitch)
        for i in range(before + table[WALK.lane_after]):
            keep_scalar()
            lane = i if i < before else i + lanes
            row[lane] = row[before + edges[i]] if edges[i] >= 0 else constant


@inline
def store_rows(job, table, sums, out, rows, width):
    """Store so many lanes of some rows, the first at element `out` of the output."""
    for r in range(rows):
        target = behind(job[AT.out], out + r * table[WALK.row_out], table[WALK.out_size])
        source = shift(sums, r * table[WALK.pitch])
        call(job[AT.store], WriteRowArguments(source, target, table[WALK.lane_out], width))


@inline
def finish_rows(job, table, state, memory, weights, plane, row, rows):
    """Compute and store some rows of a plane.

    The last pass stays within the first-level cache: what it has summed is stored at once.
    """
    start, pitch, lanes = table[WALK.start], table[WALK.pitch], state[PART.lanes]
    at = plane * table[WALK.ring_plane] + start
    target = shift(memory, table[WALK.rows_at] + start)
    along_rows, along_lanes = table[ROW_TAPS.taps] > 0, table[LANE_TAPS.taps] > 0
    lists, step = shift(state, table[WALK.lists_at]), table[ROW_TAPS.entries]
    if along_rows and along_lanes:
        source, width = shift(memory, at), row_width(table, state)
        sum_taps(job, table, ROW_TAPS, weights, lists, step, target, pitch, source, 0, rows, width)
        at = table[WALK.rows_at] + start
    if along_lanes:
        if table[WALK.edges] > 0:
            at -= table[WALK.lane_before]
            continue_rows(table, shift(memory, at), rows, weights[CONSTANT_AT])
        elif table[WALK.lane_mode] == CONSTANT:
            restore_constant(table, state, shift(memory, at), rows, weights[CONSTANT_AT])
        target = shift(memory, table[WALK.results_at])
        lists = shift(table, table[LANE_TAPS.offsets])
    source = shift(memory, at)
    out = state[PART.out] + plane * table[WALK.block_out] + row * table[WALK.row_out]
    out += state[PART.lane0] * table[WALK.lane_out]
    for lane in range(0, lanes, table[WALK.chunk]):
        width = min(table[WALK.chunk], lanes - lane)
        sums = read = shift(source, lane)
        if along_lanes:
            sum_taps(
                job, table, LANE_TAPS, weights, lists, 0, target, pitch, read, pitch, rows, width
            )
            sums = target
        elif along_rows:
            sum_taps(
                job, table, ROW_TAPS, weights, lists, step, target, pitch, read, 0, rows, width
            )
            sums = target
        store_rows(job, table, sums, out + lane * table[WALK.lane_out], rows, width)


@native(WorkerArguments)
def walk_work(worker, job, like):
    """Do tasks until none is left."""
    table, weights = indices_at(job[AT.table]), pointer_at(job[AT.packed], like)
    memory = shift(pointer_at(job[AT.scratch], like), worker * job[AT.scratch_size])
    state = shift(indices_at(job[AT.indices]), worker * job[AT.index_size])
    number, queue = next_task(job, table[WALK.tasks], worker, 0)
    while number < table[WALK.tasks]:
        locate(table, state, number)
        first, row, end, fresh = state[PART.row0], state[PART.row0], state[PART.row1], 0
        while row < end:
            rows = end - row if end - row < table[WALK.step] else table[WALK.step]
            while fresh < row - first + rows + table[WALK.row_window] - 1:
                at, slot = first - table[WALK.row_before] + fresh, fresh % table[WALK.ring]
                read_ring_row(job, table, state, memory, weights, at, slot)
                fresh += 1
            list_row_taps(table, shift(state, table[WALK.lists_at]), row - first, rows)
            for plane in range(state[PART.blocks]):
                finish_rows(job, table, state, memory, weights, plane, row, rows)
            row += rows
        number, queue = next_task(job, table[WALK.tasks], worker, queue)
    fence()  # for stores past the caches
