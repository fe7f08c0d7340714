"""The first call from compiled code loads the rest of this folder, and is then carried out."""

from numbaconv.njit.exceptions import report
from numbaconv.runtime.shared_table import DOOR, ENTER, Callback, address_of_function, for_ever


@Callback
def _load_and_enter(request: int, stage: int) -> int:
    """Open the door, and go through it."""
    try:
        from numbaconv.njit import planner

        planner.load()
    except BaseException as error:
        return report(request, error)
    return int(Callback(int(DOOR[ENTER]))(request, stage))


def install() -> None:
    """Let compiled callers find the door."""
    DOOR[ENTER] = address_of_function(for_ever(_load_and_enter))


def install_once() -> None:
    """Let compiled callers find the door, unless they do already.

    Numba calls this before it loads a caller from its cache, which says so by this name: that must
    never change. Where the package is not installed, nothing else of it may be imported then.
    """
    if not DOOR[ENTER]:
        install()
