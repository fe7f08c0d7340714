"""Passes of Winograd's transforms along one axis: each lane of a vector is a tile of its own.

A *cell* is the vectors of one element of all tiles. A *line* is the cells along the axis. A pass
loads the cells of a line, multiplies them by one of the matrices of `toom_cook`, whose entries are
constants in the code, and stores the results; so it may replace what it reads. Transforms of
several axes are one pass after the other.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba.core import cgutils

from numbaconv.codegen.arguments import Elements, Indices
from numbaconv.codegen.target import VECTOR_BYTES
from numbaconv.codegen.twins import emitted
from numbaconv.codegen.vectors import I32, Vectors, i64
from numbaconv.cpu.microkernels.accumulators import is_set, join
from numbaconv.problem.points import POINTS
from numbaconv.problem.toom_cook import Matrix, matrices


class Pass(NamedTuple):
    """A pass, as a table has it; behind it lie the places of its lines, in source and target.

    Attributes
    ----------
    outputs : int
        Outputs m of a tile along the axis: it names the matrix.
    lines : int
        How many.
    source_step, target_step : int
        Elements from one cell of a line to the next, in source and target.
    source_block, target_block : int
        Elements from one row of tiles to the next.
    is_row : int
        1: what `evaluate` reads, and what `interpolate` stores, is a row of the image, in which the
        elements of one tile are neighbours, m from those of the next tile.
    """

    outputs: int
    lines: int
    source_step: int
    target_step: int
    source_block: int
    target_block: int
    is_row: int


class PassArguments(NamedTuple):
    """What passes take.

    Attributes
    ----------
    target, source : pointer
        The first cells.
    step : pointer
        The `Pass`.
    blocks, vectors : int
        Rows of tiles; vectors of each. Vectors are whole: what is behind the tiles is read, and
        overwritten.
    start : pointer
        A value that `interpolate` adds to all results.
    """

    target: Elements
    source: Elements
    step: Indices
    blocks: int
    vectors: int
    start: Elements


class _Linear:
    """Linear combinations of vectors with constant coefficients."""

    def __init__(self, vectors):
        self.v, self.builder = vectors, vectors.builder

    def combine(self, coefficients, values, start=None):
        """Return the sum of coefficients times values, and of `start`; zeros are left out.

        Values times 1 or -1 come first: they cost no multiplication.
        """
        terms = [(c, x) for c, x in zip(coefficients, values, strict=True) if c]
        terms.sort(key=lambda term: (abs(term[0]) != 1, term[0] < 0))
        total = start
        for c, x in terms:
            if total is None:
                total = x if c == 1 else self.builder.fmul(self._constant(c), x)
            elif abs(c) == 1:
                total = (self.builder.fadd if c == 1 else self.builder.fsub)(total, x)
            else:
                total = self.v.multiply_add(self._constant(c), x, total)
        return self.v.zero() if total is None else total

    def _constant(self, c):
        return ir.Constant(self.v.vector, [float(c)] * self.v.lanes)

    def at_points(self, matrix, values):
        """Return a matrix times values, of which rows 1 and 2, 3 and 4, ... are of points p, -p.

        Their even powers have the same sum, their odd ones have opposite sums.
        """
        results = [self.combine(matrix[0], values)]
        for row in matrix[1:-1:2]:
            even = self.combine([c if i % 2 == 0 else 0 for i, c in enumerate(row)], values)
            odd = self.combine([c if i % 2 == 1 else 0 for i, c in enumerate(row)], values)
            results += [self.builder.fadd(even, odd), self.builder.fsub(even, odd)]
        return [*results, self.combine(matrix[-1], values)]

    def from_points(self, matrix, values, start):
        """Return `start` plus a matrix times values, of which columns 1 and 2, ... are of p, -p."""
        first, *middle, last = values
        pairs = list(zip(middle[::2], middle[1::2], strict=True))
        sums = (
            [self.builder.fadd(a, b) for a, b in pairs],
            [self.builder.fsub(a, b) for a, b in pairs],
        )
        return [
            self.combine((row[0], *row[1:-1:2], row[-1]), (first, *sums[i % 2], last), start)
            for i, row in enumerate(matrix)
        ]

    def interleaved(self, values):
        """Return vectors in which element i of all `values` are neighbours; two or four of them."""
        if len(values) == 1:
            return values
        lanes, result = self.v.lanes, []
        even, odd = self.interleaved(values[::2]), self.interleaved(values[1::2])
        for a, b in zip(even, odd, strict=True):
            for half in range(2):
                places = range(half * lanes // 2, (half + 1) * lanes // 2)
                picked = [place for i in places for place in (i, lanes + i)]
                mask = ir.Constant(ir.VectorType(I32, lanes), picked)
                result.append(self.builder.shuffle_vector(a, b, mask))
        return result

    def split(self, row):
        """Return vectors of every m-th element of m vectors: the other way of `interleaved`."""
        if len(row) == 1:
            return row
        pairs = list(zip(row[::2], row[1::2], strict=True))
        even, odd = (self.split([self.v.every_second(pair, i) for pair in pairs]) for i in range(2))
        return [phase for both in zip(even, odd, strict=True) for phase in both]

    def moved_on(self, value, scalar):
        """Return a vector without its first element, and with a scalar behind the others."""
        picked = list(range(1, self.v.lanes + 1))
        mask = ir.Constant(ir.VectorType(I32, self.v.lanes), picked)
        return self.builder.shuffle_vector(value, self.v.splat(scalar), mask)


def _cells(v, first, count, step):
    """Pointers to the cells of a line."""
    return [v.at(first, v.builder.mul(step, i64(i))) for i in range(count)]


def _emit(transform, builder, dtype, o):
    """A case for each number of outputs."""
    v = Vectors(builder, dtype)
    fields = Pass(*(builder.load(v.at(o.step, i64(i))) for i in range(len(Pass._fields))))
    for m in POINTS:
        with builder.if_then(builder.icmp_signed("==", fields.outputs, i64(m))):
            _emit_rows(_Linear(v), transform, m, fields, o)


def _emit_rows(linear, transform, m, fields, o):
    """Loop over rows of tiles, lines, vectors."""
    v, builder = linear.v, linear.builder
    places = v.at(o.step, i64(len(Pass._fields)))
    with (
        cgutils.for_range(builder, o.blocks) as block,
        cgutils.for_range(builder, fields.lines) as line,
    ):
        pair = v.at(places, builder.mul(line.index, i64(2)))
        from_, to = (builder.load(v.at(pair, i64(i))) for i in range(2))
        source = v.at(o.source, builder.mul(block.index, fields.source_block))
        target = v.at(o.target, builder.mul(block.index, fields.target_block))
        source, target = v.at(source, from_), v.at(target, to)
        inputs, results = transform.sizes(m)
        read = _cells(v, source, inputs, fields.source_step)
        written = _cells(v, target, results, fields.target_step)
        with cgutils.for_range(builder, o.vectors) as vectors:
            first = builder.mul(vectors.index, i64(v.lanes))
            values = transform.load(linear, m, read, first, fields)
            values = transform.emit(linear, m, values, o)
            transform.store(linear, values, written, first, fields)


class _Transform(NamedTuple):
    """What a pass computes: the matrix of m, and how lines are loaded, multiplied and stored."""

    matrix: Callable[[int], Matrix]
    load: Callable[..., Any]
    emit: Callable[..., Any]
    store: Callable[..., None]

    def sizes(self, m):
        """Cells that a line has before and after."""
        matrix = self.matrix(m)
        return len(matrix[0]), len(matrix)


def _load(linear, m, cells, first, fields):
    """Load cells."""
    return [linear.v.load(linear.v.at(cell, first)) for cell in cells]


def _load_row(linear, m, cells, first, fields):
    """Load cells, or make them of a row: cells m and m + 1 are the first two of the next tile."""
    v, builder = linear.v, linear.builder
    with builder.if_else(is_set(builder, fields.is_row)) as (then, otherwise):
        with then:
            row = v.at(cells[0], builder.mul(first, i64(m)))
            split = linear.split([v.load(v.column(row, j)) for j in range(m)])
            behind = [builder.load(v.at(row, i64(m * v.lanes + i))) for i in range(len(cells) - m)]
            split += [linear.moved_on(x, scalar) for x, scalar in zip(split, behind, strict=False)]
            from_row = builder.block
        with otherwise:
            loaded = _load(linear, m, cells, first, fields)
            from_cells = builder.block
    pairs = zip(split, loaded, strict=True)
    return [join(builder, [(a, from_row), (b, from_cells)]) for a, b in pairs]


def _store(linear, values, cells, first, fields):
    """Store results to their cells."""
    for value, cell in zip(values, cells, strict=True):
        linear.v.store(value, linear.v.at(cell, first))


def _store_row(linear, values, cells, first, fields):
    """Store results to their cells, or as one row."""
    builder = linear.builder
    with builder.if_else(is_set(builder, fields.is_row)) as (then, otherwise):
        with then:
            row = linear.v.at(cells[0], builder.mul(first, i64(len(values))))
            for j, value in enumerate(linear.interleaved(values)):
                linear.v.store(value, linear.v.column(row, j))
        with otherwise:
            _store(linear, values, cells, first, fields)


def _emit_at_points(matrix):
    return lambda linear, m, values, o: linear.at_points(matrix(m), values)


def _inputs(m: int) -> Matrix:
    return matrices(m).inputs


def _taps(m: int) -> Matrix:
    return matrices(m).taps


def _outputs(m: int) -> Matrix:
    return matrices(m).outputs


def _emit_interpolation(linear, m, values, o):
    return linear.from_points(_outputs(m), values, linear.v.broadcast(o.start))


_INPUTS = _Transform(_inputs, _load_row, _emit_at_points(_inputs), _store)
_TAPS = _Transform(_taps, _load, _emit_at_points(_taps), _store)
_OUTPUTS = _Transform(_outputs, _load, _emit_interpolation, _store_row)


def _twin(
    o: PassArguments, matrix: Callable[[int], Matrix], start: Any = 0, reads_rows: bool = False
) -> None:
    """Do what the emitted functions do."""
    lanes = VECTOR_BYTES // o.target.itemsize
    size, fields = o.vectors * lanes, Pass(*o.step[: len(Pass._fields)])
    m = fields.outputs
    constants = np.array([[float(c) for c in row] for row in matrix(m)], o.target.dtype)
    for block in range(o.blocks):
        for line in range(fields.lines):
            at = len(Pass._fields) + 2 * line
            source = o.source[block * fields.source_block + o.step[at] :]
            target = o.target[block * fields.target_block + o.step[at + 1] :]
            begins = range(constants.shape[1])
            if reads_rows and fields.is_row:
                cells = np.stack([source[i:][: m * size : m] for i in begins])
            else:
                cells = np.stack([source[i * fields.source_step :][:size] for i in begins])
            with np.errstate(all="ignore"):
                results = [
                    sum(c * x for c, x in zip(row, cells, strict=True) if c) for row in constants
                ]
                results = np.stack(results) + start
            if fields.is_row and not reads_rows:
                target[: m * size] = results.T.ravel()
                continue
            for i, result in enumerate(results):
                target[i * fields.target_step :][:size] = result


@emitted(PassArguments, lambda builder, dtype, o: _emit(_INPUTS, builder, dtype, o))
def evaluate(o):
    """Multiply lines of m + 2 inputs by B^T: their values at the points."""
    _twin(o, _inputs, reads_rows=True)


@emitted(PassArguments, lambda builder, dtype, o: _emit(_TAPS, builder, dtype, o))
def evaluate_taps(o):
    """Multiply lines of 3 taps by G: their values at the points."""
    _twin(o, _taps)


@emitted(PassArguments, lambda builder, dtype, o: _emit(_OUTPUTS, builder, dtype, o))
def interpolate(o):
    """Multiply lines of m + 2 products by A^T: the outputs along this axis."""
    _twin(o, _outputs, o.start[0])
