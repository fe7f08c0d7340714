"""Execute the compiled kernels of the cuda backend without a GPU, and compare with the oracle.

    python -m tests.cuda.executed.run [-j PROCESSES] [WORD ...]

runs the cases whose names hold one of the words, or all. PTX that was compiled before is kept
(NUMBACONV_PTX_CACHE).
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import traceback
import warnings
from multiprocessing import get_context

from tests.cuda.executed.device import GPU, installed

_holding = []  # for as long as a process lives


def start() -> None:
    """Begin a process: without a driver, and with one thread."""
    warnings.simplefilter("ignore")
    _holding.append(installed())
    _holding[0].__enter__()


def work(name: str) -> tuple[str, str | None, list[str], set[tuple[str, str]]]:
    """Run a case; its name, what was found, the kernels that ran and what they read unwritten."""
    from tests.cuda.executed.cases import CASES

    GPU.launches = []
    try:
        CASES[name]()
        found = None if GPU.launches else "nothing was launched"
    except Exception:
        found = traceback.format_exc(limit=-4)
    return name, found, [launch.key for launch in GPU.launches], GPU.never_written


def main() -> int:
    """Run the cases that were asked for; 1 if one of them differs."""
    parser = argparse.ArgumentParser(prog="python -m tests.cuda.executed.run")
    parser.add_argument("-j", type=int, default=os.cpu_count(), help="processes")
    parser.add_argument("words", nargs="*")
    options = parser.parse_args()
    from tests.cuda.executed.cases import CASES

    words = options.words or [""]
    chosen = [name for name in CASES if any(word in name for word in words)]
    begin, launches, kernels, wrong, unwritten = time.time(), 0, set(), 0, set()
    with get_context("spawn").Pool(options.j, start) as pool:
        for name, found, ran, read in pool.imap_unordered(work, chosen, chunksize=4):
            launches += len(ran)
            kernels.update(ran)
            unwritten |= {key for key, _ in read}
            if found is not None:
                wrong += 1
                print(f"DIFFERS {name}\n{found}", flush=True)
    for key in sorted(unwritten):
        print(f"note: {key} reads shared memory that nobody wrote")
    print(f"{launches} launches of {len(kernels)} kernels, {time.time() - begin:.0f} s")
    print(f"{len(chosen) - wrong} of {len(chosen)} cases equal the oracle")
    return int(wrong > 0)


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    sys.exit(main())
