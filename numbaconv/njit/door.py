"""The first call from compiled code loads the rest of this folder, and is then carried out."""

from numbaconv.runtime.shared_table import ENTER, ENTRY, Callback, address_of_function


@Callback
def _load_and_enter(request: int, stage: int) -> int:
    """Open the door, and go through it."""
    from numbaconv.njit import planner

    try:
        planner.load()
    except BaseException as error:
        return planner.report(request, error)
    return int(Callback(int(ENTRY[ENTER]))(request, stage))


def install() -> None:
    """Let compiled callers find the door in the shared table."""
    ENTRY[ENTER] = address_of_function(_load_and_enter)
