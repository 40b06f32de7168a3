"""Operations that exporters decompose or merge, as the module has them."""

from __future__ import annotations

from math import sqrt

import pytest

from freerea_seval.strings.trace.onnx_patterns import OnnxNode, fuse, separate


def node(operator: str, inputs: str, output: str, **attributes: object) -> OnnxNode:
    return OnnxNode(operator, inputs.split(), [output], attributes, f"/{output}")


def fused(nodes: list[OnnxNode], **numbers: float) -> list[tuple[str, list[str]]]:
    return [(one.operator, one.inputs) for one in fuse(nodes, ["y"], numbers.get)]


GELU = [
    node("Div", "x root", "d"),
    node("Erf", "d", "e"),
    node("Add", "one e", "p"),
    node("Mul", "p x", "m"),
    node("Mul", "m half", "y"),
]
UNKNOWN: dict[str, float] = {}
NUMBERS = {"root": sqrt(2), "one": 1.0, "half": 0.5}


def test_a_pattern_becomes_one_operation_whatever_the_order_of_operands() -> None:
    assert fused(GELU, **NUMBERS) == [("aten:Gelu", ["x"])]
    assert fused([node("Sigmoid", "x", "s"), node("Mul", "s x", "y")]) == [("aten:Silu", ["x"])]


@pytest.mark.parametrize(
    ("nodes", "numbers"),
    [
        (GELU, {**NUMBERS, "half": 0.4}),
        (GELU, {"root": sqrt(2), "one": 1.0}),
        ([*GELU, node("Relu", "e", "z")], NUMBERS),
        ([node("Sigmoid", "x", "s"), node("Mul", "s w", "y")], {}),
    ],
    ids=["another number", "no number", "read elsewhere", "another operand"],
)
def test_what_only_resembles_a_pattern_stays(nodes: list[OnnxNode], numbers: dict[str, float]) -> None:
    assert fused(nodes, **numbers) == [(one.operator, one.inputs) for one in nodes]


def test_an_inner_result_that_the_network_returns_stays() -> None:
    nodes = [node("Sigmoid", "x", "s"), node("Mul", "x s", "y")]
    assert len(fuse(nodes, ["y", "s"], UNKNOWN.get)) == 2


def test_the_longest_pattern_wins() -> None:
    nodes = [node("Add", "x three", "a"), node("Clip", "a zero six", "c"), node("Div", "c six", "d")]
    numbers = {"three": 3.0, "zero": 0.0, "six": 6.0}
    assert fused([*nodes, node("Mul", "d x", "y")], **numbers) == [("aten:HardSwish", ["x"])]
    assert fused([*nodes, node("Mul", "d z", "y")], **numbers) == [("aten:HardSigmoid", ["x"]), ("Mul", ["d", "z"])]


@pytest.mark.parametrize("mask", [False, True])
def test_attention_is_told_by_the_scales_of_both_factors(mask: bool) -> None:
    head = [node("Transpose", "k", "t", perm=[0, 2, 3, 1]), node("Mul", "q s", "a"), node("Mul", "t s", "b")]
    scores = [node("MatMul", "a b", "r"), *([node("Add", "r m", "n")] if mask else [])]
    tail = [node("Softmax", "n" if mask else "r", "w", axis=-1), node("MatMul", "w v", "y")]
    (turned, attention) = fuse([*head, *scores, *tail], ["y"], UNKNOWN.get)
    assert (turned.inputs, turned.attributes) == (["k"], {"perm": [0, 2, 1, 3]})
    assert attention.operator == "aten:Attention"
    assert attention.inputs == ["q", turned.outputs[0], "v", "s", "s", *(["m"] if mask else [])]
    by_hand = [node("MatMul", "q t", "r"), node("Softmax", "r", "w"), node("MatMul", "w v", "y")]
    assert [one.operator for one in fuse(by_hand, ["y"], UNKNOWN.get)] == ["MatMul", "Softmax", "MatMul"]


def named(operator: str, inputs: str, output: str, name: str) -> OnnxNode:
    return OnnxNode(operator, inputs.split(), [output], {}, name)


def test_activations_that_the_exporter_has_merged_are_separated_where_names_tell() -> None:
    merged = [
        named("Relu", "x", "r", "/cell/edges.0/edges.0.0/Relu"),
        named("Conv", "r v", "a", "/cell/edges.0/edges.0.1/Conv"),
        named("Conv", "r w", "b", "/cell/edges.1/edges.1.1/Conv"),
    ]
    relu, _, own, conv = separate(merged)
    assert (own.operator, own.inputs, conv.inputs) == ("Relu", ["x"], [own.outputs[0], "w"])
    assert relu.outputs == ["r"]


@pytest.mark.parametrize(
    "names",
    [
        ("/cell/relu/Relu", "/cell/edges.1/edges.1.1/Conv"),
        ("/body/body.0/Relu", "/body/body.1/Conv"),
        ("/body/body.0/body.0.2/Relu", "/body/body.3/Conv"),
        ("/a/a.0/Relu", "/b/b.0/Conv"),
        ("", ""),
    ],
    ids=["no position", "same container", "nested before it", "first in its container", "no names"],
)
def test_activations_that_a_module_shares_stay(names: tuple[str, str]) -> None:
    nodes = [named("Relu", "x", "r", names[0]), named("Conv", "r w", "y", names[1])]
    assert separate(nodes) == nodes
