"""Shared memory of the blocks that are executed together: bounds, races, bank conflicts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tests.cuda.executed.memory import FaultError

WARP = 32
BANKS = 32
POISON = 0x7FC0DEAD  # of what nobody wrote: a NaN, or a large integer
SEVERAL = -2  # threads that read a word since the last barrier
GUARD_WORDS = 64


class Copy(NamedTuple):
    """A word that cp.async of each of some lanes writes, in a group of that lane's."""

    words: Any
    lanes: Any
    values: Any
    groups: Any
    text: str


class SharedMemory:
    """Words of 32 bits; of each, in which epoch it was read and written, and by which thread.

    An epoch of a block lies between two of its barriers. In one, a word that a thread writes may be
    touched by no other.

    What cp.async copies is on its way from there until its thread waits for its group, and nobody
    may touch it: only then does it count as written, by that thread and in that epoch, so that
    others may read it behind a barrier.

    Products of warpgroups read through another proxy: only what was written before a
    fence.proxy.async of the thread that wrote it, and before a barrier. Nobody may write what they
    read until they end.

    Parameters
    ----------
    size : int
        Bytes of a block.
    threads, count : int
        Threads of a block, and blocks.
    place : callable
        (block, thread) of a lane, for messages.

    Attributes
    ----------
    never_written : set
        Texts of instructions that read what nobody wrote.
    conflicts : dict or None
        Accesses and passes of each kind of instruction, if bank conflicts are counted.
    """

    def __init__(self, size: int, threads: int, count: int, place: Callable[[int], Any]) -> None:
        self.size, self.threads, self.place = size, threads, place
        self.pitch = -(-size // 4) + GUARD_WORDS
        words = self.pitch * count
        self.words = np.full(words, POISON, "u4")
        self.epoch = np.zeros(count, "i4")
        self.written_in, self.written_by = np.full(words, -1, "i4"), np.full(words, -1, "i4")
        self.read_in, self.read_by = np.full(words, -1, "i4"), np.full(words, -1, "i4")
        self.claimed_by = np.full(words, -1, "i4")
        self.never_written: set[str] = set()
        self.conflicts: dict[str, list[int]] | None = None
        self.copies: list[Copy] = []
        self.on_its_way = np.zeros(words, bool)
        self.committed = np.zeros(threads * count, "i8")  # groups of each lane
        self.time = 0  # of fences and writes
        self.written_at, self.fenced_at = np.zeros(words, "i8"), np.zeros(threads * count, "i8")
        self.products_reading = np.zeros(words, "i2")

    def profile(self) -> None:
        """Count bank conflicts from now on."""
        self.conflicts = defaultdict(lambda: [0, 0])

    def _find(self, at: Any, lanes: Any, size: int, text: str) -> Any:
        if np.any(at % size):
            raise FaultError(f"misaligned {text}")
        bad = (at < 0) | (at + size > self.size)
        if np.any(bad):
            who = self.place(int(lanes[bad][0]))
            raise FaultError(
                f"outside shared memory ({self.size} bytes): {text}, at {at[bad][:4]}, thread {who}"
            )
        return lanes // self.threads * self.pitch + at // 4

    def load(self, at: Any, lanes: Any, count: int, size: int, text: str) -> list[Any]:
        """Return `count` vectors' elements of `size` bytes, from byte `at` on."""
        if size < 4:
            raise FaultError(f"narrow shared access: {text}")
        self._count_conflicts(at, lanes, count * size, text)
        first, each = self._find(at, lanes, count * size, text), size // 4
        words = [self._read(first + k, lanes, text) for k in range(count * each)]
        if each == 1:
            return words
        pairs = zip(words[::2], words[1::2], strict=True)
        return [low.astype("u8") | (high.astype("u8") << np.uint64(32)) for low, high in pairs]

    def store(self, at: Any, lanes: Any, values: list[Any], size: int, text: str) -> None:
        """Set elements of `size` bytes from byte `at` on."""
        if size < 4:
            raise FaultError(f"narrow shared access: {text}")
        self._count_conflicts(at, lanes, len(values) * size, text)
        first = self._find(at, lanes, len(values) * size, text)
        for k, value in enumerate(values):
            if size == 4:
                self._write(first + k, lanes, value, text)
            else:
                low, high = value & np.uint64(0xFFFFFFFF), value >> np.uint64(32)
                self._write(first + 2 * k, lanes, low.astype("u4"), text)
                self._write(first + 2 * k + 1, lanes, high.astype("u4"), text)

    def copy(self, at: Any, lanes: Any, values: list[Any], text: str) -> None:
        """Begin to copy words to byte `at` and after."""
        self._count_conflicts(at, lanes, 4 * len(values), text)
        first = self._find(at, lanes, 4 * len(values), text)
        for k, value in enumerate(values):
            self._claim(first + k, lanes, text)
            self.on_its_way[first + k] = True
            self.copies.append(Copy(first + k, lanes, value, self.committed[lanes], text))

    def commit(self, lanes: Any) -> None:
        """Put what lanes copied since the last time into a group of theirs."""
        self.committed[lanes] += 1

    def wait(self, lanes: Any, pending: int) -> None:
        """Let lanes wait for all of their groups but the last `pending`."""
        done = np.full(len(self.committed), -1)
        done[lanes] = self.committed[lanes] - pending - 1
        copies, self.copies = self.copies, []
        for copy in copies:
            there = copy.groups <= done[copy.lanes]
            if there.any():
                words, who = copy.words[there], copy.lanes[there]
                self.on_its_way[words] = False
                self._write(words, who, copy.values[there], copy.text)
            if not there.all():
                rest = (part[~there] for part in copy[:4])
                self.copies.append(Copy(*rest, copy.text))

    def leave(self, lanes: Any) -> None:
        """Check that lanes that leave have nothing on its way."""
        leaving = np.zeros(len(self.committed), bool)
        leaving[lanes] = True
        for copy in self.copies:
            if leaving[copy.lanes].any():
                raise FaultError(f"a thread left before it waited for {copy.text}")

    def fence_proxy(self, lanes: Any) -> None:
        """Let products see what lanes wrote before."""
        self.time += 1
        self.fenced_at[lanes] = self.time

    def begin_product(self, at: Any, lanes: Any, text: str) -> tuple[Any, Any]:
        """Words, and what they hold, that warpgroups read; `lanes` are the first of each."""
        if self.conflicts is not None:
            self._count_passes(at, text)
        first = np.broadcast_to(lanes[:, None, None], at.shape).reshape(-1)
        word = self._find(at.reshape(-1), first, 4, text)
        self._check_arrived(word, first, text)
        if np.any(self.written_in[word] < 0):
            self.never_written.add(text)
        if np.any(self.written_in[word] == self._now(first)):
            raise FaultError(f"race: {text} reads what was written since the last barrier")
        written = self.written_by[word] >= 0
        unseen = self.fenced_at[self.written_by[word]] <= self.written_at[word]
        if np.any(written & unseen):
            raise FaultError(f"no fence.proxy.async between a write and {text}, which reads it")
        np.add.at(self.products_reading, word, 1)
        return word.reshape(at.shape), self.words[word].reshape(at.shape)

    def end_product(self, word: Any, lanes: Any) -> None:
        """End what warpgroups read, each some words: from now on it counts as read by threads."""
        now = np.broadcast_to(self._now(lanes)[:, None], word.shape)
        np.subtract.at(self.products_reading, word.reshape(-1), 1)
        self.read_in[word], self.read_by[word] = now, SEVERAL

    def _check_arrived(self, word: Any, lanes: Any, text: str) -> None:
        if self.copies and np.any(self.on_its_way[word]):
            who = self.place(int(lanes[self.on_its_way[word]][0]))
            raise FaultError(f"{text} by {who} touches what cp.async has not brought yet")

    def load_matrix(self, at: Any, lanes: Any, text: str) -> list[Any]:
        """Four 8 x 4 blocks of words, whose rows the lanes of a warp give."""
        if np.any(at % 16):
            raise FaultError(f"misaligned row of {text}")
        self._count_conflicts(at, lanes, 16, text)
        rows, lane = at.reshape(-1, 4, 8), np.arange(WARP)  # warp, matrix, row
        result = []
        for matrix in range(4):
            mine = (rows[:, matrix, :][:, lane // 4] + lane % 4 * 4).reshape(-1)
            result.append(self._read(self._find(mine, lanes, 4, text), lanes, text))
        return result

    def _now(self, lanes: Any) -> Any:
        return self.epoch[lanes // self.threads]

    def _read(self, word: Any, lanes: Any, text: str) -> Any:
        now = self._now(lanes)
        self._check_arrived(word, lanes, text)
        if np.any(self.written_in[word] < 0):
            self.never_written.add(text)
        race = (self.written_in[word] == now) & (self.written_by[word] != lanes)
        if np.any(race):
            k = int(np.flatnonzero(race)[0])
            writer = self.place(int(self.written_by[word[k]]))
            raise FaultError(
                f"race: {text} by {self.place(int(lanes[k]))} reads what {writer} wrote since the "
                f"last barrier"
            )
        fresh, before = self.read_in[word] != now, self.read_by[word]
        self.read_by[word] = np.where(fresh | (before == lanes), lanes, SEVERAL)
        self.read_in[word] = now
        self.read_by[word[self.read_by[word] != lanes]] = SEVERAL
        return self.words[word]

    def _write(self, word: Any, lanes: Any, value: Any, text: str) -> None:
        self._claim(word, lanes, text)
        self.written_in[word], self.written_by[word] = self._now(lanes), lanes
        self.written_at[word] = self.time
        self.words[word] = value

    def _claim(self, word: Any, lanes: Any, text: str) -> None:
        """Check that lanes may write words now, each another one."""
        now = self._now(lanes)
        self._check_arrived(word, lanes, text)
        if np.any(self.products_reading[word]):
            raise FaultError(f"{text} writes what a product still reads")
        if np.any((self.written_in[word] == now) & (self.written_by[word] != lanes)):
            raise FaultError(
                f"race: {text} writes what another thread wrote since the last barrier"
            )
        race = (self.read_in[word] == now) & (self.read_by[word] != lanes)
        if np.any(race):
            who = self.place(int(lanes[race][0]))
            raise FaultError(
                f"race: {text} by {who} writes what others read since the last barrier"
            )
        self.claimed_by[word] = lanes
        if np.any(self.claimed_by[word] != lanes):
            raise FaultError(f"race: {text}: several lanes write one word")

    def _count_conflicts(self, at: Any, lanes: Any, size: int, text: str) -> None:
        """Passes that an access of each warp takes, beyond what its width needs."""
        if self.conflicts is None:
            return
        words = max(size // 4, 1)
        block, thread = np.divmod(lanes, self.threads)
        turns = block * self.threads + thread // (WARP // words)  # which are served together
        found = self.conflicts[text.split()[0]]
        for turn in np.unique(turns):
            touched = at[turns == turn, None] // 4 + np.arange(words)
            found[0] += 1
            found[1] += int(np.bincount(np.unique(touched) % BANKS).max())

    def _count_passes(self, at: Any, text: str) -> None:
        """Passes that eight rows of a vector take, of tiles at (warpgroup, row, word)."""
        found = (self.conflicts or {})[text.split(".")[0]]
        banks = at.reshape(len(at), -1, 8, at.shape[2] // 4, 4).swapaxes(2, 3) // 4 % BANKS
        for vectors in banks.reshape(-1, 8 * 4):
            found[0] += 1
            found[1] += int(np.bincount(vectors).max())
