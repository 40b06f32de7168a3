"""The second route to a graph: every operation that PyTorch dispatches in one forward pass.

It sees what the autograd graph does not: operations without a gradient, frozen parameters, work in place, branches that
nothing reads. ``torch.export`` decomposes modules to the same operations, in seconds instead of milliseconds, and
refuses networks that this route takes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, cast

from torch import Tensor

from freerea_seval.strings.graph.ir import Graph, Ref, Spec
from freerea_seval.strings.trace.dispatch_mode import Watcher, tensors_in
from freerea_seval.strings.trace.operations import EMPTY, PASSING, SILENT, Builder, Schema, spec_of
from freerea_seval.strings.trace.raw_operations import Parameter, Source

#: Where a tensor lies in its storage: offset, shape, strides.
_Place = tuple[int, tuple[int, ...], tuple[int, ...]]
#: Operations in place that do not read what was there.
_BLIND = frozenset(
    (
        *("copy", "fill", "zero"),
        *("uniform", "normal", "random", "exponential", "bernoulli", "cauchy", "log_normal", "geometric"),
    )
)


@dataclass
class _Memory:
    """What a storage holds.

    Attributes:
        place, spec: of the tensor that fills it.
        source: what made all of it; None if nothing has been written there.
        places: what made each tensor in it.
        written: what was written over parts of it since then, and where.
        twins: for every identity with one end here, its two ends, this one first.
    """

    place: _Place
    spec: Spec
    source: Source | None
    places: dict[_Place, Source]
    written: list[tuple[Ref, _Place]] = field(default_factory=list)
    twins: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    @property
    def empty(self) -> bool:
        """Whether nothing has been written there."""
        return self.source is None and not self.written


class Recorder(Watcher):
    """Records what runs under it.

    A tensor is known by its storage and its place in there.

    Args:
        parameters: of the module, which are weights.
        inputs: the tensors that it gets.
        inplace: whether operations in place get an attribute ``inplace``.
    """

    def __init__(self, parameters: Sequence[Tensor], inputs: Sequence[Tensor], inplace: bool = False) -> None:
        super().__init__()
        self._inplace = inplace
        self.builder = Builder()
        self._memories: dict[int, _Memory] = {}
        # A storage's address may be given to another tensor once the first is gone, so none goes.
        self._alive: list[Tensor] = []
        self._parameters = [Parameter(id(parameter), spec_of(parameter)) for parameter in parameters]
        for tensor, parameter in zip(parameters, self._parameters, strict=True):
            self._make(tensor, parameter)
        for tensor in inputs:
            self._make(tensor, Ref(self.builder.add("input", {}, {}, [], [spec_of(tensor)])))

    def watch(self, schema: Schema, arguments: Mapping[str, Any], result: object) -> None:
        """Record an operation."""
        results = [tensor for tensor in tensors_in(result) if tensor is not None]
        if schema.kind in EMPTY:
            for tensor in results:
                self._make(tensor, None)
        if schema.kind in PASSING:
            return
        written = [tensor for name in schema.writes for tensor in tensors_in(arguments.get(name)) if tensor is not None]
        if not (results or written) or (not written and self._is_view(arguments, results)):
            return
        inputs, plain = self._inputs(schema, arguments)
        if self._inplace and written:
            plain["inplace"] = True
        position = self.builder.add(schema.kind, plain, schema.defaults, inputs, [*map(spec_of, results or written)])
        for port, tensor in enumerate(results):
            if not any(tensor is other for other in written):
                self._make(tensor, Ref(position, port))
        for port, tensor in enumerate(written):
            self._overwrite(tensor, Ref(position, port))

    def opaque(
        self, kind: str, attributes: dict[str, object], inputs: Sequence[Tensor], results: Sequence[Tensor]
    ) -> None:
        """Record an operation that is not to be looked into."""
        position = self.builder.add(kind, attributes, {}, [self.source(t) for t in inputs], [*map(spec_of, results)])
        for port, tensor in enumerate(results):
            self._make(tensor, Ref(position, port))
        if kind == "alias":  # what is written to one end of an identity is there at the other
            for one, other in ((inputs[0], results[0]), (results[0], inputs[0])):
                self._memories[_storage(one)].twins.append((one, other))

    def source(self, tensor: Tensor) -> Source:
        """Return what made a tensor; one that nothing here made is a constant."""
        memory = self._memories.get(_storage(tensor))
        if memory is None or memory.empty:
            ref = Ref(self.builder.add("constant", {}, {}, [], [spec_of(tensor)]))
            self._make(tensor, ref)
            return ref
        place = _place(tensor)
        if place not in memory.places and memory.written:
            parts: list[Source] = [] if memory.source is None else [memory.source]
            parts += [ref for ref, _ in memory.written]
            # What is written may not depend on what was there, so that only this says where it is.
            where = _where(memory.place, [part for _, part in memory.written])
            memory.source = Ref(self.builder.add("update", where, {}, parts, [memory.spec]))
            memory.places = {memory.place: memory.source}
            memory.written = []
        if place not in memory.places:
            memory.places[place] = self._part(memory, tensor)
        return memory.places[place]

    def graph(self, results: Sequence[Tensor]) -> Graph:
        """Return the graph of what was recorded, for these results."""
        return self.builder.graph([self.source(tensor) for tensor in results], self._parameters)

    def _part(self, memory: _Memory, tensor: Tensor) -> Source:
        """Return a part of a memory that no operation here made as such."""
        source, spec = cast(Source, memory.source), spec_of(tensor)
        if isinstance(source, Parameter) and spec.elements == source.spec.elements:
            return source._replace(spec=spec)
        where = _where(memory.place, [_place(tensor)])
        kind = "reshape" if spec.elements == memory.spec.elements and not where else "as_strided"
        return Ref(self.builder.add(kind, where, {}, [source], [spec]))

    def _is_view(self, arguments: Mapping[str, Any], results: Sequence[Tensor]) -> bool:
        """Return whether results are an argument, unchanged, or a parameter, reshaped or transposed."""
        memory = self._memories.get(_storage(results[0]))
        if memory is None:
            return False
        first = next(iter(arguments.values()))
        if not isinstance(first, Tensor) or self._memories.get(_storage(first)) is not memory:
            return False
        if memory.empty or all(_place(result) == _place(first) for result in results):
            return True
        source = self.source(first)
        if isinstance(source, Parameter) and len(results) == 1 and results[0].numel() == source.spec.elements:
            memory.places[_place(results[0])] = source._replace(spec=spec_of(results[0]))
            return True
        return False

    def _inputs(self, schema: Schema, arguments: Mapping[str, Any]) -> tuple[list[Source], dict[str, object]]:
        """Return an operation's tensors, and its other arguments by name."""
        inputs: list[Source] = []
        plain: dict[str, object] = {}
        for name, value in arguments.items():
            tensors = tensors_in(value)
            if not tensors:
                plain[name] = value
            elif name in SILENT or (name in schema.writes and (schema.kind in _BLIND or name == "out")):
                continue
            else:
                if any(tensor is None for tensor in tensors):
                    plain[f"{name}_at"] = [place for place, tensor in enumerate(tensors) if tensor is not None]
                for tensor in tensors:
                    if tensor is None:
                        continue
                    if tensor.ndim == 0 and (number := self._number(tensor)) is not None:
                        plain[name] = number
                    else:
                        inputs.append(self.source(tensor))
        return inputs, plain

    def _number(self, tensor: Tensor) -> object:
        """Return a constant such as torch.tensor(0.0), which is as decisive as the number 0.0."""
        if tensor.is_meta or _storage(tensor) in self._memories:
            return None
        self.paused = True
        try:
            return cast(object, tensor.item())
        finally:
            self.paused = False

    def _make(self, tensor: Tensor, source: Source | None) -> None:
        storage, place = _storage(tensor), _place(tensor)
        memory = self._memories.get(storage)
        if memory is None or memory.empty:
            places = {} if source is None else {place: source}
            self._memories[storage] = _Memory(place, spec_of(tensor), source, places)
            self._alive.append(tensor)
        elif source is not None:
            memory.places[place] = source

    def _overwrite(self, tensor: Tensor, ref: Ref) -> None:
        """Take note that an operation in place made what a tensor holds now."""
        waiting, seen = [tensor], set()
        while waiting:
            tensor = waiting.pop()
            storage, place = _storage(tensor), _place(tensor)
            seen.add(storage)
            memory = self._memories.get(storage)
            if memory is None:
                self._make(tensor, ref)
                continue
            memory.places = {place: ref}
            if tensor.numel() >= memory.spec.elements:
                memory.place, memory.spec, memory.source, memory.written = place, spec_of(tensor), ref, []
            else:
                memory.written.append((ref, place))
            self.paused = True
            try:
                waiting += [_twin(tensor, *ends) for ends in memory.twins if _storage(ends[1]) not in seen]
            finally:
                self.paused = False


def _twin(written: Tensor, one: Tensor, other: Tensor) -> Tensor:
    """Return what ``written``, which lies in one end of an identity, is at the other end, with its values."""
    other.copy_(one)
    if written.numel() == one.numel():
        return other
    offset = int(written.storage_offset() - one.storage_offset() + other.storage_offset())
    return other.as_strided(written.shape, written.stride(), offset)


def _where(whole: _Place, parts: Sequence[_Place]) -> dict[str, object]:
    """Return where parts lie in a whole, as attributes: nothing for parts at its beginning without gaps."""
    offsets: list[int] = []
    strides: list[int] = []
    gaps = False
    for offset, shape, steps in parts:
        offsets.append(_in_order(offset - whole[0], whole))
        size = prod(shape)
        for length, step in zip(shape, steps, strict=True):
            size //= max(length, 1)
            if length > 1:
                strides.append(_in_order(step, whole))
                gaps = gaps or strides[-1] != size
    where: dict[str, object] = {"offset": offsets} if any(offsets) else {}
    return where | {"stride": strides} if gaps else where


def _in_order(distance: int, whole: _Place) -> int:
    """Return a distance in memory as one in a tensor whose last dimension is the innermost.

    Devices may lay the same tensor out in another order.
    """
    _, shape, strides = whole
    found, size = 0, prod(shape)
    inner = []
    for length, stride in zip(shape, strides, strict=True):
        size //= max(length, 1)
        if length > 1 and stride:
            inner.append((stride, size))
    for stride, size in sorted(inner, reverse=True):
        steps, distance = divmod(distance, stride)
        found += steps * size
    return found + distance


def _storage(tensor: Tensor) -> int:
    """Return what identifies the memory of a tensor while it lives."""
    return cast(int, tensor.untyped_storage()._cdata)


def _place(tensor: Tensor) -> _Place:
    return int(tensor.storage_offset()), tuple(tensor.shape), tensor.stride()
