"""What activations cost, beside other libraries: ``python benchmarks/activations.py --help``.

Prepared layers with an activation, PyTorch in both layouts and onnxruntime, whichever are there,
take turns in this process: CPU time of one thread.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple

if __name__ == "__main__":  # as a script, not as a module of the package `benchmarks`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    for variable in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"

import numpy as np
import typer

Run = Callable[[], Any]


class Layer(NamedTuple):
    """A layer whose padding keeps its size at stride 1."""

    input: tuple[int, ...]
    weight: tuple[int, ...]
    stride: int = 1
    groups: int = 1

    @property
    def padding(self) -> int:
        """On all sides."""
        return self.weight[-1] // 2


POINTWISE = Layer((1, 64, 56, 56), (256, 64, 1, 1))
NARROW = Layer((1, 64, 56, 56), (128, 64, 1, 1))
DEPTHWISE = Layer((1, 96, 112, 112), (96, 1, 3, 3), groups=96)
STRIDED = Layer((1, 32, 160, 160), (64, 32, 3, 3), stride=2)

CASES: dict[str, tuple[Layer, str | None, bool]] = {  # layer, activation, channels last
    "pointwise": (POINTWISE, None, False),
    **{
        f"pointwise, {name}": (POINTWISE, name, False)
        for name in ("relu", "sigmoid", "tanh", "silu", "gelu", "softplus")
    },
    "depthwise": (DEPTHWISE, None, False),
    "depthwise, silu": (DEPTHWISE, "silu", False),
    "3x3": (STRIDED, None, False),
    "3x3, silu": (STRIDED, "silu", False),
    "3x3, mish": (STRIDED, "mish", False),
    "channels last": (NARROW, None, True),
    "channels last, tanh": (NARROW, "tanh", True),
    "channels last, silu": (NARROW, "silu", True),
}


def numbaconv(layer: Layer, x: Any, w: Any, activation: str | None, last: bool) -> Run:
    """A prepared layer."""
    import numbaconv as nc

    ready = nc.prepare(
        w,
        stride=layer.stride,
        padding=layer.padding,
        groups=layer.groups,
        activation=activation,
        data_format="channels_last" if last else "channels_first",
    )
    x = np.ascontiguousarray(np.moveaxis(x, 1, -1)) if last else x
    return lambda: ready(x)


def torch(
    layer: Layer, x: Any, w: Any, activation: str | None, last: bool, channels_last: bool = False
) -> Run:
    """PyTorch; the activation overwrites its argument where there is such a function."""
    import torch

    f = torch.nn.functional
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    layout = torch.channels_last if last or channels_last else torch.contiguous_format
    x, w = (torch.from_numpy(a).contiguous(memory_format=layout) for a in (x, w))
    functions: dict[str | None, Any] = {
        None: lambda y: y,
        "relu": torch.relu_,
        "sigmoid": torch.sigmoid_,
        "tanh": torch.tanh_,
        "silu": lambda y: f.silu(y, inplace=True),
        "gelu": f.gelu,
        "softplus": f.softplus,
        "mish": lambda y: f.mish(y, inplace=True),
    }
    function = functions[activation]
    numbers = {"stride": layer.stride, "padding": layer.padding, "groups": layer.groups}
    return lambda: function(f.conv2d(x, w, **numbers))


def torch_channels_last(*given: Any) -> Run:
    """PyTorch with tensors of the other layout."""
    return torch(*given, channels_last=True)


def onnxruntime(layer: Layer, x: Any, w: Any, activation: str | None, last: bool) -> Run:
    """A graph of the layer, in which SiLU is two nodes; channels last are transposed."""
    import onnxruntime as ort
    from onnx import TensorProto, helper

    nodes, at = [], "x"

    def add(operator: str, inputs: list[str], **attributes: Any) -> str:
        name = f"value{len(nodes)}"
        nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        return name

    if last:
        x = np.ascontiguousarray(np.moveaxis(x, 1, -1))
        at = add("Transpose", [at], perm=[0, 3, 1, 2])
    pads, strides = [layer.padding] * 4, [layer.stride] * 2
    at = add("Conv", [at, "w"], strides=strides, pads=pads, group=layer.groups)
    if activation == "silu":
        at = add("Mul", [at, add("Sigmoid", [at])])
    elif activation:
        at = add(activation.capitalize(), [at])
    if last:
        at = add("Transpose", [at], perm=[0, 2, 3, 1])
    graph = helper.make_graph(
        nodes,
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info(at, TensorProto.FLOAT, None)],
        [helper.make_tensor("w", TensorProto.FLOAT, w.shape, w.tobytes(), raw=True)],
    )
    opset = [helper.make_opsetid("", 20)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=9).SerializeToString()
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"x": x})


def runs(layer: Layer, activation: str | None, last: bool) -> Iterator[tuple[str, Run]]:
    """Yield the libraries that are installed, each with the layer."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(layer.input, np.float32)
    w = rng.standard_normal(layer.weight, np.float32) / np.prod(layer.weight[1:]) ** 0.5
    for prepare in (numbaconv, torch, torch_channels_last, onnxruntime):
        try:
            yield prepare.__name__, prepare(layer, x, w.astype(np.float32), activation, last)
        except ImportError:
            continue


def milliseconds(calls: dict[str, Run], seconds: float) -> dict[str, float]:
    """Time the calls in turn; the lower quartile of each."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    end = time.process_time() + seconds
    while time.process_time() < end or len(times["numbaconv"]) < 4:
        for name, call in calls.items():
            call()
            start = time.process_time()
            call()
            times[name].append(time.process_time() - start)
    return {name: 1e3 * statistics.quantiles(each)[0] for name, each in times.items()}


def main(
    only: Annotated[str, typer.Option(help="Cases whose name has this in it.")] = "",
    seconds: Annotated[float, typer.Option(help="CPU time for each case.")] = 2.0,
) -> None:
    """Print times in ms, and how many times as fast as the best of the others numbaconv is."""
    for name, (layer, activation, last) in CASES.items():
        if only in name:
            found = milliseconds(dict(runs(layer, activation, last)), seconds)
            others = [value for library, value in found.items() if library != "numbaconv"]
            ratio = f"{min(others) / found['numbaconv']:.2f}" if others else ""
            line = "  ".join(f"{library} {value:.3f}" for library, value in found.items())
            typer.echo(f"{name:22}{line}  {ratio}")


if __name__ == "__main__":
    typer.run(main)
