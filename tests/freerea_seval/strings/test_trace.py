"""The executed string of a network."""

from __future__ import annotations

import hashlib
import operator
import os
import re
import subprocess
import sys
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from freerea_patch import InputError, SizeSpace, TopologySpace
from freerea_patch.networks.cost import network_cost
from freerea_patch.networks.nats import ResidualBlock, Zero
from freerea_seval.strings.trace import SpaceStrings, network_string

CELLS = TopologySpace().genotypes()


class Function(nn.Module):
    """A function as a network."""

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


def string_of(function: Callable[[Tensor], Any], *shape: int) -> str:
    return network_string(Function(function), shape or (4,))


def counts(string: str, letter: str) -> int:
    return sum(map(int, re.findall(rf"[(,]{letter}(\d+)[,)]", string)))


def test_a_residual_block_reads_as_it_runs() -> None:
    assert network_string(ResidualBlock(4, 8), (4, 6, 6)).split() == [
        "input[4x6x6]",
        "avg_pool2d(k2,s2)[4x3x3]<-1",
        "conv(4,8,k1,s1,p0,w32,m288)[8x3x3]<-1",
        "relu[4x6x6]<-3",
        "conv(4,8,k3,s2,p1,w288,m2592)[8x3x3]<-1",
        "bn(w16)[8x3x3]<-1",
        "relu[8x3x3]<-1",
        "conv(8,8,k3,s1,p1,w576,m5184)[8x3x3]<-1",
        "bn(w16)[8x3x3]<-1",
        "add[8x3x3]<-7,1",
        "output<-1",
    ]


@pytest.mark.parametrize(
    ("layer", "shape", "token"),
    [
        (nn.Conv2d(4, 6, (1, 3), stride=(1, 2), dilation=2, groups=2), (4, 8, 9), "conv(4,6,k1x3,s1x2,p0,d2,g2,w42,"),
        (nn.ConvTranspose2d(4, 2, 2, stride=2, bias=False), (4, 3, 3), "deconv(4,2,k2,s2,p0,w32,m288)[2x6x6]<-1"),
        (nn.Linear(5, 3), (5,), "linear(5,3,w18,m15)[3]<-1"),
        (nn.Linear(5, 3, bias=False), (2, 5), "linear(5,3,w15,m30)[2x3]<-1"),
        (nn.MaxPool2d(3, stride=2, padding=1), (4, 8, 8), "max_pool2d(k3,s2,p1)[4x4x4]<-1"),
        (nn.AvgPool2d(3, 1, 1), (4, 8, 8), "avg_pool2d(k3,s1,p1)[4x8x8]<-1"),
        (nn.AvgPool2d(3, 1, 1, count_include_pad=False), (4, 8, 8), "avg_pool2d(k3,s1,p1,count_include_pad=0)[4x8x8]"),
        (nn.AdaptiveAvgPool2d(1), (4, 8, 8), "mean(dim=-1:-2,keepdim=1)[4x1x1]<-1"),
        (nn.BatchNorm2d(4, affine=False), (4, 8, 8), "bn[4x8x8]<-1"),
        (nn.LayerNorm(4), (4,), "native_layer_norm(normalized_shape=4,w8)[4]<-1"),
        (Zero(), (4,), "mul(0)[4]<-1"),
        (Function(lambda x: x * torch.tensor(0.0)), (4,), "mul(0)[4]<-1"),
        (Function(lambda x: x * 0.5), (4,), "mul(0.5)[4]<-1"),
        (Function(lambda x: x + x), (4,), "add[4]<-1,1"),
        (Function(lambda x: x + 3), (4,), "add(3)[4]<-1"),
        (Function(lambda x: x * x.mean()), (4,), "mul[4]<-2,1"),
        (Function(lambda x: x + torch.ones_like(x)), (4,), "add[4]<-2,1"),
        (Function(lambda x: x.sum()), (4,), "sum[]<-1"),
    ],
)
def test_a_token_tells_kind_attributes_shape_and_inputs(layer: nn.Module, shape: tuple[int, ...], token: str) -> None:
    assert network_string(layer, shape).split()[-2].startswith(token)


def test_views_identities_and_dropout_leave_no_token_and_consumers_point_through_them() -> None:
    def views(x: Tensor) -> Tensor:
        return torch.relu(x.view(2, 2).t().unsqueeze(0).detach()[..., :1].expand(1, 2, 3))

    assert string_of(views) == "input[4] relu[2x3]<-1 output<-1"
    assert network_string(nn.Sequential(nn.Identity(), nn.Dropout(), nn.Flatten()), (4,)) == "input[4] output<-1"


def test_data_that_is_moved_is_there() -> None:
    assert "clone[4x3x2]<-1" in string_of(lambda x: x.transpose(1, 3).contiguous(), 2, 3, 4)
    assert "cat(dim=1)[8]<-1,1" in string_of(lambda x: torch.cat([x, x], 1))


def test_an_operation_in_place_reads_as_its_twin_and_later_readers_see_it() -> None:
    def twice(inplace: bool) -> nn.Module:
        return nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace), nn.Linear(4, 4), nn.ReLU6(inplace))

    assert network_string(twice(True), (4,)) == network_string(twice(False), (4,))

    def write_through_a_view(x: Tensor) -> Tensor:
        y = torch.relu(x)
        y[:, :2].mul_(0)
        return y + x

    assert string_of(write_through_a_view) == "input[4] relu[4]<-1 mul(0)[2]<-1 add[4]<-1,3 output<-1"

    def write_to_a_list(x: Tensor) -> Tensor:
        y = torch.relu(x)
        torch._foreach_neg_([y])
        return y + x

    assert string_of(write_to_a_list) == "input[4] relu[4]<-1 foreach_neg[4]<-1 add[4]<-1,3 output<-1"


def test_memory_that_is_used_again_is_not_taken_for_what_was_there_before() -> None:
    def forget(x: Tensor) -> Tensor:
        for _ in range(20):
            torch.relu(x)  # freed at once; the constant may get its place
            x = x + torch.tensor([1.0, 2.0, 3.0, 4.0])
        return x

    assert string_of(forget) == "input[4]" + " relu[4]<-1 add[4]<-2" * 20 + " output<-1"


def test_dead_branches_are_executed_so_they_are_there() -> None:
    def dead(x: Tensor) -> Tensor:
        torch.sigmoid(x)
        return x

    assert string_of(dead) == "input[4] sigmoid[4]<-1 output<-2"


def test_results_may_be_nested_and_there_may_be_none_of_the_input() -> None:
    nested = string_of(lambda x: {"a": (torch.relu(x), [x.mean(), 3]), "b": None, "c": x})
    assert nested == "input[4] relu[4]<-1 mean[]<-2 output<-2,1,3"
    assert string_of(lambda x: torch.ones(2)).split()[-1] == "output<-1"
    assert string_of(lambda x: None) == "input[4] output"


@pytest.mark.parametrize("batch_first", [True, False])
def test_a_transformer_shows_its_operations_not_the_fused_layer(batch_first: bool) -> None:
    layer = nn.TransformerEncoderLayer(8, 2, dim_feedforward=16, batch_first=batch_first)
    string = network_string(layer, (5, 8))
    kinds = [re.split(r"[(\[<]", token)[0] for token in string.split()]
    assert {"linear", "attention", "native_layer_norm", "add"} <= set(kinds)
    assert kinds.count("linear") == 4
    assert counts(string, "w") == sum(parameter.numel() for parameter in layer.parameters())
    if batch_first:  # queries times keys and softmax times values: 2 heads of 4 features, 5 positions
        assert "attention(m400)" in string


def test_attention_that_returns_its_weights_is_matrix_products() -> None:
    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    string = string_of(lambda x: attention(x, x, x)[0], 5, 8)
    assert "matmul(4,5,m200)[2x5x5]" in string
    assert "matmul(5,4,m200)[2x5x4]" in string


@pytest.mark.parametrize("genotype", CELLS[:4])
def test_parameters_and_multiply_adds_add_up_to_the_networks(genotype: str) -> None:
    space = TopologySpace("cifar100")
    network = space.build(genotype)
    string = network_string(network, space.input_shape)
    cost = network_cost(network, space.input_shape)
    assert counts(string, "w") == cost.params
    # NATS-Bench's count has a bias as one multiply-add an output.
    assert counts(string, "m") == cost.macs - space.classes


@pytest.mark.parametrize("count", [30, pytest.param(300, marks=pytest.mark.slow)])
def test_different_cells_have_different_strings(count: int) -> None:
    # Nothing is lost here although nn.Identity leaves no operation: a skip shows in who reads what, and the
    # order of execution tells apart what is the same up to a swap.
    cells = Random(5).sample(CELLS, count)
    assert len(set(SpaceStrings(TopologySpace()).strings(cells))) == count


def test_networks_that_differ_by_an_identity_alone_have_one_string() -> None:
    with_it = nn.Sequential(nn.Linear(4, 4), nn.Identity(), nn.ReLU())
    assert network_string(with_it, (4,)) == network_string(nn.Sequential(nn.Linear(4, 4), nn.ReLU()), (4,))


def test_different_widths_have_different_strings() -> None:
    sizes = ["8:8:8:8:8", *(":".join("16" if i == k else "8" for i in range(5)) for k in range(5))]
    sizes += Random(1).sample(list(SizeSpace().genotypes()), 60)
    assert len(set(SpaceStrings(SizeSpace()).strings(sizes))) == len(set(sizes))


def test_the_data_set_shows_in_the_shapes() -> None:
    cell = CELLS[11]
    cifar, imagenet = (SpaceStrings(TopologySpace(name)).strings([cell])[0] for name in ("cifar10", "ImageNet16-120"))
    assert cifar.split()[0] == "input[3x32x32]"
    assert imagenet.split()[0] == "input[3x16x16]"
    assert len(cifar.split()) == len(imagenet.split())


def test_weights_do_not_change_the_string() -> None:
    network = TopologySpace().build(CELLS[7])
    before = network_string(network, (3, 32, 32))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(float("nan"))
    assert network_string(network, (3, 32, 32)) == before


def test_precision_does_not_change_the_string() -> None:
    network = TopologySpace().build(CELLS[7])
    assert network_string(network, (3, 32, 32)) == network_string(network.double(), (3, 32, 32))


@pytest.mark.parametrize("fail", [False, True])
def test_the_network_comes_back_unharmed(fail: bool) -> None:
    class Counting(nn.Module):
        calls: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("calls", torch.zeros(3))
            self.norm = nn.BatchNorm1d(4)
            self.frozen = nn.BatchNorm1d(4).eval()

        def forward(self, x: Tensor) -> Tensor:
            self.calls.add_(1)
            if fail:
                raise RuntimeError("no\nmore")
            return self.frozen(self.norm(x))  # type: ignore[no-any-return]

    network = Counting()
    state = {name: value.clone() for name, value in network.state_dict().items()}
    torch.backends.mha.set_fastpath_enabled(True)
    if fail:
        with pytest.raises(InputError, match=r"cannot run on one input of shape \(4,\) \(no\); check both"):
            network_string(network, (4,))
    else:
        assert network_string(network, (4,)) == "input[4] add(1)[3] bn(w8)[4]<-2 bn(w8)[4]<-1 output<-1"
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert (network.training, network.norm.training, network.frozen.training) == (True, True, False)
    assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())
    assert torch.backends.mha.get_fastpath_enabled()
    assert torch.is_grad_enabled()


def test_a_deep_network_needs_no_recursion() -> None:
    depth = 3 * sys.getrecursionlimit()
    string = string_of(lambda x: [x := torch.relu(x) for _ in range(depth)][-1])
    assert string == "input[4]" + " relu[4]<-1" * depth + " output<-1"


@pytest.mark.slow
def test_hash_seed_and_thread_count_do_not_change_the_strings() -> None:
    script = (
        "import hashlib, sys, torch; torch.set_num_threads(int(sys.argv[1]))\n"
        "from freerea_patch import TopologySpace; from freerea_seval.strings.trace import SpaceStrings\n"
        "space = TopologySpace(); strings = SpaceStrings(space).strings(space.genotypes()[:3])\n"
        "print(hashlib.sha256(' '.join(strings).encode()).hexdigest())"
    )
    here = " ".join(SpaceStrings(TopologySpace()).strings(CELLS[:3]))
    for threads, hash_seed in (("1", "1"), ("2", "99")):
        environment = os.environ | {"PYTHONHASHSEED": hash_seed}
        command = [sys.executable, "-c", script, threads]
        ran = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        assert ran.stdout.strip() == hashlib.sha256(here.encode()).hexdigest()


def test_a_space_builds_each_network_once() -> None:
    built = []

    class Watched(SizeSpace):
        def build(self, genotype: str) -> nn.Module:
            built.append(genotype)
            return super().build(genotype)

    strings = SpaceStrings(Watched())
    small, large = "8:8:8:8:8", "16:8:8:8:8"
    assert strings.strings([]) == []
    first = strings.strings([small, large, small])
    assert first[0] == first[2] != first[1]
    assert strings.strings([large]) == [first[1]]
    assert built == [small, large]


@pytest.mark.parametrize(
    ("network", "shape", "message"),
    [
        ("resnet", (3,), r"expected a network \(torch.nn.Module\), got str; build it first"),
        (nn.ReLU(), (3, 0), r"input shape must be positive whole numbers such as \(3, 32, 32\), not \(3, 0\)"),
        (nn.ReLU(), (3.5,), "input shape must be positive whole numbers"),
        (nn.Linear(3, 2), (4,), r"cannot run on one input of shape \(4,\) \(mat1 and mat2 .*\); check both"),
        (
            Function(operator.attrgetter("lost")),
            (4,),
            "cannot run .* has no attribute 'lost'",
        ),
    ],
)
def test_what_cannot_be_run_is_an_error_of_one_line(network: Any, shape: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        network_string(network, shape)
    assert "\n" not in str(caught.value)


def test_an_error_in_a_space_names_the_genotype() -> None:
    class Broken(SizeSpace):
        def build(self, genotype: str) -> nn.Module:
            return nn.Linear(7, 7)

    with pytest.raises(InputError, match=r"^network '8:8:8:8:8': the network cannot run on one input"):
        SpaceStrings(Broken()).strings(["8:8:8:8:8"])
    with pytest.raises(InputError, match="is not of the size space"):
        SpaceStrings(SizeSpace()).strings(["8:8"])


def test_without_torch_the_error_says_how_to_install_it() -> None:
    script = "import sys; sys.modules['torch'] = None; import freerea_seval.strings"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ran.stderr.splitlines()[-1].endswith(
        "network strings need the package torch: pip install 'freerea-seval[live]'"
    )
