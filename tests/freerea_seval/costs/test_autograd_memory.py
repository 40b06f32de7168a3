"""What autograd keeps, kind by kind: the predicted peak of a training step is that of the storages there are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from experiments.devices.memory import StorageTracker
from freerea_seval.costs import network_costs
from tests.freerea_seval.strings.trace.tracing import Function

LAYERS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "relu in place": torch.relu_,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "gelu": F.gelu,
    "silu": F.silu,
    "relu6": F.relu6,
    "leaky relu": F.leaky_relu,
    "elu": F.elu,
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "softplus": F.softplus,
    "mish": F.mish,
    "exp": torch.exp,
    "log": torch.log,
    "sqrt": torch.sqrt,
    "rsqrt": torch.rsqrt,
    "square": lambda x: x**2,
    "abs": torch.abs,
    "neg": torch.neg,
    "clamp": lambda x: x.clamp(0.1, 0.5),
    "softmax": lambda x: x.softmax(1),
    "log softmax": lambda x: x.log_softmax(1),
    "times a number": lambda x: x * 2,
    "times itself": lambda x: x * x,
    "plus itself, rectified": lambda x: x + x.relu(),
    "divided by a number": lambda x: x / 2,
    "divided": lambda x: x / (x + 2),
    "minus": lambda x: x - x.relu(),
    "from a number": lambda x: 1 - x,
    "average pool": lambda x: F.avg_pool2d(x, 2),
    "max pool": lambda x: F.max_pool2d(x, 2),
    "adaptive pool": lambda x: F.adaptive_avg_pool2d(x, 2),
    "adaptive pool to one": lambda x: F.adaptive_avg_pool2d(x, 1),
    "mean": lambda x: x.mean((2, 3)),
    "sum": lambda x: x.sum(1),
    "cat": lambda x: torch.cat([x, x.relu()], 1),
    "chunks": lambda x: x.chunk(2, 1)[0] * x.chunk(2, 1)[1].sigmoid(),
    "slice": lambda x: x[:, :4].relu(),
    "reshape": lambda x: x.reshape(2, -1).relu(),
    "permute": lambda x: x.permute(0, 2, 3, 1).contiguous(),
    "pad": lambda x: F.pad(x, (1, 1)),
    "upsample": lambda x: F.interpolate(x, scale_factor=2),
    "dropout": lambda x: F.dropout(x, 0.5, training=True),
    "layer norm": lambda x: F.layer_norm(x, x.shape[1:]),
    "group norm": lambda x: F.group_norm(x, 2),
    "matrix product": lambda x: x @ x.transpose(2, 3),
    "attention": lambda x: F.scaled_dot_product_attention(x, x * 2, x * 3),
    "attention with dropout": lambda x: F.scaled_dot_product_attention(x, x * 2, x * 3, dropout_p=0.5),
    "masked fill": lambda x: x.masked_fill(x.detach() > 0, 0.0),
}


#: Bytes of the loss and of its gradient.
LOSS = 8


class Loss(torch.autograd.Function):
    """A loss that keeps nothing, and makes the result's gradient when it is asked for it."""

    @staticmethod
    def forward(ctx: Any, result: Tensor) -> Tensor:
        ctx.shape = result.shape
        return torch.zeros(())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return torch.ones(ctx.shape)


def measured(network: nn.Module, x: Tensor) -> int:
    """Return the peak of forward and backward, the result's gradient given."""
    with StorageTracker() as tracker:
        tracker.add([*network.parameters(), *network.buffers(), x])
        result = network(x)
        Loss.apply(result).backward()  # type: ignore[no-untyped-call]
    return int(tracker.peak) - LOSS


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_between_convolutions_takes_what_it_really_takes(name: str) -> None:
    layer = LAYERS[name]

    def compute(x: Tensor, first: nn.Module, norm: nn.Module, last: nn.Module) -> Any:
        y = layer(norm(first(x)))
        return last(y) if y.ndim == 4 and y.shape[1] == 8 and y.shape[3] > 1 else y.exp()

    modules = {"first": nn.Conv2d(3, 8, 3, padding=1), "norm": nn.BatchNorm2d(8), "last": nn.Conv2d(8, 4, 1)}
    network = Function(lambda x: compute(x, **modules), **modules)
    x = torch.rand(2, 3, 8, 8)
    measured(Function(network.function, **modules), x)
    network.zero_grad()
    # Bounds of a clamp are numbers that are kept as tensors.
    expected = pytest.approx(measured(network, x), abs=4 if name == "clamp" else 0)
    assert network_costs(network, [x], optimiser="sgd").peak_training_bytes == expected
