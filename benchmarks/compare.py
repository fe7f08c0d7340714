"""Time numbaconv and other libraries side by side: ``python benchmarks/compare.py --help``."""

import datetime
import importlib.metadata
import json
import math
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

if __name__ == "__main__":  # as a script, not as a module of the package `benchmarks`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

from benchmarks.lib import report
from benchmarks.lib.layers import TABLES, add_table, select
from benchmarks.lib.machine import describe
from benchmarks.lib.results import Results
from benchmarks.lib.rivals import OURS, RIVALS
from benchmarks.lib.worker import Job

ROOT = Path(__file__).resolve().parents[1]
THREAD_VARIABLES = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
PACKAGES = (
    "numbaconv",
    "torch",
    "onnxruntime",
    "opencv-python",
    "opencv-python-headless",
    "scipy",
)


def answers(job: Job) -> Iterator[dict[str, Any]]:
    """Run a worker and pass on its answers as they come; the last one tells of a crash."""
    command = [sys.executable, "-m", "benchmarks.lib.worker"]
    environment = os.environ | dict.fromkeys(THREAD_VARIABLES, str(job.threads))
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
        ) as process,
    ):
        assert process.stdin
        assert process.stdout
        with process.stdin:
            json.dump(job._asdict(), process.stdin)
        yield from (json.loads(line) for line in process.stdout if line.startswith("{"))
        if process.wait():
            errors.seek(0)
            reason = (errors.read().strip().splitlines() or ["no message"])[-1]
            yield {"crashed": f"worker ended with {process.returncode}: {reason}"}


def measure(results: Results, jobs: list[Job], progress: Progress) -> None:
    """Run the jobs in turn, again in each pass, and enter the medians over the passes.

    Parameters
    ----------
    results : Results
        Is filled.
    jobs : list of Job
        The reference job, which runs once, and then those of each pass.
    progress : Progress
        Gets a bar that moves with every row.
    """
    turns = jobs[:1] + jobs[1:] * results.passes
    bar = progress.add_task("", total=sum(len(job.rows) for job in turns))
    seconds: dict[str, Any] = defaultdict(lambda: defaultdict(list))
    limits: dict[str, list[float]] = defaultdict(list)
    failures: dict[str, dict[str, str]] = defaultdict(dict)
    absent: set[str] = set()
    for done, job in enumerate(turns):
        if job.task not in absent:
            for answer in answers(job):
                row = answer.get("row", "")
                progress.update(bar, description=f"{job.task} {row}", advance=1 if row else 0)
                if "absent" in answer:
                    absent.add(job.task)
                    progress.console.print(f"{job.task}: skipped ({answer['absent']})")
                elif "fma" in answer:
                    for name, value in answer.items():
                        limits[name].append(value)
                elif "seconds" in answer:
                    seconds[job.task][row].append(answer["seconds"])
                elif reason := answer.get("failed") or answer.get("crashed"):
                    failures[job.task][row or "-"] = reason
        progress.update(bar, completed=sum(len(job.rows) for job in turns[: done + 1]))
    results.limits = {name: statistics.median(values) for name, values in limits.items()}
    results.failures = {name: dict(rows) for name, rows in failures.items()}
    for name, rows in seconds.items():
        results.seconds[name] = {row: statistics.median(times) for row, times in rows.items()}
        results.spread[name] = {row: max(times) / min(times) for row, times in rows.items()}


def versions() -> dict[str, str]:
    """Look up the versions of what is installed of the packages that are compared."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def main(
    rows: Annotated[str, typer.Option(help="Rows by id, such as R3,V1.")] = "",
    kinds: Annotated[str, typer.Option(help="Rows by kind, such as R,V.")] = "",
    table: Annotated[Path | None, typer.Option(help="Rows of a table of your own.")] = None,
    rivals: Annotated[str, typer.Option(help=f"Some of {', '.join(RIVALS | OURS)}.")] = "",
    threads: Annotated[int, typer.Option(min=1)] = os.cpu_count() or 1,
    passes: Annotated[int, typer.Option(min=1, help="Turns that each library gets.")] = 3,
    seconds: Annotated[float, typer.Option(help="Time for each row in each pass.")] = 0.25,
    dtype: Annotated[str, typer.Option(help="float32 or float64.")] = "float32",
    cpu: Annotated[bool, typer.Option(help="CPU time of one thread, the least of calls.")] = False,
    most: Annotated[float, typer.Option(help="Leave out rows of more GFLOP.")] = math.inf,
    backward: Annotated[bool, typer.Option(help="Both gradients of each row instead.")] = False,
    beside: Annotated[bool, typer.Option(help="With --backward: the rows themselves too.")] = False,
    quick: Annotated[bool, typer.Option(help="One short pass: a rough idea.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Write a picture.")] = None,
    distribution: Annotated[
        Path | None, typer.Option(help="Write a picture of all ratios to the best, in order.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all figures.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write the tables.")] = None,
    baseline: Annotated[Path | None, typer.Option(help="Compare with an earlier --json.")] = None,
) -> None:
    """Time convolutions in numbaconv and in the other libraries that are installed.

    Every library runs in processes of its own, in turn with the others, and has its result checked
    before it is timed. Ends with 1 if numbaconv failed or gave a wrong result anywhere.
    """
    known = RIVALS | OURS
    names = _split(rivals) or list(known)
    if unknown := set(names) - known.keys():
        raise typer.BadParameter(f"no such library: {', '.join(sorted(unknown))}")
    if dtype not in ("float32", "float64"):
        raise typer.BadParameter(f"dtype is float32 or float64, not {dtype}")
    if table and kinds:
        raise typer.BadParameter("--kinds is of the rows in this folder, --table of others")
    try:
        own = add_table(table) if table else []
        chosen = _split(rows) or own, _split(kinds)
        picked = [*(select(*chosen) if backward and beside else ()), *select(*chosen, backward)]
        ids = [layer.id for layer in picked if layer.flops <= most * 1e9]
    except (OSError, ValueError) as error:
        raise typer.BadParameter(str(error)) from error
    threads = 1 if cpu else threads
    if quick:
        passes, seconds = 1, 0.05

    console = Console(width=None if sys.stdout.isatty() else 160)
    earlier = Results.load(baseline) if baseline else None
    command = shlex.join(["python", "benchmarks/compare.py", *sys.argv[1:]])
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else math.nan
    date = datetime.date.today().isoformat()
    if load > 0.5 and not cpu:
        console.print(f"[yellow]The load average is {load:.1f}: the figures will be poor.")
    results = Results(command, date, describe(), threads, dtype, passes, load)
    results.versions = versions()
    columns = (*Progress.get_default_columns()[:1], BarColumn(), MofNCompleteColumn())
    with (
        tempfile.TemporaryDirectory() as folder,
        Progress(*columns, TimeElapsedColumn(), console=console) as progress,
    ):
        more = str(table.resolve()) if table else ""
        tasks = ("reference", *names)
        jobs = [Job(task, ids, folder, threads, seconds, dtype, more, cpu) for task in tasks]
        measure(results, [*jobs, jobs[0]._replace(task="machine", rows=[])], progress)

    wide = console.width >= 150
    ours = table is None or table.resolve().parent == TABLES  # the targets are of these rows
    targets = [report.targets(results)] if ours else []
    for sheet in (report.speeds(results, earlier, names=wide), *targets):
        if sheet.lines:
            console.print(report.terminal(sheet))
    for line in report.circumstances(results):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if json_file:
        results.save(json_file)
    if markdown:
        sheets = [report.speeds(results, earlier), *targets]
        markdown.write_text(report.markdown(results, sheets))
    if plot:
        report.plot(results, plot)
    if distribution:
        report.distribution(results, distribution)
    raise typer.Exit(int(any(name in OURS for name in results.failures)))


if __name__ == "__main__":
    typer.run(main)
