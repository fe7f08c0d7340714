"""Kernels built ahead are used where they are right, and are those that would be compiled."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from numba.core import config

from numbaconv.built_ahead import build
from numbaconv.codegen import archives, machines
from numbaconv.codegen.machines import FAMILIES, HOST, Machine
from tests.conftest import Script
from tests.runtime.cached import cache_files, copy_package

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="nothing is compiled")

# What a convolution of float32 on one thread, by either kind of tile, and an activation need.
SOURCES = Path(build.__file__).parents[2]
KERNELS = (
    "multiply_work.float32|microkernels.matrix.tile.float32|fill_halo_by_vectors.-float32--float32"
    "|transposed_work.float32|pixel_tile.float32|pack_work.float32|pack_panel.float32|activation.sigmoid.float32|job.run"
)

BUILD = """
import re, sys
from pathlib import Path
from numbaconv.built_ahead import build
usual = build._usual_kernels
build._usual_kernels = lambda: (k for k in usual() if re.search(sys.argv[3], k.symbol))
print(build._build_here(sys.argv[1], Path(sys.argv[2])))
"""

CALL = """
import numpy as np, numbaconv as nc
from numbaconv.codegen.objects import origins
rng = np.random.default_rng(0)
x, w = rng.random((1, 3, 8, 8), np.float32), rng.random((8, 3, 3, 3), np.float32)
y = nc.conv2d(x, w, activation="sigmoid")
print(y.tobytes().hex(), *(f"{origin}={count}" for origin, count in sorted(origins.items())))
"""


def build_some(run_script: Script, name: str, directory: Path, some: str, path: Path) -> bytes:
    """Build an archive of some kernels with the package in `path`."""
    front_end = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "", "PYTHONPATH": str(path)}
    directory.mkdir(exist_ok=True)
    run_script("-P", "-c", BUILD, name, str(directory), some, **front_end)
    return (directory / archives.file_name(name)).read_bytes()


class Copy:
    """A copy of the package with an archive for this host, and a cache for it."""

    def __init__(self, run_script: Script, directory: Path, content: bytes) -> None:
        self._run = run_script
        self.root, self.cache = directory, directory / "cache"
        self.package = copy_package(directory)
        for path in (self.package / "built_ahead").glob("*.zip"):
            path.unlink()
        self.content = content
        self.archive = self.package / "built_ahead" / archives.file_name(HOST)
        self.archive.write_bytes(content)

    def call(self, **variables: str) -> tuple[str, dict[str, int]]:
        """The bits of a result, and where its kernels came from."""
        variables = {"PYTHONPATH": str(self.root), "NUMBA_CACHE_DIR": str(self.cache)} | variables
        bits, *origins = self._run("-P", "-c", CALL, **variables).stdout.split(maxsplit=1)
        pairs = re.findall(r"([a-z -]+)=(\d+)", origins[0])
        return bits, {origin.strip(): int(count) for origin, count in pairs}


@pytest.fixture(scope="module")
def archive(run_script: Script, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return build_some(run_script, HOST, tmp_path_factory.mktemp("host"), KERNELS, SOURCES)


@pytest.fixture
def copy(run_script: Script, tmp_path: Path, archive: bytes) -> Copy:
    return Copy(run_script, tmp_path, archive)


AHEAD = "built ahead for host"


def test_which_kernels_are_used(copy: Copy):
    """Those built ahead, in place of the compiler; but not under other settings or sources."""
    bits, origins = copy.call()
    assert set(origins) == {AHEAD}
    assert cache_files(copy.cache) == []

    compiled, others = copy.call(NUMBACONV_BUILT_AHEAD="0")
    assert others == {"compiled": origins[AHEAD]}
    assert compiled == bits  # the same kernels, made twice
    assert set(copy.call(NUMBACONV_BUILT_AHEAD="0")[1]) == {"from the cache"}

    assert set(copy.call(NUMBA_OPT="1")[1]) == {"compiled"}
    assert set(copy.call(NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES="")[1]) == {"compiled"}

    with (copy.package / "problem" / "shape.py").open("a") as source:
        source.write("\n# edited\n")
    assert set(copy.call()[1]) == {"compiled"}


def test_a_damaged_kernel_is_compiled(copy: Copy):
    """Whether the archive notices that or not; so is one that stands in another's place."""
    bits, origins = copy.call()
    with zipfile.ZipFile(io.BytesIO(copy.content)) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
        comment = archive.comment
    symbol = next(name for name in entries if "pack_panel" in name)
    other = next(name for name in entries if "pack_panel" not in name)
    flipped = bytearray(entries[symbol])
    flipped[-1] ^= 1
    assert comment == archives.DIGEST.encode()
    for number, wrong in enumerate((bytes(flipped), entries[symbol][:-1], entries[other], b"")):
        copy.archive.write_bytes(archives.write(entries | {symbol: wrong}))
        with_damage, found = copy.call(NUMBA_CACHE_DIR=str(copy.root / f"cache {number}"))
        assert with_damage == bits
        assert found == {AHEAD: origins[AHEAD] - 1, "compiled": 1}

    at = copy.content.index(entries[symbol])
    copy.archive.write_bytes(copy.content[:at] + b"damage" + copy.content[at + 6 :])
    assert copy.call(NUMBA_CACHE_DIR=str(copy.root / "again"))[1]["compiled"] == 1
    for whole in (b"", b"no archive", copy.content[:-100]):
        copy.archive.write_bytes(whole)
        assert AHEAD not in copy.call()[1]


def test_two_builds_are_the_same_bytes(run_script: Script, tmp_path: Path):
    """For a machine that is not here, too: code of Arm's, made anywhere."""
    some = r"activation.relu.float32|take_back|matrix.tile.float64"
    one, two = (build_some(run_script, "neon", tmp_path / n, some, SOURCES) for n in ("one", "two"))
    assert one == two
    with zipfile.ZipFile(io.BytesIO(one)) as archive:
        contents = [archive.read(name) for name in archive.namelist()]
    assert len(contents) == 3
    for content in contents:
        code = content[32:]
        assert code[:4] == b"\x7fELF"
        assert int.from_bytes(code[18:20], "little") == 183  # AArch64


def test_every_kernel_is_built():
    """Each for the types that it is made for, under a name of its own."""
    code = (
        "from numbaconv.built_ahead import build; build._import_all();"
        "names = [k.symbol for k in build._usual_kernels()]; print(*names)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    symbols = done.stdout.split()
    assert len(symbols) == len(set(symbols))
    for each in ("job.run.int64", "multiply_work.float64", "run_sums", "move.-float32--float32-"):
        assert any(each in symbol for symbol in symbols), each


ZEN_3 = {"avx", "avx2", "bmi", "bmi2", "cx16", "f16c", "fma", "lzcnt", "movbe", "popcnt", "sahf"}
ZEN_3 |= {"sse3", "sse4.1", "sse4.2", "ssse3", "xsave"}
ZEN_4 = ZEN_3 | {f"avx512{part}" for part in ("bw", "cd", "dq", "f", "vl")}
LINUX = "x86_64-conda-linux-gnu"


@pytest.mark.parametrize(
    ("triple", "features", "vector_bytes", "names"),
    [
        (LINUX, ZEN_3, 32, ["x86-64-v3"]),
        (LINUX, ZEN_4, 64, ["x86-64-v4"]),
        (LINUX, ZEN_4, 32, ["x86-64-v3"]),  # it has large vectors, and prefers others
        (LINUX, ZEN_3 - {"fma"}, 32, []),
        (LINUX, set(), 16, []),
        ("x86_64-pc-windows-msvc", ZEN_3, 32, []),
        ("x86_64-apple-darwin22", ZEN_3, 32, []),
        ("aarch64-unknown-linux-gnu", set(), 16, ["neon"]),
        ("arm64-apple-darwin22", {"neon"}, 16, []),
    ],
)
def test_the_family_of_a_host(
    monkeypatch: pytest.MonkeyPatch,
    triple: str,
    features: set[str],
    vector_bytes: int,
    names: list[str],
):
    host = Machine(triple, "some", ",".join(f"+{name}" for name in features))
    monkeypatch.setattr(machines, "host", lambda: host)
    monkeypatch.setattr(archives, "is_host", lambda: True)
    monkeypatch.setattr(archives, "VECTOR_BYTES", vector_bytes)
    monkeypatch.delenv("NUMBACONV_BUILT_AHEAD", raising=False)
    assert archives._names() == [HOST, *names]


@pytest.mark.parametrize(
    ("cpu", "features", "names"),
    [
        ("x86-64-v3", "", ["x86-64-v3"]),
        ("x86-64-v4", "", []),  # which this host is not
        ("x86-64-v3", None, []),  # with the host's features
        ("haswell", "", []),
        (None, "", []),
    ],
)
def test_a_family_that_the_user_names(
    monkeypatch: pytest.MonkeyPatch, cpu: str | None, features: str | None, names: list[str]
):
    """All code of the process is for its machine then."""
    host = Machine(LINUX, "znver3", ",".join(f"+{name}" for name in ZEN_3))
    monkeypatch.setattr(machines, "host", lambda: host)
    monkeypatch.setattr(config, "CPU_NAME", cpu)
    monkeypatch.setattr(config, "CPU_FEATURES", features)
    monkeypatch.delenv("NUMBACONV_BUILT_AHEAD", raising=False)
    assert archives._names() == names


def test_the_families_are_what_llvm_calls_them():
    """LLVM knows the names, and the sizes of vectors are those that it uses."""
    code = """
import sys
from numbaconv.codegen import machines
family = machines.FAMILIES[sys.argv[1]]
machines.compile_for(family.machine)
from numbaconv.codegen.target import VECTOR_BYTES
assert VECTOR_BYTES == family.vector_bytes, VECTOR_BYTES
"""
    for name in FAMILIES:
        subprocess.run([sys.executable, "-c", code, name], check=True)


USUAL_CALLS = """
import numba, numpy as np, numbaconv as nc
from numbaconv.codegen.objects import origins
from numbaconv.cli import PROBLEMS

@numba.njit
def compiled(x, w):
    y = nc.conv2d(x, w)
    return y, nc.conv_transpose2d(y, w)

for dtype in (np.float32, np.float64):
    for backend in ("direct", "im2col"):
        for input_shape, weight_shape, stride, padding, dilation in PROBLEMS.values():
            x, w = np.ones(input_shape, dtype), np.ones(weight_shape, dtype)
            groups = input_shape[1] // weight_shape[1]
            options = dict(stride=stride, padding=padding, dilation=dilation)
            options |= dict(groups=groups, backend=backend)
            for data_format in ("channels_first", "channels_last"):
                moved = x if data_format == "channels_first" else np.moveaxis(x, 1, -1).copy()
                nc.conv2d(moved, w, data_format=data_format, activation="silu", **options)
                nc.prepare(w, data_format=data_format, **options)(moved)
            y = nc.conv2d(x, w, **options)
            nc.grad.conv2d_input(x.shape, w, y, **options)
            nc.grad.conv2d_weight(x, w.shape, y, **options)
    x, w = np.ones((2, 64, 80, 80), dtype), np.ones((64, 64, 3, 3), dtype)
    nc.conv_transpose2d(nc.conv2d(x, w), w, stride=2)  # on several threads
    compiled(x, w)
print(*(f"{origin}={count}" for origin, count in sorted(origins.items())))
"""


def has_archive() -> bool:
    return (SOURCES / "numbaconv" / "built_ahead" / archives.file_name(HOST)).exists()


@pytest.mark.skipif(not has_archive(), reason="no kernels were built")
def test_usual_calls_compile_nothing(run_script: Script, tmp_path: Path):
    """Of all that `build_kernels host` makes, nothing is missing."""
    variables = {"NUMBA_CACHE_DIR": str(tmp_path), "NUMBACONV_BUILT_AHEAD": "1"}
    said = run_script("-c", USUAL_CALLS, **variables).stdout
    assert re.fullmatch(rf"{AHEAD}=\d+\n", said)


def test_an_unknown_name(tmp_path: Path):
    with pytest.raises(ValueError, match=r"x86-64-v3.*host, not for 'pentium'"):
        build.build(["pentium"], tmp_path)


def test_a_failed_build_says_why(tmp_path: Path):
    with pytest.raises(RuntimeError, match=r"kernels for host could not be built:[\s\S]*Error"):
        build.build([HOST], tmp_path / "missing")
