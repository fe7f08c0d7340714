"""How a Python function becomes object code: Numba is the front end, LLVM is run once.

Numba makes of each helper a library of its own: optimised, and compiled to machine code that
nobody runs. Here a helper stays LLVM IR as Numba lowered it. The function that is called through
its address is linked with all that it calls, optimised once, and emitted as one object, which
refers to nothing of Python: what would report exceptions is left out, as kernels never raise.
"""

import operator
from collections.abc import Callable, Iterator
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import get_num_threads, njit, types
from numba.core import cgutils, config
from numba.core import typed_passes as typed
from numba.core import untyped_passes as untyped
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, Flags, compile_extra
from numba.core.compiler_machinery import PassManager, register_pass
from numba.core.llvm_bindings import create_pass_builder
from numba.core.registry import cpu_target
from numba.extending import register_jitable

from numbaconv.codegen.machines import target_machine

# Division is C's (no ZeroDivisionError to carry around). No fastmath: NaN and Inf propagate.
OPTIONS = {"error_model": "numpy"}

_OPERATORS = frozenset(each for each in vars(operator).values() if callable(each)) | {bool}
_NUMBERS = types.Number, types.Boolean

# What runs passes on a module for a machine.
Optimisation = Callable[[Any, Any], None]

# What operators make of numbers: see `_Remembering`.
_remembered: dict[tuple[Any, ...], Any] = {}


class _Remembering:
    """Numba's typing context, which looks up once what an operator makes of types of numbers.

    Numba tries all that anybody has registered for an operator, that of arrays among it, each time
    that one occurs.
    """

    def __init__(self, context: Any) -> None:
        self._context = context

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def resolve_function_type(self, function: Any, args: Any, kws: Any) -> Any:
        """Return the signature of a call."""
        is_operator = isinstance(function, types.Function) and function.typing_key in _OPERATORS
        if kws or not is_operator or not all(isinstance(each, _NUMBERS) for each in args):
            return self._context.resolve_function_type(function, args, kws)
        key = function, tuple(args)
        if key not in _remembered:
            _remembered[key] = self._context.resolve_function_type(function, args, kws)
        return _remembered[key]


@register_pass(mutates_CFG=True, analysis_only=False)
class _TypeInference(typed.NopythonTypeInference):
    """Numba's type inference, with what is remembered of operators."""

    def run_pass(self, state: Any) -> Any:
        """Infer the types of a function."""
        context = state.typingctx
        state.typingctx = _Remembering(context)
        try:
            return super().run_pass(state)
        finally:
            state.typingctx = context


# Of Numba's thirty passes, what plain loops over pointers need. `IRLegalization` is not among them:
# it says where each variable ends, for those that count references, and lowering then writes zeros.
# Nor is `ReconstructSSA`: a variable has one type, and LLVM finds out what is where. Numba then
# refuses a variable that begins as a constant of a module and is set to something else.
_PASSES = (
    untyped.TranslateByteCode,
    untyped.FixupArgs,
    untyped.IRProcessing,
    untyped.RewriteSemanticConstants,
    untyped.DeadBranchPrune,
    untyped.GenericRewrites,
    _TypeInference,
    typed.NativeLowering,
    typed.NoPythonBackend,
)


class _NoCode:
    """What Numba asks for once a library is compiled, of one that is not."""

    def set_env(self, name: str, environment: Any) -> None:
        """Machine code would have its environment now."""


class IRLibrary(JITCodeLibrary):
    """A function as LLVM IR, which is never optimised or compiled by itself."""

    def __init__(self, codegen: Any, name: str) -> None:
        super().__init__(codegen, name)
        self.modules: list[Any] = []
        self._linked: Any = None

    @property
    def codegen(self) -> Any:
        """The owner of machine code."""
        return _NoCode()

    def add_ir_module(self, ir_module: Any) -> None:
        """Keep a module of IR."""
        self.modules.append(llvm.parse_assembly(cgutils.normalize_ir_text(str(ir_module))))

    def add_linking_library(self, library: Any) -> None:
        """Note that this one calls what is in another."""
        if not isinstance(library, IRLibrary):
            library._ensure_finalized()
        self._linking_libraries.append(library)

    def finalize(self) -> None:
        """Do nothing: whoever calls this function compiles it."""
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        """Nobody calls it through Python."""
        self._finalized = True
        return 0

    def linked(self) -> Any:
        """Return one module of this library and of all that it calls."""
        module = llvm.parse_assembly(str(self._codegen._create_empty_module(self.name)))
        for library in self._reached():
            for part in _modules_of(library):
                module.link_in(part, preserve=True)
            reload_hooks(self).update(reload_hooks(library))
        return module

    def _reached(self) -> Iterator[Any]:
        """Yield this library and those that it calls, each once."""
        seen: set[Any] = set()
        ahead: list[Any] = [self]
        while ahead:
            library = ahead.pop()
            if library not in seen:
                seen.add(library)
                # A library of Numba's has linked what it calls.
                if isinstance(library, IRLibrary):
                    ahead += library._linking_libraries
                yield library

    def _get_module_for_linking(self) -> Any:
        """For a caller that is compiled by Numba itself."""
        if self._linked is None:
            self._linked = self.linked()
            for function in self._linked.functions:
                if not function.is_declaration:
                    function.linkage = "linkonce_odr"
        return self._linked


def reload_hooks(library: Any) -> set[Any]:
    """Return what Numba calls before it loads a library from its cache; Numba 0.62 has no such."""
    return getattr(library, "_reload_init", set())


def _modules_of(library: Any) -> list[Any]:
    if isinstance(library, IRLibrary):
        return library.modules
    return [library._get_module_for_linking()]


class LeanCompiler(CompilerBase):
    """Compile to an `IRLibrary`."""

    def define_pipelines(self) -> list[Any]:
        """Return the one pipeline."""
        state = self.state
        if state.library is None:
            state.library = IRLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
        manager = PassManager("numbaconv")
        for each in _PASSES:
            manager.add_pass(each, each.__name__)
        manager.finalize()
        return [manager]


# Nobody calls a helper from Python or through its address, so it needs no wrappers.
inline: Callable[..., Any] = register_jitable(
    **OPTIONS, no_cpython_wrapper=True, no_cfunc_wrapper=True, pipeline_class=LeanCompiler
)


def _lean_flags() -> Flags:
    """Return the flags of helpers: Numba compiles a helper again for a caller with other ones.

    They are not read from options as those are: then a caller that is being compiled would lend its
    own, such as fastmath.
    """
    flags = Flags()
    flags.nrt = False  # nothing counts references; else each use of a tuple takes it apart for that
    flags.error_model = OPTIONS["error_model"]
    flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
    # Without effect here, but defaults of helpers.
    flags.enable_looplift = flags.enable_pyobject_looplift = True
    return flags


def compile_lean(
    function: Callable[..., Any],
    signature: Any,
    symbol: str,
    optimise: Optimisation | None = None,
) -> bytes:
    """Return the object code of a function, behind a C function of the given name.

    `optimise` is `tidy`, `lightly`, or by default all that LLVM has.
    """
    result = compile_extra(
        cpu_target.typing_context,
        cpu_target.target_context,
        function,
        signature.args,
        signature.return_type,
        _lean_flags(),
        {},
        pipeline_class=LeanCompiler,
    )
    return _emit(result.library.linked(), result, symbol, optimise or _optimise)


def compile_parallel(function: Callable[..., Any], signature: Any, symbol: str) -> bytes:
    """Return the object code of a function with a ``prange``, which Numba compiles as always.

    It refers to Numba's threading layer and to Python by name: see `start_numba`.
    """
    dispatcher: Any = njit(parallel=True, **OPTIONS)(function)
    dispatcher.compile(signature.args)
    result = dispatcher.overloads[signature.args]
    module = llvm.parse_bitcode(result.library._final_module.as_bitcode())
    return _emit(module, result, symbol, _optimise)


def start_numba() -> None:
    """Load what the machine code of a parallel function refers to by name."""
    get_num_threads()  # the threading layer; TBB wants that, and forks, on the same thread
    _ = cpu_target.target_context  # Numba's helpers in C


def _emit(module: Any, result: Any, symbol: str, optimise: Optimisation) -> bytes:
    """Optimise all as one, of which only the C function is called from outside."""
    module.link_in(llvm.parse_assembly(str(_c_function(result, symbol))))
    _make_internal(module, symbol)
    machine = target_machine()
    module.triple, module.data_layout = machine.triple, str(machine.target_data)
    optimise(module, machine)
    code: bytes = machine.emit_object(module)
    return code


def _optimise(module: Any, machine: Any, level: int | None = None) -> None:
    """Run LLVM's passes on a module: those of a level, by default of Numba's."""
    builder = create_pass_builder(
        machine,
        opt=config.OPT if level is None else level,
        loop_vectorize=config.LOOP_VECTORIZE,
        slp_vectorize=config.SLP_VECTORIZE,
    )
    builder.getModulePassManager().run(module, builder)


def lightly(module: Any, machine: Any) -> None:
    """Run LLVM's passes of level 1, for a function whose inner loops are behind addresses."""
    _optimise(module, machine, min(1, int(config.OPT)))


def tidy(module: Any, machine: Any) -> None:
    """Run the few passes that IR needs whose loops are emitted as they are to be.

    What Numba wraps around it goes: calls, and memory for variables. The others find nothing more
    in the hundreds of blocks of a register tile, in ten times the time.
    """
    for each in module.functions:
        if each.linkage == llvm.Linkage.internal and not each.is_declaration:
            each.add_function_attribute("alwaysinline")
    passes = llvm.create_new_module_pass_manager()
    passes.add_always_inliner_pass()
    passes.add_global_dead_code_eliminate_pass()
    passes.add_sroa_pass()
    passes.add_simplify_cfg_pass()
    passes.add_instruction_combine_pass()
    passes.add_simplify_cfg_pass()
    passes.run(module, create_pass_builder(machine))


def _make_internal(module: Any, symbol: str) -> None:
    """Hide all but one function, under names that are the same in every process."""
    number = 0
    for each in (*module.functions, *module.global_variables):
        if not each.is_declaration and each.name != symbol:
            each.linkage = "internal"
            each.name = f"{symbol}.{number}"
            number += 1


def _c_function(result: Any, symbol: str) -> ir.Module:
    """IR of a C function that calls a Numba function, and drops what it says of exceptions."""
    context, descriptor = result.target_context, result.fndesc
    function_type = context.call_conv.get_function_type(descriptor.restype, descriptor.argtypes)
    module = ir.Module()
    callee = ir.Function(module, function_type, descriptor.mangled_name)
    is_void = descriptor.restype in (types.void, types.none)
    returned = ir.VoidType() if is_void else function_type.args[0].pointee
    function = ir.Function(module, ir.FunctionType(returned, function_type.args[2:]), symbol)
    builder = ir.IRBuilder(function.append_basic_block())
    places = [builder.alloca(each.pointee) for each in function_type.args[:2]]
    builder.call(callee, [*places, *function.args])
    if is_void:
        builder.ret_void()
    else:
        builder.ret(builder.load(places[0]))
    return module
