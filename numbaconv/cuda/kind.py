"""What a kernel of the implicit matrix product is compiled for."""

from typing import Any, NamedTuple

from numbaconv.cuda.intrinsics import float32, float64, int32, int64, uint16, uint32
from numbaconv.cuda.tiles import SHARED_BYTES, WARP, Tile

MOST_STAGES = 4
_TYPES = {"float32": float32, "float64": float64, "int32": int32, "int64": int64}


class Kind(NamedTuple):
    """What a kernel is compiled for.

    Attributes
    ----------
    tile : Tile
        Block tile.
    dtype : str
        Of the elements: "float32", "float64", "float16", "int32", "int64"; "tf32" is float32 on
        tensor cores.
    wide : bool
        Whether neighbouring channels are read together, 128 bits at a time.
    mapped : bool
        Whether padding reads elements of the input.
    partial : bool
        Whether a block stores only its part of the sums, for a second pass.
    turing : bool
        Whether it is for capability 7.5: its tensor cores take half as many float16 at once, and
        nothing is copied asynchronously.
    of_weights : bool
        Whether it is the gradient of the weights: K then runs over the output's pixels.
    """

    tile: Tile
    dtype: str
    wide: bool = False
    mapped: bool = False
    partial: bool = False
    turing: bool = False
    of_weights: bool = False

    @property
    def fits(self) -> bool:
        """Whether there is such a kernel.

        The registers of a thread do not suffice for coordinates beside 128 sums. What warpgroups
        multiply is copied to shared memory as it lies.
        """
        if self.tile.together > 1 and (not self.asynchronous or self.of_weights):
            return False
        return not (self.mapped and self.tile.tensor and self.tile.m * self.tile.n > 64 * WARP)

    @property
    def stored(self) -> Any:
        """Numba type of an element in global memory; float16 counts as its bits."""
        return {"tf32": float32, "float16": uint16}.get(self.dtype) or _TYPES[self.dtype]

    @property
    def shared(self) -> Any:
        """Numba type of an element of the tiles in shared memory."""
        return uint32 if self.tile.tensor else self.stored

    @property
    def lanes(self) -> int:
        """Elements that are loaded at once."""
        return 128 // int(self.stored.bitwidth)

    @property
    def words(self) -> int:
        """What they are in shared memory."""
        return 128 // int(self.shared.bitwidth)

    @property
    def loaded(self) -> Any:
        """Numba type in which 128 bits are loaded."""
        return uint32 if self.dtype == "float16" else self.stored

    @property
    def sum(self) -> Any:
        """Numba type of the sums."""
        return float32 if self.tile.tensor else self.stored

    @property
    def blocks(self) -> int:
        """Blocks for a multiprocessor to hold: two, or four small ones, with 128 registers.

        One less if a thread has more in registers than those of the largest tile.
        """
        if self.dtype not in ("float32", "int32") or self.mapped:
            return 1
        fetched = (self.weight_rounds + self.patch_rounds) * self.words * (not self.asynchronous)
        crowded = self.tile.m * self.tile.n + fetched > 72
        return 512 // self.tile.threads - crowded

    @property
    def asynchronous(self) -> bool:
        """Whether the tiles are copied to shared memory without registers between (cp.async).

        That writes 4 bytes or more as they lie: no single float16, and no vector of neighbouring
        channels where they go to different rows. For the tensor cores single words of neighbouring
        pixels would take four passes, as rows of pixels lie in few banks.
        """
        return self.wide == self.tile.tensor and not self.turing

    @property
    def rounded(self) -> bool:
        """Whether weights come as tf32, and patches are rounded in shared memory or behind it."""
        return self.dtype == "tf32" and self.asynchronous

    @property
    def alignment(self) -> int:
        """Bytes to which the tiles in shared memory are aligned.

        A row's, or for warpgroups those of eight rows, after which the places of vectors repeat.
        """
        return 64 if self.tile.together == 1 else 8 * 4 * self.tile.bk

    @property
    def stages(self) -> int:
        """Buffers of the tiles: two, or as many as there is room for if they fill by themselves."""
        if not self.asynchronous:
            return 2
        each = self.tile.shared_bytes(int(self.shared.bitwidth) // 8)
        return min(MOST_STAGES, SHARED_BYTES // each)

    @property
    def unit(self) -> int:
        """Elements of the weights that a thread takes at once: those of a vector, or one.

        One where they go to different rows without registers: then neighbouring threads read
        neighbouring elements.
        """
        return 1 if self.asynchronous and not self.tile.tensor else self.lanes

    @property
    def weight_rounds(self) -> int:
        """Units of the weights that a thread fetches for a step."""
        return -(-self.tile.bm * self.depth // self.unit // self.tile.threads)

    @property
    def patch_rounds(self) -> int:
        """Vectors of the patch matrix that a thread fetches for a step."""
        return self.tile.bk // self.words * self.tile.bn // self.tile.threads

    @property
    def depth(self) -> int:
        """Elements along K of one step."""
        return self.tile.bk * self.lanes // self.words
