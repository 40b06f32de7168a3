"""What watches a network run, and shows what PyTorch hides from it: identities, and attention as one operation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from freerea_seval.strings.trace.meta_constants import Values
from freerea_seval.strings.trace.operations import Schema, schema_of


class Failure(NamedTuple):
    """An operation that failed.

    Attributes:
        error: what it raised.
        operation: its full name, ``"aten::mm"``.
        meta: whether it got a tensor without values.
    """

    error: Exception
    operation: str
    meta: bool


class Watcher(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every operation that runs under it.

    Attributes:
        paused: whether to look away.
        failure: the last operation that failed.
        values: runs operations on the meta device; None elsewhere.
        active: the watchers of the runs under way, the innermost last.
    """

    active: ClassVar[list[Watcher]] = []

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.paused = False
        self.failure: Failure | None = None
        self.values: Values | None = None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)  # type: ignore[no-untyped-call]

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Nothing here is ever compiled, and the wrapper that would say so imports torch._dynamo, which takes a second.
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation and watch it."""
        try:
            if self.values is not None:
                result = self.values.run(func, args, kwargs or {})
            else:
                result = func(*args, **kwargs) if kwargs else func(*args)
            if not self.paused:
                schema = schema_of(func)
                arguments = dict(zip(schema.defaults, args, strict=False))
                self.watch(schema, arguments | kwargs if kwargs else arguments, result)
        except Exception as error:
            given = [tensor for value in (*args, *(kwargs or {}).values()) for tensor in tensors_in(value)]
            self.failure = Failure(
                error, func.name().partition(".")[0], any(t is not None and t.is_meta for t in given)
            )
            raise
        return result

    def watch(self, schema: Schema, arguments: Mapping[str, Any], result: object) -> None:
        """Take note of an operation.

        Args:
            schema: of the operation.
            arguments: what it got, by name; defaults that nobody gave are left out.
            result: what it returned.
        """

    @contextmanager
    def looking_away(self) -> Iterator[None]:
        """Run what is not to be seen."""
        paused, self.paused = self.paused, True
        try:
            yield
        finally:
            self.paused = paused

    def opaque(
        self, kind: str, attributes: dict[str, object], inputs: Sequence[Tensor], results: Sequence[Tensor]
    ) -> None:
        """Take note of an operation that is not to be looked into."""


def tensors_in(value: object) -> Sequence[Tensor | None]:
    """Return the tensors of an argument or a result: itself, or those of a list, which ATen never nests.

    None stands for what is left out of a list, as in ``x[:, index]``.
    """
    if isinstance(value, Tensor):
        return (value,)
    if isinstance(value, (list, tuple)) and any(isinstance(item, Tensor) for item in value):
        return [item if isinstance(item, Tensor) else None for item in value]
    return ()


class _Opaque(torch.autograd.Function):
    """An operation that a graph shows as one node, whatever it is made of."""

    @staticmethod
    def forward(
        ctx: Any, operation: tuple[str, dict[str, object]], make: Callable[[], Tensor], *inputs: Tensor
    ) -> Tensor:
        """Return the operation's result."""
        ctx.operation = operation
        return make()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> None:
        """Never run."""
        raise NotImplementedError


def opaque(
    watcher: Watcher,
    kind: str,
    attributes: dict[str, object],
    shape: Sequence[int],
    inputs: Sequence[Tensor],
    values: Callable[[], Tensor] | None = None,
) -> Tensor:
    """Run an operation that a graph shows as one node.

    Args:
        watcher: what watches the run.
        kind, attributes: of the node.
        shape: of the result, whose dtype and device are the first input's.
        inputs: the node's inputs.
        values: computes the result, in memory of its own; None for zeros.
    """
    make = values or (lambda: inputs[0].new_zeros(shape))
    if watcher.paused:
        return make()
    with watcher.looking_away():
        # Only the autograd graph needs a function of its own.
        graphed = torch.is_grad_enabled()
        result: Tensor = _Opaque.apply((kind, attributes), make, *inputs) if graphed else make()  # type: ignore[no-untyped-call]
    watcher.opaque(kind, attributes, inputs, [result])
    return result


@contextmanager
def _visible_attention(watcher: Watcher) -> Iterator[None]:
    """Show attention as one operation: which of its kernels runs depends on device, dtype and mask."""
    original = F.scaled_dot_product_attention

    def attention(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        # torch 2.4 has no enable_gqa.
        grouped = {"enable_gqa": True} if enable_gqa else {}
        if dropout_p > 0:  # matrix products on a CPU, whose kernel has no dropout
            return original(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, **grouped)
        attributes: dict[str, object] = {"heads": query.shape[-3]} if query.ndim > 3 else {}
        if is_causal:
            attributes["causal"] = 1
        if scale is not None and abs(scale * query.shape[-1] ** 0.5 - 1) > 1e-6:
            attributes["scale"] = scale
        inputs = [query, key, value, *([] if attn_mask is None else [attn_mask])]

        def values() -> Tensor:
            result = original(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, **grouped)
            if result.is_meta and result.ndim == 4:
                # The kernels of real devices lay the result out with the heads inside, which spares a copy behind it.
                return result.transpose(1, 2).contiguous().transpose(1, 2)
            return result

        return opaque(watcher, "attention", attributes, (*query.shape[:-1], value.shape[-1]), inputs, values)

    F.scaled_dot_product_attention = attention
    try:
        yield
    finally:
        F.scaled_dot_product_attention = original


@contextmanager
def _visible_identities(watcher: Watcher, network: nn.Module) -> Iterator[None]:
    """Show ``nn.Identity`` as an operation: devices pay for it, and no graph has it otherwise."""

    def show(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
        if isinstance(output, Tensor):
            return opaque(watcher, "alias", {}, output.shape, [output], output.clone)
        return None

    hooks = [module.register_forward_hook(show) for module in network.modules() if type(module) is nn.Identity]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _stepwise_recurrence(network: nn.Module) -> Iterator[None]:
    """Show the steps of an LSTM: one of the CPU's libraries has it as one operation, and other devices do not."""
    enabled = torch.backends.mkldnn.enabled
    if any(isinstance(module, nn.LSTM) for module in network.modules()):
        torch.backends.mkldnn.enabled = False  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.backends.mkldnn.enabled = enabled


@contextmanager
def _stepwise_encoders() -> Iterator[None]:
    """Show the operations of nn.TransformerEncoder, which only some modes and devices have as one."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


@contextmanager
def visible(watcher: Watcher, network: nn.Module) -> Iterator[None]:
    """Show a watcher what PyTorch would hide of a network while it runs."""
    with (
        _stepwise_recurrence(network),
        _stepwise_encoders(),
        _visible_attention(watcher),
        _visible_identities(watcher, network),
    ):
        Watcher.active.append(watcher)
        try:
            yield
        finally:
            Watcher.active.pop()
