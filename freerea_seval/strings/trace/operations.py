"""From ATen's operations to the nodes of a graph: one name and one way of writing for what is the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from freerea_seval.strings.graph.ir import Graph, Node, Ref, Spec, Value, Weight
from freerea_seval.strings.graph.shape_inference import COMMUTATIVE, WINDOWS, predicted_results
from freerea_seval.strings.text.grammar import ordered
from freerea_seval.strings.trace.peephole import tidy
from freerea_seval.strings.trace.raw_operations import Parameter, Row, Source

#: ATen's names for one thing, which depend on the device, on the training mode and on the caller.
KINDS = {
    "convolution": "conv",
    "convolution_overrideable": "conv",
    "native_batch_norm": "bn",
    "native_batch_norm_legit_no_training": "bn",
    "cudnn_batch_norm": "bn",
    "miopen_batch_norm": "bn",
    "native_layer_norm": "layer_norm",
    "native_group_norm": "group_norm",
    **dict.fromkeys(("addmm", "mm", "bmm", "baddbmm", "mv", "dot", "addmv", "addbmm"), "matmul"),
    **{f"max_pool{n}d_with_indices": f"max_pool{n}d" for n in (2, 3)},
    **dict.fromkeys(("view", "unsafe_view", "reshape_alias", "unsqueeze", "squeeze"), "reshape"),
    **dict.fromkeys(("t", "transpose"), "permute"),
    "prelu_kernel": "prelu",
    **dict.fromkeys(("split_with_sizes", "unsafe_split", "unsafe_split_with_sizes"), "split"),
    "to_copy": "to",
    **{f"scaled_dot_product_{how}_attention": "attention" for how in ("flash", "efficient", "cudnn")},
    "scaled_dot_product_flash_attention_for_cpu": "attention",
}
#: Operations that reserve memory and write nothing there.
EMPTY = frozenset(("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"))
#: Operations that pass on what they get; or that compute nothing a network's string should say.
PASSING = EMPTY | {"detach", "lift_fresh", "lift_fresh_copy", "alias", "local_scalar_dense", "equal"}
#: Arguments that say nothing of what is computed, or that the kind or the shape of the result says.
SILENT = frozenset(
    (
        *(
            "cudnn_enabled",
            "device",
            "dtype",
            "eps",
            "generator",
            "half_to_float",
            "implicit",
            "layout",
            "memory_format",
        ),
        *("momentum", "non_blocking", "pin_memory", "size", "training", "transposed", "input_shape", "N", "C", "HxW"),
        *("running_mean", "running_var", "exponential_average_factor", "epsilon"),
    )
)
_GEOMETRY = {"kernel_size": "k", "stride": "s", "padding": "p", "dilation": "d", "output_padding": "o", "groups": "g"}
_BIASED = frozenset(("conv", "deconv", "linear"))
#: Types of arguments that can be compared and said; the packed weights of a quantised layer are none.
_PLAIN = (int, float, complex, str, list, tuple, torch.dtype, torch.device, torch.layout, torch.memory_format)


class Schema(NamedTuple):
    """What is known of an ATen operation before it runs: kind, the arguments' defaults, those that it writes to."""

    kind: str
    defaults: dict[str, object]
    writes: frozenset[str]


@cache
def schema_of(func: Any) -> Schema:
    """Return the schema of an ATen overload."""
    schema = func._schema
    return Schema(
        kind_of(schema.name.partition("::")[2]),
        {argument.name: argument.default_value for argument in schema.arguments},
        frozenset(a.name for a in schema.arguments if a.alias_info is not None and a.alias_info.is_write),
    )


def kind_of(name: str) -> str:
    """Return the kind of an ATen operation, in place or not."""
    name = name.strip("_")
    return KINDS.get(name, name)


def spec_of(tensor: Tensor) -> Spec:
    """Return shape and dtype of a tensor."""
    return Spec(tuple(map(int, tensor.shape)), _dtype_name(tensor.dtype))


@cache
def _dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


@dataclass
class Builder:
    """Collects the operations of a network in the order in which they ran, and makes their graph."""

    nodes: list[Row] = field(default_factory=list)

    def add(
        self,
        kind: str,
        arguments: Mapping[str, object],
        defaults: Mapping[str, object],
        inputs: Sequence[Source],
        outputs: Sequence[Spec],
    ) -> int:
        """Add an operation and return its position.

        Args:
            kind: its name here.
            arguments: its arguments other than tensors, by name.
            defaults: of its arguments.
            inputs: its tensors, in the order of its arguments.
            outputs: its results.
        """
        specs = [self.spec(item) for item in inputs]
        if arguments.get("transposed"):
            kind = "deconv"
        if kind == "matmul":
            kind, inputs = _product(inputs, specs)
            specs = [self.spec(item) for item in inputs]
        attributes = _attributes(kind, arguments, defaults, specs, outputs)
        if kind in _BIASED:
            attributes["out"] = outputs[0].shape[-1 if kind == "linear" else 1]
            if len(inputs) > 2:
                attributes["b"] = 1
        elif kind == "embedding":
            inputs = inputs[::-1]
            attributes = {"out": outputs[0].shape[-1], "num": specs[0].shape[0]}
        elif kind in ("bn", "layer_norm", "group_norm") and len(inputs) == 1:
            attributes["plain"] = 1
        elif kind in COMMUTATIVE and not attributes:
            inputs = sorted(
                inputs, key=lambda item: (isinstance(item, Parameter), item[0] if isinstance(item, Ref) else 0)
            )
        self.nodes.append((kind, attributes, list(inputs), list(outputs)))
        return len(self.nodes) - 1

    def spec(self, item: Source) -> Spec:
        """Return shape and dtype of an input."""
        return item.spec if isinstance(item, Parameter) else self.nodes[item.node][3][item.port]

    def graph(self, results: Sequence[Source], parameters: Iterable[Parameter] = ()) -> Graph:
        """Return the graph.

        Args:
            results: what the network returns.
            parameters: all that the module holds; those that no operation read are the weights of ``unused``.
        """
        nodes = list(self.nodes)
        read = {item.key for _, _, inputs, _ in nodes for item in inputs if isinstance(item, Parameter)}
        read |= {item.key for item in results if isinstance(item, Parameter)}
        idle: list[Source] = [parameter for parameter in parameters if parameter.key not in read]
        if idle:
            nodes.append(("unused", {}, idle, []))
        nodes.append(("output", {}, list(results), []))
        nodes = tidy(nodes)
        used = [0] * len(nodes)
        for _, _, inputs, _ in nodes:
            for item in inputs:
                if isinstance(item, Ref):
                    used[item.node] = max(used[item.node], item.port + 1)
        readers: dict[int, int] = {}
        made: list[Node] = []
        for position, (kind, attributes, inputs, outputs) in enumerate(nodes):
            items: list[Ref | Weight] = []
            for item in inputs:
                if isinstance(item, Parameter):
                    items.append(Weight(*item.spec, readers.get(item.key)))
                    readers[item.key] = position
                else:
                    items.append(item)
            specs = tuple(made[item.node].outputs[item.port] for item in items if isinstance(item, Ref))
            weights = tuple(item._replace(tied=None) for item in items if isinstance(item, Weight))
            said = ordered(attributes)
            kept = max(used[position], _results(kind, said, specs, weights), 1)
            made.append(Node(kind, said, tuple(items), tuple(outputs[:kept])))
        return Graph(tuple(made))


@lru_cache(maxsize=65536)
def _results(
    kind: str, attributes: tuple[tuple[str, Value], ...], specs: tuple[Spec, ...], weights: tuple[Weight, ...]
) -> int:
    """Return how many results an operation has by its rule."""
    return len(predicted_results(kind, dict(attributes), specs, weights) or ())


def _product(inputs: Sequence[Source], specs: Sequence[Spec]) -> tuple[str, Sequence[Source]]:
    """Bring the operands of a matrix product in order, the factors first, and tell layers from other products."""
    if len(inputs) == 3:  # addmm(bias, first, second)
        inputs, specs = [*inputs[1:], inputs[0]], [*specs[1:], specs[0]]
    weight = inputs[1]
    layer = isinstance(inputs[0], Ref) and all(isinstance(item, Parameter) for item in inputs[1:])
    if not layer or not isinstance(weight, Parameter) or [len(spec.shape) for spec in specs[:2]] != [2, 2]:
        return "matmul", inputs
    # Stored as (out, in) or as (in, out), it is one linear layer; what is multiplied by is (in, out).
    return "linear", [inputs[0], weight._replace(spec=Spec(weight.spec.shape[::-1], weight.spec.dtype)), *inputs[2:]]


def _attributes(
    kind: str,
    arguments: Mapping[str, object],
    defaults: Mapping[str, object],
    specs: Sequence[Spec],
    outputs: Sequence[Spec],
) -> dict[str, Value]:
    """Return what arguments other than tensors say, in one way for all operations of a kind."""
    shape = specs[0].shape if specs else ()
    if kind in WINDOWS:
        return _window(kind, arguments, specs)
    if kind == "permute":
        return {"dims": _permutation(arguments, len(shape))}
    if kind in ("reshape", "expand"):
        return {}  # the shape of the result says it
    attributes: dict[str, Value] = {}
    for name, value in arguments.items():
        if name in SILENT or not isinstance(value, (*_PLAIN, Tensor)):
            continue
        default = defaults.get(name)
        if name == "dim" and shape:
            rank = len(shape) + (kind == "stack")
            value, default = (
                _positive(dim, rank) if isinstance(dim, (int, list, tuple)) else dim for dim in (value, default)
            )
        if isinstance(value, _PLAIN) and value == default:
            continue
        if name in ("split_size", "split_sizes"):
            name = "sizes"
        if (said := _value(value)) is not None:
            attributes[name] = said
    if kind == "layer_norm" and attributes.get("normalized_shape") == shape[-1]:
        del attributes["normalized_shape"]
    if kind == "slice":
        size = shape[int(str(attributes.get("dim", 0)))]
        for name in ("start", "end"):
            place = attributes.pop(name, None)
            if isinstance(place, int):
                place = min(max(place + size if place < 0 else place, 0), size)
                if place != (0 if name == "start" else size):
                    attributes[name] = place
    elif kind == "select" and isinstance(index := attributes.get("index"), int) and index < 0:
        attributes["index"] = index + shape[int(str(attributes.get("dim", 0)))]
    return attributes


def _positive(value: int | list[int] | tuple[int, ...], rank: int) -> int | list[int]:
    """Return dimensions counted from the front."""
    if isinstance(value, int):
        return value % rank
    return sorted(int(str(_positive(dim, rank))) for dim in value)


def _value(value: object) -> Value | None:
    """Return an argument as a value of the grammar, None where it says nothing.

    Raises:
        TypeError: a tensor, which is an input: its values are no part of a string.
    """
    if isinstance(value, Tensor):
        raise TypeError("a tensor is no value of an attribute")
    if isinstance(value, (bool, int)):
        return int(value)
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < 2**53 else value
    if isinstance(value, (list, tuple)):
        items = [item for item in map(_value, value) if isinstance(item, (int, float))]
        return tuple(items) if len(items) > 1 else items[0] if items else None
    return "".join(c if c.isalnum() or c in "_.+-" else "_" for c in str(value).removeprefix("torch.")) or None


def _window(kind: str, arguments: Mapping[str, object], specs: Sequence[Spec]) -> dict[str, Value]:
    """Return the geometry of a convolution or a pool, every dimension's."""
    convolution = kind.endswith("conv")
    n = len(specs[0].shape) - 2 if convolution else int(kind[-2])
    kernel = specs[1].shape[2:] if convolution else _spread(arguments["kernel_size"], n)
    attributes: dict[str, Value] = {"k": kernel}
    attributes["s"] = _spread(arguments.get("stride") or kernel, n)
    attributes["p"] = _spread(arguments.get("padding") or 0, n)
    if not kind.startswith("avg"):
        attributes["d"] = _spread(arguments.get("dilation") or 1, n)
    if kind == "deconv":
        attributes["o"] = _spread(arguments.get("output_padding") or 0, n)
    if convolution:
        attributes["g"] = int(str(arguments.get("groups", 1)))
    if arguments.get("ceil_mode"):
        attributes["ceil_mode"] = 1
    if arguments.get("count_include_pad") is False and any(_spread(attributes["p"], n)):
        attributes["count_include_pad"] = 0
    if isinstance(divisor := arguments.get("divisor_override"), int):
        attributes["divisor"] = divisor
    return attributes


def _spread(value: object, n: int) -> tuple[int, ...]:
    sizes = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    sizes = tuple(int(str(size)) for size in sizes)
    return sizes * n if len(sizes) == 1 else sizes


def _permutation(arguments: Mapping[str, object], rank: int) -> tuple[int, ...]:
    """Return the order of dimensions of permute, transpose and t."""
    if "dims" in arguments:
        return tuple(dim % rank for dim in _spread(arguments["dims"], 1))
    order = list(range(rank))
    # t() swaps the two dimensions there are, if there are two.
    first, second = (
        int(str(_positive(int(str(arguments.get(name, dim))), rank))) for name, dim in (("dim0", 0), ("dim1", -1))
    )
    order[first], order[second] = order[second], order[first]
    return tuple(order)
