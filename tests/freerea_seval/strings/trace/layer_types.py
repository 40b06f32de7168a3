"""Layers of many kinds that map ``(2, 4, 8, 8)`` to the same shape, with multiply-adds counted by hand."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention.flex_attention import flex_attention
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from tests.freerea_seval.strings.trace.tracing import Function

SHAPE = (2, 4, 8, 8)
PIXELS = 2 * 8 * 8
ELEMENTS = PIXELS * 4


class LayerType(NamedTuple):
    """A kind of layer.

    Attributes:
        make: returns a new layer.
        macs: multiply-adds for one batch.
        parameters: how many it has; None for those that its ``parameters()`` have.
        refused: the error if it cannot be traced.
    """

    make: Callable[[], nn.Module]
    macs: int = 0
    parameters: int | None = None
    refused: str | None = None


class Using(nn.Module):
    """A function of the input and a module."""

    def __init__(self, function: Callable[[Tensor, Any], Any], module: nn.Module) -> None:
        super().__init__()
        self.function, self.module = function, module

    def forward(self, x: Tensor) -> Any:
        return self.function(x, self.module)


class Stateful(nn.Module):
    """Keeps a cache, a counter, and a buffer that its first run fills and resizes."""

    def __init__(self) -> None:
        super().__init__()
        self.cache: list[Tensor] = []
        self.runs = 0
        self.filled: Tensor | None
        self.register_buffer("filled", None)
        self.register_buffer("resized", torch.zeros(0))

    def forward(self, x: Tensor) -> Any:
        assert isinstance(self.resized, Tensor)
        self.cache.append(x)
        self.runs += 1
        self.filled = x if self.filled is None else self.filled + 1
        self.resized.resize_(x.shape).copy_(x)
        return torch.stack(self.cache).sum(0) * self.runs


class Recurrent(nn.Module):
    """A recurrent layer over the rows of all channels."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Any:
        return self.layer(x.flatten(0, 1))[0].view(x.shape)


class Tokens(nn.Module):
    """A layer on 64 tokens of width 4."""

    def __init__(self, layer: nn.Module, attention: bool = False) -> None:
        super().__init__()
        self.layer, self.attention = layer, attention

    def forward(self, x: Tensor) -> Any:
        tokens = x.flatten(2).transpose(1, 2)
        result = self.layer(tokens, tokens, tokens)[0] if self.attention else self.layer(tokens)
        return result.transpose(1, 2).reshape(x.shape)


class Bilinear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Bilinear(8, 8, 8)

    def forward(self, x: Tensor) -> Any:
        return self.layer(x, x)


class Codebook(nn.Module):
    """An embedding of the rounded input, with weights that a run rescales."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(16, 8, max_norm=1.0)

    def forward(self, x: Tensor) -> Any:
        return self.table(x.mean(-1).abs().long().clamp(max=15))


class Clipped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((4, 1, 1), 5.0))

    def forward(self, x: Tensor) -> Tensor:
        self.weight.data.clamp_(max=1.0)
        return x * self.weight


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * x

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return gradients[0]


class Int8(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(8, 8, dtype=torch.int8), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch._int_mm(x.flatten(0, 2).to(torch.int8), self.weight).view(x.shape).float()


class Mixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Any:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.layer(x).float()


def conv(**options: Any) -> nn.Conv2d:
    return nn.Conv2d(4, 4, 3, padding=1, **options)


quantization: Any = torch.ao.quantization


def static_quantised() -> nn.Module:
    network: Any = quantization.QuantWrapper(nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU())).eval()
    network.qconfig = quantization.get_default_qconfig("fbgemm")
    prepared = quantization.prepare(network)
    prepared(torch.randn(SHAPE, generator=torch.Generator().manual_seed(0)))
    converted: nn.Module = quantization.convert(prepared)
    return converted


def dynamic_quantised() -> nn.Module:
    network: nn.Module = quantization.quantize_dynamic(nn.Sequential(nn.Linear(8, 8)), {nn.Linear})
    return network


def traced() -> nn.Module:
    trace: Any = torch.jit.trace
    module: nn.Module = trace(conv().eval(), torch.zeros(SHAPE), check_trace=False)
    return module


def compiled() -> nn.Module:
    module: Any = torch.compile(nn.Sequential(nn.Linear(8, 8), nn.GELU()))
    return module  # type: ignore[no-any-return]


def exported() -> nn.Module:
    return torch.export.export(nn.Sequential(conv(), nn.ReLU()).eval(), (torch.zeros(SHAPE),)).module()


@cache
def custom_operators() -> Any:
    """Define operators with names that ATen or the grammar also have."""
    make: Any = torch.library.Library
    library = make("composed", "DEF")
    for name, run in {
        "linear(Tensor x) -> Tensor": lambda x: x + 1,
        "matmul(Tensor x, Tensor y) -> Tensor": lambda x, y: x + y,
        "relu_(Tensor(a!) x) -> Tensor(a!)": lambda x: x.add_(1),
        "output(Tensor x, int k=2) -> Tensor": lambda x, k=2: x * k,
    }.items():
        library.define(name)
        library.impl(name.split("(")[0], run, "CompositeExplicitAutograd")
    return library, torch.ops.composed


def custom(name: str) -> nn.Module:
    operators = custom_operators()[1]
    if name == "matmul":
        return Function(lambda x: operators.matmul(x, x))
    if name == "relu_":
        return Function(lambda x: operators.relu_(x.clone()))
    return Function(getattr(operators, name))


def conditional(x: Tensor) -> Any:
    return torch.cond(x.sum() > 0, lambda y: y.relu(), lambda y: y.tanh(), (x,))


def flexible(x: Tensor) -> Any:
    return flex_attention(x, x, x)


def mapped(x: Tensor) -> Any:
    mapped_over: Any = torch._higher_order_ops.map
    return mapped_over(lambda y: y.relu(), x)


def nested(x: Tensor) -> Any:
    return torch.nested.nested_tensor([x[0], x[1]], layout=torch.jagged).relu().to_padded_tensor(0.0)


def in_inference_mode(x: Tensor) -> Tensor:
    with torch.inference_mode():
        return x.sin()


def top(x: Tensor) -> Tensor:
    values, indices = x.topk(8, dim=-1)
    return torch.zeros_like(x).scatter(-1, indices, values)


_CONV = PIXELS * 4 * 4 * 9
_ATTENTION = 2 * 64 * 64 * (4 + 4)
_PROJECTIONS = 4 * 2 * 64 * 4 * 4
LAYER_TYPES: dict[str, LayerType] = {
    "conv": LayerType(conv, _CONV),
    "depthwise": LayerType(lambda: conv(groups=4), _CONV // 4),
    "no bias": LayerType(lambda: conv(bias=False), _CONV),
    "dilated": LayerType(lambda: nn.Conv2d(4, 4, 3, padding=2, dilation=2), _CONV),
    "circular": LayerType(lambda: conv(padding_mode="circular"), _CONV),
    "transposed": LayerType(lambda: nn.ConvTranspose2d(4, 4, 3, padding=1), _CONV),
    "lazy conv": LayerType(lambda: nn.LazyConv2d(4, 3, padding=1), _CONV, 4 * 4 * 9 + 4),
    "lazy linear": LayerType(lambda: nn.LazyLinear(8), ELEMENTS * 8, 72),
    "lazy norm": LayerType(nn.LazyBatchNorm2d, 0, 8),
    "mixed precision": LayerType(Mixed, ELEMENTS * 8),
    "linear": LayerType(lambda: nn.Linear(8, 8), ELEMENTS * 8),
    "bilinear": LayerType(Bilinear, ELEMENTS * 8 * 8),
    "batch norm": LayerType(lambda: nn.BatchNorm2d(4)),
    "layer norm": LayerType(lambda: nn.LayerNorm(8)),
    "group norm": LayerType(lambda: nn.GroupNorm(2, 4)),
    "instance norm": LayerType(lambda: nn.InstanceNorm2d(4, affine=True)),
    "rms norm": LayerType(lambda: nn.RMSNorm(8)),
    "local response": LayerType(lambda: nn.LocalResponseNorm(2)),
    "relu": LayerType(nn.ReLU),
    "relu in place": LayerType(lambda: nn.Sequential(nn.Identity(), nn.ReLU(inplace=True))),
    "gelu": LayerType(nn.GELU),
    "hardswish": LayerType(nn.Hardswish),
    "prelu": LayerType(lambda: nn.PReLU(4)),
    "softmax": LayerType(lambda: nn.Softmax(1)),
    "glu": LayerType(lambda: Function(lambda x: F.glu(torch.cat([x, x], 1), 1))),
    "dropout": LayerType(nn.Dropout),
    "max pool": LayerType(lambda: nn.MaxPool2d(3, 1, 1)),
    "pool and up": LayerType(lambda: nn.Sequential(nn.AvgPool2d(2), nn.Upsample(scale_factor=2))),
    "pixel shuffle": LayerType(lambda: nn.Sequential(nn.PixelUnshuffle(2), nn.PixelShuffle(2))),
    "unfold": LayerType(lambda: nn.Sequential(nn.Unfold(2, stride=2), nn.Fold((8, 8), 2, stride=2))),
    "squeeze and excite": LayerType(
        lambda: Using(
            lambda x, f: x * f(x.mean((2, 3), keepdim=True)).sigmoid(), nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU())
        ),
        2 * 16,
    ),
    "attention": LayerType(
        lambda: Tokens(nn.MultiheadAttention(4, 2, batch_first=True), attention=True),
        _PROJECTIONS + 2 * 2 * 64 * 64 * 2 * 2,
    ),
    "encoder layer": LayerType(
        lambda: Tokens(nn.TransformerEncoderLayer(4, 2, 16, batch_first=True)),
        _PROJECTIONS + 2 * 2 * 64 * 64 * 2 * 2 + 2 * 2 * 64 * 4 * 16,
    ),
    "scaled products": LayerType(
        lambda: Function(lambda x: F.scaled_dot_product_attention(x, x[:1], x[:, :1].expand_as(x))), 8 * 8 * 8 * 16
    ),
    "flex attention": LayerType(lambda: Function(flexible), 8 * 8 * 8 * 16),
    "lstm": LayerType(lambda: Recurrent(nn.LSTM(8, 8, batch_first=True)), 8 * 8 * 32 * 16),
    "two-way gru": LayerType(
        lambda: Recurrent(nn.GRU(8, 4, bidirectional=True, batch_first=True)), 2 * 8 * 8 * 12 * (8 + 4)
    ),
    "einsum": LayerType(lambda: Function(lambda x: torch.einsum("nchw,ncwv->nchv", x, x)), 8 * 8 * 8 * 8),
    "addbmm": LayerType(
        lambda: Function(lambda x: x + torch.addbmm(x[0, 0], x.flatten(0, 1), x.flatten(0, 1))), 8 * 8 * 8 * 8
    ),
    "distances": LayerType(lambda: Function(lambda x: torch.cdist(x, x)), 8 * 8 * 8 * 8),
    "embedding": LayerType(Codebook),
    "weight norm": LayerType(lambda: parametrizations.weight_norm(conv()), _CONV),
    "old weight norm": LayerType(lambda: nn.utils.weight_norm(conv()), _CONV),
    "clipped weight": LayerType(Clipped),
    "stateful": LayerType(Stateful),
    "scripted": LayerType(lambda: torch.jit.script(nn.Sequential(conv(), nn.ReLU())), _CONV),
    "frozen": LayerType(
        lambda: torch.jit.freeze(torch.jit.script(nn.Sequential(conv(), nn.ReLU()).eval())), _CONV, 4 * 4 * 9 + 4
    ),
    "traced": LayerType(traced, _CONV),
    "exported": LayerType(exported, _CONV),
    "compiled": LayerType(compiled, ELEMENTS * 8),
    "checkpointed": LayerType(lambda: Using(lambda x, f: checkpoint(f, x, use_reentrant=False), conv()), _CONV),
    "static quantised": LayerType(static_quantised, PIXELS * 16, 20),
    "dynamic quantised": LayerType(dynamic_quantised, ELEMENTS * 8, 72),
    "integers": LayerType(Int8, ELEMENTS * 8),
    "custom linear": LayerType(lambda: custom("linear")),
    "custom product": LayerType(lambda: custom("matmul")),
    "custom in place": LayerType(lambda: custom("relu_")),
    "custom output": LayerType(lambda: custom("output")),
    "autograd function": LayerType(lambda: Function(Square.apply)),
    "fourier": LayerType(lambda: Function(lambda x: (torch.fft.fft2(x) * 1j).abs())),
    "sorting": LayerType(lambda: Function(top)),
    "slices written": LayerType(lambda: Function(lambda x: _swap_halves(x.clone()))),
    "branch": LayerType(lambda: Function(lambda x: x.relu() if x.sum() > 0 else x.tanh())),
    "condition": LayerType(lambda: Function(conditional)),
    "vmap": LayerType(lambda: Function(lambda x: torch.func.vmap(lambda y: y @ y)(x)), 8 * 8 * 8 * 8),
    "inference": LayerType(lambda: Function(in_inference_mode)),
    "empty": LayerType(lambda: nn.Sequential()),
    "nested": LayerType(lambda: Function(nested), refused="nested tensor cannot be traced"),
    "sparse": LayerType(lambda: Function(lambda x: x.to_sparse().to_dense()), refused="cannot be traced"),
    "map": LayerType(lambda: Function(mapped), refused="higher-order operator map_impl cannot be traced"),
    "uninitialised": LayerType(
        lambda: Using(lambda x, w: x * w.weight, _Uninitialised()), refused="uninitialized parameter"
    ),
    "wrong shape": LayerType(lambda: nn.Linear(3, 8), refused="cannot run on inputs of shape 2x4x8x8"),
}


class _Uninitialised(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.UninitializedParameter()


def _swap_halves(x: Tensor) -> Tensor:
    half = x[:, :2].clone()
    x[:, :2] = x[:, 2:]
    x[:, 2:] = half
    return x
