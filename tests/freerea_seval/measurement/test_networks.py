"""Which networks are measured, and in which order."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from torch import Tensor, nn

from freerea_patch import InputError, SearchSpace, SizeSpace, TopologySpace
from freerea_seval.measurement import networks
from freerea_seval.measurement.networks import draw, most_informative_first, read_genotypes, space_networks
from freerea_seval.predictor.active_learning import most_informative
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
    assert len(draw(space, 7, seed=0, least=2)) == 6
    with pytest.raises(InputError, match="space dice gave 6 different networks, not 7; ask for fewer"):
        draw(space, 100, seed=0, least=7)


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
        (f"x,genotype\n1,{CELLS[0]}\n2,\n", "line 3: '' is not a cell"),
        (f"x,genotype\n1,{CELLS[0]}\n2\n", "line 3: expected 2 fields as in the header, got 1"),
        (f"genotype\n{'x' * 131_073}\n", "line 2: not a row of CSV"),
        ("x" * 131_073, "line 1: 'xxx"),
    ],
)
def test_a_wrong_list_of_genotypes_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "cells.txt"
    path.write_text(text)
    with pytest.raises(InputError, match=expected):
        read_genotypes(path, SPACE)


def test_the_first_networks_are_those_that_a_predictor_learns_most_from(monkeypatch: pytest.MonkeyPatch) -> None:
    cells = draw(SPACE, 60, seed=0)
    expected = most_informative(SpaceStrings(SPACE, "executed").strings(cells), 60, length_scale=networks._LENGTH_SCALE)
    assert most_informative_first(SPACE, cells) == [cells[i] for i in expected]
    monkeypatch.setattr(networks, "_ORDERED", 7)
    order = most_informative_first(SPACE, cells)
    assert order[:7] == [cells[i] for i in expected[:7]]
    assert order[7:] == [cell for cell in cells if cell not in order[:7]]


def test_networks_with_the_string_of_another_come_last() -> None:
    def build(genotype: str) -> nn.Module:
        return nn.Conv2d(3, int(genotype.rstrip("'")), 1)

    space = cast(SearchSpace, SimpleNamespace(name="widths", input_shape=(3, 4, 4), build=build))
    order = most_informative_first(space, [*map(str, range(1, 13)), *(f"{width}'" for width in range(1, 13))])
    assert sorted(order[:12], key=int) == [str(width) for width in range(1, 13)]
    assert order[12:] == [f"{width}'" for width in range(1, 13)]


def test_the_inputs_are_random_images_that_follow_the_seed() -> None:
    found = space_networks(SPACE, [CELLS[0], CELLS[0]], batch_size=2, seed=1)
    assert found.names == [CELLS[0]]
    (images,) = cast("list[Tensor]", found.make(CELLS[0])[1])
    assert images.shape == (2, 3, 32, 32)
    assert float(images.std()) == pytest.approx(1, abs=0.1)
    (again,) = cast("list[Tensor]", found.make(CELLS[0])[1])
    assert (images == again).all()
