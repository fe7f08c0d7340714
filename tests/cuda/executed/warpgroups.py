"""wgmma: products of tiles in shared memory, which the tensor cores add to registers by themselves.

From the PTX ISA manual: where a descriptor says that words lie, and who may touch what, and when.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tests.cuda.executed.memory import FaultError
from tests.cuda.executed.shared import SharedMemory

GROUP = 128  # lanes of a warpgroup
ROW_WORDS = 8  # of K, that an instruction takes of each row
ADDRESS = 0x3FFF  # bits of an address or offset in a descriptor, in units of 16 bytes
WIDTHS = {1: 128, 2: 64, 3: 32}  # bytes of a row, by the swizzling mode
NO_FIELD = sum(((1 << size) - 1) << first for first, size in ((14, 2), (30, 2), (46, 3), (52, 10)))


def places(descriptors: Any, rows: int, text: str) -> Any:
    """Return the byte addresses of the words that descriptors name: (descriptor, row, word).

    K lies along a row, eight rows repeat at the stride. The vectors of 16 bytes in a row change
    places by the bits of their address from the seventh on, as many as tell the vectors apart.
    """
    if np.any(descriptors & np.uint64(NO_FIELD)):
        raise FaultError(f"bits of no field in a descriptor of {text}")
    start, stride, base, mode = (
        (descriptors >> np.uint64(shift)).astype("i8") & bits
        for shift, bits in ((0, ADDRESS), (32, ADDRESS), (49, 7), (62, 3))
    )
    start, stride = start * 16, stride * 16
    if np.any(mode != mode[0]) or mode[0] not in WIDTHS:
        raise NotImplementedError(f"swizzling modes {np.unique(mode)}")
    width = WIDTHS[int(mode[0])]
    vectors = width // 16
    if np.any(base) or np.any(start // 128 % vectors):
        raise FaultError(f"the pattern of a tile begins at no multiple of {8 * width}: {text}")
    if np.any(start % width + 4 * ROW_WORDS > width):
        raise FaultError(f"past the end of a row: {text}")
    row, word = np.arange(rows)[:, None], np.arange(ROW_WORDS)
    at = start[:, None, None] + row // 8 * stride[:, None, None] + row % 8 * width + 4 * word
    return at ^ (at // 128 % vectors * 16)


class Product(NamedTuple):
    """A product that is on its way, of each of some warpgroups.

    Attributes
    ----------
    lanes : ndarray
        Of the warpgroups, one after the other.
    words : ndarray
        That each reads, in shared memory.
    registers : tuple of str
        That it changes.
    groups : ndarray
        Of each lane, the number of the group that it is in.
    """

    lanes: Any
    words: Any
    registers: tuple[str, ...]
    groups: Any


class Products:
    """Products on their way, and which lanes may touch which of the registers that they change.

    Between a product and the end of the wait for its group nobody may touch the registers. Between
    another access to them and a product there must be wgmma.fence, and one before the first.
    """

    def __init__(self, shared: SharedMemory, lanes: int) -> None:
        self.shared, self.total = shared, lanes
        self.pending: list[Product] = []
        self.changing: dict[str, Any] = {}
        self.touched: dict[str, Any] = {}
        self.fenced = np.zeros(lanes, bool)
        self.committed = np.zeros(lanes, "i8")  # groups of each lane

    def touch(self, register: str, lanes: Any, text: str) -> None:
        """Note that lanes read or write a register otherwise."""
        changing = self.changing.get(register)
        if changing is not None and changing[lanes].any():
            raise FaultError(f"{text} touches {register}, to which a product is still added")
        self.touched.setdefault(register, np.zeros(self.total, bool))[lanes] = True

    def fence(self, lanes: Any) -> None:
        """Order what lanes did to registers before what products will do."""
        self.fenced[lanes] = True
        for touched in self.touched.values():
            touched[lanes] = False

    def begin(
        self, lanes: Any, registers: tuple[str, ...], tiles: list[Any], text: str
    ) -> list[Any]:
        """Begin a product of tiles at (warpgroup, row, word); return what words they hold."""
        if not self.fenced[lanes].all():
            raise FaultError(f"no wgmma.fence before {text}")
        for register in registers:
            touched = self.touched.get(register)
            if touched is not None and touched[lanes].any():
                raise FaultError(f"no wgmma.fence between an access to {register} and {text}")
            self.changing.setdefault(register, np.zeros(self.total, bool))[lanes] = True
        groups = lanes.reshape(-1, GROUP)[:, 0]
        found = [self.shared.begin_product(tile, groups, text) for tile in tiles]
        words = np.concatenate([word.reshape(len(groups), -1) for word, _ in found], axis=1)
        self.pending.append(Product(lanes, words, registers, self.committed[lanes]))
        return [values for _, values in found]

    def commit(self, lanes: Any) -> None:
        """Put what lanes began since the last time into a group of theirs."""
        self.committed[lanes] += 1

    def wait(self, lanes: Any, pending: int) -> None:
        """Let lanes wait for all of their groups but the last `pending`."""
        done = np.full(self.total, -1)
        done[lanes] = self.committed[lanes] - pending - 1
        before, self.pending = self.pending, []
        for product in before:
            there = product.groups <= done[product.lanes]
            groups = there.reshape(-1, GROUP)
            if np.any(groups.any(1) != groups.all(1)):
                raise FaultError("a part of a warpgroup waits for products")
            if there.any():
                for register in product.registers:
                    self.changing[register][product.lanes[there]] = False
                self.shared.end_product(product.words[groups[:, 0]], product.lanes[there][::GROUP])
            if not there.all():
                rest = product.lanes[~there], product.words[~groups[:, 0]]
                self.pending.append(Product(*rest, product.registers, product.groups[~there]))

    def leave(self, lanes: Any) -> None:
        """Check that lanes that leave have nothing on its way."""
        if any(np.isin(product.lanes, lanes).any() for product in self.pending):
            raise FaultError("a thread left before it waited for its products")
