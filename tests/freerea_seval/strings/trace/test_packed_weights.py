"""Quantised layers count as those that they were made from, and their dtypes show."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from freerea_seval.costs import network_costs
from freerea_seval.strings import Graph, parse_graph, serialize_graph, trace_module

quantization: Any = torch.ao.quantization

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(params=["fbgemm", "qnnpack"], autouse=True)
def _engine(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.param not in torch.backends.quantized.supported_engines:
        pytest.skip(f"this PyTorch has no {request.param}")
    engine = torch.backends.quantized.engine
    torch.backends.quantized.engine = request.param
    yield
    torch.backends.quantized.engine = engine


class Static(nn.Module):
    """Quantises its input, runs a network, and adds the result to itself."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.quantise, self.dequantise = quantization.QuantStub(), quantization.DeQuantStub()
        self.network, self.sum = network, torch.ao.nn.quantized.FloatFunctional()

    def forward(self, x: Tensor) -> Any:
        y = self.network(self.quantise(x))
        return self.dequantise(self.sum.add(y, y))


class First(nn.Module):
    """The first result of a recurrent layer or cell."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Any:
        result = self.layer(x)
        return result[0] if isinstance(result, tuple) else result


def quantised(network: nn.Module, x: Tensor, *fused: str) -> nn.Module:
    wrapped: Any = Static(copy.deepcopy(network)).eval()
    wrapped.qconfig = quantization.get_default_qconfig("qnnpack")
    if fused:
        quantization.fuse_modules(wrapped, [[f"network.{name}" for name in fused]], inplace=True)
    prepared = quantization.prepare(wrapped)
    prepared(x)
    converted: nn.Module = quantization.convert(prepared)
    return converted


def checked(network: nn.Module, x: Tensor) -> Graph:
    graph = trace_module(network, [x])
    assert parse_graph(serialize_graph(graph)) == graph
    costs = network_costs(network, [x])
    assert (costs.params, costs.macs) == (graph.parameters, graph.macs)
    return graph


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_convolutions_and_linear_layers() -> None:
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    network = nn.Sequential(
        *(nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2), nn.ReLU(), nn.ConvTranspose2d(6, 4, 2, stride=2)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 8)),
    )
    graph = checked(quantised(network, x, "0", "1"), x)
    assert graph.parameters == parameters(network)
    assert graph.macs == 2 * (6 * 4 * 4 * 2 * 9 + 6 * 4 * 4 * 4 * 4 + 4 * 8) == trace_module(network, [x]).macs
    string = serialize_graph(graph)
    assert "conv(6,k3,s2,g2,b,variant=relu)[2x6x4x4:quint8]<-1,w6x2x3x3:qint8,w6" in string
    assert "deconv(4,k2,s2,b)[2x4x8x8:quint8]<-1,w6x4x2x2:qint8,w4" in string
    assert "linear(8,b)[2x8:quint8]<-1,w8x4:qint8,w8" in string
    assert "quantized.add<-1,1" in string


def test_a_convolution_over_one_dimension() -> None:
    x = torch.randn(2, 3, 18, generator=torch.Generator().manual_seed(0))
    network = nn.Sequential(nn.Conv1d(3, 4, 3, stride=2, padding=1), nn.ReLU(), nn.Conv1d(4, 5, 5))
    graph = checked(quantised(network, x), x)
    assert (graph.parameters, graph.macs) == (parameters(network), 2 * (4 * 9 * 3 * 3 + 5 * 5 * 4 * 5))


def test_calibration_does_not_show() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 1))
    strings = set()
    for seed in range(3):
        x = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(seed)) * 10**seed
        strings.add(serialize_graph(trace_module(quantised(network, x), [x])))
    assert len(strings) == 1


def test_dynamic_layers() -> None:
    layer = nn.Linear(4, 4)
    network = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), layer)
    graph = checked(quantization.quantize_dynamic(network, {nn.Linear}), torch.zeros(2, 4))
    assert (graph.parameters, graph.macs) == (40, 64)
    assert [node.kind for node in graph] == ["input", "linear", "relu", "linear", "output"]
    assert graph.nodes[1].get("variant") == "dynamic"
    assert [weight.dtype for weight in graph.nodes[1].weights] == ["qint8", "float32"]


def test_a_shared_layer_counts_once() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Any:
            return self.layer(self.layer(x))

    graph = checked(quantization.quantize_dynamic(Twice(), {nn.Linear}), torch.zeros(2, 4))
    assert (graph.parameters, graph.macs) == (20, 64)


def test_half_precision_shows() -> None:
    if torch.backends.quantized.engine == "qnnpack":
        pytest.skip("qnnpack has no layers in half precision")
    network = quantization.quantize_dynamic(nn.Sequential(nn.Linear(4, 3)), {nn.Linear}, dtype=torch.float16)
    graph = checked(network, torch.zeros(2, 4))
    assert (graph.parameters, graph.macs, graph.nodes[1].weights[0].dtype) == (15, 24, "float16")


@pytest.mark.parametrize(
    ("layer", "macs"),
    [
        (nn.LSTM(4, 5, num_layers=2, bidirectional=True), 2 * 3 * 2 * 20 * (4 + 5 + 10 + 5)),
        (nn.GRU(4, 5), 2 * 3 * 15 * (4 + 5)),
    ],
)
def test_recurrent_layers(layer: nn.Module, macs: int) -> None:
    graph = checked(quantization.quantize_dynamic(First(layer), {type(layer)}), torch.zeros(2, 3, 4))
    assert (graph.parameters, graph.macs) == (parameters(layer), macs)


@pytest.mark.parametrize("layer", [nn.LSTMCell(4, 5), nn.GRUCell(4, 5), nn.RNNCell(4, 5)])
def test_recurrent_cells(layer: nn.Module) -> None:
    graph = checked(quantization.quantize_dynamic(First(layer), {type(layer)}), torch.zeros(2, 4))
    assert graph.parameters == parameters(layer)
    assert graph.macs == trace_module(First(layer), [torch.zeros(2, 4)]).macs


@pytest.mark.parametrize("layer", [nn.Embedding(10, 8), nn.EmbeddingBag(10, 8, mode="sum")])
def test_embeddings(layer: Any) -> None:
    network: Any = nn.Sequential(copy.deepcopy(layer))
    network.qconfig = quantization.float_qparams_weight_only_qconfig
    graph = checked(quantization.convert(quantization.prepare(network)), torch.tensor([[1, 2, 3]]))
    assert graph.parameters == 80


class Int8(nn.Module):
    """A product of integers, as dynamic quantisation by torchao runs it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(32, 16, dtype=torch.int8), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch._int_mm(x.to(torch.int8), self.weight)


def test_products_of_integers() -> None:
    graph = checked(Int8(), torch.zeros(32, 32))
    assert (graph.parameters, graph.macs) == (512, 32 * 32 * 16)
    assert serialize_graph(graph).endswith("linear(16)[32x16:int32]<-1,w16x32:int8 output")
