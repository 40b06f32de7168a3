"""Eager PyTorch and ONNX Runtime run the same network; what cannot run says why."""

from __future__ import annotations

import sys
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from freerea_patch import InputError, TopologySpace
from freerea_seval.measurement.backends import check_backend, input_names, one_line, onnx_bytes, prepare, random_inputs
from freerea_seval.measurement.timing import CannotRunError

CELL = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|skip_connect~0|avg_pool_3x3~1|nor_conv_1x1~2|"


class Masked(nn.Module):
    def forward(self, mask: Tensor, ids: Tensor, unused: Tensor) -> Tensor:
        return ids.float() * mask


def test_a_network_is_run_in_evaluation_mode_and_its_weights_are_counted() -> None:
    modes = []

    class Spy(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            modes.append((self.training, torch.is_grad_enabled()))
            return super().forward(x)

    ready = prepare(Spy(4, 4), [torch.zeros(2, 4)])
    ready.run()
    assert modes == [(False, False)] * 2
    assert ready.size == (4 * 4 + 4) * 4


@pytest.mark.parametrize("backend", ["eager", "onnx"])
def test_what_cannot_run_says_why_in_one_line(backend: str) -> None:
    if backend == "onnx":
        pytest.importorskip("onnxruntime", reason="needs the package onnxruntime")
    with pytest.raises(CannotRunError, match=r"mat1 and mat2 shapes cannot be multiplied") as caught:
        prepare(nn.Linear(7, 7), [torch.zeros(1, 3)], backend=backend)
    assert "\n" not in str(caught.value)
    assert one_line(KeyError()) == "KeyError"


def test_onnx_computes_what_the_network_does() -> None:
    runtime = pytest.importorskip("onnxruntime", reason="needs the package onnxruntime")
    torch.manual_seed(0)
    network = TopologySpace().build(CELL).eval()
    images = torch.randn(1, 3, 32, 32)
    session = runtime.InferenceSession(onnx_bytes(network, [images]), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"input0": images.numpy()})
    with torch.no_grad():
        assert np.allclose(found, network(images).numpy(), atol=1e-5)
    ready = prepare(network, [images], backend="onnx")
    assert np.allclose(cast(Any, ready.run())[0], found)


def test_inputs_by_name_reach_their_places_in_onnx_and_unused_ones_are_left_out() -> None:
    pytest.importorskip("onnxruntime", reason="needs the package onnxruntime")
    inputs = {"unused": torch.zeros(1), "ids": torch.full((1, 3), 2), "mask": torch.tensor([[1.0, 0.0, 0.5]])}
    assert input_names(Masked(), inputs) == ["mask", "ids", "unused"]
    (found,) = cast(Any, prepare(Masked(), inputs, backend="onnx").run())
    assert found.tolist() == [[2.0, 0.0, 1.0]]


def test_random_inputs_keep_integers_names_and_dtypes() -> None:
    given = {"x": torch.zeros(2, 500, dtype=torch.float64), "ids": torch.ones(3, dtype=torch.int64)}
    found = cast(dict[str, Tensor], random_inputs(given, seed=1))
    assert found["ids"].tolist() == [1, 1, 1]
    assert (found["x"].shape, found["x"].dtype) == ((2, 500), torch.float64)
    assert float(found["x"].std()) == pytest.approx(1, abs=0.1)
    assert not given["x"].any()
    assert (cast(list[Tensor], random_inputs([given["x"]], seed=2))[0] != found["x"]).any()


def test_an_unknown_backend_or_device_is_refused() -> None:
    with pytest.raises(InputError, match=r"unknown backend 'tensorrt'\. Valid: compile, eager, onnx"):
        check_backend("tensorrt", "cpu", 1)
    with pytest.raises(InputError, match="device 'cuda:9' cannot be used here"):
        check_backend("eager", "cuda:9", 1)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="torch.compile needs a compiler")
@pytest.mark.filterwarnings("ignore")
def test_a_compiled_network_runs() -> None:
    assert prepare(nn.Sequential(nn.Linear(4, 4), nn.ReLU()), [torch.zeros(1, 4)], backend="compile").size == 80
