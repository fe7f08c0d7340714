"""Benchmarks of numbaconv: asv suites (``bench_*.py``) and side-by-side runs (``compare.py``).

Under asv every commit gets a kernel cache of its own, so that no commit ever runs a kernel
that another one compiled. This has to happen before Numba is imported.
"""

import os
from pathlib import Path

if "ASV_COMMIT" in os.environ and "ASV_ENV_DIR" in os.environ:
    os.environ["NUMBA_CACHE_DIR"] = str(
        Path(os.environ["ASV_ENV_DIR"], "numba-cache", os.environ["ASV_COMMIT"][:12])
    )
