"""The canonical order of operations, against all orders of small graphs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import permutations
from random import Random
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freerea_seval.strings.graph.canonical_order import canonical_order


class Dag(NamedTuple):
    """What :func:`canonical_order` gets; node 0 is the input."""

    labels: list[str]
    inputs: list[list[tuple[int, int]]]
    commutative: list[bool]

    def order(self) -> list[int]:
        return canonical_order(self.labels, self.inputs, self.commutative, [0])


def dag(*nodes: tuple[str, list[int]]) -> Dag:
    """Make a graph of an input and these nodes: ``add`` is commutative."""
    inputs = [[], *([(source, 0) for source in sources] for _, sources in nodes)]
    labels = ["input", *(label for label, _ in nodes)]
    return Dag(labels, inputs, [label == "add" for label in labels])


@st.composite
def dags(draw: st.DrawFn, most: int = 12) -> Dag:
    """Draw a graph whose last node is reached from all others; few labels, so that branches are often alike."""
    nodes: list[tuple[str, list[int]]] = []
    for index in range(1, draw(st.integers(1, most)) + 1):
        label, terms = draw(st.sampled_from([("add", 2), ("add", 3), ("sub", 2), ("conv", 1), ("relu", 1)]))
        nodes.append((label, [draw(st.integers(0, index - 1)) for _ in range(terms)]))
    unread = sorted(set(range(len(nodes) + 1)) - {source for _, sources in nodes for source in sources})
    last = draw(st.sampled_from(["add", "cat"]))
    return dag(*nodes, (last, unread), ("output", [len(nodes) + 1]))


def written(graph: Dag, order: Sequence[int]) -> tuple[object, ...]:
    """Return what a graph reads like in an order."""
    position = {node: index for index, node in enumerate(order)}
    lines = []
    for node in order:
        inputs = [(position[source], port) for source, port in graph.inputs[node]]
        lines.append((graph.labels[node], tuple(sorted(inputs) if graph.commutative[node] else inputs)))
    return tuple(lines)


def renumbered(graph: Dag, random: Random) -> Dag:
    """Return the same graph in another topological order, with the terms of sums shuffled."""
    order: list[int] = []
    left = list(range(len(graph.labels)))
    while left:
        ready = [node for node in left if all(source in order for source, _ in graph.inputs[node])]
        order.append(random.choice(ready) if order else 0)
        left.remove(order[-1])
    position = {node: index for index, node in enumerate(order)}
    inputs = [[(position[source], port) for source, port in graph.inputs[node]] for node in order]
    commutative = [graph.commutative[node] for node in order]
    for sources, unordered in zip(inputs, commutative, strict=True):
        if unordered:
            random.shuffle(sources)
    return Dag([graph.labels[node] for node in order], inputs, commutative)


def orders(graph: Dag) -> Iterator[tuple[int, ...]]:
    """Yield all topological orders that begin with the input."""
    for rest in permutations(range(1, len(graph.labels))):
        order = (0, *rest)
        position = {node: index for index, node in enumerate(order)}
        if all(position[source] < position[node] for node in order for source, _ in graph.inputs[node]):
            yield order


def naive_form(graph: Dag) -> tuple[object, ...]:
    """Return the least of all that a graph can read like, which isomorphic graphs have in common."""
    return min((written(graph, order) for order in orders(graph)), key=repr)


@settings(deadline=None)
@given(dags())
def test_the_order_is_topological_with_every_node_once(graph: Dag) -> None:
    order = graph.order()
    assert sorted(order) == list(range(len(graph.labels)))
    position = {node: index for index, node in enumerate(order)}
    assert all(position[source] < position[node] for node in order for source, _ in graph.inputs[node])
    assert (order[0], order[-1]) == (0, len(order) - 1)


@settings(max_examples=300, deadline=None)
@given(dags(), st.randoms(use_true_random=False))
def test_a_graph_reads_the_same_however_it_was_numbered(graph: Dag, random: Random) -> None:
    other = renumbered(graph, random)
    assert written(other, other.order()) == written(graph, graph.order())


@settings(max_examples=60, deadline=None)
@given(dags(most=4), dags(most=4), st.randoms(use_true_random=False))
def test_graphs_read_the_same_if_and_only_if_they_are_isomorphic(one: Dag, other: Dag, random: Random) -> None:
    other = random.choice([other, renumbered(one, random)])
    same = naive_form(one) == naive_form(other)
    assert (written(one, one.order()) == written(other, other.order())) == same


def test_all_numberings_of_a_graph_read_the_same() -> None:
    graph = dag(("conv", [0]), ("conv", [0]), ("relu", [1]), ("relu", [2]), ("add", [1, 2]), ("add", [3, 4, 5]))
    forms = set()
    for order in orders(graph):
        position = {node: index for index, node in enumerate(order)}
        inputs = [[(position[source], port) for source, port in graph.inputs[node]] for node in order]
        other = Dag([graph.labels[node] for node in order], inputs, [graph.commutative[node] for node in order])
        if other.labels[-1] == "add":
            forms.add(written(other, other.order()))
    assert len(forms) == 1


def test_equal_branches_that_meet_twice_come_in_one_order() -> None:
    """The order of two equal convolutions decides the order of the operations that read them."""
    nodes = [("conv", [0]), ("conv", [0]), ("tanh", [1]), ("tanh", [2]), ("add", [1, 2])]
    one = dag(*nodes, ("add", [3, 4]), ("cat", [5, 6]))
    other = dag(*nodes, ("add", [4, 3]), ("cat", [5, 6]))
    assert written(one, one.order()) == written(other, other.order())


def test_nodes_that_come_first_do_so_in_their_order_even_if_nothing_reads_them() -> None:
    inputs: list[list[tuple[int, int]]] = [[], [], [], [(1, 0)], [(3, 0)]]
    order = canonical_order(["input", "input", "input", "relu", "output"], inputs, [False] * 5, [0, 1, 2])
    assert order == [0, 1, 2, 3, 4]


def test_arguments_keep_their_order_and_terms_lose_it() -> None:
    def form(last: str, terms: list[int]) -> tuple[object, ...]:
        graph = dag(("relu", [0]), ("tanh", [0]), (last, terms))
        return written(graph, graph.order())

    assert form("sub", [1, 2]) != form("sub", [2, 1])
    assert form("add", [1, 2]) == form("add", [2, 1])


def test_results_of_one_operation_are_told_apart_by_their_port() -> None:
    def form(ports: tuple[int, int]) -> tuple[object, ...]:
        labels = ["input", "split", "relu", "tanh", "add"]
        inputs = [[], [(0, 0)], [(1, ports[0])], [(1, ports[1])], [(2, 0), (3, 0)]]
        graph = Dag(labels, inputs, [False] * 4 + [True])
        return written(graph, graph.order())

    assert form((0, 1)) != form((1, 0))


@pytest.mark.parametrize(("narrow", "wide"), [("8", "16"), ("16", "8")])
def test_branches_that_differ_in_kind_come_in_one_order_at_any_width(narrow: str, wide: str) -> None:
    nodes = [(f"conv({narrow},k3)", [0]), (f"linear({wide})", [0]), ("add", [1, 2])]
    graph = dag(*nodes)
    reference = dag(("conv(4,k3)", [0]), ("linear(4)", [0]), ("add", [1, 2]))
    assert graph.order() == reference.order()


def test_widths_decide_where_nothing_else_does() -> None:
    one, other = (dag((f"conv({a})", [0]), (f"conv({b})", [0]), ("add", [1, 2])) for a, b in ((8, 16), (16, 8)))
    assert written(one, one.order()) == written(other, other.order())


def test_layers_in_which_something_is_read_all_through_are_ordered_alike() -> None:
    """A mask that every layer reads leaves no result that all paths go through."""
    nodes: list[tuple[str, list[int]]] = [("mask", [0])]
    last = 0
    for _ in range(30):
        at = len(nodes) + 1
        nodes += [("conv", [last]), ("tanh", [last]), ("mul", [at, 1]), ("add", [at + 1, at + 2])]
        last = at + 3
    nodes += [("mul", [last, 1])]
    graph = dag(*nodes)
    lines = written(graph, graph.order())
    layers = [[lines[index][0] for index in range(at, at + 4)] for at in range(2, 122, 4)]  # type: ignore[index]
    assert all(layer == layers[3] for layer in layers[3:-3])


def test_depth_needs_no_recursion_and_little_time() -> None:
    nodes: list[tuple[str, list[int]]] = []
    for last in range(0, 6000, 3):
        nodes += [("conv", [last]), ("conv", [last]), ("add", [last + 2, last + 1])]
    begun = time.process_time()
    order = dag(*nodes).order()
    assert order[-1] == 6000
    assert time.process_time() - begun < 5
