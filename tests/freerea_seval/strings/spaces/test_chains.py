"""Strings put together from parts, against strings of whole networks."""

from __future__ import annotations

from random import Random
from typing import cast

import pytest
import torch
from torch import Tensor, nn

from freerea_patch import FBNetSpace, Part, SizeSpace, TopologySpace
from freerea_patch.spaces import format_cell
from freerea_seval.strings.encode import SpaceStrings
from freerea_seval.strings.text.parse import parse_graph
from freerea_seval.strings.views import VIEWS, View
from tests.freerea_seval.strings.example_spaces import (
    IDENTITY,
    RELU,
    TANH,
    Bare,
    Parted,
    chain,
    conv,
    function,
    layer,
    naive,
    named,
    residual,
)
from tests.freerea_seval.strings.trace.tracing import Function

DATASETS = ("cifar10", "cifar100", "ImageNet16-120")
PLAIN = [
    *(format_cell([op] * 6) for op in ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")),
    # The output is cut off; the second node is; everything goes through one edge; a sum ends every cell.
    format_cell(["nor_conv_3x3", "nor_conv_3x3", "nor_conv_1x1", "none", "none", "none"]),
    format_cell(["none", "nor_conv_3x3", "nor_conv_1x1", "skip_connect", "avg_pool_3x3", "nor_conv_3x3"]),
    format_cell(["nor_conv_1x1", "none", "skip_connect", "none", "none", "avg_pool_3x3"]),
    format_cell(["none", "none", "none", "nor_conv_1x1", "none", "none"]),
    format_cell(["skip_connect", "none", "none", "avg_pool_3x3", "skip_connect", "none"]),
    format_cell(["nor_conv_3x3", "skip_connect", "none", "skip_connect", "nor_conv_3x3", "nor_conv_3x3"]),
]


@pytest.fixture(params=VIEWS)
def view(request: pytest.FixtureRequest) -> View:
    return request.param  # type: ignore[no-any-return]


def agree(space: Bare, view: View, *genotypes: str) -> list[str]:
    """Check that a space's strings are those of its whole networks; return them."""
    strings = SpaceStrings(space, view).strings(genotypes or list(space.networks))
    for genotype, string in zip(genotypes or space.networks, strings, strict=True):
        assert string == naive(space, genotype, view), genotype
    return strings


def test_cells_of_every_kind_read_as_their_whole_networks_do(view: View) -> None:
    space = TopologySpace()
    strings = SpaceStrings(space, view).strings(PLAIN)
    assert strings == [naive(space, cell, view) for cell in PLAIN]
    assert strings == [SpaceStrings(space, view).strings([cell])[0] for cell in PLAIN]


@pytest.mark.parametrize("dataset", DATASETS)
def test_random_cells_read_as_their_whole_networks_do(view: View, dataset: str) -> None:
    space, random = TopologySpace(dataset), Random(dataset + view)
    cells = [space.sample(random) for _ in range(8)]
    assert SpaceStrings(space, view).strings(cells) == [naive(space, cell, view) for cell in cells]


@pytest.mark.parametrize("dataset", DATASETS)
def test_random_widths_read_as_their_whole_networks_do(view: View, dataset: str) -> None:
    space, random = SizeSpace(dataset), Random(dataset + view)
    sizes = [*(space.sample(random) for _ in range(10)), "8:8:8:8:8", "64:64:64:64:64"]
    assert SpaceStrings(space, view).strings(sizes) == [naive(space, size, view) for size in sizes]


@pytest.mark.parametrize("dataset", FBNetSpace.datasets)
def test_random_blocks_read_as_their_whole_networks_do(view: View, dataset: str) -> None:
    space, random = FBNetSpace(dataset), Random(dataset + view)
    chosen = [*(space.sample(random) for _ in range(6)), ":".join("8" * 22), ":".join("1" * 22)]
    assert SpaceStrings(space, view).strings(chosen) == [naive(space, genotype, view) for genotype in chosen]


def test_a_disconnected_cell_forgets_its_input_in_the_functional_view() -> None:
    executed, functional = (SpaceStrings(TopologySpace(), view).strings([PLAIN[0]])[0] for view in VIEWS)
    assert "mul(0)" in executed
    assert "conv" in executed
    # The last of the blocks has made all that there was zero.
    assert functional.startswith("input[1x3x32x32] zeros")
    assert "conv" not in functional


def test_parts_in_parts_in_parts_read_as_the_whole_does(view: View) -> None:
    block = residual(chain(RELU, conv(3, 3), residual(residual(TANH))))
    strings = agree(Parted(one=block, many=chain(block, block, RELU, residual(chain(block, block)))), view)
    assert strings[0].count("add") == (3 if view == "executed" else 1)


def test_the_kind_of_a_part_may_be_shared_by_parts_of_other_widths(view: View) -> None:
    wide = chain(conv(3, 6), residual(conv(6, 6)), residual(conv(6, 6, 3)), residual(chain(conv(6, 2), conv(2, 6))))
    narrow = chain(conv(3, 4), residual(conv(4, 4)), residual(conv(4, 1, 3)))
    agree(Parted(wide=wide, narrow=narrow, again=wide), view)


def test_one_part_may_occur_many_times(view: View) -> None:
    block = residual(chain(conv(3, 3, 3), RELU))
    (string,) = agree(Parted(deep=chain(*[block] * 20)), view)
    assert "20*{" in string


def test_a_sum_or_a_relu_at_the_end_of_a_part_goes_on_in_the_next(view: View) -> None:
    add = function("twice", lambda x, f: x + f(x), conv(3, 3))
    more = function("more", lambda x: x + 1.0 * torch.tanh(x))
    once = function("once", lambda x, f, g: f(x) + g(x), IDENTITY, conv(3, 3, 3))
    space = Parted(
        relus=chain(conv(3, 3), RELU, RELU, IDENTITY, RELU, conv(3, 3)),
        sums=chain(conv(3, 3), add, once, more, add),
        joined=chain(add, IDENTITY, function("plus", lambda x: x + torch.ones(3, 1, 1))),
        identities=chain(IDENTITY, IDENTITY, add, IDENTITY),
        behind=chain(RELU, residual(RELU), residual(chain(RELU, conv(3, 3)))),
    )
    strings = agree(space, view)
    if view == "functional":
        assert strings[0].count("relu") == 1


def test_a_sum_goes_on_in_a_part_behind_one_that_does_nothing(view: View) -> None:
    add = function("sum", lambda x, f, g: f(x) + g(x), conv(3, 3), conv(3, 3, 3))
    plus = function("plus", lambda x: x + torch.full((1, 3, 8, 8), 2.0))
    agree(Parted(one=chain(add, IDENTITY, plus), two=chain(add, IDENTITY, IDENTITY, plus, plus)), view)


def test_a_part_may_forget_its_input(view: View) -> None:
    zero = function("zero", lambda x: x * 0)
    lost = function("lost", lambda x: torch.ones(1, 3, 8, 8))
    noise = function("zeros_like", torch.zeros_like)
    space = Parted(
        first=chain(zero, conv(3, 3), RELU),
        last=chain(conv(3, 3), RELU, zero),
        middle=chain(conv(3, 3), zero, layer("bn", nn.BatchNorm2d, 3), conv(3, 4), layer("sigmoid", nn.Sigmoid)),
        twice=chain(conv(3, 3), zero, TANH, zero, RELU),
        lost=chain(conv(3, 3), lost, RELU, conv(3, 3)),
        noise=chain(conv(3, 3), noise, RELU, conv(3, 3)),
        inside=chain(conv(3, 3), residual(zero), residual(lost), residual(chain(RELU, noise))),
        biased=chain(conv(3, 3), zero, layer("bias", nn.Conv2d, 3, 3, 1), RELU),
        alone=zero,
    )
    agree(space, view)


def test_chains_that_do_nothing_or_are_no_chains(view: View) -> None:
    space = Parted(
        nothing=chain(),
        identity=chain(IDENTITY),
        one=conv(3, 4),
        wrapped=chain(chain(chain(conv(3, 4))), chain(RELU, chain())),
        through=function("through", lambda x: x),
        around=chain(function("through", lambda x: x), RELU, function("through", lambda x: x)),
    )
    strings = agree(space, view)
    assert strings[0] == "input[1x3x8x8] output"


def test_shapes_may_change_and_repeat_on_the_way(view: View) -> None:
    pool, flat = layer("pool", nn.AvgPool2d, 2), layer("flat", nn.Flatten)
    space = Parted(
        pooled=chain(*[chain(conv(3, 3, 3), RELU, pool)] * 3, flat, layer("linear", nn.Linear, 3, 2)),
        split=chain(function("split", lambda x: torch.cat(x.chunk(3, 1)[::-1], 1)), conv(3, 3)),
        reshaped=chain(function("reshape", lambda x: x.reshape(1, 3, 64)), layer("linear", nn.Linear, 64, 3)),
        same=chain(function("same", lambda x: x.reshape(1, 3, 8, 8)), RELU),
    )
    agree(space, view)


def test_long_parts_read_as_the_whole_does(view: View) -> None:
    """A part that is searched for repetition inside counts from the network's first operation."""

    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mask = nn.Conv2d(3, 3, 1)
            self.layers = nn.ModuleList(nn.Conv2d(3, 3, 1) for _ in range(14))

        def forward(self, x: Tensor) -> Tensor:
            mask = self.mask(x)
            for inner in self.layers:
                x = torch.relu(inner(x)) * mask
            return x

    masked = Part("masked", Masked)
    strings = agree(Parted(one=chain(conv(3, 3), masked), two=chain(RELU, masked, masked, TANH)), view)
    assert "^" in strings[0]


class Shared(nn.Module):
    """A module that has one convolution and runs it twice."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.inner(torch.relu(self.inner(x))))


def test_parameters_may_be_shared_inside_a_part(view: View) -> None:
    strings = agree(Parted(one=chain(TANH, Part("shared", Shared), Part("shared", Shared))), view)
    assert parse_graph(strings[0]).parameters == 24


class Spare(nn.Module):
    """A module with parameters that nothing reads."""

    def __init__(self) -> None:
        super().__init__()
        self.spare = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x)


HALF = function("half", lambda x: x.half())
PAIR = function("pair", lambda x: (x, torch.tanh(x)))
UNCOMPOSABLE = {
    "a part yields two tensors": function("sum of a pair", lambda x, f: sum(f(x)), PAIR),
    "the last part yields two tensors": chain(RELU, PAIR),
    "a part changes the dtype": chain(conv(3, 3), HALF, TANH),
    "an inner part changes the dtype": residual(HALF),
    "a part runs twice": function("run twice", lambda x, f: f(torch.relu(f(x))), conv(3, 3)),
    "a part runs twice on one input": function("both", lambda x, f: f(x) + f(x), IDENTITY),
    "a part does not run": chain(RELU, function("unread", lambda x, f: x + 1, conv(3, 3))),
    "a part has parameters to spare": chain(RELU, Part("spare", Spare)),
    "a part gets two tensors": function("two", lambda x, f: f(x, x), Part("mul", lambda: Function(torch.mul))),
}


@pytest.mark.parametrize("kind", UNCOMPOSABLE)
def test_what_parts_cannot_do_is_read_off_the_whole_network(view: View, kind: str) -> None:
    agree(Parted(whole=UNCOMPOSABLE[kind], inside=chain(conv(3, 3), UNCOMPOSABLE[kind])), view)


def test_parts_of_one_key_may_differ_in_their_number(view: View) -> None:
    add = Part("sum", lambda *terms: Function(lambda x: sum(term(x) for term in terms), **named(terms)), (TANH, RELU))
    three = Part(add.key, add.make, (*add.parts, conv(3, 3)))
    agree(Parted(two=add, three=three, again=add, both=chain(three, add)), view)
