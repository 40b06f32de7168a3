"""logsynflow against the same with weights replaced in place, on networks of both spaces."""

from __future__ import annotations

import math
from copy import deepcopy
from random import Random

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from freerea_patch import SizeSpace, TopologySpace
from freerea_patch.networks import initialise
from freerea_patch.spaces import format_cell
from freerea_patch.training_free.metrics import logsynflow


def naive_logsynflow(network: nn.Module, input_shape: tuple[int, ...]) -> float:
    """Change a deep copy in place: absolute weights, batch norm taken out; then one backward pass."""
    twin = deepcopy(network).double().train()
    for module in list(twin.modules()):
        for name, child in module.named_children():
            if isinstance(child, _BatchNorm):
                setattr(module, name, nn.Identity())
    for parameter in twin.parameters():
        parameter.data.abs_()
    twin(torch.ones(1, *input_shape, dtype=torch.float64)).sum().backward()
    total = 0.0
    for module in twin.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)) and module.weight.grad is not None:
            total += (module.weight * torch.log(1 + module.weight.grad)).abs().sum().item()
    return total


def initialised(space: TopologySpace | SizeSpace, genotype: str, seed: int) -> nn.Module:
    network = space.build(genotype)
    initialise(network, torch.Generator().manual_seed(seed))
    return network


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("space", [TopologySpace(), TopologySpace("ImageNet16-120"), SizeSpace()], ids=lambda s: s.name)
def test_it_equals_the_naive_twin(space: TopologySpace | SizeSpace, seed: int) -> None:
    network = initialised(space, space.sample(Random(seed)), seed)
    value = logsynflow(network, space.input_shape)
    assert value > 0
    assert value == pytest.approx(naive_logsynflow(network, space.input_shape), rel=1e-9)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_a_network_of_another_precision_is_rated_in_double_precision(dtype: torch.dtype) -> None:
    network = initialised(TopologySpace(), TopologySpace().sample(Random(0)), 0).to(dtype)
    expected = naive_logsynflow(network, (3, 32, 32))
    assert logsynflow(network, (3, 32, 32)) == pytest.approx(expected, rel=1e-9)


def test_the_parameters_of_a_parametrised_weight_are_rated() -> None:
    class Doubled(nn.Module):
        def forward(self, weight: Tensor) -> Tensor:
            return 2 * weight

    layer, plain = nn.Linear(3, 2), nn.Linear(3, 2)
    plain.load_state_dict(layer.state_dict())
    nn.utils.parametrize.register_parametrization(layer, "weight", Doubled())
    ones, weights = torch.ones(3, dtype=torch.float64), plain.weight.detach().double().abs()
    # The gradient of an element of the weight is 1, and that of the parameter 2.
    assert logsynflow(plain, (3,)) == pytest.approx(float((weights * (1 + ones).log()).sum()))
    assert logsynflow(layer, (3,)) == pytest.approx(float((weights * (1 + 2 * ones).log()).sum()))


@pytest.mark.slow
@pytest.mark.parametrize("space", [TopologySpace(), SizeSpace()], ids=lambda s: s.name)
def test_it_equals_the_naive_twin_on_many_networks(space: TopologySpace | SizeSpace, twins: int) -> None:
    rng = Random(0)
    for seed in range(twins):
        network = initialised(space, space.sample(rng), seed)
        expected = naive_logsynflow(network, space.input_shape)
        assert logsynflow(network, space.input_shape) == pytest.approx(expected, rel=1e-5), seed


def test_a_negative_gradient_counts_by_its_absolute_value() -> None:
    class Difference(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.plus, self.minus = nn.Linear(3, 1), nn.Linear(3, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.plus(x) - 0.5 * self.minus(x)  # type: ignore[no-any-return]

    network = Difference()
    weights = [layer.weight.abs().sum().item() for layer in (network.plus, network.minus)]
    assert logsynflow(network, (3,)) == pytest.approx(weights[0] * math.log(2) + weights[1] * math.log(1.5), rel=1e-6)


def test_a_linear_layer_worked_by_hand() -> None:
    # The sum of the outputs has gradient 1 by every weight, as the inputs are ones: (1 + 2 + 3 + 4) log 2.
    layer = nn.Linear(2, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, -2.0], [3.0, -4.0]]))
    assert logsynflow(layer, (2,)) == pytest.approx(10 * math.log(2), rel=1e-12)


def test_batch_norm_is_the_identity() -> None:
    linear = nn.Linear(3, 3)
    norm = nn.BatchNorm1d(3)
    with torch.no_grad():
        norm.weight.fill_(100.0)
        assert norm.running_mean is not None
        norm.running_mean.fill_(5.0)
    assert logsynflow(nn.Sequential(linear, norm), (3,)) == logsynflow(linear, (3,))


class Functional(nn.Module):
    """Layer norm as a function, as many models compute it."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.nn.functional.layer_norm(x, x.shape[1:])


@pytest.mark.parametrize(
    "norm",
    [
        nn.BatchNorm2d(4),
        nn.GroupNorm(2, 4),
        nn.InstanceNorm2d(4, affine=True),
        nn.LayerNorm((4, 6, 6)),
        nn.LocalResponseNorm(2),
        Functional(),
    ],
    ids=lambda norm: type(norm).__name__,
)
def test_every_norm_is_the_identity(norm: nn.Module) -> None:
    torch.manual_seed(0)
    before, after = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3)
    expected = logsynflow(nn.Sequential(before, nn.ReLU(), after), (3, 8, 8))
    assert math.isfinite(expected)
    network = nn.Sequential(before, norm, nn.ReLU(), after).eval()
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    assert logsynflow(network, (3, 8, 8)) == expected
    assert_unharmed(network, state)


def test_attention_whose_softmax_has_large_negative_gradients_has_a_value() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.query, self.key, self.value = (nn.Linear(8, 8) for _ in range(3))
            self.positions = nn.Parameter(torch.randn(1, 4, 8))

        def forward(self, x: Tensor) -> Tensor:
            x = x + self.positions
            return nn.functional.scaled_dot_product_attention(self.query(x), self.key(x), self.value(x))

    torch.manual_seed(0)
    assert 0 < logsynflow(Attention(), (4, 8)) < math.inf


@pytest.mark.parametrize("operations", [["none"] * 6, ["none", "nor_conv_3x3", "none", "none", "nor_conv_1x1", "none"]])
def test_cut_edges_leave_it_finite(operations: list[str]) -> None:
    space = TopologySpace()
    network = initialised(space, format_cell(operations), 0)
    value = logsynflow(network, space.input_shape)
    assert math.isfinite(value)
    assert value == pytest.approx(naive_logsynflow(network, space.input_shape), rel=1e-9)


def test_a_layer_that_does_not_run_adds_nothing() -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.used(x)  # type: ignore[no-any-return]

    half = Half()
    assert logsynflow(half, (3,)) == logsynflow(half.used, (3,))


def test_a_network_without_weights_has_none() -> None:
    assert logsynflow(nn.ReLU(), (3,)) == 0.0


def test_frozen_weights_count_as_well() -> None:
    layer = nn.Linear(3, 3)
    value = logsynflow(layer, (3,))
    assert logsynflow(layer.requires_grad_(False), (3,)) == value


def test_it_works_where_gradients_are_switched_off() -> None:
    layer = nn.Linear(3, 3)
    with torch.no_grad():
        assert logsynflow(layer, (3,)) > 0


def assert_unharmed(network: nn.Module, before: dict[str, Tensor]) -> None:
    after = network.state_dict()
    assert all(torch.equal(tensor, before[name]) for name, tensor in after.items())
    assert all(tensor.dtype == before[name].dtype for name, tensor in after.items())
    assert not any(module.training for module in network.modules())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not any("forward" in module.__dict__ for module in network.modules())


def test_the_network_comes_back_as_it_was() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    logsynflow(network, (3, 5, 5))
    assert_unharmed(network, before)


def test_the_network_comes_back_as_it_was_when_the_forward_pass_raises() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(RuntimeError):
        logsynflow(network, (2, 5, 5))
    assert_unharmed(network, before)
