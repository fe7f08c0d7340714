"""The exception of the package's own."""


class BackendUnavailableError(RuntimeError):
    """A backend was asked for that cannot run here; the message says why."""
