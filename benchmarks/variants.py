"""The same layers under two settings of the environment, in turn: CPU time of one thread, and bits.

    python benchmarks/variants.py NUMBACONV_BUILT_AHEAD=0 NUMBACONV_BUILT_AHEAD=1
    python benchmarks/variants.py NUMBA_CPU_NAME=haswell NUMBA_CPU_NAME=x86-64-v3
    python benchmarks/variants.py PYTHONPATH=../other PYTHONPATH=. --rows R3,M1-input --turns 15

Each setting is a process of its own. The first compares what was compiled here with what was built
ahead, the second, with ``NUMBA_CPU_FEATURES=`` in front, does that for CPUs without AVX-512, the
third two versions of the package. Rows may be gradients: ``M1-input``.
"""

import hashlib
import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

ROOT = Path(__file__).resolve().parents[1]
ROWS = "R1,R2,R3,R4,R5,R7,R8,R9,V1,M1,M2,M3,X1,D1,T1,G1,I2,S1"
ROWS += ",R3-input,R3-weight,M2-input,M2-weight"
SECONDS = 0.06  # of CPU time, for each row and turn


def serve() -> None:
    """Time the rows that stand on stdin, one after the other, and say where kernels came from."""
    sys.path.append(str(ROOT))  # behind the package that is asked for
    from benchmarks.lib import rivals
    from benchmarks.lib.layers import EVERY_ROW, arrays
    from numbaconv.codegen.objects import origins

    prepare = rivals.numbaconv()
    for line in sys.stdin:
        layer = EVERY_ROW[line.strip()]
        run = prepare(layer, *arrays(layer)).run
        bits = hashlib.sha256(run().tobytes()).hexdigest()
        least, end = math.inf, time.process_time() + SECONDS
        while time.process_time() < end:
            begin = time.process_time()
            run()
            least = min(least, time.process_time() - begin)
        sys.stdout.write(json.dumps([least, bits, dict(origins)]) + "\n")
        sys.stdout.flush()


def start(setting: str) -> subprocess.Popen[str]:
    """Start a process under a setting."""
    name, _, value = setting.partition("=")
    environment = os.environ | {"NUMBA_NUM_THREADS": "1", name: value}
    command = [sys.executable, str(Path(__file__).resolve()), "--serve"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    return subprocess.Popen(command, env=environment, text=True, **pipes)


def ask(process: subprocess.Popen[str], row: str) -> tuple[float, str, dict[str, int]]:
    """Have a process time a row."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(row + "\n")
    process.stdin.flush()
    seconds, bits, origins = json.loads(process.stdout.readline())
    return seconds, bits, origins


def main(
    settings: Annotated[list[str] | None, typer.Argument(metavar="NAME=VALUE NAME=VALUE")] = None,
    rows: Annotated[str, typer.Option(help="Rows of the tables.")] = ROWS,
    turns: Annotated[int, typer.Option(min=1, help="How often each row has its turn.")] = 9,
    serving: Annotated[bool, typer.Option("--serve", hidden=True)] = False,
) -> None:
    """Time the same layers under two settings of the environment, and compare their bits."""
    if serving:
        serve()
        return
    if settings is None or len(settings) != 2:
        raise typer.BadParameter("there must be two settings")
    processes = [start(setting) for setting in settings]
    ratios, answers = [], []
    for row in rows.split(","):
        taken = [[ask(p, row) for p in processes] for _ in range(turns)]
        first, second = (min(each[0] for each in of) for of in zip(*taken, strict=True))
        answers = taken[-1]
        same = "same bits" if answers[0][1] == answers[1][1] else "OTHER BITS"
        ratios.append(first / second)
        print(f"{row:4} {first * 1e6:10.1f} {second * 1e6:10.1f} us {ratios[-1]:6.3f}  {same}")
    mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
    print(f"geometric mean {mean:.3f}, least {min(ratios):.3f}, most {max(ratios):.3f}")
    for setting, answer in zip(settings, answers, strict=True):
        print(setting, *(f"{number} {origin}" for origin, number in answer[2].items()))


if __name__ == "__main__":
    typer.run(main)
