"""The public names, their signatures and their documentation."""

from __future__ import annotations

import inspect
import re
from importlib import metadata
from typing import Any

import pytest

import numbaconv as nc

REQUIRED = inspect.Parameter.empty
CONV = {
    "input": REQUIRED,
    "weight": REQUIRED,
    "bias": None,
    "stride": 1,
    "padding": 0,
    "dilation": 1,
    "groups": 1,
}
ON_A_GPU: dict[str, Any] = {"stream": None, "precision": None}
KEYWORDS = {
    "padding_mode": "zeros",
    "padding_value": 0.0,
    "out_dtype": None,
    "data_format": "channels_first",
    "activation": None,
    "add": None,
    "out": None,
    "backend": None,
    **ON_A_GPU,
}
OF_TRANSPOSED = ("data_format", "activation", "add", "out", "backend", *ON_A_GPU)
OF_CALLS = "add", "out", "stream"  # of layers: said in each call
PATCHES = {"dilation": 1, "padding": 0, "stride": 1}

# name: (positional parameters, keyword-only parameters), with their defaults
SIGNATURES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "conv": (CONV, KEYWORDS),
    "conv1d": (CONV, KEYWORDS),
    "conv2d": (CONV, KEYWORDS),
    "conv3d": (CONV, KEYWORDS),
    **dict.fromkeys(
        ("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
        (
            {
                **{name: CONV[name] for name in ("input", "weight", "bias", "stride", "padding")},
                "output_padding": 0,
                "groups": 1,
                "dilation": 1,
            },
            {name: KEYWORDS[name] for name in OF_TRANSPOSED},
        ),
    ),
    "prepare_transposed": (
        {"weight": REQUIRED, "bias": None, "stride": 1, "padding": 0}
        | {"output_padding": 0, "groups": 1, "dilation": 1},
        {name: KEYWORDS[name] for name in OF_TRANSPOSED if name not in OF_CALLS},
    ),
    "prepare": (
        {name: default for name, default in CONV.items() if name != "input"},
        {name: default for name, default in KEYWORDS.items() if name not in OF_CALLS},
    ),
    "im2col": ({"input": REQUIRED, "kernel_size": REQUIRED} | PATCHES, {}),
    "col2im": (
        {"columns": REQUIRED, "output_size": REQUIRED, "kernel_size": REQUIRED} | PATCHES,
        {},
    ),
    "available_backends": ({}, {}),
    "get_backend": ({}, {}),
    "set_backend": ({"name": REQUIRED}, {}),
    "use_backend": ({"name": REQUIRED}, {}),
}
GEOMETRY = {name: CONV[name] for name in ("stride", "padding", "dilation", "groups")}
GRADIENTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    f"conv{rank}d_{of}": (
        dict.fromkeys(operands, REQUIRED) | GEOMETRY,
        {"backend": None} | ON_A_GPU,
    )
    for rank in (1, 2, 3)
    for of, operands in (
        ("input", ("input_size", "weight", "grad_output")),
        ("weight", ("input", "weight_size", "grad_output")),
    )
}
OTHERS = {
    "explain",
    "release_memory",
    "show_config",
    "tiled",
    "BackendUnavailableError",
    "PreparedConv",
    "PreparedTransposedConv",
    "__version__",
    "grad",
    "ndimage",
    "signal",
}
NAMES = {*SIGNATURES, *OTHERS}


def find(name: str) -> Any:
    """A function of the package, or of its module of gradients."""
    return getattr(nc.grad if name in GRADIENTS else nc, name)


def test_public_names():
    assert set(nc.grad.__all__) == set(GRADIENTS)
    assert len(nc.__all__) == len(set(nc.__all__))
    assert set(nc.__all__) == NAMES
    assert all(hasattr(nc, name) for name in NAMES)
    assert set(dir(nc)) >= NAMES


def test_version_is_the_installed_one():
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", nc.__version__)
    try:
        installed = metadata.version("numbaconv")
    except metadata.PackageNotFoundError:
        pytest.skip("run from the source tree")
    assert nc.__version__ == installed


@pytest.mark.parametrize("name", [*SIGNATURES, *GRADIENTS])
def test_signature(name: str):
    signature = (SIGNATURES | GRADIENTS)[name]
    parameters = inspect.signature(find(name)).parameters.values()
    by_kind: dict[Any, dict[str, Any]] = {}
    for p in parameters:
        by_kind.setdefault(p.kind, {})[p.name] = p.default
    positional = by_kind.pop(inspect.Parameter.POSITIONAL_OR_KEYWORD, {})
    keywords = by_kind.pop(inspect.Parameter.KEYWORD_ONLY, {})
    assert not by_kind
    assert list(positional.items()) == list(signature[0].items())
    assert keywords == signature[1]


def test_explain_takes_what_conv_takes():
    parameters = list(inspect.signature(nc.explain).parameters.values())
    assert [p.name for p in parameters[:2]] == ["input", "weight"]
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters):
        return
    # What the result is put into or added to changes nothing of what is explained.
    assert {*CONV, *KEYWORDS} - {"out", "add"} <= {p.name for p in parameters}


def sections(documented: Any) -> list[str]:
    """The numpydoc section headings of a docstring."""
    return re.findall(r"^(\w[\w ]*)\n-+$", inspect.getdoc(documented) or "", re.MULTILINE)


def test_the_package_and_its_exception_are_documented():
    assert nc.__doc__
    assert nc.BackendUnavailableError.__doc__
    assert issubclass(nc.BackendUnavailableError, RuntimeError)


@pytest.mark.parametrize(
    "name", sorted({*SIGNATURES, *GRADIENTS, "explain", "show_config", "release_memory", "tiled"})
)
def test_docstring_has_numpydoc_sections(name: str):
    function = find(name)
    text = inspect.getdoc(function) or ""
    first = text.splitlines()[0]
    assert first.endswith("."), first
    found = sections(function)
    parameters = inspect.signature(function).parameters
    if parameters:
        assert "Parameters" in found
    if name not in ("set_backend", "use_backend", "show_config"):
        assert "Returns" in found
    if name in SIGNATURES | GRADIENTS:
        described = text.partition("Parameters\n")[2]
        for parameter in parameters:
            assert re.search(rf"^[\w, ]*\b{parameter}\b[\w, ]*( :|$)", described, re.MULTILINE), (
                parameter
            )


def test_functions_say_where_they_live():
    """For pickling, and for the reader of a traceback."""
    for name in SIGNATURES | GRADIENTS:
        assert find(name).__module__.startswith("numbaconv")
        assert find(name).__name__ == name


def test_import_brings_no_heavy_package(run_script: Any):
    code = """
import sys
import numba, numpy
before = set(sys.modules)
import numbaconv
print(*sorted({name.partition(".")[0] for name in set(sys.modules) - before}))
print("numba.cuda" in set(sys.modules) - before)
"""
    brought, cuda = run_script("-c", code).stdout.splitlines()
    heavy = {"scipy", "torch", "cupy", "numba_cuda", "cuda", "PIL", "matplotlib", "sklearn", "cv2"}
    assert not heavy & set(brought.split())
    assert "numbaconv" in brought.split()
    assert cuda == "False"
