"""Files of networks: each is loaded again and compared before it is there."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import freerea_seval as fs
from freerea_patch import InputError
from freerea_seval.export import export_network, formats

GENOTYPES = [
    (fs.TopologySpace(), "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|avg_pool_3x3~1|nor_conv_1x1~2|"),
    (fs.SizeSpace(), "8:8:16:8:16"),
    (fs.FBNetSpace(), ":".join("1" + "8" * 19 + "15")),
]


def small() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5))


#: The .pt2 of a network of nats-tss takes six seconds: experiments.devices.exports writes twenty.
CASES = [(*case, suffix) for case in GENOTYPES for suffix in (".py", ".onnx", ".pt2")]
CASES.remove((*GENOTYPES[0], ".pt2"))


@pytest.mark.parametrize(("space", "genotype", "suffix"), CASES, ids=[f"{case[0].kind}{case[2]}" for case in CASES])
def test_a_file_of_every_space_equals_its_network(tmp_path: Path, space: Any, genotype: str, suffix: str) -> None:
    network, path = space.build(genotype), tmp_path / f"network{suffix}"
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    own, settled = export_network(network, space.input_shape, path)
    assert own <= 1e-5
    assert settled <= 1e-4
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    images = torch.randn(1, *space.input_shape)
    with torch.no_grad():
        torch.testing.assert_close(formats.FORMATS[suffix][1](path, network)(images), network.eval()(images))


@pytest.mark.parametrize("suffix", [".py", ".onnx", ".pt2"])
@pytest.mark.parametrize("change", ["outputs", "statistics"])
def test_a_file_with_other_outputs_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, change: str
) -> None:
    write, load = formats.FORMATS[suffix]

    def altered(path: Path, network: nn.Module) -> Callable[[Tensor], Tensor]:
        run = load(path, network)
        settled = float(network[1].running_mean.abs().max()) > 0  # type: ignore[index]
        return lambda images: run(images) + (2e-5 if change == "outputs" and not settled else 2e-4 * settled)

    monkeypatch.setitem(formats.FORMATS, suffix, (write, altered))
    with pytest.raises(InputError, match=rf"network{suffix}: not written, because its outputs differ from"):
        export_network(small(), (3, 8, 8), tmp_path / f"network{suffix}")
    assert list(tmp_path.iterdir()) == []


def test_the_difference_is_relative_to_the_largest_output() -> None:
    difference = formats._difference
    nan, infinity = float("nan"), float("inf")
    assert difference(torch.tensor([1.0, nan]), torch.tensor([1.0, nan])) == 0
    assert difference(torch.tensor([infinity]), torch.tensor([infinity])) == 0
    assert difference(torch.tensor([100.0, 3.0]), torch.tensor([100.0, 1.0])) == pytest.approx(0.02)
    assert difference(torch.tensor([0.3]), torch.tensor([0.1])) == pytest.approx(0.2)
    assert difference(torch.zeros(2), torch.zeros(3)) == infinity
    for wrong in (nan, infinity):
        assert not difference(torch.tensor([wrong]), torch.tensor([1.0])) <= 1e-5


def test_shared_weights_have_no_source(tmp_path: Path) -> None:
    layer = nn.Linear(8, 8)
    network = nn.Sequential(layer, nn.ReLU(), layer)
    with pytest.raises(InputError, match=r"the network shares weights between layers, which a \.py does not"):
        export_network(network, (8,), tmp_path / "network.py")
    assert export_network(network, (8,), tmp_path / "network.pt2") == (0.0, 0.0)


def test_an_error_of_the_network_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"network\.py: the network cannot be written as \.py \(RuntimeError: .*\)$"):
        export_network(small(), (3, 9, 9), tmp_path / "network.py")


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("freerea_seval.measurement.backends.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs the package onnx, .*: pip install 'freerea-seval\[onnx\]'$"):
        export_network(small(), (3, 8, 8), tmp_path / "network.onnx")


def test_a_loaded_source_is_no_module_of_the_process(tmp_path: Path) -> None:
    export_network(small(), (3, 8, 8), tmp_path / "network.py")
    assert "exported_network" not in sys.modules
