"""The names that `scipy.ndimage` has for what lies outside of an axis."""

from numbaconv.problem import shape

CONSTANT, NEAREST, WRAP = shape.ZEROS, shape.REPLICATE, shape.CIRCULAR
REFLECT, MIRROR = shape.SYMMETRIC, shape.REFLECT
