"""asv's pages of `benchmarks/history` that load nothing from the web, and open from a folder too.

asv's own pages load nine files from other sites. Here npm fetches these libraries, at versions and
with hashes that stand below, and the pages load them from beside. Their figures come from a script
that is beside them too, because browsers give pages of a folder no other files.
"""

import hashlib
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Annotated

import typer

ROOT = Path(__file__).resolve().parents[1]
FETCHED = ROOT / ".asv" / "npm"  # kept, so that a second build needs no web
HISTORY = ROOT / "benchmarks" / "history"
PAGES = ROOT / "build" / "history"

# sha256 of npm's archives.
ARCHIVES = {
    "blueimp-md5-2.19.0": "0fff5798c7733b21f3e4c0de69ccba12af266e0f01c3e3a41051c0e49a655512",
    "bootstrap-3.1.1": "23b27da4dd80b8fbe8972ac4be87037627e007ad5dd1edb27435844f0a4646a0",
    "flot-0.8.3": "5e4cea78a9efa2d3dbba363ac76c688951e6c638ee916883c36e23516208b1ed",
    "flot-orderbars-1.0.0": "e5523ee7cca778f194b34fc31afb6dda40bf1557e6669fda4730c29f53e87101",
    "jquery-3.3.1": "2c7c70a1e796c1568ff05d45a8cb2da2a0fc6e37426c65e4eef6ee55e217933e",
    "stupid-table-plugin-1.1.3": "1186089584b7c2f7fec9ad4232e9aa1adbfea273eaa233b713beb8c2c916b4ac",
}

# What asv's page loads from the web, and where the archives have it. npm has flot as it was
# written, and of stupidtable a later version alone, which does what asv asks for.
CDNJS, JSDELIVR = "https://cdnjs.cloudflare.com/ajax/libs", "https://cdn.jsdelivr.net/npm"
FROM_THE_WEB = {
    "https://code.jquery.com/jquery-3.3.1.min.js": "jquery-3.3.1/dist/jquery.min.js",
    f"{CDNJS}/flot/0.8.3/jquery.flot.min.js": "flot-0.8.3/jquery.flot.js",
    f"{CDNJS}/flot/0.8.3/jquery.flot.time.min.js": "flot-0.8.3/jquery.flot.time.js",
    f"{CDNJS}/flot/0.8.3/jquery.flot.selection.min.js": "flot-0.8.3/jquery.flot.selection.js",
    f"{CDNJS}/flot/0.8.3/jquery.flot.categories.min.js": "flot-0.8.3/jquery.flot.categories.js",
    f"{CDNJS}/stupidtable/1.0.1/stupidtable.min.js": "stupid-table-plugin-1.1.3/stupidtable.min.js",
    f"{CDNJS}/blueimp-md5/2.19.0/js/md5.min.js": "blueimp-md5-2.19.0/js/md5.min.js",
    f"{JSDELIVR}/flot-orderbars@1.0.0/js/jquery.flot.orderBars.js": (
        "flot-orderbars-1.0.0/js/jquery.flot.orderBars.js"
    ),
    f"{JSDELIVR}/bootstrap@3.1.1/dist/js/bootstrap.min.js": (
        "bootstrap-3.1.1/dist/js/bootstrap.min.js"
    ),
    f"{JSDELIVR}/bootstrap@3.1.1/dist/css/bootstrap.min.css": (
        "bootstrap-3.1.1/dist/css/bootstrap.min.css"
    ),
}

# An element of the page that loads from the web: a script, or a style sheet.
LOADS = re.compile(r'(<(?:script|link)\b[^>]*?\b(?:src|href)=")(https?:[^"]*)("[^>]*>)')
ONLY_ON_THE_WEB = re.compile(r' (?:integrity|crossorigin|referrerpolicy|onerror)="[^"]*"')

# What asv would ask a server for comes from this object: later, as from a server.
FIGURES = """\
const FIGURES = %s;

$.ajaxTransport("+json", function (options) {
    const path = decodeURI(options.url.split("?")[0]);
    const answer = path in FIGURES ? [200, "OK", {json: FIGURES[path]}] : [404, "absent"];
    return {send: (_, done) => setTimeout(() => done(...answer)), abort: () => {}};
});
"""

# The list of benchmarks marks what grew as worse; GFLOP/s that grew are better.
MARKS = "if (change > 5) {"
MARKS_BY_UNIT = f'if (unit == "GFLOP/s") change = -change;\n                {MARKS}'


class UnavailableError(Exception):
    """Something outside this repository is missing: asv, the commits, or npm and its registry."""


def run(command: list[str], what: str) -> None:
    """Run a command of others in the repository.

    Parameters
    ----------
    command : list of str
        The program and its arguments.
    what : str
        What it was to do, for the message.

    Raises
    ------
    UnavailableError
        It is missing, failed, or took minutes.
    """
    try:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=180, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnavailableError(f"{what}: {error}") from error
    if done.returncode:
        said = (done.stdout + done.stderr).splitlines()
        why = next((line for line in said if "Error" in line), f"it ended with {done.returncode}")
        raise UnavailableError(f"{what}: {why}")


def fetch() -> None:
    """Fetch the archives of npm that are not there, and check the hashes of all."""
    FETCHED.mkdir(parents=True, exist_ok=True)
    paths = {archive: FETCHED / f"{archive}.tgz" for archive in ARCHIVES}
    missing = [archive for archive, path in paths.items() if not path.exists()]
    if missing:
        packages = ["@".join(archive.rsplit("-", 1)) for archive in missing]
        command = ["npm", "pack", "--pack-destination", str(FETCHED), "--fetch-retries=1"]
        run([*command, *packages], "npm did not fetch asv's libraries")
    for archive, path in paths.items():
        if hashlib.sha256(path.read_bytes()).hexdigest() != ARCHIVES[archive]:
            path.unlink()
            raise ValueError(f"npm's {archive} has another hash than ARCHIVES says")


def load_from_beside(folder: Path) -> None:
    """Put what asv's page loads from the web beside it, and have it load that; it was fetched."""

    def beside(element: re.Match[str]) -> str:
        start, address, end = element.groups()
        if address not in FROM_THE_WEB:
            raise ValueError(f"asv's page loads {address}, for which FROM_THE_WEB has no file")
        place = Path(FROM_THE_WEB[address])
        with tarfile.open(FETCHED / f"{place.parts[0]}.tgz") as archive:
            file = archive.extractfile("/".join(["package", *place.parts[1:]]))
            assert file is not None
            (folder / place.name).write_bytes(file.read())
        return ONLY_ON_THE_WEB.sub("", start + place.name + end)

    page = folder / "index.html"
    page.write_text(LOADS.sub(beside, page.read_text("utf-8")), "utf-8")


def replace_once(path: Path, old: str, new: str) -> None:
    """Replace text that a file of asv has once; another version of asv may not."""
    text = path.read_text("utf-8")
    if text.count(old) != 1:
        raise ValueError(f"asv's {path.name} has {old!r} {text.count(old)} times, and not once")
    path.write_text(text.replace(old, new), "utf-8")


def move_figures_into_a_script(folder: Path, commits: str) -> None:
    """Replace the JSON files, which pages of a folder cannot ask for, by one script."""
    figures = {}
    for file in sorted(folder.rglob("*.json")):
        figures[file.relative_to(folder).as_posix()] = json.loads(file.read_text("utf-8"))
    shutil.rmtree(folder / "graphs")  # the rest, of a few kilobytes, harms nobody
    index = figures["index.json"]
    index["show_commit_url"] = commits
    # The grid would have a white field for each of the others.
    index["benchmarks"] = {
        name: benchmark
        for name, benchmark in index["benchmarks"].items()
        if f"graphs/summary/{name}.json" in figures
    }
    (folder / "figures.js").write_text(FIGURES % json.dumps(figures), "utf-8")
    end = "</head>"
    replace_once(folder / "index.html", end, f'  <script src="figures.js"></script>\n  {end}')


def publish(folder: Path, commits: str = "#") -> None:
    """Build the pages.

    Parameters
    ----------
    folder : Path
        Where they go, all or none. What is there is removed.
    commits : str
        What stands before the hash in the address of a commit.

    Raises
    ------
    UnavailableError
        asv, the commits of the history, or npm and its registry are missing.
    ValueError
        asv's pages, or what npm fetched, are not those that this module knows.
    """
    shutil.rmtree(folder, ignore_errors=True)
    fetch()
    with tempfile.TemporaryDirectory() as made:
        pages = Path(made, "pages")
        command = [sys.executable, "-m", "asv", "publish", "--no-pull", "--html-dir", str(pages)]
        run(command, "asv did not publish the history")
        load_from_beside(pages)
        move_figures_into_a_script(pages, commits)
        replace_once(pages / "summarylist.js", MARKS, MARKS_BY_UNIT)
        shutil.copytree(pages, folder)


def main(
    folder: Annotated[Path, typer.Argument(help="Where the pages go.")] = PAGES,
) -> None:
    """Build asv's pages of the kept results, without anything from the web in them."""
    try:
        publish(folder)
    except UnavailableError as error:
        raise SystemExit(str(error)) from error
    print(f"open {folder / 'index.html'}")


if __name__ == "__main__":
    typer.run(main)
