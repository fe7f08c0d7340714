"""The cache of compiled kernels is never the cause of an exception, and never wrong or foreign."""

from __future__ import annotations

import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from numbaconv.codegen import sources
from tests.conftest import ROOT, Script
from tests.runtime.cached import cache_files, copy_package

CALL = """
import numpy as np, numbaconv as nc
x = np.arange(2 * 16.0, dtype=np.float32).reshape(1, 2, 4, 4)
w = np.ones((1, 2, 3, 3), np.float32)
assert nc.conv2d(x, w, backend="im2col").tolist() == [[[[234, 252], [306, 324]]]]
assert nc.im2col(x, 3).shape == (1, 18, 4)
"""

# One small kernel, quickly compiled.
SMALL = """
import numpy as np
from numbaconv.problem.activations import ACTIVATIONS
from numbaconv.cpu.activation import activate_array
a = np.array([-1.0, 2.0], np.float32)
activate_array(a, ACTIVATIONS["relu"])
assert a.tolist() == [0, 2]
"""

pytestmark = pytest.mark.usefixtures("nothing_built_ahead")
posix = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="permissions of POSIX")


def start(directory: Path, code: str = CALL) -> subprocess.Popen[bytes]:
    """A process on a cache directory, to be waited for or killed."""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(directory), "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-W", "error", "-c", code], env=environment)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory, nothing_built_ahead: None) -> dict[str, bytes]:
    """Every cache file that the call leaves: its relative path and content."""
    directory = tmp_path_factory.mktemp("filled")
    assert start(directory).wait(900) == 0
    return {str(p.relative_to(directory)): p.read_bytes() for p in cache_files(directory)}


def restore(files: dict[str, bytes], directory: Path) -> None:
    """Write cache files as the package would: for this user alone."""
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o600)


def test_calls_are_cached(filled: dict[str, bytes], run_script: Script, tmp_path: Path):
    """A second process compiles nothing, so that it adds and changes no file."""
    restore(filled, tmp_path)
    assert len(filled) >= 2
    stamps = {path: path.stat().st_mtime_ns for path in cache_files(tmp_path)}
    run_script("-c", CALL, NUMBA_CACHE_DIR=str(tmp_path))
    assert {path: path.stat().st_mtime_ns for path in cache_files(tmp_path)} == stamps


def test_kernel_compiled_beside_a_stored_one(
    filled: dict[str, bytes], run_script: Script, tmp_path: Path
):
    """The second process compiles for another dtype what calls a kernel that the first stored."""
    restore(filled, tmp_path)
    for _ in range(2):
        run_script("-c", CALL.replace("float32", "float64"), NUMBA_CACHE_DIR=str(tmp_path))


# Damage.

Damage = Callable[[bytes, random.Random], bytes]


def truncate(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content))]


def flip_bits(content: bytes, rng: random.Random) -> bytes:
    """One bit, or a few."""
    flipped = bytearray(content)
    for _ in range(rng.choice((1, 3, 50))):
        flipped[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return bytes(flipped)


DAMAGES: dict[str, Damage] = {
    "overwritten": lambda content, rng: rng.randbytes(len(content)),
    "truncated": truncate,
    "bits_flipped": flip_bits,
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_files_are_recovered_from(
    name: str, filled: dict[str, bytes], run_script: Script, tmp_path: Path
):
    """The call is right, and the files are written anew."""
    rng = random.Random(name)
    damaged = {k: DAMAGES[name](v, rng) for k, v in filled.items()}
    restore(damaged, tmp_path)
    run_script("-c", CALL, NUMBA_CACHE_DIR=str(tmp_path))
    written = {str(p.relative_to(tmp_path)): p.read_bytes() for p in cache_files(tmp_path)}
    assert written.keys() == filled.keys()
    assert all(written[name] != damaged[name] for name in damaged)


def test_files_that_changed_places(filled: dict[str, bytes], run_script: Script, tmp_path: Path):
    """Sound code of another kernel is no better than damage."""
    names = sorted(filled)
    restore({a: filled[b] for a, b in zip(names, names[1:] + names[:1], strict=True)}, tmp_path)
    run_script("-c", CALL, NUMBA_CACHE_DIR=str(tmp_path))


@pytest.mark.parametrize("count", [5, pytest.param(450, marks=pytest.mark.stress)])
def test_damage_of_small_kernels(count: int, run_script: Script, tmp_path: Path):
    """The same in one process, which looks into the cache again and again."""
    code = """
import random, sys
from pathlib import Path
from tests.runtime.test_cache import flip_bits, truncate
from numbaconv.cpu import activation
paths = sorted(Path(sys.argv[1]).rglob("*.nbc"))
rng = random.Random(0)
for number in range(int(sys.argv[2])):
    path = rng.choice(paths)
    damaged = (truncate, flip_bits)[number % 2](path.read_bytes(), rng)
    path.write_bytes(damaged)
    a = np.array([-1.0, 2.0], np.float32)
    activation.relu._addresses.clear()
    activation._for_python.cache_clear()
    activate_array(a, ACTIVATIONS["relu"])
    assert a.tolist() == [0, 2]
    assert path.read_bytes() != damaged
"""
    arguments = ("-c", SMALL + code, str(tmp_path), str(count))
    run_script(*arguments, timeout=3600, NUMBA_CACHE_DIR=str(tmp_path))


@pytest.mark.stress
def test_fifty_damaged_files(filled: dict[str, bytes], run_script: Script, tmp_path: Path):
    """Files that are cut short or have bits flipped, all that a process reads."""
    rng = random.Random(0)
    damaged = 0
    while damaged < 50:
        names = sorted(filled)
        damage = rng.choice((truncate, flip_bits))
        restore({name: damage(filled[name], rng) for name in names}, tmp_path)
        run_script("-c", CALL, NUMBA_CACHE_DIR=str(tmp_path))
        damaged += len(names)


# Interruption and company.


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL here")
@pytest.mark.parametrize("kills", [3, pytest.param(100, marks=pytest.mark.stress)])
def test_killed_while_compiling(kills: int, run_script: Script, tmp_path: Path):
    """Killed at any moment; a process in peace then finds nothing that disturbs it."""
    rng = random.Random(kills)
    killed = 0
    directory = tmp_path / "0"
    while killed < kills:
        process = start(directory)
        time.sleep(rng.uniform(0.5, 4))
        process.kill()
        killed += process.wait(60) == -signal.SIGKILL
        if process.returncode == 0 or killed % 10 == 0:  # filled: begin again
            run_script("-c", CALL, NUMBA_CACHE_DIR=str(directory))
            shutil.rmtree(directory)
            directory = tmp_path / str(killed)
    run_script("-c", CALL, NUMBA_CACHE_DIR=str(directory))


@pytest.mark.parametrize("processes", [3, pytest.param(16, marks=pytest.mark.stress)])
def test_processes_on_one_empty_cache(
    processes: int, filled: dict[str, bytes], run_script: Script, tmp_path: Path
):
    running = [start(tmp_path) for _ in range(processes)]
    assert [process.wait(3600) for process in running] == [0] * processes
    left = {str(path.relative_to(tmp_path)) for path in cache_files(tmp_path)}
    assert left == set(filled)  # and no unfinished file
    run_script("-c", CALL, NUMBA_CACHE_DIR=str(tmp_path))


# Places where nothing can be stored.


def test_directory_is_a_file(run_script: Script, tmp_path: Path):
    """Not writable even for root."""
    blocked = tmp_path / "file"
    blocked.touch()
    run_script("-c", SMALL, NUMBA_CACHE_DIR=str(blocked / "cache"))
    assert blocked.read_bytes() == b""


@posix
def test_directory_is_read_only(run_script: Script, tmp_path: Path):
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    tmp_path.chmod(0o500)
    run_script("-c", SMALL, NUMBA_CACHE_DIR=str(tmp_path))


@posix
@pytest.mark.parametrize("home", ["none", "missing", "a file"])
def test_without_a_home(home: str, run_script: Script, tmp_path: Path):
    (tmp_path / "file").touch()
    homes = {"none": None, "missing": str(tmp_path / "a" / "b"), "a file": str(tmp_path / "file")}
    cache = None if home != "none" else str(tmp_path)  # where HOME is not set, the user's is used
    run_script("-c", SMALL, HOME=homes[home], NUMBA_CACHE_DIR=None, XDG_CACHE_HOME=cache)


@posix
def test_disk_is_full(run_script: Script, tmp_path: Path):
    """No file can grow over some bytes; those that were begun are taken away again."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))"
    run_script("-c", limit + SMALL, NUMBA_CACHE_DIR=str(tmp_path))
    assert cache_files(tmp_path) == []


# Whose the files are.


@posix
def test_installed_read_only(run_script: Script, tmp_path: Path):
    """Kernels go to the user's directory, made for the user alone, and never beside the package."""
    package = copy_package(tmp_path / "install")
    before = cache_files(package)
    for path in (package, *package.rglob("*")):
        path.chmod(path.stat().st_mode & ~0o222)
    home = tmp_path / "home"
    code = "import os, sys; os.umask(0); sys.dont_write_bytecode = True\n" + SMALL
    variables: dict[str, Any] = {"HOME": str(home), "XDG_CACHE_HOME": None, "NUMBA_CACHE_DIR": None}
    variables["PYTHONPATH"] = str(tmp_path / "install")
    run_script("-P", "-c", code, **variables)
    assert cache_files(package) == before
    stored = cache_files(home)
    assert stored
    assert {stat.S_IMODE(path.stat().st_mode) for path in stored} == {0o600}
    assert {stat.S_IMODE(d.stat().st_mode) for d in (home, *stored[0].parents[:2])} == {0o700}


@posix
def test_what_others_can_write_is_not_read(run_script: Script, tmp_path: Path):
    """A file that others can write to is replaced; into a directory of that kind nothing goes."""
    run_script("-c", SMALL, NUMBA_CACHE_DIR=str(tmp_path))
    stored = cache_files(tmp_path)
    for path in stored:
        path.chmod(0o666)
    run_script("-c", SMALL, NUMBA_CACHE_DIR=str(tmp_path))
    assert {stat.S_IMODE(path.stat().st_mode) for path in stored} == {0o600}

    for path in stored:
        path.unlink()
    stored[0].parent.chmod(0o777)
    run_script("-c", SMALL, NUMBA_CACHE_DIR=str(tmp_path))
    assert cache_files(tmp_path) == []


def test_changed_source_never_meets_a_stale_kernel(run_script: Script, tmp_path: Path):
    """An edit of a helper, far from the kernel that it becomes part of, is seen."""
    package = copy_package(tmp_path)
    variables = {"PYTHONPATH": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    run_script("-P", "-c", SMALL, **variables)
    stored = cache_files(tmp_path / "cache")
    before = {path: path.read_bytes() for path in stored}
    with (package / "problem" / "shape.py").open("a") as source:
        source.write("\n# edited\n")
    run_script("-P", "-c", SMALL, **variables)
    assert cache_files(tmp_path / "cache") == stored
    assert all(path.read_bytes()[:32] != before[path][:32] for path in stored)


def test_edit_after_the_import_is_not_stored(run_script: Script, tmp_path: Path):
    """What a process compiles comes from the sources that it imported."""
    copy_package(tmp_path)
    edit = """
import numbaconv, pathlib
with (pathlib.Path(numbaconv.__file__).parent / "problem" / "shape.py").open("a") as source:
    source.write("# edited")
"""
    cache = tmp_path / "cache"
    run_script("-P", "-c", edit + SMALL, PYTHONPATH=str(tmp_path), NUMBA_CACHE_DIR=str(cache))
    assert cache_files(cache) == []


def test_files_that_can_be_modules(tmp_path: Path):
    """Compiled ones too, and nothing that an editor leaves, such as a link to no file."""
    for name in ("a.py", "sub/b.pyc", "__pycache__/a.cpython-311.pyc", "py.typed", "a.py~"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / ".#a.py").symlink_to("nowhere")
    assert sorted(name for name, _ in sources._files(str(tmp_path))) == ["a.py", "sub/b.pyc"]


def test_edit_between_import_and_first_touch(run_script: Script, tmp_path: Path):
    """Kernels that were stored before do not serve what is imported after."""
    copy_package(tmp_path)
    edit = """
import numbaconv, pathlib
with (pathlib.Path(numbaconv.__file__).parent / "problem" / "shape.py").open("a") as source:
    source.write("# edited")
"""
    variables = {"PYTHONPATH": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    run_script("-P", "-c", SMALL, **variables)
    loaded = """
from numbaconv.codegen import cache
load, found = cache.load, []
cache.load = lambda *a: found.append(load(*a)) or found[-1]
"""
    check = "\nassert found and all((f is None) == {} for f in found), found"
    run_script("-P", "-c", loaded + SMALL + check.format(False), **variables)
    run_script("-P", "-c", edit + loaded + SMALL + check.format(True), **variables)


def test_first_call_may_be_a_small_one_from_the_cache(run_script: Script, tmp_path: Path):
    """A cached kernel that was linked with a cached parallel one needs the threading layer."""
    call = """
import numpy as np, numbaconv as nc
x, w = np.ones((1, 1, 8, 8), np.{0}), np.ones((1, 1, 3, 3), np.{0})
assert nc.conv2d(x, w).sum() == 324
"""
    for dtype in ("float32", "int32", "int32"):
        run_script("-c", call.format(dtype), NUMBA_CACHE_DIR=str(tmp_path))
