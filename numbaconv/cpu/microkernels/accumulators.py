"""What register tiles are made of: the block of sums, loops that carry it, a case for each size.

All of it runs when a tile is compiled, and emits LLVM IR: `values` are rows of vectors that stay in
registers, and a loop is a Python function that is called once, to emit its body.
"""

import functools
from contextlib import contextmanager

from numba.core import cgutils

from numbaconv.codegen.vectors import I64, i64
from numbaconv.cpu.blocking import TILE_ROWS, TILE_VECTORS

# Steps of a loop over taps that lie one behind the other. Where every step ends in a jump, an Intel
# CPU does not run so far ahead of its multiply-adds that loads from the second-level cache are
# early.
UNROLLED = 3


class Accumulators:
    """The MR x NV block of C: loaded or set to the bias, carried by loops, stored at the end."""

    def __init__(self, vectors, rows, columns, c, row_step, last):
        self.v, self.rows, self.columns = vectors, rows, columns
        builder = vectors.builder
        self.pointers = [vectors.at(c, builder.mul(row_step, i64(i))) for i in range(rows)]
        self.last, self.mask = last, vectors.first_lanes(last)
        self.values = []

    def start(self, accumulate, fresh):
        """Read C where `accumulate` holds; else start from `fresh(i, j)` and do not read C."""
        builder = self.v.builder
        with builder.if_else(accumulate) as (then, otherwise):
            with then:
                read = self._block(lambda i, j: self.load_column(self.pointers[i], j))
                read_block = builder.block
            with otherwise:
                first = self._block(fresh)
                first_block = builder.block
        self.values = self._block(
            lambda i, j: join(builder, [(read[i][j], read_block), (first[i][j], first_block)])
        )

    def _block(self, value):
        return [[value(i, j) for j in range(self.columns)] for i in range(self.rows)]

    def load_column(self, row, j):
        """Vector j behind a pointer: of the last one only the lanes of C are read."""
        pointer = self.v.column(row, j)
        if j == self.columns - 1:
            return self.v.load_masked(pointer, self.mask)
        return self.v.load(pointer)

    def store(self):
        """Store C, of its last vectors only the lanes that belong to it.

        Where that is all of them, no masks are used: a masked store takes a Zen 3 as long as a
        dozen others.
        """
        builder = self.v.builder
        for pointer, row in zip(self.pointers, self.values, strict=True):
            for j, value in enumerate(row[:-1]):
                self.v.store(value, self.v.column(pointer, j))
        ends = [
            (row[-1], self.v.column(pointer, self.columns - 1))
            for pointer, row in zip(self.pointers, self.values, strict=True)
        ]
        whole = builder.icmp_signed("==", self.last, i64(self.v.lanes))
        with builder.if_else(whole, likely=True) as (then, otherwise):
            with then:
                for value, pointer in ends:
                    self.v.store(value, pointer)
            with otherwise:
                for value, pointer in ends:
                    self.v.store_masked(value, pointer, self.mask)

    def store_nontemporal(self):
        """Store C past the caches: all of its vectors are whole, and aligned."""
        for pointer, row in zip(self.pointers, self.values, strict=True):
            for j, value in enumerate(row):
                self.v.store_nontemporal(value, self.v.column(pointer, j))

    def prefetch_next(self, step):
        """Ask for the lines of C `step` on, so that they arrive while this block is multiplied.

        One line a vector, that of its last lane: it begins in the line where another ends.
        """
        for pointer in self.pointers:
            following = self.v.at(pointer, step)
            for j in range(self.columns):
                last = i64((j + 1) * self.v.lanes - 1)
                self.v.prefetch(self.v.at(following, last), write=True)

    def loop_over_taps(self, channels, table, runs, operands, name, before=None):
        """Run a step for each tap of each channel.

        `runs` are pieces of the table that follow one another: of each how many taps, none too if
        there are several, what it does, `step(pixels, weights, pointers, values) -> values`, and
        how many steps lie one behind the other in its loop. A tap has two entries in the table: its
        offset among pixels, and among weights. `operands` are pointers with the elements from one
        channel to the next; a step gets those of its channel, and before the taps of each channel
        `before(pointers)`.
        """
        v, builder = self.v, self.v.builder
        starts = []
        for count, *_ in runs:
            starts.append(table)
            table = v.at(table, builder.mul(count, i64(2)))

        def channel(_, rows):
            *values, pointers = rows
            if before is not None:
                before(pointers)
            for first, (count, step, unrolled) in zip(starts, runs, strict=True):
                loop = functools.partial(self._run, count, first, step, pointers, name, unrolled)
                values = loop(values) if len(runs) == 1 else if_any(builder, count, values, loop)
            following = [v.at(p, apart) for p, (_, apart) in zip(pointers, operands, strict=True)]
            return [*values, following]

        # Carried along, pointers are there at once for the first channel, often the only one.
        start = [*self.values, [first for first, _ in operands]]
        *self.values, _ = carried_loop(builder, channels, start, channel, f"{name}_channels")

    def _run(self, count, first, step, pointers, name, unrolled, values):
        """Loop over the taps of a run, whose entries begin with the first."""
        v, builder = self.v, self.v.builder

        def tap(t, values):
            entry = v.at(first, builder.mul(t, i64(2)))
            offsets = [builder.load(v.at(entry, i64(i))) for i in range(2)]
            return step(*offsets, pointers, values)

        return carried_loop(builder, count, values, tap, name, unrolled)

    def loop(self, count, body, name):
        """Run `body(k, values) -> values` for k = 0 .. count - 1, count >= 1, C in registers."""
        self.values = carried_loop(self.v.builder, count, self.values, body, name)


def is_set(builder, flag):
    """Whether an argument that is 0 or 1 is 1."""
    return builder.icmp_signed("!=", flag, i64(0))


def join(builder, incoming):
    """Phi of the (value, block) pairs."""
    incoming = list(incoming)
    phi = builder.phi(incoming[0][0].type)
    for value, block in incoming:
        phi.add_incoming(value, block)
    return phi


def join_blocks(builder, ways):
    """Rows of phis of the (rows of values, block) pairs."""
    ways = list(ways)
    blocks = [block for _, block in ways]
    return [
        [join(builder, zip(each, blocks, strict=True)) for each in zip(*rows, strict=True)]
        for rows in zip(*(values for values, _ in ways), strict=True)
    ]


def where(builder, condition, values, change):
    """Return `change(values)` where a condition holds, else the values as they are."""
    before = builder.block
    with builder.if_then(condition):
        after = change(values)
        inside = builder.block
    return join_blocks(builder, [(values, before), (after, inside)])


def if_any(builder, count, values, loop):
    """Run `loop(values) -> values` unless it has nothing to do; return the last values."""
    return where(builder, builder.icmp_signed(">", count, i64(0)), values, loop)


def carried_loop(builder, count, values, body, name, unrolled=1):
    """Run `body(k, values) -> values` for k = 0 .. count - 1, count >= 1; return the last values.

    The values, rows of vectors, stay in registers. The body is emitted `unrolled` times, one behind
    the other, with a way out behind each.
    """
    before = builder.block
    block, end = builder.append_basic_block(name), builder.append_basic_block(name + "_end")
    builder.branch(block)
    builder.position_at_end(block)
    first = builder.phi(I64)
    first.add_incoming(i64(0), before)
    carried = [[join(builder, [(old, before)]) for old in row] for row in values]
    new, k, ways_out = carried, first, []
    for copy in range(unrolled):
        new = body(k, new)
        k = builder.add(first, i64(copy + 1))
        ways_out.append((new, builder.block))
        following = block if copy == unrolled - 1 else builder.append_basic_block(name)
        builder.cbranch(builder.icmp_signed("<", k, count), following, end)
        builder.position_at_end(following)
    first.add_incoming(k, ways_out[-1][1])
    for phis, row in zip(carried, new, strict=True):
        for phi, value in zip(phis, row, strict=True):
            phi.add_incoming(value, ways_out[-1][1])
    builder.position_at_end(end)
    return new if unrolled == 1 else join_blocks(builder, ways_out)


def for_each_block(builder, rows, columns, choices, columns_choices, emit):
    """Switch on (rows, columns) and let `emit(rows, columns)` fill each case."""
    stride = max(columns_choices) + 1
    end = builder.append_basic_block("blocks_end")
    selector = builder.add(builder.mul(rows, i64(stride)), columns)
    switch = builder.switch(selector, end)
    for mr in choices:
        for nv in columns_choices:
            case = builder.append_basic_block(f"block_{mr}x{nv}")
            switch.add_case(i64(mr * stride + nv), case)
            builder.position_at_end(case)
            emit(mr, nv)
            builder.branch(end)
    builder.position_at_end(end)


def for_each_tile(builder, rows, columns, emit):
    """The same for each block up to the largest that the registers hold."""
    sizes = range(1, TILE_ROWS + 1), range(1, TILE_VECTORS + 1)
    for_each_block(builder, rows, columns, *sizes, emit)


@contextmanager
def side_by_side(vectors, blocks, nv, last, *pointers):
    """Loop over blocks of NV vectors: yields the lanes stored of a block's last, and its pointers.

    One call computes several blocks because a call costs as much as a few steps of k.
    """
    builder = vectors.builder
    final = builder.sub(blocks, i64(1))
    with cgutils.for_range(builder, blocks) as loop:
        first = builder.mul(loop.index, i64(nv * vectors.lanes))
        is_final = builder.icmp_signed("==", loop.index, final)
        stored = builder.select(is_final, last, i64(vectors.lanes))
        yield stored, *(vectors.at(pointer, first) for pointer in pointers)


def listed(channels, taps, table, pixels_apart, weights_apart):
    """Places of pixels and weights of each (channel, tap), for what runs in NumPy."""
    for channel in range(channels):
        for pixels, weights in table[: 2 * taps].reshape(taps, 2):
            yield channel * pixels_apart + pixels, channel * weights_apart + weights
