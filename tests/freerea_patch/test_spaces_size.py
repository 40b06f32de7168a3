"""The size space: its genotypes, its operators and its order."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freerea_patch import InputError, SearchSpace, SizeSpace
from freerea_patch.spaces import WIDTHS, all_sizes, format_widths, parse_widths

SIZES = st.lists(st.sampled_from(WIDTHS), min_size=5, max_size=5).map(format_widths)
RNGS = st.integers(0, 2**32).map(Random)
SPACE = SizeSpace()


@given(SIZES)
def test_parsed_widths_format_to_themselves(size: str) -> None:
    assert format_widths(parse_widths(size)) == size


@given(
    st.one_of(st.text(alphabet="0123468:- ", max_size=16), SIZES.map(lambda s: s + ":8"), SIZES.map(lambda s: s + " "))
)
def test_a_string_of_another_form_is_refused(text: str) -> None:
    genes = text.split(":")
    if len(genes) == 5 and all(gene in map(str, WIDTHS) for gene in genes):
        assert parse_widths(text)
    else:
        with pytest.raises(InputError, match="is not of the size space; expected 5 channel counts out of 8, 16, "):
            parse_widths(text)


@pytest.mark.parametrize("text", ["", "8:8:8:8", "8:8:8:8:8:8", "8:8:8:8:12", "08:8:8:8:8", "8:8:8:8:72", "8:8:8:8:-8"])
def test_a_string_that_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="such as 64:32:8:40:16"):
        SPACE.check(text)


def test_an_unknown_data_set_is_refused() -> None:
    with pytest.raises(InputError, match="unknown data set 'imagenet'"):
        SizeSpace("imagenet")


def test_the_space_is_named_by_its_data_set() -> None:
    assert SizeSpace("cifar100").name == "nats-sss/cifar100"
    assert isinstance(SPACE, SearchSpace)


@given(SIZES, RNGS)
def test_a_mutation_changes_exactly_one_width(size: str, rng: Random) -> None:
    mutant = SPACE.mutate(size, rng)
    assert sum(a != b for a, b in zip(parse_widths(size), parse_widths(mutant), strict=True)) == 1


def test_mutations_are_uniform_over_the_35_neighbours() -> None:
    rng = Random(1)
    counts = Counter(SPACE.mutate("8:16:24:32:40", rng) for _ in range(35_000))
    assert len(counts) == 35
    # Chi-squared with 34 degrees of freedom exceeds 65.2 once in a thousand seeds; this one is fixed.
    assert sum((n - 1_000) ** 2 / 1_000 for n in counts.values()) < 65.2


@given(SIZES, SIZES, RNGS)
def test_every_width_of_a_child_comes_from_a_parent(first: str, second: str, rng: Random) -> None:
    child = parse_widths(SPACE.crossover(first, second, rng))
    assert all(w in pair for w, *pair in zip(child, parse_widths(first), parse_widths(second), strict=True))


@given(SIZES, RNGS)
def test_equal_parents_have_an_equal_child(size: str, rng: Random) -> None:
    assert SPACE.crossover(size, size, rng) == size


@given(RNGS)
def test_a_sample_is_of_the_space(rng: Random) -> None:
    assert SPACE.sample(rng) in all_sizes()


def test_skip_is_that_of_the_fixed_cell() -> None:
    # Its one skip connection leads from node 0 to node 3, over two levels.
    assert SPACE.skip("8:8:8:8:8") == SPACE.skip("64:64:64:64:64") == 2.0


def test_skip_of_a_string_that_is_no_size_is_refused() -> None:
    with pytest.raises(InputError):
        SPACE.skip("8")


def test_there_are_32768_different_sizes() -> None:
    assert len(set(all_sizes())) == len(all_sizes()) == 8**5
    assert SPACE.genotypes() is all_sizes()


@pytest.mark.parametrize(("index", "size"), [(0, "8:8:8:8:8"), (11, "8:8:8:16:32"), (284, "8:8:40:32:40")])
def test_the_official_samples_have_their_numbers(index: int, size: str) -> None:
    assert all_sizes()[index] == size


@pytest.mark.data
def test_the_order_is_the_official_one(data_dir: Path) -> None:
    from freerea_seval.unpickle import load_pickle

    folder = data_dir / "nats_official_samples" / "NATS-sss-v1_0-50262-simple"
    meta = load_pickle(folder / "meta.pickle.pbz2", {}, "NATS-Bench file")
    assert tuple(meta["meta_archs"]) == all_sizes()
