"""Where minimal filtering evaluates its polynomials: see `toom_cook`.

Who plans tiles needs this alone, and not the exact arithmetic of matrices.
"""

TAPS = 3

# Points of each number of outputs, numerator and denominator: 0, these and their negatives, and
# infinity.
POINTS = {2: ((1, 1),), 4: ((2, 3), (3, 2))}
