"""Prepare a checkout for a package index: ``python .ci/for_index.py ADDRESS TAG``.

An index shows the README away from the files that it links to, and the address of the repository is
known where a release is made, not here. So the release makes the README's links absolute, pictures
too, and gives the package its addresses, before it builds.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
RELATIVE_LINK = re.compile(r"(!?)(\[[^\]]*\])\((?!https?:|#)([^)\s]+)\)")


def absolute(text: str, address: str, tag: str) -> str:
    """Make the relative links of a text absolute: pages of files, and pictures as they are."""

    def whole(match: re.Match[str]) -> str:
        picture, label, target = match.groups()
        kind = "raw" if picture else "blob"
        return f"{picture}{label}({address}/{kind}/{tag}/{target})"

    return RELATIVE_LINK.sub(whole, text)


def addresses(address: str, tag: str) -> str:
    """The addresses of the package, as a table of pyproject.toml."""
    return (
        "[project.urls]\n"
        f'Source = "{address}"\n'
        f'Documentation = "{address}/blob/{tag}/docs/index.md"\n'
        f'Changelog = "{address}/blob/{tag}/CHANGELOG.md"\n'
        f'Issues = "{address}/issues"\n\n'
    )


def main(address: str, tag: str) -> None:
    """Change README.md and pyproject.toml."""
    readme, project = ROOT / "README.md", ROOT / "pyproject.toml"
    readme.write_text(absolute(readme.read_text("utf-8"), address, tag), "utf-8")
    before = "[project.optional-dependencies]\n"
    text = project.read_text("utf-8")
    if text.count(before) != 1:
        raise SystemExit(f"pyproject.toml has no single {before.strip()}")
    project.write_text(text.replace(before, addresses(address, tag) + before), "utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
