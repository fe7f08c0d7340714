"""The machines that code is compiled for: the one that Numba compiles for, and those of wheels.

Kernels are built ahead for families of CPUs, under their names in LLVM. This says which family the
host is of, and, in a process that builds, which machine all code of the package is for.
"""

import functools
from typing import Any, NamedTuple

import llvmlite.binding as llvm
from numba.core import config
from numba.core.codegen import get_host_cpu_features


class Machine(NamedTuple):
    """What code is compiled for, as LLVM writes it."""

    triple: str
    cpu: str
    features: str

    @property
    def architecture(self) -> str:
        """The part of the triple that says which instructions there are."""
        return self.triple.partition("-")[0]


class Family(NamedTuple):
    """CPUs that have kernels built ahead.

    Attributes
    ----------
    machine : Machine
        What the kernels are compiled for.
    vector_bytes : int
        Size of its vectors. Of a CPU that prefers smaller ones the kernels differ.
    needs : set of str
        Features without which a CPU cannot run them.
    """

    machine: Machine
    vector_bytes: int
    needs: set[str]


# As the x86-64 psABI has them (section 3.1.1): what each level adds to the one below.
_V2 = {"cx16", "popcnt", "sahf", "sse3", "sse4.1", "sse4.2", "ssse3"}
_V3 = _V2 | {"avx", "avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe", "xsave"}
_V4 = _V3 | {"avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl"}

HOST = "host"
FAMILIES = {
    "x86-64-v3": Family(Machine("x86_64-unknown-linux-gnu", "x86-64-v3", ""), 32, _V3),
    "x86-64-v4": Family(Machine("x86_64-unknown-linux-gnu", "x86-64-v4", ""), 64, _V4),
    # All of 64 bits have NEON, and not all systems say so.
    "neon": Family(Machine("aarch64-unknown-linux-gnu", "generic", "+neon"), 16, set()),
}

_other: Machine | None = None  # that this process builds for


def compile_for(machine: Machine) -> None:
    """Have all code of this process compiled for a machine, which need not be able to run it.

    To be called before anything of the package is imported that depends on the vector registers.
    """
    global _other
    _other = machine


@functools.cache
def host() -> Machine:
    """Return the machine that this process runs on."""
    features = str(get_host_cpu_features())
    return Machine(llvm.get_process_triple(), str(llvm.get_host_cpu_name()), features)


def machine() -> Machine:
    """Return what code is compiled for in this process."""
    if _other is not None:
        return _other
    if is_host():
        return host()
    features = host().features if config.CPU_FEATURES is None else str(config.CPU_FEATURES)
    return Machine(host().triple, str(config.CPU_NAME or host().cpu), features)


def is_host() -> bool:
    """Whether code is compiled for this very machine, and nobody has asked for another."""
    return _other is None and config.CPU_NAME is None and config.CPU_FEATURES is None


def has(feature: str) -> bool:
    """Whether the host has a feature."""
    return f"+{feature}" in host().features.split(",")


def lacks(feature: str) -> bool:
    """Whether LLVM says that the host is without a feature; it may not know of it."""
    return f"-{feature}" in host().features.split(",")


def is_of(family: Family) -> bool:
    """Whether the host can run the kernels of a family."""
    same_system = "linux" in host().triple
    same_architecture = host().architecture == family.machine.architecture
    return same_system and same_architecture and all(map(has, family.needs))


def new_target_machine() -> Any:
    """Return what emits code in LLVM, with the models of code that Numba asks for."""
    if _other is None:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
    else:
        llvm.initialize_all_targets()
        llvm.initialize_all_asmprinters()
    made_for = machine()
    return llvm.Target.from_triple(made_for.triple).create_target_machine(
        cpu=made_for.cpu,
        features=made_for.features,
        opt=int(config.OPT),
        reloc="static" if made_for.architecture in ("x86_64", "i686") else "default",
        codemodel="jitdefault",
        jit=True,
    )


target_machine = functools.cache(new_target_machine)  # an engine owns its own
