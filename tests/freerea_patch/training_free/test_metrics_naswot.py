"""naswot against Mellor's own way of writing it, and on patterns worked by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from freerea_patch import SizeSpace, TopologySpace
from freerea_patch.networks import initialise
from freerea_patch.spaces import format_cell
from freerea_patch.training_free.metrics import common_ones, naswot


def naive_naswot(network: nn.Module, images: Tensor) -> float:
    """Concatenate the codes of all ReLUs, and add two products of matrices (Mellor 2021, equation 2)."""
    codes: list[Tensor] = []
    relus = [module for module in network.modules() if isinstance(module, nn.ReLU)]
    hooks = [relu.register_forward_hook(lambda m, i, y: codes.append((y > 0).flatten(1))) for relu in relus]
    with torch.no_grad():
        network.train()(images)
    for hook in hooks:
        hook.remove()
    c = torch.cat(codes, dim=1).double()
    kernel = c @ c.T + (1 - c) @ (1 - c).T
    if torch.linalg.matrix_rank(kernel, hermitian=True) < len(images):
        return -math.inf
    return float(torch.linalg.slogdet(kernel).logabsdet)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("space", [TopologySpace(), TopologySpace("ImageNet16-120"), SizeSpace()], ids=lambda s: s.name)
def test_it_equals_the_naive_twin(space: TopologySpace | SizeSpace, seed: int) -> None:
    network = space.build(space.sample(Random(seed)))
    initialise(network, torch.Generator().manual_seed(seed))
    images = torch.randn(8, *space.input_shape, generator=torch.Generator().manual_seed(seed))
    assert naswot(network, images) == pytest.approx(naive_naswot(network, images), rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("space", [TopologySpace(), SizeSpace()], ids=lambda s: s.name)
def test_it_equals_the_naive_twin_on_many_networks(space: TopologySpace | SizeSpace, twins: int) -> None:
    rng = Random(0)
    for seed in range(twins):
        network = space.build(space.sample(rng)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        initialise(network, torch.Generator().manual_seed(seed))
        images = torch.randn(16, *space.input_shape, generator=torch.Generator().manual_seed(seed))
        images = images.to(memory_format=torch.channels_last)
        assert naswot(network, images) == pytest.approx(naive_naswot(network, images), rel=1e-5), seed


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_images_take_the_precision_of_the_network(dtype: torch.dtype) -> None:
    network = TopologySpace().build(TopologySpace().sample(Random(0))).to(dtype)
    images = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert naswot(network, images) == naswot(network, images.to(dtype)) > 0


@pytest.mark.parametrize("norm", [nn.GroupNorm(2, 8), nn.LayerNorm([8, 6, 6])])
@pytest.mark.parametrize("activation", [nn.Hardsigmoid(), nn.ReLU(inplace=True)])
def test_norms_and_gates_change_nothing_in_how_relus_count(norm: nn.Module, activation: nn.Module) -> None:
    first = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 8, 3))
    network = nn.Sequential(first, norm, nn.ReLU(), nn.Conv2d(8, 4, 3), activation)
    images = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert naswot(network, images) == pytest.approx(naive_naswot(network, images), rel=1e-5)


def test_a_relu_used_twice_counts_twice() -> None:
    relu = nn.ReLU()
    network = nn.Sequential(relu, nn.Linear(5, 9), relu)
    images = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    assert naswot(network, images) == pytest.approx(naive_naswot(network, images), rel=1e-9)


class OneInput(nn.Module):
    """Three ReLUs on one tensor, which ``change`` may write to before the last of them."""

    def __init__(self, change: Callable[[Tensor], object], inplace: bool = False) -> None:
        super().__init__()
        self.linear, self.change = nn.Linear(5, 9), change
        self.relus = nn.ModuleList([nn.ReLU(), nn.ReLU(inplace), nn.ReLU()])

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.linear(x)
        first, second = self.relus[0](y), self.relus[1](y)
        self.change(y)
        self.change(first)
        return first + second + self.relus[2](y)  # type: ignore[no-any-return]


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("change", [lambda x: None, lambda x: x.neg_(), lambda x: x.add_(0.3)], ids=["", "neg", "add"])
def test_relus_of_one_tensor_all_count_as_it_is_then(change: Callable[[Tensor], object], inplace: bool) -> None:
    network = OneInput(change, inplace)
    initialise(network, torch.Generator().manual_seed(0))
    images = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    assert naswot(network, images) == pytest.approx(naive_naswot(network, images), rel=1e-9)


def test_a_relu_of_ones_own_counts_by_the_sign_of_its_input() -> None:
    class Shifted(nn.ReLU):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) - 0.5

    linear, images = nn.Linear(5, 30), torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    initialise(linear, torch.Generator().manual_seed(0))
    expected = naive_naswot(nn.Sequential(linear, nn.ReLU()), images)
    assert naswot(nn.Sequential(linear, Shifted()), images) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("patterns", "determinant"),
    [
        ([[1, -1], [-1, 1]], 4),  # agree with themselves on both units, with each other on none: [[2, 0], [0, 2]]
        ([[1, 1, -1], [1, -1, -1]], 5),  # agree with each other on two of three: [[3, 2], [2, 3]]
        ([[1, -1, -1, -1], [1, 1, -1, -1], [1, 1, 1, -1]], 12),  # [[4, 3, 2], [3, 4, 3], [2, 3, 4]]
    ],
)
def test_the_kernel_worked_by_hand(patterns: list[list[int]], determinant: int) -> None:
    assert naswot(nn.ReLU(), torch.tensor(patterns).float()) == pytest.approx(math.log(determinant), rel=1e-12)


@settings(deadline=None)
@given(st.integers(0, 20), st.integers(0, 200), st.integers(0, 2**31))
@pytest.mark.skipif(not hasattr(np, "bitwise_count"), reason="numpy before version 2 does not count bits")
def test_common_ones_are_a_product_of_matrices(images: int, units: int, seed: int) -> None:
    codes = np.random.default_rng(seed).random((images, units)) > 0.5
    assert np.array_equal(common_ones(codes), codes.astype(int) @ codes.astype(int).T)


@pytest.mark.parametrize("seed", range(2))
def test_bits_counted_and_matrices_multiplied_agree(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    space = TopologySpace()
    network = space.build(space.sample(Random(seed)))
    images = torch.randn(9, *space.input_shape, generator=torch.Generator().manual_seed(seed))
    counted = naswot(network, images)
    monkeypatch.setattr("freerea_patch.training_free.metrics._COUNTS_BITS", False)
    assert naswot(network, images) == pytest.approx(counted, rel=1e-12)


@settings(deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([2, 3, 8, 33, 64]))
def test_two_images_with_one_pattern_give_minus_infinity(seed: int, count: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 500, generator=generator)
    one, other = torch.randperm(count, generator=generator)[:2]
    images[one] = images[other]
    assert naswot(nn.ReLU(), images) == -math.inf


def test_a_cell_that_passes_nothing_on_has_too_few_patterns() -> None:
    # Only the blocks between the stages are left, and behind zeros these are the same for every image.
    space = TopologySpace()
    network = space.build(format_cell(["none"] * 6))
    initialise(network, torch.Generator().manual_seed(0))
    assert naswot(network, torch.randn(4, *space.input_shape)) == -math.inf


def test_a_network_without_relu_modules_is_refused() -> None:
    with pytest.raises(ValueError, match="needs activations such as ReLU, GELU or Hardswish"):
        naswot(nn.Linear(3, 3), torch.zeros(2, 3))


def test_the_network_comes_back_as_it_was() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    naswot(network, torch.randn(4, 3, 5, 5))
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert not any(module.training for module in network.modules())
    assert not any("forward" in module.__dict__ for module in network.modules())


def test_the_network_comes_back_as_it_was_when_the_forward_pass_raises() -> None:
    network = nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.Linear(7, 7)).eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(RuntimeError):
        naswot(network, torch.randn(4, 3, 5, 5))
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert not any(module.training for module in network.modules())
    assert not any("forward" in module.__dict__ for module in network.modules())


ACTIVATIONS = (nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish, nn.Tanh)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_pattern_of_another_activation_is_the_sign_of_its_input(activation: type[nn.Module]) -> None:
    torch.manual_seed(0)
    linear, images = nn.Linear(6, 40), torch.randn(5, 6)
    expected = naswot(nn.Sequential(linear, nn.ReLU()), images)
    assert math.isfinite(expected)
    assert naswot(nn.Sequential(linear, activation()), images) == expected


@pytest.mark.parametrize(
    "function", [torch.relu, nn.functional.gelu, nn.functional.relu6, lambda x: nn.functional.silu(x, inplace=True)]
)
def test_activations_that_are_functions_count_as_modules_do(function: Callable[[Tensor], Tensor]) -> None:
    class Functional(nn.Module):
        def __init__(self, linear: nn.Module) -> None:
            super().__init__()
            self.linear = linear

        def forward(self, x: Tensor) -> Tensor:
            return function(self.linear(x))

    torch.manual_seed(0)
    linear, images = nn.Linear(6, 40), torch.randn(5, 6)
    assert naswot(Functional(linear), images) == naswot(nn.Sequential(linear, nn.ReLU()), images)


def test_a_transformer_layer_of_torch_has_a_value() -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, activation="gelu", batch_first=True)
    assert math.isfinite(naswot(layer, torch.randn(4, 3, 8)))
