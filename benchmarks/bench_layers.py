"""Speed over the layers, for each backend."""

from benchmarks.lib.layers import EVERY_ROW
from benchmarks.lib.suite import BACKENDS, ready, rows
from benchmarks.lib.worker import median_time


class Plain:
    """Plain calls: the weights are packed in each of them."""

    version = "1"
    timeout = 300
    prepared = False
    param_names = ("backend", "layer")
    params = (BACKENDS, rows("R1 R3 R9 V1 M1 X1 D1 A1 C3"))

    def setup(self, backend: str, layer: str) -> None:
        """Make and compile the call."""
        self.call = ready(backend, layer, self.prepared)

    def track_gflops(self, backend: str, layer: str) -> float:
        """Count the products of the definition, two FLOPs each."""
        return round(EVERY_ROW[layer].flops / median_time(self.call, 0.2) / 1e9, 2)

    track_gflops.unit = "GFLOP/s"

    def time_call(self, backend: str, layer: str) -> None:
        """Do it once."""
        self.call()

    # asv takes less for better, which holds for times only; a few of them are enough to tell.
    time_call.params = (BACKENDS, ("R3", "V1", "M1", "I2"))
    time_call.rounds = 1


class Prepared(Plain):
    """Prepared layers: the weights are packed ahead."""

    prepared = True
