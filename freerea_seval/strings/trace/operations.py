"""Normalisation of ATen operations: one name, and one form of the arguments, for everything that computes the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from freerea_seval.strings.graph.ir import Ref, Spec, Value
from freerea_seval.strings.graph.shape_inference import COMMUTATIVE, WINDOWS

#: ATen's names that mean the same: which one is dispatched depends on device, training mode and caller.
KINDS = {
    "convolution": "conv",
    "convolution_overrideable": "conv",
    "native_batch_norm": "bn",
    "native_batch_norm_legit_no_training": "bn",
    "cudnn_batch_norm": "bn",
    "miopen_batch_norm": "bn",
    "native_layer_norm": "layer_norm",
    "native_group_norm": "group_norm",
    **dict.fromkeys(("addmm", "mm", "bmm", "baddbmm", "mv", "dot", "addmv", "int_mm"), "matmul"),
    **{f"max_pool{n}d_with_indices": f"max_pool{n}d" for n in (2, 3)},
    **dict.fromkeys(("view", "unsafe_view", "reshape_alias", "unsqueeze", "squeeze"), "reshape"),
    **dict.fromkeys(("t", "transpose"), "permute"),
    "prelu_kernel": "prelu",
    **dict.fromkeys(("split_with_sizes", "unsafe_split", "unsafe_split_with_sizes"), "split"),
    "to_copy": "to",
    **{f"scaled_dot_product_{how}_attention": "attention" for how in ("flash", "efficient", "cudnn")},
    "scaled_dot_product_flash_attention_for_cpu": "attention",
}
#: Operations that allocate memory and write nothing to it.
ALLOCATIONS = frozenset(("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"))
#: Operations that return their input, or a value to Python; graphs do not show them.
TRANSPARENT = ALLOCATIONS | {
    *("detach", "lift_fresh", "lift_fresh_copy", "alias", "local_scalar_dense", "equal"),
}
#: Arguments that do not affect the cost or the function, or that follow from the kind or the shape of the result.
IGNORED_ARGUMENTS = frozenset(
    (
        *("cudnn_enabled", "device", "dtype", "eps", "generator", "half_to_float", "implicit", "layout"),
        *("memory_format", "momentum", "non_blocking", "pin_memory", "size", "training", "transposed"),
        *("input_shape", "N", "C", "HxW", "running_mean", "running_var", "exponential_average_factor"),
        *("epsilon", "reduce_range"),
    )
)
#: Types of arguments that can be attributes; the packed weights of a quantised layer, for one, cannot.
_PLAIN = (int, float, complex, str, list, tuple, torch.dtype, torch.device, torch.layout, torch.memory_format)


class Schema(NamedTuple):
    """What ATen declares of an operation.

    Attributes:
        kind: the normalised name.
        defaults: the default value of every argument, in order.
        writes: the names of the arguments that the operation modifies.
    """

    kind: str
    defaults: dict[str, object]
    writes: frozenset[str]


class Parameter(NamedTuple):
    """A parameter as an operation reads it.

    Attributes:
        key: identifies the parameter.
        spec: shape and dtype, which may be those of a reshaped or transposed view.
    """

    key: int
    spec: Spec


#: What an operation reads: the result of another operation, or a parameter.
Source = Ref | Parameter


class Operation(NamedTuple):
    """A recorded operation; see :class:`~freerea_seval.strings.graph.ir.Node`, which it becomes."""

    kind: str
    attributes: dict[str, Value]
    inputs: list[Source]
    outputs: list[Spec]


@cache
def schema_of(func: Any) -> Schema:
    """Return the schema of an ATen overload."""
    schema = func._schema
    namespace, _, name = schema.name.partition("::")
    return Schema(
        kind_of(name) if namespace == "aten" else f"{namespace}.{name}",
        {argument.name: argument.default_value for argument in schema.arguments},
        frozenset(a.name for a in schema.arguments if a.alias_info is not None and a.alias_info.is_write),
    )


def kind_of(name: str) -> str:
    """Return the kind of an ATen operation; the in-place variant has the same kind."""
    name = name.strip("_")
    return KINDS.get(name, name)


def spec_of(tensor: Tensor) -> Spec:
    """Return shape and dtype of a tensor.

    Raises:
        TypeError: the tensor is nested, sparse, or has another layout without a storage.
    """
    if tensor.layout is not torch.strided or tensor.is_nested:
        kind = "nested" if tensor.is_nested else str(tensor.layout).removeprefix("torch.")
        raise TypeError(f"a {kind} tensor cannot be traced; expected dense tensors")
    return Spec(tuple(map(int, tensor.shape)), _dtype_name(tensor.dtype))


@cache
def _dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def normalised(
    kind: str,
    arguments: Mapping[str, object],
    defaults: Mapping[str, object],
    inputs: Sequence[Source],
    specs: Sequence[Spec],
    outputs: Sequence[Spec],
) -> Operation:
    """Return an operation in its canonical form.

    Args:
        kind: normalised name.
        arguments: the arguments that are no tensors, by name.
        defaults: default values of arguments, by name.
        inputs, specs: the tensor arguments in the order of the signature, with their shapes and dtypes.
        outputs: shapes and dtypes of the results.

    Raises:
        TypeError: an argument is a tensor.
    """
    if arguments.get("transposed"):
        kind = "deconv"
    if kind == "matmul":
        kind, inputs, specs = _normalised_product(inputs, specs)
    attributes = _attributes(kind, arguments, defaults, specs, outputs)
    if kind in ("conv", "deconv", "linear"):
        attributes["out"] = outputs[0].shape[-1 if kind == "linear" else 1]
        if len(inputs) > 2:
            attributes["b"] = 1
    elif kind == "embedding":
        inputs = inputs[::-1]
        attributes = {"out": outputs[0].shape[-1], "num": specs[0].shape[0]}
    elif kind in ("bn", "layer_norm", "group_norm") and len(inputs) == 1:
        attributes["plain"] = 1
    elif kind in COMMUTATIVE and not attributes:
        # Sorting is stable: parameters come last and keep their order.
        inputs = sorted(inputs, key=lambda item: (0, item.node) if isinstance(item, Ref) else (1, 0))
    return Operation(kind, attributes, list(inputs), list(outputs))


def _normalised_product(
    inputs: Sequence[Source], specs: Sequence[Spec]
) -> tuple[str, Sequence[Source], Sequence[Spec]]:
    """Return kind, inputs and specs of a matrix product: the factors first, and ``linear`` if it is a layer."""
    if len(inputs) == 3:  # addmm(bias, first, second)
        inputs, specs = [*inputs[1:], inputs[0]], [*specs[1:], specs[0]]
    first, weight, *bias = inputs
    matrices = [len(spec.shape) for spec in specs[:2]] == [2, 2]
    if isinstance(first, Parameter) or not matrices or not all(isinstance(item, Parameter) for item in (weight, *bias)):
        return "matmul", inputs, specs
    assert isinstance(weight, Parameter)
    # The factor has shape (in, out); in a graph, a linear layer's weight has shape (out, in).
    transposed = specs[1]._replace(shape=specs[1].shape[::-1])
    return "linear", [first, Parameter(weight.key, transposed), *bias], [specs[0], transposed, *specs[2:]]


def _attributes(
    kind: str,
    arguments: Mapping[str, object],
    defaults: Mapping[str, object],
    specs: Sequence[Spec],
    outputs: Sequence[Spec],
) -> dict[str, Value]:
    """Return the attributes of an operation from its arguments."""
    shape = specs[0].shape if specs else ()
    if kind in WINDOWS:
        return _window(kind, arguments, specs)
    if kind == "permute":
        return {"dims": _permutation(arguments, len(shape))}
    if kind in ("reshape", "expand"):
        return {}  # the shape of the result is all there is
    attributes: dict[str, Value] = {}
    for name, value in arguments.items():
        if name in IGNORED_ARGUMENTS or not isinstance(value, (*_PLAIN, Tensor)):
            continue
        default = defaults.get(name)
        if name == "dim" and shape:
            rank = len(shape) + (kind == "stack")
            value, default = _nonnegative_dims(value, rank), _nonnegative_dims(default, rank)
        if isinstance(value, _PLAIN) and value == default:
            continue
        if (normal := _attribute_value(value)) is not None:
            attributes["sizes" if name in ("split_size", "split_sizes") else name] = normal
    if kind == "layer_norm" and attributes.get("normalized_shape") == shape[-1]:
        del attributes["normalized_shape"]
    if kind in ("slice", "select"):
        size = shape[int(str(attributes.get("dim", 0)))]
        if kind == "select" and isinstance(index := attributes.get("index"), int) and index < 0:
            attributes["index"] = index + size
        for name, default in (("start", 0), ("end", size)) if kind == "slice" else ():
            bound = attributes.pop(name, None)
            if isinstance(bound, int):
                bound = min(max(bound + size if bound < 0 else bound, 0), size)
                if bound != default:
                    attributes[name] = bound
    return attributes


def _nonnegative_dims(value: object, rank: int) -> object:
    """Return one dimension, or a sorted list of several, counted from the front; any other value as it is."""
    if isinstance(value, int):
        return value % rank
    return sorted(int(dim) % rank for dim in value) if isinstance(value, (list, tuple)) else value


def _attribute_value(value: object) -> Value | None:
    """Return an argument as a value of an attribute; None for None and for empty lists.

    A complex number is its real and its imaginary part.

    Raises:
        TypeError: the argument is a tensor; tensors are inputs, and strings do not contain their values.
    """
    if isinstance(value, Tensor):
        raise TypeError("an attribute cannot be a tensor; expected a number, a string or a list")
    if isinstance(value, (bool, int)):
        return int(value)
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < 2**53 else value
    if isinstance(value, complex):
        value = (value.real, value.imag)
    if isinstance(value, (list, tuple)):
        items = [item for item in map(_attribute_value, value) if isinstance(item, (int, float))]
        return tuple(items) if len(items) > 1 else items[0] if items else None
    word = "".join(
        c if (c.isascii() and c.isalnum()) or c in "_.+-" else "_" for c in str(value).removeprefix("torch.")
    )
    # A word begins like a name, and is no number.
    return word if not word or (word[0].isalpha() and word not in ("nan", "inf")) or word[0] == "_" else f"_{word}"


def _window(kind: str, arguments: Mapping[str, object], specs: Sequence[Spec]) -> dict[str, Value]:
    """Return the attributes of a convolution or pool, with one size per spatial dimension."""
    convolution = kind.endswith("conv")
    n = len(specs[0].shape) - 2 if convolution else int(kind[-2])
    kernel = specs[1].shape[2:] if convolution else _sizes(arguments["kernel_size"], n)
    attributes: dict[str, Value] = {"k": kernel}
    attributes["s"] = _sizes(arguments.get("stride") or kernel, n)
    attributes["p"] = _sizes(arguments.get("padding") or 0, n)
    if not kind.startswith("avg"):
        attributes["d"] = _sizes(arguments.get("dilation") or 1, n)
    if kind == "deconv":
        attributes["o"] = _sizes(arguments.get("output_padding") or 0, n)
    if convolution:
        attributes["g"] = int(str(arguments.get("groups", 1)))
    if arguments.get("ceil_mode"):
        attributes["ceil_mode"] = 1
    if arguments.get("count_include_pad") is False and any(_sizes(attributes["p"], n)):
        attributes["count_include_pad"] = 0
    if variant := arguments.get("variant"):  # of a quantised convolution
        attributes["variant"] = str(variant)
    if isinstance(divisor := arguments.get("divisor_override"), int):
        attributes["divisor"] = divisor
    return attributes


def _sizes(value: object, n: int) -> tuple[int, ...]:
    """Return n sizes from one size or several."""
    sizes = tuple(map(int, value)) if isinstance(value, (list, tuple)) else (int(str(value)),)
    return sizes * n if len(sizes) == 1 else sizes


def _permutation(arguments: Mapping[str, object], rank: int) -> tuple[int, ...]:
    """Return the order of dimensions after permute, transpose or t."""
    if "dims" in arguments:
        return tuple(dim % rank for dim in _sizes(arguments["dims"], 1))
    order = list(range(rank))
    # t() has no arguments, and swaps the dimensions of a matrix.
    first, second = (int(str(arguments.get(name, dim))) % rank for name, dim in (("dim0", 0), ("dim1", -1)))
    order[first], order[second] = order[second], order[first]
    return tuple(order)
