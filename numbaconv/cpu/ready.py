"""Calls of a prepared layer of which all is known but the input: the short way for small layers.

A layer that takes ten microseconds would spend a third of them on finding its plan, backend, job
and packed weights again.
"""

from typing import Any, NamedTuple

import numpy as np
from numba.core import config

from numbaconv.cpu.arrays import flat_bias
from numbaconv.cpu.execution import Template, find_template, packed_weights
from numbaconv.cpu.job import AT, run_given
from numbaconv.cpu.lowering import Engine
from numbaconv.problem.plan import Plan
from numbaconv.runtime.capture import capturing
from numbaconv.runtime.lent_memory import LEAST_BYTES
from numbaconv.runtime.threads import thread_limit


class _Job(NamedTuple):
    """A job, its packed weights and its workers, and the template, which owns the job's tables."""

    job: np.ndarray
    packed: np.ndarray
    workers: int
    template: Template


class Ready:
    """What calls of a layer with one kind of input have in common.

    Parameters
    ----------
    plan : Plan
        Of the calls.
    engine : Engine
        That runs them.
    weight, bias : ndarray
        The layer's; `bias` may be None.
    kept : dict
        Where the layer keeps its packed weights.
    """

    def __init__(
        self,
        plan: Plan,
        engine: Engine,
        weight: np.ndarray,
        bias: np.ndarray | None,
        kept: dict[Any, Any],
    ) -> None:
        self._found = plan, engine, weight, kept
        self._multiply_adds = plan.multiply_adds
        self._shape, self._dtype = plan.out_shape, plan.result
        self._bias = flat_bias(bias, plan)
        self._jobs: dict[int, _Job] = {}

    def _find_job(self, threads: int) -> _Job:
        """Return the job on so many threads; of a template that another thread may replace."""
        plan, engine, weight, kept = self._found
        template = find_template(plan, engine, threads)
        packed = packed_weights(template, weight, plan, kept)
        job = template.job
        self._jobs[threads] = found = _Job(job, packed, int(job[AT.workers]), template)
        return found

    def _fits(self, out: np.ndarray, x: np.ndarray) -> bool:
        """Whether kernels can store a result in an array, which an input may lie next to."""
        is_like = out.shape == self._shape and out.dtype == self._dtype
        return is_like and out.flags.carray and not np.may_share_memory(out, x)

    def __call__(self, x: np.ndarray, out: np.ndarray | None) -> np.ndarray | None:
        """Return the result for an input; None: this is a call to check and to plan.

        Such are calls whose `out` kernels cannot store in, and all of a thread that captures.
        """
        if capturing() is not None or (out is not None and not self._fits(out, x)):
            return None
        threads = thread_limit(self._multiply_adds)
        job, packed, workers, _ = self._jobs.get(threads) or self._find_job(threads)
        y = np.empty(self._shape, self._dtype) if out is None else out
        run_given((job, x, packed, packed, self._bias, y, y), workers)
        return y


def is_plain(plan: Plan, x: np.ndarray) -> bool:
    """Whether kernels read an input and store the result of a call where these lie.

    Larger results are lent their memory, and their calls do not gain by microseconds.
    """
    how, flags = plan.arithmetic, x.flags
    reads = how.is_plain(x) and how.compute == plan.result and plan.layout_agrees
    lies_well = flags.c_contiguous and flags.aligned
    small = plan.multiply_adds > 0 and plan.out_size * how.compute.itemsize < LEAST_BYTES
    return reads and lies_well and small and not plan.converts_sums and not config.DISABLE_JIT
