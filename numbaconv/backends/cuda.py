"""cuda: not in this version; the name is registered so that asking for it says so."""


def unavailable() -> str | None:
    """Why the backend cannot run here."""
    return "this version of numbaconv has no CUDA kernels"
