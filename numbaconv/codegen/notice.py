"""A line on stderr where compiling lets a user wait: what is compiled, once, and where it stays.

It is for a terminal. ``NUMBACONV_VERBOSE=1`` has it written anywhere, ``NUMBACONV_QUIET=1`` never.
"""

import os
import sys
import time
from collections.abc import Callable

PATIENCE = 1.0  # seconds of compiling without a word


class Notice:
    """Says once in a while that kernels are compiled.

    A call compiles several kernels, one after the other. They count as one wait as long as no
    more than `PATIENCE` lies between them.
    """

    def __init__(self) -> None:
        self._began = self._ended = 0.0
        self._name: str | None = None
        self._said = False

    def begin(self, name: str) -> None:
        """Note that a kernel is being compiled."""
        now = time.monotonic()
        if now - self._ended > PATIENCE:
            self._began, self._said = now, False
        self._name = name

    def end(self) -> None:
        """Note that it is done."""
        self._ended, self._name = time.monotonic(), None

    def look(self, directory: Callable[[], object]) -> None:
        """Say what is being compiled, if that has taken long enough and was not said yet."""
        name = self._name
        if name is None or self._said or time.monotonic() - self._began < PATIENCE:
            return
        self._said = True
        if is_wanted():
            _write(f"numbaconv compiles {name} and what goes with it, once{_whereto(directory)}\n")


def is_wanted() -> bool:
    """Whether the user is to be told."""
    if os.environ.get("NUMBACONV_QUIET") == "1":
        return False
    if os.environ.get("NUMBACONV_VERBOSE") == "1":
        return True
    try:
        return sys.stderr.isatty()
    except Exception:  # no stderr, or one that was closed
        return False


def _whereto(directory: Callable[[], object]) -> str:
    try:
        return f"; it is kept in {directory()}"
    except OSError as error:
        return f" in this process; it cannot be kept: {error}"


def _write(line: str) -> None:
    try:
        sys.stderr.write(line)
        sys.stderr.flush()
    except Exception:  # a stream that cannot be written to is no reason to fail
        return


notice = Notice()
