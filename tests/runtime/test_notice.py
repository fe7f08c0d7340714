"""Who waits for the compiler is told once, on a terminal; processes wait for each other."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from numbaconv.codegen import locks
from numbaconv.codegen.notice import PATIENCE, Notice
from tests.conftest import ROOT, Script

NATIVE = """
import time
from numba import types
from numbaconv.codegen import objects
from numbaconv.codegen.jit import native

@native(lambda dtype: dtype(dtype))
def plus_one(x):
    return x + 1

compile_it = plus_one._to_code
def slowly(*given):
    time.sleep(2)
    with open("compiled", "a") as log:
        log.write("x")
    return compile_it(*given)
plus_one._to_code = slowly
plus_one.address(types.int64)
"""


@pytest.mark.parametrize(
    ("variables", "lines"),
    [
        ({"NUMBACONV_VERBOSE": "1"}, 1),
        ({}, 0),
        ({"NUMBACONV_VERBOSE": "1", "NUMBACONV_QUIET": "1"}, 0),
    ],
)
def test_who_is_told(variables: dict[str, str], lines: int, run_script: Script, tmp_path: Path):
    code = f"import os; os.chdir({str(tmp_path)!r})\n" + NATIVE
    for found in (lines, 0):  # the second process compiles nothing
        said = run_script("-c", code, NUMBA_CACHE_DIR=str(tmp_path / "cache"), **variables).stderr
        assert said.count("\n") == found
        if found:
            assert said.startswith(
                "numbaconv compiles __main__.plus_one.int64 and what goes with it"
            )
            assert str(tmp_path / "cache") in said


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals of POSIX")
@pytest.mark.parametrize("quiet", ["0", "1"])
def test_on_a_terminal(quiet: str, tmp_path: Path):
    ours, theirs = os.openpty()
    environment = os.environ | {"PYTHONPATH": str(ROOT), "NUMBA_CACHE_DIR": str(tmp_path / "c")}
    environment["NUMBACONV_QUIET"] = quiet
    command = [sys.executable, "-c", NATIVE]
    subprocess.run(command, env=environment, stderr=theirs, cwd=tmp_path, check=True, timeout=300)
    os.write(theirs, b"end\n")
    assert (b"compiles" in os.read(ours, 10_000)) == (quiet == "0")
    os.close(ours)
    os.close(theirs)


def test_one_notice_for_one_wait(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    monkeypatch.setenv("NUMBACONV_VERBOSE", "1")
    monkeypatch.delenv("NUMBACONV_QUIET", raising=False)
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])

    def nowhere() -> Path:
        raise OSError("the user has no home")

    told = Notice()
    told.look(nowhere)  # nothing is compiled
    for name in ("first", "second", "third"):  # each for a short time
        told.begin(name)
        clock[0] += 0.6 * PATIENCE
        told.look(nowhere)
        told.end()
        clock[0] += 0.1 * PATIENCE
    line = (
        "numbaconv compiles second and what goes with it, once in this process; it cannot be kept"
    )
    assert capsys.readouterr().err == f"{line}: the user has no home\n"
    clock[0] += 10 * PATIENCE
    told.begin("later")
    told.look(nowhere)
    assert capsys.readouterr().err == ""
    clock[0] += 1.1 * PATIENCE
    told.look(nowhere)
    assert "later" in capsys.readouterr().err


@pytest.mark.parametrize("stream", ["None", "open(os.devnull)", "closed"])
def test_a_stream_that_cannot_be_written_to(stream: str, run_script: Script, tmp_path: Path):
    change = "sys.stderr.close()" if stream == "closed" else f"sys.stderr = {stream}"
    code = f"import os, sys; os.chdir({str(tmp_path)!r}); {change}\n" + NATIVE
    run_script("-W", "ignore", "-c", code, NUMBA_CACHE_DIR=str(tmp_path), NUMBACONV_VERBOSE="1")


def start(directory: Path, code: str = NATIVE) -> subprocess.Popen[bytes]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "NUMBA_CACHE_DIR": str(directory / "c")}
    return subprocess.Popen([sys.executable, "-c", code], env=environment, cwd=directory)


def start_one_that_does_not_end(directory: Path) -> subprocess.Popen[bytes]:
    """A process that is compiling already, and goes on until it is killed."""
    endless = NATIVE.replace("time.sleep(2)", "open('begun', 'w'); time.sleep(600)")
    process = start(directory, endless)
    while not (directory / "begun").exists():
        assert process.poll() is None
        time.sleep(0.05)
    return process


def test_one_process_compiles_for_all(tmp_path: Path):
    running = [start(tmp_path) for _ in range(4)]
    assert [process.wait(300) for process in running] == [0] * 4
    assert (tmp_path / "compiled").read_text() == "x"


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL here")
def test_an_owner_that_dies_holds_nobody_up(tmp_path: Path):
    owner = start_one_that_does_not_end(tmp_path)
    waiting = start(tmp_path)
    time.sleep(3)
    assert waiting.poll() is None  # it waits
    owner.kill()
    owner.wait(60)
    assert waiting.wait(60) == 0
    assert (tmp_path / "compiled").read_text() == "x"


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_an_owner_that_stands_still_holds_others_up_for_a_time(tmp_path: Path):
    owner = start_one_that_does_not_end(tmp_path)
    shorter = NATIVE.replace("plus_one.address", "locks.WAIT = 1\nplus_one.address")
    code = "from numbaconv.codegen import locks\n" + shorter
    assert start(tmp_path, code).wait(60) == 0
    owner.kill()
    owner.wait(60)


def test_without_a_file_there_is_no_lock(tmp_path: Path):
    entered = []
    with locks.alone(tmp_path / "missing" / "lock", 1):
        entered.append(1)
    assert entered
