"""SciPy's modules, when they are imported: at once if they are, or by whoever imports them later.

Neither library imports the other.
"""

import sys
from collections.abc import Callable, Iterable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from numbaconv.runtime.shared_table import kept

Action = Callable[[ModuleType], None]

# Functions that Numba was told of; this package may be loaded again, they are not.
_known: set[int] = kept("functions of SciPy", set)


def is_new(function: Any) -> bool:
    """Whether this is asked of a function for the first time."""
    new = id(function) not in _known
    _known.add(id(function))
    return new


class _Loader(Loader):
    """Loads a module as another loader does, and then acts on it."""

    def __init__(self, loader: Any, action: Action) -> None:
        self._loader, self._action = loader, action

    def create_module(self, spec: ModuleSpec) -> Any:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        self._action(module)


class _Finder(MetaPathFinder):
    """Finds some modules as the other finders do, each once, for `_Loader`."""

    def __init__(self) -> None:
        self.actions: dict[str, Action] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self.actions:
            return None
        for finder in sys.meta_path:
            if finder is self or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(fullname, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _Loader(spec.loader, self.actions.pop(fullname))
                return spec
        return None


_finder: _Finder = kept("finder of SciPy", _Finder)


def when_imported(names: Iterable[str], action: Action) -> None:
    """Act on some modules as soon as they are imported."""
    for name in names:
        module = sys.modules.get(name)
        spec = getattr(module, "__spec__", None)
        if module is not None and not getattr(spec, "_initializing", False):
            action(module)
        else:
            _finder.actions[name] = action
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)
