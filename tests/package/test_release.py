"""What a release is made of agrees: versions, and links that lead somewhere from an index."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import numbaconv as nc
from tests.conftest import ROOT

PROJECT = (ROOT / "pyproject.toml").read_text("utf-8")
of_a_checkout = pytest.mark.skipif(
    "[project.urls]\n" in PROJECT, reason="this source archive was prepared for an index"
)


def for_index() -> ModuleType:
    spec = importlib.util.spec_from_file_location("for_index", ROOT / ".ci" / "for_index.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_versions_agree():
    assert f"\nversion: {nc.__version__}\n" in (ROOT / "CITATION.cff").read_text("utf-8")


def test_notes_of_the_version_are_there():
    assert (ROOT / "docs" / f"release-{nc.__version__}.md").exists()


@of_a_checkout
def test_links_of_an_index_are_absolute():
    text = (ROOT / "README.md").read_text("utf-8")
    made = for_index().absolute(text, "https://example.org/nc", "v1")
    targets = re.findall(r"\]\(([^)]*)\)", made)
    assert [target for target in targets if not target.startswith("https://")] == []
    assert "](https://example.org/nc/raw/v1/docs/img/features.png)" in made
    assert "](https://example.org/nc/blob/v1/docs/lowerings.md#activations)" in made
    assert "](https://creativecommons.org/licenses/by/2.0/)" in made  # as it was


@of_a_checkout
def test_addresses_are_a_table_of_the_project():
    assert PROJECT.count("[project.optional-dependencies]\n") == 1
    assert 'Issues = "https://example.org/nc/issues"' in for_index().addresses(
        "https://example.org/nc", "v1"
    )


def test_recipe_of_conda_has_the_version_and_the_requirements():
    jinja2, yaml = pytest.importorskip("jinja2"), pytest.importorskip("yaml")
    folder = ROOT / ".conda"

    # As conda-build has them.
    def load_file_data(path: str, from_recipe_dir: bool) -> Any:
        return tomllib.loads(Path(folder, path).read_text("utf-8"))

    def load_file_regex(load_file: str, regex_pattern: str, from_recipe_dir: bool) -> Any:
        return re.search(regex_pattern, Path(folder, load_file).read_text("utf-8"))

    template = jinja2.Template((folder / "meta.yaml").read_text("utf-8"))
    recipe = yaml.safe_load(
        template.render(
            load_file_data=load_file_data, load_file_regex=load_file_regex, PYTHON="python"
        )
    )
    assert recipe["package"] == {"name": "numbaconv", "version": nc.__version__}
    needs = recipe["requirements"]["run"]
    assert [each.partition(">")[0].strip() for each in needs] == ["python", "numba", "numpy"]
    assert set(needs[1:]) < set(tomllib.loads(PROJECT)["project"]["dependencies"])
    assert needs[0] == f"python {tomllib.loads(PROJECT)['project']['requires-python']}"
