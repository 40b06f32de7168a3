"""Scores of predictions, and the figure of predicted over measured."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import r2_score

from freerea_patch import Direction, InputError
from freerea_seval.predictor.scores import scatter, scores

INF, NAN = math.inf, math.nan
#: Few different numbers, so that there are ties; +inf is unsupported.
NUMBERS = st.lists(st.tuples(*[st.sampled_from([0.0, 1.0, 2.0, 3.5, INF])] * 2), min_size=1, max_size=14)


def tau_b(a: list[float], b: list[float]) -> float | None:
    """Return Kendall 1945's tau-b by comparing all pairs, None where it is not defined."""
    pairs = list(combinations(range(len(a)), 2))
    x, y = ([np.sign((v[i] > v[j]) * 1 - (v[i] < v[j]) * 1) for i, j in pairs] for v in (a, b))
    norm = math.sqrt(np.dot(x, x) * np.dot(y, y))
    return float(np.dot(x, y)) / norm if norm else None


def spearman(a: list[float], b: list[float]) -> float:
    ranks = [[sum(w < x for w in v) + sum(w == x for w in v) / 2 for x in v] for v in (a, b)]
    return float(np.corrcoef(np.array(ranks[0]), np.array(ranks[1]))[0, 1])


@given(NUMBERS, st.sampled_from(["min", "max"]))
def test_correlations_equal_their_definitions_with_ties_and_unsupported_ranked_last(
    pairs: list[tuple[float, float]], direction: Direction
) -> None:
    found = scores(*zip(*pairs, strict=True), direction=direction)
    worst = INF if direction == "min" else -INF
    measured, predicted = ([worst if v == INF else v for v in column] for column in zip(*pairs, strict=True))
    runs = [i for i, pair in enumerate(pairs) if pair[0] < INF]
    values, guessed = [measured[i] for i in runs], [predicted[i] for i in runs]
    expected = tau_b(values, guessed)
    if expected is None:
        assert not {"kendall_tau", "spearman"} & set(found)
    else:
        assert found["kendall_tau"] == pytest.approx(expected)
        assert found["spearman"] == pytest.approx(spearman(values, guessed))
    over_all = tau_b(measured, predicted) if len(runs) < len(pairs) else None
    assert found.get("kendall_tau_all") == (None if over_all is None else pytest.approx(over_all))


@given(st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3)), min_size=1, max_size=20))
def test_errors_equal_their_definitions(pairs: list[tuple[float, float]]) -> None:
    measured, predicted = zip(*pairs, strict=True)
    found = scores(measured, predicted, direction="min")
    assert found["rmse"] == pytest.approx(math.sqrt(sum((m - p) ** 2 for m, p in pairs) / len(pairs)))
    if len(set(measured)) > 1 and np.var(measured) > 1e-12:
        assert found["r2"] == pytest.approx(r2_score(measured, predicted), rel=1e-6)
    if len(set(measured)) == 1:
        assert "r2" not in found


@given(NUMBERS, st.integers(1, 6), st.sampled_from(["min", "max"]), st.randoms(use_true_random=False))
def test_top_k_recall_is_the_mean_over_all_ways_to_order_equal_predictions(
    pairs: list[tuple[float, float]], k: int, direction: Direction, rng: Any
) -> None:
    found = scores(*zip(*pairs, strict=True), direction=direction, top=(k,))
    if k >= len(pairs):
        assert "top_1_recall" not in found
        assert f"top_{k}_recall" not in found
        return
    sign = 1 if direction == "min" else -1
    measured, predicted = ([v if v == INF else sign * v for v in column] for column in zip(*pairs, strict=True))
    threshold = sorted(measured)[k - 1]
    if len(set(measured)) == 1:
        assert f"top_{k}_recall" not in found
        return
    if math.comb(len(pairs), k) > 500:
        return
    # Every set of k that some order of equal predictions puts first.
    best_sets = [
        chosen
        for chosen in combinations(range(len(pairs)), k)
        if max(predicted[i] for i in chosen) <= min(predicted[i] for i in range(len(pairs)) if i not in chosen)
    ]
    recalls = [sum(measured[i] <= threshold for i in chosen) / k for chosen in best_sets]
    assert found[f"top_{k}_recall"] == pytest.approx(np.mean(recalls))
    shuffled = rng.sample(pairs, len(pairs))
    assert scores(*zip(*shuffled, strict=True), direction=direction, top=(k,)) == pytest.approx(found)


def test_the_top_is_ten_networks_and_ten_percent_and_follows_the_direction() -> None:
    measured = np.arange(200.0)
    predicted = np.where(measured < 100, measured, 300 - measured)  # the worst hundred are in reversed order
    low, high = scores(measured, predicted, direction="min"), scores(measured, predicted, direction="max")
    assert (low["top_10_recall"], low["top_10_percent_recall"]) == (1, 1)
    assert (high["top_10_recall"], high["top_10_percent_recall"]) == (0, 0)
    shares = scores(measured, measured, direction="max", top=(0.005, 0.25, 3))
    assert {"top_0.5_percent_recall", "top_25_percent_recall", "top_3_recall"} <= set(shares)


def test_a_constant_prediction_recalls_by_chance() -> None:
    assert scores(range(100), [1.0] * 100, direction="min")["top_10_recall"] == pytest.approx(0.1)


def test_equal_values_have_no_best_to_recall() -> None:
    assert set(scores([3.0] * 40, range(40), direction="min")) == {"rmse"}


def test_rows_that_were_not_measured_count_for_nothing() -> None:
    rng = np.random.default_rng(0)
    measured, predicted, width = rng.normal(size=40), rng.normal(size=40), rng.uniform(0, 2, 40)
    measured[3] = INF
    chances = rng.uniform(size=40)
    plain: dict[str, Any] = {"low": predicted - width, "high": predicted + width, "supported": chances}
    expected = scores(measured, predicted, direction="max", **plain)
    more = {name: [*column, NAN, 1.0] for name, column in plain.items()}
    assert scores([*measured, NAN, NAN], [*predicted, INF, NAN], direction="max", **more) == expected
    assert set(expected) == {
        *("kendall_tau", "spearman", "rmse", "r2", "top_10_recall", "top_10_percent_recall"),
        *("coverage", "width", "kendall_tau_all", "auc"),
    }


def test_coverage_counts_the_bounds_and_leaves_the_unsupported_out() -> None:
    found = scores([1, 2, 3, INF], [1, 2, 3, 3], direction="min", low=[1, 0, 4, 0], high=[2, 2, 5, 9])
    assert found["coverage"] == pytest.approx(2 / 3)
    assert found["width"] == pytest.approx(4 / 3)
    endless = scores([1, 2], [1, 2], direction="min", low=[-INF, 0], high=[INF, 1])
    assert endless["coverage"] == 0.5
    assert endless["width"] == 1, "that of the finite one"


@given(st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 0.3, 0.5, 1.0])), min_size=1, max_size=12))
def test_auc_is_how_often_a_supported_network_has_the_higher_probability(rows: list[tuple[bool, float]]) -> None:
    measured = [1.0 if runs else INF for runs, _ in rows]
    found = scores(measured, [1.0] * len(rows), direction="min", supported=[chance for _, chance in rows])
    yes, no = ([chance for runs, chance in rows if runs == kind] for kind in (True, False))
    if yes and no:
        wins = [(a > b) + (a == b) / 2 for a in yes for b in no]
        assert found["auc"] == pytest.approx(np.mean(wins))
    else:
        assert "auc" not in found


@pytest.mark.parametrize("direction", ["min", "max"])
def test_mistaking_supported_networks_for_unsupported_costs_rank_but_no_error(direction: Direction) -> None:
    measured = np.arange(10.0)
    predicted = measured.copy()
    predicted[4] = INF
    found = scores(measured, predicted, direction=direction)
    assert found["rmse"] == 0
    assert found["kendall_tau"] < 1
    assert scores(measured, measured, direction=direction)["kendall_tau"] == pytest.approx(1.0)


def test_what_is_not_defined_is_left_out() -> None:
    assert scores([1.0], [2.0], direction="min") == {"rmse": 1.0}
    assert scores([1.0, 1.0], [2.0, 3.0], direction="min", top=()) == {"rmse": pytest.approx(math.sqrt(2.5))}
    bounds: dict[str, Any] = {"low": [0, 0], "high": [1, 1]}
    assert scores([INF, INF], [1.0, 2.0], direction="min", **bounds, supported=[0, 1], top=()) == {}
    assert scores([1.0], [INF], direction="min") == {}
    assert "r2" in scores([1.0, 2.0], [3.0, 3.0], direction="min")
    assert "r2" not in scores([0.0, 5e-324], [3.0, 3.0], direction="min")


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([1, 2], [1, 2]), {"direction": "up"}, "direction must be 'max' or 'min', not 'up'"),
        (([NAN], [1]), {}, "expected at least one measured value, got 1 values, all NaN"),
        (([], []), {}, "expected at least one measured value, got 0 values"),
        (([1, 2], [1]), {}, r"expected predictions of shape \(2,\), one a network, got shape \(1,\)"),
        (([1, 2], [1, NAN]), {}, "predictions: 1 of 2 measured networks have NaN; give numbers"),
        (([1, -INF], [1, 2]), {}, r"may be \+inf, for unsupported, but not -inf"),
        (([1, 2], [1, -INF]), {}, r"may be \+inf, for unsupported, but not -inf"),
        (([1, 2], [1, 2]), {"low": [1, 1]}, "intervals need both bounds, got one; give 'low' and 'high'"),
        (([1, 2], [1, 2]), {"low": [1, 1], "high": [1]}, r"expected upper bounds of shape \(2,\)"),
        (([1, 2], [1, 2]), {"low": [1, NAN], "high": [1, 2]}, "lower bounds: 1 of 2 measured networks have NaN"),
        (([1, INF], [1, 2]), {"supported": [1]}, r"expected probabilities of support of shape \(2,\)"),
        (([1, 2], [1, 2]), {"top": (0,)}, "expected whole numbers from 1 or shares between 0 and 1 in 'top', got 0"),
        (([1, 2], [1, 2]), {"top": (1.5,)}, "got 1.5"),
        ((["fast"], [1]), {}, "expected a list of numbers as measured values, got list"),
    ],
)
def test_what_has_no_scores_is_an_error_of_one_line(arguments: Any, options: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        scores(*arguments, **{"direction": "min", **options})
    assert "\n" not in str(caught.value)


def test_the_same_data_give_the_same_figures(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; import numpy as np\n"
        "from freerea_seval.predictor.scores import scatter\n"
        "x = np.random.default_rng(0).normal(size=(4, 30)); x[0, 3], x[1, 4], x[2, 5] = np.nan, np.inf, -np.inf\n"
        "bounds = {'low': x[1] - x[2] ** 2, 'high': x[1] + x[3] ** 2}\n"
        "for path in sys.argv[1:]: scatter(Path(path), x[0], x[1], metric='latency', unit='ms', **bounds)"
    )
    images = []
    for hash_seed in ("0", "77"):
        paths = [tmp_path / f"{hash_seed}.svg", tmp_path / f"{hash_seed}.png"]
        command = [sys.executable, "-c", script, *map(str, paths)]
        environment = os.environ | {"PYTHONHASHSEED": hash_seed, "SOURCE_DATE_EPOCH": hash_seed}
        subprocess.run(command, check=True, cwd=Path(__file__).parents[3], env=environment)
        images.append([path.read_bytes() for path in paths])
    assert images[0] == images[1]
    assert [image[:5] for image in images[0]] == [b"<?xml", b"\x89PNG\r"]


def test_the_figure_names_metric_and_unit_and_counts_what_it_shows(tmp_path: Path, monkeypatch: Any) -> None:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    drawn: list[Axes] = []
    save = Figure.savefig

    def keep(figure: Figure, *arguments: Any, **options: Any) -> None:
        drawn.extend(figure.axes)
        save(figure, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", keep)
    measured, predicted = [1.0, 2.0, NAN, INF, 3.0], [1.5, 2.5, 1.0, 1.0, INF]
    low, high = [1.0, -INF, 0, 0, 0], [2.0, INF, 9, 9, 9]
    scatter(tmp_path / "a.svg", measured, predicted, metric="latency", unit="ms", low=low, high=high)
    scatter(tmp_path / "b.svg", measured, predicted, metric="accuracy", unit="")
    scatter(tmp_path / "c.svg", [NAN], [1.0], metric="accuracy", unit="%")
    scatter(tmp_path / "d.svg", range(5_000), range(5_000), metric="accuracy", unit="%")
    assert [axes.get_xlabel() for axes in drawn[:2]] == ["latency [ms], measured", "accuracy, measured"]
    assert [axes.get_ylabel() for axes in drawn[:2]] == ["latency [ms], predicted", "accuracy, predicted"]
    assert [axes.get_title() for axes in drawn] == ["2 networks", "2 networks", "0 networks", "5,000 networks"]
    bars, points = drawn[0].collections
    assert len(bars.get_paths()) == 1, "an infinite interval is not drawn"
    assert np.asarray(points.get_offsets()).tolist() == [[1.0, 1.5], [2.0, 2.5]]
    assert (tmp_path / "d.svg").stat().st_size < 200_000


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("plot.pdf", r"figure .*plot.pdf: expected a name that ends in .svg or .png"),
        ("nowhere/plot.svg", r"figure .*plot.svg: cannot be written \(.*\); choose another folder"),
    ],
)
def test_a_figure_that_cannot_be_written_is_an_error_of_one_line(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message) as caught:
        scatter(tmp_path / name, [1.0], [1.0], metric="latency", unit="ms")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_scores_beyond_the_largest_number_are_left_out_without_a_warning(recwarn: pytest.WarningsRecorder) -> None:
    measured, predicted = np.arange(-6.0, 6.0) * 1e307, -np.arange(-6.0, 6.0) * 1e307
    wide = np.full(12, 1.7e308)
    found = scores(measured, predicted, direction="min", low=-wide, high=wide)
    assert {"rmse", "r2", "width"}.isdisjoint(found)
    assert found["kendall_tau"] == pytest.approx(-1.0)
    assert found["coverage"] == 1.0
    assert not list(recwarn)
