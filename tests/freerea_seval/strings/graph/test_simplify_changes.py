"""The functional view of random networks, under random changes that preserve the function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from freerea_seval.strings.graph.ir import Graph, Node, Ref, Spec, Value, Weight
from freerea_seval.strings.graph.simplify import origins, simplify
from freerea_seval.strings.text.parse import parse_graph as read
from freerea_seval.strings.text.serialize import serialize_graph as write

SHAPE = Spec((1, 4, 8, 8))
THREE: Value = (3, 3)


@dataclass(eq=False)
class Op:
    """A node that refers to its inputs as objects, so that it can be moved."""

    kind: str
    attributes: tuple[tuple[str, Value], ...] = ()
    inputs: tuple[Op | Weight, ...] = ()

    def twin(self) -> Op:
        return Op(self.kind, self.attributes, self.inputs)


def convolution(source: Op) -> Op:
    attributes = (("out", 4), ("k", THREE), ("s", (1, 1)), ("p", (1, 1)), ("d", (1, 1)), ("g", 1))
    return Op("conv", attributes, (source, Weight((4, 4, 3, 3))))


def pool(source: Op) -> Op:
    return Op("avg_pool2d", (("k", THREE), ("s", (1, 1)), ("p", (1, 1))), (source,))


def zeros_like(source: Op) -> Op:
    return Op("mul", (("other", 0),), (source,))


UNARY: list[Callable[[Op], Op]] = [
    convolution,
    pool,
    lambda source: Op("relu", (), (source,)),
    lambda source: Op("tanh", (), (source,)),
    lambda source: Op("sigmoid", (), (source,)),
    zeros_like,
]
BINARY = ("add", "add", "add", "sub", "mul", "maximum")
IDENTITIES = [
    *(Op(kind) for kind in ("alias", "clone", "contiguous", "to", "reshape")),
    *(Op(kind, (("other", 0),)) for kind in ("add", "sub")),
    *(Op(kind, (("other", 1),)) for kind in ("mul", "div")),
    Op("dropout", (("p", 0.5),)),
]


@st.composite
def networks(draw: st.DrawFn) -> list[Op]:
    """Draw the operations of a network; every tensor has one shape."""
    ops = [Op("input")]
    for _ in range(draw(st.integers(1, 12))):
        source = draw(st.sampled_from(ops))
        if draw(st.booleans()):
            ops.append(draw(st.sampled_from(UNARY))(source))
        else:
            ops.append(Op(draw(st.sampled_from(BINARY)), (), (source, draw(st.sampled_from(ops)))))
    return [*ops, Op("output", (), (ops[-1],))]


def graph_of(ops: list[Op]) -> Graph:
    indices = {op: index for index, op in enumerate(ops)}
    nodes = []
    for op in ops:
        inputs = tuple(Ref(indices[item]) if isinstance(item, Op) else item for item in op.inputs)
        nodes.append(Node(op.kind, op.attributes, inputs, () if op.kind == "output" else (SHAPE,)))
    return Graph(tuple(nodes))


def form(ops: list[Op]) -> str:
    return write(simplify(graph_of(ops)))


def redirect(ops: list[Op], random: Random, old: Op, new: Op) -> None:
    """Let some readers of one operation read another, which is inserted right after it."""
    for op in ops:
        op.inputs = tuple(new if item is old and random.random() < 0.5 else item for item in op.inputs)
    ops.insert(ops.index(old) + 1, new)


def renumber(ops: list[Op], random: Random) -> None:
    order: list[Op] = []
    left = ops[1:-1]
    while left:
        ready = [op for op in left if not any(item in left for item in op.inputs)]
        order.append(random.choice(ready))
        left.remove(order[-1])
    ops[1:-1] = order


def swap(ops: list[Op], random: Random) -> None:
    for op in ops:
        if op.kind in ("add", "mul", "maximum") and not op.attributes:
            op.inputs = tuple(random.sample(op.inputs, len(op.inputs)))


def insert_identity(ops: list[Op], random: Random) -> None:
    old, identity = random.choice(ops[:-1]), random.choice(IDENTITIES)
    redirect(ops, random, old, Op(identity.kind, identity.attributes, (old,)))


def insert_relu(ops: list[Op], random: Random) -> None:
    for old in [op for op in ops if op.kind == "relu"][:1]:
        redirect(ops, random, old, Op("relu", (), (old,)))


def add_zeros(ops: list[Op], random: Random) -> None:
    index = random.randrange(len(ops) - 1)
    old, chain = ops[index], [zeros_like(random.choice(ops[: index + 1]))]
    for _ in range(random.randrange(3)):
        chain.append(random.choice(UNARY[:4])(chain[-1]))
    terms = random.sample([old, chain[-1]], 2)
    redirect(ops, random, old, Op("add", (), tuple(terms)))
    ops[index + 1 : index + 1] = chain


def insert_dead_branch(ops: list[Op], random: Random) -> None:
    index = random.randrange(len(ops) - 1)
    dead = random.choice(UNARY)(ops[index])
    ops[index + 1 : index + 1] = [dead, Op("add", (), (dead, ops[index]))]


def duplicate(ops: list[Op], random: Random) -> None:
    free = [op for op in ops[1:-1] if not any(isinstance(item, Weight) for item in op.inputs)]
    if free:
        old = random.choice(free)
        redirect(ops, random, old, old.twin())


CHANGES = [renumber, swap, insert_identity, insert_relu, add_zeros, insert_dead_branch, duplicate]


@settings(max_examples=150, deadline=None)
@given(networks())
def test_the_view_of_a_view_is_itself(ops: list[Op]) -> None:
    graph = simplify(graph_of(ops))
    assert simplify(graph) == graph
    assert read(write(graph)) == graph


@settings(max_examples=400, deadline=None)
@given(networks(), st.lists(st.sampled_from(CHANGES), min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_the_view_does_not_see_how_a_function_is_computed(
    ops: list[Op], changes: list[Callable[[list[Op], Random], None]], random: Random
) -> None:
    before = form(ops)
    for change in changes:
        change(ops, random)
    assert form(ops) == before


@settings(deadline=None)
@given(st.integers(2, 7), st.randoms(use_true_random=False))
def test_brackets_of_a_sum_do_not_matter(terms: int, random: Random) -> None:
    def network(pick: Callable[[list[Op]], int]) -> str:
        ops = [Op("input")]
        left = []
        for index in range(terms):
            ops.append(UNARY[index % 5](ops[0]) if index < 5 else convolution(ops[index - 3]))
            left.append(ops[-1])
        while len(left) > 1:
            ops.append(Op("add", (), (left.pop(pick(left)), left.pop(pick(left)))))
            left.append(ops[-1])
        return form([*ops, Op("output", (), (ops[-1],))])

    assert network(lambda left: random.randrange(len(left))) == network(lambda left: 0)


@settings(max_examples=150, deadline=None)
@given(networks())
def test_every_node_of_the_view_comes_from_one_of_its_kind(ops: list[Op]) -> None:
    graph = graph_of(ops)
    seen = simplify(graph)
    come_from = origins(graph)
    assert len(come_from) == len(seen)
    for node, origin in zip(seen, come_from, strict=True):
        there = graph.nodes[origin]
        assert node.outputs == there.outputs
        if node.kind != "zeros":  # stands for any operation whose result is zeros
            assert (node.kind, node.attributes, node.weights) == (there.kind, there.attributes, there.weights)
