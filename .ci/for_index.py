"""Prepare a checkout for a package index and the site: ``python .ci/for_index.py TAG [ADDRESS]``.

The address of the repository stands in one place: `Source` of `[project.urls]` in pyproject.toml.
Where nobody has named one there, it is the argument: a workflow knows where it runs. From it follow

- the other addresses of the package's metadata;
- the README's links: an index shows it away from the files that it links to, and from its pictures;
- `repository-code` of CITATION.cff;
- the links for editing a page, which docs/conf.py makes of the table.
"""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
RELATIVE_LINK = re.compile(r"(!?)(\[[^\]]*\])\((?!https?:|#)([^)\s]+)\)")
TABLE = re.compile(r"^\[project\.urls\]\n(?:(?!\[).*\n)*", re.MULTILINE)
BEHIND_IT = "[project.optional-dependencies]\n"


def absolute(text: str, address: str, tag: str) -> str:
    """Make the relative links of a text absolute: pages of files, and pictures as they are."""

    def whole(match: re.Match[str]) -> str:
        picture, label, target = match.groups()
        kind = "raw" if picture else "blob"
        return f"{picture}{label}({address}/{kind}/{tag}/{target})"

    return RELATIVE_LINK.sub(whole, text)


def named_addresses(project: str) -> dict[str, str]:
    """The addresses that pyproject.toml names."""
    named: dict[str, str] = tomllib.loads(project)["project"].get("urls", {})
    return named


def with_addresses(project: str, address: str, tag: str) -> str:
    """Add the addresses that pyproject.toml does not name itself."""
    made = {
        "Source": address,
        "Documentation": f"{address}/blob/{tag}/docs/index.md",
        "Changelog": f"{address}/blob/{tag}/CHANGELOG.md",
        "Issues": f"{address}/issues",
    }
    lines = [f'{name} = "{target}"\n' for name, target in (made | named_addresses(project)).items()]
    project = TABLE.sub("", project)
    if project.count(BEHIND_IT) != 1:
        raise SystemExit(f"pyproject.toml has no single {BEHIND_IT.strip()}")
    return project.replace(BEHIND_IT, "".join(["[project.urls]\n", *lines, "\n", BEHIND_IT]))


def cited(citation: str, address: str) -> str:
    """Add the address to CITATION.cff, if it has none."""
    if re.search("^repository-code:", citation, re.MULTILINE):
        return citation
    return f'{citation}repository-code: "{address}"\n'


def main(tag: str, given: str | None = None) -> None:
    """Change README.md, pyproject.toml and CITATION.cff."""
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    address = named_addresses(project).get("Source", given)
    if not address:
        raise SystemExit(
            "Where is the repository? Write Source under [project.urls] in pyproject.toml,"
            " or give the address behind the tag."
        )
    address = address.rstrip("/").removesuffix(".git")
    for name, changed in (
        ("README.md", lambda text: absolute(text, address, tag)),
        ("pyproject.toml", lambda text: with_addresses(text, address, tag)),
        ("CITATION.cff", lambda text: cited(text, address)),
    ):
        file = ROOT / name
        file.write_text(changed(file.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
