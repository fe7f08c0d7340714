"""The CPU engines."""

from numbaconv.cpu.execution import execute
from numbaconv.cpu.gradients.adjoint import apply_adjoint
from numbaconv.cpu.gradients.weight import weight_gradient

__all__ = ["apply_adjoint", "execute", "weight_gradient"]
