"""Choosing a model and scales by what was held out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau
from sklearn.model_selection import KFold

from freerea_patch import InputError, TopologySpace
from freerea_seval.predictor import model_selection as selecting
from freerea_seval.predictor.model_selection import Selection, _Comparison, ensemble_weights, select
from freerea_seval.strings.encode import SpaceStrings

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
        scores += self.noise.get(name, 20.0) * rng.standard_normal(len(scores))
        return np.repeat(scores[:, None], model.metrics, axis=1)


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
) -> tuple[Selection, Fake]:
    fake = Fake(noise, hidden)
    monkeypatch.setattr(selecting, "train", fake.train)
    monkeypatch.setattr(selecting, "ask", fake.ask)
    strings = list(hidden)
    if values is None:
        values = np.array(list(hidden.values()))[:, None]
    return select(model, scale, strings, values, None, 0, {}, False, lambda fraction, note: None), fake


@pytest.mark.parametrize(
    ("noise", "best"), [({"boosted": 0.1, "gp": 3.0}, "boosted"), ({"boosted": 3.0, "gp": 0.1}, "gp")]
)
def test_the_model_that_predicts_best_what_it_did_not_see_is_chosen(
    noise: dict[str, float], best: str, hidden: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    selection, _ = chosen(monkeypatch, hidden, noise)
    assert selection.members == (best,)
    assert selection.weights.tolist() == [[1.0]]
    models = {"boosted", "gp", "additive", "boosted+gp", "additive+gp", "layered", "boosted+layered"}
    assert set(selection.compared) == models
    assert max(selection.compared, key=lambda model: selection.compared[model]) == best
    assert selection.reason.startswith(
        f"{best} on linear scale, by Kendall's tau in five-fold cross-validation: boosted 0."
    )
    assert kendalltau(selection.unseen[:, 0], list(hidden.values())).statistic == pytest.approx(
        selection.compared[best]
    )


def test_sizes_of_layers_are_compared_only_where_layers_vary_independently() -> None:
    space = TopologySpace()
    cells = SpaceStrings(space).strings(space.genotypes()[::200])
    values = np.arange(float(len(cells)))[:, None]
    selection = select("auto", "auto", cells, values, None, 0, {}, False, lambda fraction, note: None)
    assert set(selection.compared) == {"boosted", "gp", "additive", "boosted+gp", "additive+gp"}


def test_of_few_networks_models_share_by_how_often_each_would_be_chosen(
    hidden: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    few = dict(list(hidden.items())[:49])
    selection, _ = chosen(monkeypatch, few, {"boosted": 0.5, "gp": 0.5})
    assert selection.members == ("boosted", "gp")
    assert selection.weights.sum() == pytest.approx(1)
    assert 0.1 <= selection.weights.min() < 0.5
    boosted, gp = selection.weights[:, 0]
    assert selection.reason.startswith(f"{boosted:.2f} boosted + {gp:.2f} gp on linear scale, by Kendall's tau")
    reached = kendalltau(selection.unseen[:, 0], list(few.values())).statistic
    assert reached > max(selection.compared["boosted"], selection.compared["gp"])


def test_of_more_networks_the_best_mean_predicts(hidden: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
    selection, _ = chosen(monkeypatch, hidden, {"boosted": 0.5, "gp": 0.5})
    assert selection.weights.tolist() == [[0.5], [0.5]]
    assert max(selection.compared, key=lambda model: selection.compared[model]) == "boosted+gp"
    assert selection.reason.startswith(
        "boosted+gp on linear scale, by Kendall's tau in five-fold cross-validation: boosted 0."
    )
    reached = kendalltau(selection.unseen[:, 0], list(hidden.values())).statistic
    assert reached == pytest.approx(selection.compared["boosted+gp"])


def test_each_metric_has_the_models_that_predict_it_best(
    hidden: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = {string: -value for string, value in hidden.items()}
    values = np.stack([list(hidden.values()), list(other.values())], axis=1)

    def ask(name: str, model: Seen, strings: Sequence[str], proxies: Values | None) -> Values:
        knows = {"boosted": hidden, "gp": other}.get(name, dict.fromkeys(hidden, 0.0))
        return np.repeat([[knows[string]] for string in strings], 2, axis=1)

    monkeypatch.setattr(selecting, "train", lambda *arguments: Seen(frozenset(), 2))
    monkeypatch.setattr(selecting, "ask", ask)
    selection = select("auto", "linear", list(hidden), values, None, 0, {}, False, lambda fraction, note: None)
    assert selection.members == ("boosted", "gp")
    assert selection.weights.tolist() == [[1.0, 0.0], [0.0, 1.0]]
    # Not 1: every fold has a scale of its own.
    assert min(kendalltau(*columns).statistic for columns in zip(selection.unseen.T, values.T, strict=True)) > 0.95
    assert selection.reason.startswith("boosted (1 of 2 metrics) and gp (1 of 2 metrics) on linear scale")


def test_every_network_is_left_out_once_by_folds_of_the_seed(
    hidden: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    selection, fake = chosen(monkeypatch, hidden, {"boosted": 0.0}, model="boosted")
    strings = list(hidden)
    expected = [[strings[i] for i in kept] for kept, _ in KFold(5, shuffle=True, random_state=0).split(strings)]
    assert [kept for _, kept, _ in fake.log] == expected
    assert np.isfinite(selection.unseen).all()
    # Scales are those of what a fold was trained on, so what is left out does not leak through them.
    assert [targets.mean() for *_, targets in fake.log] == pytest.approx([0.0] * 5, abs=1e-12)


def test_of_many_networks_a_fifth_is_left_out(hidden: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selecting, "MANY", 100)
    selection, fake = chosen(monkeypatch, hidden, {"boosted": 0.0}, model="boosted")
    ((_, kept, _),) = fake.log
    left = np.isfinite(selection.unseen[:, 0])
    assert (len(kept), left.sum()) == (96, 24)
    assert set(kept) == {string for string, out in zip(hidden, left, strict=True) if not out}
    assert "a fifth of the networks held out" in selection.reason


def test_of_many_networks_each_metric_has_the_scale_on_which_it_is_predicted_best(
    strings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selecting, "MANY", 100)
    rng = np.random.default_rng(0)
    even = np.array([float(string.count("conv")) for string in strings]) + 0.3 * rng.standard_normal(120)
    values = np.stack([even, np.where(rng.random(120) < 0.15, -1e4 * rng.random(120), even)], axis=1)
    selection = select("boosted", "auto", strings, values, None, 0, {"n_estimators": 40}, False, lambda f, n: None)
    assert selection.scales[1].name == "rank"
    names = list(dict.fromkeys(scale.name for scale in selection.scales))
    assert selection.reason.startswith(f"boosted on {'/'.join(names)} scale")
    assert selection.unseen.shape == (120, 2)


def test_of_few_networks_the_scale_is_a_blend(hidden: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
    selection, fake = chosen(monkeypatch, hidden, {"boosted": 0.0}, "boosted", "auto")
    assert [scale.name for scale in selection.scales] == ["blend"]
    assert len(fake.log) == 5


@pytest.mark.parametrize("many", [10, 1000])
def test_distinct_networks_are_held_out_with_all_that_have_their_string(
    many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selecting, "MANY", many)
    strings = [f"input[1x{i % 9 + 1}] output" for i in range(60)]
    for kept, left in selecting._folds(60, 0, np.arange(60) % 9, 5):
        assert not {strings[i] for i in kept} & {strings[i] for i in left}
        assert sorted([*kept, *left]) == list(range(60))
    shared = [
        {strings[i] for i in kept} & {strings[i] for i in left} for kept, left in selecting._folds(60, 0, None, 5)
    ]
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
        if name in ("additive", "layered"):
            return np.zeros((len(asked), 1))
        return np.array([[-9.0 if string == lowest else rng.standard_normal()] for string in asked])

    monkeypatch.setattr(selecting, "train", lambda *arguments: Seen(frozenset(), 1))
    monkeypatch.setattr(selecting, "ask", ask)
    values = np.array([hidden[string] for string in strings])[:, None]
    selection = select("auto", "linear", strings, values, None, 0, {}, distinct, lambda fraction, note: None)
    assert selection.members[0] == ("boosted" if distinct else "gp")


def test_a_named_scale_is_used_for_every_metric(hidden: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.exp(np.array([list(hidden.values())] * 2).T)
    selection, fake = chosen(monkeypatch, hidden, {"boosted": 0.0, "gp": 0.0}, "ensemble", "log", values)
    assert [scale.name for scale in selection.scales] == ["log", "log"]
    assert selection.members == ("boosted", "gp")
    assert {name for name, *_ in fake.log} == {"boosted", "gp"}
    assert len(fake.log) == 10
    assert selection.weights.tolist() == [[0.5, 0.5], [0.5, 0.5]]
    assert "ensemble on log scale" in selection.reason


def test_a_metric_that_was_not_measured_everywhere_is_judged_where_it_was(
    hidden: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    values = np.array([list(hidden.values())] * 2).T
    values[::2, 1] = np.nan
    selection, _ = chosen(monkeypatch, hidden, {"boosted": 0.0}, "boosted", "linear", values)
    assert selection.compared["boosted"] == pytest.approx(1.0, abs=0.15)
    assert np.isfinite(selection.unseen).all()


def test_a_fold_that_leaves_too_little_of_a_metric_to_learn_from_is_left_to_the_others(
    hidden: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    values = np.array([list(hidden.values())] * 2).T
    folds = [left for _, left in KFold(5, shuffle=True, random_state=0).split(values)]
    rare = [*folds[0][:7], *folds[1][:4]]
    values[np.setdiff1d(np.arange(120), rare), 1] = np.nan
    selection, fake = chosen(monkeypatch, hidden, {"boosted": 0.0}, "boosted", "linear", values)
    assert [targets.shape[1] for *_, targets in fake.log] == [1, 2, 2, 2, 2]
    assert np.isfinite(selection.unseen[:, 0]).all()
    assert np.array_equal(np.isnan(selection.unseen[:, 1]), np.isin(np.arange(120), folds[0]))


def test_a_constant_metric_has_no_order_to_choose_by(strings: list[str]) -> None:
    selection = select(
        "auto", "auto", strings[:15], np.full((15, 1), 2.5), None, 0, {}, False, lambda fraction, note: None
    )
    assert set(selection.compared.values()) == {0.0}
    assert selection.unseen == pytest.approx(np.full((15, 1), 2.5), abs=1e-6)


def test_beside_base_predictors_a_line_through_them_is_compared_too(strings: list[str], values: list[float]) -> None:
    y = np.array(values)[:40, None]
    said = y + np.random.default_rng(0).standard_normal((40, 2))

    def among(*more: str) -> Selection:
        return select("auto", "auto", strings[:40], y, said, 0, {}, False, lambda fraction, note: None, more)

    assert set(among("gp+ridge").compared) == {*among().compared, "gp+ridge"}
    assert "gp+ridge" not in among().compared


def test_progress_is_told_from_nothing_to_below_all(hidden: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[float, str]] = []
    fake = Fake({"boosted": 0.1, "gp": 0.1}, hidden)
    monkeypatch.setattr(selecting, "train", fake.train)
    monkeypatch.setattr(selecting, "ask", fake.ask)
    values = np.array(list(hidden.values()))[:, None]
    select(
        "auto", "auto", list(hidden), values, None, 0, {}, False, lambda fraction, note: told.append((fraction, note))
    )
    assert [fraction for fraction, _ in told] == pytest.approx([i / 20 for i in range(20)])
    assert {note for _, note in told} == {f"comparing: {name}" for name in ("boosted", "gp", "additive", "layered")}


def test_an_unknown_model_or_scale_is_named(strings: list[str], values: list[float]) -> None:
    y = np.array(values)[:, None]
    with pytest.raises(InputError, match=r"unknown model 'boostd'; did you mean 'boosted'\?"):
        select("boostd", "auto", strings, y, None, 0, {}, False, lambda fraction, note: None)
    with pytest.raises(InputError, match=r"unknown scale 'ranks'; did you mean 'rank'\?"):
        select("boosted", "ranks", strings, y, None, 0, {}, False, lambda fraction, note: None)


def noisy(noise: float, networks: int = 60, seed: int = 1) -> Values:
    return truth(networks) + noise * np.random.default_rng(seed).standard_normal(networks)


def truth(networks: int = 60) -> Values:
    return np.random.default_rng(0).standard_normal(networks)


def test_what_is_far_better_always_wins() -> None:
    comparison = _Comparison(truth(), {"good": noisy(0.01), "bad": noisy(3.0)}, None)
    assert comparison.bootstrap_selections(0) == {"good": 100, "bad": 0}


def test_what_is_nearly_as_good_wins_often_and_more_so_of_fewer_networks() -> None:
    def share(networks: int) -> float:
        """Of the worse one, the mean over ten draws of noise."""
        pairs = [
            {"better": noisy(0.30, networks, seed), "worse": noisy(0.45, networks, seed + 10)} for seed in range(1, 11)
        ]
        return float(
            np.mean(
                [_Comparison(truth(networks), found, None).bootstrap_selections(0)["worse"] / 100 for found in pairs]
            )
        )

    assert 0.1 < share(12) < 0.5
    assert share(800) == 0


@pytest.mark.parametrize("digits", [1, 9])
def test_wins_are_those_of_networks_drawn_with_replacement(digits: int) -> None:
    values = truth(20).round(digits)
    found = {name: noisy(0.5, 20, seed).round(digits) for seed, name in enumerate(("one", "two"), 1)}
    rng, counts = np.random.default_rng(3), {"one": 0, "two": 0}
    for _ in range(100):
        rows = rng.integers(0, 20, 20)
        one, two = (kendalltau(values[rows], column[rows]).statistic for column in found.values())
        counts["one" if one >= two else "two"] += 1
    assert min(counts.values()) > 0
    assert _Comparison(values, found, None).bootstrap_selections(3) == counts


def test_networks_without_a_value_or_a_prediction_do_not_count() -> None:
    values, found = truth(), {"one": noisy(0.3), "two": noisy(0.5, seed=2)}
    gaps = values.copy(), {name: column.copy() for name, column in found.items()}
    gaps[0][::7], gaps[1]["two"][::5] = np.nan, np.inf
    kept = np.flatnonzero(np.isfinite(gaps[0]) & np.isfinite(gaps[1]["two"]))
    expected = _Comparison(values[kept], {name: column[kept] for name, column in found.items()}, None)
    comparison = _Comparison(*gaps, None)
    assert comparison.taus() == expected.taus()
    assert comparison.bootstrap_selections(0) == expected.bootstrap_selections(0)


def test_networks_of_a_unit_are_judged_by_their_mean() -> None:
    unit = np.arange(60) % 11
    found = {"one": noisy(0.3), "two": noisy(0.5, seed=2)}

    def means(column: Values) -> Values:
        return np.array([column[unit == u].mean() for u in range(11)])

    expected = _Comparison(means(truth()), {name: means(column) for name, column in found.items()}, None)
    comparison = _Comparison(truth(), found, unit)
    assert comparison.taus() == pytest.approx(expected.taus())
    assert comparison.bootstrap_selections(0) == expected.bootstrap_selections(0)


@pytest.mark.parametrize("values", [np.full(9, np.nan), np.ones(9)])
def test_without_an_order_the_first_wins(values: Values) -> None:
    comparison = _Comparison(values, {"one": np.arange(9.0), "two": np.arange(9.0)}, None)
    assert comparison.taus() == {"one": 0.0, "two": 0.0}
    assert comparison.bootstrap_selections(0) == {"one": 100, "two": 0}


def test_a_candidate_shares_what_it_wins_among_its_parts() -> None:
    parts = {"a": ("a",), "b": ("b",), "a+b": ("a", "b")}
    assert ensemble_weights({"a": 50, "b": 30, "a+b": 20}, parts) == pytest.approx({"a": 0.6, "b": 0.4})
    assert ensemble_weights({"a+b": 1}, parts) == {"a": 0.5, "b": 0.5}
    assert ensemble_weights({"b": 1}, parts) == {"b": 1.0}


def test_a_model_with_less_than_a_tenth_has_no_part() -> None:
    parts = {"a": ("a",), "b": ("b",), "c": ("c",)}
    assert ensemble_weights({"a": 60, "b": 31, "c": 9}, parts) == pytest.approx({"a": 60 / 91, "b": 31 / 91})


@given(st.lists(st.integers(0, 100), min_size=3, max_size=3).filter(any))
def test_shares_are_positive_and_sum_to_one(counts: list[int]) -> None:
    parts = {"a": ("a",), "b": ("b",), "a+b": ("a", "b")}
    shares = ensemble_weights(dict(zip(parts, counts, strict=True)), parts)
    assert sum(shares.values()) == pytest.approx(1)
    assert min(shares.values()) >= 0.1
