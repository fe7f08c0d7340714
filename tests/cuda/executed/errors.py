"""Errors of Winograd's minimal filtering on a GPU, executed by the interpreter, and those of sums.

Inputs and weights are normal. Errors are in units of the largest output times 2^-24, as in
`benchmarks/errors.py`.

python -m tests.cuda.executed.errors
"""

from __future__ import annotations

import warnings

import numpy as np

from benchmarks.errors import Errors, errors
from tests.cuda.executed.cases import convolve
from tests.cuda.executed.device import GPU, installed
from tests.cuda.minimal import minimal
from tests.oracle import reference
from tests.oracle.cases import Array, Case, normal_arrays, problem

# Channels and maps of 3x3 layers.
LAYERS = ((16, 28), (64, 14), (128, 14))


def measure(y: Array, case: Case) -> Errors:
    """Compare a result with the oracle's."""
    x, w, _ = normal_arrays(case)
    return errors(y, reference.conv_by_taps(x.astype("f8"), w.astype("f8"), None, padding=1))


def report() -> None:
    """Print a table in Markdown."""
    print("| layer | sums: largest, usual | F(2 x 2) | F(4 x 4) |")
    print("|:--|--:|--:|--:|")
    for channels, size in LAYERS:
        shape = (1, channels, size, size)
        case = problem("layer", shape, (channels, channels, 3, 3), padding=1)
        x, w, _ = normal_arrays(case)
        GPU.begin(capability=(7, 5), processors=40)
        found = [measure(convolve(x, w, None, padding=1), case)]
        for outputs in (2, 4):
            with minimal(outputs):
                GPU.begin(capability=(7, 5), processors=40)
                y = convolve(x, w, None, padding=1, precision="fast")
                found.append(measure(y, case))
        cells = (f"{each.largest:.1f}, {each.usual:.2f}" for each in found)
        print(f"| {channels} to {channels} on {size} x {size} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    with installed():
        report()
