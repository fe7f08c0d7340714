"""Digest of the package as it is loaded: what compiled code on disk depends on.

`numbaconv` imports this first, so it imports no Numba and costs next to nothing.
"""

import hashlib
import marshal
import os
import sys
from collections.abc import Iterable, Iterator
from importlib.machinery import SourceFileLoader, all_suffixes
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parents[1]
_SUFFIXES = tuple(all_suffixes())


def _files(directory: str, within: str = "") -> Iterator[tuple[str, str]]:
    """Yield all files that can be modules: names in the package, and paths."""
    with os.scandir(directory) as entries:
        for entry in entries:
            # Editors leave files with other names for a while.
            if not entry.name.partition(".")[0].isidentifier():
                continue
            name = within + entry.name
            if entry.name.endswith(_SUFFIXES):
                yield name, entry.path
            elif entry.is_dir() and entry.name != "__pycache__":
                yield from _files(entry.path, f"{name}/")


def _read(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 (a hundred paths take as long)
        return file.read()


def _modules(path: Iterable[str], package: str) -> Iterator[Any]:
    """Yield the specs of all modules of a package; none is imported."""
    import pkgutil

    for finder, name, is_package in pkgutil.iter_modules(path, f"{package}."):
        spec: Any = finder.find_spec(name, None)
        yield spec
        if is_package:
            yield from _modules(spec.submodule_search_locations, name)


def _content(spec: Any) -> bytes:
    """Return the file that a module is loaded from, its source or not; frozen ones have none."""
    try:
        return bytes(spec.loader.get_data(spec.origin))
    except Exception:
        # Of the formats of `marshal` the last in which the same code always gives the same bytes.
        return marshal.dumps(spec.loader.get_code(spec.name), 2)


def _parts(root: Any) -> Iterator[tuple[str, bytes]]:
    """Yield names and contents of all that the package is loaded from."""
    if type(root.__spec__.loader) is SourceFileLoader:  # faster than to ask for a hundred specs
        (directory,) = root.__path__
        for name, path in sorted(_files(directory)):
            yield name, _read(path)
        return
    specs = {spec.name: spec for spec in _modules(root.__path__, root.__name__)}
    if __name__ not in specs:
        raise ImportError("the loader does not list what it has")
    for spec in [root.__spec__, *(specs[name] for name in sorted(specs))]:
        yield spec.name, _content(spec)


def package_digest() -> str:
    """Digest of the whole package as it is loaded: sources, or files without, in a zip file too.

    Empty if that cannot be read.
    """
    root = sys.modules[__name__.partition(".")[0]]
    digest = hashlib.sha256()
    try:
        for name, content in _parts(root):
            digest.update(f"{name} {len(content)}\n".encode() + content)
    except Exception:  # a loader without these methods, an archive that was replaced
        return ""
    return digest.hexdigest()


DIGEST = package_digest()
