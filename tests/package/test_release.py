"""What a release is made of agrees: versions, and links that lead somewhere from an index."""

from __future__ import annotations

import importlib.util
import re
from types import ModuleType

import numbaconv as nc
from tests.conftest import ROOT


def for_index() -> ModuleType:
    spec = importlib.util.spec_from_file_location("for_index", ROOT / ".ci" / "for_index.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_versions_agree():
    assert f"\nversion: {nc.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_notes_of_the_version_are_there():
    assert (ROOT / "docs" / f"release-{nc.__version__}.md").exists()


def test_links_of_an_index_are_absolute():
    text = (ROOT / "README.md").read_text()
    made = for_index().absolute(text, "https://example.org/nc", "v1")
    targets = re.findall(r"\]\(([^)]*)\)", made)
    assert [target for target in targets if not target.startswith("https://")] == []
    assert "](https://example.org/nc/raw/v1/docs/img/features.png)" in made
    assert "](https://example.org/nc/blob/v1/docs/lowerings.md#activations)" in made
    assert "](https://creativecommons.org/licenses/by/2.0/)" in made  # as it was


def test_addresses_are_a_table_of_the_project():
    before = (ROOT / "pyproject.toml").read_text()
    assert before.count("[project.optional-dependencies]\n") == 1
    assert "[project.urls]\n" not in before
    assert 'Issues = "https://example.org/nc/issues"' in for_index().addresses(
        "https://example.org/nc", "v1"
    )
