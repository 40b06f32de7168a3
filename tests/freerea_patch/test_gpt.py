"""The spaces of language models: genotypes, operators, genes and the errors of options."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from freerea_patch import GPTLargeSpace, GPTMediumSpace, GPTSmallSpace, GPTSpace, InputError, make_space

SMALL: dict[str, Any] = {
    "width": [64, 128],
    "layers": [1, 3],
    "heads": [2, 4],
    "ratio": [2, 2.5],
    "bias": [False, True],
    "context": 8,
    "vocabulary": 11,
}
SPACE = GPTSpace(**SMALL)
GROUPED = GPTSpace(**SMALL, kv_heads=[1, 2])
SPACES = [SPACE, GROUPED, GPTSmallSpace(), GPTMediumSpace(), GPTLargeSpace()]
SEEDS = st.integers(0, 2**32)


def differing(space: GPTSpace, first: str, second: str) -> list[str]:
    """Return the genes in which two genotypes differ."""
    one, other = space.genes(first), space.genes(second)
    return [name for name in one if one[name] != other[name]]


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.kind)
@given(SEEDS)
def test_offspring_are_of_the_space_and_genes_compose_to_their_genotype(space: GPTSpace, seed: int) -> None:
    rng = Random(seed)
    first, second = space.sample(rng), space.sample(rng)
    for genotype in (first, space.mutate(first, rng), space.crossover(first, second, rng)):
        space.check(genotype)
        assert space.compose(space.genes(genotype)) == genotype == space.simplified(genotype)


@given(SEEDS)
def test_a_mutation_changes_one_gene_of_the_network(seed: int) -> None:
    rng = Random(seed)
    genotype = GROUPED.sample(rng)
    mutant = GROUPED.mutate(genotype, rng)
    changed = differing(GROUPED, genotype, mutant)
    if "layers" in changed:  # further layers are new, and those before them stay
        layers = min(int(GROUPED.genes(g)["layers"]) for g in (genotype, mutant))
        assert not [name for name in changed if name.partition(" ")[2] in map(str, range(1, layers + 1))]
    else:
        assert len(changed) == 1


def test_every_gene_of_a_network_can_mutate() -> None:
    rng, genotype = Random(0), "w64:l3:b0:k1:h2-2-2:r2-2-2"
    mutants = {GROUPED.mutate(genotype, rng) for _ in range(500)}
    assert {name for mutant in mutants for name in differing(GROUPED, genotype, mutant)} == set(GROUPED.choices())
    assert any(mutant.startswith("w64:l1:b0:k1:h2:r2") for mutant in mutants)


@given(SEEDS)
def test_every_gene_of_a_child_comes_from_a_parent_that_has_it(seed: int) -> None:
    rng = Random(seed)
    first, second = GROUPED.sample(rng), GROUPED.sample(rng)
    child = GROUPED.crossover(first, second, rng)
    genes = [GROUPED.genes(parent) for parent in (first, second)]
    for name, value in GROUPED.genes(child).items():
        layer = int(name.partition(" ")[2] or 0)
        if layer <= int(GROUPED.genes(child)["layers"]):
            assert value in [own[name] for own in genes if layer <= int(own["layers"])]


def test_a_child_of_two_lengths_has_layers_of_both_parents() -> None:
    children = {SPACE.crossover("w64:l1:b0:h2:r2", "w128:l3:b1:h4-4-4:r2.5-2.5-2.5", Random(s)) for s in range(200)}
    assert "w64:l3:b1:h2-4-4:r2-2.5-2.5" in children
    assert "w128:l1:b0:h4:r2" in children
    assert len(children) == 2 * 2 * 2 * 2 * 2


def test_genes_of_layers_that_a_network_lacks_do_not_make_another_genotype() -> None:
    genes = dict(SPACE.genes("w64:l1:b0:h2:r2"))
    assert SPACE.compose(genes | {"heads 2": "4", "ratio 3": "2.5"}) == "w64:l1:b0:h2:r2"
    networks = {str(SPACE.parts(genotype).identity): genotype for genotype in _all(SPACE)}
    assert len(networks) == len(_all(SPACE)) == 2 * 2 * (4 + 4**3)


def _all(space: GPTSpace) -> set[str]:
    rng = Random(0)
    return {space.sample(rng) for _ in range(4000)}


@pytest.mark.parametrize(
    ("genotype", "message"),
    [
        ("", r"'' is not of the space gpt; expected the form w64:l1:b0:h2:r2, with heads and ratio of every layer"),
        ("w64:l1:b0:k1:h2:r2", "is not of the space gpt"),
        ("w32:l1:b0:h2:r2", "has width '32'; expected one of 64, 128"),
        ("w64:l2:b0:h2-2:r2-2", "has layers '2'; expected one of 1, 3"),
        ("w64:l3:b0:h2-2:r2-2-2", "has 2 values of heads; expected one for each of its 3 layers"),
        ("w64:l1:b0:h2:r2-2", "has 2 values of ratio; expected one for each of its 1 layers"),
        ("w64:l1:b2:h2:r2", "has bias '2'; expected one of 0, 1"),
        ("w64:l1:b0:h:r2", "has heads ''; expected one of 2, 4"),
        ("w064:l1:b0:h2:r2", "has width '064'"),
        ("w64:l1:b0:h2:r2.50", "has ratio '2.50'"),
    ],
)
def test_a_genotype_of_another_form_is_refused(genotype: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        SPACE.check(genotype)


def test_a_number_and_a_missing_choice_are_refused() -> None:
    with pytest.raises(InputError, match="expected a genotype, which is a text, got 3"):
        SPACE.check(3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="has kv_heads ''; expected one of 1, 2"):
        GROUPED.check("w64:l1:b0:k:h2:r2")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": []}, "width: expected one or more different values, got none"),
        ({"width": [64, 64]}, "width: expected one or more different values, got 64, 64"),
        ({"layers": [0]}, "layers: expected whole numbers from 1, got 0"),
        ({"heads": ["2"]}, "heads: expected whole numbers from 1, got '2'"),
        ({"heads": [True]}, "heads: expected whole numbers from 1, got True"),
        ({"ratio": [-1]}, r"ratio: expected numbers above 0, such as \[2, 3, 4\], got -1"),
        ({"ratio": [2.51]}, "ratio: expected a whole number of features, but 2.51 x 64 is none"),
        ({"bias": [1]}, r"bias: expected true, false or \[false, true\], got 1"),
        ({"context": 0}, "context: expected whole numbers from 1, got 0"),
        ({"norm": "batch"}, "unknown norm 'batch'"),
        ({"gated": 1}, "gated: expected true or false, got 1"),
        ({"rotary": 33}, "rotary: expected an even number of a head's 64 features, got 33"),
        ({"kv_heads": [4]}, "kv_heads: expected divisors of all heads, but 4 does not divide 2"),
        ({"layers": [2, 10**6]}, "layers: expected at most 1000, got 1000000"),
        ({"depth": 3}, "unknown option of space 'gpt': 'depth'.*Valid: bias, context, gated"),
    ],
)
def test_a_wrong_option_is_refused_in_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        make_space({"name": "gpt", **SMALL, **options})
    assert "\n" not in str(error.value)


def test_genes_that_do_not_fit_are_refused() -> None:
    genes = dict(SPACE.genes("w64:l1:b0:h2:r2"))
    with pytest.raises(InputError, match="heads 2: expected one of 2, 4, got '3'"):
        SPACE.compose(genes | {"heads 2": "3"})
    with pytest.raises(InputError, match="expected the genes width, layers, bias, heads 1, ratio 1"):
        SPACE.compose({"width": "64"})


def test_a_space_of_one_network_cannot_mutate() -> None:
    space = GPTSpace(64, 1, 1, 2, False)
    with pytest.raises(InputError, match="has one network, and nothing to mutate"):
        space.mutate(space.sample(Random(0)), Random(0))


def test_spaces_are_made_by_name_and_their_names_tell_them_apart() -> None:
    for kind, widths in (("gpt-s", (192, 384, 768)), ("gpt-m", (256, 512, 1024)), ("gpt-l", (320, 640, 1280))):
        space: Any = make_space(kind)
        assert isinstance(space, GPTSpace)
        assert (space.name, space.input_shape, space.input_dtype, space.vocabulary) == (kind, (1024,), "int64", 50_254)
        assert space.choices()["width"] == tuple(map(str, widths))
    assert make_space({"name": "gpt-s", "context": 128}).name == "gpt-s context=128"
    options: list[dict[str, Any]] = [
        {},
        {"context": 9},
        {"norm": "rms"},
        {"gated": True},
        {"kv_heads": 1},
        {"parallel": True},
        {"rotary": 32},
        {"vocabulary": 12},
        {"width": [64]},
    ]
    assert len({GPTSpace(**SMALL | more).name for more in options}) == len(options)


@pytest.mark.parametrize("space", SPACES[2:], ids=lambda space: space.kind)
def test_counted_parameters_are_those_of_built_networks(space: GPTSpace) -> None:
    from freerea_seval.costs import SpaceCosts

    rng, costs = Random(1), SpaceCosts(space)
    for genotype in [space.sample(rng) for _ in range(8)]:
        with torch.device("meta"):
            network = space.build(genotype)
        genes = space.genes(genotype)
        width, bias, layers = int(genes["width"]), int(genes["bias"]), range(1, int(genes["layers"]) + 1)
        # Embedding and head; in each block two norms, four projections of attention and two of the MLP (the paper's
        # appendix on the architecture); a last norm.
        expected = 2 * 50_254 * width + 2 * width
        for layer in layers:
            inner, hidden = 64 * int(genes[f"heads {layer}"]), width * int(genes[f"ratio {layer}"])
            expected += 4 * width + 4 * width * inner + 2 * width * hidden
            expected += bias * (3 * inner + width + hidden + width)
        assert costs.counts(genotype).params == expected == sum(p.numel() for p in network.parameters())
