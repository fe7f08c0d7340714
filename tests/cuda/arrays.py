"""Arrays on the device, to it and from it."""

from __future__ import annotations

from typing import Any

import numpy as np

from numbaconv.cuda import toolkit
from numbaconv.dispatch.gpu import on_host
from tests.oracle.cases import Array


class OnDevice:
    """An array on the device, as another library would pass it."""

    def __init__(self, array: Array) -> None:
        self.array = array
        if toolkit.simulated():
            self.memory = array
            self.__cuda_array_interface__ = dict(array.__array_interface__, stream=None, version=3)
        else:
            from numba import cuda

            from numbaconv.cuda import memory

            self.memory = cuda.to_device(np.array(base(array)))
            view = memory.shadow("array", self.memory)
            first = (
                array.__array_interface__["data"][0] - base(array).__array_interface__["data"][0]
            )
            self.__cuda_array_interface__ = dict(
                self.memory.__cuda_array_interface__,
                shape=array.shape,
                strides=array.strides,
                typestr=array.dtype.str,
                data=(view.__array_interface__["data"][0] + first, False),
            )

    def get(self) -> Array:
        """What is in it now."""
        return self.array if toolkit.simulated() else on_host("array", self)


def base(array: Array) -> Array:
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def result_of(y: Any) -> Array:
    """A result on the device, which is Numba's own array, as a NumPy array."""
    return y.copy_to_host()
