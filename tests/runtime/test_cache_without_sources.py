"""Kernels are stored, and never stale, where the package has no sources: zip files, .pyc alone."""

from __future__ import annotations

import compileall
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

import numbaconv
from tests.runtime.cached import cache_files

PACKAGE = Path(numbaconv.__file__).parent
Script = Callable[..., subprocess.CompletedProcess[str]]

# One small kernel, quickly compiled: no channels are summed, so what is left is the activation.
CALL = """
import numpy as np, numbaconv as nc
x, w, bias = np.ones((1, 0, 4, 4)), np.ones((2, 0, 4, 4)), np.array([-1.0, 2.0])
assert nc.conv2d(x, w, bias, activation="relu").ravel().tolist() == [0, 2]
"""


def without_sources(directory: Path) -> Path:
    """Make a copy of the package of .pyc files, in the places of the sources."""
    package = directory / "numbaconv"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    assert compileall.compile_dir(package, quiet=1, legacy=True)
    for path in package.rglob("*.py"):
        path.unlink()
    return directory


def as_zip(directory: Path) -> Path:
    archive = directory.with_suffix(".zip")
    with zipfile.ZipFile(archive, "w") as file:
        for path in directory.rglob("*"):
            file.write(path, path.relative_to(directory))
    return archive


def zip_of_sources(directory: Path) -> Path:
    directory.mkdir()
    shutil.copytree(PACKAGE, directory / "numbaconv")
    return as_zip(directory)


def zip_without_sources(directory: Path) -> Path:
    return as_zip(without_sources(directory))


# A frozen application, of the .pyc files in sys.argv[1]: its loader gives code, and no files.
FROZEN = """
import importlib.util, marshal, pathlib, sys

class Loader:
    def __init__(self, file): self.file = file
    def create_module(self, spec): return None
    def get_code(self, name): return marshal.loads(self.file.read_bytes()[16:])
    def exec_module(self, module): exec(self.get_code(module.__name__), module.__dict__)

class Finder:
    def __init__(self, path):
        if not path.startswith("frozen:"):
            raise ImportError
        self.path, self.folder = path, pathlib.Path(path.removeprefix("frozen:"))

    def find_spec(self, name, target=None):
        last = name.rpartition(".")[2]
        package = (self.folder / last).is_dir()
        file = self.folder / last / "__init__.pyc" if package else self.folder / f"{last}.pyc"
        if not file.exists():
            return None
        spec = importlib.util.spec_from_loader(name, Loader(file), is_package=package)
        if package:
            spec.submodule_search_locations.append(f"{self.path}/{last}")
        spec.origin, spec.has_location = f"nowhere/{file.name}", True
        return spec

    def iter_modules(self, prefix=""):
        for path in self.folder.iterdir():
            if path.is_dir() or (path.suffix == ".pyc" and path.stem != "__init__"):
                yield prefix + path.stem, path.is_dir()

sys.path_hooks.insert(0, Finder)
sys.path.insert(0, "frozen:" + sys.argv[1])
"""


def stored(cache: Path) -> dict[Path, tuple[int, bytes]]:
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in cache_files(cache)}


@pytest.mark.parametrize("make", [without_sources, zip_of_sources, zip_without_sources])
def test_second_process_compiles_nothing(
    make: Callable[[Path], Path], run_script: Script, tmp_path: Path
):
    where = {"PYTHONPATH": str(make(tmp_path / "app")), "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    run_script("-P", "-c", CALL, **where)
    files = stored(tmp_path / "cache")
    assert files
    run_script("-P", "-c", CALL, **where)
    assert stored(tmp_path / "cache") == files


def test_changed_module_never_meets_a_stale_kernel(run_script: Script, tmp_path: Path):
    """Another code in any module, also one of a subpackage, is another digest."""
    app = without_sources(tmp_path / "app")
    where = {"PYTHONPATH": str(app), "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    run_script("-P", "-c", CALL, **where)
    files = stored(tmp_path / "cache")
    source = PACKAGE / "cpu" / "im2col" / "panels.py"
    edited = tmp_path / "edited.py"
    edited.write_text(source.read_text() + "\nedited = True\n")
    target = app / "numbaconv" / source.relative_to(PACKAGE).with_suffix(".pyc")
    compileall.compile_file(edited, quiet=1, legacy=True)
    shutil.move(edited.with_suffix(".pyc"), target)
    run_script("-P", "-c", CALL, **where)
    now = stored(tmp_path / "cache")
    assert now.keys() == files.keys()
    assert all(now[path][1][:32] != files[path][1][:32] for path in files)


def test_change_after_the_import_is_not_stored(run_script: Script, tmp_path: Path):
    """What a process compiles comes from what it imported."""
    app = without_sources(tmp_path / "app")
    remove = f"import numbaconv, pathlib; pathlib.Path({str(app)!r}, 'numbaconv/cli.pyc').unlink()"
    where = {"PYTHONPATH": str(app), "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    run_script("-P", "-c", f"{remove}\n{CALL}", **where)
    assert stored(tmp_path / "cache") == {}


def test_frozen(run_script: Script, tmp_path: Path):
    app, cache = without_sources(tmp_path / "app"), tmp_path / "cache"
    where = {"PYTHONPATH": None, "NUMBA_CACHE_DIR": str(cache)}
    run_script("-P", "-c", FROZEN + CALL, str(app), **where)
    files = stored(cache)
    assert files
    run_script("-P", "-c", FROZEN + CALL, str(app), **where)
    assert stored(cache) == files


def test_loader_that_does_not_list_its_modules(run_script: Script, tmp_path: Path):
    """It does not say whether a module has changed, so nothing is stored."""
    app, cache = without_sources(tmp_path / "app"), tmp_path / "cache"
    code = FROZEN.replace("iter_modules", "other") + CALL
    run_script("-P", "-c", code, str(app), PYTHONPATH=None, NUMBA_CACHE_DIR=str(cache))
    assert stored(cache) == {}
