"""The speeds that numbaconv is meant to reach, as data.

Rows are named by id or by kind, and gradients of a kind as "P-input".
"""

from typing import NamedTuple

TORCH = ("torch", "torch-cl")
EVERYONE = ("torch", "torch-cl", "onnxruntime", "opencv", "scipy")

BACKWARD = tuple(
    f"{row}-{of}"
    for row in ("R3", "R4", "R5", "R8", "V3", "B1", "M1", "A4", "C2")
    for of in ("input", "weight")
)
NETWORKS = ("R", "V", "G", "U", "S", "B", "C1", "C2")
IMAGES = ("I", "C3")
AUDIO_AND_ODD = ("A", "D", "T")


class Target(NamedTuple):
    """How many times as fast as others numbaconv is to be on a group of rows."""

    stage: str
    name: str
    rows: tuple[str, ...]
    ours: str
    theirs: tuple[tuple[str, ...], ...]
    """Sets of libraries in order of preference: the best of the first set that has the row."""
    mean: float
    """Geometric mean of the ratios."""
    worst: float
    """Smallest ratio."""
    dtype: str = "float32"


class Share(NamedTuple):
    """Which share of a limit of the machine numbaconv is to reach on each of some rows."""

    stage: str
    name: str
    rows: tuple[str, ...]
    ours: str
    limit: str
    """``fma`` or ``copy``."""
    worst: float


TARGETS = (
    Target(
        "foundation",
        "networks, plain / onnxruntime",
        ("R", "V", "G", "U", "B", "C1", "C2"),
        "nc",
        (("onnxruntime",),),
        0.7,
        0.4,
    ),
    Target("foundation", "images / OpenCV", ("I2", "I3", "I4"), "nc", (("opencv",),), 1.5, 1.5),
    Target("foundation", "images / SciPy", ("I2", "I3", "I4"), "nc", (("scipy",),), 30, 30),
    Target("foundation", "audio, dilated / best PyTorch", ("A", "D"), "nc", (TORCH,), 1.0, 1.0),
    Target(
        "speed",
        "networks, prepared / onnxruntime",
        NETWORKS,
        "nc-prep",
        (("onnxruntime",),),
        0.95,
        0.8,
    ),
    Target("speed", "networks, plain / PyTorch NCHW", NETWORKS, "nc", (("torch",),), 1.15, 0.95),
    Target(
        "speed",
        "networks, plain / PyTorch channels_last",
        NETWORKS,
        "nc",
        (("torch-cl",),),
        1.0,
        0.8,
    ),
    Target(
        "speed",
        "depthwise, groups, prepared / onnxruntime",
        ("M", "X"),
        "nc-prep",
        (("onnxruntime",),),
        1.2,
        1.0,
    ),
    Target(
        "speed",
        "images, volumes / OpenCV, else best",
        IMAGES,
        "nc",
        (("opencv",), EVERYONE),
        2.0,
        1.0,
    ),
    Target(
        "speed",
        "audio, dilated, odd, prepared / best",
        AUDIO_AND_ODD,
        "nc-prep",
        (EVERYONE,),
        1.5,
        1.0,
    ),
    Target(
        "speed", "audio, dilated, odd, plain / best", AUDIO_AND_ODD, "nc", (EVERYONE,), 1.5, 1.0
    ),
    Target("speed", "tiny calls, prepared / PyTorch", ("Q",), "nc-prep", (TORCH,), 1.0, 0),
    Target("speed", "tiny calls, plain / PyTorch", ("Q",), "nc", (TORCH,), 0.6, 0),
    Target(
        "no cliffs",
        "the sweep, prepared / best PyTorch or onnxruntime",
        ("P",),
        "nc-prep",
        ((*TORCH, "onnxruntime"),),
        1.35,
        0.9,
    ),
    Target("no cliffs", "the sweep, plain / PyTorch NCHW", ("P",), "nc", (("torch",),), 1.4, 0.9),
    Target(
        "no cliffs",
        "the sweep in float64, plain / PyTorch NCHW",
        ("P",),
        "nc",
        (("torch",),),
        1.3,
        0.85,
        "float64",
    ),
    Target(
        "no cliffs",
        "gradients of the sweep, up to 1 GFLOP / PyTorch NCHW",
        ("P-input", "P-weight"),
        "nc",
        (("torch",),),
        1.3,
        0.8,
    ),
    Target("gradients", "networks / PyTorch NCHW", BACKWARD, "nc", (("torch",),), 1.0, 0.7),
    Target(
        "transforms",
        "large filters / best of SciPy, OpenCV, own sums",
        ("L",),
        "nc",
        (("scipy-fft", "scipy-oa", "opencv", "nc-direct"),),
        2.5,
        1.3,
    ),
    Target(
        "transforms",
        "3x3 layers, winograd / onnxruntime",
        ("W",),
        "nc-winograd",
        (("onnxruntime",),),
        1.4,
        1.0,
    ),
)

SHARES = (
    Share(
        "speed",
        "share of the FMA limit, prepared",
        ("R3", "R5", "V2", "V3", "U1", "B1"),
        "nc-prep",
        "fma",
        0.88,
    ),
    Share(
        "transforms",
        "share of the FMA limit, winograd",
        ("V2", "V3", "U1", "B1"),
        "nc-winograd",
        "fma",
        1.25,
    ),
    Share("speed", "share of the copy bandwidth", ("I1", "M2"), "nc", "copy", 0.7),
)
