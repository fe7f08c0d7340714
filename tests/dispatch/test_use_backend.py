"""What `use_backend` returns is a context manager that can be used again, anywhere."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Iterator

import pytest

import numbaconv as nc
from numbaconv.dispatch.precision import find_precision


def test_used_twice():
    block = nc.use_backend("im2col")
    for _ in range(2):
        with block:
            assert nc.get_backend() == "im2col"
        assert nc.get_backend() == "auto"


def test_nested_in_itself_and_in_others():
    outer, inner = nc.use_backend("im2col"), nc.use_backend("direct")
    with outer, inner, outer:
        assert nc.get_backend() == "im2col"
        with inner:
            assert nc.get_backend() == "direct"
        assert nc.get_backend() == "im2col"
    with outer, inner:
        assert nc.get_backend() == "direct"
    assert nc.get_backend() == "auto"


def test_as_a_decorator_of_a_recursive_function():
    @nc.use_backend("im2col")
    def descend(depth: int) -> list[str]:
        return [nc.get_backend(), *(descend(depth - 1) if depth else [])]

    assert descend(3) == ["im2col"] * 4
    assert nc.get_backend() == "auto"


def test_on_threads_at_once():
    block, inside = nc.use_backend("im2col"), threading.Barrier(3)
    seen: dict[bool, list[str]] = {True: [], False: []}

    def run(first: bool) -> None:
        with block:
            inside.wait(60)
            seen[first].append(nc.get_backend())
            inside.wait(60)
            if first:  # leaves while the other is inside
                seen[first].append("left")
            else:
                left.wait(60)
                seen[first].append(nc.get_backend())
        seen[first].append(nc.get_backend())
        left.set()

    left = threading.Event()
    threads = [threading.Thread(target=run, args=(first,)) for first in (True, False)]
    for thread in threads:
        thread.start()
    inside.wait(60)
    assert nc.get_backend() == "auto"
    inside.wait(60)
    for thread in threads:
        thread.join()
    assert seen == {True: ["im2col", "left", "auto"], False: ["im2col", "im2col", "auto"]}


def test_in_tasks_at_once():
    block = nc.use_backend("im2col")

    async def run(turns: int) -> list[str]:
        seen = []
        with block:
            for _ in range(turns):
                seen.append(nc.get_backend())
                await asyncio.sleep(0)
        return [*seen, nc.get_backend()]

    async def every() -> list[list[str]]:
        return await asyncio.gather(*map(run, (1, 3, 2)))

    assert asyncio.run(every()) == [["im2col"] * turns + ["auto"] for turns in (1, 3, 2)]


def test_generator_left_inside_a_block_that_it_does_not_know():
    def numbers() -> Iterator[int]:
        with nc.use_backend("im2col"):
            yield 1

    generator = numbers()
    next(generator)
    with nc.use_backend("direct"):
        generator.close()
        assert nc.get_backend() == "direct"
    assert nc.get_backend() == "auto"


def test_left_where_it_was_not_entered():
    block = nc.use_backend("im2col")
    with pytest.raises(RuntimeError, match=r"use_backend.*not entered"):
        block.__exit__(None, None, None)
    contextvars.copy_context().run(block.__enter__)
    with pytest.raises(RuntimeError, match=r"use_backend.*not entered"):
        block.__exit__(None, None, None)


@pytest.mark.parametrize("blank", ["", " ", "\t \n"])
def test_blank_variables_count_as_not_set(blank: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NUMBACONV_BACKEND", blank)
    monkeypatch.setenv("NUMBACONV_PRECISION", blank)
    assert nc.get_backend() == "auto"
    assert find_precision(None) == "ieee"
    assert nc.explain(*_arrays()).backend in nc.available_backends()


def _arrays() -> tuple[object, object]:
    import numpy as np

    return np.ones((1, 1, 8, 8)), np.ones((1, 1, 3, 3))
