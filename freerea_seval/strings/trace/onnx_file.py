"""Reading ONNX files: the operations of a network, and which of its tensors are parameters.

Weights are described and not read, so that files that keep them elsewhere (external data) need not have them at hand.
Small integers, which say how tensors are sliced and reshaped, are read.

What exporters change is undone where the file says so:

- equal initial values are stored once: PyTorch's exporter by tracing marks every further use by an ``Identity``, the
  one by ``torch.export`` names each node's parameters in its metadata;
- batch norms are folded into convolutions: the former gives the weights a name of its own (``onnx::Conv_12``), the
  latter names the rule in the metadata.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from freerea_patch import InputError
from freerea_seval.strings.trace.onnx_patterns import (
    ATTENTION,
    FOLDED,
    GROUP_NORM,
    LAYER_NORM,
    RULE,
    OnnxNode,
    fuse,
    separate,
)

if TYPE_CHECKING:
    import onnx

_DAMAGED = "it is not an ONNX file, or damaged; export it again"
#: ONNX files cannot be larger (protocol buffers); networks with more weights keep them as external data.
_MOST_BYTES = 2**31
#: The oldest operator set that is read. Operators before it broadcast and count axes in other ways.
_OLDEST_OPSET = 7
#: The inputs of operators that are weights, whatever their type and wherever they are stored.
_WEIGHTS = {
    **dict.fromkeys(("Conv", "ConvTranspose", "DeformConv"), (1, 2, 3)),
    **dict.fromkeys(("BatchNormalization", "InstanceNormalization", "GroupNormalization"), (1, 2)),
    "LayerNormalization": (1, 2),
    "RMSNormalization": (1,),
    "Gemm": (0, 1, 2),
    "MatMul": (0, 1),
    "PRelu": (1,),
    "Gather": (0,),
    **dict.fromkeys((LAYER_NORM, GROUP_NORM), (1, 2)),
}
#: A matrix product with a matrix that is stored as PyTorch has it, ``(out, in)``.
LINEAR = "aten:Linear"
#: The inputs of operators that are settings, although they may be floats.
_SETTINGS = {"Resize": (1, 2), "Upsample": (1,), "OneHot": (2,), "Clip": (1, 2), "Pad": (2,), "Range": (0, 1, 2)}
RECURRENT = ("LSTM", "GRU", "RNN")
#: Larger external tensors are not read to see whether they are masks, which have values below this.
_LARGEST_MASK, MASKED = 1 << 22, -1e4
#: Metadata of PyTorch's exporter by ``torch.export``.
_SIGNATURE = "pkg.torch.export.ExportedProgram.graph_signature"
_CALL = "pkg.torch.onnx.fx_node"
_SIGNED = re.compile(r"^(\w+): (PARAMETER|BUFFER|CONSTANT_TENSOR) target='([^']*)'", re.MULTILINE)
#: Names that PyTorch's exporter by tracing, and tf2onnx, give the biases of convolutions with folded batch norms.
_FOLDED_BIAS = re.compile(r"onnx::Conv_\d+|.*bias_fused_bn.*")


class OnnxInput(NamedTuple):
    """An input of the network; a size is a name, or empty, where the file leaves it open."""

    name: str
    dtype: torch.dtype
    sizes: tuple[int | str, ...] | None


class Parameter(NamedTuple):
    """A parameter; its values are those of a ``part`` of ``proto``, or ``fill`` where the file has none."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    proto: onnx.TensorProto | None = None
    fill: float = 0.0
    part: tuple[int | slice, ...] = ()


@dataclass
class OnnxFile:
    """The contents of an ONNX file.

    Attributes:
        path: the file.
        opset: version of ONNX's own operators.
        inputs: of the network.
        outputs: names of the results.
        nodes: the operations, in the order of execution.
        parameters: by name.
        statistics: means and variances of batch norms by name, which are no parameters.
        constants: all other stored tensors by name.
        restored: number of batch norms that were folded into other operations.
    """

    path: Path
    opset: int
    inputs: list[OnnxInput]
    outputs: list[str]
    nodes: list[OnnxNode]
    parameters: dict[str, Parameter] = field(default_factory=dict)
    statistics: dict[str, Parameter] = field(default_factory=dict)
    constants: dict[str, onnx.TensorProto] = field(default_factory=dict)
    restored: int = 0

    def __deepcopy__(self, memo: object) -> OnnxFile:
        return self  # nothing changes it once it is read

    def values(self, proto: onnx.TensorProto) -> Tensor:
        """Return a stored tensor with its values.

        Raises:
            InputError: its external data are missing, or outside of the file's folder.
        """
        import onnx

        if proto.data_location == onnx.TensorProto.EXTERNAL:
            copy = onnx.TensorProto()
            copy.CopyFrom(proto)
            try:  # refuses locations outside of the folder
                onnx.external_data_helper.load_external_data_for_tensor(copy, str(self.path.absolute().parent))
            except Exception as error:  # whatever the helper and the file system may raise
                reason = " ".join(str(error).split())[:200]
                raise InputError(f"{self.path}: the values of {proto.name} cannot be read ({reason})") from None
            proto = copy
        array = onnx.numpy_helper.to_array(proto)
        if array.dtype.kind not in "biufc":  # bfloat16 and narrower types, which NumPy does not have
            array = array.astype(np.float32)
        return torch.from_numpy(np.array(array)).to(dtype_of(proto.data_type))


def dtype_of(data_type: int) -> torch.dtype:
    """Return torch's name of a type.

    Raises:
        InputError: torch has no such type.
    """
    import onnx

    name = onnx.TensorProto.DataType.Name(data_type).lower()
    name = {"float": "float32", "double": "float64", "float8e4m3fn": "float8_e4m3fn"}.get(name, name)
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype):
        raise InputError(f"tensors of the type {name} have no counterpart in PyTorch")
    return dtype


def read_onnx(path: Path) -> OnnxFile:
    """Return the contents of an ONNX file.

    Raises:
        InputError: the file cannot be read, is no network, or is of an operator set before 7.
    """
    try:
        return _contents(path, _load(path))
    except InputError as error:
        raise error if str(path) in str(error) else InputError(f"{path}: {error}") from None
    except Exception as error:  # a damaged file may hold anything
        text = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: {_DAMAGED} ({text})") from error


def _load(path: Path) -> onnx.ModelProto:
    try:
        import onnx
        import onnx.external_data_helper
        import onnx.inliner
        import onnx.numpy_helper
    except ImportError:
        raise InputError(f"{path}: an ONNX file needs the package onnx: pip install 'freerea-seval[onnx]'") from None
    try:
        if path.stat().st_size >= _MOST_BYTES:
            raise InputError("it is larger than the 2 GB of an ONNX file; save its weights as external data")
        model = onnx.load_model_from_string(path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read {path} ({error.strerror}); check the path") from None
    except MemoryError:
        raise InputError("it does not fit into memory; save its weights as external data") from None
    except Exception as error:  # protobuf's DecodeError, which is another class in each of its versions
        raise error if isinstance(error, InputError) else InputError(_DAMAGED) from None
    if not model.graph.output:
        raise InputError("it is not an ONNX file, or has no outputs; export it again")
    if model.functions:
        try:
            model = onnx.inliner.inline_local_functions(model)
        except Exception as error:
            raise InputError(f"its functions cannot be read ({' '.join(str(error).split())[:200]})") from None
    return model


def _contents(path: Path, model: onnx.ModelProto) -> OnnxFile:
    graph = model.graph
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if 0 < opset < _OLDEST_OPSET:
        raise InputError(f"it has ONNX's operator set {opset}, expected {_OLDEST_OPSET} or later; convert it")
    if graph.sparse_initializer:
        raise InputError("it has sparse weights, which have no counterpart; store them as dense tensors")
    stored = {proto.name: proto for proto in graph.initializer}
    inputs = [_input(entry) for entry in graph.input if entry.name not in stored]
    file = OnnxFile(path, opset or 1, inputs, [entry.name for entry in graph.output], list(read_nodes(graph)))
    in_nodes = {  # tensors that the nodes hold
        node.outputs[0]: node.attributes["value"]
        for node in file.nodes
        if node.operator == "Constant" and "value" in node.attributes
    }
    metadata = {entry.key: entry.value for entry in (*model.metadata_props, *getattr(graph, "metadata_props", ()))}
    signature = {name: (kind, target) for name, kind, target in _SIGNED.findall(metadata.get(_SIGNATURE, ""))}
    reader = _Parameters(
        file, stored, in_nodes, signature, by_tracing=model.producer_name == "pytorch" and _SIGNATURE not in metadata
    )
    file.nodes = separate(file.nodes)
    reader.restore_batch_norms()
    file.nodes = fuse(file.nodes, file.outputs, reader.scalar)
    reader.assign()
    return file


def read_nodes(graph: onnx.GraphProto) -> Iterator[OnnxNode]:
    """Yield the operations of a graph."""
    import onnx

    for node in graph.node:
        domain = "" if node.domain in ("", "ai.onnx") else f"{node.domain}."
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        metadata = {entry.key: entry.value for entry in getattr(node, "metadata_props", ())}
        yield OnnxNode(
            domain + node.op_type, list(node.input), list(node.output), attributes, node.name or node.op_type, metadata
        )


def _input(entry: onnx.ValueInfoProto) -> OnnxInput:
    if not entry.type.HasField("tensor_type"):
        raise InputError(f"its input {entry.name} is {entry.type.WhichOneof('value')}; expected a tensor")
    tensor = entry.type.tensor_type
    sizes = None
    if tensor.HasField("shape"):
        sizes = tuple(dim.dim_value if dim.HasField("dim_value") else dim.dim_param for dim in tensor.shape.dim)
    return OnnxInput(entry.name, dtype_of(tensor.elem_type), sizes)


class _Parameters:
    """Decides which stored tensors are parameters, and makes those that the exporter has merged or folded.

    Args:
        file: receives them; its nodes are rewritten.
        stored: initialisers by name.
        in_nodes: tensors of the nodes ``Constant`` by their results' names.
        signature: what ``torch.export`` says of each name in :data:`_CALL`: kind and name in the module.
        by_tracing: whether PyTorch's exporter by tracing wrote the file.
    """

    def __init__(
        self,
        file: OnnxFile,
        stored: Mapping[str, onnx.TensorProto],
        in_nodes: Mapping[str, onnx.TensorProto],
        signature: Mapping[str, tuple[str, str]],
        *,
        by_tracing: bool,
    ) -> None:
        self._file = file
        self._stored = stored
        self._tensors = {**in_nodes, **stored}
        self._signature = signature
        self._kinds = {target: kind for kind, target in signature.values()}
        self._by_tracing = by_tracing
        # Parameters of calls that the exporter has computed, and the stored results that take their place.
        named = {name for node in file.nodes for name in self._parameters_of(node)}
        self._unread = [name for name, kind in self._kinds.items() if kind == "PARAMETER" and name not in named]
        self._unread = [name for name in self._unread if name not in stored]
        self._computed: set[str] = set()
        self._twins = {  # equal values that the exporter by tracing has merged
            node.outputs[0]: node.inputs[0]
            for node in file.nodes
            if self._by_tracing and node.operator == "Identity" and node.inputs[0] in stored
        }

    def restore_batch_norms(self) -> None:
        """Put batch norms that were folded into convolutions and linear layers behind these, and zero biases back."""
        nodes: list[OnnxNode] = []
        for node in self._file.nodes:
            nodes.append(node)
            weight = self._proto(node.inputs[1]) if node.operator in ("Conv", "ConvTranspose", "Gemm") else None
            if weight is None or len(weight.dims) < 2:
                continue
            by_column = node.operator == "ConvTranspose" or (
                node.operator == "Gemm" and not node.attributes.get("transB")
            )
            width = weight.dims[1] * node.attributes.get("group", 1) if by_column else weight.dims[0]
            dtype, result = dtype_of(weight.data_type), node.outputs[0]
            bias = node.inputs[2] if len(node.inputs) > 2 else ""
            own_bias = self._kinds.get(re.sub(r"weight$", "bias", node.inputs[1])) == "PARAMETER"
            count = node.metadata.get(RULE, "").count(FOLDED)
            if not self._signature and node.operator == "Conv" and _FOLDED_BIAS.fullmatch(bias):
                count = 1
            if count:  # the metadata are those of the norm
                node.outputs, node.inputs, node.metadata = [f"{result}/folded"], node.inputs[:2], {}
            if own_bias and len(node.inputs) < 3:
                node.inputs.append(self._make(f"{result}/bias", (width,), dtype))
            for index in range(count):
                # The folded bias is that of the last norm, and all others are neutral: outputs stay what they are.
                last = index == count - 1
                name = f"{result}/bn{index}"
                arguments = [
                    nodes[-1].outputs[0],
                    self._make(f"{name}/weight", (width,), dtype, fill=1.0),
                    self._make(f"{name}/bias", (width,), dtype, self._proto(bias) if last else None),
                    self._make(f"{name}/mean", (width,), dtype, statistic=True),
                    self._make(f"{name}/var", (width,), dtype, fill=1.0, statistic=True),
                ]
                nodes.append(
                    OnnxNode("BatchNormalization", arguments, [result if last else name], {"epsilon": 0.0}, name)
                )
            self._file.restored += count
        self._file.nodes = nodes

    def assign(self) -> None:
        """Make every stored tensor a parameter, a statistic or a constant, by what reads it."""
        tied = self._transposed_tables()
        nodes: list[OnnxNode] = []
        for node in self._file.nodes:
            if node.operator == "Identity" and node.outputs[0] in self._twins:
                continue
            if node.operator in RECURRENT:
                self._split_directions(node)
            if node.operator == "BatchNormalization" and _CALL in node.metadata and not self._parameters_of(node):
                node.inputs[1:3] = ["", ""]  # it scales by ones
            own = self._own_names(node)
            for index, name in enumerate(node.inputs):
                proto = self._proto(name)
                if proto is None:
                    continue
                if node.operator == "BatchNormalization" and index > 2:
                    node.inputs[index] = self._make(
                        f"{name}/{node.outputs[0]}", tuple(proto.dims), dtype_of(proto.data_type), proto, statistic=True
                    )
                elif self._is_parameter(name, proto, node, index):
                    shape, key = tuple(proto.dims), tied.get(name, own.get(index, name))
                    kept = self._file.parameters.get(key)
                    if kept is None or kept.shape == shape:
                        node.inputs[index] = self._make(key, shape, dtype_of(proto.data_type), proto)
                    elif kept.shape == shape[::-1] and node.operator == "MatMul" and index == 1:
                        node.operator, node.inputs[index] = LINEAR, key
                    elif kept.shape == shape[::-1]:
                        turned = f"{key}/transposed/{node.outputs[0]}"
                        nodes.append(OnnxNode("Transpose", [key], [turned], {"perm": [1, 0]}, turned))
                        node.inputs[index] = turned
                    else:
                        node.inputs[index] = self._make(name, shape, dtype_of(proto.data_type), proto)
                else:
                    self._file.constants[name] = proto
            nodes.append(node)
        self._file.nodes = nodes
        for name in self._file.outputs:  # a network may return what it stores
            if (proto := self._proto(name)) is not None:
                self._file.constants[name] = proto
        self._file.constants |= {name: proto for name, proto in self._stored.items() if name not in self._known()}

    def _split_directions(self, node: OnnxNode) -> None:
        """Give a recurrent layer the weights of each direction, as torch has them, as inputs from the ninth on."""
        protos = [self._proto(name) for name in node.inputs[1:3]]
        bias = self._proto(node.inputs[3]) if len(node.inputs) > 3 else None
        if any(proto is None for proto in protos):
            return
        parts: list[str] = []
        for direction in range(protos[0].dims[0] if protos[0] is not None else 0):
            for name, proto in zip(node.inputs[1:3], protos, strict=True):
                assert proto is not None
                made = Parameter(tuple(proto.dims[1:]), dtype_of(proto.data_type), proto, part=(direction,))
                parts.append(f"{name}/{direction}")
                self._file.parameters.setdefault(parts[-1], made)
            for half in range(2 if bias is not None else 0):
                assert bias is not None
                size = bias.dims[1] // 2
                part = (direction, slice(half * size, (half + 1) * size))
                parts.append(f"{node.inputs[3]}/{direction}/{half}")
                made = Parameter((size,), dtype_of(bias.data_type), bias, part=part)
                self._file.parameters.setdefault(parts[-1], made)
        others = [*node.inputs, *[""] * 8][:8]
        node.inputs = [others[0], "", "", "", *others[4:], *parts]

    def scalar(self, name: str) -> float | None:
        """Return the value of a stored tensor of one number; None for all else."""
        proto = self._proto(name)
        if proto is None or prod(proto.dims) != 1 or self._kinds.get(name) == "PARAMETER":
            return None
        return float(self._file.values(proto).item())

    def _known(self) -> set[str]:
        return {*self._file.parameters, *self._file.constants, *self._file.statistics}

    def _proto(self, name: str) -> onnx.TensorProto | None:
        return self._tensors.get(self._twins.get(name, name))

    def _make(
        self,
        name: str,
        shape: Sequence[int],
        dtype: torch.dtype,
        proto: onnx.TensorProto | None = None,
        fill: float = 0.0,
        statistic: bool = False,
    ) -> str:
        into = self._file.statistics if statistic else self._file.parameters
        into.setdefault(name, Parameter(tuple(shape), dtype, proto, fill))
        return name

    def _is_parameter(self, name: str, proto: onnx.TensorProto, node: OnnxNode, index: int) -> bool:
        """Return whether a stored tensor is a parameter where a node reads it."""
        if not dtype_of(proto.data_type).is_floating_point or index in _SETTINGS.get(node.operator, ()):
            return False
        kind = self._kinds.get(name)
        if kind is not None:
            return kind == "PARAMETER"
        initialiser = name in self._stored or name in self._twins
        if self._by_tracing and not (initialiser and name.startswith("onnx::")):
            return initialiser  # parameters and buffers, which look alike; constants are nodes
        if index in _WEIGHTS.get(node.operator, ()):
            return bool(proto.dims)
        if self._is_mask(proto):
            return False
        if self._signature:  # what it does not list was computed by the exporter, from parameters or constants
            if prod(proto.dims) < 2 or node.operator in (*RECURRENT, ATTENTION):
                return False
            if not self._parameters_of(node) and name not in self._computed and self._unread:
                self._computed.add(name)
                self._unread.pop()
            return bool(self._parameters_of(node)) or name in self._computed
        return initialiser and prod(proto.dims) > 1

    def _is_mask(self, proto: onnx.TensorProto) -> bool:
        """Return whether a tensor masks attention, such as zeros and minus infinity."""
        if proto.external_data and prod(proto.dims) > _LARGEST_MASK:
            return False
        try:
            values = np.unique(self._file.values(proto).float().numpy())
        except InputError:  # external data that are not at hand
            return False
        return len(values) == 2 and bool((values < MASKED).any())

    def _parameters_of(self, node: OnnxNode) -> list[str]:
        """Return the parameters of the call from which ``torch.export``'s exporter made a node."""
        names = re.findall(r"%(\w+)", node.metadata.get(_CALL, "").partition("args = ")[2])
        signed = [self._signature[name] for name in names if name in self._signature]
        return [target for kind, target in signed if kind == "PARAMETER"]

    def _own_names(self, node: OnnxNode) -> dict[int, str]:
        """Return, by position, the names of parameters that are stored under another one's name."""
        names = [name for name in self._parameters_of(node) if name not in node.inputs]
        merged = [
            index
            for index, name in enumerate(node.inputs)
            if name not in self._parameters_of(node)
            and (proto := self._proto(name)) is not None
            and (self._kinds.get(name) == "PARAMETER" or index in _WEIGHTS.get(node.operator, ()))
            and not (node.operator == "BatchNormalization" and index > 2)
            and proto.dims
        ]
        if node.operator == "Add" and names:  # of a linear layer's two nodes, the bias is the last parameter
            names = names[-1:]
        return dict(zip(merged, names, strict=False))

    def _transposed_tables(self) -> dict[str, str]:
        """Return factors of products that are an embedding's table transposed, and the table's name."""
        if not self._by_tracing:
            return {}
        tables = {n.inputs[0] for n in self._file.nodes if n.operator == "Gather" and n.inputs[0] in self._stored}
        tied = {}
        for node in self._file.nodes:
            factor = node.inputs[1] if node.operator == "MatMul" else ""
            if (proto := self._stored.get(factor)) is None or not factor.startswith("onnx::") or proto.external_data:
                continue
            for name in tables:
                table = self._stored[name]
                if list(table.dims) == list(proto.dims)[::-1] and not table.external_data:
                    one, other = self._file.values(proto), self._file.values(table).t()
                    if torch.equal(one, other) and bool((one != one.flatten()[0]).any()):
                        tied[factor] = name
        return tied


def listed(operators: Sequence[str]) -> str:
    """Return operators with their numbers of nodes, the most frequent first."""
    counts = Counter(operators)
    names = [f"{name} ({count} node{'s' if count > 1 else ''})" for name, count in counts.most_common(8)]
    return ", ".join(names) + (f" and {len(counts) - len(names)} others" if len(counts) > len(names) else "")
