"""One operation, one node: what operations read as, whichever way they are called."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from freerea_patch.networks import ResidualBlock, Zero
from freerea_seval.strings.graph.ir import Spec
from freerea_seval.strings.text.parse import parse_graph as read
from freerea_seval.strings.text.serialize import serialize_graph as write
from freerea_seval.strings.trace.recorder import GraphBuilder
from freerea_seval.strings.trace.tracer import trace_module
from tests.freerea_seval.strings.trace.tracing import Function, is_seen_by_autograd, string_of, traced


def test_a_residual_block_reads_as_it_runs() -> None:
    assert write(traced(ResidualBlock(4, 8), torch.ones(1, 4, 6, 6))).split() == [
        *("input[1x4x6x6]", "avg_pool2d(k2,s2)", "conv(8,k1)", "relu<-3", "conv(8,k3,s2)", "bn", "relu", "conv(k3)"),
        *("bn", "add", "output"),
    ]


@pytest.mark.parametrize(
    ("layer", "shape", "token"),
    [
        (nn.Conv2d(4, 6, (1, 3), stride=(1, 2), dilation=2, groups=2), (4, 8, 9), "conv(6,k1x3,s1x2,p0,d2,g2,b)"),
        (nn.Conv2d(4, 4, 3, groups=4, bias=False), (4, 8, 9), "conv(k3,p0,dw)"),
        (nn.Conv1d(4, 6, 3, padding=1), (4, 8), "conv(6,k3,b)"),
        (nn.Conv3d(4, 6, 3, padding=1), (4, 8, 8, 8), "conv(6,k3,b)"),
        (nn.ConvTranspose2d(4, 2, 2, stride=2, bias=False), (4, 3, 3), "deconv(2,k2,s2)"),
        (nn.ConvTranspose2d(4, 2, 3, 2, 1, 1, groups=2), (4, 3, 3), "deconv(2,k3,s2,o1,g2,b)"),
        (nn.Linear(5, 3), (5,), "linear(3,b)"),
        (nn.Linear(5, 5, bias=False), (2, 5), "linear"),
        (nn.MaxPool2d(3, stride=2, padding=1), (4, 8, 8), "max_pool2d(k3,s2)"),
        (nn.AvgPool2d(3, 1, 1), (4, 8, 8), "avg_pool2d(k3)"),
        (nn.AvgPool2d(3, 1, 1, count_include_pad=False), (4, 8, 8), "avg_pool2d(k3,count_include_pad=0)"),
        (nn.AdaptiveAvgPool2d(1), (4, 8, 8), "mean(dim=2:3,keepdim=1)"),
        (nn.AdaptiveAvgPool2d(2), (4, 8, 8), "adaptive_avg_pool2d(output_size=2:2)"),
        (nn.BatchNorm2d(4, affine=False), (4, 8, 8), "bn(plain)"),
        (nn.LayerNorm(4), (4,), "layer_norm"),
        (nn.GroupNorm(2, 4), (4, 8), "group_norm(group=2)"),
        (nn.PReLU(), (4,), "prelu<-1,w1x1"),
        (nn.Identity(), (4,), "alias"),
        (nn.Dropout(), (4,), "input[1x4]"),
        (Zero(), (4,), "mul(0)"),
        (Function(lambda x: x * torch.tensor(0.0)), (4,), "mul(0)"),
        (Function(lambda x: x * 0.5), (4,), "mul(0.5)"),
        (Function(lambda x: x + x), (4,), "add<-1,1"),
        (Function(lambda x: x + 3), (4,), "add(3)"),
        (Function(lambda x: x[:, :-1]), (4,), "slice(dim=1,end=3)"),
        (Function(lambda x: x.softmax(-1)), (4,), "softmax(dim=1)"),
        (Function(lambda x: x.sum()), (4,), "sum"),
    ],
)
def test_a_token_tells_what_an_operation_is(layer: nn.Module, shape: tuple[int, ...], token: str) -> None:
    assert write(traced(layer, torch.ones(1, *shape))).split()[-2] == token


@pytest.mark.parametrize(
    ("function", "token"),
    [
        (lambda x: 2 ** x.tanh(), "pow(self=2)"),
        (lambda x: 10 ** x.tanh(), "pow(self=10)"),
        (lambda x: x.tanh() ** 3, "pow(exponent=3)"),
        (lambda x: x.tanh() ** x.tanh(), "pow<-2,1"),
        (lambda x: x.tanh().round(), "round"),
        (lambda x: x.tanh().round(decimals=1), "round(decimals=1)"),
        (lambda x: x.tanh().round(decimals=2), "round(decimals=2)"),
    ],
)
def test_a_token_has_what_overloads_of_an_operation_differ_in(function: Callable[[Tensor], Any], token: str) -> None:
    layer = nn.Linear(4, 4)
    network = Function(lambda x: function(layer(x)), layer=layer)
    assert write(traced(network, torch.rand(1, 4))).split()[-2] == token


def test_a_tensor_is_no_attribute() -> None:
    with pytest.raises(TypeError, match=r"^an attribute cannot be a tensor; expected a number, a string or a list$"):
        GraphBuilder().add("pow", [], [Spec((1, 4))], {"exponent": torch.ones(1, 4)})


@pytest.mark.skipif(torch.backends.quantized.engine == "none", reason="no kernels for quantised layers")
@pytest.mark.filterwarnings("ignore")
def test_a_linear_layer_is_one_operation_in_any_number_of_dimensions() -> None:
    layer = nn.Linear(4, 6)
    for shape in ((4,), (2, 4), (2, 3, 4), (2, 3, 5, 4), (1, 1, 4)):
        graph = traced(layer, torch.ones(shape))
        kinds = [node.kind for node in graph if node.kind != "reshape"]
        assert kinds == ["input", "linear", "output"]
        assert graph.macs == torch.Size(shape).numel() * 6
    shared = traced(Function(lambda x: layer(x) + other(x), a=layer, b=(other := nn.Linear(4, 6))), torch.ones(2, 3, 4))
    assert write(shared) == "input[2x3x4] linear(6,b) linear(6,b)<-2 add output"


def test_multiply_adds_of_products_with_a_bare_parameter() -> None:
    class Products(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wide = nn.Parameter(torch.ones(4, 6))

        def forward(self, x: Tensor) -> Tensor:
            return self.wide.t() @ (x @ self.wide @ self.wide.t() @ self.wide).t()[:, :4].t()

    graph = traced(Products(), torch.ones(5, 4))
    # (5, 4) (4, 6), then (5, 6) (6, 4), then (5, 4) (4, 6), then (6, 4) (4, 6)
    assert graph.macs == 5 * 4 * 6 * 3 + 6 * 4 * 6
    weights = [weight for node in graph for weight in node.weights]
    assert [weight.tied is None for weight in weights] == [True, False, False, False]


def test_in_place_work_reads_as_its_twin() -> None:
    def twice(inplace: bool) -> nn.Module:
        return nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace), nn.Linear(4, 4), nn.ReLU6(inplace))

    assert traced(twice(True), torch.ones(1, 4)) == traced(twice(False), torch.ones(1, 4))


def test_in_place_work_on_a_view_shows_in_the_whole() -> None:
    def write_to_a_part(x: Tensor) -> Tensor:
        y = torch.relu(x)
        y[:, :2].mul_(0)
        return y + x

    expected = "input[1x4] relu slice(dim=1,end=2) mul(0) update[1x4]<-3,1 add<-5,1 output"
    assert string_of(write_to_a_part) == expected

    def fill(x: Tensor) -> Tensor:
        y = torch.empty(2, 4)
        y[0] = torch.relu(x)[0]
        y[1] = 1
        return y

    assert "copy" in string_of(fill)
    assert "update[2x4]" in string_of(fill)
    assert "constant" not in string_of(fill)

    def write_to_a_list(x: Tensor) -> Tensor:
        y = torch.relu(x)
        torch._foreach_neg_([y])
        return y + x

    assert string_of(write_to_a_list).startswith("input[1x4] relu foreach_neg add")


def test_what_is_written_behind_an_identity_is_there_before_it_too() -> None:
    same = nn.Identity()

    def late(x: Tensor) -> Tensor:
        y = torch.relu(x)
        z = same(y)
        z.add_(1)
        return torch.mul(y, z)

    network = Function(late, same=same)
    assert not is_seen_by_autograd(network, torch.ones(1, 4))
    assert write(traced(network, torch.ones(1, 4))) == "input[1x4] relu alias add(1) mul<-1,1 output"
    values = same(torch.ones(1, 4))
    assert torch.equal(values, torch.ones(1, 4))


def test_memory_that_is_used_again_is_not_taken_for_what_was_there_before() -> None:
    def forget(x: Tensor) -> Tensor:
        for _ in range(20):
            torch.relu(x)  # freed at once; the constant may get its place
            x = x + torch.tensor([1.0, 2.0, 3.0, 4.0])
        return x

    graph = traced(Function(forget), torch.ones(1, 4))
    assert [node.kind for node in graph][1:-1] == ["relu", "constant", "add"] * 20


def test_views_that_change_nothing_and_views_of_views_are_one_or_none() -> None:
    assert string_of(lambda x: x.view(2, 2).view(1, 4).expand(1, 4)[:, :].detach() * 2) == "input[1x4] mul(2) output"
    assert string_of(lambda x: x.view(2, 2) + x.view(2, 2)) == "input[1x4] reshape[2x2] add<-1,1 output"
    moved = string_of(lambda x: x.transpose(0, 1) * 2)
    assert moved == string_of(lambda x: x.view(4, 1) * 2)


FLAT, IMAGE, PLACES = torch.rand(2, 4), torch.rand(1, 4, 6, 6), torch.tensor([0, 1])


@pytest.mark.parametrize(
    "function",
    [
        lambda v: v.gather(1, PLACES[:, None]),
        lambda v: v.topk(2)[0],
        lambda v: v.sort()[1],
        lambda v: v.max(1)[0],
        lambda v: v.roll(1, -1),
        lambda v: v.flip(-1),
        lambda v: v.cumsum(-1),
        lambda v: torch.where(v > 0, v, 0.0),
        lambda v: v.masked_fill(v > 0.5, -1e9),
        lambda v: v[:, PLACES],
        lambda v: v[v > 0.5],
        lambda v: v[:, :0].sum(),
        lambda v: torch.fft.fft(v).abs(),
        lambda v: F.normalize(v),
        lambda v: v.var((0, 1)),
        lambda v: F.glu(v) + F.glu(v, 1),
        lambda v: torch.cat(v.chunk(2, -1)[::-1], -1),
        lambda v: torch.stack([v, v], -1),
        lambda v: v.unfold(1, 2, 1),
        lambda v: v.as_strided((2, 2), (1, 2)),
        lambda v: v @ v[0],
        lambda v: v[0] @ v[1],
        lambda v: torch.addmm(v[:, :2], v, v.t(), beta=0.5),
        lambda v: 1 - v / 2 + 1 / v**2.5,
        lambda v: F.leaky_relu(v, 0.2).clamp(0, 0.5),
        lambda v: F.gelu(v, approximate="tanh"),
        lambda v: v.repeat(1, 2).repeat_interleave(2, 1),
        lambda v: torch.sub(v, v * 2, alpha=3),
        lambda v: torch.addcmul(v, v, v, value=0.1),
        lambda v: torch.view_as_real(torch.complex(v, v)),
        lambda v: (v * 10).long().float(),
        lambda v: v.half() + 1,
    ],
)
def test_an_operation_on_a_matrix_reads_the_same_as_by_autograd(function: Callable[[Tensor], Any]) -> None:
    assert len(traced(Function(function), FLAT)) > 2


@pytest.mark.parametrize(
    "function",
    [
        lambda x: F.interpolate(x, scale_factor=2),
        lambda x: F.interpolate(x, size=9, mode="bilinear"),
        lambda x: F.pad(x, (1, 1)),
        lambda x: F.pad(x, (1, 1, 2, 2), mode="reflect"),
        lambda x: F.conv2d(x, torch.ones(4, 4, 3, 3), padding="same"),
        lambda x: torch.einsum("bchw,bdhw->bcd", x, x),
        lambda x: x @ x.mT,
        lambda x: F.pixel_shuffle(x, 2),
        lambda x: F.unfold(x, 3),
        lambda x: F.max_pool1d(x[0], 2) + F.avg_pool1d(x[0], 2),
        lambda x: F.adaptive_max_pool2d(x, 2),
        lambda x: F.instance_norm(x),
        lambda x: F.grid_sample(x, torch.zeros(1, 3, 3, 2), align_corners=False),
        lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True),
        lambda x: x.transpose(1, 2).flatten(2).unflatten(2, (4, 6)).movedim(-1, 1),
        lambda x: x.diagonal(dim1=-2, dim2=-1).tril(),
    ],
)
def test_an_operation_on_an_image_reads_the_same_as_by_autograd(function: Callable[[Tensor], Any]) -> None:
    assert len(traced(Function(function), IMAGE)) > 2


@pytest.fixture
def library() -> Iterator[Any]:
    """Operators of a user that have names of ATen's, of the grammar, and of rules for shapes."""
    make: Any = torch.library.Library
    added = make("mine", "DEF")
    for signature, run in {
        "max_pool2d(Tensor x, int k) -> Tensor": lambda x, k: x + 1,
        "attention(Tensor x) -> Tensor": lambda x: x + 1,
        "output(Tensor x) -> Tensor": lambda x: x + 1,
        "input(Tensor x) -> Tensor": lambda x: x + 1,
        "unused(Tensor x) -> Tensor": lambda x: x + 1,
        "bmm(Tensor x, Tensor y) -> Tensor": lambda x, y: x + y,
        "empty(Tensor x) -> Tensor": lambda x: x + 1,
        "detach(Tensor x) -> Tensor": lambda x: x + 1,
        "conv(Tensor x, str mode='2d') -> Tensor": lambda x, mode="2d": x[:, :2] + 1,
        "fill_(Tensor(a!) x, complex by) -> Tensor(a!)": lambda x, by: x.fill_(by.real),
    }.items():
        added.define(signature)
        added.impl(signature.split("(")[0], run, "CompositeExplicitAutograd")
    yield added
    added._destroy()


def test_operators_of_a_user_keep_their_namespace(library: Any) -> None:
    mine = torch.ops.mine
    calls: dict[str, Callable[[Tensor], Any]] = {
        "mine.max_pool2d(k=2) add(1)": lambda x: mine.max_pool2d(x, 2) + 1,
        "mine.attention": mine.attention,
        "mine.output": mine.output,
        "mine.input": mine.input,
        "mine.unused": mine.unused,
        "mine.bmm<-1,1": lambda x: mine.bmm(x, x),
        "mine.empty": mine.empty,
        "mine.detach": mine.detach,
        "mine.conv(mode=_1d)[2x2]": lambda x: mine.conv(x, "1d"),
        "relu mine.fill_(by=0:2) tanh": lambda x: mine.fill_(x.relu(), 2j).tanh(),
    }
    for expected, call in calls.items():
        for function in (call, lambda x, call=call: call(x.sin()).cos()):
            graph = trace_module(Function(function), [torch.zeros(2, 4)])
            string = write(graph)
            assert expected in string
            assert read(string) == graph
            assert graph.macs == 0


def test_complex_numbers_are_read_back() -> None:
    shift = Function(lambda x: (torch.fft.fft(x) * 1j).abs())
    string = write(traced(shift, torch.zeros(1, 8)))
    assert "mul(other=0:1)" in string
    convolution = nn.Conv2d(3, 4, 3, dtype=torch.complex64)
    graph = trace_module(convolution, [torch.zeros(1, 3, 8, 8, dtype=torch.complex64)])
    assert read(write(graph)) == graph
    for number in (2 + 0j, -1.5j, complex("nan"), complex("inf")):
        graph = trace_module(Function(lambda x, number=number: x * number), [torch.zeros(1, 8)])
        assert read(write(graph)) == graph
