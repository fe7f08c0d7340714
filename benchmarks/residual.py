"""What an array costs that is added to a layer's sums: ``python benchmarks/residual.py --help``.

The same layer, relu included, without it, with ``add=``, with NumPy's addition and relu behind it,
and by PyTorch, in turn in this process: the least CPU time of one thread.
"""

import contextlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

if __name__ == "__main__":  # as a script, not as a module of the package `benchmarks`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    for variable in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"

import numpy as np
import typer

from benchmarks.lib.layers import Layer, arrays, output_gradient, select
from benchmarks.lib.turns import least_in_turn

Run = Callable[[], Any]


def torch(layer: Layer, x: Any, w: Any, r: Any) -> Run:
    """PyTorch: the sum and relu overwrite the result."""
    import torch

    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    function = getattr(torch.nn.functional, f"conv{layer.rank}d")
    x, w, r = (torch.from_numpy(a) for a in (x, w, r))
    return lambda: torch.relu_(function(x, w, **layer.conv_kwargs).add_(r))


def runs(layer: Layer, last: bool) -> dict[str, Run]:
    """Calls of a layer, the first of them without anything to add."""
    import numbaconv as nc

    x, w = arrays(layer)
    r = output_gradient(layer)
    tensors = x, w, r
    options = layer.conv_kwargs | {"data_format": "channels_last" if last else "channels_first"}
    if last:
        x, r = (np.ascontiguousarray(np.moveaxis(a, 1, -1)) for a in (x, r))
    plain, relu = (nc.prepare(w, **options, activation=name) for name in (None, "relu"))

    def by_numpy() -> Any:
        y = plain(x)
        y += r
        return np.maximum(y, 0, out=y)

    found = {
        "without": lambda: relu(x),
        "add=": lambda: relu(x, add=r),
        "NumPy": by_numpy,
    }
    np.testing.assert_allclose(found["add="](), by_numpy(), rtol=1e-6, atol=1e-6)
    with contextlib.suppress(ImportError):
        found["PyTorch"] = torch(layer, *tensors)
    return found


def main(
    kinds: Annotated[str, typer.Option(help="Kinds of layers.csv, as R,V.")] = "",
    rows: Annotated[str, typer.Option(help="Rows of it, as R3,V2.")] = "R2,R3,R5,R8,R9,U1,M1,C2",
    turns: Annotated[int, typer.Option(help="Turns of each call.")] = 30,
    last: Annotated[bool, typer.Option(help="Channels last, but for PyTorch.")] = False,
) -> None:
    """Print ms, and how many times as long as without an array each way takes."""
    for layer in select([] if kinds else rows.split(","), kinds.split(",") if kinds else []):
        found = runs(layer, last)
        times = least_in_turn(list(found.values()), turns)
        each = (
            f"{name} {t:.3f} ({t / times[0]:.2f})" for name, t in zip(found, times, strict=True)
        )
        typer.echo(f"{layer.id:4}{'  '.join(each)}")


if __name__ == "__main__":
    typer.run(main)
