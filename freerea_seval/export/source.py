"""A network as readable Python source that needs torch alone.

A module tree is written as nested constructor calls. The arguments of a call are the attributes of the module that have
the names of the constructor's parameters, as modules of :mod:`torch.nn` keep them; a call is written only if it makes a
module with the same representation and the same weights by name and shape. Classes and helpers of the built-in spaces
are copied from their source; cells are written with every edge in a line of its own.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from textwrap import indent
from typing import Any

import torch
from torch import Tensor, nn

from freerea_patch import InputError
from freerea_patch.gpt_networks import MLP, Attention, Block, KVCache, norm_of, rotate
from freerea_patch.networks import (
    Cell,
    ChannelShuffle,
    InvertedResidual,
    ResidualBlock,
    Zero,
    conv_bn_relu,
    preserve_state,
    relu_conv_bn,
)
from freerea_patch.spaces import EDGES
from freerea_seval.progress import printable

#: Functions that return an ``nn.Sequential`` with one convolution, and are written as a call.
_HELPERS: tuple[Callable[..., nn.Sequential], ...] = (relu_conv_bn, conv_bn_relu)
_CLASSES = (Zero, ChannelShuffle, ResidualBlock, InvertedResidual, Attention, MLP, Block)
#: What is copied by name, each after what it uses.
_SOURCES: tuple[Any, ...] = (*_HELPERS, KVCache, rotate, norm_of, *_CLASSES)
_COPIED: dict[str, Any] = {item.__name__: item for item in _SOURCES}
#: Parameters of constructors that are numbers of channels, for which a cell has names.
_CHANNELS = ("c_in", "c_out", "in_channels", "out_channels", "num_features")
#: A call of at most this many characters stays on one line.
_LINE = 88

#: The text of an argument, and the comment behind it.
Argument = tuple[str, str]
Widths = Mapping[int, str]
Shapes = Mapping[nn.Module, tuple[tuple[int, ...], tuple[int, ...]]]


def network_source(
    network: nn.Module, input_shape: Sequence[int], title: str, facts: str = "", dtype: torch.dtype = torch.float32
) -> str:
    """Return Python source with a class ``Network``, which equals a network but for the values of its weights.

    Args:
        network: any module that maps one tensor to one tensor.
        input_shape: of one input, without the batch.
        title: first line of the docstring.
        facts: further lines of it.
        dtype: of the input.

    Raises:
        InputError: a part of the network is neither of :mod:`torch.nn` nor of a built-in space.
    """
    writer = _Writer(record_shapes(network, input_shape, dtype))
    callee, arguments = writer.call(network)
    shapes = " to ".join(f"``{_shape(shape)}``" for shape in writer.shapes[network])
    parameters = sum(parameter.numel() for parameter in network.parameters())
    body = (
        f"class Network({callee}):\n"
        f'    """Maps {shapes}; {parameters:,} parameters."""\n\n'
        "    def __init__(self) -> None:\n"
        f"{indent(_joined('super().__init__', arguments), ' ' * 8)}\n"
    )
    definitions = [*writer.copied(body), *writer.cells, body]
    about = printable(f"{title}\n{facts and chr(10)}{facts}").replace("\\", "\\\\").replace('""', '\\"\\"')
    imports = "from collections import OrderedDict\n\n" if "OrderedDict(" in body else ""
    text = "\n".join(definitions)
    imports += "import torch\n" if re.search(r"\btorch\.", text) else ""
    imports += f"from torch import {'Tensor, nn' if 'Tensor' in text else 'nn'}\n"
    imports += "from torch.nn import functional as F\n" if re.search(r"\bF\.", text) else ""
    return "\n\n".join((f'"""{about}"""\n\n{imports}', *definitions))


def record_shapes(network: nn.Module, input_shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Shapes:
    """Return the shapes of the input and output of every module that maps one tensor to one, in evaluation mode."""
    shapes: dict[nn.Module, tuple[tuple[int, ...], tuple[int, ...]]] = {}

    def record(module: nn.Module, inputs: tuple[Any, ...], output: object) -> None:
        if len(inputs) == 1 and isinstance(inputs[0], Tensor) and isinstance(output, Tensor):
            shapes[module] = tuple(inputs[0].shape), tuple(output.shape)

    handles = [module.register_forward_hook(record) for module in network.modules()]
    try:
        with preserve_state(network), torch.no_grad():
            network.eval()(torch.zeros(2, *input_shape, dtype=dtype))
    finally:
        for handle in handles:
            handle.remove()
    return shapes


def _shape(shape: Sequence[int]) -> str:
    return f"({', '.join(['n', *map(str, shape[1:])])})"


class _Writer:
    """Writes modules as calls, and collects the classes of their cells.

    Args:
        shapes: of :func:`record_shapes`.
    """

    def __init__(self, shapes: Shapes) -> None:
        self.shapes = shapes
        self.cells: list[str] = []
        self._names: dict[str, str] = {}  # of the classes of cells, by what follows the name

    def copied(self, body: str) -> list[str]:
        """Return the sources of classes and helpers that a text or the cells use, each after what it uses itself."""
        text, sources = "\n".join([body, *self.cells]), dict[str, str]()
        for name in reversed(_COPIED):  # each before what it uses
            if re.search(rf"\b{name}(\(| \|)", text):  # called, or an optional argument
                sources[name] = inspect.getsource(_COPIED[name])
                text += sources[name]
        return list(reversed(sources.values()))

    def expression(self, module: nn.Module, widths: Widths | None = None) -> str:
        """Return a call that makes a module; channel counts that have a name in ``widths`` are written by it."""
        if isinstance(module, nn.Sequential):
            for helper in _HELPERS:
                arguments = _helper_arguments(helper, module, widths or {})
                if arguments:
                    return _joined(helper.__name__, arguments)
        return _joined(*self.call(module, widths))

    def call(self, module: nn.Module, widths: Widths | None = None) -> tuple[str, list[Argument]]:
        """Return what is called to make a module, and the arguments, which are layers or values."""
        kind = type(module)
        if isinstance(module, Cell) and kind is Cell:
            return self._cell(module)
        if isinstance(module, nn.Sequential) and kind is nn.Sequential:
            names = [name for name, _ in module.named_children()]
            layers = [(self.expression(child, widths), self._comment(child)) for child in module]
            if names == [str(number) for number in range(len(names))]:
                return "nn.Sequential", _repeated(layers)
            pairs = [(f"({name!r}, {layer})", comment) for name, (layer, comment) in zip(names, layers, strict=True)]
            return "nn.Sequential", [(f"OrderedDict(\n    [\n{indent(_lines(pairs), '    ')}\n    ]\n)", "")]
        callee = kind.__name__ if kind in _CLASSES else f"nn.{kind.__name__}"
        if kind in _CLASSES or getattr(nn, kind.__name__, None) is kind:
            for shorten in (True, False):
                values = _arguments(kind, _attributes(module), shorten)
                if values is not None and _makes(kind, values, module):
                    return callee, _written(kind, values, widths or {})
        raise InputError(
            "a .py is written from modules of torch.nn and of the built-in spaces, and this network has"
            f" {kind.__module__}.{kind.__qualname__}; name a file .onnx or .pt2 instead"
        )

    def _comment(self, module: nn.Module) -> str:
        return f"  # {_shape(self.shapes[module][1])}" if module in self.shapes else ""

    def _cell(self, cell: Cell) -> tuple[str, list[Argument]]:
        """Return the call of a cell, and add its class unless one with the same edges is there."""
        (_, c_in, *_), (_, c_out, *_) = self.shapes[cell]
        widths = {c_in: "width"} if c_in == c_out else {c_in: "c_in", c_out: "c_out"}
        edges = [self.expression(edge, widths) for edge in cell.edges]
        used = {number: name for number, name in widths.items() if any(re.search(rf"\b{name}\b", e) for e in edges)}
        parameters = "".join(f", {name}: int" for name in used.values())
        lines = [
            (edge, f"  # node {source} to node {target}: {operation}")
            for edge, operation, (source, target) in zip(edges, map(operation_of, cell.edges), EDGES, strict=True)
        ]
        terms: dict[int, list[str]] = {}
        for number, (source, target) in enumerate(EDGES):
            terms.setdefault(target, []).append(f"self.edges[{number}]({f'node{source}' if source else 'x'})")
        *inner, (_, last) = terms.items()
        sums = [f"node{target} = {' + '.join(parts)}" for target, parts in inner]
        text = (
            "(nn.Module):\n"
            '    """Four nodes, of which each after the first is the sum of its incoming edges."""\n\n'
            f"    def __init__(self{parameters}) -> None:\n"
            "        super().__init__()\n"
            "        self.edges = nn.ModuleList(\n"
            f"            [\n{indent(_lines(lines), ' ' * 12)}\n            ]\n"
            "        )\n\n"
            "    def forward(self, x: Tensor) -> Tensor:\n"
            f'        """Map ``(n, {widths[c_in]}, h, w)`` to ``(n, {widths[c_out]}, h, w)``."""\n'
            f"{indent(chr(10).join(sums), ' ' * 8)}\n"
            f"        y: Tensor = {' + '.join(last)}\n"
            "        return y\n"
        )
        if text not in self._names:
            number = len(self._names) + 1
            self._names[text] = f"Cell{number if number > 1 else ''}"
            self.cells.append(f"class {self._names[text]}{text}")
        return self._names[text], [(str(number), "") for number in used]


def operation_of(edge: nn.Module) -> str:
    """Return the name that the operation of a cell's edge has in a genotype; an empty text for another module."""
    names = {Zero: "none", nn.AvgPool2d: "avg_pool_3x3", nn.Identity: "skip_connect"}
    convs = [module for module in edge.modules() if isinstance(module, nn.Conv2d)]
    if not (convs and isinstance(edge, nn.Sequential)):
        return names.get(type(edge), "")
    size = "x".join(map(str, convs[0].kernel_size))
    return f"nor_conv_{size}" if isinstance(edge[0], nn.ReLU) else "skip_connect"


def _attributes(module: nn.Module) -> Mapping[str, object]:
    """Return the attributes of a module by name, its parameters and buffers among them."""
    return {**vars(module), **module._parameters, **module._buffers}


def _arguments(kind: type[nn.Module], attributes: Mapping[str, object], shorten: bool) -> dict[str, Any] | None:
    """Return the arguments by which a constructor makes a module with these attributes, or None.

    Args:
        kind: the class.
        attributes: of the module, by name.
        shorten: whether ``(3, 3)`` is written as ``3``.
    """
    arguments: dict[str, Any] = {}
    for name, parameter in inspect.signature(kind).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) or name in ("device", "dtype"):
            continue
        value = attributes.get(name, parameter.default)
        if isinstance(parameter.default, bool) and (value is None or isinstance(value, Tensor)):
            value = value is not None  # such as the bias of a convolution
        if isinstance(value, tuple):
            value = value[0] if shorten and len(set(value)) == 1 else tuple(value)
        if not isinstance(value, (int, float, str, tuple, type(None))):
            return None  # required, but not kept; or a function
        if parameter.default is parameter.empty or value != parameter.default:
            arguments[name] = value
    return arguments


def _makes(kind: type[nn.Module], arguments: Mapping[str, Any], module: nn.Module) -> bool:
    """Whether a constructor makes the like of a module from these arguments."""
    try:
        with torch.device("meta"):
            made = kind(**arguments)
    except Exception:  # whatever a constructor raises for arguments that are not its own
        return False
    weights = [{n: t.shape for n, t in m.state_dict().items()} for m in (made, module)]
    return repr(made) == repr(module) and weights[0] == weights[1]


def _written(make: Callable[..., nn.Module], arguments: Mapping[str, Any], widths: Widths) -> list[Argument]:
    """Return arguments as text: those that the callee requires by position, the others by name."""
    parameters = inspect.signature(make).parameters
    return [
        (
            ("" if parameters[name].default is inspect.Parameter.empty else f"{name}=")
            + (widths.get(value, repr(value)) if name in _CHANNELS else repr(value)),
            "",
        )
        for name, value in arguments.items()
    ]


def _helper_arguments(helper: Callable[..., nn.Sequential], module: nn.Sequential, widths: Widths) -> list[Argument]:
    """Return the arguments with which a helper makes the like of a module; none if it cannot."""
    convs = [layer for layer in module if isinstance(layer, nn.Conv2d)]
    if len(convs) != 1:
        return []
    (conv,) = convs
    values = {
        "c_in": conv.in_channels,
        "c_out": conv.out_channels,
        "kernel": conv.kernel_size[0],
        "stride": conv.stride[0],
        "groups": conv.groups,
    }
    parameters = inspect.signature(helper).parameters
    arguments = {n: v for n, v in values.items() if n in parameters and v != parameters[n].default}
    with torch.device("meta"):
        return _written(helper, arguments, widths) if repr(helper(**arguments)) == repr(module) else []


def _repeated(layers: Sequence[Argument]) -> list[Argument]:
    """Return layers; three or more equal ones in a row become one line."""
    lines: list[Argument] = []
    for (layer, comment), run in groupby(layers):
        count = len(list(run))
        if count > 2 and "\n" not in layer:
            lines.append((f"*({layer} for _ in range({count}))", comment))
        else:
            lines += [(layer, comment)] * count
    return lines


def _joined(callee: str, arguments: Sequence[Argument]) -> str:
    """Return a call on one line if it is short, without the comments of its arguments; otherwise one on many."""
    line = f"{callee}({', '.join(text for text, _ in arguments)})"
    return line if len(line) <= _LINE and "\n" not in line else f"{callee}(\n{_lines(arguments)}\n)"


def _lines(arguments: Sequence[Argument]) -> str:
    return indent("\n".join(f"{text},{comment}" for text, comment in arguments), "    ")
