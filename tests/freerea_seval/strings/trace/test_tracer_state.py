"""A module comes back as it was, and what it holds between two runs does not show in its graph."""

from __future__ import annotations

import copy
from threading import Lock
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from freerea_patch import InputError
from freerea_seval.costs import network_costs
from freerea_seval.strings import encode_module, serialize_graph, trace_module
from tests.freerea_seval.strings.trace.tracing import Function

IMAGE = torch.zeros(1, 3, 8, 8)


class Cache(nn.Module):
    """Attention on all keys so far, in an attribute, a list, and a buffer that is None at first."""

    def __init__(self, *holds: Any) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)
        self.keys: Tensor | None = None
        self.steps: list[int] = []
        self.holds = holds
        self.count: Tensor | None
        self.register_buffer("count", None)

    def forward(self, x: Tensor) -> Any:
        keys = self.layer(x)
        self.keys = keys if self.keys is None else torch.cat([self.keys, keys], 1)
        self.steps.append(len(self.steps))
        self.count = torch.ones(1) if self.count is None else self.count + 1
        return keys @ self.keys.transpose(1, 2)


@pytest.mark.parametrize("holds", [(), (Lock(),)], ids=["a module that can be copied", "one that cannot"])
def test_a_cache_is_as_empty_as_before(holds: tuple[Any, ...]) -> None:
    network = Cache(*holds)
    steps = network.steps
    for _ in range(2):
        assert trace_module(network, [torch.zeros(1, 4, 8)]).macs == 4 * 8 * 8 + 4 * 8 * 4
        assert network_costs(network, [torch.zeros(1, 4, 8)]).macs == 384
        assert (network.keys, network.steps, network.count) == (None, [], None)
        assert network.steps is steps
        assert network.training


class Overwrites(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((3,), 5.0))

    def forward(self, x: Tensor) -> Tensor:
        self.weight.data.clamp_(max=1.0)
        return x * self.weight


class Resizes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(0))
        self.norm = nn.BatchNorm1d(4)

    def forward(self, x: Tensor) -> Tensor:
        assert isinstance(self.seen, Tensor)
        self.seen.resize_(x.shape).copy_(x)
        result: Tensor = self.norm(x)
        return result


def prepared_for_quantisation() -> nn.Module:
    quantization: Any = torch.ao.quantization
    network: Any = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    network.qconfig = quantization.get_default_qat_qconfig("fbgemm")
    prepared: nn.Module = quantization.prepare_qat(network.train())
    return prepared


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("make", "x"),
    [
        (lambda: nn.Embedding(20, 8, max_norm=1.0), torch.arange(6)[None]),
        (lambda: nn.EmbeddingBag(20, 8, max_norm=1.0), torch.arange(6).view(2, 3)),
        (Overwrites, torch.zeros(2, 3)),
        (Resizes, torch.ones(2, 4)),
        (prepared_for_quantisation, IMAGE),
        (lambda: parametrizations.spectral_norm(nn.Linear(4, 3)), torch.ones(2, 4)),
        (lambda: nn.utils.weight_norm(nn.Linear(4, 3)), torch.ones(2, 4)),
        (lambda: nn.BatchNorm1d(4), torch.ones(2, 4)),
    ],
)
def test_parameters_and_buffers_are_unchanged(make: Any, x: Tensor) -> None:
    torch.manual_seed(0)
    network = make()
    before = copy.deepcopy(network.state_dict())
    buffers = dict(network.named_buffers())
    for training in (False, True):
        graph = trace_module(network, [x], training=training)
        assert len(graph) > 2
        after = network.state_dict()
        assert before.keys() == after.keys()
        assert all(before[name].shape == after[name].shape for name in before)
        assert all(torch.equal(before[name], after[name]) for name in before)
        assert all(buffers[name] is buffer for name, buffer in network.named_buffers())


def test_hooks_that_a_run_registers_are_removed() -> None:
    class Hooked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.ready, self.seen = nn.Linear(4, 4), False, set[str]()

        def forward(self, x: Tensor) -> Any:
            if not self.ready:
                self.layer.register_forward_hook(lambda module, inputs, output: output.relu())
                self.ready = True
            self.seen.add("run")
            return self.layer(x)

    network = Hooked()
    for _ in range(2):
        assert encode_module(network, [torch.zeros(2, 4)]) == "input[2x4] linear(b) relu output"
        assert (network.ready, len(network.layer._forward_hooks), network.seen) == (False, 0, set())


def test_a_lazy_module_stays_lazy() -> None:
    lazy = nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.ReLU(), nn.Flatten(), nn.LazyLinear(5))
    initialised = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5))
    for _ in range(2):
        assert trace_module(lazy, [IMAGE]) == trace_module(initialised, [IMAGE])
        assert isinstance(lazy[0], nn.LazyConv2d)
        assert lazy[0].has_uninitialized_params()
    initialised.load_state_dict(lazy.state_dict() | initialised.state_dict())
    lazy(IMAGE)  # its own initialisation still works
    assert type(lazy[4]) is nn.Linear


def test_an_uninitialised_parameter_is_one_line() -> None:
    class Unfinished(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.UninitializedParameter()

        def forward(self, x: Tensor) -> Tensor:
            return x * self.weight

    with pytest.raises(InputError, match="uninitialized parameter"):
        trace_module(Unfinished(), [torch.zeros(1)])


def test_a_module_made_in_inference_mode() -> None:
    with torch.inference_mode():
        network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
        network(IMAGE)
    assert encode_module(network, [IMAGE]) == "input[1x3x8x8] conv(4,k3,p0,b) bn output"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_frozen_torchscript_has_its_weights() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2)).eval()
    frozen = torch.jit.freeze(torch.jit.script(network))
    assert encode_module(frozen, [IMAGE]) == encode_module(network, [IMAGE])
    assert trace_module(frozen, [IMAGE]).parameters == sum(p.numel() for p in network.parameters())
    within = nn.Sequential(frozen, nn.Dropout(), nn.BatchNorm1d(2))
    assert encode_module(within, [IMAGE]) == encode_module(nn.Sequential(network, nn.BatchNorm1d(2)), [IMAGE])
    assert within.training


def test_an_exported_module_has_the_mode_that_it_was_exported_in() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Dropout()).eval()
    exported = torch.export.export(network, (IMAGE,)).module()
    assert encode_module(exported, [IMAGE]) == encode_module(network, [IMAGE])
    behind = nn.Sequential(exported, nn.Dropout(), nn.BatchNorm2d(4))
    assert encode_module(behind, [IMAGE]).endswith("relu bn output")
    assert behind[1].training


def test_modules_that_a_function_calls_come_back() -> None:
    norm, identity = nn.BatchNorm1d(4), nn.Identity()
    network = Function(lambda x: identity(norm(x)), norm=norm, identity=identity)
    assert serialize_graph(trace_module(network, [torch.ones(2, 4)])) == "input[2x4] bn alias output"
    assert norm.training


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_is_compiled_runs_as_written() -> None:
    compiled = torch.compile(lambda x: x.relu().tanh())
    assert encode_module(Function(lambda x: compiled(x)), [torch.zeros(2, 4)]) == "input[2x4] relu tanh output"


@pytest.mark.filterwarnings("ignore")
def test_operators_that_take_functions() -> None:
    from torch.nn.attention.flex_attention import flex_attention

    attention = Function(lambda q: flex_attention(q, q, q))
    graph = trace_module(attention, [torch.zeros(1, 2, 16, 8)])
    assert serialize_graph(graph) == "input[1x2x16x8] flex_attention(heads=2)<-1,1,1 output"
    assert graph.macs == 2 * 2 * 16 * 16 * 8
    condition = Function(lambda x: torch.cond(x.sum() > 0, lambda y: y.relu(), lambda y: y.tanh(), (x,)))
    assert encode_module(condition, [torch.zeros(2, 4)], "functional") == "input[2x4] tanh output"
    assert encode_module(condition, [torch.ones(2, 4)], "functional") == "input[2x4] relu output"
    mapped: Any = torch._higher_order_ops.map
    with pytest.raises(InputError, match="higher-order operator map_impl cannot be traced; those that can are flex_a"):
        trace_module(Function(lambda x: mapped(lambda y: y.relu(), x)), [torch.zeros(2, 4)])


@pytest.mark.parametrize("layout", [torch.strided, torch.jagged])
@pytest.mark.filterwarnings("ignore")
def test_nested_tensors_are_refused(layout: torch.layout) -> None:
    batch = torch.nested.nested_tensor([torch.zeros(2, 4), torch.zeros(3, 4)], layout=layout)
    with pytest.raises(InputError, match="a nested tensor cannot be traced; expected dense tensors"):
        trace_module(nn.Linear(4, 3), [batch])
    within = Function(lambda x: torch.nested.nested_tensor([x, x], layout=layout).to_padded_tensor(0.0).relu())
    try:
        trace_module(within, [torch.zeros(2, 4)])
    except InputError as error:
        assert "nested tensor cannot be traced" in str(error)  # noqa: PT017 - one layout copies the values


@pytest.mark.parametrize("where", ["input", "buffer", "between"])
def test_sparse_tensors_are_refused(where: str) -> None:
    class Sparse(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("matrix", torch.eye(4).to_sparse())

        def forward(self, x: Tensor) -> Any:
            if where == "buffer":
                return torch.sparse.mm(self.matrix, x)
            return x.to_dense() if where == "input" else x.to_sparse().to_dense()

    with pytest.raises(InputError, match="cannot be traced"):
        trace_module(Sparse(), [torch.eye(4).to_sparse() if where == "input" else torch.eye(4)])
