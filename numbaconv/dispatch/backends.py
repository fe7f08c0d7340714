"""Which backend runs a call.

Precedence: the ``backend=`` argument, `use_backend`, `set_backend`, the environment variable
``NUMBACONV_BACKEND``, else ``auto``. What is forced either runs or raises; ``auto`` chooses among
the backends that can run here.
"""

from contextlib import ContextDecorator
from contextvars import ContextVar
from typing import Any

from numbaconv import cuda
from numbaconv._imports import Later
from numbaconv.cpu.lowering import Engine
from numbaconv.errors import BackendUnavailableError
from numbaconv.runtime.environment import tell_of, variable
from numbaconv.runtime.shared_table import AT, ENTRY, as_word, from_word

ENVIRONMENT_VARIABLE = "NUMBACONV_BACKEND"
_VARIABLE = ENVIRONMENT_VARIABLE.encode()
AUTO, CUDA = "auto", "cuda"


def _engine(module: str, *more: str) -> Engine:
    """Return the engine that is a module, which is imported when the first problem needs it."""
    return Engine(*(Later(module, name) for name in ("lower", "unavailable", *more)))


# What a GPU toolkit takes to import, the cuda backend leaves for its first call.
BACKENDS: dict[str, Any] = {
    "direct": _engine("numbaconv.cpu.direct", "lower_adjoint"),
    "im2col": _engine("numbaconv.cpu.im2col"),
    "fft": _engine("numbaconv.cpu.fft"),
    "winograd": _engine("numbaconv.cpu.winograd"),
    CUDA: cuda,
}
NAMES = (AUTO, *BACKENDS)


class _Choice:
    """A choice of `use_backend`. It lives as long as any context has it.

    Compiled callers cannot see contexts. While there is a choice in one, they ask.
    """

    def __init__(self, name: str, block: "_Block") -> None:
        self.name, self.block = name, block
        ENTRY[AT.contexts] += 1

    def __del__(self) -> None:
        ENTRY[AT.contexts] -= 1


# The choices of the blocks that are open here, the innermost last.
_context: ContextVar[tuple[_Choice, ...]] = ContextVar("numbaconv_backend", default=())
_process: str | None = from_word(int(ENTRY[AT.choice])) or None  # when this is loaded again


def check_backend(name: Any, source: str) -> str:
    """Return a backend's name in lower case; `source` says in errors where it came from."""
    if not isinstance(name, str):
        raise TypeError(f"{source} must be a string, got {type(name).__name__}")
    known = name.strip().lower()
    if known not in NAMES:
        raise ValueError(f"{source} must be one of {', '.join(NAMES)}; got {name!r}")
    return known


def requested_backend(argument: str | None = None) -> tuple[str, str]:
    """Return the name that is asked for, maybe ``auto``, and where it comes from."""
    if argument is not None:
        return check_backend(argument, "backend"), "the argument backend="
    choices = _context.get()
    if choices:
        return choices[-1].name, "use_backend"
    if _process is not None:
        return _process, "set_backend"
    name = variable(_VARIABLE)
    if name and not name.isspace():
        source = f"the environment variable {ENVIRONMENT_VARIABLE}"
        return check_backend(name, source), source
    return AUTO, "the default"


def _tell_compiled_callers(value: str) -> None:
    """Write down what the environment variable says; -1: what only Python can say."""
    name = value.strip().lower()
    ENTRY[AT.variable] = as_word(name) if name in ("", *NAMES) else -1


tell_of(ENVIRONMENT_VARIABLE, _tell_compiled_callers)


def load_backend(name: str, source: str = "") -> Any:
    """Return a backend, or raise BackendUnavailableError with the reason.

    `source` says in the message who asked for it.
    """
    module = BACKENDS[name]
    reason = module.unavailable()
    if reason is not None:
        asked = f", asked for by {source}," if source else ""
        raise BackendUnavailableError(
            f"backend {name!r}{asked} cannot run here: {reason}; "
            f"available are {', '.join(available_backends())}"
        )
    return module


def available_backends() -> tuple[str, ...]:
    """Name the backends that can run here.

    Returns
    -------
    tuple of str
        A subset of ``("direct", "im2col", "fft", "winograd", "cuda")``.
    """
    return tuple(name for name, module in BACKENDS.items() if module.unavailable() is None)


def get_backend() -> str:
    """Return the backend that a call without ``backend=`` would ask for.

    Returns
    -------
    {"auto", "direct", "im2col", "fft", "winograd", "cuda"}
        Its name in lower case.

    Raises
    ------
    ValueError
        If the environment variable ``NUMBACONV_BACKEND`` names no backend.
    """
    return requested_backend()[0]


def set_backend(name: str | None) -> None:
    """Choose the backend of all calls of this process that do not say otherwise.

    Parameters
    ----------
    name : {"auto", "direct", "im2col", "fft", "winograd", "cuda"} or None
        In any case. It takes precedence over ``NUMBACONV_BACKEND``; None takes the choice back.

    Raises
    ------
    ValueError, TypeError
        If it is no such name.
    BackendUnavailableError
        If that backend cannot run here.
    """
    global _process
    checked = None if name is None else check_backend(name, "name")
    if checked not in (None, AUTO):
        load_backend(checked)
    _process = checked
    ENTRY[AT.choice] = as_word(checked)


class _Block(ContextDecorator):
    """What `use_backend` returns: it keeps nothing itself, so it can be entered anywhere, again."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        _context.set((*_context.get(), _Choice(self._name, self)))

    def __exit__(self, *_: object) -> None:
        # Mostly the innermost; not where a generator is left inside a block that it does not know.
        choices = _context.get()
        for i in reversed(range(len(choices))):
            if choices[i].block is self:
                _context.set(choices[:i] + choices[i + 1 :])
                return
        raise RuntimeError(
            "use_backend: this block was not entered in this thread or asynchronous task, "
            "or it has been left already"
        )


def use_backend(name: str) -> _Block:
    """Choose the backend inside a ``with`` block.

    The choice holds for this thread or asynchronous task alone, and takes precedence over
    `set_backend`. What is returned can be used for several blocks, also one inside the other or on
    several threads at once, and as a decorator of a function.

    Parameters
    ----------
    name : {"auto", "direct", "im2col", "fft", "winograd", "cuda"}
        In any case.

    Returns
    -------
    context manager
        It may be kept, and entered again.

    Raises
    ------
    ValueError, TypeError
        If it is no such name.
    BackendUnavailableError
        If that backend cannot run here.

    Examples
    --------
    >>> import numbaconv as nc
    >>> with nc.use_backend("im2col"):
    ...     nc.get_backend()
    'im2col'
    """
    checked = check_backend(name, "name")
    if checked != AUTO:
        load_backend(checked)
    return _Block(checked)
