"""The activations: their names and codes."""

(
    NONE,
    RELU,
    RELU6,
    LEAKY_RELU,
    HARDSWISH,
    SIGMOID,
    TANH,
    SILU,
    GELU,
    GELU_TANH,
    MISH,
    SOFTPLUS,
) = range(12)


ACTIVATIONS = {
    None: NONE,
    "relu": RELU,
    "relu6": RELU6,
    "leaky_relu": LEAKY_RELU,
    "hardswish": HARDSWISH,
    "sigmoid": SIGMOID,
    "tanh": TANH,
    "silu": SILU,
    "gelu": GELU,
    "gelu_tanh": GELU_TANH,
    "mish": MISH,
    "softplus": SOFTPLUS,
}
