"""Which networks are measured, and in which order."""

from __future__ import annotations

from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from freerea_patch import InputError, SearchSpace, SizeSpace, TopologySpace
from freerea_seval.measure.networks import draw, farthest_first, most_informative_first, read_genotypes, space_networks
from freerea_seval.predictor.features.matrix import StringFeatures
from freerea_seval.strings.encode import SpaceStrings

SPACE = TopologySpace()
CELLS = SPACE.genotypes()


def test_random_networks_differ_and_follow_the_seed() -> None:
    drawn = draw(SPACE, 50, seed=3)
    assert len(set(drawn)) == 50
    assert drawn == draw(SPACE, 50, seed=3) != draw(SPACE, 50, seed=4)
    assert sorted(draw(SizeSpace(), 10**6, seed=0)) == sorted(SizeSpace().genotypes())


def test_a_space_without_a_list_is_sampled_and_may_have_too_few() -> None:
    space = cast(SearchSpace, SimpleNamespace(name="dice", sample=lambda rng: str(rng.randrange(6))))
    assert sorted(draw(space, 5, seed=0)) != draw(space, 5, seed=1)
    assert len(set(draw(space, 5, seed=0))) == 5
    with pytest.raises(InputError, match="space dice gave 6 different networks, not 7; ask for fewer"):
        draw(space, 7, seed=0)


@pytest.mark.parametrize(
    "form", ["{0}\n{1}\n\n{0}\n", "\ufeffindex,genotype\r\n1,{0}\r\n2,{1}\r\n", "genotype\n {0} \n{1}"]
)
def test_genotypes_are_lines_or_a_column(tmp_path: Path, form: str) -> None:
    path = tmp_path / "cells.txt"
    path.write_text(form.format(*CELLS[:2]), encoding="utf-8", newline="")
    assert read_genotypes(path, SPACE) == list(CELLS[:2])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "is empty; expected one genotype a line"),
        ("genotype,x\n", "has no rows below its header"),
        (f"{CELLS[0]}\n\nnonsense\n", "line 3: 'nonsense' is not a cell"),
        (f"x,genotype\n1,{CELLS[0]}\n2\n", "line 3: '' is not a cell"),
    ],
)
def test_a_wrong_list_of_genotypes_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "cells.txt"
    path.write_text(text)
    with pytest.raises(InputError, match=expected):
        read_genotypes(path, SPACE)


@given(st.integers(0, 12), st.integers(1, 3), st.integers(0, 99))
def test_each_point_is_as_far_as_any_from_those_before(count: int, width: int, seed: int) -> None:
    points = np.array([[Random(f"{seed} {i} {j}").randrange(4) for j in range(width)] for i in range(count)], float)
    points = points.reshape(count, width)
    order = farthest_first(points)
    assert sorted(order) == list(range(count))

    def distance(place: int, before: list[int]) -> Any:
        return min(((points[place] - points[other]) ** 2).sum() for other in before)

    for place in range(1, count):
        best = max(distance(other, order[:place]) for other in order[place:])
        assert distance(order[place], order[:place]) == best


def test_the_first_networks_leave_none_as_far_away_as_random_ones_do() -> None:
    cells = draw(SPACE, 60, seed=0)
    order = most_informative_first(SPACE, cells)
    assert sorted(order) == sorted(cells)
    features = StringFeatures().fit_transform(SpaceStrings(SPACE).strings(order)).astype(float)
    points = (features - features.mean(axis=0)) / np.where(features.std(axis=0) > 0, features.std(axis=0), 1)

    def farthest(chosen: list[int]) -> float:
        return float(max(min(((p - points[c]) ** 2).sum() for c in chosen) for p in points))

    rng = Random(0)
    assert farthest(list(range(15))) < min(farthest(rng.sample(range(60), 15)) for _ in range(20))


def test_the_inputs_are_random_images_that_follow_the_seed() -> None:
    networks = space_networks(SPACE, [CELLS[0], CELLS[0]], batch_size=2, seed=1)
    assert networks.names == [CELLS[0]]
    (images,) = cast("list[Tensor]", networks.make(CELLS[0])[1])
    assert images.shape == (2, 3, 32, 32)
    assert float(images.std()) == pytest.approx(1, abs=0.1)
    (again,) = cast("list[Tensor]", networks.make(CELLS[0])[1])
    assert (images == again).all()
