"""`numbaconv.torch`: values and gradients beside PyTorch's own."""

from __future__ import annotations

import copy
from typing import Any

import pytest

torch = pytest.importorskip("torch")
ops = pytest.importorskip("numbaconv.torch")
functional = torch.nn.functional

# rank, shape of the input, shape of the weight, options of the convolution
CONVOLUTIONS: list[Any] = [
    (1, (2, 4, 11), (6, 2, 3), {"stride": 2, "padding": 1, "groups": 2}),
    (2, (2, 3, 7, 6), (4, 3, 3, 2), {"padding": (1, 0), "dilation": (1, 2)}),
    (2, (3, 7, 6), (4, 3, 3, 3), {"stride": (2, 1), "padding": 2}),
    (2, (2, 4, 6, 6), (4, 1, 3, 3), {"padding": "same", "groups": 4}),
    (3, (1, 2, 4, 5, 4), (3, 2, 2, 3, 2), {"padding": "valid"}),
]
TRANSPOSED: list[Any] = [
    (1, (2, 4, 5), (4, 3, 3), {"stride": 2, "padding": 1, "output_padding": 1, "groups": 2}),
    (2, (2, 3, 4, 3), (3, 2, 3, 2), {"stride": (2, 3), "output_padding": (1, 2)}),
    (2, (3, 4, 3), (3, 2, 3, 3), {"stride": 2, "dilation": 2, "padding": 1}),
    (3, (1, 2, 3, 2, 3), (2, 2, 2, 2, 2), {"stride": 2, "output_padding": 1, "padding": 1}),
]
CALLS = [("conv", *case) for case in CONVOLUTIONS]
CALLS += [("conv_transpose", *case) for case in TRANSPOSED]
EVERY_CALL = pytest.mark.parametrize(("name", "rank", "shape", "weight", "options"), CALLS)


def tensors(
    name: str, shape: Any, weight: Any, options: Any, dtype: Any = torch.float64
) -> list[Any]:
    torch.manual_seed(1)
    c_out = weight[0] if name == "conv" else weight[1] * options.get("groups", 1)
    shapes = (shape, weight, (c_out,))
    return [torch.randn(s, dtype=dtype, requires_grad=True) for s in shapes]


@EVERY_CALL
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
def test_values_and_gradients(
    name: str, rank: int, shape: Any, weight: Any, options: Any, dtype: Any
):
    given = tensors(name, shape, weight, options, dtype)
    results = []
    for module in (ops, functional):
        y = getattr(module, f"{name}{rank}d")(*given, **options)
        gradients = torch.autograd.grad(
            y, given, torch.cos(torch.arange(y.numel())).view(y.shape).to(dtype)
        )
        results.append((y, *gradients))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


@EVERY_CALL
def test_gradcheck(name: str, rank: int, shape: Any, weight: Any, options: Any):
    function = getattr(ops, f"{name}{rank}d")
    given = tensors(name, shape, weight, options)
    assert torch.autograd.gradcheck(lambda *t: function(*t, **options), given)


@pytest.mark.parametrize("bias", [True, False])
def test_opcheck(bias: bool):
    x, w, b = tensors("conv", (2, 4, 7, 6), (6, 2, 3, 3), {"groups": 2}, torch.float32)
    geometry = [2, 1], [1, 1, 0, 2], [1, 2], 2
    torch.library.opcheck(ops._convolution, (x, w, b if bias else None, *geometry))
    y = ops._convolution(x, w, None, *geometry).detach()
    plain = x.detach(), w.detach()
    torch.library.opcheck(ops._input_gradient, (list(x.shape), plain[1], y, *geometry))
    torch.library.opcheck(ops._weight_gradient, (plain[0], list(w.shape), y, *geometry))
    x, w, b = tensors("conv_transpose", (2, 4, 3, 4), (4, 2, 3, 3), {"groups": 2}, torch.float32)
    geometry = [2, 3], [1, 0, 0, 1], [1, 2], [1, 1], 2
    torch.library.opcheck(ops._transposed, (x, w, b if bias else None, *geometry))


def test_second_derivatives_are_refused():
    x, w, _ = tensors("conv", (1, 2, 5, 5), (2, 2, 3, 3), {})
    (first,) = torch.autograd.grad(ops.conv2d(x, w).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="no second derivatives"):
        first.sum().backward()


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("padding", [1, "same"])
def test_modules_take_a_state_dict(rank: int, mode: str, padding: Any):
    torch.manual_seed(0)
    options = {"padding": padding, "groups": 2, "padding_mode": mode}
    theirs = getattr(torch.nn, f"Conv{rank}d")(4, 6, 3, **options)
    ours = getattr(ops, f"Conv{rank}d")(4, 6, 3, **options)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 4, *(7, 6, 5)[:rank])
    torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(copy.deepcopy(ours)(x[0]), theirs(x[0]))


def test_compiled_without_a_break():
    x, w, b = tensors("conv", (2, 3, 8, 8), (4, 3, 3, 3), {}, torch.float32)

    @torch.compile(fullgraph=True, backend="aot_eager", dynamic=True)
    def layers(x: Any, w: Any, b: Any) -> Any:
        return torch.relu(ops.conv2d(torch.relu(x), w, b, padding=1, stride=2)).sum()

    ours = torch.autograd.grad(layers(x, w, b), (x, w, b))
    plain = torch.relu(functional.conv2d(torch.relu(x), w, b, padding=1, stride=2)).sum()
    for a, e in zip(ours, torch.autograd.grad(plain, (x, w, b)), strict=True):
        torch.testing.assert_close(a, e)


def test_refusals():
    x, w, b = tensors("conv", (1, 2, 5, 5), (2, 2, 3, 3), {}, torch.float32)
    with pytest.raises(TypeError, match=r"one dtype.*weight torch.float64"):
        ops.conv2d(x, w.double())
    with pytest.raises(TypeError, match="bfloat16"):
        ops.conv2d(x.bfloat16(), w.bfloat16())
    with pytest.raises(TypeError, match=r"input must be a torch\.Tensor"):
        ops.conv2d(x.detach().numpy(), w)
    with pytest.raises(ValueError, match="weight must have 3 axes"):
        ops.conv1d(x, w, b)
    with pytest.raises(ValueError, match="groups"):
        ops.conv2d(x, w, groups=3)
    with pytest.raises(TypeError, match="padding"):
        ops.conv_transpose2d(x, w, padding="same")
