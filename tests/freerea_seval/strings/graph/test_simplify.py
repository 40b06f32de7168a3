"""The functional view, rule by rule."""

from __future__ import annotations

import time

import pytest
import torch
from torch import nn

from freerea_seval.strings.graph.simplify import simplify
from freerea_seval.strings.text.parse import parse_graph as read
from freerea_seval.strings.text.serialize import serialize_graph as write
from freerea_seval.strings.trace.operations import kind_of
from freerea_seval.strings.trace.tracer import trace_module
from tests.freerea_seval.strings.trace.tracing import Function

INPUT = "input[1x4x8x8] "


def view(operations: str) -> str:
    """Return the functional view of operations after an input."""
    if "output" not in operations:
        operations = f"{operations} output".strip()
    string = write(simplify(read(INPUT + operations)))
    assert write(simplify(read(string))) == string
    return string.removeprefix(INPUT).removesuffix("output").strip()


RULES = {
    "nothing is nothing": ("", ""),
    "an identity is folded": ("alias relu clone contiguous dropout(p=0.5) tanh", "relu tanh"),
    "neutral arithmetic is folded": ("mul(1) relu add(0) div(1) sub(0)", "relu"),
    "other arithmetic is not": ("mul(2) add(1) div(3) sub(4)", "mul(2) add(1) div(3) sub(4)"),
    "a reshape to the same shape is folded": ("reshape[1x4x8x8] relu reshape[1x256]", "relu reshape"),
    "a cast to the same dtype is folded": ("relu to", "relu"),
    "a cast to another dtype is not": ("to[:float16]", "to[:float16]"),
    "a second relu is folded": ("relu relu relu", "relu"),
    "a second tanh is not": ("tanh tanh", "2*tanh"),
    "a network of zeros is zeros": ("conv(8,k3) mul(0)", "zeros[1x8x8x8]<-"),
    "zeros of any origin are zeros": ("zeros_like<-1", "zeros[1x4x8x8]<-"),
    "zeros stay zeros": ("conv(k3) mul(0) conv(k3) bn relu avg_pool2d(k3) mul(3) add<-8,1", ""),
    "a bias makes something of zeros": ("mul(0) conv(k3,b) add<-1,3", "zeros[1x4x8x8]<- conv(k3,b) add"),
    "a sigmoid makes something of zeros": ("mul(0) sigmoid", "zeros[1x4x8x8]<- sigmoid"),
    "a scalar makes something of zeros": ("mul(0) add(1)", "zeros[1x4x8x8]<- add(1)<-1"),
    "a clamp makes zeros of zeros": ("mul(0) hardtanh(max_val=6,min_val=0)", "zeros[1x4x8x8]<-"),
    "a clamp above zero does not": (
        "mul(0) hardtanh(max_val=6,min_val=1)",
        "zeros[1x4x8x8]<- hardtanh(max_val=6,min_val=1)",
    ),
    "zeros padded with zeros are zeros": ("mul(0) constant_pad_nd(pad=1:1)[1x4x8x10]", "zeros[1x4x8x10]<-"),
    "zeros padded with ones are not": (
        "mul(0) constant_pad_nd(pad=1:1,value=1)[1x4x8x10]",
        "zeros[1x4x8x8]<- constant_pad_nd(pad=1:1,value=1)[1x4x8x10]",
    ),
    "a product with zeros is zeros": ("conv(k3) mul(0) mul<-1,2 relu<-4 add", "relu"),
    "a quotient of zeros is zeros": ("mul(0) div<-1,2", "zeros[1x4x8x8]<-"),
    "zeros after a concatenation stay": ("mul(0) cat(dim=1)<-1,2", "zeros[1x4x8x8]<- cat(dim=1)<-1,2"),
    "zeros beside zeros are zeros": ("mul(0) cat(dim=1)<-1,1", "zeros[1x8x8x8]<-"),
    "a difference from zeros is not the term": ("relu mul(0) sub<-2,1", "relu zeros[1x4x8x8]<- sub"),
    "added zeros are dropped": ("conv(k3) mul(0) relu<-3 add<-1,2", "relu"),
    "zeros that give the sum its shape are not": (
        "mul(0) mean(dim=2:3,keepdim=1)<-2 add<-1,2",
        "mean(dim=2:3,keepdim=1) zeros[1x4x8x8]<- add",
    ),
    "what does not reach the output is gone": ("conv(9,k3) bn relu tanh<-4", "tanh"),
    "parameters that nothing reads are gone": ("relu unused<-w3x5 output<-2", "relu"),
    "equal operations without parameters are one": ("tanh tanh<-2 mul<-2,1", "tanh mul<-1,1"),
    "equal operations after equal ones are one": ("tanh relu tanh<-3 relu mul<-3,1", "tanh relu mul<-1,1"),
    "operations with parameters of their own are not": ("conv(k3) conv(k3)<-2 add<-2,1", "conv(k3) conv(k3)<-2 add"),
    "operations with one parameter are": ("conv(k1) conv(k1)<-2,w4x4x1x1~1 mul<-2,1", "conv(k1) mul<-1,1"),
    "norms with the same weight and bias are": ("bn bn<-2,w4~1,w4~1 mul<-2,1", "bn mul<-1,1"),
    "draws are not": ("bernoulli bernoulli<-2 mul<-2,1", "bernoulli bernoulli<-2 mul"),
    "products of the same factors are one": ("tanh mul<-1,2 mul<-2,3 cat<-2,1", "tanh mul<-2,1 cat<-1,1"),
    "products of products are not one product": ("relu tanh<-2 mul<-2,1 mul<-1,4", "relu tanh<-2 mul mul<-4,1"),
    "sums of sums are one sum": ("relu add<-2,1 add<-1,3", "relu add<-2,2,1"),
    "a sum that is read twice stays": ("relu add<-1,2 gelu add<-1,2", "relu add<-2,1 gelu add<-2,1"),
    "a term that counts twice does so": ("relu add<-1,1", "relu add<-1,1"),
    "a sum with a factor is no sum": ("relu add(alpha=2)<-1,2 add<-1,3", "relu add(alpha=2)<-1,2 add<-3,1"),
}


@pytest.mark.parametrize("rule", RULES)
def test_each_rule(rule: str) -> None:
    operations, expected = RULES[rule]
    assert view(operations) == expected


def random_kinds() -> list[str]:
    """Return the kinds of operations that PyTorch marks as random, but for layers, which draw in training alone."""
    layers = ("attention", "rnn", "gru", "lstm", "softmax", "sdp", "cudnn", "mem_eff")
    kinds = set()
    for name in torch._C._dispatch_get_all_op_names():
        operation, _, overload = name.removeprefix("aten::").partition(".")
        func = getattr(getattr(torch.ops.aten, operation, None), overload or "default", None)
        if name.startswith("aten::") and func is not None and torch.Tag.nondeterministic_seeded in func.tags:
            kinds.add(kind_of(operation))
    return sorted(kind for kind in kinds - {"dropout", "rrelu"} if not any(layer in kind for layer in layers))


def test_two_draws_stay_two() -> None:
    kinds = random_kinds()
    assert {"uniform", "poisson", "geometric", "binomial", "log_normal", "randn"} <= set(kinds)
    for kind in kinds:
        assert view(f"{kind} {kind}<-2 sub<-2,1").count(kind) == 2 or view(f"{kind} {kind}<-2 sub").startswith("2*")


def test_sums_that_become_equal_are_one() -> None:
    one, other = "add<-3,2 add<-1,2", "add<-3,4 add<-1,6"
    assert view(f"relu tanh<-2 sigmoid<-3 {one} {other} mul<-3,1").count("add") == 1


#: Pairs that compute the same function.
EQUAL = {
    "the terms of a sum in another order": ("conv(k3) relu<-2 add<-1,2", "relu conv(k3)<-2 add<-1,2"),
    "branches in another order": (
        "conv(k3) bn conv(k1)<-3 bn add<-1,3",
        "conv(k1) conv(k3)<-2 bn bn<-3 add<-2,1",
    ),
    "a gate before or after what it gates": (
        "conv(k3) sigmoid conv(k1)<-3 mul<-1,2",
        "conv(k1) conv(k3)<-2 sigmoid mul<-1,3",
    ),
    "a maximum in another order": ("conv(k3) relu<-2 maximum<-2,1", "relu conv(k3)<-2 maximum<-2,1"),
    "a minimum in another order": ("conv(k3) relu<-2 minimum<-2,1", "relu conv(k3)<-2 minimum<-2,1"),
    "sums with other brackets": (
        "conv(k1) conv(k3)<-2 conv(k5)<-3 add<-3,2 add<-1,2",
        "conv(k1) conv(k3)<-2 conv(k5)<-3 add<-2,1 add<-1,4",
    ),
    "a sum that starts from nothing": ("relu conv(k3) add<-1,2", "relu conv(k3) add(0)<-2 add<-1,2"),
    "a shared operation, written twice": ("relu conv(k3) conv(k1)<-2 add", "relu conv(k3) relu<-3 conv(k1) add<-1,3"),
    "a sum that is zero times something": ("relu conv(k3) mul(0) add<-1,3", "relu alias"),
    "a relu of a relu after an identity": ("relu alias relu conv(k3)", "relu conv(k3)"),
}
#: Pairs that do not, though they nearly read the same.
UNEQUAL = {
    "which pool": ("avg_pool2d(k3)", "max_pool2d(k3)"),
    "how a pool counts its padding": ("avg_pool2d(k3,count_include_pad=0)", "avg_pool2d(k3)"),
    "the order of a concatenation": ("relu tanh<-2 cat(dim=1)<-1,2", "relu tanh<-2 cat(dim=1)<-2,1"),
    "a term that counts twice": ("relu add<-1,1", "relu"),
    "a term that counts three times": ("relu add<-1,1 add<-1,2", "relu add<-1,1"),
    "what is divided by what": ("relu tanh<-2 div<-1,2", "relu tanh<-2 div<-2,1"),
    "a square or a product": ("relu mul<-1,1", "relu mul<-1,2"),
    "what is subtracted from what": ("relu tanh<-2 sub<-1,2", "relu tanh<-2 sub<-2,1"),
    "which branch has the convolution": ("relu conv(k3) tanh<-3 add", "relu tanh<-2 conv(k3) add<-1,3"),
    "which convolution comes first": ("conv(k3) conv(k1)", "conv(k1) conv(k3)"),
    "one convolution or two": ("conv(k3) relu tanh<-2 add", "conv(k3) relu conv(k3)<-3 tanh add<-1,3"),
    "shared parameters": ("conv(k1) relu conv(k1)", "conv(k1) relu conv(k1)<-1,w4x4x1x1~2"),
    "a dead branch or a live one": ("conv(k3) mul(0) add<-1,3", "conv(k3) add<-1,2"),
    "zeros or the input": ("mul(0)", "alias"),
    "which result of an operation": (
        "split(dim=1,sizes=2) relu<-1 tanh<-2.1 cat(dim=1)",
        "split(dim=1,sizes=2) relu<-1.1 tanh<-2 cat(dim=1)",
    ),
    "which branches a sum has in common": (
        "relu tanh<-2 conv(k3)<-2 conv(k3)<-2 add<-3,2 add<-1,2",
        "relu tanh<-2 conv(k3)<-2 conv(k3)<-2 add<-4,2 add<-1,2",
    ),
}


@pytest.mark.parametrize("pair", EQUAL)
def test_networks_that_compute_the_same_read_the_same(pair: str) -> None:
    one, other = EQUAL[pair]
    assert view(one) == view(other)


@pytest.mark.parametrize("pair", UNEQUAL)
def test_networks_that_do_not_compute_the_same_differ(pair: str) -> None:
    one, other = UNEQUAL[pair]
    assert view(one) != view(other)


def test_what_two_inputs_are_stays_known() -> None:
    strings = {
        write(simplify(read(f"input[1x4] input[1x4] {operations} output")))
        for operations in ("sub<-2,1", "sub<-1,2", "add<-1,2", "add<-2,1", "relu<-1", "relu<-2", "add<-1,1", "add<-2,2")
    }
    assert len(strings) == 7  # the sum of both is one


def test_a_network_of_several_results_keeps_their_order() -> None:
    strings = {
        write(simplify(read(f"{INPUT}relu tanh<-2 {output}"))) for output in ("output<-1,2", "output<-2,1", "output")
    }
    assert len(strings) == 3


def test_a_norm_that_is_run_twice_is_read_back() -> None:
    norm = nn.BatchNorm2d(4)
    network = Function(lambda x: norm(torch.tanh(norm(x))) * norm(x), norm=norm)
    graph = simplify(trace_module(network, [torch.zeros(1, 4, 8, 8)]))
    assert read(write(graph)) == graph
    assert write(graph) == INPUT + "bn tanh bn<-1,w4~2,w4~2 mul<-3,1 output"
    assert graph.parameters == 8


def test_equal_branches_that_meet_twice_do_so_in_one_order() -> None:
    """Which of two equal branches comes first at one sum decides which does at the other."""
    convolutions = "conv(k3) conv(k3)<-2 tanh<-2 tanh<-2 add<-4,3"
    assert view(f"{convolutions} add<-3,2 mul<-1,2") == view(f"{convolutions} add<-2,3 mul<-1,2")


def test_shared_sums_nested_sixty_deep_are_fast() -> None:
    """Written out, they would have 2**60 terms."""
    begun = time.process_time()
    assert view("60*{ add<-1,1 }") == "60*add<-1,1"
    nested = "relu " + " ".join("add<-1,2" for _ in range(60))
    assert 60 <= len(simplify(read(f"{INPUT}{nested} output"))) <= 63
    assert time.process_time() - begun < 2


def test_depth_needs_no_recursion() -> None:
    assert view("5000*{ conv(k1) add<-1,2 alias }") == "5000*{ conv(k1) add<-2,1 }"


def test_a_graph_comes_back_as_it_was() -> None:
    graph = read(f"{INPUT}relu conv(k3) mul(0) add<-1,3 output")
    nodes = graph.nodes
    simplify(graph)
    assert graph.nodes is nodes
    assert write(graph) == f"{INPUT}relu conv(k3) mul(0) add<-1,3 output"
