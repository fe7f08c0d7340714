"""Folders of the kernel cache, and copies of the package, which each have one of their own."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.conftest import ROOT


def cache_files(directory: Path) -> list[Path]:
    """All but the file whose bytes are locks."""
    return sorted(path for path in directory.rglob("*") if path.is_file() and path.name != "lock")


def copy_package(directory: Path) -> Path:
    """Copy the package; ``-P`` keeps Python from preferring the one that lies here."""
    package = directory / "numbaconv"
    shutil.copytree(ROOT / "numbaconv", package, ignore=shutil.ignore_patterns("__pycache__"))
    return package
