"""A space that is limited to listed networks of another."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from freerea_patch import InputError, SearchSpace, SizeSpace, Subspace, TopologySpace

TSS = TopologySpace()
CELLS = TSS.genotypes()


@pytest.mark.parametrize("count", [1, 2, 40, 5000])
def test_every_operator_stays_within_the_list_and_reaches_all_of_it(count: int) -> None:
    space, rng = Subspace(TSS, [*CELLS[:count], CELLS[0]]), Random(0)
    assert isinstance(space, SearchSpace)
    assert list(space.genotypes()) == list(CELLS[:count])
    parents = [space.sample(rng) for _ in range(200)]
    children = [space.mutate(parent, rng) for parent in parents]
    children += [space.crossover(first, second, rng) for first, second in zip(parents, children, strict=True)]
    for genotype in (*parents, *children):
        space.check(genotype)
    assert set(children) <= set(CELLS[:count])
    if count <= 40:
        assert set(children) == set(CELLS[:count])


def test_a_mutation_within_the_list_is_one_of_the_other_space() -> None:
    space, rng = Subspace(TSS, CELLS[:8000]), Random(0)
    for parent in CELLS[:50]:
        genes = zip(space.mutate(parent, rng).split("|"), parent.split("|"), strict=True)
        assert sum(new != old for new, old in genes) == 1


def test_a_network_outside_of_the_list_is_refused() -> None:
    space = Subspace(TSS, CELLS[:3])
    with pytest.raises(InputError, match="is not among the 3 networks that the space is limited to"):
        space.check(CELLS[3])
    with pytest.raises(InputError, match="is not a cell of the topology space"):
        space.check("x")


def test_a_network_is_simplified_only_to_a_listed_one() -> None:
    dead = next(cell for cell in CELLS if TSS.simplified(cell) != cell)
    assert Subspace(TSS, [dead]).simplified(dead) == dead
    assert Subspace(TSS, [dead, TSS.simplified(dead)]).simplified(dead) == TSS.simplified(dead)
    assert hasattr(Subspace(SizeSpace(), ["8:8:8:8:8"]), "simplified")
    bare: Any = Bare()
    assert not hasattr(Subspace(bare, ["8:8:8:8:8"]), "simplified")


class Bare:
    """A space without optional members."""

    name, input_shape = "bare", (3, 32, 32)

    def __getattr__(self, name: str) -> object:
        if name == "simplified":
            raise AttributeError(name)
        return getattr(SizeSpace(), name)
