"""Peak memory of a process that convolves once.

Subtract `peakmem_reference`, which is the same process without the call: what remains is the
output and the workspace.
"""

from benchmarks.lib.layers import LAYERS, arrays
from benchmarks.lib.rivals import numbaconv
from benchmarks.lib.suite import BACKENDS, compile_all, ready, rows


class Memory:
    """Plain calls. The patch matrix of V2 would have 115 MB, that of C2 347 MB, of I2 3.3 GB."""

    version = "1"
    timeout = 300
    param_names = ("backend", "layer")
    params = (BACKENDS, rows("R9 V2 C2 I2"))

    def setup_cache(self) -> None:
        """Fill the kernel cache: a compiler's memory would hide that of the call."""
        compile_all()

    setup_cache.timeout = 300

    def setup(self, backend: str, layer: str) -> None:
        """Load the kernels, and make the arrays."""
        for small in ("T1", "Q1", "M1"):  # a matrix product, a filter, a depthwise layer
            ready(backend, small)
        problem = LAYERS[layer]
        self.call = numbaconv(backend=backend)(problem, *arrays(problem))

    def peakmem_call(self, backend: str, layer: str) -> None:
        """Convolve."""
        self.call.run()

    def peakmem_reference(self, backend: str, layer: str) -> None:
        """Do nothing."""
