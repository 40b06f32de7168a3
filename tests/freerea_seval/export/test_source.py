"""Python source of networks: it computes what the network does, with the same weights, and needs torch alone."""

from __future__ import annotations

import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from torch import nn

import freerea_seval as fs
from freerea_patch import InputError
from freerea_seval.export.formats import settle
from freerea_seval.export.source import network_source, record_shapes

#: The widths 24 and 24, 24 and 32: a cell of one width, and one whose skip connection is a projection.
GENOTYPES = {
    "nats-tss": "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|nor_conv_1x1~0|avg_pool_3x3~1|nor_conv_3x3~2|",
    "nats-sss": "24:24:24:16:32",
    "fbnet": ":".join("0123456780123456785678"),
}
SPACES: dict[str, Any] = {"nats-tss": fs.TopologySpace, "nats-sss": fs.SizeSpace, "fbnet": fs.FBNetSpace}


def executed(source: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "written"}
    exec(compile(source, "source", "exec"), names)
    return names


@pytest.mark.parametrize("name", SPACES)
def test_source_has_the_weights_and_outputs_of_a_network(name: str) -> None:
    space = SPACES[name]()
    torch.manual_seed(0)
    network = space.build(GENOTYPES[name])
    source = network_source(network, space.input_shape, "T")
    torch.manual_seed(0)
    written = executed(source)["Network"]()
    expected, weights = network.state_dict(), written.state_dict()
    assert list(weights) == list(expected)
    assert all(torch.equal(weights[key], expected[key]) for key in expected)  # made in the same order
    settle(network, space.input_shape)
    written.load_state_dict(network.state_dict())
    images = torch.randn(3, *space.input_shape)
    with torch.no_grad():
        outputs = network(images)
        assert outputs.std(0).mean() > 1e-3  # it depends on the images
        assert torch.equal(written.eval()(images), outputs)


def test_a_cell_has_an_edge_a_line() -> None:
    space = fs.TopologySpace()
    source = network_source(space.build(GENOTYPES["nats-tss"]), space.input_shape, "T")
    for line in (
        "class Cell(nn.Module):",
        "relu_conv_bn(width, width, 3),  # node 0 to node 1: nor_conv_3x3",
        "Zero(),  # node 0 to node 2: none",
        "nn.Identity(),  # node 1 to node 2: skip_connect",
        "relu_conv_bn(width, width, 1),  # node 0 to node 3: nor_conv_1x1",
        "node2 = self.edges[1](x) + self.edges[2](node1)",
        "*(Cell(32) for _ in range(5)),  # (n, 32, 16, 16)",
        "ResidualBlock(32, 64),  # (n, 64, 8, 8)",
        "nn.Linear(64, 10),  # (n, 10)",
    ):
        assert line in source
    assert "InvertedResidual" not in source
    assert "\\" not in source


def test_source_needs_torch_alone(tmp_path: Path) -> None:
    space = fs.FBNetSpace()
    (tmp_path / "network.py").write_text(network_source(space.build(GENOTYPES["fbnet"]), space.input_shape, "T"))
    code = (
        "import sys, network\nnetwork.Network()\n"
        "assert not [name for name in sys.modules if name.startswith(('freerea', 'pandas', 'pydantic'))]"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": ""}, check=True)


def own_networks() -> list[nn.Module]:
    """Modules as a space of the user's may build them."""
    named = OrderedDict(first=nn.Conv2d(3, 4, (3, 1), padding=(1, 0)), then=nn.Hardswish(), flat=nn.Flatten())
    return [
        nn.Sequential(named),
        nn.Sequential(nn.Conv2d(3, 4, 3, padding="same", padding_mode="reflect", bias=False), nn.GroupNorm(2, 4)),
        nn.Sequential(nn.LayerNorm((8, 8)), nn.LayerNorm([3, 8, 8]), nn.Dropout(0.25), nn.LeakyReLU(0.2, inplace=True)),
        nn.Sequential(nn.MaxPool2d(2, ceil_mode=True), nn.Upsample(scale_factor=2.0), nn.BatchNorm2d(3, affine=False)),
        nn.Sequential(nn.ZeroPad2d((1, 2, 3, 4)), nn.AdaptiveMaxPool2d((2, None)), nn.Sequential(), nn.Softmax(1)),
        nn.Linear(8, 2, bias=False),
        nn.Sequential(*[nn.Conv2d(3, 3, 3, padding=1) for _ in range(4)]),
    ]


@pytest.mark.parametrize("network", own_networks(), ids=range(len(own_networks())))
def test_modules_of_torch_are_written_with_their_arguments(network: nn.Module) -> None:
    source = network_source(network, (3, 8, 8), 'a """title""" with \\ and \x1b')
    written = executed(source)["Network"]()
    assert repr(written).partition("(")[2] == repr(network).partition("(")[2]
    written.load_state_dict(network.state_dict())
    images = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(written.eval()(images), network.eval()(images))


class Doubled(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * x


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (Doubled(), "test_source.Doubled"),
        (nn.TransformerEncoderLayer(8, 2, 8), "torch.nn.modules.transformer.TransformerEncoderLayer"),
        (nn.utils.parametrizations.weight_norm(nn.Linear(8, 8)), "ParametrizedLinear"),
    ],
    ids=["own class", "arguments that it does not keep", "parametrised"],
)
def test_a_module_that_cannot_be_written_is_named(module: nn.Module, name: str) -> None:
    with pytest.raises(InputError, match=rf"this network has \S*{name}; name a file \.onnx or \.pt2 instead$"):
        network_source(nn.Sequential(nn.Flatten(0, 2), module), (3, 8, 8), "T")


def test_recording_shapes_changes_nothing() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).train()
    network[1].eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    shapes = record_shapes(network, (3, 8, 8))
    assert shapes[network] == ((2, 3, 8, 8), (2, 4, 6, 6))
    assert [module.training for module in network.modules()] == [True, True, False]
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())


def test_random_genotypes_are_written(capsys: pytest.CaptureFixture[str]) -> None:
    seed = Random().randrange(10**6)
    print(f"seed {seed}")
    rng = Random(seed)
    for make in SPACES.values():
        space = make()
        network = space.build(space.sample(rng))
        written = executed(network_source(network, space.input_shape, "T"))["Network"]()
        assert {n: t.shape for n, t in written.state_dict().items()} == {
            n: t.shape for n, t in network.state_dict().items()
        }
