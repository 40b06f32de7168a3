"""Peaks of tiny networks, worked by hand: two inputs of four float32 are 32 bytes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from freerea_patch import InputError
from freerea_seval.costs.memory import training_peak
from freerea_seval.costs.model import Costs, memory_graphs, network_costs
from tests.freerea_seval.costs.module_counts import network_cost
from tests.freerea_seval.strings.trace.tracing import Function

X = torch.ones(2, 4)


def layer(c_in: int = 4, c_out: int = 4) -> nn.Linear:
    return nn.Linear(c_in, c_out, bias=False)


def inference(compute: Callable[..., Any], *modules: nn.Module, inputs: Any = X) -> int:
    """Return the peak of inference without weights."""
    named = {f"m{number}": module for number, module in enumerate(modules)}
    costs = network_costs(Function(lambda x: compute(x, *named.values()), **named), [inputs])
    return costs.peak_inference_bytes - costs.weight_bytes - costs.buffer_bytes


def test_a_chain_worked_by_hand() -> None:
    # x 32, hidden 64, rectified 64, result 16; weights 4 * (32 + 8 + 16 + 2) = 232
    network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    costs = network_costs(network, [X], optimiser="sgd")
    assert costs == Costs(
        params=58,
        macs=2 * (4 * 8 + 8 * 2),
        weight_bytes=232,
        buffer_bytes=0,
        activation_bytes=64 + 64 + 16,
        # at the rectifier
        peak_inference_bytes=232 + 32 + 64 + 64,
        # at the first layer's backward: input, result, gradients of hidden and of all parameters
        peak_training_bytes=232 + 32 + 16 + 64 + 232,
    )


def test_an_optimiser_has_its_state_and_what_its_step_makes() -> None:
    network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    peaks = [network_costs(network, [X], optimiser=name).peak_training_bytes for name in ("sgd", "momentum", "adam")]
    # Adam's step takes two copies of the largest parameter (128) beside the input, the result and the gradients.
    assert peaks == [576, 576 + 232, 232 + 32 + 16 + 232 + 2 * 128 + 2 * 232]


def test_work_in_place_takes_no_memory() -> None:
    plain, inplace = (nn.Sequential(layer(4, 8), nn.ReLU(inplace=which), layer(8, 2)) for which in (False, True))
    # the rectifier has 32 + 64 + 64, the second layer 32 + 64 + 16
    peaks = [network_costs(network, [X]).peak_inference_bytes - 192 for network in (plain, inplace)]
    assert peaks == [160, 112]
    assert network_costs(inplace, [X]).activation_bytes == network_costs(plain, [X]).activation_bytes - 64


def test_a_residual_keeps_what_is_added() -> None:
    # x, h, l(h) and its rectified form are there at once
    assert inference(lambda x, a, b: (h := a(x)) + b(h).relu(), layer(), layer()) == 4 * 32
    # without the sum, h is gone when the rectifier runs
    assert inference(lambda x, a, b: b(a(x)).relu(), layer(), layer()) == 3 * 32


def test_branches_are_there_at_once() -> None:
    # two results of 32, and both in one of 64
    assert inference(lambda x, a, b: torch.cat([a(x), b(x)], 1), layer(), layer()) == 32 + 64 + 64


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x.reshape(8),
        lambda x: x.t(),
        lambda x: x[:, :4].view(4, 2),
        lambda x: x.unbind(0)[1],
        lambda x: x.split(2, 1)[0],
        lambda x: x.unsqueeze(0).expand(3, 2, 4),
        nn.Identity(),
    ],
)
def test_a_view_has_no_memory_and_keeps_its_source(view: Callable[[Tensor], Tensor]) -> None:
    def compute(x: Tensor, a: nn.Module, b: nn.Module) -> Any:
        seen = view(a(x))
        other = b(x).exp()
        return other.sum() + seen.sum()

    # x, the source of the view, b's result and its exponential
    modules: dict[str, nn.Module] = {"a": layer(), "b": layer()}
    network = Function(lambda x: compute(x, *modules.values()), **modules)
    if isinstance(view, nn.Identity):
        network.add_module("view", view)
    costs = network_costs(network, [X])
    assert costs.peak_inference_bytes - costs.weight_bytes == 4 * 32
    assert costs.activation_bytes == 3 * 32 + 3 * 4


def test_a_copy_has_memory() -> None:
    assert inference(lambda x, a: a(x).t().contiguous(), layer()) == 3 * 32


def test_a_view_of_a_parameter_has_no_memory() -> None:
    class Token(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.token = nn.Parameter(torch.zeros(1, 4))

        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([x, self.token.expand(2, 4)], 1)

    # x, and both in one
    assert network_costs(Token(), [X]).peak_inference_bytes == 16 + 32 + 64
    # the expanded token's gradient is of its expanded size
    assert network_costs(Token(), [X], optimiser="sgd").peak_training_bytes == 16 + 32 + 64 + 64 + 16


def test_shared_weights_count_once_and_their_second_gradient_goes() -> None:
    shared = layer()
    costs = network_costs(nn.Sequential(shared, shared), [X], optimiser="sgd")
    assert (costs.params, costs.weight_bytes, costs.macs) == (16, 64, 64)
    # first layer's backward: x, result, the hidden's gradient (32 each), the weights' gradient, and one to add to it
    assert costs.peak_training_bytes == 64 + 3 * 32 + 64 + 64
    momentum = network_costs(nn.Sequential(shared, shared), [X])
    assert momentum.peak_training_bytes == costs.peak_training_bytes + 64


def test_a_shared_norm_has_two_gradients() -> None:
    norm = nn.BatchNorm1d(4)
    _, training = memory_graphs(nn.Sequential(norm, layer(), norm), [X])
    _, apart = memory_graphs(nn.Sequential(nn.BatchNorm1d(4), layer(), nn.BatchNorm1d(4)), [X])
    assert training is not None
    assert apart is not None
    # weight and bias of 16 bytes each: one copy of each in the optimiser's state, and one gradient that goes
    states = [training_peak(graph, "momentum") - training_peak(graph, "sgd") for graph in (training, apart)]
    assert states == [64 + 32, 64 + 64]


def test_buffers_are_the_modules() -> None:
    network = nn.BatchNorm1d(4)
    # two statistics of four, and an int64 count
    assert network_costs(network, [X]).buffer_bytes == 2 * 16 + 8


def test_what_the_forward_drops_has_no_gradient() -> None:
    unread = layer(4, 100)
    network = Function(lambda x: (unread(x), read(x))[1], read=(read := layer()), unread=unread)
    costs = network_costs(network, [X], optimiser="sgd")
    # forward: x and 800 bytes that nothing reads; backward: x, result and its gradient, the weights' gradient
    assert costs.peak_training_bytes == costs.weight_bytes + 32 + 800
    momentum = network_costs(network, [X])
    assert momentum.peak_training_bytes == costs.peak_training_bytes + 64


def test_several_results_stay_and_have_gradients() -> None:
    network = Function(lambda x: {"a": a(x), "b": (b(x), x.argmax())}, a=(a := layer()), b=(b := layer()))
    costs = network_costs(network, [X], optimiser="sgd")
    assert costs.peak_inference_bytes == 128 + 3 * 32 + 8
    # one gradient a result, the first of which goes as the second layer's weights get theirs
    assert costs.peak_training_bytes == 128 + 3 * 32 + 8 + 64 + 64 + 32


def test_half_precision_takes_half() -> None:
    network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    single = network_costs(network, [X], optimiser="sgd")
    half = network_costs(network.bfloat16(), [X.bfloat16()], optimiser="sgd")
    assert half[2:] == tuple(value // 2 for value in single[2:])


def test_multiply_adds_are_those_of_network_cost_without_biases() -> None:
    network = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 4, 5)).eval()
    counted = network_cost(network, (3, 4, 4))
    costs = network_costs(network, [torch.zeros(1, 3, 4, 4)])
    assert costs.params == counted.params
    assert costs.macs == counted.macs - (6 * 4 + 5)


def test_the_meta_device_costs_the_same() -> None:
    def build() -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.ReLU(inplace=True))

    with torch.device("meta"):
        meta, images = build(), torch.zeros(2, 3, 8, 8)
    assert network_costs(meta, [images]) == network_costs(build(), [torch.zeros(2, 3, 8, 8)])


def test_the_network_does_not_run_and_comes_back_as_it_was() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout()).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    devices = []
    network[0].register_forward_hook(lambda module, given, result: devices.append(result.device.type))
    state = torch.get_rng_state()
    network_costs(network, [torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))])
    assert devices == ["meta", "meta"]
    assert torch.equal(torch.get_rng_state(), state)
    assert network.training
    assert network[1].training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_a_copy_is_asked_where_it_can_answer() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = layer(), layer()

        def forward(self, x: Tensor) -> Any:
            devices.append(x.device.type)
            return self.second(self.first(x))

    devices: list[str] = []
    own = Own()
    first, second = layer(), layer()

    def compute(x: Tensor) -> Any:
        devices.append(x.device.type)
        return second(first(x))

    closed = Function(compute, first=first, second=second)
    expected = network_costs(nn.Sequential(layer(), layer()), [X])
    assert network_costs(own, {"x": X}) == expected
    assert devices == ["meta", "meta"]
    # A copy of this one reads the first one's weights.
    assert network_costs(closed, [X]) == expected
    assert devices == ["meta"] * 4 + ["cpu"] * 2


def test_a_network_that_needs_values_runs_where_it_is() -> None:
    network = Function(lambda x: m(x) if x.sum() > 0 else x, m=(m := nn.Sequential(layer(), nn.Dropout())))
    state = torch.get_rng_state()
    assert network_costs(network, [X]).macs == 32
    assert torch.equal(torch.get_rng_state(), state)


class Detector(nn.Module):
    """A network that asks for targets in training mode, and takes a list of images."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, 4, 3)

    def forward(self, images: list[Tensor], targets: list[Tensor] | None = None) -> list[Tensor]:
        """Map images to maps of features, or to losses in training mode."""
        if self.training and targets is None:
            raise ValueError("targets should not be none when in training mode")
        maps = [self.head(image[None]) for image in images]
        return [(a - b).square().mean() for a, b in zip(maps, targets, strict=True)] if targets else maps


def test_a_detector_without_targets_has_the_costs_of_inference_only() -> None:
    images, targets = [torch.zeros(3, 8, 8)], [torch.zeros(1, 4, 6, 6)]
    alone, whole = network_costs(Detector(), [images]), network_costs(Detector(), [images, targets])
    assert math.isnan(alone.peak_training_bytes)
    assert alone[:5] == (112, 4 * 27 * 36, 448, 0, 4 * 4 * 36)
    assert alone.peak_inference_bytes == 448 + 4 * 3 * 64 + 4 * 4 * 36
    assert whole.peak_training_bytes > alone.peak_inference_bytes


def test_mistakes_are_named() -> None:
    with pytest.raises(InputError, match="unknown optimiser 'adamw'; did you mean 'adam'"):
        network_costs(layer(), [X], optimiser="adamw")
    with pytest.raises(InputError, match="expected an optimiser's name, one of sgd, momentum, adam; got None"):
        network_costs(layer(), [X], optimiser=None)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"expected a network \(torch.nn.Module\), got str; build it first"):
        network_costs("resnet", [X])  # type: ignore[arg-type]
    with pytest.raises(InputError, match="the network cannot run on inputs of shape 2x4"):
        network_costs(layer(5), [X])
    sparse = layer()
    sparse.register_buffer("adjacency", torch.eye(3).to_sparse())
    with pytest.raises(InputError, match="the network has a sparse buffer, whose memory cannot be counted"):
        network_costs(sparse, [X])
