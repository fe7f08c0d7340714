"""What Numba is told of `numbaconv.ndimage` and `numbaconv.signal`, and of SciPy's same functions.

All here is thin: `filter_site` does the work, and is loaded when the first filter is compiled.
Each function has a text of Python, made of its signature. Numba knows no keyword-only arguments, so
they can be passed by position too.
"""

import inspect
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any

from numba.extending import overload

from numbaconv.njit import composed, scipy_names
from numbaconv.njit.public_function import overload_public
from numbaconv.njit.request import BASES, VALUES

_OVERLOAD = """
def typing({parameters}):
    from numbaconv.njit import filter_site

    perform = filter_site.find({function!r}, dict({given}))

    def implementation({parameters}):
        return perform(({arrays}), None, ({options}), {first}, {second})

    return implementation
"""

# With an array for the result, which may share memory with the image.
_WITH_OUTPUT = """
def typing({parameters}):
    from numba import types

    from numbaconv.njit import filter_site

    if not isinstance(output, types.Array):
        perform = filter_site.find({function!r}, dict({given}))

        def implementation({parameters}):
            return perform(({arrays}), None, ({options}output,), {first}, {second})

        return implementation
    perform = filter_site.find({function!r}, dict({given_target}))
    shares = filter_site.may_share_memory

    def implementation({parameters}):
        shared = shares(input, output)
        return perform(({arrays}), output, ({options}shared,), {first}, {second})

    return implementation
"""

# Not by `from numbaconv import`, which would begin the import of all public names.
_MODULES = {f"scipy.{name}": import_module(f"numbaconv.{name}") for name in ("ndimage", "signal")}

# What `**kwargs` are passed on as, with the defaults there.
_KEYWORDS = {"truncate": 4.0, "radius": None}

# Arrays that filters have: none to add.
_ARRAYS = BASES["add"]


def _parameters(function: Callable[..., Any], known: Any) -> list[inspect.Parameter]:
    """The parameters of a function in compiled code; of those, if given, that are known."""
    found = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            found += [
                inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default)
                for name, default in _KEYWORDS.items()
            ]
        elif known is None or parameter.name in known:
            found.append(parameter.replace(annotation=inspect.Parameter.empty))
    return found


def _source(name: str, parameters: list[inspect.Parameter]) -> str:
    """The text of an overload."""
    names = [parameter.name for parameter in parameters]
    arrays = [
        next((name for name in names if BASES.get(name) == base), "None") for base in range(_ARRAYS)
    ]
    values = [name for name in names if name in VALUES]
    options = [name for name in names if name not in (*arrays, *values, "output")]
    present = [name for name in arrays if name != "None"]
    has_output = "output" in names
    before = [*present, *options, *["output"] * has_output, *values]
    target = [*present, "output", *options, "shares_memory", *values]
    first, second = (*values, "None", "None")[:2]
    return (_WITH_OUTPUT if has_output else _OVERLOAD).format(
        parameters=", ".join(map(str, parameters)),
        function=name,
        given=", ".join(f"{name}={name}" for name in before),
        given_target=", ".join(
            "shares_memory=types.int64" if name == "shares_memory" else f"{name}={name}"
            for name in target
        ),
        arrays=", ".join(arrays),
        options="".join(f"{name}, " for name in options),
        first=first,
        second=second,
    )


def make_callable(
    function: Callable[..., Any], name: str, stands_for: Any = None, known: Any = None
) -> None:
    """Let compiled code call a function, or one of SciPy that it stands for.

    Parameters
    ----------
    function : callable
        The public function.
    name : str
        Its module and name.
    stands_for : callable, optional
        What compiled code calls.
    known : set of str, optional
        Parameters of that.
    """
    compose = composed.FUNCTIONS.get(name)
    if compose is None:
        namespace: dict[str, Any] = {}
        source = _source(name, _parameters(function, known))
        exec(compile(source, f"<{name} in compiled code>", "exec"), namespace)
        compose = namespace["typing"]
    if stands_for is None:
        overload_public(function, compose)
    else:
        overload(stands_for)(compose)  # others may overload it as well


def _make_scipy_callable(module: ModuleType) -> None:
    """Let compiled code call the functions of `scipy.ndimage` or `scipy.signal` as ours."""
    ours = _MODULES[module.__name__]
    for name in ours.__all__:
        theirs = getattr(module, name, None)
        if theirs is None or not scipy_names.is_new(theirs):
            continue
        try:
            known = set(inspect.signature(theirs).parameters)
        except ValueError:  # it is written in C
            known = None
        make_callable(getattr(ours, name), f"{module.__name__[6:]}.{name}", theirs, known)


for _name, _module in _MODULES.items():
    for _function in _module.__all__:
        if _function not in ("PreparedMask", "prepare_mask"):
            make_callable(getattr(_module, _function), f"{_name[6:]}.{_function}")

scipy_names.when_imported(_MODULES, _make_scipy_callable)
