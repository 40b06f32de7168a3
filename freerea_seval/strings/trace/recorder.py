"""The recorder: a dispatch mode that turns the operations of one forward pass into a graph.

It records operations with or without a gradient, frozen parameters, work in place, and branches that nothing reads.
``torch.export`` decomposes a module into the same operations, but takes seconds instead of milliseconds, and it rejects
networks that can be recorded.

Which operation produced a tensor is looked up by the tensor's storage and its layout (offset, shape, strides) in that
storage, since views share memory and operations in place change it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from math import prod
from typing import Any, NamedTuple, cast

from torch import Tensor, UntypedStorage
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from freerea_seval.strings.graph.ir import Graph, Node, Ref, Spec, Value, Weight, sorted_attributes
from freerea_seval.strings.graph.shape_inference import infer_results
from freerea_seval.strings.trace.dispatch_mode import DispatchMode, tensors_in
from freerea_seval.strings.trace.operations import (
    ALLOCATIONS,
    IGNORED_ARGUMENTS,
    TRANSPARENT,
    Operation,
    Parameter,
    Schema,
    Source,
    normalised,
    spec_of,
)
from freerea_seval.strings.trace.packed_weights import normalised_layer, packed_objects, unpack
from freerea_seval.strings.trace.peephole import rewrite

#: Operations in place that overwrite their first argument without reading it.
_OVERWRITING = frozenset(
    (
        *("copy", "fill", "zero", "uniform", "normal", "random", "exponential", "bernoulli", "cauchy"),
        *("log_normal", "geometric"),
    )
)


class GraphBuilder:
    """Collects operations in the order of execution, and makes their graph."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []

    def add(
        self,
        kind: str,
        inputs: Sequence[Source],
        outputs: Sequence[Spec],
        arguments: Mapping[str, object] | None = None,
        defaults: Mapping[str, object] | None = None,
    ) -> int:
        """Add an operation and return its position; see :func:`.operations.normalised` for the arguments."""
        specs = [self.spec(item) for item in inputs]
        self.operations.append(normalised(kind, arguments or {}, defaults or {}, inputs, specs, outputs))
        return len(self.operations) - 1

    def spec(self, item: Source) -> Spec:
        """Return shape and dtype of an input."""
        return item.spec if isinstance(item, Parameter) else self.operations[item.node].outputs[item.port]

    def graph(self, results: Sequence[Source], parameters: Sequence[Parameter] = ()) -> Graph:
        """Return the graph of all operations.

        Args:
            results: what the network returns.
            parameters: all parameters of the module.
        """
        operations = list(self.operations)
        read = {item.key for operation in operations for item in operation.inputs if isinstance(item, Parameter)}
        read |= {item.key for item in results if isinstance(item, Parameter)}
        unused: list[Source] = [parameter for parameter in parameters if parameter.key not in read]
        if unused:
            operations.append(Operation("unused", {}, unused, []))
        operations.append(Operation("output", {}, list(results), []))
        operations = rewrite(operations)
        read_ports = [0] * len(operations)
        for operation in operations:
            for item in operation.inputs:
                if isinstance(item, Ref):
                    read_ports[item.node] = max(read_ports[item.node], item.port + 1)
        last_reader: dict[int, int] = {}  # of every parameter
        nodes: list[Node] = []
        for position, (kind, attributes, sources, outputs) in enumerate(operations):
            inputs: list[Ref | Weight] = []
            for item in sources:
                if isinstance(item, Parameter):
                    inputs.append(Weight(*item.spec, last_reader.get(item.key)))
                    last_reader[item.key] = position
                else:
                    inputs.append(item)
            specs = tuple(nodes[item.node].outputs[item.port] for item in inputs if isinstance(item, Ref))
            weights = tuple(item._replace(tied=None) for item in inputs if isinstance(item, Weight))
            ordered = sorted_attributes(attributes)
            kept = max(read_ports[position], _inferred_result_count(kind, ordered, specs, weights), 1)
            nodes.append(Node(kind, ordered, tuple(inputs), tuple(outputs[:kept])))
        return Graph(tuple(nodes))


@lru_cache(maxsize=65536)
def _inferred_result_count(
    kind: str, attributes: tuple[tuple[str, Value], ...], specs: tuple[Spec, ...], weights: tuple[Weight, ...]
) -> int:
    return len(infer_results(kind, dict(attributes), specs, weights) or ())


class _Layout(NamedTuple):
    """Where a tensor lies in its storage; offset and strides count elements."""

    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass
class _Storage:
    """The contents of a storage.

    Attributes:
        layout, spec: of the tensor that fills the storage.
        source: what produced all of it; None if it has not been written as a whole.
        sources: what produced each tensor in it, by layout.
        partial_writes: operations in place that wrote parts of it since then, and where.
        identity_ends: for every ``nn.Identity`` with one end here, its two ends, this one first.
    """

    layout: _Layout
    spec: Spec
    source: Source | None
    sources: dict[_Layout, Source]
    partial_writes: list[tuple[Ref, _Layout]] = field(default_factory=list)
    identity_ends: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    @property
    def unwritten(self) -> bool:
        """Whether the memory is allocated only."""
        return self.source is None and not self.partial_writes


class Recorder(DispatchMode):
    """Records the operations that run under it.

    Args:
        parameters: of the module.
        inputs: the tensors that it gets.
        inplace: whether operations in place get an attribute ``inplace``.
    """

    def __init__(self, parameters: Sequence[Tensor], inputs: Sequence[Tensor], inplace: bool = False) -> None:
        super().__init__()
        self._inplace = inplace
        self._builder = GraphBuilder()
        self._storages: dict[int, _Storage] = {}
        # Storages are identified by address: keep one tensor of each alive, so that no address is used again.
        self._kept_alive: list[Tensor] = []
        self._parameters: list[Parameter] = []
        self._parameter_addresses: set[int] = set()
        self._overwritten: dict[int, tuple[UntypedStorage, UntypedStorage]] = {}  # storages of parameters, and copies
        self.on_parameters(parameters)
        for tensor in inputs:
            self._register(tensor, Ref(self._builder.add("input", [], [spec_of(tensor)])))

    def on_parameters(self, parameters: Sequence[Tensor]) -> None:
        """Register parameters; those that are not initialised yet are left out."""
        for tensor in chain.from_iterable(map(_stored_tensors, parameters)):
            if not is_lazy(tensor):
                self._parameters.append(Parameter(id(tensor), spec_of(tensor)))
                self._register(tensor, self._parameters[-1])
                self._parameter_addresses.add(_address(tensor))

    def before_write(self, tensors: Sequence[Tensor | None]) -> None:
        """Copy parameters before an operation overwrites them."""
        for tensor in tensors:
            if tensor is None or tensor.is_meta or (address := _address(tensor)) not in self._parameter_addresses:
                continue
            if address not in self._overwritten:
                storage = tensor.untyped_storage()
                self._overwritten[address] = storage, storage.clone()  # type: ignore[no-untyped-call]

    def restore_parameters(self) -> None:
        """Undo what operations wrote to parameters."""
        for storage, copy in self._overwritten.values():
            storage.copy_(copy)

    def position(self, tensor: Tensor) -> tuple[int, int]:
        """Return a key that sorts tensors in the order in which they were computed; parameters come first."""
        source = self._source(tensor)
        return (source.node, source.port) if isinstance(source, Ref) else (-1, self._parameters.index(source))

    def graph(self, results: Sequence[Tensor]) -> Graph:
        """Return the graph of all recorded operations; ``results`` are what the network returned."""
        return self._builder.graph([self._source(tensor) for tensor in results], self._parameters)

    def on_operation(self, schema: Schema, arguments: Mapping[str, Any], result: object) -> None:
        """Record an operation."""
        results = [tensor for tensor in tensors_in(result) if tensor is not None]
        if schema.kind in ALLOCATIONS:
            for tensor in results:
                self._register(tensor, None)
        if schema.kind in TRANSPARENT:
            return
        written = [tensor for name in schema.writes for tensor in tensors_in(arguments.get(name)) if tensor is not None]
        if not (results or written) or (not written and self._is_invisible_view(arguments, results)):
            return
        inputs, attributes = self._inputs(schema, arguments)
        kind = schema.kind
        if kind.startswith(("quantize", "dequantize")):
            kind, attributes, weights = self._quantised(kind, attributes)
            inputs += weights
        if self._inplace and written:
            attributes["inplace"] = True
        outputs = [*map(spec_of, results or written)]
        position = self._builder.add(kind, inputs, outputs, attributes, schema.defaults)
        for port, tensor in enumerate(results):
            if not any(tensor is other for other in written):
                self._register(tensor, Ref(position, port))
        for port, tensor in enumerate(written):
            self._overwrite(tensor, Ref(position, port))

    def on_opaque(self, kind: str, attributes: dict[str, object], inputs: Sequence[Tensor], result: Tensor) -> None:
        """Record a computation as one operation."""
        sources = [self._source(tensor) for tensor in inputs]
        self._register(result, Ref(self._builder.add(kind, sources, [spec_of(result)], attributes)))
        if kind == "alias":
            # nn.Identity returns its input; here it returns a copy, so writes to one must be repeated in the other.
            for ends in ((inputs[0], result), (result, inputs[0])):
                self._storages[_address(ends[0])].identity_ends.append(ends)

    def _source(self, tensor: Tensor) -> Source:
        """Return what produced a tensor; a tensor that no recorded operation produced is a constant."""
        storage = self._storages.get(_address(tensor))
        if storage is None or storage.unwritten:
            constant = Ref(self._builder.add("constant", [], [spec_of(tensor)]))
            self._register(tensor, constant)
            return constant
        layout = _layout(tensor)
        if layout not in storage.sources and storage.partial_writes:
            parts: list[Source] = [] if storage.source is None else [storage.source]
            parts += [ref for ref, _ in storage.partial_writes]
            # The operations that wrote the parts need not have read the tensor, so only these attributes say where.
            position = _relative_position(storage.layout, [part for _, part in storage.partial_writes])
            storage.source = Ref(self._builder.add("update", parts, [storage.spec], position))
            storage.sources = {storage.layout: storage.source}
            storage.partial_writes = []
        if layout not in storage.sources:
            storage.sources[layout] = self._view(storage, tensor)
        return storage.sources[layout]

    def _view(self, storage: _Storage, tensor: Tensor) -> Source:
        """Return a view of a storage that no recorded operation made."""
        source, spec = cast(Source, storage.source), spec_of(tensor)
        if isinstance(source, Parameter) and spec.elements == source.spec.elements:
            return source._replace(spec=spec)
        position = _relative_position(storage.layout, [_layout(tensor)])
        kind = "reshape" if spec.elements == storage.spec.elements and not position else "as_strided"
        return Ref(self._builder.add(kind, [source], [spec], position))

    def _is_invisible_view(self, arguments: Mapping[str, Any], results: Sequence[Tensor]) -> bool:
        """Return whether results are the first argument, unchanged, or a reshaped or transposed parameter."""
        storage = self._storages.get(_address(results[0]))
        first = next(iter(arguments.values()))
        if storage is None or not isinstance(first, Tensor) or self._storages.get(_address(first)) is not storage:
            return False
        if storage.unwritten or all(_layout(result) == _layout(first) for result in results):
            return True
        source = self._source(first)
        if isinstance(source, Parameter) and len(results) == 1 and results[0].numel() == source.spec.elements:
            storage.sources[_layout(results[0])] = source._replace(spec=spec_of(results[0]))
            return True
        return False

    def _inputs(self, schema: Schema, arguments: Mapping[str, Any]) -> tuple[list[Source], dict[str, object]]:
        """Return an operation's tensors, and its other arguments by name."""
        inputs: list[Source] = []
        others: dict[str, object] = {}
        for name, value in arguments.items():
            tensors = tensors_in(value)
            if not tensors:
                others[name] = value
                continue
            only_written = name in schema.writes and (schema.kind in _OVERWRITING or name == "out")
            if name in IGNORED_ARGUMENTS or only_written:
                continue
            if any(tensor is None for tensor in tensors):
                others[f"{name}_at"] = [index for index, tensor in enumerate(tensors) if tensor is not None]
            for tensor in tensors:
                if tensor is None:
                    continue
                if tensor.ndim == 0 and (number := self._number(tensor)) is not None:
                    others[name] = number
                else:
                    inputs.append(self._source(tensor))
        return inputs, others

    def _quantised(self, kind: str, attributes: Mapping[str, object]) -> tuple[str, dict[str, object], list[Parameter]]:
        """Return kind, attributes and packed weights of an operation on quantised tensors."""
        packed = [item for value in attributes.values() for item in packed_objects(value)]
        keys = [(hash(item), index, spec_of(tensor)) for item in packed for index, tensor in enumerate(unpack(item))]
        kind, attributes, specs = normalised_layer(kind, attributes, packed, [spec for _, _, spec in keys])
        return kind, attributes, [Parameter(hash(key[:2]), spec) for key, spec in zip(keys, specs, strict=True)]

    def _number(self, tensor: Tensor) -> object:
        """Return the value of a constant such as ``torch.tensor(0.0)``, which reads like the number 0.0."""
        if tensor.is_meta or _address(tensor) in self._storages:
            return None
        with self.pause():
            return cast(object, tensor.item())

    def _register(self, tensor: Tensor, source: Source | None) -> None:
        """Note what produced a new tensor or view; None for memory that is allocated only."""
        address, layout = _address(tensor), _layout(tensor)
        storage = self._storages.get(address)
        if storage is None or storage.unwritten:
            sources = {} if source is None else {layout: source}
            self._storages[address] = _Storage(layout, spec_of(tensor), source, sources)
            self._kept_alive.append(tensor)
        elif source is not None:
            storage.sources[layout] = source

    def _overwrite(self, tensor: Tensor, ref: Ref) -> None:
        """Note that an operation in place produced what a tensor holds now."""
        stack, seen = [tensor], set()
        while stack:
            tensor = stack.pop()
            address, layout = _address(tensor), _layout(tensor)
            seen.add(address)
            storage = self._storages.get(address)
            if storage is None:
                self._register(tensor, ref)
                continue
            storage.sources = {layout: ref}
            if tensor.numel() >= storage.spec.elements:
                storage.layout, storage.spec, storage.source, storage.partial_writes = layout, spec_of(tensor), ref, []
            else:
                storage.partial_writes.append((ref, layout))
            with self.pause():
                stack += [
                    _copied_to_other_end(tensor, end, other)
                    for end, other in storage.identity_ends
                    if _address(other) not in seen
                ]


def _copied_to_other_end(written: Tensor, end: Tensor, other: Tensor) -> Tensor:
    """Copy one end of an ``nn.Identity`` to the other; return the part there that corresponds to ``written``."""
    other.copy_(end)
    if written.numel() == end.numel():
        return other
    offset = int(written.storage_offset() - end.storage_offset() + other.storage_offset())
    return other.as_strided(written.shape, written.stride(), offset)


def _relative_position(whole: _Layout, parts: Sequence[_Layout]) -> dict[str, object]:
    """Return the attributes ``offset`` and ``stride`` of parts of a tensor; empty for contiguous ones at its start."""
    offsets: list[int] = []
    strides: list[int] = []
    gaps = False
    for part in parts:
        offsets.append(_contiguous_distance(part.offset - whole.offset, whole))
        size = prod(part.shape)
        for length, stride in zip(part.shape, part.strides, strict=True):
            size //= max(length, 1)
            if length > 1:
                strides.append(_contiguous_distance(stride, whole))
                gaps = gaps or strides[-1] != size
    attributes: dict[str, object] = {"offset": offsets} if any(offsets) else {}
    return attributes | {"stride": strides} if gaps else attributes


def _contiguous_distance(distance: int, whole: _Layout) -> int:
    """Return a distance in a tensor's memory as if the tensor were contiguous: layouts depend on the device."""
    size = prod(whole.shape)
    dimensions = []  # stride, and stride of a contiguous tensor
    for length, stride in zip(whole.shape, whole.strides, strict=True):
        size //= max(length, 1)
        if length > 1 and stride:
            dimensions.append((stride, size))
    contiguous = 0
    for stride, size in sorted(dimensions, reverse=True):
        steps, distance = divmod(distance, stride)
        contiguous += steps * size
    return contiguous + distance


def _stored_tensors(parameter: Tensor) -> list[Tensor]:
    """Return the tensors that a parameter consists of: several for a quantised one of ``torchao``, itself otherwise."""
    names: Sequence[str] = parameter.__tensor_flatten__()[0] if is_traceable_wrapper_subclass(parameter) else ()
    return [part for name in names for part in _stored_tensors(getattr(parameter, name))] or [parameter]


def _address(tensor: Tensor) -> int:
    """Return what identifies a tensor's storage as long as it is alive."""
    return cast(int, tensor.untyped_storage()._cdata)


def _layout(tensor: Tensor) -> _Layout:
    return _Layout(int(tensor.storage_offset()), tuple(tensor.shape), tensor.stride())
