"""Mixed calls with known results, from many threads or from child processes.

    python -m tests.scripts.mixed_calls threads [--threads 16] [--calls 1000]
    python -m tests.scripts.mixed_calls pool | dask | joblib
    python -m tests.scripts.mixed_calls fork | forkserver | spawn

NUMBA_THREADING_LAYER and NUMBA_NUM_THREADS say on what; an abort, a hang or a wrong element fails.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np

import numbaconv as nc
from tests.oracle import paths, reference
from tests.oracle.cases import Array, Case, integer_arrays, problem

BACKENDS = (*paths.BACKENDS, *paths.TRANSFORMS)

# Four that are large enough for a parallel region, and some that are not.
CASES: tuple[Case, ...] = (
    problem("many_channels", (1, 32, 57, 53), (61, 32, 3, 3), padding=1),
    problem("depthwise", (4, 67, 29, 31), (67, 1, 3, 3), groups=67),
    problem("image", (1, 1, 257, 251), (1, 1, 7, 7), padding="same"),
    problem("signal", (2, 31, 2003), (37, 31, 5), stride=2, bias=True),
    problem("tiny", (1, 1, 9, 9), (3, 1, 3, 3)),
    problem("volume", (1, 3, 7, 9, 8), (5, 3, 3, 3, 3), padding=1, padding_mode="reflect"),
    problem("last", (2, 13, 11, 5), (7, 5, 3, 3), data_format="channels_last", bias=True),
)
DTYPES = ("float32", "float64")
PROBLEMS = [(case, integer_arrays(case, dtype)) for dtype in DTYPES for case in CASES]
# The same values for both dtypes: worked out in float64, for which there is a BLAS.
EXPECTED = len(DTYPES) * [
    reference.conv_by_taps(*integer_arrays(case), **case.kwargs) for case in CASES
]
LAYERS = {
    backend: [nc.prepare(*arrays[1:], **case.kwargs, backend=backend) for case, arrays in PROBLEMS]
    for backend in BACKENDS
}


def call(step: int) -> Array:
    """Make a call: as `step` says, plain, into an `out`, or through a shared prepared layer."""
    i, backend = step % len(PROBLEMS), BACKENDS[step // len(PROBLEMS) % len(BACKENDS)]
    case, arrays = PROBLEMS[i]
    kind = step // 3 % 3
    if kind == 0:
        return nc.conv(*arrays, **case.kwargs, backend=backend)
    if kind == 1:
        out = np.full(EXPECTED[i].shape, np.nan, arrays[0].dtype)
        return nc.conv(*arrays, **case.kwargs, backend=backend, out=out)
    return LAYERS[backend][i](arrays[0])


def check(step: int) -> bool:
    """Make a call and compare every element: an integer, which transforms are near."""
    np.testing.assert_array_equal(np.rint(call(step)), EXPECTED[step % len(PROBLEMS)])
    return True


def check_steps(start: int, count: int) -> bool:
    return all(check(step) for step in range(start, start + count))


def check_from_threads(threads: int, calls: int) -> None:
    """Let all threads begin at once; every other one has a number of threads of its own."""
    failures: list[str] = []
    gate = threading.Barrier(threads)

    def work(number: int) -> None:
        try:
            own = 1 + number % numba.config.NUMBA_NUM_THREADS
            numba.set_num_threads(own)
            gate.wait(60)
            check_steps(31 * number, calls)
            assert numba.get_num_threads() == own
        except BaseException as failure:
            failures.append(repr(failure))
            raise

    before = numba.get_num_threads()
    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failures, failures
    assert numba.get_num_threads() == before


def check_from_pool(threads: int, calls: int) -> None:
    with ThreadPoolExecutor(threads) as pool:
        assert all(pool.map(check, range(calls)))


def check_from_dask(threads: int, calls: int) -> None:
    import dask

    tasks = [dask.delayed(check)(step) for step in range(calls)]
    assert all(dask.compute(*tasks, scheduler="threads", num_workers=threads))


def check_from_joblib(threads: int, calls: int) -> None:
    """Run on joblib's threads, then in its processes."""
    import joblib

    for backend in ("threading", "loky"):
        with joblib.parallel_config(backend=backend, n_jobs=min(threads, 4)):
            assert all(joblib.Parallel()(joblib.delayed(check)(step) for step in range(calls)))


def check_from_children(method: str) -> Callable[[int, int], None]:
    def run(threads: int, calls: int) -> None:
        """Compute here before and after; the children compute several times each."""
        steps = 2 * len(PROBLEMS)
        check_steps(0, steps)
        with multiprocessing.get_context(method).Pool(2) as pool:
            assert all(pool.starmap(check_steps, [(0, steps)] * 4, chunksize=1))
        check_steps(0, steps)

    return run


WAYS: dict[str, Callable[[int, int], None]] = {
    "threads": check_from_threads,
    "pool": check_from_pool,
    "dask": check_from_dask,
    "joblib": check_from_joblib,
    **{method: check_from_children(method) for method in ("fork", "forkserver", "spawn")},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("--threads", type=int, default=16)
    parser.add_argument("--calls", type=int, default=1000, help="of each thread, or in all")
    options = parser.parse_args()
    WAYS[options.way](options.threads, options.calls)
    layer = os.environ.get("NUMBA_THREADING_LAYER")
    assert layer is None or numba.threading_layer() == layer
    print(f"{options.way} on {layer}: right")


if __name__ == "__main__":
    main()
