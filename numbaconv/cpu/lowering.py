"""How an engine computes a problem: the one value in which all its decisions lie.

An engine's ``lower(s, dtype, threads)`` makes it from the problem alone, without compiling or
allocating anything but a table. `execution` writes it into a job.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from numbaconv.codegen.jit import native
from numbaconv.problem.shape import ConvShape


class Engine(NamedTuple):
    """A backend of the CPU.

    Attributes
    ----------
    lower : callable
        ``lower(s, dtype, threads)`` says how it computes a problem, as a `Lowering`.
    unavailable : callable
        Says why it cannot run here, or returns None.
    lower_adjoint : callable or None
        ``lower_adjoint(s, dtype, threads)`` says how it computes the adjoint of a problem as a
        whole, or returns None: then the phases of the adjoint are problems of their own.
    """

    lower: Callable[..., Any]
    unavailable: Callable[[], str | None]
    lower_adjoint: Callable[..., Any] | None = None


class Packing(NamedTuple):
    """The order in which a lowering reads weights.

    Attributes
    ----------
    rows : int
        Output channels of a panel.
    taps_outer : bool
        Whether k = (tap, input channel); else (input channel, tap).
    in_task : bool
        Whether a task packs the panels that it reads, if the weights come unpacked: each panel
        then serves one task or two, and is still in cache.
    panel_size : int
        Elements of scratch that such a panel takes.
    """

    rows: int
    taps_outer: bool = False
    in_task: bool = False
    panel_size: int = 0


class Lowering(NamedTuple):
    """How an engine computes a problem.

    Attributes
    ----------
    name : str
        The module that the worker is in; of `filter_rows` with folds, `filter_folds`.
    worker, tile : native
        The function that takes tasks, and the microkernel that it calls.
    blocks : NamedTuple
        How the output is cut; `blocks.tasks` is the number of tasks.
    table : ndarray
        Integers that all workers read: offsets and lists of taps, strips, zones.
    scratch_size, index_size : int
        Elements, and integers, that each worker needs for itself.
    layout : NamedTuple
        Of what a task copies of the input; empty if it copies nothing, or in no layout of its own.
    fill_halo : native or None
        The function that copies it. One that converts reads the caller's array in its own dtype.
    store : native or None
        The function that stores rows of results, where the tile does not.
    band : native or None
        A second microkernel.
    packing : Packing or None
        None: the weights are read as they are.
    taps_in_place : int
        Where in the table the offsets begin for tasks that read the input in place; 0 if no task
        does, or all do.
    nontemporal : bool
        Whether results go past the caches, unless an activation follows.
    prefetching_tile : native or None
        The microkernel for pixels from memory, which asks for them ahead of time.
    prefetch_distance : int
        Elements by which a tile asks for pixels ahead of time; 0: it does not.
    asks_for_results : bool
        Whether a task asks for lines of the output before it computes what it moves there.
    empty_columns : tuple of int
        How many of the first columns of outputs, and of the last, have tiles of their own.
    packer : native or None
        The worker that packs the weights, where it is not the one of `packing`. If there are both,
        weights that are no array of the caller's come to it in the panels of `packing`.
    packed_size : int
        Elements of weights that it packs; 0: as many as there are.
    pack_scratch : int
        Elements of scratch that each of its workers needs.
    packed_order : tuple of int
        What the order of its weights depends on.
    functions : tuple of native
        Further functions that workers call. In a job they lie behind the layout.
    problem : ConvShape or None
        What the job says the problem is; None: it is the one that is lowered.
    """

    name: str
    worker: native
    tile: native | None
    blocks: Any
    table: np.ndarray
    scratch_size: int
    index_size: int = 0
    layout: tuple[int, ...] = ()
    fill_halo: native | None = None
    store: native | None = None
    band: native | None = None
    packing: Packing | None = None
    taps_in_place: int = 0
    nontemporal: bool = False
    prefetching_tile: native | None = None
    prefetch_distance: int = 0
    asks_for_results: bool = False
    empty_columns: tuple[int, int] = (0, 0)
    packer: native | None = None
    packed_size: int = 0
    pack_scratch: int = 0
    packed_order: tuple[int, ...] = ()
    functions: tuple[native, ...] = ()
    problem: ConvShape | None = None
