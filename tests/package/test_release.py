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


def test_links_of_an_index_are_absolute():
    text = "![a](docs/img/a.png) [b](docs/b.md#c) [d](https://example.com/d) [e](#e)"
    made = for_index().absolute(text, "https://example.org/nc", "v1")
    assert made == (
        "![a](https://example.org/nc/raw/v1/docs/img/a.png)"
        " [b](https://example.org/nc/blob/v1/docs/b.md#c) [d](https://example.com/d) [e](#e)"
    )


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, for a folder with what it changes but pyproject.toml."""
    (tmp_path / "README.md").write_text((ROOT / "README.md").read_text("utf-8"), "utf-8")
    (tmp_path / "CITATION.cff").write_text("license: MIT\n", "utf-8")
    script = for_index()
    monkeypatch.setattr(script, "ROOT", tmp_path)
    return script


UNNAMED = '[project]\nname = "a"\n\n[project.optional-dependencies]\nb = []\n'
NAMED = UNNAMED.replace(
    "[project.opt",
    '[project.urls]\nSource = "https://example.org/own"\nHomepage = "https://own.example"\n'
    'Documentation = "https://own.example/docs"\n\n[project.opt',
)


@pytest.mark.parametrize(
    ("project", "address", "named"),
    [
        (UNNAMED, "https://example.org/nc", {}),
        (NAMED, "https://example.org/own", tomllib.loads(NAMED)["project"].get("urls", {})),
    ],
)
def test_all_addresses_follow_from_one(
    project: str, address: str, named: dict[str, str], script: ModuleType, tmp_path: Path
):
    (tmp_path / "pyproject.toml").write_text(project, "utf-8")
    script.main("v1", "https://example.org/nc.git")
    texts = {path.name: path.read_text("utf-8") for path in tmp_path.iterdir()}
    made = tomllib.loads(texts["pyproject.toml"])["project"]
    assert (
        made["urls"]
        == {
            "Source": address,
            "Documentation": f"{address}/blob/v1/docs/index.md",
            "Changelog": f"{address}/blob/v1/CHANGELOG.md",
            "Issues": f"{address}/issues",
        }
        | named
    )
    assert made["optional-dependencies"] == {"b": []}
    links = re.findall(r"\]\(([^)]*)\)", texts["README.md"])
    assert [link for link in links if not link.startswith("https://")] == []
    assert texts["CITATION.cff"] == f'license: MIT\nrepository-code: "{address}"\n'
    script.main("v1")
    assert {path.name: path.read_text("utf-8") for path in tmp_path.iterdir()} == texts


def test_says_where_an_address_is_missing(script: ModuleType, tmp_path: Path):
    (tmp_path / "pyproject.toml").write_text(UNNAMED, "utf-8")
    with pytest.raises(SystemExit, match=r"Source under \[project.urls\] in pyproject.toml"):
        script.main("v1")


def test_pages_link_to_an_address_that_is_named(tmp_path: Path):
    pytest.importorskip("sphinx_gallery")
    from sphinx.config import eval_config_file
    from sphinx.util.tags import Tags

    (tmp_path / "docs").mkdir()
    configuration = tmp_path / "docs" / "conf.py"
    configuration.write_text((ROOT / "docs" / "conf.py").read_text("utf-8"), "utf-8")

    def settings(project: str) -> dict[str, Any]:
        (tmp_path / "pyproject.toml").write_text(project, "utf-8")
        return eval_config_file(configuration, Tags())

    own = settings(NAMED)
    assert own["html_theme_options"]["use_edit_page_button"]
    assert own["html_context"] == {
        "edit_page_url_template": "https://example.org/own/edit/main/{{ file_name }}"
    }
    assert "use_edit_page_button" not in settings(UNNAMED)["html_theme_options"]


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
