"""The most memory that this process has had. Windows has no module for it."""

import resource
import sys


def peak_bytes() -> int:
    """Return it in bytes, which macOS counts, and Linux by KiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
