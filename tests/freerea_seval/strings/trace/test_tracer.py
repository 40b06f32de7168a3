"""From modules to graphs: unusual networks, with the autograd walk as the oracle."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from freerea_patch import InputError, SizeSpace, TopologySpace
from freerea_seval.strings.graph.ir import Weight
from freerea_seval.strings.text.parse import parse_graph as read
from freerea_seval.strings.text.serialize import serialize_graph as write
from freerea_seval.strings.trace.tracer import trace_module
from tests.freerea_seval.costs.module_counts import network_cost
from tests.freerea_seval.strings.trace.tracing import Function, is_seen_by_autograd, string_of, traced

CELLS = TopologySpace().genotypes()


class Pair(NamedTuple):
    first: Tensor
    second: Tensor


@dataclass
class Result:
    value: Tensor
    more: Mapping[str, Any]


def test_inputs_and_results_may_be_many_and_nested() -> None:
    def many(x: Tensor, y: Tensor) -> Any:
        return {"a": (torch.relu(x), [x.mean(), 3]), "b": None, "c": y}

    assert string_of(many, torch.ones(1, 4), torch.ones(2)) == "input[1x4] input[2] relu<-2 mean<-3 output<-2,1,3"

    def nested(batch: Any) -> Any:
        return Result(batch["x"] + batch["more"][0], {"pair": Pair(batch["more"][1].first, batch["x"])})

    arguments = {"x": torch.ones(4), "more": [torch.ones(4), Pair(torch.ones(2), torch.ones(3))], "flag": True}
    graph = traced(Function(nested), arguments)
    assert write(graph) == "input[4] input[4] input[2] input[3] add<-4,3 output<-1,3,5"
    assert traced(Function(nested), batch=arguments) == graph


def test_inputs_may_be_named_and_some_may_be_no_tensors() -> None:
    graph = traced(
        Function(lambda x, scale, mode: x * scale if mode == "on" else x), x=torch.ones(4), scale=2, mode="on"
    )
    assert write(graph) == "input[4] mul(2) output"


def test_no_parameters_and_no_operations() -> None:
    assert string_of(lambda x: x) == "input[1x4] output"
    assert string_of(lambda x: torch.ones(2)).split()[-1] == "output"
    assert trace_module(Function(lambda: torch.ones(2)), []).macs == 0


def test_the_same_tensor_twice_is_two_inputs() -> None:
    x = torch.ones(1, 4)
    assert string_of(lambda x, y: x + y, x, x) == "input[1x4] input[1x4] add output"


def test_shared_modules_and_tied_weights_are_counted_once() -> None:
    layer = nn.Linear(4, 4)
    graph = traced(nn.Sequential(layer, nn.ReLU(), layer), torch.ones(2, 4))
    assert graph.parameters == 20
    assert graph.macs == 2 * 32
    assert graph.nodes[3].weights == (Weight((4, 4), tied=1), Weight((4,), tied=1))

    embedding = nn.Embedding(10, 4)
    head = nn.Linear(4, 10, bias=False)
    head.weight = embedding.weight
    graph = traced(Function(lambda x: head(embedding(x)), a=embedding, b=head), torch.zeros(1, 3, dtype=torch.long))
    assert graph.parameters == 40
    assert graph.nodes[2].weights == (Weight((10, 4), tied=1),)


def written_to(x: Tensor) -> Tensor:
    x[:, 0] = 0
    return x.relu()


def written_to_a_piece(x: Tensor) -> Tensor:
    for piece in x.chunk(2, 1):
        piece.add_(1)
    return x.relu()


def written_to_a_row(x: Tensor) -> Tensor:
    row, *_ = x.unbind(1)
    row.mul_(2)
    return x.relu()


@pytest.mark.parametrize(
    ("function", "string"),
    [
        (lambda x: x.sub_(0.5).relu(), "input[1x4] sub(0.5) relu output"),
        (lambda x: x.relu_().tanh(), "input[1x4] relu tanh output"),
        (written_to, "input[1x4] select(dim=1,index=0) fill(value=0)[1]<- update<-3,1 relu output"),
        (
            written_to_a_piece,
            "input[1x4] split(dim=1,sizes=2) add(1) update[1x4]<-3,1 as_strided(offset=2)[1x2] add(1)"
            " update(offset=2)[1x4]<-3,1 relu output",
        ),
        (written_to_a_row, "input[1x4] unbind(dim=1) mul(2) update<-3,1 relu output"),
        (lambda x: torch.from_numpy(x.numpy()).relu(), "input[1x4] constant[1x4]<- relu output"),
    ],
)
def test_what_works_in_place_on_its_input_or_leaves_torch_has_a_graph(function: Any, string: str) -> None:
    x = torch.ones(1, 4)
    assert write(trace_module(Function(function), [x])) == string
    assert torch.equal(x, torch.ones(1, 4))


def test_a_saved_value_that_was_written_to_is_no_failure_of_the_network() -> None:
    def late(x: Tensor) -> Tensor:
        y = x.sigmoid()
        z = y**2
        y.add_(1)
        return z * y

    assert string_of(late) == "input[1x4] sigmoid pow(exponent=2) add(1)<-2 mul output"


def test_control_flow_on_shapes_and_on_values() -> None:
    def on_shape(x: Tensor) -> Tensor:
        return torch.relu(x) if x.shape[0] > 1 else torch.tanh(x)

    assert string_of(on_shape, torch.ones(1, 4)) == "input[1x4] tanh output"
    assert string_of(on_shape, torch.ones(2, 4)) == "input[2x4] relu output"
    # Identities and attention pass values on, so the way is the network's own.
    same = nn.Identity()

    def on_value(x: Tensor) -> Tensor:
        y = F.scaled_dot_product_attention(x, x, same(x))
        return torch.relu(x) if y.sum() > 0 else torch.tanh(x)

    ways = [traced(Function(on_value, same=same), value * torch.ones(1, 2, 4)).nodes[-2].kind for value in (1, -1)]
    assert ways == ["relu", "tanh"]


def test_a_network_of_depth_5000_needs_no_recursion_and_no_time() -> None:
    depth = 5000
    assert depth > sys.getrecursionlimit()
    network = nn.Sequential(*(nn.ReLU() for _ in range(depth)))
    start = time.process_time()
    graph = trace_module(network, [torch.ones(1, 4)])
    string = write(graph)
    assert time.process_time() - start < 5
    assert string == f"input[1x4] {depth}*relu output"
    assert read(string) == graph


def test_frozen_parameters_are_parameters() -> None:
    frozen = nn.Sequential(nn.Linear(4, 4).requires_grad_(False), nn.Linear(4, 2))
    free = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    assert not is_seen_by_autograd(frozen, torch.ones(1, 4))
    assert traced(frozen, torch.ones(1, 4)) == traced(free, torch.ones(1, 4))


def test_unused_parameters_are_weights_of_unused() -> None:
    graph = traced(Function(lambda x: x, layer=nn.Linear(4, 3)), torch.ones(1, 4))
    assert write(graph) == "input[1x4] unused<-w3x4,w3 output<-2"


def test_a_parameter_may_be_a_result_and_a_part_of_one_an_input() -> None:
    layer = nn.Linear(4, 6)
    graph = traced(
        Function(lambda x: (x @ layer.weight[:3].t(), x @ layer.weight.t(), layer.bias), layer=layer), torch.ones(1, 4)
    )
    assert graph.macs == 4 * 3 + 4 * 6
    assert graph.nodes[-1].weights == (Weight((6,)),)


def test_buffers_are_constants() -> None:
    class Shifted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("shift", torch.ones(4))

        def forward(self, x: Tensor) -> Tensor:
            return x + self.shift  # type: ignore[operator]

    assert write(traced(Shifted(), torch.ones(1, 4))) == "input[1x4] constant[4]<- add output"


def test_integer_inputs_are_inputs() -> None:
    graph = traced(nn.Embedding(10, 4), torch.zeros(1, 3, dtype=torch.long))
    assert write(graph) == "input[1x3:int64] embedding(4,num=10) output"
    assert is_seen_by_autograd(nn.Embedding(10, 4), torch.zeros(1, 3, dtype=torch.long))


@pytest.mark.parametrize(("kind", "gates"), [(nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1)])
def test_recurrent_networks_are_their_steps_which_cost_the_same_on_every_device(
    kind: type[nn.Module], gates: int
) -> None:
    network = kind(4, 6, num_layers=2, batch_first=True)
    graph = traced(network, torch.ones(1, 5, 4))
    assert graph.macs == 5 * gates * 6 * (4 + 6 + 6 + 6)
    meta = traced(network.to("meta"), torch.ones(1, 5, 4, device="meta"))
    assert (meta.parameters, meta.macs) == (graph.parameters, graph.macs)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_precisions(dtype: torch.dtype) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2)).to(dtype)
    graph = traced(network, torch.ones(1, 3, 4, 4, dtype=dtype))
    single = traced(network.float(), torch.ones(1, 3, 4, 4))
    assert [node.kind for node in graph] == [node.kind for node in single]
    assert (graph.parameters, graph.macs) == (single.parameters, single.macs)
    assert graph.nodes[-2].outputs[0].dtype == str(dtype).removeprefix("torch.")


@pytest.mark.parametrize("index", [0, 1462, 11111])
def test_a_network_on_the_meta_device_has_the_same_graph(index: int) -> None:
    network = TopologySpace().build(CELLS[index])
    graph = traced(network, torch.ones(1, 3, 32, 32))
    # Multiplication by zero is by a number in the network's own code, which needs no value.
    meta = torch.ones(1, 3, 32, 32, device="meta")
    assert trace_module(network.to("meta"), [meta]) == graph


@pytest.mark.parametrize("batch_first", [True, False])
def test_a_transformer_shows_its_operations_not_the_fused_layer(batch_first: bool) -> None:
    layer = nn.TransformerEncoderLayer(8, 2, dim_feedforward=16, batch_first=batch_first)
    graph = traced(layer, torch.ones(5, 3, 8))
    kinds = [node.kind for node in graph]
    assert {"linear", "attention", "layer_norm", "add"} <= set(kinds)
    assert kinds.count("linear") == 4
    length = 3 if batch_first else 5
    assert graph.macs == 15 * (8 * 24 + 8 * 8 + 2 * 8 * 16) + 15 * 8 * length * 2


def test_attention_that_returns_its_weights_is_matrix_products() -> None:
    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    graph = traced(Function(lambda x: attention(x, x, x)[0], attention=attention), torch.ones(1, 5, 8))
    assert [node.outputs[0].shape[-2:] for node in graph if node.kind == "matmul"] == [(5, 5), (5, 4)]


@pytest.mark.parametrize("genotype", [*CELLS[:3], CELLS[7777]])
def test_parameters_and_multiply_adds_add_up_to_the_networks(genotype: str) -> None:
    space = TopologySpace("cifar100")
    network = space.build(genotype)
    graph = traced(network, torch.ones(1, *space.input_shape))
    cost = network_cost(network, space.input_shape)
    assert graph.parameters == cost.params
    # NATS-Bench's count has a bias as one multiply-add an output.
    assert graph.macs == cost.macs - space.classes


def test_different_cells_have_different_strings() -> None:
    space, image = TopologySpace(), torch.ones(1, 3, 32, 32)
    cells = Random(5).sample(CELLS, 12)
    assert len({write(trace_module(space.build(cell), [image])) for cell in cells}) == len(cells)
    sizes = Random(1).sample(list(SizeSpace().genotypes()), 12)
    assert len({write(trace_module(SizeSpace().build(size), [image])) for size in sizes}) == len(sizes)


def test_weights_do_not_change_the_graph() -> None:
    network = TopologySpace().build(CELLS[7])
    before = trace_module(network, [torch.ones(1, 3, 32, 32)])
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(float("nan"))
    assert trace_module(network, [torch.ones(1, 3, 32, 32)]) == before


def test_a_language_model_of_seven_billion_parameters_needs_no_weights() -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    with torch.device("meta"):
        network = LlamaForCausalLM(LlamaConfig(use_cache=False))
    start = time.process_time()
    graph = trace_module(network, {"input_ids": torch.zeros(1, 128, dtype=torch.long, device="meta")})
    string = write(graph)
    assert time.process_time() - start < 30
    assert graph.parameters == sum(parameter.numel() for parameter in network.parameters()) == 6_738_415_616
    # All weights but the embedding and the norms once a token, and attention.
    products = 6_738_415_616 - 32_000 * 4096 - 65 * 4096
    assert graph.macs == 128 * products + 32 * 2 * 128 * 128 * 4096
    assert len(string.split()) < 200
    assert read(string) == graph


@pytest.mark.parametrize("fail", [False, True])
def test_network_inputs_and_global_state_come_back_unharmed(fail: bool) -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("calls", torch.zeros(3))
            self.register_buffer("last", torch.zeros(1, 4))
            self.norm = nn.BatchNorm1d(4)
            self.frozen = nn.BatchNorm1d(4).eval()
            self.same = nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            self.calls.add_(x.detach().sum() * 0 + 1)  # type: ignore[operator]
            self.last = x * 2
            y = self.frozen(self.norm(self.same(x)))
            if fail:
                raise RuntimeError("no\nmore")
            return x.mul_(2) + y  # type: ignore[no-any-return]

    network = Counting()
    state = {name: value.clone() for name, value in network.state_dict().items()}
    x = torch.ones(1, 4)
    attention = F.scaled_dot_product_attention
    torch.backends.mha.set_fastpath_enabled(True)
    try:
        trace_module(network, [x])
    except InputError as error:
        assert fail
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert not fail
    assert network.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert (network.training, network.norm.training, network.frozen.training) == (True, True, False)
    assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())
    assert not any(module._forward_hooks for module in network.modules())
    assert not x.requires_grad
    assert torch.equal(x, torch.ones(1, 4))
    assert F.scaled_dot_product_attention is attention
    assert torch.backends.mha.get_fastpath_enabled()
    assert torch.backends.mkldnn.enabled
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_work_under_no_grad_and_inference_mode_is_seen(device: str) -> None:
    layer = nn.Linear(4, 4).to(device)
    expected = "input[1x4] linear(b) output"
    for decorator in (torch.no_grad(), torch.inference_mode()):
        network = Function(decorator(lambda x: layer(x)), layer=layer)
        assert write(traced(network, torch.ones(1, 4, device=device))) == expected


def value_decides(x: Tensor) -> Tensor:
    return torch.relu(x) if x.sum() > 0 else x


META = torch.ones(1, 4, device="meta")


@pytest.mark.parametrize(
    ("network", "inputs", "message"),
    [
        ("resnet", [META], r"^expected a network \(torch.nn.Module\), got str; build it first$"),
        (
            nn.Linear(3, 2),
            [torch.ones(1, 4)],
            r"cannot run on inputs of shape 1x4 \(aten::addmm: mat1 and .*\); check both$",
        ),
        (
            Function(lambda x: x.lost),
            [torch.ones(2)],
            r"of shape 2 \('Tensor' object has no attribute 'lost'\); check both$",
        ),
        (Function(lambda x: 1 // 0), {"x": torch.ones(2)}, "of shape 2 .*by zero"),
        (
            Function(value_decides),
            [META],
            r"\(aten::_local_scalar_dense: .*\); if it needs the values of tensors, build it off the meta device$",
        ),
        (Function(lambda x: x * x.max().item()), [META], "aten::_local_scalar_dense: .* build it off the meta device$"),
        (Function(lambda x: x[x > 0]), [META], "aten::index: .* build it off the meta device$"),
    ],
)
def test_what_cannot_be_converted_says_so_in_one_line(network: Any, inputs: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        trace_module(network, inputs)
    assert "\n" not in str(caught.value)


def test_an_exception_that_the_network_catches_is_no_failure() -> None:
    def catches(x: Tensor) -> Tensor:
        try:
            return torch.mm(x, x)
        except RuntimeError:
            return torch.relu(x)

    assert string_of(catches, torch.ones(1, 4)) == "input[1x4] relu output"
