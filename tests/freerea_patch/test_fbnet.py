"""FBNet's space: its genotypes, its operators and its networks."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any, cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from freerea_patch import FBNetSpace, InputError, SearchSpace
from freerea_patch.fbnet import BLOCKS, Block, format_blocks, parse_blocks
from freerea_patch.networks import ChannelShuffle, InvertedResidual, fbnet_layer
from freerea_seval.config import make_space

GENOTYPES = st.lists(st.sampled_from(tuple(BLOCKS)), min_size=22, max_size=22).map(format_blocks)
RNGS = st.integers(0, 2**32).map(Random)
SPACE = FBNetSpace()
#: Only skips: of 22 layers, the six that change the shape have parameters.
SKIPS = format_blocks([8] * 22)


@given(GENOTYPES)
def test_parsed_blocks_format_to_themselves(genotype: str) -> None:
    assert format_blocks(parse_blocks(genotype)) == genotype
    SPACE.check(genotype)
    assert SPACE.simplified(genotype) == genotype


@pytest.mark.parametrize(
    "text",
    ["", SKIPS[2:], SKIPS + ":8", SKIPS + " ", SKIPS[:-1] + "9", SKIPS[:-1] + "-1", "0" + SKIPS, "8" * 22, "8-" * 22],
)
def test_a_string_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="is not of the space fbnet; expected the numbers of 22 blocks, each from 0 t"):
        SPACE.check(text)
    with pytest.raises(InputError, match="such as 0:3:0:0:0:7"):
        SPACE.simplified(text)


def test_the_example_of_the_error_is_of_the_space() -> None:
    with pytest.raises(InputError) as error:
        SPACE.check("8")
    SPACE.check(str(error.value).rpartition(" ")[2])


def test_a_number_is_no_genotype() -> None:
    with pytest.raises(InputError, match="expected a genotype, which is a text, got 8888"):
        SPACE.check(8888)  # type: ignore[arg-type]


def test_the_space_is_made_by_name_with_images_of_cifar_100_by_default() -> None:
    space: Any = make_space("fbnet")
    assert isinstance(space, FBNetSpace)
    assert isinstance(space, SearchSpace)
    assert (space.name, space.input_shape, space.classes) == ("fbnet/cifar100", (3, 32, 32), 100)
    large: Any = make_space({"name": "fbnet", "dataset": "imagenet"})
    assert (large.name, large.input_shape, large.classes) == ("fbnet/imagenet", (3, 224, 224), 1000)
    assert make_space("fbnet/cifar10").name == "fbnet/cifar10"


def test_a_data_set_of_the_other_spaces_is_refused() -> None:
    with pytest.raises(InputError, match=r"unknown data set 'ImageNet16-120'\. Valid: cifar10, cifar100, imagenet"):
        FBNetSpace("ImageNet16-120")


@given(GENOTYPES, RNGS)
def test_a_mutation_changes_exactly_one_block(genotype: str, rng: Random) -> None:
    mutant = SPACE.mutate(genotype, rng)
    assert sum(a != b for a, b in zip(parse_blocks(genotype), parse_blocks(mutant), strict=True)) == 1


def test_mutations_are_uniform_over_the_176_neighbours() -> None:
    rng = Random(1)
    counts = Counter(SPACE.mutate(SKIPS, rng) for _ in range(35_200))
    assert len(counts) == 22 * 8
    # Chi-squared with 175 degrees of freedom exceeds 237 once in a thousand seeds; this one is fixed.
    assert sum((n - 200) ** 2 / 200 for n in counts.values()) < 237


@given(GENOTYPES, GENOTYPES, RNGS)
def test_every_block_of_a_child_comes_from_a_parent(first: str, second: str, rng: Random) -> None:
    child = parse_blocks(SPACE.crossover(first, second, rng))
    assert all(b in pair for b, *pair in zip(child, parse_blocks(first), parse_blocks(second), strict=True))


def test_a_child_has_blocks_of_both_parents() -> None:
    child = parse_blocks(SPACE.crossover(SKIPS, format_blocks([0] * 22), Random(0)))
    assert 5 <= child.count("0") <= 17


def test_samples_have_every_block_in_every_layer() -> None:
    rng = Random(0)
    layers = zip(*(parse_blocks(SPACE.sample(rng)) for _ in range(200)), strict=True)
    assert all(set(layer) == set(BLOCKS) for layer in layers)


@pytest.mark.parametrize("dataset", FBNetSpace.datasets)
def test_a_network_maps_images_to_one_output_a_class(dataset: str) -> None:
    space = FBNetSpace(dataset)
    network = space.build(space.sample(Random(0)))
    with torch.no_grad():
        assert network(torch.randn(2, *space.input_shape)).shape == (2, space.classes)


@pytest.mark.parametrize("genotype", [SKIPS, format_blocks([7] * 22), SPACE.sample(Random(3))])
@pytest.mark.parametrize(
    ("dataset", "sides"), [("cifar100", (32, 32, 32, 16, 8, 8, 4, 4)), ("imagenet", (112, 112, 56, 28, 14, 14, 7, 7))]
)
def test_stages_have_the_shapes_of_hw_nas_bench(dataset: str, sides: tuple[int, ...], genotype: str) -> None:
    space = FBNetSpace(dataset)
    network: Any = space.build(genotype)
    x, shapes = torch.zeros(1, *space.input_shape, device="meta"), []
    for layer in network.to("meta")[:-1]:
        x = layer(x)
        shapes.append(tuple(x.shape[1:]))
    layers = zip((1, 1, 4, 4, 4, 4, 4, 1), (16, 16, 24, 32, 64, 112, 184, 352), sides, strict=True)
    assert shapes == [(width, side, side) for count, width, side in layers for _ in range(count)]


def test_a_block_is_two_pointwise_convolutions_around_a_depthwise_one() -> None:
    layer: Any = fbnet_layer(Block(5, 3), 8, 8, 1)
    convs = [module for module in layer.modules() if isinstance(module, nn.Conv2d)]
    assert [(c.in_channels, c.out_channels, c.kernel_size[0], c.groups) for c in convs] == [
        (8, 24, 1, 1),
        (24, 24, 5, 24),
        (24, 8, 1, 1),
    ]
    x = torch.randn(2, 8, 6, 6)
    with torch.no_grad():
        y = layer.eval().body(x)
        torch.testing.assert_close(layer(x), x + y)
    assert (y < 0).any()  # no ReLU behind the last convolution


@pytest.mark.parametrize(("width", "stride", "side"), [(8, 2, 3), (12, 1, 6)])
def test_a_block_that_changes_the_shape_does_not_add_its_input(width: int, stride: int, side: int) -> None:
    layer: Any = fbnet_layer(Block(3, 6), 8, width, stride)
    x = torch.randn(2, 8, 6, 6)
    with torch.no_grad():
        torch.testing.assert_close(layer.eval()(x), layer.body(x))
        assert layer(x).shape == (2, width, side, side)


def test_a_block_with_groups_shuffles_its_channels_behind_the_first_convolution() -> None:
    layer = InvertedResidual(8, 8, *Block(3, 1, groups=2))
    assert [module.groups for module in layer.modules() if isinstance(module, nn.Conv2d)] == [2, 8, 2]
    assert isinstance(layer.body[1], ChannelShuffle)
    x = torch.randn(2, 8, 3, 3)
    assert torch.equal(ChannelShuffle(2)(x), x[:, [0, 4, 1, 5, 2, 6, 3, 7]])
    assert not any(isinstance(m, ChannelShuffle) for m in InvertedResidual(8, 8, *Block(3, 1)).modules())


def test_a_skip_is_the_identity_or_a_convolution_with_relu() -> None:
    assert isinstance(fbnet_layer(None, 8, 8, 1), nn.Identity)
    for width, stride in ((8, 2), (12, 1)):
        convolution, *others = cast(Any, fbnet_layer(None, 8, width, stride))
        assert (convolution.kernel_size, convolution.stride) == ((1, 1), (stride, stride))
        assert [type(module) for module in others] == [nn.BatchNorm2d, nn.ReLU]


def test_a_network_is_a_chain_of_stem_layers_and_head_whose_parts_repeat() -> None:
    network: Any = SPACE.build(SKIPS)
    assert len(network) == 24
    parts = SPACE.parts(format_blocks([3] * 22)).parts
    # Four stages have three equal layers behind the first; so has the fifth.
    assert len({part.identity for part in parts}) == 24 - 5 * 2
    genotypes = {SPACE.sample(Random(seed)) for seed in range(100)}
    assert len({SPACE.parts(genotype).identity for genotype in genotypes}) == 100
    assert SPACE.parts(SKIPS).identity != FBNetSpace("cifar10").parts(SKIPS).identity


def test_parts_of_one_identity_have_the_same_parameters() -> None:
    known: dict[object, list[tuple[int, ...]]] = {}
    for seed in range(6):
        for part in SPACE.parts(SPACE.sample(Random(seed))).parts:
            shapes = [tuple(parameter.shape) for parameter in part.build().parameters()]
            assert known.setdefault(part.identity, shapes) == shapes
