"""The executed string of a network: every operation that one input passes, in the order of execution.

One operation is one token; blanks separate tokens. A residual block on CIFAR images may read::

    input[3x32x32] conv(3,16,k3,s1,p1,w432,m442368)[16x32x32]<-1 bn(w32)[16x32x32]<-1
    relu[16x32x32]<-1 mul(0)[16x32x32]<-2 add[16x32x32]<-2,1 output<-1

Grammar of a token::

    token      = kind [ "(" attribute { "," attribute } ")" ] [ "[" shape "]" ] [ "<-" distance { "," distance } ]
    shape      = size { "x" size }             of the result, without a leading 1 (the batch); empty for a scalar
    distance   = how many tokens before this one the input was made, in the order of the arguments
    attribute  = in | out                      bare numbers first: channels (conv, deconv), features (linear, matmul)
               | "k" | "s" | "p" | "d" | "g" | "o" followed by sizes: kernel, stride, padding, and, where not
                 neutral, dilation, groups, output padding
               | number                        the scalar of arithmetic: "mul(0)"
               | name "=" value                any other argument that is not at its default
               | "w" count                     elements of the parameters that the operation reads
               | "m" count                     its multiply-adds (one multiply-add counts as one)

The kind is the name of the ATen operation, except for ``conv`` and ``deconv``, ``bn``, ``linear`` (a matrix
product with a parameter), ``matmul`` (any other), ``attention`` and ``max_pool2d``, which have several there,
and for ``input`` and ``output``, the first and the last token.

What no device pays for leaves no token: views (reshape, slice, transpose, detach), dropout in evaluation
mode, ``nn.Identity``. Dead branches and multiplications by zero are executed, so they are there. An in-place
operation reads the same as its out-of-place twin.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from freerea_patch import InputError, SearchSpace
from freerea_patch.networks.weights import unharmed

#: ATen's names for one thing, which depend on the device and on the training mode.
_KINDS = {
    "convolution": "conv",
    "native_batch_norm": "bn",
    "_native_batch_norm_legit_no_training": "bn",
    "cudnn_batch_norm": "bn",
    "miopen_batch_norm": "bn",
    "addmm": "linear",
    "mm": "linear",
    "bmm": "matmul",
    "baddbmm": "matmul",
    "max_pool2d_with_indices": "max_pool2d",
    "_scaled_dot_product_flash_attention_for_cpu": "attention",
    "_scaled_dot_product_flash_attention": "attention",
    "_scaled_dot_product_efficient_attention": "attention",
    "_scaled_dot_product_cudnn_attention": "attention",
}
#: Geometry of windows: a letter, and the value that need not be said.
_GEOMETRY: dict[str, tuple[str, int | None]] = {
    "kernel_size": ("k", None),
    "stride": ("s", None),
    "padding": ("p", None),
    "dilation": ("d", 1),
    "groups": ("g", 1),
    "output_padding": ("o", 0),
}
#: Arguments that say nothing of what is computed, or that the kind has said.
_SILENT = {
    *("cudnn_enabled", "device", "eps", "generator", "half_to_float", "layout", "memory_format", "momentum"),
    *("non_blocking", "pin_memory", "training", "transposed"),
}


def network_string(network: nn.Module, input_shape: tuple[int, ...]) -> str:
    """Return the executed string of a network; the module's docstring has the grammar.

    The network runs once, in evaluation mode, on one input of zeros, on its own device and in its own
    precision. Weights do not change the string. Buffers and training modes come back as they were.

    Args:
        network: any module that maps ``(1, *input_shape)`` to a tensor, or to tensors in a tuple, list or mapping.
        input_shape: shape of one input without the batch, ``(c, h, w)`` for images.

    Raises:
        InputError: not a module, not a shape, or the network fails on such an input.
    """
    if not isinstance(network, nn.Module):
        raise InputError(f"expected a network (torch.nn.Module), got {type(network).__name__}; build it first")
    shape = tuple(input_shape)
    if not all(isinstance(size, int) and size > 0 for size in shape):
        raise InputError(f"input shape must be positive whole numbers such as (3, 32, 32), not {input_shape!r}")
    # The fused encoder layer would hide its operations, and only some modes and devices have it.
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), unharmed(network):
            network.eval()
            x = _zeros(network, shape)
            with _Recorder(network, x) as recorder:
                result = network(x)
            return " ".join([*recorder.tokens, recorder.output(result)])
    except Exception as error:  # a user's network may raise anything
        message = next((line for line in str(error).splitlines() if line), type(error).__name__)
        raise InputError(f"the network cannot run on one input of shape {shape} ({message}); check both") from error
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


class SpaceStrings:
    """The strings of a space's networks; each network is built once, and its string stays in memory (some 6 kB a cell).

    Args:
        space: the search space.
    """

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self._remembered: dict[str, str] = {}

    def strings(self, genotypes: Sequence[str]) -> list[str]:
        """Return one string a genotype, in order.

        Raises:
            InputError: a genotype is not of the space, or its network cannot run.
        """
        for genotype in genotypes:
            if genotype not in self._remembered:
                network = self.space.build(genotype)
                try:
                    self._remembered[genotype] = network_string(network, self.space.input_shape)
                except InputError as error:
                    raise InputError(f"network {genotype!r}: {error}") from error
        return [self._remembered[genotype] for genotype in genotypes]


class _Operation(NamedTuple):
    """What is known of an ATen operation before it runs: its kind, its arguments' defaults, which it writes to."""

    kind: str
    defaults: dict[str, object]
    writes: frozenset[str]


@cache
def _operation(func: Any) -> _Operation:
    schema = func._schema
    name = schema.name.partition("::")[2]
    return _Operation(
        _KINDS.get(name, name.strip("_")),
        {argument.name: argument.default_value for argument in schema.arguments},
        frozenset(a.name for a in schema.arguments if a.alias_info is not None and a.alias_info.is_write),
    )


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Writes a token for every operation that runs under it.

    A tensor is known by its storage: views share it, in-place operations write to it. Whatever wrote to a
    storage last made all the tensors in it.
    """

    def __init__(self, network: nn.Module, x: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.tokens = [f"input{_shape(x)}"]
        self._parameters = {_storage(parameter) for parameter in network.parameters()}
        self._writer = {_storage(x): 0}
        # A storage's address may be given to another tensor once the first is gone, so none goes.
        self._alive = [x]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and record it."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        operation = _operation(func)
        self._record(operation, [*zip(operation.defaults, args, strict=False), *kwargs.items()], result)
        return result

    def output(self, result: object) -> str:
        """Return the last token, which follows what made the network's result."""
        found: list[int] = []
        waiting = [result]
        while waiting:
            item = waiting.pop(0)
            if isinstance(item, Tensor):
                found.append(_storage(item))
            elif isinstance(item, Mapping):
                waiting[:0] = item.values()
            elif isinstance(item, (list, tuple)):
                waiting[:0] = item
        return "output" + self._sources(found)

    def _record(self, operation: _Operation, arguments: Sequence[tuple[str, Any]], result: object) -> None:
        read: list[Tensor] = []
        written: list[Tensor] = []
        plain: list[tuple[str, Any]] = []
        for name, value in arguments:
            if tensors := _tensors(value):
                read += tensors
                if name in operation.writes:
                    written += tensors
            elif value is not None and name not in _SILENT:
                plain.append((name, value))
        places = [_storage(tensor) for tensor in read]
        results = [tensor for tensor in _tensors(result) if tensor.numel()]
        if not written and all(_storage(tensor) in places for tensor in results):
            return  # nothing was computed: a view, a number read out, an empty result
        first = (results or written)[0]
        kind = operation.kind
        if kind == "linear" and not self._is_weight(places[-1]):
            kind = "matmul"
        elif ("transposed", True) in arguments:
            kind = "deconv"
        attributes = [*_widths(kind, read, first), *_attributes(plain, operation.defaults)]
        weights = 0
        for tensor, place in zip(read, places, strict=True):
            if self._is_weight(place):
                weights += tensor.numel()
            elif tensor.ndim == 0 and place not in self._writer:
                # A constant such as torch.tensor(0.0) is as decisive as the number 0.0.
                attributes.append(_text(tensor.item()))
        if weights:
            attributes.append(f"w{weights}")
        if multiply_adds := _multiply_adds(kind, read, first):
            attributes.append(f"m{multiply_adds}")
        listed = f"({','.join(attributes)})" if attributes else ""
        self.tokens.append(f"{kind}{listed}{_shape(first)}{self._sources(places)}")
        for tensor in (*written, *results):
            self._writer[_storage(tensor)] = len(self.tokens) - 1
            self._alive.append(tensor)

    def _is_weight(self, place: int) -> bool:
        return place in self._parameters and place not in self._writer

    def _sources(self, places: Sequence[int]) -> str:
        distances = [str(len(self.tokens) - self._writer[place]) for place in places if place in self._writer]
        return "<-" + ",".join(distances) if distances else ""


def _attributes(arguments: Sequence[tuple[str, Any]], defaults: Mapping[str, object]) -> Iterator[str]:
    """Yield what arguments other than tensors say."""
    for name, value in arguments:
        if name in _GEOMETRY:
            letter, neutral = _GEOMETRY[name]
            sizes = list(value) if isinstance(value, (list, tuple)) else [value]
            if any(size != neutral for size in sizes):
                yield letter + _sizes(sizes)
        elif value != defaults[name]:
            yield _text(value) if name in ("other", "value") else f"{name}={_text(value)}"


def _widths(kind: str, read: Sequence[Tensor], result: Tensor) -> Iterator[str]:
    """Yield the two bare numbers of a token: channels or features in and out."""
    if kind in ("conv", "deconv"):
        yield from (str(read[0].shape[1]), str(result.shape[1]), "k" + _sizes(read[1].shape[2:]))
    elif kind in ("linear", "matmul"):
        yield from map(str, read[-1].shape[-2:])


def _multiply_adds(kind: str, read: Sequence[Tensor], result: Tensor) -> int:
    """Return the multiply-adds of matrix products, of which a convolution makes one a position."""
    if kind == "conv":
        return result.numel() // result.shape[1] * read[1].numel()
    if kind == "deconv":
        return read[0].numel() // read[0].shape[1] * read[1].numel()
    if kind in ("linear", "matmul"):
        return result.numel() * read[-1].shape[-2]
    if kind == "attention":  # queries times keys, and their softmax times values
        return (read[0].numel() + result.numel()) * read[1].shape[-2]
    return 0


def _zeros(network: nn.Module, input_shape: tuple[int, ...]) -> Tensor:
    like = next((p for p in network.parameters() if p.is_floating_point()), torch.empty(0))
    return torch.zeros(1, *input_shape, dtype=like.dtype, device=like.device)


def _tensors(value: object) -> list[Tensor]:
    """Return the tensors of an argument or a result: itself, or those of a list, which ATen never nests."""
    if isinstance(value, Tensor):
        return [value]
    return [item for item in value if isinstance(item, Tensor)] if isinstance(value, (list, tuple)) else []


def _storage(tensor: Tensor) -> int:
    return cast(int, tensor.untyped_storage()._cdata)


def _sizes(sizes: Sequence[int]) -> str:
    """Write the sizes of a window, one where they are equal."""
    return "x".join(map(str, sizes[:1] if len(set(sizes)) == 1 else sizes))


def _shape(tensor: Tensor) -> str:
    sizes = list(tensor.shape)
    return f"[{'x'.join(map(str, sizes[1:] if sizes[:1] == [1] else sizes))}]"


def _text(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return ":".join(map(_text, value))
    if isinstance(value, (bool, int)):
        return str(int(value))
    if isinstance(value, float):
        return f"{value:g}"
    return re.sub(r"[^\w.:+-]", "_", str(value).removeprefix("torch."))
