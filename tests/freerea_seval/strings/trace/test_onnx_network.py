"""ONNX files as networks: the graph of the module that was exported, and one line for what has no counterpart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn
from torch.nn import functional as F

from freerea_patch import InputError
from freerea_seval.costs import network_costs
from freerea_seval.strings import Graph, OnnxNetwork, parse_graph, serialize_graph, trace_module, view_of
from tests.freerea_seval.strings.trace.onnx_files import exported, made, runtime_error

IMAGE = torch.zeros(1, 3, 16, 16)


def block(width: int, out: int, *, kernel: int = 3, groups: int = 1, act: nn.Module | None = None) -> nn.Sequential:
    conv = nn.Conv2d(width, out, kernel, padding=kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out), act or nn.ReLU())


class Squeeze(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(width, 2, 1), nn.ReLU(), nn.Conv2d(2, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.gate(x))


class Shuffle(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = block(4, 4, groups=4)

    def forward(self, x: Tensor) -> Tensor:
        first, second = x.chunk(2, 1)
        x = torch.cat([first, self.body(second)], 1)
        n, c, h, w = x.shape
        return x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


class Unet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.body = block(3, 4), nn.Conv2d(4, 8, 3, 2, 1)
        self.up, self.head = nn.ConvTranspose2d(8, 4, 2, 2), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.down(x)
        y = self.body(x)
        return self.head(torch.cat([x, self.up(y)], 1)), F.interpolate(y, scale_factor=2, mode="bilinear")


class Language(nn.Module):
    """A causal language model whose head shares the weights of its embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.norm = nn.Embedding(20, 16), nn.LayerNorm(16)
        self.mixed, self.out, self.last = nn.Linear(16, 48), nn.Linear(16, 16), nn.LayerNorm(16)
        self.hidden = nn.Sequential(nn.Linear(16, 24), nn.GELU(), nn.Linear(24, 16))
        self.head = nn.Linear(16, 20, bias=False)
        self.head.weight = self.table.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.table(tokens)
        parts = self.mixed(self.norm(x)).chunk(3, -1)
        query, key, value = (part.view(1, 6, 2, 8).transpose(1, 2) for part in parts)
        x = x + self.out(F.scaled_dot_product_attention(query, key, value, is_causal=True).transpose(1, 2).flatten(2))
        head: Tensor = self.head(self.last(x + self.hidden(x)))
        return head


def activations() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(3, 4, 1), nn.ReLU6(), nn.SiLU(), nn.Hardswish(), nn.Hardsigmoid(), nn.GELU(), nn.Mish()),
        *(nn.GELU(approximate="tanh"), nn.LeakyReLU(0.1), nn.ELU(), nn.SELU(), nn.CELU(), nn.Softplus(), nn.Tanh()),
        *(nn.PReLU(4), nn.Hardtanh(), nn.LogSigmoid(), nn.Softmax(1), nn.LogSoftmax(1), nn.Dropout()),
    )


def norms() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(3, 4, 1), nn.GroupNorm(2, 4), nn.InstanceNorm2d(4, affine=True), nn.BatchNorm2d(4)),
        *(nn.BatchNorm2d(4, affine=False), nn.LayerNorm([4, 16, 16]), nn.LocalResponseNorm(3)),
    )


MODULES = {
    "activations": (activations, IMAGE),
    "norms": (norms, IMAGE),
    "pools": (
        lambda: nn.Sequential(nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(2, ceil_mode=True), nn.ReflectionPad2d(1)),
        IMAGE,
    ),
    "gate": (lambda: nn.Sequential(block(3, 4), Squeeze(4)), IMAGE),
    "shuffle": (lambda: nn.Sequential(block(3, 8), Shuffle(), Shuffle()), IMAGE),
    "unet": (Unet, IMAGE),
    "language": (Language, torch.zeros(1, 6, dtype=torch.int64)),
    "rows": (lambda: nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4), nn.Linear(4, 4, bias=False)), torch.zeros(1, 8)),
    "signal": (lambda: nn.Sequential(nn.Conv1d(3, 4, 3, dilation=2), nn.MaxPool1d(2)), torch.zeros(1, 3, 16)),
    "volume": (lambda: nn.Sequential(nn.Conv3d(3, 4, 3), nn.AdaptiveAvgPool3d(1)), torch.zeros(1, 3, 5, 5, 5)),
}


def graph_of(path: Path, inputs: Sequence[Tensor] | None = None) -> Graph:
    network = OnnxNetwork(path)
    return trace_module(network, network.example_inputs() if inputs is None else inputs)


def assert_same(graph: Graph, module: nn.Module, *inputs: Tensor) -> None:
    expected = trace_module(module, list(inputs))
    assert (graph.parameters, graph.macs) == (expected.parameters, expected.macs)
    functional, theirs = (serialize_graph(view_of(one, "functional")) for one in (graph, expected))
    assert functional == theirs
    assert parse_graph(serialize_graph(graph)) == graph


def with_statistics(module: nn.Module) -> nn.Module:
    """Give norms values that differ, as training does."""
    for index, norm in enumerate(m for m in module.modules() if isinstance(m, nn.modules.batchnorm._NormBase)):
        for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            if tensor is not None:
                nn.init.uniform_(tensor, 0.5, 1 + index)
    return module


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("name", MODULES)
def test_a_file_has_the_graph_of_the_module_and_the_outputs_of_onnx_runtime(
    name: str, trained: bool, tmp_path: Path
) -> None:
    build, inputs = MODULES[name]
    torch.manual_seed(0)
    module = with_statistics(build()) if trained else build()
    path = exported(module, [inputs], tmp_path / "m.onnx", opset_version=17)
    assert_same(graph_of(path), module, inputs)
    assert runtime_error(path) < 1e-5


@pytest.mark.slow
def test_a_file_of_torch_export_does_as_well(tmp_path: Path) -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.images, self.language = nn.Sequential(block(3, 4), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)), Language()
            self.table = nn.Parameter(torch.zeros(1, 1, 4))
            self.register_buffer("offset", torch.randn(4, 1, 1))

        def forward(self, x: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
            x = (self.images(x) + self.offset).flatten(2).transpose(1, 2)
            return torch.cat([self.table.expand(x.shape[0], -1, -1), x], 1), self.language(tokens)

    module, inputs = Both(), (IMAGE, torch.zeros(1, 6, dtype=torch.int64))
    path = exported(module, inputs, tmp_path / "m.onnx", dynamo=True, verbose=False)
    network = OnnxNetwork(path)
    assert network.restored == 2
    assert_same(trace_module(network, network.example_inputs()), module, *inputs)
    assert runtime_error(path) < 1e-5


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers_have_the_parameters_of_torch(kind: Any, tmp_path: Path) -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = kind(4, 5, num_layers=2, bidirectional=True)

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.layer(x)[0]
            return result

    module, inputs = Recurrent(), torch.zeros(3, 1, 4)
    path = exported(module, [inputs], tmp_path / "m.onnx")
    graph, expected = graph_of(path), trace_module(module, [inputs])
    assert (graph.parameters, graph.macs) == (expected.parameters, expected.macs)
    assert runtime_error(path) < 1e-5


def test_costs_of_a_file_are_those_of_the_module(tmp_path: Path) -> None:
    module = nn.Sequential(block(3, 4), block(4, 8), nn.Flatten(), nn.Linear(2048, 3))
    network = OnnxNetwork(exported(module, [IMAGE], tmp_path / "m.onnx"))
    ours, theirs = network_costs(network, network.example_inputs()), network_costs(module, [IMAGE])
    counters = 2 * 8  # num_batches_tracked, which a file does not have
    assert ours.buffer_bytes == theirs.buffer_bytes - counters
    assert ours.peak_inference_bytes == theirs.peak_inference_bytes - counters
    assert ours[:3] == theirs[:3]


def test_weights_are_not_read_and_need_not_be_there(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(768, 64), nn.ReLU(), nn.Linear(64, 3))
    model = onnx.load(str(exported(module, [IMAGE], tmp_path / "inline.onnx")))
    onnx.save_model(model, str(tmp_path / "m.onnx"), save_as_external_data=True, location="weights", size_threshold=64)
    (tmp_path / "weights").unlink()
    assert_same(graph_of(tmp_path / "m.onnx"), module, IMAGE)


def test_external_data_outside_of_the_folder_are_not_read(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(np.array([1, -1], np.int64).tobytes())
    path = made(
        folder / "m.onnx", [helper.make_node("Reshape", ["x", "shape"], ["y"])], {"x": [1, 4]}, {"shape": [1, -1]}
    )
    model = onnx.load(str(path))
    stored = model.graph.initializer[0]
    stored.ClearField("raw_data")
    stored.data_location = TensorProto.EXTERNAL
    stored.external_data.add(key="location", value="../secret")
    path.write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match=r"Reshape.*input 2 depends on what the network computes"):
        graph_of(path)


def test_the_batch_is_one_where_it_is_open_and_other_sizes_are_asked_for(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    names: dict[str, Any] = {"input_names": ["x"], "dynamic_axes": {"x": {0: "batch"}}}
    assert_same(graph_of(exported(module, [IMAGE], tmp_path / "batch.onnx", **names)), module, IMAGE)
    names["dynamic_axes"]["x"] |= {2: "height", 3: "width"}
    path = exported(module, [IMAGE], tmp_path / "sizes.onnx", **names)
    with pytest.raises(
        InputError, match=r"leaves dimension 2 \(height\) of its input x open; .* --input 1,3,SIZE,SIZE$"
    ):
        graph_of(path)
    larger = torch.zeros(2, 3, 20, 20)
    assert_same(graph_of(path, [larger.to("meta")]), module, larger)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([torch.zeros(1, 3, 8, 8)], "the input x of .* is 1x3x16x16, got 1x3x8x8"),
        (
            [torch.zeros(1, 3, 16, 16, dtype=torch.int64)],
            "the input x of .* is float32; write the dtype behind the sizes",
        ),
        ([IMAGE, IMAGE], "the inputs of .* are x; give one shape each"),
    ],
)
def test_inputs_that_are_not_those_of_the_file_are_refused(inputs: list[Tensor], message: str, tmp_path: Path) -> None:
    path = made(tmp_path / "m.onnx", [helper.make_node("Relu", ["x"], ["y"])], {"x": [1, 3, 16, 16]})
    with pytest.raises(InputError, match=message):
        graph_of(path, inputs)


def test_shapes_that_the_file_computes_are_constants(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "zero"], ["batch"]),
        helper.make_node("Unsqueeze", ["batch", "axes"], ["batches"]),
        helper.make_node("Concat", ["batches", "minus"], ["target"], axis=0),
        helper.make_node("Transpose", ["x"], ["nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["nchw", "w"], ["c"], auto_pad="SAME_UPPER", strides=[2, 2]),
        helper.make_node("Clip", ["c", "low", "high"], ["r"]),
        helper.make_node("ReduceMean", ["r", "hw"], ["m"], keepdims=1),
        helper.make_node("Reshape", ["m", "target"], ["f"]),
        helper.make_node("MatMul", ["f", "v"], ["p"]),
        helper.make_node("Add", ["p", "b"], ["y"]),
    ]
    stored = {
        **{"zero": np.int64(0), "axes": [0], "minus": [-1], "hw": [2, 3], "low": np.float32(0), "high": np.float32(6)},
        **{"w": np.ones((4, 3, 3, 3), np.float32), "v": np.ones((4, 5), np.float32), "b": np.ones(5, np.float32)},
    }
    path = made(tmp_path / "m.onnx", nodes, {"x": ["N", 8, 8, 3]}, stored)
    assert serialize_graph(graph_of(path)) == (
        "input[1x8x8x3] permute(dims=0:3:1:2) constant_pad_nd(pad=0:1:0:1)[1x3x9x9] conv(4,k3,s2,p0)"
        " hardtanh(max_val=6,min_val=0) mean(dim=2:3,keepdim=1) reshape linear(5,b) output"
    )
    assert runtime_error(path) == 0


@pytest.mark.parametrize(("condition", "kind"), [(True, "relu"), (False, "tanh")])
def test_the_branch_of_a_known_condition_runs(condition: bool, kind: str, tmp_path: Path) -> None:
    def branch(operator: str) -> onnx.GraphProto:
        result = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
        return helper.make_graph([helper.make_node(operator, ["x"], ["out"])], "branch", [], [result])

    node = helper.make_node("If", ["c"], ["y"], then_branch=branch("Relu"), else_branch=branch("Tanh"))
    path = made(tmp_path / "m.onnx", [node], {"x": [1, 2]}, {"c": np.array(condition)})
    assert serialize_graph(graph_of(path)) == f"input[1x2] {kind} output"


def test_identities_of_files_are_those_of_torch(tmp_path: Path) -> None:
    nodes = [helper.make_node("Identity", ["x"], ["i"]), helper.make_node("Relu", ["i"], ["y"])]
    assert serialize_graph(graph_of(made(tmp_path / "m.onnx", nodes, {"x": [1, 2]}))) == "input[1x2] alias relu output"


@pytest.mark.parametrize(
    ("operators", "domain", "message"),
    [
        (["Loop", "Scan", "Loop"], "", r"PyTorch: Loop \(2 nodes\), Scan \(1 node\); export the network without them$"),
        (["FusedConv"], "com.microsoft", r"PyTorch: com\.microsoft\.FusedConv \(1 node\);"),
        (["QLinearConv", "DequantizeLinear"], "", r"PyTorch: QLinearConv \(1 node\), DequantizeLinear \(1 node\);"),
    ],
)
def test_operations_without_a_counterpart_are_named_in_one_line(
    operators: list[str], domain: str, message: str, tmp_path: Path
) -> None:
    nodes = [helper.make_node(name, ["x"], [f"y{i}"], domain=domain) for i, name in enumerate(operators)]
    path = made(tmp_path / "m.onnx", nodes, {"x": [1]}, outputs=["y0"], domains=[domain] if domain else [])
    with pytest.raises(InputError, match=message) as error:
        OnnxNetwork(path)
    assert "\n" not in str(error.value)


def test_an_operation_that_fails_is_named(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("MatMul", ["r", "w"], ["y"], name="product")]
    path = made(tmp_path / "m.onnx", nodes, {"x": [1, 3]}, {"w": np.ones((4, 4), np.float32)})
    with pytest.raises(InputError, match=r"m\.onnx, MatMul product: .*3.*4"):
        graph_of(path)
    unsorted = [helper.make_node("Relu", ["z"], ["y"]), helper.make_node("Relu", ["x"], ["z"])]
    with pytest.raises(InputError, match=r"Relu Relu: nothing before it computes z"):
        graph_of(made(tmp_path / "n.onnx", unsorted, {"x": [1, 3]}))
