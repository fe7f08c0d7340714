"""The site: ``python -m sphinx -W --keep-going -c docs . build/site`` from the clone.

The pages are those that are read on GitHub, where they are: Markdown in docs/, and the few beside
the code. So the clone itself is the source folder. Links to code lead to pages of source here.
"""

from __future__ import annotations

import html
import os
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import TextLexer, get_lexer_for_filename
from pygments.util import ClassNotFound
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util.logging import getLogger
from sphinx_gallery.directives import imgsgnode

import numbaconv

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import history_site  # noqa: E402 (after its path)

SHORT = "docs/short"  # the pages of short examples, which the build writes

project = "numbaconv"
author = "numbaconv developers"
version = release = numbaconv.__version__
root_doc = "docs/index"
include_patterns = ["docs/**.md", f"{SHORT}/**.rst", "*.md", "tests/*.md", "benchmarks/*.md"]
exclude_patterns = [".*", "build", "numbaconv", "README.md"]

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]

# --- Markdown ---------------------------------------------------------------------------------

myst_heading_anchors = 4  # the anchors that GitHub gives
myst_enable_extensions = ["colon_fence"]
highlight_language = "python"
copybutton_prompt_text = ">>> |... |\\$ "
copybutton_prompt_is_regexp = True

# --- Pictures, on light and dark pages --------------------------------------------------------

# Lines, cells and text on white, by the names of their files: those of docs/img, and of short
# examples. On dark pages the style sheet turns them into light on dark.
DRAWINGS = re.compile(
    r"(commits|crossover|ladder|learning|lowerings|patches|polynomials|receptive"
    r"|spectra|speed|sweep|tile)\.png"
    r"|(sphx_glr_)?plot_(activations|game_of_life|learned_edge|missing_values|padding_modes|stream)"
    r"(_\w+\.png|\.py)"
)


def draw_for_any_page(_: dict[str, Any], example: str) -> None:
    """Have short examples draw photographs and maps on nothing, with texts that both pages show."""
    if DRAWINGS.fullmatch(Path(example).name):
        return
    from matplotlib import rcParams

    rcParams["figure.facecolor"] = "none"
    rcParams["text.color"] = "#7b7b7b"  # as far from white as from the dark of the theme


# --- The gallery ------------------------------------------------------------------------------

# The short examples run as the site is built. The commands beside them need minutes, and data of
# others: docs/gallery.md shows the pictures that they save.
sphinx_gallery_conf = {
    "examples_dirs": "examples/short",
    "gallery_dirs": SHORT,
    "backreferences_dir": f"{SHORT}/of",
    "doc_module": ("numbaconv",),
    "reference_url": {"numbaconv": None},  # names in the code lead to the reference
    "abort_on_example_error": True,
    "download_all_examples": False,
    "remove_config_comments": True,
    "reset_modules": ("matplotlib", draw_for_any_page),
    "show_memory": False,
    "show_signature": False,
}
suppress_warnings = ["config.cache"]  # the order of a gallery is a class

# --- The reference, from the docstrings -------------------------------------------------------

default_role = "py:obj"  # `conv` in a docstring leads to it
autosummary_generate = False  # the pages of docs/api name what they hold
autodoc_typehints = "none"  # numpydoc's Parameters say more than Any
numpydoc_show_class_members = False
numpydoc_validation_checks = {
    "all",
    "ES01",  # most need no extended summary
    "EX01",  # functions of a family share the examples of one
    "SA01",  # the pages of the reference put together what belongs together
    "GL08",  # what is public and has no docstring fails another test
    "PR01",  # the arguments of classes that are made by functions
    "PR04",  # parameters that are as elsewhere are listed together, without their types
    "SS06",  # ruff checks the first line
}

# Links to the references of others need the web, and a build without it should not fail:
# ``-t web`` turns them on.
if tags.has("web"):  # type: ignore[name-defined]  # noqa: F821 (Sphinx gives it)
    intersphinx_mapping = {
        "numpy": ("https://numpy.org/doc/stable/", None),
        "scipy": ("https://docs.scipy.org/doc/scipy/", None),
        "numba": ("https://numba.readthedocs.io/en/stable/", None),
        "python": ("https://docs.python.org/3/", None),
    }

# --- How it looks -----------------------------------------------------------------------------

html_theme = "pydata_sphinx_theme"
html_title = "numbaconv"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_extra_path = ["_root"]  # index.html, which leads to the home page
html_copy_source = html_show_sourcelink = False
html_theme_options = {
    "logo": {"text": "numbaconv"},
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "header_links_before_dropdown": 7,
    "footer_start": ["copyright"],
    "footer_end": [],
}
html_sidebars = {"docs/index": [], "docs/lesson": [], "docs/gallery": [], "source/**": []}
copyright = author  # noqa: A001 (Sphinx's name for it)

# Pages link to the repository, and to themselves there, if pyproject.toml names its address.
# .ci/for_index.py names that of the repository in which a workflow runs.
metadata = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
if address := metadata.get("urls", {}).get("Source"):
    html_theme_options["icon_links"] = [
        {"name": "Source", "url": address, "icon": "fa-solid fa-code-branch"}
    ]
    html_theme_options["use_edit_page_button"] = True
    html_theme_options["secondary_sidebar_items"] = {
        "**": ["page-toc", "edit-this-page"],
        f"{SHORT}/**": ["page-toc"],  # written by the build
    }
    html_context = {"edit_page_url_template": address + "/edit/main/{{ file_name }}"}

# --- The history of speed, as asv's pages ------------------------------------------------------


def publish_history(app: Sphinx) -> None:
    """Build asv's pages; where something outside is missing, the site goes without them."""
    if app.builder.name != "html":
        return
    try:
        history_site.publish(Path(app.outdir, "history"), f"{address}/commit/" if address else "#")
    except history_site.UnavailableError as error:
        getLogger(__name__).info("no pages of asv: %s", error)


def history_page(app: Sphinx) -> str | None:
    """The name of asv's first page, if there is one; who links to it is read anew with it."""
    file = Path(app.outdir, "history", "index.html")
    app.env.note_dependency(str(file))
    return "history/index" if file.exists() else None


# --- Source, as pages -------------------------------------------------------------------------


def source_page(path: Path) -> str | None:
    """The name of the page that shows a file; that of a package's docstring for its folder."""
    if path.is_dir():
        path = path / "__init__.py"
    if not path.is_file() or not path.is_relative_to(ROOT):
        return None
    return f"source/{path.relative_to(ROOT).as_posix()}"


def page_of(app: Sphinx, path: Path) -> str | None:
    """The page of a file or folder: that of its source, and for the history of speed asv's."""
    if path == history_site.HISTORY:
        return history_page(app)
    page = source_page(path)
    if page is not None:
        app.env.source_pages.add(page)
    return page


def link_files(app: Sphinx, doctree: nodes.document) -> None:
    """Replace links to files, which MyST takes for downloads, and to folders, for pages."""
    docname = app.env.docname
    if docname.startswith(SHORT):
        return  # pages of the gallery: they offer their code for download
    links = [*doctree.findall(addnodes.download_reference), *doctree.findall(addnodes.pending_xref)]
    for node in links:
        path = Path(app.srcdir, docname).parent / node["reftarget"].partition("#")[0]
        is_folder = path.is_dir() and node["reftarget"].startswith(".")
        if isinstance(node, addnodes.pending_xref) and not is_folder:
            continue  # to a page or a name: Sphinx finds it, or reports it
        text = node.children[0]
        page = page_of(app, path.resolve())
        if page is None:
            node.replace_self(text)
            continue
        uri = app.builder.get_relative_uri(docname, page)
        node.replace_self(nodes.reference("", "", text, refuri=uri, internal=True))


def trim_code(app: Sphinx, doctree: nodes.document) -> None:
    """Take away the empty line at the end of examples, which doctest needs there."""
    for node in doctree.findall(nodes.literal_block):
        node.rawsource = node.astext().rstrip("\n")  # what differs from it is not coloured
        node.children = [nodes.Text(node.rawsource)]


def title_of(example: str) -> str:
    """The title of a short example, which is the first line of its text."""
    return (ROOT / "examples" / "short" / f"{example}.py").read_text("utf-8").splitlines()[1]


def mark_pictures(app: Sphinx, doctree: nodes.document) -> None:
    """Keep the theme from changing pictures on dark pages, and have drawings turned there."""

    def classes(node: nodes.Element) -> list[str]:
        is_drawing = DRAWINGS.fullmatch(Path(node["uri"]).name)
        return ["dark-light", "drawing"] if is_drawing else ["dark-light"]

    for node in doctree.findall(nodes.image):
        node["classes"] += classes(node)
    for node in doctree.findall(imgsgnode):
        node["class"] = [" ".join([*node["class"], *classes(node)])]


def describe_pictures(app: Sphinx, doctree: nodes.document) -> None:
    """Give pictures of the gallery a text: the title of the example, and those of its axes."""
    for node in doctree.findall(nodes.image):
        if found := re.search(r"sphx_glr_(\w+)_thumb", node["uri"]):
            node["alt"] = title_of(found[1])
    for node in doctree.findall(imgsgnode):
        example = Path(app.env.docname).name
        title, axes = title_of(example), node["alt"].replace('"', "'")
        has_titles = axes != example.replace("_", " ")  # else it is the name of the file
        node["alt"] = html.escape(f"{title}: {axes}" if has_titles else title)


def name_home(app: Sphinx, page: str, _: str, context: dict[str, Any], *__: Any) -> None:
    """Take the name of the site from the title of its home page, which is the same."""
    if page == root_doc:
        context["docstitle"] = ""


def source_pages(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Make a page of each file that some page links to."""
    for page in sorted(app.env.source_pages):
        name = page.removeprefix("source/")
        text = (ROOT / name).read_text("utf-8")
        try:
            lexer = get_lexer_for_filename(name)
        except ClassNotFound:
            lexer = TextLexer()
        body = highlight(text, lexer, HtmlFormatter(linenos="inline", wrapcode=True))
        yield page, {"title": name, "body": f"<h1>{name}</h1>{body}"}, "page.html"


def remember_source_pages(app: Sphinx, *_: Any) -> None:
    """Keep the names of pages of source from build to build, with the links to them."""
    if not hasattr(app.env, "source_pages"):
        app.env.source_pages = set()


def setup(app: Sphinx) -> None:
    """Connect what is above."""
    os.chdir(ROOT)
    app.connect("builder-inited", publish_history)
    app.connect("env-before-read-docs", remember_source_pages)
    app.connect("doctree-read", link_files, priority=100)  # before files are collected
    app.connect("doctree-read", trim_code)
    app.connect("doctree-read", mark_pictures)
    app.connect("doctree-read", describe_pictures)
    app.connect("html-page-context", name_home)
    app.connect("html-collect-pages", source_pages)
