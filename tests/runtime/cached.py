"""What is in a folder of the kernel cache."""

from __future__ import annotations

from pathlib import Path


def cache_files(directory: Path) -> list[Path]:
    """All but the file whose bytes are locks."""
    return sorted(path for path in directory.rglob("*") if path.is_file() and path.name != "lock")
