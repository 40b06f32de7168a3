"""An ONNX file as a module, so that it is traced, counted and measured like any other network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from freerea_patch import InputError
from freerea_seval.strings.trace.dispatch_mode import DispatchMode
from freerea_seval.strings.trace.onnx_file import (
    OnnxFile,
    OnnxNode,
    Parameter,
    dtype_of,
    listed,
    read_nodes,
    read_onnx,
)
from freerea_seval.strings.trace.onnx_operators import OPERATORS, Call

#: Operators whose result depends on the shape of their operand only.
_SHAPES = frozenset(("Shape", "Size"))
#: Operators that have no counterpart unless their condition is known.
_CONDITIONAL = "If"
#: Values of larger constants are not read.
_MOST_ELEMENTS = 1 << 20


class OnnxNetwork(nn.Module):
    """The network of an ONNX file. Its operations are run with torch, by default on the meta device.

    Parameters have no values then, so that external data are not read. Whatever depends on neither weights nor inputs,
    such as the arithmetic of shapes, is computed on the CPU and does not show in a trace.

    Args:
        path: the file.
        values: read the weights as well, and run on the CPU.

    Attributes:
        path: the file.
        restored: number of batch norms that the exporter had folded into other operations.

    Raises:
        InputError: the file cannot be read, or has operations without a counterpart.
    """

    def __init__(self, path: str | Path, *, values: bool = False) -> None:
        super().__init__()
        self.path = Path(path)
        self._has_values = values
        self._file = read_onnx(self.path)
        self.restored = self._file.restored
        unknown = [n.operator for n in self._file.nodes if n.operator not in OPERATORS and n.operator != _CONDITIONAL]
        if unknown:
            raise InputError(
                f"{self.path} has operations that have no counterpart in PyTorch: {listed(unknown)}; export the network"
                " without them"
            )
        try:
            self._names = {name: index for index, name in enumerate(self._file.parameters)}
            self.weights = nn.ParameterList(
                nn.Parameter(self._tensor(parameter, values), requires_grad=parameter.dtype.is_floating_point)
                for parameter in self._file.parameters.values()
            )
            #: Tensors that are no parameters, and whose values say nothing of what is computed.
            self._opaque: dict[str, Tensor] = {}
            for index, (name, one) in enumerate(self._file.statistics.items()):
                self._opaque[name] = self._tensor(one, values)
                self.register_buffer(f"statistic{index}", self._opaque[name])
            self._constants: dict[str, Tensor] = {}
            for name, proto in self._file.constants.items():
                try:
                    if values or prod(proto.dims) <= _MOST_ELEMENTS:
                        self._constants[name] = self._file.values(proto)
                        continue
                except InputError:  # external data that are not at hand, as they need not be
                    if values:
                        raise
                self._opaque[name] = torch.empty(tuple(proto.dims), dtype=dtype_of(proto.data_type), device="meta")
        except InputError:
            raise
        except Exception as error:  # a damaged file may hold anything
            raise InputError(f"{self.path}: a tensor cannot be read ({' '.join(str(error).split())[:200]})") from None

    def _tensor(self, parameter: Parameter, values: bool) -> Tensor:
        if not values:
            return torch.empty(parameter.shape, dtype=parameter.dtype, device="meta")
        if parameter.proto is None:
            return torch.full(parameter.shape, parameter.fill, dtype=parameter.dtype)
        stored = self._file.values(parameter.proto)
        return stored[parameter.part].clone() if parameter.part else stored

    def example_inputs(self) -> list[Tensor]:
        """Return zeros of the shapes that the file states; a first dimension that it leaves open is 1.

        Raises:
            InputError: it leaves another dimension open.
        """
        tensors: list[Tensor] = []
        for name, dtype, sizes in self._file.inputs:
            numbers = [1 if axis == 0 and not _is_size(size) else size for axis, size in enumerate(sizes or ())]
            still = [axis for axis, size in enumerate(numbers) if not _is_size(size)]
            if sizes is None or still:
                lacking = f"dimension {still[0]} ({sizes[still[0]] or 'unnamed'})" if sizes and still else "the shape"
                example = ",".join(str(s) if _is_size(s) else "SIZE" for s in numbers) or "1,3,224,224"
                raise InputError(
                    f"{self.path} leaves {lacking} of its input {name} open; give the inputs' shapes, in the file's"
                    f" order: --input {example}"
                )
            tensors.append(torch.zeros([int(size) for size in numbers], dtype=dtype, device=self._device()))
        return tensors

    def named_inputs(self, tensors: Sequence[Tensor] | Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return zeros on the CPU like the given tensors, by the names of the file's inputs.

        Raises:
            InputError: they are not the inputs of the file.
        """
        checked = self._checked((), dict(tensors)) if isinstance(tensors, Mapping) else self._checked(tensors, {})
        return {name: torch.zeros(one.shape, dtype=one.dtype) for name, one in checked.items()}

    def _device(self) -> torch.device:
        return torch.device("cpu" if self._has_values else "meta")

    def forward(self, *inputs: Tensor, **named: Tensor) -> tuple[Tensor, ...]:
        """Run the network on its inputs, in the order of the file or by name."""
        given = self._checked(inputs, named)
        run = _Run(self, given)
        run.nodes(self._file.nodes)
        return tuple(run.tensor(name) for name in self._file.outputs)

    def _checked(self, inputs: Sequence[Tensor], named: dict[str, Tensor]) -> dict[str, Tensor]:
        entries = self._file.inputs
        names = [entry.name for entry in entries]
        given = dict(zip(names, inputs, strict=False)) | named
        if len(inputs) > len(names) or given.keys() != set(names):
            raise InputError(
                f"the inputs of {self.path} are {', '.join(names) or 'none'}; give one shape each, in this order"
            )
        for name, dtype, sizes in entries:
            shape = tuple(given[name].shape)
            stated = "x".join(str(size or "?") for size in sizes or ())
            fits = sizes is None or (
                len(sizes) == len(shape)
                and all(not _is_size(size) or size == other for size, other in zip(sizes, shape, strict=True))
            )
            if not fits:
                raise InputError(f"the input {name} of {self.path} is {stated}, got {'x'.join(map(str, shape))}")
            if given[name].dtype != dtype:
                word = str(dtype).removeprefix("torch.")
                raise InputError(
                    f"the input {name} of {self.path} is {word}; write the dtype behind the sizes, as in 1,16:{word}"
                )
        return given


class _NodeError(InputError):
    """An operation cannot run; the message names it."""


class _Run:
    """One run of a network: the values of names so far.

    Args:
        network: the network.
        inputs: its inputs by name.
    """

    def __init__(self, network: OnnxNetwork, inputs: dict[str, Tensor]) -> None:
        self._network = network
        self._file: OnnxFile = network._file
        self._device = network._device()
        parameters = {name: network.weights[index] for name, index in network._names.items()}
        self._values: dict[str, Tensor] = {**parameters, **network._opaque, **inputs}
        self._known: dict[str, Tensor] = dict(network._constants)
        self._slices: dict[str, list[OnnxNode]] = {}
        self._producers: dict[str, OnnxNode] = {}

    def nodes(self, nodes: Sequence[OnnxNode]) -> None:
        """Run operations in their order."""
        for node in nodes:
            self._producers.update(dict.fromkeys(node.outputs, node))
            if node.operator == "Slice":
                self._slices.setdefault(node.inputs[0], []).append(node)
        for node in nodes:
            if node.outputs[0] in self._values or node.outputs[0] in self._known:
                continue
            try:
                self._run(node)
            except _NodeError:  # of an operation within a branch
                raise
            except Exception as error:  # whatever torch raises for operands that do not fit
                text = next((line for line in str(error).splitlines() if line), type(error).__name__)
                raise _NodeError(f"{self._file.path}, {node.operator} {node.name}: {text}") from error

    def tensor(self, name: str) -> Tensor:
        """Return the value of a name."""
        if name in self._values:
            return self._values[name]
        if name in self._known:
            # A constant is moved to the device of the network once, unseen by a trace.
            with _unseen():
                self._values[name] = self._known[name].to(self._device)
            return self._values[name]
        raise InputError(f"nothing before it computes {name}")

    def _run(self, node: OnnxNode) -> None:
        if node.operator == _CONDITIONAL:
            self._branch(node)
            return
        known = [self._known.get(name) if name else None for name in node.inputs]
        if node.operator in _SHAPES or all(
            one is not None for one, name in zip(known, node.inputs, strict=True) if name
        ):
            self._compute(node, known)
            return
        if node.operator == "Slice" and self._as_split(node):
            return
        inputs = [self.tensor(name) if name else None for name in node.inputs]
        self._store(node, OPERATORS[node.operator](self._call(node, inputs, known)), self._values)

    def _call(self, node: OnnxNode, inputs: Sequence[Tensor | None], known: Sequence[Tensor | None]) -> Call:
        return Call(inputs, known, node.attributes, self._file.opset, len(node.outputs))

    def _compute(self, node: OnnxNode, known: Sequence[Tensor | None]) -> None:
        """Compute a result that depends on neither weights nor inputs."""
        with _unseen():
            if node.operator == "Constant" and "value" in node.attributes:
                result: Any = self._file.values(node.attributes["value"])
            else:
                inputs = [
                    self._values.get(n) if one is None else one for n, one in zip(node.inputs, known, strict=True)
                ]
                result = OPERATORS[node.operator](self._call(node, inputs, known))
        self._store(node, result, self._known)

    def _store(self, node: OnnxNode, result: Any, into: dict[str, Tensor]) -> None:
        results = [result] if isinstance(result, Tensor) else list(result)
        for name, value in zip(node.outputs, results, strict=False):
            if name and value is not None:
                into[name] = value

    def _branch(self, node: OnnxNode) -> None:
        condition = self._known.get(node.inputs[0])
        if condition is None:
            raise InputError("which branch runs depends on what the network computes; export it for fixed shapes")
        graph = node.attributes["then_branch" if bool(condition) else "else_branch"]
        stored = {proto.name: self._file.values(proto) for proto in graph.initializer}
        self._known |= stored
        nodes = list(read_nodes(graph))
        unknown = [inner.operator for inner in nodes if inner.operator not in (*OPERATORS, _CONDITIONAL)]
        if unknown:
            raise InputError(f"operations without a counterpart in PyTorch: {listed(unknown)}")
        self.nodes(nodes)
        for name, inner in zip(node.outputs, (entry.name for entry in graph.output), strict=True):
            into = self._known if inner in self._known else self._values
            into[name] = into[inner]

    def _as_split(self, node: OnnxNode) -> bool:
        """Run slices that divide a tensor as one split, which PyTorch's exporter by tracing writes as slices."""
        slices = self._slices.get(node.inputs[0], [])
        if len(slices) < 2 or slices[0] is not node:
            return False
        x = self.tensor(node.inputs[0])
        pieces: list[int] = []
        axes: set[int] = set()
        for other in slices:
            bounds = [self._evaluated(name) for name in other.inputs[1:]]
            if any(bound is None or bound.numel() != 1 for bound in bounds) or len(bounds) < 3:
                return False
            start, end, axis, *step = (int(bound.item()) for bound in bounds if bound is not None)
            axes.add(axis % x.ndim)
            size = x.shape[axis]
            if step not in ([], [1]) or start != sum(pieces) or not start < end:
                return False
            pieces.append(min(end, size) - start)
        if len(axes) > 1 or sum(pieces) != x.shape[min(axes)]:
            return False
        results = torch.split(x, pieces[0] if len(set(pieces)) == 1 else pieces, min(axes))
        for other, result in zip(slices, results, strict=True):
            self._values[other.outputs[0]] = result
        return True

    def _evaluated(self, name: str) -> Tensor | None:
        """Return the value of a name that depends on neither weights nor inputs, before its turn if need be."""
        if name not in self._known and (node := self._producers.get(name)) is not None:
            if node.operator in _SHAPES:
                ready = node.inputs[0] in self._values or node.inputs[0] in self._known
            else:
                ready = node.operator in OPERATORS and all(
                    self._evaluated(item) is not None for item in node.inputs if item
                )
            if ready:
                self._compute(node, [self._known.get(item) for item in node.inputs])
        return self._known.get(name)


def _is_size(size: int | str) -> bool:
    return isinstance(size, int) and size > 0


@contextmanager
def _unseen() -> Iterator[None]:
    """Run operations that no trace shows."""
    with DispatchMode.active[-1].pause() if DispatchMode.active else nullcontext():
        yield
