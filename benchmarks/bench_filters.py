"""Filters of `numbaconv.ndimage`: Gaussians, edges, boxes and a full kernel."""

from typing import Any

import numpy as np
from asv_runner.benchmarks.mark import SkipNotImplemented

IMAGES = ("float32", "uint8", "volume")
FILTERS: dict[str, tuple[Any, ...]] = {
    "gaussian_filter": (2,),
    "sobel": (),
    "uniform_filter": (5,),
    "correlate": (5,),
}


def image_of(kind: str) -> np.ndarray:
    """An image, or a volume."""
    rng = np.random.default_rng(0)
    if kind == "volume":
        return rng.random((64, 96, 128), np.float32)
    return (255 * rng.random((1024, 1024))).astype(kind)


class Filters:
    """Plain calls, with an output of their own."""

    version = "1"
    timeout = 300
    param_names = ("filter", "image")
    params = (tuple(FILTERS), IMAGES)

    def setup(self, name: str, kind: str) -> None:
        """Make the arrays, and compile."""
        try:
            from numbaconv import ndimage
        except ImportError as error:
            raise SkipNotImplemented(str(error)) from error
        self.image, self.arguments = image_of(kind), FILTERS[name]
        if name == "correlate":
            size = 5 if kind != "volume" else 3
            shape = (size,) * self.image.ndim
            self.arguments = (np.arange(1.0, size**self.image.ndim + 1).reshape(shape),)
        self.function, self.out = getattr(ndimage, name), np.empty_like(self.image)
        self.time_filter(name, kind)

    def time_filter(self, name: str, kind: str) -> None:
        """Filter."""
        self.function(self.image, *self.arguments, output=self.out)
