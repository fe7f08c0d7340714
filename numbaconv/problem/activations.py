"""The activations: their names and codes."""

NONE, RELU, RELU6, SILU, SIGMOID, TANH, HARDSWISH = range(7)


ACTIVATIONS = {
    None: NONE,
    "relu": RELU,
    "relu6": RELU6,
    "silu": SILU,
    "sigmoid": SIGMOID,
    "tanh": TANH,
    "hardswish": HARDSWISH,
}
