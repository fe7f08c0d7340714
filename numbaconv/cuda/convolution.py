"""A convolution on a device, or the gradient of its weights: kernel, job and launch."""

import functools
import math
from typing import Any

import numpy as np

from numbaconv.cuda import (
    cost,
    filter_gradients,
    filters,
    gemm,
    passes,
    tiles,
    transposition,
    winograd,
)
from numbaconv.cuda.filter_tiles import MOST_OUTPUTS, Block
from numbaconv.cuda.kernels import Kernel
from numbaconv.cuda.kind import Kind
from numbaconv.cuda.memory import (
    SIMULATED,
    address,
    argument,
    launch,
    settle,
    upload,
)
from numbaconv.cuda.problem import (
    ACTIVATION,
    DEPTH_END,
    FAR,
    HAS_BIAS,
    MAGIC,
    PATCH_TABLE,
    PITCH,
    ROW_TABLE,
    SHIFT,
    SOURCE,
    SPLIT_TILES,
    SPLITS,
    is_mapped,
    make_job,
    output_columns,
    output_rows,
    patch_rows,
    reciprocal,
)
from numbaconv.cuda.toolkit import TF32_CAPABILITY, WGMMA_CAPABILITY, Device
from numbaconv.cuda.winograd_passes import Passes
from numbaconv.cuda.workspace import Workspace
from numbaconv.errors import BackendUnavailableError
from numbaconv.problem.activations import NONE
from numbaconv.problem.dtypes import Arithmetic, arithmetic
from numbaconv.problem.forward import memory_strides
from numbaconv.problem.shape import SHAPE_SIZE, ZEROS, ConvShape

_MOST = 2**31 - 2**16  # elements that 32-bit offsets reach, with room for a tile beyond
_HALF = arithmetic(np.dtype("float16"))._replace(
    convert=np.dtype("float16"), compute=np.dtype("float16")
)
_MOST_ROWS = 2**24  # of the output, in the table of a weight gradient: 256 MB
IEEE, TF32, FAST = "ieee", "tf32", "fast"

_TINY = {
    tiles.SIMT: tiles.TINY,
    tiles.SIMT_DOUBLE: tiles.TINY_DOUBLE,
    tiles.TENSOR: tiles.TINY_TENSOR,
}

product_kernel = functools.cache(functools.partial(Kernel, "product", gemm.make_kernel))
filter_kernel = functools.cache(functools.partial(Kernel, "filter", filters.make_kernel))
filter_gradient_kernel = functools.cache(
    functools.partial(Kernel, "filter gradient", filter_gradients.make_kernel)
)
transpose_kernel = functools.cache(
    functools.partial(Kernel, "transposition", transposition.make_transpose)
)
second_pass = functools.cache(functools.partial(Kernel, "second pass", passes.make_second_pass))


def storage(result: np.dtype) -> Arithmetic:
    """How elements lie on the device: as on the host, but float16 stays float16."""
    return _HALF if result == np.float16 else arithmetic(result)


def refusal(s: ConvShape) -> str | None:
    """Why no kernel here can compute a problem, or None."""
    image_in = s.groups * s.c_in * s.size[0] * s.size[1] * s.size[2]
    image_out = s.groups * s.c_out * s.pixels
    for what, count in (
        ("one image of the input has", image_in),
        ("one image of the output has", image_out),
        ("the batch has output pixels,", s.n * s.pixels),
        # Rows of the weights are padded to whole vectors, and fewer are fetched past their end.
        ("the weight has", s.groups * s.c_out * (s.c_in * s.taps + 8)),
    ):
        if count > _MOST:
            return f"{what} {count} elements, and the kernels count to {_MOST}"
    axes = zip(s.padding, s.output, s.stride, s.kernel, s.dilation, strict=True)
    # Padding is negative where a phase of an adjoint begins inside.
    reach = max(max(p, (o - 1) * step + (k - 1) * d + max(-p, 0)) for p, o, step, k, d in axes)
    if reach >= -FAR:
        return f"the windows reach over {reach} elements, and the kernels count to {-FAR}"
    return None


def refuse(s: ConvShape, precision: str, device: Device) -> None:
    """Raise if no kernel here can compute a problem."""
    reason = refusal(s)
    if reason is None and precision == TF32 and device.capability < TF32_CAPABILITY:
        reason = f"tf32 needs compute capability 8.0, and {device.name} has less"
    if reason is not None:
        raise unable(reason)


def unable(reason: str) -> BackendUnavailableError:
    """Return the error of a problem that no kernel here can compute."""
    return BackendUnavailableError(f"backend 'cuda' cannot compute this problem: {reason}")


def multiplied(how: Arithmetic, precision: str, device: Device) -> str:
    """Return what is multiplied: the dtype of the elements, or "tf32"."""
    name = str(how.compute.name)
    rounds = precision == TF32 or (precision == FAST and device.capability >= TF32_CAPABILITY)
    return TF32 if rounds and name == "float32" else name


def _kinds(dtype: str, device: Device, **options: bool) -> list[Kind]:
    """Return kernels with each tile that there is for a dtype."""
    found = tiles.TILES[dtype]
    turing = device.capability < TF32_CAPABILITY
    if SIMULATED:
        found = _TINY[found]
    elif found is tiles.TENSOR and device.capability == WGMMA_CAPABILITY:
        found += tiles.GROUPED
    kinds = (Kind(tile, dtype, turing=turing, **options) for tile in found)
    return [kind for kind in kinds if kind.fits]


def product_kinds(s: ConvShape, dtype: str, device: Device) -> list[Kind]:
    """Return the kernels that compute a convolution as a product, which differ in their tiles."""
    lanes = Kind(tiles.TILES[dtype][0], dtype).lanes
    wide = s.in_strides[1] == 1 and s.c_in > 0 and s.c_in % lanes == 0
    return _kinds(dtype, device, mapped=is_mapped(s), wide=wide)


def choose_product(
    s: ConvShape, dtype: str, device: Device
) -> tuple[cost.Prediction, Kind, ConvShape]:
    """Choose how a convolution is computed as a product.

    Returns
    -------
    Prediction
        What is thought to cost least.
    Kind
        The kernel, but for the tile.
    ConvShape
        The problem as the kernel sees it: the channels of the input may be brought together before.
    """
    kinds = product_kinds(s, dtype, device)
    found = cost.choose(s, kinds, device, s.taps)
    together = s._replace(in_strides=memory_strides(s.groups * s.c_in, s.size, True))
    wide = product_kinds(together, dtype, device)
    if wide[0].wide and not kinds[0].wide:
        itemsize = wide[0].stored.bitwidth // 8
        other = cost.choose(together, wide, device, s.taps)
        other = cost.after_bringing(other, s, itemsize, device)
        if other.cycles < found.cycles:
            return other, wide[0], together
    return found, kinds[0], s


def winograd_plans(s: ConvShape, device: Device) -> list[winograd.Plan]:
    """Return what each tiling of Winograd's costs, for a problem that it serves."""
    tilings = (t for t in winograd.tilings_of(s) if refusal(t.product) is None)
    return [
        winograd.plan_of(s, tiling, choose_product(tiling.product, "float32", device)[0], device)
        for tiling in tilings
    ]


def choose_winograd(
    s: ConvShape, how: Arithmetic, precision: str, device: Device, sums: cost.Prediction
) -> winograd.Plan | None:
    """Choose Winograd's minimal filtering, where it is allowed.

    Returns
    -------
    winograd.Plan or None
        If it is predicted to cost less than `sums`, the cheapest product that `precision` allows.
    """
    if precision != FAST or not winograd.serves(s, how):
        return None
    found = min(winograd_plans(s, device), key=lambda plan: plan.cycles, default=None)
    return None if found is None or found.cycles >= sums.cycles else found


def gradient_kinds(s: ConvShape, dtype: str, device: Device) -> list[Kind]:
    """Return the kernels that compute the gradient of a convolution's weights."""
    return _kinds(dtype, device, mapped=is_mapped(s), of_weights=True)


def find_block(s: ConvShape, how: Arithmetic) -> Block | None:
    """Return the block of the kernel of filters; None where a product computes it."""
    if s.c_in != 1 or s.c_out > MOST_OUTPUTS:
        return None
    return filters.choose_block(s, max(how.compute.itemsize, 4))


def find_gradient_plan(
    s: ConvShape, how: Arithmetic, device: Device
) -> filter_gradients.Plan | None:
    """Return how a filter's gradient is computed; None where a product computes it."""
    return filter_gradients.plan_of(s, max(how.compute.itemsize, 4), device.processors)


class Work:
    """A kernel with its job, and a second pass if the sums are split.

    Parameters
    ----------
    s : ConvShape
        What is computed: the output's order in memory, and the channels of a bias.
    how : Arithmetic
        How the elements lie on the device.
    precision : {"ieee", "tf32", "fast"}
        How float32 is multiplied; "fast" is tf32 where the device has it, or Winograd's.
    device : Device
        Where it runs.
    activation : int
        Applied where the result is stored.

    Attributes
    ----------
    sum : dtype
        In which the products are added up, and a bias is read.
    """

    def __init__(
        self,
        s: ConvShape,
        how: Arithmetic,
        precision: str,
        device: Device,
        activation: int = NONE,
    ) -> None:
        self.shape, self.storage, self.device = s, how, device
        self.dtype = multiplied(how, precision, device)
        self.sum = np.dtype("float32") if how.compute == np.float16 else how.compute
        self.activation, self.splits = activation, 1

    def _take_product(self, plan: tiles.Plan, kind: Kind) -> Kind:
        """Take a plan with a kernel, and return the kernel with its tile."""
        kind = kind._replace(tile=plan.tile, partial=plan.splits > 1)
        self.kernel, self.shared = product_kernel(kind), 0
        self.splits = plan.splits
        self.blocks, self.threads = plan.tile.blocks(self.shape) * plan.splits, plan.tile.threads
        return kind

    def _make_jobs(self, settings: dict[int, Any], table: np.ndarray | None) -> None:
        """Upload the job without a bias and the one with, which share nothing but this code."""
        self.jobs, self.second_jobs = [], []
        s = self.shape if self.splits == 1 else dense(self.shape)
        for has_bias in (False, True):
            every = settings | {ACTIVATION: self.activation, HAS_BIAS: has_bias}
            self.jobs.append(upload(make_job(s, every, table)))
            if self.splits > 1:
                self.second_jobs.append(upload(make_job(self.shape, every)))
        settle()

    def run(self, x: Any, w: Any, bias: Any, y: np.ndarray, workspace: Workspace) -> None:
        """Compute from shadows of dense arrays into one; without a bias it is None."""
        s = self.shape
        size = s.n * s.groups * s.c_out * s.pixels
        if not size:
            return
        job = argument(self.jobs[bias is not None])
        result = address(y)
        arguments = (address(x), address(w), result if bias is None else address(bias))
        if self.splits == 1:
            self._launch((*arguments, result, job), workspace.stream)
            return
        parts = address(workspace.buffer("parts", size * self.splits, self.sum))
        self._launch((*arguments, parts, job), workspace.stream)
        job = argument(self.second_jobs[bias is not None])
        launch(
            second_pass(self.dtype.replace(TF32, "float32")),
            *passes.grid(size),
            workspace.stream,
            (parts, *arguments[1:], result, job),
            s,
        )

    def _launch(self, arguments: tuple[Any, ...], stream: Any) -> None:
        launch(
            self.kernel,
            self.blocks,
            self.threads,
            stream,
            arguments,
            self.shape,
            self.shared,
        )


def dense(s: ConvShape) -> ConvShape:
    """Return the same problem with an output that lies densely, its axes in the same order."""
    strides = memory_strides(s.groups * s.c_out, s.output, s.out_strides[1] == 1)
    return s._replace(out_strides=strides)


class Convolution(Work):
    """A convolution on one device; see `Work` for the parameters.

    Attributes
    ----------
    rows, pitch : int
        Shape of the weights as the kernels read them.
    channels_inside : bool
        Order along a row of them: tap by tap instead of channel by channel.
    rounded : bool
        Whether the kernels read them rounded to tf32.
    transposition : Kernel, optional
        What brings the channels of the input together before.
    at_points : Passes, optional
        What computes it by Winograd's minimal filtering instead, from weights at the points.
    """

    def __init__(
        self,
        s: ConvShape,
        how: Arithmetic,
        precision: str,
        device: Device,
        activation: int = NONE,
    ) -> None:
        refuse(s, precision, device)
        super().__init__(s, how, precision, device, activation)
        self.rows = s.groups * s.c_out
        self.transposition: Kernel | None = None
        self.at_points: Passes | None = None
        block = find_block(s, how)
        if block is not None:
            self._as_filter(block)
            return
        sums = choose_product(s, self.dtype, device)
        plan = choose_winograd(s, how, precision, device, sums[0])
        if plan is None:
            self._as_product(*sums)
        else:
            self._as_winograd(plan.tiling)

    @property
    def weight_form(self) -> tuple[Any, ...]:
        """What decides how the weights lie on the device."""
        if self.at_points is not None:
            return self.at_points.weight_form
        return self.channels_inside, self.pitch, self.rounded

    def finish_weight(self, w: np.ndarray, name: str, workspace: Workspace) -> np.ndarray:
        """Return weights that `run` takes, of those laid out on the device, maybe in a buffer."""
        return w if self.at_points is None else self.at_points.weights(w, name, workspace)

    def _as_filter(self, block: Block) -> None:
        s = self.shape
        if SIMULATED:
            block = Block(*(min(threads, 2) for threads in block))
        self.kernel = filter_kernel(filters.kind_of(s, self.dtype.replace(TF32, "float32")))
        self.blocks, self.threads = filters.blocks(s, block), block.threads
        self.shared = filters.shared_elements(s, block) * self.sum.itemsize
        self.channels_inside, self.pitch, self.rounded = False, s.taps, False
        self._make_jobs(filters.settings(s, block), None)

    def _as_winograd(self, tiling: winograd.Tiling) -> None:
        s = self.shape
        self.channels_inside, self.pitch, self.rounded = False, s.c_in * s.taps, False
        product = Convolution(tiling.product, self.storage, IEEE, self.device)
        self.dtype = product.dtype
        self.at_points = Passes(s, tiling, product, self.activation)

    def _as_product(self, found: cost.Prediction, kind: Kind, s: ConvShape) -> None:
        self.shape = s
        kind = self._take_product(found.plan, kind)
        if found.brought:
            self.transposition = transpose_kernel(str(kind.stored))
        lanes, depth, splits = kind.lanes, kind.depth, self.splits
        self.channels_inside, self.rounded = kind.wide, kind.rounded
        self.pitch = -(-s.gemm[2] // lanes) * lanes
        per_part = max(-(-self.pitch // (depth * splits)), 1)
        count = (per_part * splits + kind.stages) * depth  # entries are read that far ahead
        table = patch_rows(s, kind.wide, count, lanes if kind.wide else 1)
        settings = {
            PITCH: self.pitch,
            DEPTH_END: self.pitch,
            SPLITS: splits,
            SPLIT_TILES: per_part,
        }
        self._make_jobs(settings, table)

    def run(self, x: Any, w: Any, bias: Any, y: np.ndarray, workspace: Workspace) -> None:
        """Compute as `Work.run` does, or by Winograd's minimal filtering.

        The channels of `x` are brought together if that was chosen.
        """
        if self.at_points is not None:
            self.at_points.run(x, w, bias, y, workspace)
            return
        if self.transposition is not None and x.size:
            x = self._bring_together(self.transposition, x, workspace)
        super().run(x, w, bias, y, workspace)

    def _bring_together(self, kernel: Kernel, x: np.ndarray, workspace: Workspace) -> np.ndarray:
        s = self.shape
        together = workspace.buffer("channels together", x.size, x.dtype)
        rows, columns = s.groups * s.c_in, math.prod(s.size)
        launch(
            kernel,
            transposition.blocks(s.n, rows, columns),
            transposition.THREADS,
            workspace.stream,
            (address(x), address(together), rows, columns),
            s,
        )
        return together


class WeightGradient(Work):
    """The gradient of a convolution's weights on one device.

    As a product it has C_out rows, a column for every input channel under every tap, and sums
    over the output's pixels. They are many where rows and columns are few, so the sums are split.
    With one input channel a group it is not taken as a product (`filter_gradients`).

    Parameters
    ----------
    s : ConvShape
        The convolution, with zeros as padding.
    how, precision, device
        As in `Work`.
    """

    def __init__(self, s: ConvShape, how: Arithmetic, precision: str, device: Device) -> None:
        refuse(s, precision, device)
        super().__init__(product_of_weights(s), how, precision, device)
        self.source = dict(zip(range(SOURCE, SOURCE + SHAPE_SIZE), s.as_tuple(), strict=True))
        plan = find_gradient_plan(s, how, device)
        if plan is None:
            self._as_product(s)
        else:
            self._as_filter(s, plan)

    def _as_filter(self, s: ConvShape, plan: filter_gradients.Plan) -> None:
        if SIMULATED:
            block = Block(*(min(threads, 2) for threads in plan.block))
            plan = filter_gradients.split(s, block, plan.rows, self.device.processors)
        dtype = self.dtype.replace(TF32, "float32")
        self.kernel = filter_gradient_kernel(filter_gradients.kind_of(s, dtype, plan))
        self.splits = plan.splits
        self.blocks = filter_gradients.sums(s, plan.rows) * plan.splits
        self.threads = plan.block.threads
        self.shared = filter_gradients.shared_elements(s, plan.block, plan.rows) * self.sum.itemsize
        self._make_jobs(filter_gradients.settings(s, plan) | self.source, None)

    def _as_product(self, s: ConvShape) -> None:
        rows = s.n * s.output[0] * s.output[1]
        if rows > _MOST_ROWS:
            raise unable(
                f"the output has {rows} rows of pixels, and at most {_MOST_ROWS} are listed"
            )
        kinds = gradient_kinds(s, self.dtype, self.device)
        plan = cost.choose(self.shape, kinds, self.device, s.taps).plan
        kind = self._take_product(plan, kinds[0])
        _, columns, k = self.shape.gemm
        per_part = max(-(-k // (kind.depth * self.splits)), 1)
        # As many as all blocks look at: whole tiles, and a last round of a whole block's threads;
        # and an even number, so that what follows is aligned for wide loads.
        count = -(-columns // kind.tile.bn) * kind.tile.bn + kind.tile.threads
        count += count % 2
        settings = {
            DEPTH_END: k,
            SPLITS: self.splits,
            SPLIT_TILES: per_part,
        }
        tables = output_columns(s), patch_rows(s, False, count, 1), output_rows(s)
        settings[PATCH_TABLE] = tables[0].size
        settings[ROW_TABLE] = tables[0].size + tables[1].size
        settings[MAGIC], settings[SHIFT] = reciprocal(max(s.output[2], 1))
        table = np.concatenate([table.reshape(-1) for table in tables])
        self._make_jobs(settings | self.source, table)


def product_of_weights(s: ConvShape) -> ConvShape:
    """Return the product of a weight gradient as one pointwise convolution of a single row."""
    columns = s.c_in * s.taps
    one, none = (1, 1, 1), (0, 0, 0)
    return ConvShape(
        1,
        s.groups,
        s.n * s.pixels,
        s.c_out,
        (1, 1, columns),
        one,
        one,
        one,
        none,
        (1, 1, columns),
        (ZEROS,) * 3,
        (0, 0, 0, 0, 0),
        memory_strides(s.groups * s.c_out, (1, 1, columns), False),
    )
