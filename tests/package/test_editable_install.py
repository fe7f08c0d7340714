"""An editable install is found wherever Python is started."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.stress  # pip fetches the build system
def test_import_from_beside_a_clone_of_the_packages_name(tmp_path: Path):
    """A finder that is asked last would leave the import to the clone's folder: it has no code."""
    clone = tmp_path / "numbaconv"
    clone.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "numbaconv"):
        (clone / name).symlink_to(ROOT / name)
    venv.create(tmp_path / "venv")
    python = str(tmp_path / "venv" / ("Scripts" if sys.platform == "win32" else "bin") / "python")
    install = [sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps"]
    subprocess.run([*install, "-e", str(clone)], check=True)
    ask = "import importlib.util; print(importlib.util.find_spec('numbaconv').origin)"
    done = subprocess.run(
        [python, "-c", ask], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert Path(done.stdout.strip()) == clone / "numbaconv" / "__init__.py"
