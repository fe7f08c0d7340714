"""Sizes of the implicit matrix product; which of them a problem gets is decided in `cost`.

A block of threads computes BM x BN outputs: BM output channels of a group by BN pixels, which may
be of several images. It walks along the sums in steps of BK, with a tile of the weights and a
tile of the patch matrix in shared memory. A thread holds TM x TN sums in registers; with tensor
cores a warp holds WM x WN of them. Where four warps multiply together (`wgmma`), 64 of their rows
are 16 of each.
"""

from typing import NamedTuple

from numbaconv.problem.shape import ConvShape

WARP = 32
WARPGROUP = 4  # warps
SHARED_BYTES = 48 * 1024  # of a block, without asking the driver for more


class Tile(NamedTuple):
    """A block tile and how its threads share it.

    Attributes
    ----------
    bm, bn, bk : int
        The block's tile; bk counts elements, or on tensor cores 32-bit words.
    m, n : int
        What one thread (TM x TN) or, on tensor cores, one warp (WM x WN) computes of it.
    tensor : bool
        Whether tensor cores multiply.
    together : int
        Warps that give them a product together: one (`mma.sync`), or a warpgroup (`wgmma`).
    """

    bm: int
    bn: int
    bk: int
    m: int
    n: int
    tensor: bool = False
    together: int = 1

    @property
    def threads(self) -> int:
        """Threads of a block."""
        parts = (self.bm // self.m) * (self.bn // self.n)
        return parts * WARP if self.tensor else parts

    def pitches(self, lanes: int) -> tuple[int, int]:
        """Steps between the rows of the two tiles in shared memory.

        Padded by one vector, so that stores along K fall into different banks. On tensor cores the
        vectors of a row change their places instead, from row to row (`turned`).
        """
        if self.tensor:
            return self.bk, self.bk
        return self.bm + lanes, self.bn + lanes

    def sizes(self, lanes: int) -> tuple[int, int]:
        """Elements of one buffer of each of the two tiles."""
        a, b = self.pitches(lanes)
        return (self.bm * a, self.bn * b) if self.tensor else (self.bk * a, self.bk * b)

    def shared_bytes(self, itemsize: int) -> int:
        """Bytes of one buffer of both tiles."""
        return sum(self.sizes(16 // itemsize)) * itemsize

    def blocks(self, s: ConvShape) -> int:
        """Blocks that a problem has, without splitting its sums."""
        m, n, _ = s.gemm
        return s.groups * -(-m // self.bm) * -(-n // self.bn)


def turned(row: int, k: int, vectors: int) -> int:
    """Where element k of a row lies in the row, which has `vectors` of 4 elements.

    A vector's number is combined with the row's, so that reads of one vector in eight rows at once
    fall into different banks. Rows that lie eight apart agree, and the vector that is a power of
    two further on is found by flipping a bit. Rows of 2, 4 or 8 vectors lie as `wgmma` knows them:
    its swizzling modes of 32, 64 and 128 bytes.
    """
    return (k // 4 ^ row * vectors // 8 % vectors) * 4 + k % 4


# From the largest down; the last column but one of each is what a problem of few channels takes.
SIMT = (
    Tile(128, 128, 8, 8, 8),
    Tile(64, 128, 8, 8, 8),
    Tile(64, 64, 8, 4, 8),
    Tile(32, 128, 8, 4, 8),
    Tile(32, 64, 8, 4, 4),
    Tile(16, 128, 8, 4, 4),
)
SIMT_DOUBLE = (
    Tile(64, 64, 8, 4, 4),
    Tile(32, 64, 8, 4, 2),
    Tile(16, 128, 8, 4, 2),
)
TENSOR = (
    Tile(128, 256, 8, 64, 64, tensor=True),
    Tile(128, 128, 16, 64, 32, tensor=True),
    Tile(64, 128, 16, 32, 32, tensor=True),
    Tile(64, 64, 16, 32, 32, tensor=True),
    Tile(32, 128, 16, 32, 32, tensor=True),
    Tile(16, 128, 16, 16, 32, tensor=True),
)
# Of warpgroups: the rows of a tile are multiples of 64.
GROUPED = (
    Tile(128, 384, 8, 32, 128, tensor=True, together=WARPGROUP),
    Tile(128, 256, 8, 16, 256, tensor=True, together=WARPGROUP),
    Tile(64, 256, 8, 16, 128, tensor=True, together=WARPGROUP),
    Tile(128, 128, 16, 16, 128, tensor=True, together=WARPGROUP),
    Tile(64, 128, 16, 16, 128, tensor=True, together=WARPGROUP),
)
# By what is multiplied.
TILES = {
    "float32": SIMT,
    "int32": SIMT,
    "float64": SIMT_DOUBLE,
    "int64": SIMT_DOUBLE,
    "tf32": TENSOR,
    "float16": TENSOR,
}
# For the simulator, where a thread costs as much as a block here.
TINY = (Tile(32, 8, 4, 8, 4), Tile(16, 8, 8, 4, 4))
TINY_DOUBLE = (Tile(16, 8, 8, 4, 4),)
TINY_TENSOR = (Tile(16, 32, 8, 16, 16, tensor=True),)  # eight rows of threads; see `turned`
TINY_GROUPED = Tile(128, 32, 16, 32, 32, tensor=True, together=WARPGROUP)


class Plan(NamedTuple):
    """A tile, and into how many parts the sums are split."""

    tile: Tile
    splits: int
