"""A planned convolution on a device: which kernel it gets, its job, its weights, its launch."""

import functools
from typing import Any

import numpy as np

from numbaconv.backends.cuda import filters, gemm, passes, tiles
from numbaconv.backends.cuda.kind import Kind
from numbaconv.backends.cuda.memory import (
    SIMULATED,
    address,
    allocate,
    argument,
    launch,
    settle,
    upload,
)
from numbaconv.backends.cuda.problem import (
    ACTIVATION,
    COLUMNS,
    FAR,
    HAS_BIAS,
    PITCH,
    PLANES,
    ROWS,
    SPLIT_TILES,
    SPLITS,
    make_job,
    patch_rows,
)
from numbaconv.backends.cuda.toolkit import TF32_CAPABILITY, Device
from numbaconv.dtypes import Arithmetic, arithmetic
from numbaconv.errors import BackendUnavailableError
from numbaconv.plan import Plan
from numbaconv.shape import ZEROS, ConvShape

_MOST = 2**31 - 2**16  # elements that 32-bit offsets reach, with room for a tile beyond
_HALF = arithmetic(np.dtype("float16"))._replace(
    convert=np.dtype("float16"), compute=np.dtype("float16")
)
IEEE, TF32 = "ieee", "tf32"
PRECISIONS = (IEEE, TF32)

_TILES = {
    "float32": tiles.SIMT,
    "int32": tiles.SIMT,
    "float64": tiles.SIMT_DOUBLE,
    "int64": tiles.SIMT_DOUBLE,
    "tf32": tiles.TENSOR,
    "float16": tiles.TENSOR,
}
_TINY = {
    tiles.SIMT: tiles.TINY,
    tiles.SIMT_DOUBLE: tiles.TINY_DOUBLE,
    tiles.TENSOR: tiles.TINY_TENSOR,
}

gemm_kernel = functools.cache(gemm.make_kernel)
filter_kernel = functools.cache(filters.make_kernel)
second_pass = functools.cache(passes.make_second_pass)


def storage(plan: Plan) -> Arithmetic:
    """How a plan's elements lie on the device: as on the host, but float16 stays float16."""
    return _HALF if plan.result == np.float16 else plan.arithmetic


def refusal(s: ConvShape) -> str | None:
    """Why no kernel here can compute a problem, or None."""
    image_in = s.groups * s.c_in * s.size[0] * s.size[1] * s.size[2]
    image_out = s.groups * s.c_out * s.pixels
    for what, count in (
        ("one image of the input has", image_in),
        ("one image of the output has", image_out),
        ("the batch has output pixels,", s.n * s.pixels),
        ("the weight has", s.groups * s.c_out * s.c_in * s.taps),
    ):
        if count > _MOST:
            return f"{what} {count} elements, and the kernels count to {_MOST}"
    axes = zip(s.padding, s.output, s.stride, s.kernel, s.dilation, strict=True)
    reach = max(max(p, (o - 1) * step + (k - 1) * d) for p, o, step, k, d in axes)
    if reach >= -FAR:
        return f"the windows reach over {reach} elements, and the kernels count to {-FAR}"
    return None


class Convolution:
    """The kernels and the job of a plan on one device.

    Attributes
    ----------
    rows, pitch : int
        Shape of the weights as the kernels read them.
    channels_inside : bool
        Order along a row of them: tap by tap instead of channel by channel.
    """

    def __init__(self, plan: Plan, precision: str, device: Device) -> None:
        s = plan.shape
        reason = refusal(s)
        if reason is None and precision == TF32 and device.capability < TF32_CAPABILITY:
            reason = f"tf32 needs compute capability 8.0, and {device.name} has less"
        if reason is not None:
            raise BackendUnavailableError(f"backend 'cuda' cannot compute this problem: {reason}")
        self.shape, self.device = s, device
        self.storage = storage(plan)
        name = self.storage.compute.name
        self.dtype = TF32 if precision == TF32 and name == "float32" else name
        self.sum = np.dtype("float32") if name == "float16" else self.storage.compute
        self.rows = s.groups * s.c_out
        self.activation = plan.activation
        self.splits = 1
        block = None
        if s.c_in == 1 and s.c_out <= filters.MOST_OUTPUTS:
            block = filters.choose_block(s, self.sum.itemsize)
        if block is None:
            self._as_product()
        else:
            self._as_filter(block)

    def _as_filter(self, block: filters.Block) -> None:
        s = self.shape
        if SIMULATED:
            block = filters.Block(min(block.columns, 2), min(block.rows, 2), min(block.planes, 2))
        self.kernel = filter_kernel(
            filters.Filter(self.dtype.replace(TF32, "float32"), filters.is_unit(s))
        )
        self.name = f"filter {block}"
        self.blocks, self.threads = filters.blocks(s, block), block.threads
        self.shared = filters.shared_elements(s, block) * self.sum.itemsize
        self.channels_inside, self.pitch = False, s.taps
        settings = {
            PITCH: filters.tile_pitch(s, block.columns),
            COLUMNS: block.columns,
            ROWS: block.rows,
            PLANES: block.planes,
        }
        self._make_jobs(settings, None)

    def _as_product(self) -> None:
        s = self.shape
        available = _TILES[self.dtype]
        kind = Kind(available[0], self.dtype)
        scale = kind.lanes // kind.words
        plan = tiles.choose_tile(
            s, _TINY[available] if SIMULATED else available, self.device.processors, scale
        )
        self.splits = plan.splits
        wide = s.in_strides[1] == 1 and s.c_in > 0 and s.c_in % kind.lanes == 0
        kind = kind._replace(
            tile=plan.tile,
            wide=wide,
            mapped=s.padding_mode != ZEROS,
            partial=plan.splits > 1,
            narrow=self.device.capability < TF32_CAPABILITY,
        )
        self.kernel, self.name, self.shared = gemm_kernel(kind), f"product {kind}", 0
        self.blocks, self.threads = plan.tile.blocks(s) * plan.splits, plan.tile.threads
        self.channels_inside = wide
        k = s.c_in * s.taps
        self.pitch = -(-k // kind.lanes) * kind.lanes
        steps = -(-self.pitch // kind.depth)
        per_part = max(-(-steps // plan.splits), 1)
        table = patch_rows(
            s, wide, (per_part * plan.splits + 1) * kind.depth, kind.lanes if wide else 1
        )
        settings = {PITCH: self.pitch, SPLITS: plan.splits, SPLIT_TILES: per_part}
        self._make_jobs(settings, table)

    def _make_jobs(self, settings: dict[int, int], table: np.ndarray | None) -> None:
        """Upload the job without a bias and the one with, which share nothing but this code."""
        self.jobs = []
        for has_bias in (False, True):
            finishing = {ACTIVATION: self.activation, HAS_BIAS: has_bias}
            self.jobs.append(upload(make_job(self.shape, settings | finishing, table)))
        settle()

    def run(self, x: Any, w: Any, bias: Any, y: np.ndarray, stream: Any) -> None:
        """Convolve shadows of flat arrays into one; without a bias it is None."""
        if not y.size:
            return
        job = argument(self.jobs[bias is not None])
        arguments = (address(x), address(w), address(y if bias is None else bias))
        if self.splits == 1:
            self._launch((*arguments, address(y), job), stream)
            return
        parts = allocate(y.size * self.splits, self.sum, stream)
        self._launch((*arguments, argument(parts), job), stream)
        launch(
            second_pass(self.dtype.replace(TF32, "float32")),
            *passes.grid(y.size),
            stream,
            (argument(parts), *arguments[1:], address(y), job),
            "second pass",
            self.shape,
        )

    def _launch(self, arguments: tuple[Any, ...], stream: Any) -> None:
        launch(
            self.kernel,
            self.blocks,
            self.threads,
            stream,
            arguments,
            self.name,
            self.shape,
            self.shared,
        )
