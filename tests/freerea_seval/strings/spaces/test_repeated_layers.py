"""Graphs, strings and costs of deep networks from shallow ones equal those of tracing the whole network."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from freerea_patch import Stack
from freerea_seval.costs import SpaceCosts, network_costs, network_counts
from freerea_seval.costs.published import operation_sums
from freerea_seval.costs.serving import serving_costs
from freerea_seval.strings import VIEWS, Graph, SpaceStrings, Spec, View, serialize_graph, view_of
from freerea_seval.strings.spaces import StackGraphs, StackStrings, traced_on_meta
from tests.freerea_patch.transformers_families import FAMILIES, family

SOURCE = Spec((1, 4))


class Residual(nn.Module):
    """A layer: a linear map and an activation beside the identity."""

    def __init__(self, width: int, activation: type[nn.Module]) -> None:
        super().__init__()
        self.linear, self.activation = nn.Linear(width, width), activation()
        self.register_buffer("factor", torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.activation(self.linear(x)) * self.factor
        return x + y


class Traces(StackGraphs):
    """Counts the traces of each number of layers."""

    def __init__(self) -> None:
        super().__init__(SOURCE, self.trace)
        self.traces: list[int] = []

    def trace(self, network: nn.Module, inputs: Sequence[Spec]) -> Graph:
        self.traces.append(sum(isinstance(module, Residual) for module in network.modules()))
        return traced_on_meta(network, inputs)


def toy(*counts: int, width: int = 6, odd: Any = lambda layer, count: False, kind: str = "toy") -> Stack:
    """Return a network with stages of layers, of which odd ones have another activation."""

    def make(numbers: Sequence[int]) -> nn.Module:
        with torch.device("meta"):
            layers: list[nn.Module] = [nn.Linear(4, width)]
            for count in numbers:
                layers += [Residual(width, nn.Tanh if odd(n, count) else nn.ReLU) for n in range(count)]
                layers += [nn.LayerNorm(width)]
            return nn.Sequential(*layers)

    return Stack((kind, width), kind, counts, make)


def sums(graph: Graph, buffers: int) -> Sequence[int]:
    return operation_sums(graph)


def whole(stack: Stack, source: Spec = SOURCE) -> Graph:
    return traced_on_meta(stack.make(stack.counts), [source])


@pytest.mark.parametrize("name", FAMILIES)
def test_strings_and_costs_of_families_equal_those_of_whole_networks(name: str) -> None:
    space = family(name)
    source = Spec((1, *space.input_shape), space.input_dtype)
    graphs = StackGraphs(source)
    strings = {view: StackStrings(view, source) for view in VIEWS}
    wholes = {genotype: whole(space.stack(genotype), source) for genotype in map(space.sample, map(Random, range(2)))}
    for genotype, graph in [*wholes.items()] * 2:  # the second time, nothing is checked
        stack = space.stack(genotype)
        assert graphs.graph(stack) == (graph, sum(buffer.nbytes for buffer in stack.make(stack.counts).buffers()))
        for view, reader in strings.items():
            assert reader.string(stack) == serialize_graph(view_of(graph, view))
        assert tuple(graphs.evaluate(stack, sums)) == operation_sums(graph)


@pytest.mark.parametrize("counts", [(), (0,), (1,), (2,), (3,), (4,), (9,), (1, 7), (7, 3), (5, 9), (4, 4, 11)])
def test_layers_of_any_numbers_of_stages_are_extended(counts: tuple[int, ...]) -> None:
    stack = toy(*counts)
    for view in VIEWS:
        reader = StackStrings(view, SOURCE)
        for _ in range(2):
            assert reader.string(stack) == serialize_graph(view_of(whole(stack), view))


def test_only_the_first_and_deeper_networks_of_a_kind_are_traced_whole() -> None:
    graphs = Traces()
    for counts in ((9,), (8,), (9,), (5,)):
        graphs.graph(toy(*counts))
        graphs.graph(toy(*counts, width=12))
    assert graphs.traces == [3, 9, 3]
    graphs.graph(toy(12))
    assert graphs.traces == [3, 9, 3, 12]


@pytest.mark.parametrize("odd", [lambda layer, count: layer % 2, lambda layer, count: layer % 4 == 3])
def test_layers_of_alternating_kinds_are_extended_by_patterns(odd: Any) -> None:
    graphs, reader = Traces(), StackStrings("executed", SOURCE)
    for counts in ((20,), (18,), (16,), (17,), (20,), (18,), (16,), (17,)):
        stack = toy(*counts, odd=odd)
        assert graphs.graph(stack)[0] == whole(stack)
        assert reader.string(stack) == serialize_graph(whole(stack))
        assert list(graphs.evaluate(stack, sums)) == list(operation_sums(whole(stack)))
    traced = list(graphs.traces)
    for counts in ((20,), (18,), (16,), (17,)):
        assert graphs.graph(toy(*counts, odd=odd))[0] == whole(toy(*counts, odd=odd))
    assert graphs.traces == traced  # nothing more


@pytest.mark.parametrize(
    "odd",
    [
        lambda layer, count: layer == 4,  # which three layers do not show
        lambda layer, count: layer % 2,
        lambda layer, count: layer == count - 1,
        lambda layer, count: layer < count - 5,  # which depends on the number of layers
    ],
    ids=["fifth", "alternating", "last", "before the last five"],
)
def test_layers_that_differ_are_traced(odd: Any) -> None:
    graphs, reader = Traces(), StackStrings("executed", SOURCE)
    for counts in ((6,), (9,), (8,), (9,)):
        stack = toy(*counts, odd=odd)
        assert graphs.graph(stack)[0] == whole(stack)
        assert reader.string(stack) == serialize_graph(whole(stack))
        total = graphs.evaluate(stack, lambda graph, _: (graph.parameters,))
        assert list(total) == [sum(p.numel() for p in stack.make(counts).parameters())]


def test_numbers_that_do_not_grow_evenly_are_those_of_the_graph() -> None:
    graphs = StackGraphs(SOURCE)
    for count in (6, 8, 7):
        values = graphs.evaluate(toy(count), lambda graph, _: (len(graph) ** 2,))
        assert list(values) == [len(whole(toy(count))) ** 2]


def test_a_tied_weight_counts_once_however_many_layers_share_it() -> None:
    def make(counts: Sequence[int]) -> nn.Module:
        with torch.device("meta"):
            return nn.Sequential(*[Residual(4, nn.ReLU)] * counts[0], nn.LayerNorm(4))

    stack = Stack("tied", "tied", (7,), make)
    graphs = StackGraphs(SOURCE)
    for _ in range(2):
        assert graphs.graph(stack)[0] == whole(stack)
        assert graphs.graph(stack)[0].parameters == 4 * 4 + 4 + 2 * 4


def test_costs_of_a_deep_language_model_are_those_of_the_network() -> None:
    space = family("llama")
    costs = SpaceCosts(space, batch_size=2)
    sizes = "hidden_size=32,num_attention_heads=4,num_key_value_heads=2,intermediate_size=24"
    for layers in (6, 5, 6):
        genotype = f"num_hidden_layers={layers},{sizes}"
        network, tokens = space.build(genotype), [torch.zeros(1, 4, dtype=torch.int64)]
        counted, ours = network_costs(network, tokens), costs.counts(genotype)
        assert ours == network_counts(network, tokens)
        assert ours.params == sum(parameter.numel() for parameter in network.parameters())
        assert costs.inference_memory(genotype) == counted.peak_inference_bytes
        assert costs.activations(genotype) == counted.activation_bytes
        two = network_costs(network, [torch.zeros(2, 4, dtype=torch.int64)])
        assert costs.training_memory(genotype) == two.peak_training_bytes
        served = costs.serving(genotype)
        assert served == serving_costs(*costs._graph(genotype, costs._inference))
        assert (
            served.kv_cache_bytes == layers * 2 * 4 * (2 * 8) * 2
        )  # keys and values, tokens, heads of features, bytes


@pytest.mark.parametrize("view", VIEWS)
def test_a_space_reads_its_stacks(view: View) -> None:
    space = family("vit")
    genotype = "num_hidden_layers=6,hidden_size=16,num_attention_heads=2,patch_size=4"
    (string,) = SpaceStrings(space, view).strings([genotype])
    assert "6*{ layer_norm linear(b) reshape[1x17x2x8]" in string
