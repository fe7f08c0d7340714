"""Tiles moved from scratch to the output, and back where sums are to be added to what is there.

Most tiles are stored where they belong at once. These are the others: the output's rows are too
short, or its pixels no neighbours.
"""

from numbaconv.codegen.jit import inline
from numbaconv.codegen.pointers import keep_scalar, shift
from numbaconv.cpu.packing.lanes import copy_even_lanes, copy_lanes, spread_lanes
from numbaconv.cpu.packing.transpose import transpose_block


@inline
def move_rows(tile, first, tile_step, rows, width, out, at, row_step, column_step, gather, lanes):
    """out[at + i * row_step + j * column_step] = tile[i][first + j], or back where `gather`."""
    if column_step == 1:
        for i in range(rows):
            source, target = shift(tile, first + i * tile_step), shift(out, at + i * row_step)
            j = 0
            while j < width:  # a range with a step divides by it first
                if gather:
                    copy_lanes(shift(source, j), shift(target, j), width - j)
                else:
                    copy_lanes(shift(target, j), shift(source, j), width - j)
                j += lanes
    elif row_step == 1:  # channels_last, or a tile whose rows are pixels
        inside, outside = shift(tile, first), shift(out, at)
        if gather:
            transpose_block(inside, tile_step, outside, column_step, width, rows, lanes)
        else:
            transpose_block(outside, column_step, inside, tile_step, rows, width, lanes)
    elif column_step == 2:  # a phase of a gradient under stride 2
        for i in range(rows):
            source, target = shift(tile, first + i * tile_step), shift(out, at + i * row_step)
            j = 0
            while j < width:
                if gather:
                    copy_even_lanes(shift(source, j), shift(target, 2 * j), width - j)
                else:
                    spread_lanes(shift(target, 2 * j), shift(source, j), width - j)
                j += lanes
    else:
        # The inner loop takes the shorter steps in the output.
        far = row_step > column_step
        outer, outer_tile, outer_out = (
            (rows, tile_step, row_step) if far else (width, 1, column_step)
        )
        inner, inner_tile, inner_out = (
            (width, 1, column_step) if far else (rows, tile_step, row_step)
        )
        for i in range(outer):
            source = shift(tile, first + i * outer_tile)
            target = shift(out, at + i * outer_out)
            for j in range(inner):
                keep_scalar()
                if gather:
                    source[j * inner_tile] = target[j * inner_out]
                else:
                    target[j * inner_out] = source[j * inner_tile]
