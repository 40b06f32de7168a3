"""Eager PyTorch and ONNX Runtime run the same network; what cannot run says why."""

from __future__ import annotations

import sys
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from freerea_patch import InputError, TopologySpace
from freerea_seval.measurement.backends import (
    check_backend,
    one_line,
    onnx_bytes,
    onnx_inputs,
    prepare,
    random_inputs,
)
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
    assert list(onnx_inputs(inputs)) == ["unused", "ids", "mask"]
    (found,) = cast(Any, prepare(Masked(), inputs, backend="onnx").run())
    assert found.tolist() == [[2.0, 0.0, 1.0]]


class SelfAttention(nn.MultiheadAttention):
    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        attended: Tensor = super().forward(x, x, x)[0]
        return attended


def encoder(batch_first: bool) -> nn.Module:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=batch_first)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


ATTENTION: dict[str, tuple[nn.Module, int]] = {
    "attention": (SelfAttention(8, 2), 1),
    "attention, batch first": (SelfAttention(8, 2, batch_first=True), 1),
    "encoder": (encoder(batch_first=False), 1),
    "encoder, batch first": (encoder(batch_first=True), 1),
    "decoder": (nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2, 16), 1), 2),
    "transformer": (nn.Transformer(8, 2, 1, 1, 16, batch_first=True), 2),
}


@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True:UserWarning")
@pytest.mark.parametrize("name", ATTENTION)
def test_attention_is_exported_from_training_mode_and_computes_the_same(name: str) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="needs the package onnxruntime")
    network, count = ATTENTION[name]
    inputs = [torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(index)) for index in range(count)]
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(True)
    try:
        content = onnx_bytes(network.train(), inputs)
        assert torch.backends.mha.get_fastpath_enabled()
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {name: tensor.numpy() for name, tensor in onnx_inputs(inputs).items()})
    with torch.no_grad():
        assert np.allclose(found, network.eval()(*inputs).numpy(), atol=1e-5)


def test_lists_of_tensors_defaults_and_outputs_that_are_no_tensors_are_exported() -> None:
    runtime = pytest.importorskip("onnxruntime", reason="needs the package onnxruntime")

    class Detector(nn.Module):
        def forward(self, images: list[Tensor], flip: bool = True, targets: object = None) -> Any:
            assert flip is True
            return [{"boxes": image * 2, "targets": targets} for image in images]

    images = [torch.rand(3, 4), torch.rand(3, 5)]
    for inputs, names in (([images], ["input0.0", "input0.1"]), ({"images": images}, ["images.0", "images.1"])):
        session = runtime.InferenceSession(onnx_bytes(Detector(), inputs), providers=["CPUExecutionProvider"])
        assert [entry.name for entry in session.get_inputs()] == names
        found = session.run(None, dict(zip(names, (image.numpy() for image in images), strict=True)))
        assert all(np.array_equal(array, image * 2) for array, image in zip(found, images, strict=True))
    assert len(cast(Any, prepare(Detector(), [images], backend="onnx").run())) == 2


def test_the_exporter_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    class Spectrum(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            print("in the network")
            spectrum: Tensor = torch.fft.fft(x).abs()
            return spectrum

    class Own(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x * 2

        @staticmethod
        def symbolic(graph: Any, x: Any) -> Any:
            return graph.op("own::Twice", x)

    class Twice(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return cast(Tensor, Own.apply(x))  # type: ignore[no-untyped-call]

    pytest.importorskip("onnx", reason="needs the package onnx")
    with pytest.raises(Exception, match="Exporting the operator 'aten::fft_fft'"):  # prints the graph
        onnx_bytes(Spectrum(), [torch.zeros(2, 3)])
    onnx_bytes(Twice(), [torch.zeros(2, 3)])  # warns that the shape of the operation is unknown
    assert capfd.readouterr() == ("", "")
    print("afterwards")
    assert capfd.readouterr().out == "afterwards\n"


def test_random_inputs_keep_integers_names_and_dtypes() -> None:
    given = {"x": torch.zeros(2, 500, dtype=torch.float64), "ids": torch.ones(3, dtype=torch.int64)}
    found = cast(dict[str, Tensor], random_inputs(given, seed=1))
    assert found["ids"].tolist() == [1, 1, 1]
    assert (found["x"].shape, found["x"].dtype) == ((2, 500), torch.float64)
    assert float(found["x"].std()) == pytest.approx(1, abs=0.1)
    assert not given["x"].any()
    pair, adjacency = [torch.zeros(3), torch.zeros(4)], torch.eye(3).to_sparse()
    numbers, same = cast(list[Any], random_inputs([pair, adjacency], seed=1))
    assert [tensor.shape for tensor in numbers] == [(3,), (4,)]
    assert all(tensor.any() for tensor in numbers)
    assert same is adjacency
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
