"""How exact a call has to be: the argument ``precision=``, else ``NUMBACONV_PRECISION``."""

from numbaconv.runtime.environment import variable

PRECISION_VARIABLE = "NUMBACONV_PRECISION"
_VARIABLE = PRECISION_VARIABLE.encode()
IEEE, TF32, FAST = PRECISIONS = ("ieee", "tf32", "fast")


def find_precision(precision: str | None) -> str:
    """Return the precision that is asked for, by the argument or the environment."""
    source = "precision"
    if precision is None:
        precision = variable(_VARIABLE)
        if not precision or precision.isspace():
            return IEEE
        source = f"the environment variable {PRECISION_VARIABLE}"
    if not isinstance(precision, str):
        raise TypeError(f"{source} must be a string, got {type(precision).__name__}")
    known = precision.strip().lower()
    if known not in PRECISIONS:
        raise ValueError(f"{source} must be one of {', '.join(PRECISIONS)}; got {precision!r}")
    return known


def is_fast(precision: str | None) -> bool:
    """Whether ``auto`` may take `winograd`."""
    return find_precision(precision) == FAST
