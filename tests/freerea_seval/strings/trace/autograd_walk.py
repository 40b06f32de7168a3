"""The oracle of the recorder: the graph of a network from its autograd graph, walked from the results' ``grad_fn``.

It shares the normalisation of operations and the graph builder with the recorder, but sees operations in another way: a
function of the autograd graph names the operation, knows shapes and dtypes of its results, and saves most arguments. It
shows neither operations without a gradient, nor a number that is added, nor work in place on a view. Where one of
these occurs, :class:`UnseenError` is raised.

``python -m tests.freerea_seval.strings.trace.autograd_walk`` prints a table: for which networks it shows everything,
and whether the strings of the recorder are then equal.
"""

from __future__ import annotations

import re
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from freerea_patch import InputError
from freerea_patch.networks import preserve_state
from freerea_seval.strings.graph.ir import Graph, Ref, Spec
from freerea_seval.strings.trace.dispatch_mode import DispatchMode, MetaConstants, tensors_in
from freerea_seval.strings.trace.operations import (
    IGNORED_ARGUMENTS,
    TRANSPARENT,
    Parameter,
    Schema,
    Source,
    kind_of,
    spec_of,
)
from freerea_seval.strings.trace.recorder import GraphBuilder
from freerea_seval.strings.trace.tracer import Inputs, iter_tensors, map_tensors, run

#: Tensor arguments that have no gradient, and that the autograd graph does not show.
_NO_GRADIENT = frozenset(("running_mean", "running_var"))
#: Arguments that follow from the shape of the result.
_INFERRED = (IGNORED_ARGUMENTS - {"transposed"}) | {"out_dtype"}


class UnseenError(Exception):
    """The autograd graph does not show an operation, or not all of its arguments."""


class _Opaque(torch.autograd.Function):
    """A computation that the autograd graph shows as one function."""

    @staticmethod
    def forward(
        ctx: Any, operation: tuple[str, dict[str, object]], compute: Callable[[], Tensor], *inputs: Tensor
    ) -> Tensor:
        ctx.operation = operation
        return compute()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> None:
        raise NotImplementedError


class Census(DispatchMode):
    """Counts operations by kind, and their plain arguments, to find out whether the autograd graph shows them all."""

    def __init__(self) -> None:
        super().__init__()
        self.kinds: Counter[str] = Counter()
        self.arguments: Counter[tuple[str, str]] = Counter()
        self.unseen: UnseenError | None = None
        self.stale: list[Tensor] = []
        self._identities: list[tuple[Tensor, Tensor]] = []

    def on_operation(self, schema: Schema, arguments: Mapping[str, Any], result: object) -> None:
        """Count an operation.

        Raises:
            UnseenError: the autograd graph will not show it.
        """
        if schema.kind in TRANSPARENT or not (isinstance(result, (Tensor, list, tuple)) or schema.writes):
            return
        self.kinds[schema.kind] += 1
        self.arguments.update((schema.kind, name) for name, value in arguments.items() if _is_shown(name, value))
        tensors = [t for value in arguments.values() for t in tensors_in(value) if t is not None]
        if not any(t.requires_grad for t in tensors) or (self.stale and self.is_stale(tensors)):
            # The network may catch the error.
            self.unseen = UnseenError(schema.kind)
            raise self.unseen
        written = [t for name in schema.writes for t in tensors_in(arguments.get(name)) if t is not None]
        # The two ends of an identity are one memory, but two tensors in the autograd graph.
        for tensor in written if self._identities else ():
            self.stale += [other for one, other in self._identities if _same_memory(one, tensor)]

    def opaque(
        self, kind: str, attributes: dict[str, object], inputs: Sequence[Tensor], compute: Callable[[], Tensor]
    ) -> Tensor:
        if self.paused:
            return compute()
        with self.pause():
            result: Tensor = _Opaque.apply((kind, attributes), compute, *inputs)  # type: ignore[no-untyped-call]
        if kind == "alias":
            self._identities += [(inputs[0], result), (result, inputs[0])]
        return result

    def is_stale(self, tensors: Sequence[Tensor]) -> bool:
        """Return whether one of these was written to at the other end of an identity."""
        return any(_same_memory(tensor, other) for tensor in tensors for other in self.stale)


def trace_by_autograd(network: nn.Module, inputs: Inputs) -> Graph:
    """Return the graph of a network, as :func:`freerea_seval.strings.trace.tracer.trace_module` does.

    Raises:
        UnseenError: the autograd graph does not show everything.
        InputError: the network fails; it may do so only because its inputs require a gradient here.
    """
    parameters = list(network.parameters())
    if not all(parameter.requires_grad for parameter in parameters):
        raise UnseenError("frozen parameters")
    arguments = map_tensors(inputs, lambda tensor: tensor.detach().clone().requires_grad_(tensor.is_floating_point()))
    tensors = list(iter_tensors(arguments))
    census = Census()
    if any(tensor.is_meta for tensor in (*parameters, *tensors)):
        census.constants = MetaConstants()
    with preserve_state(network), torch.enable_grad():
        network.eval()
        try:
            result = run(network, arguments, census)
        except InputError:
            if census.unseen is not None:
                raise census.unseen from None
            raise
        return walk(parameters, tensors, list(iter_tensors(result)), census)


def walk(parameters: Sequence[Tensor], inputs: Sequence[Tensor], results: Sequence[Tensor], census: Census) -> Graph:
    """Return the graph of the operations that produced a network's results.

    Args:
        parameters: of the network that ran, which are weights.
        inputs: the tensors that it got; floating-point ones require a gradient.
        results: what it returned.
        census: counted while it ran.

    Raises:
        UnseenError: the autograd graph does not show all that ran.
    """
    if census.unseen is not None or census.is_stale(results):
        raise census.unseen or UnseenError("work in place after nn.Identity")
    builder = GraphBuilder()
    weights = [Parameter(id(parameter), spec_of(parameter)) for parameter in parameters]
    leaves: dict[int, Source] = {weight.key: weight for weight in weights}
    for tensor in inputs:
        leaves[id(tensor)] = Ref(builder.add("input", [], [spec_of(tensor)]))
    seen: Counter[str] = Counter()
    shown: Counter[tuple[str, str]] = Counter()
    sources: dict[Any, list[Source]] = {}
    for function in _reachable(results):
        if hasattr(function, "operation"):
            kind, attributes = function.operation
            read = _inputs(function, sources, leaves)
            if None in read:
                raise UnseenError(kind)
            sources[function] = [Ref(builder.add(kind, cast("list[Source]", read), _outputs(function), attributes))]
        else:
            operation = _operation(function, sources, leaves)
            seen[operation.kind] += 1
            shown.update((operation.kind, name) for name in operation.arguments)
            sources[function] = _add(builder, operation, _outputs(function))
    for kind in TRANSPARENT:
        del seen[kind]
    if seen != census.kinds:
        raise UnseenError(", ".join(sorted((census.kinds - seen) + (seen - census.kinds))))
    # An overload with an argument that is not saved may look like one without: round(decimals=2) like round.
    if hidden := census.arguments - shown:
        raise UnseenError(", ".join(f"{name} of {kind}" for kind, name in sorted(hidden)))
    refs = []
    for tensor in results:
        source = sources[tensor.grad_fn][tensor.output_nr] if tensor.grad_fn is not None else leaves.get(id(tensor))
        if source is None:
            raise UnseenError("a result")
        refs.append(source)
    return builder.graph(refs, weights)


def _same_memory(one: Tensor, other: Tensor) -> bool:
    return one.untyped_storage()._cdata == other.untyped_storage()._cdata  # type: ignore[no-any-return]


def _is_shown(name: str, value: object) -> bool:
    """Return whether an argument is one that the autograd graph has to show."""
    plain = isinstance(value, (int, float, complex, str, list, tuple))
    return plain and name not in _INFERRED and not tensors_in(value)


class _Operation(NamedTuple):
    """An operation as the autograd graph shows it."""

    kind: str
    arguments: Mapping[str, object]
    defaults: Mapping[str, object]
    inputs: Sequence[Source | None]


def _reachable(results: Sequence[Tensor]) -> list[Any]:
    """Return the functions behind tensors in the order of execution, without leaves."""
    reached: dict[Any, None] = {}
    waiting = [tensor.grad_fn for tensor in results if tensor.grad_fn is not None]
    while waiting:
        function: Any = waiting.pop()
        if function in reached or hasattr(function, "variable"):
            continue
        reached[function] = None
        waiting += [source for source, _ in function.next_functions if source is not None]
    return sorted(reached, key=lambda function: int(function._sequence_nr()))


def _inputs(function: Any, sources: Mapping[Any, list[Source]], leaves: Mapping[int, Source]) -> list[Source | None]:
    inputs: list[Source | None] = []
    for source, port in function.next_functions:
        if source is None:
            inputs.append(None)
        elif hasattr(source, "variable"):
            inputs.append(leaves.get(id(source.variable)))
        else:
            inputs.append(sources[source][port])
    return inputs


def _outputs(function: Any) -> list[Spec]:
    metadata = function._input_metadata
    return [Spec(tuple(map(int, m.shape)), str(m.dtype).removeprefix("torch.")) for m in metadata]


def _add(builder: GraphBuilder, operation: _Operation, outputs: list[Spec]) -> list[Source]:
    """Add an operation; return the source of each of its results."""
    inputs = [source for source in operation.inputs if source is not None]
    if operation.kind in ("reshape", "expand", "slice", "permute") and len(inputs) == 1:
        first = inputs[0]
        spec = builder.spec(first)
        if isinstance(first, Parameter) and spec.elements == outputs[0].elements:
            return [first._replace(spec=outputs[0])]
    if operation.kind in TRANSPARENT:
        return [inputs[0]]
    position = builder.add(operation.kind, inputs, outputs, operation.arguments, operation.defaults)
    return [Ref(position, port) for port in range(len(outputs))]


def _operation(function: Any, sources: Mapping[Any, list[Source]], leaves: Mapping[int, Source]) -> _Operation:
    """Return what ran forward where ``function`` would run backward."""
    overload = _overload(cast(Hashable, type(function)), function.name(), len(function.next_functions))
    inputs = _inputs(function, sources, leaves)
    arguments = {name: _signed(getattr(function, f"_saved_{name}")) for name in overload.saved}
    if any(map(tensors_in, arguments.values())):
        raise UnseenError(overload.kind)  # another overload has a tensor by the name of this one's number
    for index, (name, optional) in enumerate(overload.tensors):
        if overload.lists or inputs[index] is not None:
            continue
        saved = getattr(function, f"_saved_{name}", function)
        if optional and (saved is None or getattr(function, f"_saved_{name}_sym_sizes_opt", None) == (0,)):
            continue
        if optional and saved is function and name == "bias" and getattr(function, "_saved_weight", function) is None:
            continue  # a norm has both or none
        if not isinstance(saved, Tensor) or saved.ndim or saved.is_meta:
            raise UnseenError(overload.kind)
        arguments[name] = saved.item()
    if overload.lists and None in inputs:
        raise UnseenError(overload.kind)
    if overload.kind == "embedding":
        inputs.append(leaves.get(id(function._saved_indices)))
        if None in inputs:
            raise UnseenError("embedding")
    return _Operation(overload.kind, arguments, overload.defaults, inputs)


def _signed(value: object) -> object:
    """Return a saved argument; negative sizes and dimensions are kept as unsigned numbers."""
    if isinstance(value, (list, tuple)):
        return [_signed(item) for item in value]
    return value - 2**64 if isinstance(value, int) and value >= 2**63 else value


class _Overload(NamedTuple):
    """What of an operation's schema the autograd graph shows.

    Attributes:
        kind, defaults: of the operation.
        saved: its arguments other than tensors.
        tensors: its tensor arguments that may have a gradient, and whether they may be left out.
        lists: whether they are a list.
    """

    kind: str
    defaults: Mapping[str, object]
    saved: tuple[str, ...]
    tensors: tuple[tuple[str, bool], ...]
    lists: bool


@cache
def _overload(function: Hashable, name: str, count: int) -> _Overload:
    """Return the operation whose backward function this is, with so many inputs.

    Raises:
        UnseenError: there is none, or its arguments are not saved.
    """
    match = re.fullmatch(r"(\w+?)Backward\d*", name)
    best: _Overload | None = None
    for candidate in map(_candidate, _schemas(match[1].lower())) if match else ():
        if candidate.lists or len(candidate.tensors) == count:
            saved = all(hasattr(function, f"_saved_{argument}") for argument in candidate.saved)
            if saved and (best is None or len(candidate.saved) > len(best.saved)):
                best = candidate
    if best is None:
        raise UnseenError(name)
    return best


def _schemas(name: str) -> list[Any]:
    """Return the schemas of the operations that autograd calls by this name."""
    schemas = []
    for operation in _operations_by_name().get(name, ()):
        # In-place operations have the same backward function; those that write to an argument out have none.
        for schema in torch._C._jit_get_schemas_for_operator(operation):
            if not any(argument.is_out for argument in schema.arguments):
                schemas.append(schema)
    return schemas


@cache
def _operations_by_name() -> Mapping[str, Sequence[str]]:
    """Return ATen's operations by the name that autograd gives them: in lower case and without underscores."""
    by_name: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for overload in torch._C._dispatch_get_all_op_names():
        operation = overload.partition(".")[0]
        if operation.startswith("aten::") and not operation.endswith("_"):
            by_name[operation.removeprefix("aten::").replace("_", "").lower()][operation] = None
    return {name: list(operations) for name, operations in by_name.items()}


def _candidate(schema: Any) -> _Overload:
    name = schema.name.partition("::")[2]
    saved, tensors, lists = [], [], False
    for argument in schema.arguments:
        kind = str(argument.type)
        if kind in ("Tensor", "Optional[Tensor]"):
            if argument.name not in _NO_GRADIENT:
                tensors.append((argument.name, kind != "Tensor"))
        elif "Tensor" in kind:
            lists = True
        elif argument.name not in _INFERRED:
            saved.append(argument.name)
    if name == "embedding":
        tensors = tensors[:1]
    defaults = {argument.name: argument.default_value for argument in schema.arguments}
    # With a list among other tensors, inputs cannot be assigned to arguments.
    saved += ["a list and tensors"] if lists and tensors else []
    return _Overload(kind_of(name), defaults, tuple(saved), tuple(tensors), lists)


def compare(cells: int = 100) -> Iterator[tuple[str, str]]:
    """Yield the names of networks and how the recorder's string compares: equal, different, or why there is none."""
    from random import Random

    from freerea_patch import SizeSpace, TopologySpace
    from freerea_seval.strings.text.serialize import serialize_graph as write
    from freerea_seval.strings.trace.tracer import trace_module
    from tests.freerea_seval.strings.trace.test_architectures import ARCHITECTURES, build

    def networks() -> Iterator[tuple[str, nn.Module, Inputs]]:
        for architecture in ARCHITECTURES:
            yield architecture.family, build(architecture), architecture.inputs()
        for space in (TopologySpace(), SizeSpace()):
            for genotype in Random(0).sample(list(space.genotypes()), cells):
                yield f"{space.kind} space", space.build(genotype), [torch.zeros(1, *space.input_shape)]

    for name, network, inputs in networks():
        recorded = write(trace_module(network, inputs))
        try:
            yield name, "equal" if write(trace_by_autograd(network, inputs)) == recorded else "different"
        except (UnseenError, InputError) as error:
            yield name, f"the recorder alone: autograd does not show {error}"


if __name__ == "__main__":
    outcomes = Counter(compare(*map(int, sys.argv[1:])))
    print("| network | networks | strings of recorder and autograd walk |\n|---|---|---|")
    for (name, outcome), count in outcomes.items():
        print(f"| {name} | {count} | {outcome} |")
