"""Choosing a model and scales by what was held out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import kendalltau
from sklearn.model_selection import KFold

from freerea_patch import InputError
from freerea_seval.predictor import model_selection as choosing
from freerea_seval.predictor.model_selection import Choice, choose
from freerea_seval.predictor.models.forests import KINDS

Values = npt.NDArray[np.float64]


class Seen(NamedTuple):
    """What a model was trained on."""

    strings: frozenset[str]
    metrics: int


class Fake:
    """Models by name that predict the score of a hidden number of every string, with noise of a strength of their own.

    ``log`` is there to show what was asked: name, training strings, scales of targets.
    """

    def __init__(self, noise: Mapping[str, float], hidden: Mapping[str, float]) -> None:
        self.noise, self.hidden = noise, hidden
        self.log: list[tuple[str, list[str], Values]] = []

    def train(self, name: str, strings: Sequence[str], targets: Values, proxies: Values | None, *settings: Any) -> Seen:
        self.log.append((name, list(strings), targets))
        return Seen(frozenset(strings), targets.shape[1])

    def ask(self, name: str, model: Seen, strings: Sequence[str], proxies: Values | None) -> Values:
        assert not model.strings & set(strings), "a network that it was trained on"
        rng = np.random.default_rng(len(name))
        scores = np.array([self.hidden[string] for string in strings])
        return np.repeat((scores + self.noise[name] * rng.standard_normal(len(scores)))[:, None], model.metrics, axis=1)


@pytest.fixture
def hidden(strings: list[str]) -> dict[str, float]:
    return dict(zip(strings, np.random.default_rng(0).standard_normal(120).tolist(), strict=True))


def chosen(
    monkeypatch: pytest.MonkeyPatch,
    hidden: Mapping[str, float],
    noise: Mapping[str, float],
    model: str = "auto",
    scale: str = "linear",
    values: Values | None = None,
) -> tuple[Choice, Fake]:
    fake = Fake(noise, hidden)
    monkeypatch.setattr(choosing, "train", fake.train)
    monkeypatch.setattr(choosing, "ask", fake.ask)
    strings = list(hidden)
    if values is None:
        values = np.array(list(hidden.values()))[:, None]
    return choose(model, scale, strings, values, None, 0, {}, False, lambda fraction, note: None), fake


@pytest.mark.parametrize(
    ("noise", "best"), [({"boosted": 0.1, "gp": 3.0}, "boosted"), ({"boosted": 3.0, "gp": 0.1}, "gp")]
)
def test_the_model_that_predicts_best_what_it_did_not_see_is_chosen(
    noise: dict[str, float], best: str, hidden: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    choice, _ = chosen(monkeypatch, hidden, noise)
    assert choice.members == (best,)
    assert choice.shares.tolist() == [[1.0]]
    assert set(choice.compared) == {"boosted", "gp", "boosted+gp"}
    assert max(choice.compared, key=lambda model: choice.compared[model]) == best
    assert choice.reason.startswith(
        f"{best} on linear scale, by Kendall's tau in five-fold cross-validation: boosted 0."
    )
    assert kendalltau(choice.unseen[:, 0], list(hidden.values())).statistic == pytest.approx(choice.compared[best])


def test_of_few_networks_models_share_by_how_often_each_would_be_chosen(
    hidden: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    few = dict(list(hidden.items())[:49])
    choice, _ = chosen(monkeypatch, few, {"boosted": 0.5, "gp": 0.5})
    assert choice.members == ("boosted", "gp")
    assert choice.shares.sum() == pytest.approx(1)
    assert 0.1 <= choice.shares.min() < 0.5
    boosted, gp = choice.shares[:, 0]
    assert choice.reason.startswith(f"{boosted:.2f} boosted + {gp:.2f} gp on linear scale, by Kendall's tau")
    reached = kendalltau(choice.unseen[:, 0], list(few.values())).statistic
    assert reached > max(choice.compared["boosted"], choice.compared["gp"])


def test_of_more_networks_the_best_mean_predicts(hidden: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
    choice, _ = chosen(monkeypatch, hidden, {"boosted": 0.5, "gp": 0.5})
    assert choice.shares.tolist() == [[0.5], [0.5]]
    assert max(choice.compared, key=lambda model: choice.compared[model]) == "boosted+gp"
    assert choice.reason.startswith(
        "boosted+gp on linear scale, by Kendall's tau in five-fold cross-validation: boosted 0."
    )
    reached = kendalltau(choice.unseen[:, 0], list(hidden.values())).statistic
    assert reached == pytest.approx(choice.compared["boosted+gp"])


def test_each_metric_has_the_models_that_predict_it_best(
    hidden: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = {string: -value for string, value in hidden.items()}
    values = np.stack([list(hidden.values()), list(other.values())], axis=1)

    def ask(name: str, model: Seen, strings: Sequence[str], proxies: Values | None) -> Values:
        knows = hidden if name == "boosted" else other
        return np.repeat([[knows[string]] for string in strings], 2, axis=1)

    monkeypatch.setattr(choosing, "train", lambda *arguments: Seen(frozenset(), 2))
    monkeypatch.setattr(choosing, "ask", ask)
    choice = choose("auto", "linear", list(hidden), values, None, 0, {}, False, lambda fraction, note: None)
    assert choice.members == ("boosted", "gp")
    assert choice.shares.tolist() == [[1.0, 0.0], [0.0, 1.0]]
    # Not 1: every fold has a scale of its own.
    assert min(kendalltau(*columns).statistic for columns in zip(choice.unseen.T, values.T, strict=True)) > 0.95
    assert choice.reason.startswith("boosted (1 of 2 metrics) and gp (1 of 2 metrics) on linear scale")


def test_of_many_networks_trees_are_pruned_by_what_was_left_out(
    strings: list[str], values: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choosing, "MANY", 100)
    monkeypatch.setattr(choosing, "MOST_FOR_GP", 50)
    monkeypatch.setattr(choosing, "members", lambda name, *said: ("boosted",) if name == "ensemble" else (name,))
    table = np.stack([values, np.random.default_rng(0).standard_normal(120)], axis=1)
    choice = choose("auto", "linear", strings, table, None, 0, {}, False, lambda fraction, note: None)
    assert choice.members == ("ordered",)
    growth, noise = choice.parameters[0]["growth"]
    assert list(growth) == list(noise) == list(KINDS)
    assert {trees for trees, _ in growth.values()} <= {100, 150, 200, 300, 400, 500, 600, 800}
    assert growth != noise


def test_every_network_is_left_out_once_by_folds_of_the_seed(
    hidden: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    choice, fake = chosen(monkeypatch, hidden, {"boosted": 0.0}, model="boosted")
    strings = list(hidden)
    expected = [[strings[i] for i in kept] for kept, _ in KFold(5, shuffle=True, random_state=0).split(strings)]
    assert [kept for _, kept, _ in fake.log] == expected
    assert np.isfinite(choice.unseen).all()
    # Scales are those of what a fold was trained on, so what is left out does not leak through them.
    assert [targets.mean() for *_, targets in fake.log] == pytest.approx([0.0] * 5, abs=1e-12)


def test_of_many_networks_a_fifth_is_left_out(hidden: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "MANY", 100)
    choice, fake = chosen(monkeypatch, hidden, {"boosted": 0.0}, model="boosted")
    ((_, kept, _),) = fake.log
    left = np.isfinite(choice.unseen[:, 0])
    assert (len(kept), left.sum()) == (96, 24)
    assert set(kept) == {string for string, out in zip(hidden, left, strict=True) if not out}
    assert "a fifth of the networks held out" in choice.reason


def test_of_many_networks_each_metric_has_the_scale_on_which_it_is_predicted_best(
    strings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choosing, "MANY", 100)
    rng = np.random.default_rng(0)
    even = np.array([float(string.count("conv")) for string in strings]) + 0.3 * rng.standard_normal(120)
    values = np.stack([even, np.where(rng.random(120) < 0.15, -1e4 * rng.random(120), even)], axis=1)
    choice = choose("boosted", "auto", strings, values, None, 0, {"n_estimators": 40}, False, lambda f, n: None)
    assert choice.scales[1].name == "rank"
    names = list(dict.fromkeys(scale.name for scale in choice.scales))
    assert choice.reason.startswith(f"boosted on {'/'.join(names)} scale")
    assert choice.unseen.shape == (120, 2)


def test_of_few_networks_the_scale_is_a_blend(hidden: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
    choice, fake = chosen(monkeypatch, hidden, {"boosted": 0.0}, "boosted", "auto")
    assert [scale.name for scale in choice.scales] == ["blend"]
    assert len(fake.log) == 5


@pytest.mark.parametrize("many", [10, 1000])
def test_distinct_networks_are_held_out_with_all_that_have_their_string(
    many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choosing, "MANY", many)
    strings = [f"input[1x{i % 9 + 1}] output" for i in range(60)]
    for kept, left in choosing._folds(60, 0, np.arange(60) % 9):
        assert not {strings[i] for i in kept} & {strings[i] for i in left}
        assert sorted([*kept, *left]) == list(range(60))
    shared = [{strings[i] for i in kept} & {strings[i] for i in left} for kept, left in choosing._folds(60, 0, None)]
    assert all(shared)


@pytest.mark.parametrize("distinct", [False, True])
def test_one_string_of_many_networks_does_not_decide_what_orders_distinct_ones_best(
    distinct: bool, hidden: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    lowest = min(hidden, key=lambda string: hidden[string])
    strings = [*hidden, *[lowest] * 400]

    def ask(name: str, model: Seen, asked: Sequence[str], proxies: Values | None) -> Values:
        """One knows all but where the lowest stands, the other little but that."""
        rng = np.random.default_rng(0)
        if name == "boosted":
            return np.array([[9.0 if string == lowest else hidden[string]] for string in asked])
        return np.array([[-9.0 if string == lowest else rng.standard_normal()] for string in asked])

    monkeypatch.setattr(choosing, "train", lambda *arguments: Seen(frozenset(), 1))
    monkeypatch.setattr(choosing, "ask", ask)
    values = np.array([hidden[string] for string in strings])[:, None]
    choice = choose("auto", "linear", strings, values, None, 0, {}, distinct, lambda fraction, note: None)
    assert choice.members[0] == ("boosted" if distinct else "gp")


def test_a_named_scale_is_used_for_every_metric(hidden: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.exp(np.array([list(hidden.values())] * 2).T)
    choice, fake = chosen(monkeypatch, hidden, {"boosted": 0.0, "gp": 0.0}, "ensemble", "log", values)
    assert [scale.name for scale in choice.scales] == ["log", "log"]
    assert choice.members == ("boosted", "gp")
    assert {name for name, *_ in fake.log} == {"boosted", "gp"}
    assert len(fake.log) == 10
    assert choice.shares.tolist() == [[0.5, 0.5], [0.5, 0.5]]
    assert "ensemble on log scale" in choice.reason


def test_a_metric_that_was_not_measured_everywhere_is_judged_where_it_was(
    hidden: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    values = np.array([list(hidden.values())] * 2).T
    values[::2, 1] = np.nan
    choice, _ = chosen(monkeypatch, hidden, {"boosted": 0.0}, "boosted", "linear", values)
    assert choice.compared["boosted"] == pytest.approx(1.0, abs=0.15)
    assert np.isfinite(choice.unseen).all()


def test_a_fold_that_leaves_too_little_of_a_metric_to_learn_from_is_left_to_the_others(
    hidden: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    values = np.array([list(hidden.values())] * 2).T
    folds = [left for _, left in KFold(5, shuffle=True, random_state=0).split(values)]
    rare = [*folds[0][:7], *folds[1][:4]]
    values[np.setdiff1d(np.arange(120), rare), 1] = np.nan
    choice, fake = chosen(monkeypatch, hidden, {"boosted": 0.0}, "boosted", "linear", values)
    assert [targets.shape[1] for *_, targets in fake.log] == [1, 2, 2, 2, 2]
    assert np.isfinite(choice.unseen[:, 0]).all()
    assert np.array_equal(np.isnan(choice.unseen[:, 1]), np.isin(np.arange(120), folds[0]))


def test_a_constant_metric_has_no_order_to_choose_by(strings: list[str]) -> None:
    choice = choose(
        "auto", "auto", strings[:15], np.full((15, 1), 2.5), None, 0, {}, False, lambda fraction, note: None
    )
    assert set(choice.compared.values()) == {0.0}
    assert choice.unseen == pytest.approx(np.full((15, 1), 2.5), abs=1e-6)


def test_beside_base_predictors_a_line_through_them_is_compared_too(strings: list[str], values: list[float]) -> None:
    y = np.array(values)[:40, None]
    said = y + np.random.default_rng(0).standard_normal((40, 2))

    def among(base: bool) -> Choice:
        return choose("auto", "auto", strings[:40], y, said, 0, {}, False, lambda fraction, note: None, base)

    assert set(among(base=True).compared) == {*among(base=False).compared, "gp+ridge"}
    assert "gp+ridge" not in among(base=False).compared


def test_progress_is_told_from_nothing_to_below_all(hidden: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[float, str]] = []
    fake = Fake({"boosted": 0.1, "gp": 0.1}, hidden)
    monkeypatch.setattr(choosing, "train", fake.train)
    monkeypatch.setattr(choosing, "ask", fake.ask)
    values = np.array(list(hidden.values()))[:, None]
    choose(
        "auto", "auto", list(hidden), values, None, 0, {}, False, lambda fraction, note: told.append((fraction, note))
    )
    assert [fraction for fraction, _ in told] == pytest.approx([i / 10 for i in range(10)])
    assert {note for _, note in told} == {"comparing: boosted", "comparing: gp"}


def test_an_unknown_model_or_scale_is_named(strings: list[str], values: list[float]) -> None:
    y = np.array(values)[:, None]
    with pytest.raises(InputError, match=r"unknown model 'boostd'; did you mean 'boosted'\?"):
        choose("boostd", "auto", strings, y, None, 0, {}, False, lambda fraction, note: None)
    with pytest.raises(InputError, match=r"unknown scale 'ranks'; did you mean 'rank'\?"):
        choose("boosted", "ranks", strings, y, None, 0, {}, False, lambda fraction, note: None)
