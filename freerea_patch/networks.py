"""PyTorch networks of the built-in spaces, and the initialisation of networks.

The spaces of NATS-Bench share one skeleton (Dong 2020, figure 1; Dong 2021, section 3): a 3x3 convolution with batch
norm as stem, cells with residual blocks of stride 2 between the stages, then batch norm, ReLU, global average pooling
and a linear classifier. FBNet's has inverted residual blocks (Wu 2019, table 1 and figure 3).
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import is_parametrized

from freerea_patch.fbnet import STAGES, Block, Skeleton
from freerea_patch.imports import TORCH_LOCK
from freerea_patch.spaces import EDGES, Part, SearchSpace, input_dtype


@torch.no_grad()
def initialise(network: nn.Module, generator: torch.Generator) -> None:
    """Draw new weights in place, as FreeREA does before every metric (Cavagnero 2023, public code).

    Convolutions and linear layers: Kaiming normal, fan-out, ReLU gain; biases 0. Batch norm: weight 1, bias 0.
    Embeddings, which FreeREA's networks do not have: standard normal, as PyTorch draws them.

    Args:
        network: the module to initialise.
        generator: source of randomness, on the device of the weights.
    """
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            # Drawing into contiguous memory takes a ninth of the time, and gives the same weights in every layout.
            weight = torch.empty_like(module.weight, memory_format=torch.contiguous_format)
            nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu", generator=generator)
            if is_parametrized(module, "weight"):
                module.weight = weight  # its parameters are those that give this weight
            else:
                module.weight.copy_(weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, generator=generator)
            if module.padding_idx is not None:
                module.weight[module.padding_idx] = 0
        elif isinstance(module, _BatchNorm) and module.affine:
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)


def zero_input(space: SearchSpace, n: int = 1) -> Tensor:
    """Return ``n`` inputs of a space's networks, ``(n, *input_shape)`` zeros of its dtype."""
    return torch.zeros(n, *space.input_shape, dtype=getattr(torch, input_dtype(space)))


def check_network(network: object) -> None:
    """Make sure that what a space has built is a network.

    Raises:
        TypeError: it is not.
    """
    if not isinstance(network, nn.Module):
        raise TypeError(f"expected build to return a torch.nn.Module, got {type(network).__name__}")


@contextmanager
def skip_initialisation() -> Iterator[None]:
    """Build convolutions and linear layers without torch's own initialisation, for :func:`initialise` to follow.

    Until then, their weights and biases are uninitialised memory.
    """
    with TORCH_LOCK:
        methods = {kind: kind.__dict__.get("reset_parameters") for kind in (nn.Conv2d, nn.Linear)}
        try:
            for kind in methods:
                kind.reset_parameters = lambda self: None  # type: ignore[method-assign]
            yield
        finally:
            for kind, method in methods.items():
                if method is None:
                    del kind.reset_parameters
                else:
                    kind.reset_parameters = method  # type: ignore[method-assign]


@contextmanager
def preserve_state(network: nn.Module, unchanged: Container[nn.Module] = ()) -> Iterator[nn.Module]:
    """Restore buffers (batch-norm statistics) and training modes on exit, also after an error.

    Args:
        network: the module.
        unchanged: modules whose buffers do not change, so that they need not be copied.
    """
    modules = list(network.modules())
    modes = [(module, module.training) for module in modules if hasattr(module, "training")]  # frozen TorchScript: no
    # A module may write to its buffers, resize them, or replace them by other tensors.
    buffers = [
        (module, name, buffer, None if buffer is None else buffer.detach().clone())
        for module in modules
        if module not in unchanged
        for name, buffer in module._buffers.items()
        if buffer is None or not is_lazy(buffer)
    ]
    try:
        yield network
    finally:
        for module, training in modes:
            if module.training != training:
                module.training = training
        with torch.no_grad():
            for module, name, buffer, saved in buffers:
                if buffer is not None and saved is not None:
                    # A tensor that was made in inference mode can be written to in inference mode only.
                    with torch.inference_mode(buffer.is_inference()):
                        if buffer.shape != saved.shape:
                            buffer.resize_(saved.shape)
                        buffer.copy_(saved)
                if module._buffers.get(name) is not buffer:
                    module._buffers[name] = buffer


CELLS_A_STAGE = 5
STAGE_WIDTHS = (16, 32, 64)


class Zero(nn.Module):
    """The operation ``none``: a multiplication by zero, so that a device still runs it and the layers before it."""

    def forward(self, x: Tensor) -> Tensor:
        """Return zeros of the shape of ``x``."""
        return x.mul(0.0)


def relu_conv_bn(c_in: int, c_out: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Return ReLU, convolution without bias, batch norm: ``(n, c_in, h, w)`` to ``(n, c_out, h/s, w/s)``."""
    conv = nn.Conv2d(c_in, c_out, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(nn.ReLU(), conv, nn.BatchNorm2d(c_out))


def cell_operation(name: str, c_in: int, c_out: int) -> nn.Module:
    """Return the module of an edge; ``c_in`` and ``c_out`` differ in the size space only."""
    if name == "nor_conv_3x3":
        return relu_conv_bn(c_in, c_out, 3)
    if name == "nor_conv_1x1":
        return relu_conv_bn(c_in, c_out, 1)
    if name == "skip_connect":
        if c_in == c_out:
            return nn.Identity()
        # A skip between widths is a 1x1 projection without ReLU (NATS-Bench's public code).
        return nn.Sequential(nn.Conv2d(c_in, c_out, 1, bias=False), nn.BatchNorm2d(c_out))
    if c_in != c_out:
        raise ValueError(f"{name} cannot change the width from {c_in} to {c_out}")
    if name == "avg_pool_3x3":
        return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
    if name == "none":
        return Zero()
    raise ValueError(f"unknown operation {name!r}")


class Cell(nn.Module):
    """Four nodes; every node after the first is the sum of its incoming edges.

    Args:
        edges: six operations in the order of :data:`~freerea_patch.spaces.EDGES`.
    """

    def __init__(self, *edges: nn.Module) -> None:
        super().__init__()
        self.edges = nn.ModuleList(edges)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(n, c_in, h, w)`` to ``(n, c_out, h, w)``."""
        nodes = [x]
        for edge, (source, target) in zip(self.edges, EDGES, strict=True):
            y = edge(nodes[source])
            if target == len(nodes):
                nodes.append(y)
            else:
                nodes[target] = nodes[target] + y
        return nodes[-1]


class ResidualBlock(nn.Module):
    """The reduction between stages: two ReLU-conv-BN, the first of stride 2, and a pooled shortcut."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.c_in, self.c_out = c_in, c_out
        self.body = nn.Sequential(relu_conv_bn(c_in, c_out, 3, stride=2), relu_conv_bn(c_out, c_out, 3))
        self.shortcut = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(c_in, c_out, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(n, c_in, h, w)`` to ``(n, c_out, h/2, w/2)``."""
        y: Tensor = self.shortcut(x) + self.body(x)
        return y


@lru_cache(maxsize=1024)  # cells share their parts
def _part(make: Callable[..., nn.Module], *arguments: object) -> Part:
    return Part((make.__name__, *arguments), partial(make, *arguments))


def cell(operations: Sequence[str], c_in: int, c_out: int) -> Part:
    """Return a cell of six operations, given in the order of :data:`~freerea_patch.spaces.EDGES`."""
    widths = ((c_out if source else c_in, c_out) for source, _ in EDGES)
    return Part(
        "cell", Cell, tuple(_part(cell_operation, name, *w) for name, w in zip(operations, widths, strict=True))
    )


def stem(width: int) -> nn.Sequential:
    """Return the first layer: ``(n, 3, h, w)`` to ``(n, width, h, w)``."""
    return nn.Sequential(nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))


def head(width: int, classes: int) -> nn.Sequential:
    """Return the classifier: ``(n, width, h, w)`` to ``(n, classes)``."""
    return nn.Sequential(
        nn.BatchNorm2d(width), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes)
    )


def topology_network(operations: Sequence[str], classes: int) -> Part:
    """Return the network that repeats one cell five times in each of three stages.

    Args:
        operations: six operations in the order of :data:`~freerea_patch.spaces.EDGES`.
        classes: number of outputs.
    """
    layers = [_part(stem, STAGE_WIDTHS[0])]
    for before, width in zip((0, *STAGE_WIDTHS), STAGE_WIDTHS, strict=False):
        if before:
            layers.append(_part(ResidualBlock, before, width))
        layers += [cell(operations, width, width)] * CELLS_A_STAGE
    return Part("chain", nn.Sequential, (*layers, _part(head, STAGE_WIDTHS[-1], classes)))


def size_network(widths: Sequence[int], operations: Sequence[str], classes: int) -> Part:
    """Return the network cell, block, cell, block, cell with one output width per layer.

    Args:
        widths: five channel counts; the stem has the first.
        operations: the cell's six operations.
        classes: number of outputs.
    """
    layers = [_part(stem, widths[0])]
    for layer, (c_in, c_out) in enumerate(zip((widths[0], *widths), widths, strict=False)):
        layers.append(_part(ResidualBlock, c_in, c_out) if layer % 2 else cell(operations, c_in, c_out))
    return Part("chain", nn.Sequential, (*layers, _part(head, widths[-1], classes)))


def conv_bn_relu(c_in: int, c_out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Return convolution without bias, batch norm, ReLU: ``(n, c_in, h, w)`` to ``(n, c_out, h/s, w/s)``."""
    conv = nn.Conv2d(c_in, c_out, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(c_out), nn.ReLU())


class ChannelShuffle(nn.Module):
    """A shuffle after which each group has channels of all groups; ``nn.ChannelShuffle`` cannot be written as ONNX."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        """Reorder the channels of ``(n, c, h, w)``."""
        return x.reshape(x.shape[0], self.groups, -1, *x.shape[2:]).transpose(1, 2).flatten(1, 2)


class InvertedResidual(nn.Module):
    """FBNet's block: a 1x1 convolution that widens, a depthwise one, and a 1x1 convolution without ReLU.

    Where the shape stays, the input is added. Channels are shuffled behind the first convolution if it has groups.
    """

    def __init__(self, c_in: int, c_out: int, kernel: int, expansion: int, groups: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.c_in, self.c_out, self.kernel, self.expansion = c_in, c_out, kernel, expansion
        self.groups, self.stride = groups, stride
        width = c_in * expansion
        self.body = nn.Sequential(
            conv_bn_relu(c_in, width, 1, groups=groups),
            *([ChannelShuffle(groups)] if groups > 1 else []),
            conv_bn_relu(width, width, kernel, stride, groups=width),
            nn.Conv2d(width, c_out, 1, groups=groups, bias=False),
            nn.BatchNorm2d(c_out),
        )
        self.is_residual = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(n, c_in, h, w)`` to ``(n, c_out, h/s, w/s)``."""
        y: Tensor = self.body(x)
        return x + y if self.is_residual else y


def fbnet_layer(block: Block | None, c_in: int, c_out: int, stride: int) -> nn.Module:
    """Return a layer: a block, or a skip, which is a 1x1 convolution where the shape changes."""
    if block is not None:
        return InvertedResidual(c_in, c_out, *block, stride)
    return nn.Identity() if stride == 1 and c_in == c_out else conv_bn_relu(c_in, c_out, 1, stride)


def fbnet_head(c_in: int, width: int, classes: int) -> nn.Sequential:
    """Return the classifier: ``(n, c_in, h, w)`` to ``(n, classes)``."""
    return nn.Sequential(conv_bn_relu(c_in, width, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes))


def fbnet_network(blocks: Sequence[Block | None], skeleton: Skeleton, classes: int) -> Part:
    """Return the network of a block a layer.

    Args:
        blocks: of the 22 layers; None is a skip.
        skeleton: what surrounds them.
        classes: number of outputs.
    """
    before = STAGES[0][0]
    layers = [_part(conv_bn_relu, 3, before, 3, skeleton.stem_stride)]
    remaining = iter(blocks)
    for (width, count), stride in zip(STAGES, skeleton.strides, strict=True):
        for layer in range(count):
            layers.append(_part(fbnet_layer, next(remaining), before, width, 1 if layer else stride))
            before = width
    return Part("chain", nn.Sequential, (*layers, _part(fbnet_head, before, skeleton.head_width, classes)))
