"""What autograd keeps, kind by kind: the predicted peak of a training step is that of the storages there are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from experiments.devices.memory import StorageTracker
from freerea_seval.costs import network_costs
from freerea_seval.costs.memory import _forward, _needs_gradient
from freerea_seval.costs.model import memory_graphs
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


class ConvolutionOf(nn.Module):
    """A convolution whose weight is computed from the parameters ``weight`` and ``gain``."""

    def __init__(self, compute: Callable[[Tensor, Tensor], Tensor], channels: int = 3, gains: int = 4) -> None:
        super().__init__()
        self.compute = compute
        self.weight = nn.Parameter(torch.rand(4, channels, 3, 3))
        self.gain = nn.Parameter(torch.rand(gains))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(n, channels, h, w)`` to ``(n, 4, h, w)``."""
        return F.conv2d(x, self.compute(self.weight, self.gain), padding=1)


def standardised(weight: Tensor, gain: Tensor) -> Tensor:
    """Scaled weight standardisation, as NFNets have it."""
    rows = weight.reshape(1, len(weight), -1)
    return F.batch_norm(rows, None, None, gain * 0.5, training=True, momentum=0.0).reshape_as(weight)


class NormFree(nn.Module):
    """A block of an NFNet (Brock 2021), with squeeze and excitation."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = (ConvolutionOf(standardised, channels) for channels in (3, 4))
        self.squeeze, self.excite = nn.Conv2d(4, 2, 1), nn.Conv2d(2, 4, 1)
        self.skip_gain = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(n, 3, h, w)`` to ``(n, 4, h, w)``."""
        shortcut = F.gelu(self.first(x)) * 1.7
        y = self.second(F.gelu(shortcut * 0.9) * 1.7)
        gate = self.excite(F.relu(self.squeeze(y.mean((2, 3), keepdim=True)))).sigmoid()
        result: Tensor = y * gate * 2 * self.skip_gain + shortcut
        return result


OF_PARAMETERS: dict[str, Callable[[], nn.Module]] = {
    "batch norm": lambda: ConvolutionOf(standardised),
    "batch norm with a parameter as gain": lambda: ConvolutionOf(
        lambda w, g: F.batch_norm(w.reshape(1, 4, 27), None, None, g, training=True).reshape_as(w)
    ),
    "layer norm": lambda: ConvolutionOf(lambda w, g: F.layer_norm(w, (3,), g * 0.5), gains=3),
    "group norm": lambda: ConvolutionOf(lambda w, g: F.group_norm(w, 3, g * 0.5), gains=3),
    "instance norm": lambda: ConvolutionOf(lambda w, g: F.instance_norm(w, weight=g * 0.5), gains=3),
    "standard deviation": lambda: ConvolutionOf(
        lambda w, g: (w - w.mean((1, 2, 3), keepdim=True)) / w.std((1, 2, 3), keepdim=True)
    ),
    "variance": lambda: ConvolutionOf(lambda w, g: w * (w.var((1, 2, 3), keepdim=True) + 1e-5).rsqrt()),
    "sigmoid": lambda: ConvolutionOf(lambda w, g: w.sigmoid()),
    "dropout": lambda: ConvolutionOf(lambda w, g: F.dropout(w, training=True)),
    "quotient": lambda: ConvolutionOf(lambda w, g: w / (w + 1)),
    "weight norm": lambda: weight_norm(nn.Conv2d(3, 4, 3)),
    "norm-free block": NormFree,
}


def kept(network: nn.Module, x: Tensor) -> int:
    """Return the bytes of the tensors that autograd saves, besides parameters and buffers."""
    own = {tensor.untyped_storage().data_ptr() for tensor in (*network.parameters(), *network.buffers())}
    storages: dict[int, Any] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        network(x)
    return sum(storage.nbytes() for storage in storages.values())


def predicted(network: nn.Module, x: Tensor) -> int:
    """Return the bytes that the graph says are saved."""
    _, graph = memory_graphs(network, [x])
    assert graph is not None
    heap, saved = _forward(graph, _needs_gradient(graph))
    return sum(heap._sizes[block] for block in {block for blocks in saved for block in blocks})


@pytest.mark.parametrize("name", OF_PARAMETERS)
def test_what_is_saved_of_a_computed_weight_is_what_autograd_saves(name: str) -> None:
    network, x = OF_PARAMETERS[name](), torch.rand(2, 3, 8, 8)
    assert predicted(network, x) == kept(network, x)


@pytest.mark.parametrize(
    "name", [name for name in OF_PARAMETERS if name.endswith(("norm", "gain", "sigmoid", "dropout"))]
)
def test_a_computed_weight_takes_what_it_really_takes(name: str) -> None:
    network, x = OF_PARAMETERS[name](), torch.rand(2, 3, 8, 8)
    measured(network, x)
    network.zero_grad()
    assert network_costs(network, [x], optimiser="sgd").peak_training_bytes == measured(network, x)


def test_spectral_norm_saves_at_most_the_vectors_of_its_power_iteration_more() -> None:
    network, x = spectral_norm(nn.Conv2d(3, 4, 3)), torch.rand(2, 3, 8, 8)
    # The iteration runs without gradients, which the graph does not show.
    assert kept(network, x) <= predicted(network, x) <= kept(network, x) + 4 * 3 * (4 + 27)
