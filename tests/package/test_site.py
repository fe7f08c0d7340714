"""The site builds without a warning, has every page, and its reference every public name."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from urllib.parse import quote

import pytest

import numbaconv as nc
from tests.conftest import ROOT

pytest.importorskip("sphinx")
pytest.importorskip("myst_parser")
pytest.importorskip("pydata_sphinx_theme")
pytest.importorskip("sphinx_gallery")

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)

PAGES = sorted(
    page.relative_to(ROOT)
    for page in [
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / name for name in ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")),
        *(ROOT / name / "README.md" for name in ("benchmarks", "tests")),
    ]
)


def public_names() -> list[str]:
    """Every public name, with those of public modules."""
    found = []
    for name in nc.__all__:
        found.append(f"numbaconv.{name}")
        value = getattr(nc, name)
        if isinstance(value, ModuleType):
            found += [f"numbaconv.{name}.{inner}" for inner in value.__all__]
    return found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-c", "docs"]
    done = subprocess.run(
        [*command, ".", str(folder)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_has_every_page(site: Path):
    assert [page for page in PAGES if not (site / page.with_suffix(".html")).exists()] == []
    assert "docs/index.html" in (site / "index.html").read_text("utf-8")


def test_reference_has_every_public_name(site: Path):
    from sphinx.util.inventory import InventoryFile

    inventory = InventoryFile.loads((site / "objects.inv").read_bytes(), uri="")
    listed = {name for kind in inventory.data for name in inventory.data[kind]}
    assert sorted(set(public_names()) - listed) == []


def test_links_to_code_lead_to_its_source(site: Path):
    layout = (site / "docs" / "layout.html").read_text("utf-8")
    assert 'href="../source/numbaconv/cpu/job.py.html"' in layout
    assert 'href="../source/numbaconv/cpu/__init__.py.html"' in layout  # the folder
    assert "SHAPE_SIZE" in (site / "source" / "numbaconv" / "cpu" / "job.py.html").read_text(
        "utf-8"
    )
    downloads = {file.suffix for file in (site / "_downloads").rglob("*.*")}
    assert downloads == {".py", ".ipynb", ".zip"}  # of the gallery


def test_short_examples_ran_and_drew(site: Path):
    gallery = (site / "docs" / "gallery.html").read_text("utf-8")
    for example in (ROOT / "examples" / "short").glob("*.py"):
        assert f"short/{example.stem}.html" in gallery
        assert list((site / "_images").glob(f"sphx_glr_{example.stem}_001.png"))


def test_pictures_have_texts(site: Path):
    for page in (site / "docs").rglob("*.html"):
        assert not re.search(r'<img[^>]*alt=""', page.read_text("utf-8")), page


def test_pictures_fit_dark_pages(site: Path):
    """The theme leaves all alone, and the style sheet turns those that are drawn on white."""
    drawn = set()
    for page in (site / "docs").rglob("*.html"):
        for picture in re.findall("<img[^>]*>", page.read_text("utf-8")):
            assert "dark-light" in picture, page
            if "drawing" in picture:
                drawn |= set(re.findall(r'/(\w+)\.png"', picture))
    assert {"tile", "speed", "sphx_glr_plot_stream_001", "sphx_glr_plot_stream_thumb"} <= drawn
    assert not {"features", "deblurred", "sphx_glr_plot_edges_001"} & drawn
    assert "img.drawing" in (site / "_static" / "site.css").read_text("utf-8")


def test_anchors_of_the_indexes_are_there(site: Path):
    for index in ("genindex", "py-modindex"):
        links = re.findall(
            r'href="(docs/[^"]+)#(module-[^"]+)"', (site / f"{index}.html").read_text("utf-8")
        )
        assert links
        for page, anchor in links:
            assert f'id="{anchor}"' in (site / page).read_text("utf-8")


def test_names_in_docstrings_lead_to_the_reference(site: Path):
    assert 'As in <a class="reference internal" href="#numbaconv.conv"' in (
        site / "docs" / "api" / "convolution.html"
    ).read_text("utf-8")


def test_search_finds_names_and_words(site: Path):
    text = (site / "searchindex.js").read_text("utf-8")
    index = json.loads(text.removeprefix("Search.setIndex(").removesuffix(")"))
    names = {
        f"{module}.{entry[4] if isinstance(entry, list) else entry}"
        for module, entries in index["objects"].items()
        for entry in entries
    }
    assert sorted(set(public_names()) - names) == []
    for word, page in (("microkernel", "docs/how-it-works"), ("silhouett", "docs/lesson")):
        at = index["terms"][word]
        assert page in {index["docnames"][i] for i in ([at] if isinstance(at, int) else at)}


needs_browser = pytest.mark.skipif(BROWSER is None, reason="looks at the site with a browser")


def opened(page: str) -> str:
    """The elements of a page some seconds after a browser without a network has opened it."""
    assert BROWSER is not None
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    done = subprocess.run(
        [
            *[BROWSER, *flags, "--host-resolver-rules=MAP * ~NOTFOUND"],
            *["--virtual-time-budget=5000", "--dump-dom", page],
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout


@needs_browser
def test_browser_opens_and_searches(site: Path):
    home = (site / "docs" / "index.html").as_uri()
    assert "without a deep-learning framework" in opened(home)
    assert "api/patches.html" in opened((site / "search.html").as_uri() + "?q=im2col")


@needs_browser
@pytest.mark.parametrize(
    ("words", "page", "what"),
    [
        ("filter a photo", "docs/first-steps", "photo = rng.random"),
        ("port a torch layer", "docs/coming-from", "c.weight.detach().numpy(), c.bias"),
        ("scipy reflect", "docs/coming-from", "symmetric"),
        ("fft nan", "docs/backends", "NaN and infinity stay within their window"),
        ("train cats and dogs", "docs/lesson", "examples/cats_and_dogs.py"),
        ("matrix_zones", "docs/lowerings", "direct/matrix_zones.py"),
    ],
)
def test_a_search_finds_what_strangers_want(site: Path, words: str, page: str, what: str):
    elements = opened(f"{(site / 'search.html').as_uri()}?q={quote(words)}")
    results = elements.partition('id="search-results"')[2]
    found = list(dict.fromkeys(re.findall(r'<li[^>]*><a href="([^"?#]+)\.html', results)))
    assert page in found[:5]
    assert what in re.sub("<[^>]+>", "", (site / f"{page}.html").read_text("utf-8"))


# Says in the page what failed, what it asked the web for, and how many graphs have coloured lines.
PROBE = """<script>
const failed = [];
addEventListener("error", (e) => failed.push(e.message || e.target.src || e.target.href), true);
setTimeout(() => {
    const pixels = (c) => c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
    const coloured = (c) => pixels(c).some((red, i, all) => i % 4 == 0 && red != all[i + 2]);
    const canvases = [...document.querySelectorAll("canvas.flot-base")];
    const asked = performance.getEntriesByType("resource").map((entry) => entry.name);
    const found = {failed, asked, graphs: canvases.filter(coloured).length};
    document.documentElement.dataset.probe = btoa(JSON.stringify(found));
}, 4000);
</script>"""


@needs_browser
def test_history_opens_without_a_network(site: Path, tmp_path: Path):
    if not (site / "history").exists():
        pytest.skip("the site was built without npm, its registry or the commits")
    assert 'href="../history/index.html"' in (site / "docs" / "measurements.html").read_text()
    pages = shutil.copytree(site / "history", tmp_path / "history")
    index = pages / "index.html"
    index.write_text(index.read_text("utf-8").replace("<head>", f"<head>{PROBE}", 1), "utf-8")

    def seen(fragment: str, graphs: int) -> str:
        elements = opened(f"{index.as_uri()}#{fragment}")
        found = re.search('data-probe="([^"]+)"', elements)
        assert found is not None
        probe = json.loads(base64.b64decode(found[1]))
        assert probe == {"failed": [], "asked": [], "graphs": graphs}
        return elements

    prepared = "bench_layers.Prepared.track_gflops"
    assert f"summarygrid-{prepared}" in seen("", graphs=3)  # one for each benchmark
    assert "backend-direct; layer-R3" in seen(prepared, graphs=2)  # the commits, and all of them
    listed = seen("summarylist", graphs=0)
    changes = set(re.findall(r'<td class="change (\w+)-change".*?>([+\u2212])', listed))
    assert changes
    assert changes <= {("negative", "+"), ("positive", "\u2212")}  # "negative" is green
