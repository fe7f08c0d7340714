"""Numba's cache on disk is never the cause of an exception."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

CALL = """
import numpy as np, numbaconv as nc
x = np.arange(2 * 16.0, dtype=np.float32).reshape(1, 2, 4, 4)
w = np.ones((1, 2, 3, 3), np.float32)
assert nc.conv2d(x, w, backend="im2col").tolist() == [[[[234, 252], [306, 324]]]]
assert nc.im2col(x, 3).shape == (1, 18, 4)
"""


def cache_files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Every cache file that the call leaves: its relative path and content."""
    import subprocess
    import sys

    from conftest import ROOT

    directory = tmp_path_factory.mktemp("filled")
    environment = os.environ | {"NUMBA_CACHE_DIR": str(directory), "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", CALL], env=environment, check=True, timeout=240)
    return {str(p.relative_to(directory)): p.read_bytes() for p in cache_files(directory)}


def test_calls_are_cached(filled: dict[str, bytes], run_script: Any, tmp_path: Path):
    """A second process compiles nothing, so that it adds and changes no file."""
    restore(filled, tmp_path)
    assert len(filled) >= 2
    stamps = {path: path.stat().st_mtime_ns for path in cache_files(tmp_path)}
    run_script("-c", CALL, NUMBA_CACHE_DIR=str(tmp_path))
    assert {path: path.stat().st_mtime_ns for path in cache_files(tmp_path)} == stamps


def restore(files: dict[str, bytes], directory: Path) -> None:
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def flip(content: bytes, start: int, stop: int, step: int) -> bytes:
    """One bit in every ``step`` bytes."""
    flipped = bytearray(content)
    for at in range(start, min(stop, len(content)), step):
        flipped[at] ^= 0x10
    return bytes(flipped)


def flip_instructions(content: bytes) -> bytes:
    """Bits of machine code, so that the file unpickles as before, where the code is ELF's."""
    start = max(content.find(b"\x7fELF"), 0) + 64  # behind the header
    return flip(content, start, start + 4000, 20)


# Numba keeps an index (.nbi) of the compiled code (.nbc): with the index damaged the code is never
# looked at, so each has its turn.
DAMAGES: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "all_emptied": (".nbi .nbc", lambda content: b""),
    "all_overwritten": (".nbi .nbc", lambda content: os.urandom(len(content))),
    "index_truncated": (".nbi", lambda content: content[: len(content) // 2]),
    "index_bits_flipped": (".nbi", lambda content: flip(content, 0, len(content), 40)),
    "code_truncated": (".nbc", lambda content: content[: len(content) // 2]),
    "instructions_flipped": (".nbc", flip_instructions),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_files_are_recovered_from(
    name: str, filled: dict[str, bytes], run_script: Any, tmp_path: Path
):
    suffixes, damage = DAMAGES[name]
    damaged = {k: damage(v) if k[-4:] in suffixes.split() else v for k, v in filled.items()}
    assert damaged != filled
    restore(damaged, tmp_path)
    run_script("-c", CALL, NUMBA_CACHE_DIR=str(tmp_path))


def test_directory_is_a_file(run_script: Any, tmp_path: Path):
    """Not writable even for root."""
    blocked = tmp_path / "file"
    blocked.touch()
    run_script("-c", CALL, NUMBA_CACHE_DIR=str(blocked / "cache"))
    assert blocked.read_bytes() == b""


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="permissions of POSIX")
def test_directory_is_read_only(run_script: Any, tmp_path: Path):
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    tmp_path.chmod(0o500)
    run_script("-c", CALL, NUMBA_CACHE_DIR=str(tmp_path))


@pytest.mark.parametrize("home", [None, "/nonexistent/home"], ids=["none", "missing"])
def test_without_a_home(home: str | None, run_script: Any):
    run_script("-c", CALL, HOME=home, NUMBA_CACHE_DIR=None, XDG_CACHE_HOME=None)


def test_first_call_of_a_process_may_be_a_small_one_from_the_cache(run_script: Any, tmp_path: Path):
    """A cached kernel that was linked with a cached parallel one needs the threading layer."""
    call = """
import numpy as np, numbaconv as nc
x, w = np.ones((1, 1, 8, 8), np.{0}), np.ones((1, 1, 3, 3), np.{0})
assert nc.conv2d(x, w).sum() == 324
"""
    for dtype in ("float32", "int32", "int32"):
        run_script("-c", call.format(dtype), NUMBA_CACHE_DIR=str(tmp_path))
