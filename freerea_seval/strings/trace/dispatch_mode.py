"""The dispatch mode under which a network is traced: it observes every ATen operation of one forward pass.

:class:`DispatchMode` calls its subclass for every operation. :func:`expose_operations` makes PyTorch dispatch what it
would otherwise hide or fuse, such as ``nn.Identity`` and attention. :class:`MetaConstants` computes the values of those
tensors on the meta device that depend on neither weights nor inputs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.nn import functional as F
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.modules.module import register_module_forward_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from freerea_seval.strings.trace.operations import ALLOCATIONS, Schema, schema_of

#: The values of larger tensors are not computed.
_MAX_CONSTANT_ELEMENTS = 1 << 20
#: Operations that return a Python value.
_READING_VALUES = frozenset(("local_scalar_dense", "equal", "is_nonzero"))


class DispatchMode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Runs every dispatched operation and reports it to :meth:`on_operation`.

    Attributes:
        paused: whether operations run unreported.
        failure: the last exception of an operation, the name of the operation, such as ``"aten::mm"``, and whether an
            argument was on the meta device.
        unprocessed: the first exception that :meth:`on_operation` raised; nothing is reported after it. It is not
            raised where it occurs, because C++ code that may not throw calls some operations, such as queries of sizes.
        constants: evaluates constants on the meta device; None if no tensor of the network is there.
        active: the modes of the traces under way, the innermost last.
    """

    active: ClassVar[list[DispatchMode]] = []
    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.paused = False
        self.failure: tuple[Exception, str, bool] | None = None
        self.unprocessed: Exception | None = None
        self.constants: MetaConstants | None = None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)  # type: ignore[no-untyped-call]

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # By default, torch wraps __torch_dispatch__ to exclude it from compilation. The wrapper imports torch._dynamo,
        # which takes a second, and nothing is compiled here.
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation and report it."""
        kwargs = kwargs or {}
        if not isinstance(func, OpOverload):
            return self._run_higher_order(func, args, kwargs)
        schema = schema_of(func)
        arguments = dict(zip(schema.defaults, args, strict=False)) | kwargs
        try:
            if schema.writes:
                self.before_write([tensor for name in schema.writes for tensor in tensors_in(arguments.get(name))])
            result = func(*args, **kwargs) if self.constants is None else self.constants.run(func, args, kwargs)
        except Exception as error:
            self._note_failure(error, func, arguments.values())
            raise
        if not self.paused and self.unprocessed is None:
            try:
                self.on_operation(schema, arguments, result)
            except Exception as error:
                self.unprocessed = error
                self._note_failure(error, func, arguments.values())
        return result

    def _note_failure(self, error: Exception, func: Any, arguments: Iterable[Any]) -> None:
        tensors = [tensor for value in arguments for tensor in tensors_in(value)]
        meta = any(tensor is not None and tensor.is_meta for tensor in tensors)
        self.failure = error, func.name().partition(".")[0], meta

    def _run_higher_order(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run an operator whose arguments are functions: attention as one operation, of a condition its branch."""
        name = func.name()
        if name == "flex_attention":
            with self.pause():
                result = func(*args, **kwargs)
            query, key, value = args[:3]
            if not self.paused:
                self.on_opaque("flex_attention", {"heads": query.shape[1]}, [query, key, value], result[0])
            return result
        if name == "cond":
            predicate, if_true, if_false, operands = args
            with self:
                return (if_true if predicate else if_false)(*operands)
        raise NotImplementedError(
            f"the higher-order operator {name} cannot be traced; those that can are flex_attention and cond"
        )

    def before_write(self, tensors: Sequence[Tensor | None]) -> None:
        """Process tensors that the next operation overwrites."""

    def on_operation(self, schema: Schema, arguments: Mapping[str, Any], result: object) -> None:
        """Process an operation after it has run.

        Args:
            schema: of the operation.
            arguments: by name; arguments that the caller left at their default are missing.
            result: of the operation.
        """

    def on_opaque(self, kind: str, attributes: dict[str, object], inputs: Sequence[Tensor], result: Tensor) -> None:
        """Process a computation that :meth:`opaque` has run."""

    def on_parameters(self, parameters: Sequence[Tensor]) -> None:
        """Process parameters that the network has initialised while it runs."""

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Run operations without reporting them."""
        paused, self.paused = self.paused, True
        try:
            yield
        finally:
            self.paused = paused

    def opaque(
        self, kind: str, attributes: dict[str, object], inputs: Sequence[Tensor], compute: Callable[[], Tensor]
    ) -> Tensor:
        """Run a computation that the graph shows as one node.

        Args:
            kind, attributes: of the node.
            inputs: of the node.
            compute: returns the result, in memory of its own.
        """
        if self.paused:
            return compute()
        with self.pause():
            result = compute()
        self.on_opaque(kind, attributes, inputs, result)
        return result


class MetaConstants:
    """Evaluates operations whose inputs are constants also on the CPU, for networks on the meta device.

    Constants are tensors that depend on neither weights nor inputs, such as positions and masks. Libraries read their
    values to choose a kernel (``if mask.all()``), which fails on the meta device.
    """

    def __init__(self) -> None:
        # By id of the tensor: the tensor, which must stay alive as long as its id is used, and its copy with values.
        self._values: dict[int, tuple[Tensor, Tensor]] = {}

    def run(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Run an operation and return its result."""
        schema = schema_of(func)
        arguments = [item for item in tree_leaves((args, kwargs)) if isinstance(item, Tensor)]
        constant = all(not tensor.is_meta or id(tensor) in self._values for tensor in arguments)
        if constant and schema.kind in _READING_VALUES:
            return func(*tree_map(self._with_values, args), **kwargs)
        result = func(*args, **kwargs)
        if schema.writes and not constant and any(id(tensor) in self._values for tensor in arguments):
            self._values.clear()  # other tensors may share the memory that was overwritten
        results = [item for item in tree_leaves(result) if isinstance(item, Tensor)]
        random = schema.kind in ALLOCATIONS or "generator" in schema.defaults
        small = all(tensor.is_meta and tensor.numel() <= _MAX_CONSTANT_ELEMENTS for tensor in results)
        if constant and not random and results and small:
            named = tree_map(self._with_values, dict(kwargs))
            if named.get("device") is not None:
                named["device"] = torch.device("cpu")
            with suppress(RuntimeError):  # operations that the CPU does not implement
                copies = tree_leaves(func(*tree_map(self._with_values, args), **named))
                self._values |= {id(one): (one, copy) for one, copy in zip(results, copies, strict=True)}
        return result

    def _with_values(self, item: Any) -> Any:
        return self._values[id(item)][1] if isinstance(item, Tensor) and item.is_meta else item


def tensors_in(value: object) -> Sequence[Tensor | None]:
    """Return the tensors in an argument or result: itself, or those of a list (ATen does not nest lists).

    None stands for list items that are no tensors, as in ``x[:, index]``.
    """
    if isinstance(value, Tensor):
        return (value,)
    if isinstance(value, (list, tuple)) and any(isinstance(item, Tensor) for item in value):
        return [item if isinstance(item, Tensor) else None for item in value]
    return ()


def _run_uncompiled(model: Any = None, **options: Any) -> Any:
    """Stand for ``torch.compile``, as a function and as a decorator with options."""
    return (lambda function: function) if model is None else model


@contextmanager
def expose_operations(mode: DispatchMode, network: nn.Module) -> Iterator[None]:
    """Make PyTorch dispatch the same operations on every device while a network runs.

    - ``nn.Identity``, which dispatches nothing, becomes a node, since devices spend time on it.
    - Attention becomes one node: which kernel runs depends on device, dtype and mask. So do rotary positions of the
      built-in language models, whose tables are no part of the architecture.
    - ``nn.LSTM`` runs step by step, as without oneDNN, whose single kernel only the CPU has.
    - ``nn.TransformerEncoder`` runs its layers' operations, not the fused kernel of evaluation mode.
    - Lazy modules initialise their parameters unseen.
    - Nothing is compiled: what is compiled runs as written.
    """

    def show_identity(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
        if type(module) is not nn.Identity or not isinstance(output, Tensor):
            return None
        return mode.opaque("alias", {}, [output], output.clone)

    def initialise(module: Any, inputs: tuple[Any, ...], keywords: dict[str, Any] | None = None) -> None:
        with mode.pause():
            module._infer_parameters(module, inputs, keywords)
        mode.on_parameters(list(module.parameters(recurse=False)))

    modules = list(network.modules())
    for module in modules:
        if isinstance(module, LazyModuleMixin) and hasattr(module, "_initialize_hook"):
            module._forward_pre_hooks[module._initialize_hook.id] = initialise
    hook = register_module_forward_hook(show_identity)  # of all modules, as a function may call others than those here
    attention, compile_ = F.scaled_dot_product_attention, torch.compile
    onednn = torch.backends.mkldnn.enabled
    fused_encoder = torch.backends.mha.get_fastpath_enabled()
    # Functions can only have been compiled if the compiler, which takes a second to import, is there already.
    compiled = "torch._dynamo" in sys.modules and hasattr(torch.compiler, "set_stance")
    stance = torch.compiler.set_stance("force_eager") if compiled else nullcontext()
    # Attention with functions makes an empty mask for its kernel if it gets none.
    flex = sys.modules.get("torch.nn.attention.flex_attention")
    empty_mask = getattr(flex, "_create_empty_block_mask", None)
    # Whoever traces a language model has imported the module of its networks.
    language_models: Any = sys.modules.get("freerea_patch.gpt_networks")
    rotate = getattr(language_models, "rotate", None)
    DispatchMode.active.append(mode)
    try:
        if rotate is not None:
            language_models.rotate = partial(_opaque_rotary, mode, rotate)
        if empty_mask is not None:
            flex._create_empty_block_mask = mode.pause()(empty_mask)  # type: ignore[union-attr]
        torch.compile = _run_uncompiled
        F.scaled_dot_product_attention = partial(_opaque_attention, mode, attention)
        torch.backends.mha.set_fastpath_enabled(False)
        if any(isinstance(module, nn.LSTM) for module in modules):
            torch.backends.mkldnn.enabled = False  # type: ignore[assignment]
        with stance:
            yield
    finally:
        DispatchMode.active.pop()
        F.scaled_dot_product_attention, torch.compile = attention, compile_
        if rotate is not None:
            language_models.rotate = rotate
        if empty_mask is not None:
            flex._create_empty_block_mask = empty_mask  # type: ignore[union-attr]
        torch.backends.mkldnn.enabled = onednn
        torch.backends.mha.set_fastpath_enabled(fused_encoder)
        hook.remove()


def _opaque_rotary(
    mode: DispatchMode, rotate: Callable[..., Tensor], x: Tensor, cos: Tensor, sin: Tensor, start: int
) -> Tensor:
    """Run :func:`freerea_patch.gpt_networks.rotate`, whose last arguments these are, as one operation."""
    return mode.opaque("rotary", {"features": 2 * cos.shape[-1]}, [x], lambda: rotate(x, cos, sin, start))


def _opaque_attention(
    mode: DispatchMode,
    attention: Callable[..., Tensor],
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Run ``F.scaled_dot_product_attention``, whose arguments these are, as one operation."""
    grouped = {"enable_gqa": True} if enable_gqa else {}  # torch 2.4 does not have this argument
    run = partial(attention, query, key, value, attn_mask, dropout_p, is_causal, scale=scale, **grouped)
    if dropout_p > 0:  # runs as matrix products on the CPU, whose kernel does not implement dropout
        return run()
    attributes: dict[str, object] = {"heads": query.shape[-3]} if query.ndim > 3 else {}
    if is_causal:
        attributes["causal"] = 1
    if scale is not None and abs(scale * query.shape[-1] ** 0.5 - 1) > 1e-6:
        attributes["scale"] = scale

    def compute() -> Tensor:
        result = run()
        if result.is_meta and result.ndim == 4:
            # Kernels of real devices lay the result out as (batch, length, heads, features), so that a later
            # transposition and reshape does not copy it.
            return result.transpose(1, 2).contiguous().transpose(1, 2)
        return result

    inputs = [query, key, value, *([] if attn_mask is None else [attn_mask])]
    return mode.opaque("attention", attributes, inputs, compute)
