"""Presets: what they add, and what a config of its own replaces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from freerea_patch import InputError
from freerea_seval.config import Config, check_config
from freerea_seval.runs.setup import prepare


def read(search: dict[str, Any], *objectives: dict[str, Any], **more: Any) -> Config:
    return check_config({"search": search, "objectives": [*objectives], "budget": {"evaluations": 5}, **more}, "config")


def test_an_algorithm_goes_without_the_options_that_it_does_not_take() -> None:
    assert read({"preset": "guided", "algorithm": "freerea-minus"}).search.options() == {}
    engine = read({"preset": "guided", "algorithm": "pymoo:nsga2"})
    assert engine.search.options() == {"aggregation": "log-ranks", "simplify": "auto"}
    unknown = read({"preset": "guided", "algorithm": "mine:Mine"})
    assert set(unknown.search.options()) == {"aggregation", "normalisation", "simplify"}


def test_an_objective_of_the_same_name_replaces_that_of_the_preset() -> None:
    own = {"metric": "independence", "source": "zero-cost", "weight": 3.0}
    config = read({"preset": "guided"}, own, {"metric": "macs", "source": "cost", "name": "size", "direction": "max"})
    assert [(s.column, s.metric, s.weight) for s in config.objectives] == [
        ("independence", "independence", 3.0),
        ("size", "macs", 1.0),
        ("depth", "depth", 0.25),
        ("skip", "skip", 0.2),
    ]


def test_an_optional_objective_is_left_out_with_a_note_where_the_space_does_not_define_it() -> None:
    setup = prepare(read({"preset": "guided"}, space="fbnet"), Path())
    assert [bound.section.column for bound in setup.bound] == ["independence", "size", "depth"]
    assert "skip is left out: the space fbnet/cifar100 does not define it" in setup.notes


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        ({"metric": "skyp", "source": "training-free"}, "unknown metric of source 'training-free': 'skyp'"),
        ({"metric": "lat", "source": {"table": "nofile.csv"}, "direction": "min"}, "nofile.csv"),
    ],
)
def test_optional_hides_no_mistake(objective: dict[str, Any], message: str) -> None:
    skip = {"metric": "params", "source": "cost"}
    with pytest.raises(InputError, match=message):
        prepare(read({}, skip, {**objective, "optional": True}), Path())


def test_a_bound_cannot_be_optional() -> None:
    bound = {"metric": "params", "source": "cost", "role": "constraint", "max": 1, "optional": True}
    with pytest.raises(InputError, match="'optional' belongs to what a search optimises or reports"):
        read({"preset": "guided"}, bound)
