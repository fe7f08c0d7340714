"""Speed of the gradients, for each backend."""

from benchmarks import bench_layers
from benchmarks.lib.layers import GRADIENTS
from benchmarks.lib.suite import BACKENDS, rows


class Gradients(bench_layers.Plain):  # by its module: asv takes each class that it finds here
    """Gradients of inputs and weights."""

    params = (
        BACKENDS,
        rows(
            "R3-input R3-weight R4-input R4-weight R8-input R8-weight M1-input M1-weight "
            "A4-input A4-weight",
            table=GRADIENTS,
        ),
    )

    def time_call(self, backend: str, layer: str) -> None:
        """Do it once."""
        self.call()

    time_call.params = (BACKENDS, rows("R3-input R3-weight", table=GRADIENTS))
    time_call.rounds = 1
