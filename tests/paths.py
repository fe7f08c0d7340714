"""The ways to compute one convolution: what the fuzzer and the stress tests put under test.

A new way (a backend, a compiled caller) is one entry in `PATHS`; every such test then runs it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numbaconv as nc
from cases import Array
from problems import Sample

BACKENDS = ("direct", "im2col")


class Path(NamedTuple):
    """One way: its name, what it computes, and the samples that it takes."""

    name: str
    run: Callable[[Sample], Array]
    takes: Callable[[Sample], bool] = lambda sample: True

    def __str__(self) -> str:
        return self.name


def plain_call(backend: str) -> Path:
    """The function of the sample's rank."""

    def run(sample: Sample) -> Array:
        function = getattr(nc, f"conv{sample.w.ndim - 2}d")
        return function(*sample.operands, **sample.options, backend=backend)

    return Path(backend, run)


def into_out(backend: str) -> Path:
    """The dispatcher, storing into an array of any layout that is full of NaN."""

    def run(sample: Sample) -> Array:
        out = sample.new_out()
        assert nc.conv(*sample.operands, **sample.options, out=out, backend=backend) is out
        return out

    return Path(f"{backend} into out", run)


def prepared(backend: str) -> Path:
    """A prepared layer, called a second time: with the weights that it has packed."""

    def run(sample: Sample) -> Array:
        layer = nc.prepare(sample.w, sample.b, **sample.options, backend=backend)
        layer(sample.x)
        return layer(sample.x)

    return Path(f"{backend} prepared", run)


PATHS = tuple(way(backend) for backend in BACKENDS for way in (plain_call, into_out, prepared))
