"""What a process waits for before its first result."""

from benchmarks.lib.suite import BACKENDS, SKIP_SLOW, compile_all, require

IMPORTS = """
import numpy as np
import numbaconv as nc
x = np.ones((1, 1, 8, 8), "float32")
w = np.ones((1, 1, 3, 3), "float32")
nc.conv2d
"""
EMPTY_CACHE = """
import atexit, os, shutil, tempfile
folder = tempfile.mkdtemp()
atexit.register(shutil.rmtree, folder, True)
os.environ["NUMBA_CACHE_DIR"] = folder
"""


version = "1"
rounds = 1


def timeraw_import_numbaconv() -> str:
    """Import alone, without what the first name imports."""
    return "import numbaconv"


def timeraw_touch_conv2d() -> str:
    """Import all for the CPU, Numba and NumPy included."""
    return "import numbaconv; numbaconv.conv2d"


def timeraw_import_numba() -> str:
    """Import what numbaconv cannot do without, for comparison."""
    return "import numba"


class FirstCall:
    """The first conv2d of a process, its kernels compiled or loaded from the cache."""

    timeout = 300
    param_names = ("backend",)
    params = (BACKENDS,)

    def setup_cache(self) -> None:
        """Fill the kernel cache of this commit."""
        compile_all()

    setup_cache.timeout = 300

    def setup(self, backend: str) -> None:
        """Skip an absent backend."""
        require(backend)

    def timeraw_warm_cache(self, backend: str) -> tuple[str, str]:
        """Load the kernels."""
        return f"nc.conv2d(x, w, backend={backend!r})", IMPORTS

    def timeraw_cold_cache(self, backend: str) -> tuple[str, str]:
        """Compile the kernels."""
        return f"nc.conv2d(x, w, backend={backend!r})", EMPTY_CACHE + IMPORTS

    timeraw_cold_cache.repeat = 2
    timeraw_cold_cache.warmup_time = 0
    timeraw_cold_cache.skip_benchmark = SKIP_SLOW
