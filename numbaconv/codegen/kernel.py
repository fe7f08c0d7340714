"""A kernel: a function that becomes object code of its own."""

from collections.abc import Callable
from typing import Any, NamedTuple


class Kernel(NamedTuple):
    """What is to be found on disk, or compiled.

    Attributes
    ----------
    symbol : str
        Name of its C function.
    signature : Signature
        Of Numba: types of its arguments and of its result.
    refers_to : str
        The library, with its version, that its code refers to beside C's; empty for none.
    to_code : callable
        Compiles it: returns its object code.
    """

    symbol: str
    signature: Any
    refers_to: str
    to_code: Callable[[], bytes]
