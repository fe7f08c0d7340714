"""What Numba tells a typing function of an argument: its type, or what stands for a default."""

from typing import Any

from numba import types


def given(kind: Any) -> Any:
    """The default of an omitted argument, or its type."""
    return kind.value if isinstance(kind, types.Omitted) else kind


def is_none(kind: Any) -> bool:
    """Whether an argument is None, or its default is."""
    return isinstance(kind, types.NoneType) or given(kind) is None
