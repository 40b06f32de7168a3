"""The recommended network of a result."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest

from freerea_patch import InputError
from freerea_seval.config import Config
from freerea_seval.runs.pick import knee, recommend


def config(*roles: str, **search: Any) -> Config:
    """A config of objectives a, b, ... with these roles; a is maximised, the others are minimised."""
    objectives = [
        {
            "metric": "abc"[i],
            "source": {"table": "t.csv"},
            "role": role,
            "direction": "min" if i else "max",
            "unit": "ms",
        }
        | ({"max": 9.0} if role == "constraint" else {})
        for i, role in enumerate(roles)
    ]
    return Config.model_validate({"budget": {"evaluations": 1}, "objectives": objectives, "search": search})


def front(**columns: list[float]) -> pd.DataFrame:
    count = len(columns["a"])
    return pd.DataFrame({"seed": [0] * count, "genotype": [f"g{i}" for i in range(count)], **columns})


def test_the_knee_is_farthest_from_the_line_through_the_ends() -> None:
    """A naive twin: the distance from a line through two points, on axes of the front's range."""
    seed = np.random.default_rng().integers(2**32)
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    for _ in range(50):
        angles = np.sort(rng.uniform(0, np.pi / 2, 6))  # a front that bulges outwards
        points = np.column_stack([5 + 1e4 * np.cos(angles), -3 + 1e-3 * np.sin(angles)])
        unit = (points - points.min(axis=0)) / np.ptp(points, axis=0)
        (x0, y0), (x1, y1) = unit[0], unit[-1]
        distances = [abs((y1 - y0) * x - (x1 - x0) * y + x1 * y0 - y1 * x0) for x, y in unit]
        position, reason = knee(points)
        assert position == int(np.argmax(distances))
        assert reason == "the knee of the front, farthest from the line through its ends (Das 1999)"


@pytest.mark.parametrize(
    ("points", "position", "reason"),
    [
        ([[3.0, 1.0]], 0, "the only network of the front"),
        ([[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]], 1, "the compromise of a front without a knee"),
        ([[0.0, 1.0], [0.1, 0.7], [0.3, 0.3], [1.0, 0.0]], 2, "the compromise"),  # it bends inwards everywhere
        ([[0.0, 1.0], [1.0, 0.0]], 0, "the compromise"),
        ([[1.0, 1.0], [1.0, 1.0]], 0, "the first of equal networks"),
        ([[1.0, 7.0], [2.0, 7.0]], 1, "the best on the only axis"),
        ([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.6, 0.6, 0.6]], 3, "the compromise of 3 axes"),
        ([[-1.7e308, 1.7e308], [1e308, 1e308], [1.7e308, -1.7e308]], 1, "the knee"),
        ([[np.nan, 9.0], [0.0, 1.0], [0.9, 0.9], [1.0, 0.0], [np.inf, 0.0]], 2, "the knee"),
    ],
)
def test_fronts_of_every_form_have_a_pick(points: list[list[float]], position: int, reason: str) -> None:
    with np.errstate(all="raise"):
        chosen, why = knee(np.array(points))
    assert chosen == position
    assert re.match(reason, why)


def test_no_dominated_point_is_a_knee() -> None:
    rng = np.random.default_rng(0)
    for axes in (2, 3, 4):
        for points in rng.random((40, 12, axes)):
            position, reason = knee(points)
            assert reason.startswith("the knee" if axes == 2 else f"the compromise of {axes} axes")
            assert not ((points >= points[position]).all(axis=1) & (points > points[position]).any(axis=1)).any()


def test_axes_that_agree_do_not_pull_the_pick_to_an_end() -> None:
    """Latency, parameters and memory rank networks alike: their sum counts thrice what the score counts once."""
    score = np.linspace(0.0, 1.0, 21)
    cost = -(score**1.5)
    pair, _ = knee(np.column_stack([score, cost]))
    several, _ = knee(np.column_stack([score, cost, cost * 3 - 1, np.round(cost, 2)]))
    assert 0 < pair < 20
    assert 5 <= several <= 15
    assert knee(np.column_stack([score, cost, cost]))[0] == several


def test_a_pareto_search_recommends_the_knee_with_its_values() -> None:
    rows = front(score=[0.1, 0.8, 1.0], a=[1.0, 8.0, 10.0], b=[1.0, 1.5, 9.0])
    pick = recommend(config("fitness", "pareto"), rows)
    assert pick.row == 1
    assert pick.reason == (
        "the knee of the front, farthest from the line through its ends (Das 1999): score 0.8, b 1.5 ms"
    )


def test_a_search_on_a_score_recommends_the_best_within_the_bounds() -> None:
    rows = front(score=[0.4, 0.9, float("nan")], a=[4.0, 9.0, 1.0], b=[1.0, 2.0, 3.0])
    assert recommend(config("fitness", "constraint"), rows).reason == "the best score within the bounds: score 0.9"
    assert recommend(config("fitness"), rows) == recommend(config("fitness"), rows[::-1])
    assert recommend(config("fitness"), rows).reason == "the best score: score 0.9"
    assert recommend(config("constraint"), rows.drop(columns="score")).row == 0


@pytest.mark.parametrize("search", [{}, {"algorithm": "freerea-ranked"}], ids=["sum", "ranks"])
def test_scores_of_several_seeds_are_compared_over_all_of_them(search: dict[str, Any]) -> None:
    """A seed's scores are relative to its own networks: the best of a poor seed has the same as that of a good one."""
    rows = front(score=[1.0, 0.5, 1.0, 0.9], a=[2.0, 1.0, 10.0, 9.0], b=[5.0, 5.0, 5.0, 5.0])
    rows["seed"] = [0, 0, 1, 1]
    pick = recommend(config("fitness", seeds=[0, 1], **search), rows)
    assert (pick.row, pick.reason) == (2, "the best score, of 2 seeds: score 1")
    assert recommend(config("fitness", seeds=[0, 1], **search), rows, seed=0).row == 0
    with pytest.raises(InputError, match=r"^there is no network to recommend of seed 5; expected one of 0, 1$"):
        recommend(config("fitness", seeds=[0, 1], **search), rows, seed=5)


def test_the_pick_of_several_seeds_is_the_best_of_its_seed() -> None:
    """Over all results, the second network of seed 0 is the best, but the table shows the best of each seed."""
    rows = front(score=[2.0, 1.9, 1.0], a=[1.0, 9.0, 5.0])
    rows["seed"] = [0, 0, 1]
    assert recommend(config("fitness", seeds=[0, 1]), rows).row == 2


def test_an_empty_result_has_no_pick() -> None:
    with pytest.raises(InputError, match=r"^there is no network to recommend$"):
        recommend(config("fitness"), front(score=[], a=[]))


def test_the_pick_of_a_front_does_not_depend_on_units() -> None:
    values = {"a": [1.0, 6.0, 8.0, 9.0], "b": [1.0, 2.0, 4.0, 9.0]}
    picks = [
        recommend(config("pareto", "pareto"), front(a=values["a"], b=[k * b for b in values["b"]])) for k in (1, 1e6)
    ]
    assert picks[0].row == picks[1].row
