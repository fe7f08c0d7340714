"""What the documentation points to is there: links, anchors, paths, modules."""

from __future__ import annotations

import importlib
import itertools
import re
from pathlib import Path

import pytest

ROOT = next(p for p in Path(__file__).parents if (p / "pyproject.toml").exists())
FOLDERS = ("numbaconv", "tests", "benchmarks", "docs", "examples")
PAGES = sorted([*ROOT.glob("*.md"), *(p for f in FOLDERS for p in (ROOT / f).rglob("*.md"))])
EVERY_PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))

FENCED = re.compile(r"^(```|~~~).*?^\1\s*$", re.MULTILINE | re.DOTALL)
INLINE_CODE = re.compile(r"`[^`]*`")
LINK = re.compile(r"\]\(\s*<?([^)>\s]+)")
FILE_NAME = re.compile(r"\[`?[\w./-]+\.md`?\]\(")
LINK_TARGET = re.compile(r"\]\([^)]*\)")
HEADING = re.compile(r"^#{1,6} +(.+?) *#*$", re.MULTILINE)
PATH = re.compile(rf"(?<![\w./~-])(?:{'|'.join(FOLDERS)})/[\w./*-]*")
SCRIPT = re.compile(r"-m ((?:tests|benchmarks|examples)(?:\.\w+)+)")
MODULE = re.compile(r"(?<![\w./@-])numbaconv(?:\.[a-z_]\w*)+")


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    found: set[str] = set()
    for heading in HEADING.findall(FENCED.sub("", text)):
        words = LINK_TARGET.sub("", heading).lower()
        anchor = name = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        for number in itertools.count(1):
            if name not in found:
                break
            name = f"{anchor}-{number}"
        found.add(name)
    return found


def leads_somewhere(link: str, text: str, page: Path) -> bool:
    """Whether a link of a page, of this text, is of the web or finds its file and anchor."""
    if re.match(r"[a-z]+:", link):
        return True
    name, _, anchor = link.partition("#")
    target = page.parent / name
    if not target.exists():
        return False
    return not anchor or anchor in anchors(target.read_text("utf-8") if name else text)


def broken_links(text: str, page: Path) -> list[str]:
    """The links of a page that lead nowhere."""
    links = LINK.findall(INLINE_CODE.sub("", FENCED.sub("", text)))
    return [link for link in links if not leads_somewhere(link, text, page)]


def missing_paths(text: str) -> list[str]:
    """The paths of the repository that a page names, in code or not, and that do not exist."""
    named = {path.rstrip(".-") for path in PATH.findall(text)}
    named |= {f"{name.replace('.', '/')}.py" for name in SCRIPT.findall(text)}
    return sorted(path for path in named if not any(ROOT.glob(path.rstrip("/"))))


def exists(name: str) -> bool:
    """Whether a dotted name is a module, or what a module has."""
    modules = name.split(".")
    for count in range(len(modules), 0, -1):
        try:
            found = importlib.import_module(".".join(modules[:count]))
        except ModuleNotFoundError as missing:
            if not str(missing.name).startswith("numbaconv"):
                return True  # it is there, and the library that it is for is not
            continue
        for attribute in modules[count:]:
            if not hasattr(found, attribute):
                return False
            found = getattr(found, attribute)
        return True
    return False


def missing_names(text: str) -> list[str]:
    """The dotted names of the package that a page names and that do not exist."""
    return sorted(name for name in set(MODULE.findall(text)) if not exists(name))


@EVERY_PAGE
def test_links_lead_somewhere(page: Path):
    assert broken_links(page.read_text("utf-8"), page) == []


@EVERY_PAGE
def test_paths_exist(page: Path):
    assert missing_paths(page.read_text("utf-8")) == []


@EVERY_PAGE
def test_modules_import(page: Path):
    assert missing_names(page.read_text("utf-8")) == []


@EVERY_PAGE
def test_links_to_pages_have_words(page: Path):
    """Not the names of their files: on the site pages have titles."""
    assert FILE_NAME.findall(FENCED.sub("", page.read_text("utf-8"))) == []


def test_every_page_of_docs_is_linked():
    """From the README or the home page, in some steps."""
    reached: set[Path] = set()
    todo = [ROOT / "README.md", ROOT / "docs" / "index.md"]
    while todo:
        page = todo.pop()
        reached.add(page)
        links = LINK.findall(FENCED.sub("", page.read_text("utf-8")))
        targets = {(page.parent / link.partition("#")[0]).resolve() for link in links}
        todo += (targets & set(PAGES)) - reached
    pages = {page for page in PAGES if page.parent.name == "docs"}
    assert pages
    assert pages <= reached


def test_decisions_are_of_what_is_in_the_code():
    """By the names of functions, constants and counts in their first column."""
    sources = sorted((ROOT / "numbaconv").rglob("*.py"))
    code = "\n".join(str(path) + path.read_text("utf-8") for path in sources)
    words = set(re.findall(r"\w+", code))
    rows = re.findall(r"^\| (`.*?) \|", (ROOT / "docs" / "decisions.md").read_text("utf-8"), re.M)
    named = {name for row in rows for name in re.findall(r"`([\w.]+)`", row)}
    assert len(named) > 100
    assert {name for name in named if not words.issuperset(name.split("."))} == set()


SOUND = """
# A heading with `code`, and more

[page](README.md), [anchor](#a-heading-with-code-and-more), [there](CONTRIBUTING.md#add-a-backend),
[web](https://example.org/none.md), `[no](link.md)`, `numbaconv/grad.py`,
`numbaconv.grad.conv2d_input`, `python numbaconv/__main__.py --all`,
`numbaconv/*.py`, numbaconv/problem/shape.py, `python -m benchmarks.compare`.

```sh
[no](link.md)
```
"""
BROKEN = """
[page](REEDME.md), [anchor](#a-heading), [there](CONTRIBUTING.md#add-a-back-end),
`numbaconv/gradd.py`, `python numbaconv/none.py --all`, `numbaconv/*.pyx`,
`numbaconv.gradd`, `numbaconv.grad.conv4d_input`, `python -m benchmarks.none --all`
"""


def test_what_is_sound_is_let_pass():
    page = ROOT / "page.md"
    assert broken_links(SOUND, page) == missing_paths(SOUND) == missing_names(SOUND) == []


def test_what_is_broken_is_found():
    links = broken_links(BROKEN, ROOT / "page.md")
    assert links == ["REEDME.md", "#a-heading", "CONTRIBUTING.md#add-a-back-end"]
    paths = ["benchmarks/none.py", "numbaconv/*.pyx", "numbaconv/gradd.py", "numbaconv/none.py"]
    assert missing_paths(BROKEN) == paths
    assert missing_names(BROKEN) == ["numbaconv.grad.conv4d_input", "numbaconv.gradd"]
