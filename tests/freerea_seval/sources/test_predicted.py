"""The source ``seval``: a predictor in a search, and one that a run trains for itself."""

from __future__ import annotations

import csv
import json
import math
import pickle
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Literal

import numpy as np
import pytest

import freerea_seval as fs
from freerea_patch import InputError, TopologySpace
from freerea_seval.config import check_config
from freerea_seval.predictor import training
from freerea_seval.predictor.folder import load_predictor, save_predictor
from freerea_seval.predictor.seval import SEvalPredictor
from freerea_seval.predictor.training import Target, train_predictor
from freerea_seval.runs.setup import prepare
from freerea_seval.sources import device
from freerea_seval.sources.predicted import PredictedSource
from freerea_seval.sources.registry import Context
from freerea_seval.strings.encode import SpaceStrings
from freerea_seval.strings.views import VIEWS, View

CELLS = list(TopologySpace().genotypes()[:40])
ENERGY = Target("energy", "mJ", "min")
#: No search for the best model and scale, and few trees.
train_quickly = partial(train_predictor, model="boosted", scale="linear", parameters={"n_estimators": 40})
SIDES: tuple[Literal["lower", "upper"], ...] = ("lower", "upper")


def convolutions(genotype: str) -> float:
    return 3.0 * genotype.count("nor_conv_3x3") + genotype.count("nor_conv_1x1") + 1.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A predictor of a metric that counts convolutions."""
    path = tmp_path_factory.mktemp("predictors") / "p"
    predictor, info = train_quickly(
        SpaceStrings(TopologySpace()).strings(CELLS),
        [convolutions(cell) for cell in CELLS],
        [ENERGY],
        space_name="nats-tss/cifar10",
        view="executed",
    )
    save_predictor(path, predictor, info)
    return path


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Let runs count convolutions instead of measuring, and not look for the best model; list what they measured."""
    calls: list[list[str]] = []

    def measure(space: object, genotypes: list[str], **_: object) -> list[float]:
        calls.append(list(genotypes))
        return [convolutions(genotype) for genotype in genotypes]

    monkeypatch.setattr(device, "measure_latency_ms", measure)
    monkeypatch.setattr(training, "train_predictor", train_quickly)
    return calls


@pytest.fixture
def with_proxies(folder: Path, tmp_path: Path) -> Path:
    """A folder with ``more``, a predictor that also learned from two proxies, and their table ``proxies.csv``."""
    predictor, info = load_predictor(folder)
    strings = SpaceStrings(TopologySpace()).strings(CELLS)
    proxies = np.random.default_rng(0).normal(size=(len(CELLS), 2))
    predictor.fit(strings, [convolutions(cell) for cell in CELLS], proxies)
    save_predictor(tmp_path / "more", predictor, replace(info, proxies=("snip", "wide")))
    rows = [f"{cell},{first!r},0.5,{second!r}" for cell, (first, second) in zip(CELLS, proxies.tolist(), strict=True)]
    (tmp_path / "proxies.csv").write_text("\n".join(["genotype,snip,snip_seconds,wide", *rows]))
    return tmp_path


def test_a_predictor_that_learned_from_proxies_gets_them_from_a_source_and_is_charged_for_them(
    with_proxies: Path,
) -> None:
    argument = {"predictor": "more", "proxies": {"table": "proxies.csv"}}
    source = PredictedSource(Context(TopologySpace(), base=with_proxies), argument)
    rows = list(source.evaluate(CELLS[:7], ["energy"]))
    predictor, _ = load_predictor(with_proxies / "more")
    table = np.random.default_rng(0).normal(size=(len(CELLS), 2))[:7]
    expected = predictor.predict(SpaceStrings(TopologySpace()).strings(CELLS[:7]), table)
    assert [row["energy"].value for row in rows] == expected.tolist()
    assert [row["energy"].seconds for row in rows] == [0.5] * 7


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("more", "learned from the proxies snip, wide, and source 'zero-cost' does not give 'wide'"),
        ({"predictor": "more", "proxies": "cost"}, "source 'cost' does not give 'snip'"),
        ({"predictor": "more", "proxies": 3}, "'proxies' must be a source, such as zero-cost"),
        ({"predictor": "more", "proxy": "cost"}, "expected {predictor: FOLDER, proxies: SOURCE}, got"),
        ({"predictor": "p", "proxies": "cost"}, "learned from strings alone; leave 'proxies' out"),
    ],
)
def test_proxies_that_cannot_be_had_are_refused_at_opening(
    with_proxies: Path, folder: Path, argument: object, message: str
) -> None:
    if not (with_proxies / "p").exists():
        (with_proxies / "p").symlink_to(folder)
    with pytest.raises(InputError, match=re.escape(message)):
        PredictedSource(Context(TopologySpace(), base=with_proxies), argument)


def test_a_folder_predicts_with_its_own_unit_and_direction(folder: Path) -> None:
    source = PredictedSource(Context(TopologySpace(), base=folder.parent), "p")
    info = source.describe("energy")
    assert (info.direction, info.unit) == ("min", "mJ")
    rows = source.evaluate(CELLS[:5], ["energy"])
    strings = SpaceStrings(TopologySpace()).strings(CELLS[:5])
    assert [row["energy"].value for row in rows] == load_predictor(folder)[0].predict(strings).tolist()
    assert all(row["energy"].seconds > 0 for row in rows)
    assert source.evaluate([], ["energy"]) == []


def test_a_predictor_whose_direction_the_name_contradicts_leaves_it_to_the_config(folder: Path, tmp_path: Path) -> None:
    predictor, info = load_predictor(folder)
    accuracy = replace(info.metrics[0], name="accuracy")  # of an earlier release, which took "min" for every metric
    save_predictor(tmp_path / "p", predictor, replace(info, metrics=(accuracy,)))
    source = PredictedSource(Context(TopologySpace(), base=tmp_path), "p")
    assert source.describe("accuracy").direction is None
    objective = {"metric": "accuracy", "source": {"seval": "p"}}
    config = {"budget": {"evaluations": 1}, "objectives": [objective]}
    with pytest.raises(InputError, match="add 'direction: max' or 'direction: min'"):
        prepare(check_config(config, "config"), tmp_path)


def test_threads_and_pickles_predict_what_one_thread_does(folder: Path) -> None:
    source = PredictedSource(Context(TopologySpace(), base=folder.parent), "p")
    expected = [[row["energy"].value for row in source.evaluate(CELLS[i : i + 8], ["energy"])] for i in range(33)]
    again = pickle.loads(pickle.dumps(source))  # noqa: S301
    source._last, source.strings._cache = {}, {}

    def predict(first: int) -> list[float]:
        return [
            row["energy"].value for row in (again, source)[first % 2].evaluate(CELLS[first : first + 8], ["energy"])
        ]

    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            assert list(pool.map(predict, range(33))) == expected


def test_a_predictor_reads_the_view_that_it_was_trained_on(tmp_path: Path) -> None:
    space = TopologySpace()
    strings = {view: SpaceStrings(space, view).strings(CELLS) for view in VIEWS}
    assert not set(strings["executed"]) & set(strings["functional"])
    found = {}
    for view in VIEWS:
        predictor, info = train_quickly(
            strings[view],
            [convolutions(cell) for cell in CELLS],
            [ENERGY],
            space_name=space.name,
            view=view,
        )
        save_predictor(tmp_path / view, predictor, info)
        rows = PredictedSource(Context(space, base=tmp_path), view).evaluate(CELLS, ["energy"])
        found[view] = [row["energy"].value for row in rows]
        assert found[view] == predictor.predict(strings[view]).tolist()
    assert found["executed"] != found["functional"]


def test_another_metric_than_the_predictors_is_refused(folder: Path) -> None:
    source = PredictedSource(Context(TopologySpace(), base=folder.parent), "p")
    with pytest.raises(InputError, match="predicts 'energy', not 'latency'"):
        source.describe("latency")


@pytest.mark.parametrize("side", SIDES)
def test_a_bound_is_the_predictors(folder: Path, side: Literal["lower", "upper"]) -> None:
    source = PredictedSource(Context(TopologySpace(), base=folder.parent), "p")
    bound = source.bounds("energy", side, 0.9)
    rows = bound.evaluate(CELLS[:9], ["energy"])
    strings = SpaceStrings(TopologySpace()).strings(CELLS[:9])
    predictor, _ = load_predictor(folder)
    assert [row["energy"].value for row in rows] == predictor.bound(strings, side, 0.9).tolist()
    assert all(row["energy"].seconds > 0 for row in rows)
    assert bound.evaluate([], ["energy"]) == []


def test_a_bound_counts_the_chance_that_a_network_is_not_supported(tmp_path: Path) -> None:
    space, confidence = TopologySpace(), 0.6
    cells = Random(0).sample(list(space.genotypes()), 70)
    noise = Random(1)
    # Which networks run can only be guessed, more or less surely.
    gone = [noise.random() < (0.8 if "avg_pool_3x3" in cell else 0.1) for cell in cells]
    exact = [convolutions(cell) + noise.random() for cell in cells]
    values = np.column_stack([exact, np.where(gone, np.inf, exact)])
    targets = [ENERGY, Target("latency", "ms", "min")]
    strings = SpaceStrings(space).strings(cells)
    predictor, info = train_quickly(strings, values, targets, space_name=space.name, view="executed")
    save_predictor(tmp_path / "p", predictor, info)
    source = PredictedSource(Context(space, base=tmp_path), "p")
    cells, strings = cells[:24], strings[:24]
    chances = predictor.supported(strings)[:, 1]
    assert {bool(chance > confidence) for chance in chances} == {True, False}

    for side, never in zip(SIDES, (-math.inf, math.inf), strict=True):
        found = source.bounds("latency", side, confidence).evaluate(cells, ["latency"])
        naive = [
            predictor.bound([string], side, confidence / chance)[0, 1] if chance > confidence else never
            for string, chance in zip(strings, chances, strict=True)
        ]
        np.testing.assert_allclose([row["latency"].value for row in found], naive, rtol=1e-5)

    always = source.bounds("energy", "upper", confidence).evaluate(cells, ["energy"])
    expected = predictor.bound(strings, "upper", confidence)[:, 0]
    np.testing.assert_allclose([row["energy"].value for row in always], expected, rtol=1e-5)
    plain = source.evaluate(cells, ["latency", "energy"])
    assert [math.isnan(row["latency"].value) for row in plain] == (chances < 0.5).tolist()
    assert all(math.isfinite(row["energy"].value) for row in plain)


def test_a_bound_is_learned_from_the_prediction_that_was_just_made(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []
    predict = SEvalPredictor.predict

    def counting(self: SEvalPredictor, strings: list[str], proxies: None) -> Any:
        asked.append(strings)
        return predict(self, strings, proxies)

    source = PredictedSource(Context(TopologySpace(), base=folder.parent), "p")
    monkeypatch.setattr(SEvalPredictor, "predict", counting)
    upper, lower = (source.bounds("energy", side, 0.9) for side in ("upper", "lower"))
    source.evaluate(CELLS[:9], ["energy"])
    some = CELLS[8:3:-1]  # those that the metric itself let through
    expected = source.predictor.bound(SpaceStrings(TopologySpace()).strings(some), "upper", 0.9)
    assert [row["energy"].value for row in upper.evaluate(some, ["energy"])] == expected.tolist()
    lower.evaluate(CELLS[4:6], ["energy"])
    assert len(asked) == 1
    lower.evaluate(CELLS[4:10], ["energy"])
    assert [len(strings) for strings in asked] == [9, 6]


def test_a_bound_takes_as_many_networks_as_its_confidence_asks_for(folder: Path) -> None:
    source = PredictedSource(Context(TopologySpace(), base=folder.parent), "p")
    last = 40 / 41  # of 40 errors, the largest
    assert math.isfinite(source.bounds("energy", "upper", last).evaluate(CELLS[:1], ["energy"])[0]["energy"].value)
    message = r"^the predictor p learned 'energy' from 40 networks, and .* probability 0\.98 takes 49; measure more"
    with pytest.raises(InputError, match=message):
        source.bounds("energy", "upper", 0.98)


def test_a_run_measures_and_trains_once_and_keeps_what_it_measured(tmp_path: Path, quick: list[list[str]]) -> None:
    context = Context(TopologySpace(), folder=tmp_path, seed=4)
    first = PredictedSource(context, {"measure": "latency", "networks": 12})
    again = PredictedSource(context, {"measure": "latency", "networks": 12})
    assert len(quick) == 1
    assert len(set(quick[0])) == 12
    assert first.preparation == again.preparation
    assert set(first.preparation) == {"measure latency", "train latency"}
    with open(tmp_path / "measured-latency.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["genotype"] for row in rows] == quick[0]
    assert [float(row["latency_ms"]) for row in rows] == [convolutions(g) for g in quick[0]]
    (a,), (b,) = first.evaluate(CELLS[:1], ["latency"]), again.evaluate(CELLS[:1], ["latency"])
    assert a["latency"].value == b["latency"].value


def test_a_search_that_finds_nothing_offers_its_predictor_to_the_next(tmp_path: Path, quick: list[list[str]]) -> None:
    bound: dict[str, Any] = {"metric": "latency", "source": {"seval": {"measure": "latency", "networks": 12}}}
    bound |= {"role": "constraint", "max": -1}
    objectives = [bound, {"metric": "macs", "source": "cost"}]
    config: dict[str, Any] = {"budget": {"evaluations": 9, "patience": 20}, "objectives": objectives}
    predictor = (tmp_path / "run" / "predictor-latency").resolve()
    with pytest.raises(fs.InputError) as error:
        fs.search(config, tmp_path / "run", progress=False)
    assert str(error.value).endswith(f"; its predictor serves again as 'source: {{seval: {predictor}}}'")
    assert "--resume" not in str(error.value)
    bound |= {"source": {"seval": str(predictor)}, "max": 99}
    assert len(fs.search(config, tmp_path / "next", progress=False).genotypes()) == 5
    assert len(quick) == 1


def test_networks_that_the_device_cannot_run_are_learned_as_such(
    tmp_path: Path, quick: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(space: object, genotypes: list[str], **_: object) -> list[float]:
        return [math.nan if "avg_pool" in genotype else convolutions(genotype) for genotype in genotypes]

    monkeypatch.setattr(device, "measure_latency_ms", measure)
    source = PredictedSource(Context(TopologySpace(), folder=tmp_path), {"measure": "latency", "networks": 60})
    _, info = load_predictor(tmp_path / "predictor-latency")
    with open(tmp_path / "measured-latency.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    gone = ["avg_pool" in row["genotype"] for row in rows]
    assert [row["latency_ms"] == "" for row in rows] == gone
    assert (info.metrics[0].samples, info.metrics[0].unsupported) == (60, sum(gone))
    found = source.evaluate([row["genotype"] for row in rows], ["latency"])
    assert [math.isnan(row["latency"].value) for row in found] == gone


def test_a_run_that_was_killed_before_its_receipt_measures_again(tmp_path: Path, quick: list[list[str]]) -> None:
    context = Context(TopologySpace(), folder=tmp_path)
    PredictedSource(context, {"measure": "latency", "networks": 12})
    receipt = tmp_path / "predictor-latency.json"
    assert json.loads(receipt.read_text())["seconds"]
    receipt.unlink()
    PredictedSource(context, {"measure": "latency", "networks": 12})
    assert receipt.exists()
    assert len(quick) == 2


@pytest.mark.parametrize(("said", "view"), [({}, "executed"), ({"view": "functional"}, "functional")])
@pytest.mark.usefixtures("quick")
def test_a_run_trains_on_the_view_that_it_is_given(tmp_path: Path, said: dict[str, str], view: View) -> None:
    context = Context(TopologySpace(), folder=tmp_path)
    source = PredictedSource(context, {"measure": "latency", "networks": 12, **said})
    predictor, info = load_predictor(tmp_path / "predictor-latency")
    assert info.view == view
    strings = SpaceStrings(TopologySpace(), view).strings(CELLS)
    assert [row["latency"].value for row in source.evaluate(CELLS, ["latency"])] == predictor.predict(strings).tolist()


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"measure": "power"}, "'measure' can be latency, memory or energy, not 'power'"),
        ({"measure": "latency", "networks": 3}, "must be a whole number from 10 to 100000, not 3"),
        ({"measure": "latency", "networks": "many"}, "must be a whole number from 10 to 100000, not 'many'"),
        ({"measure": "latency", "network": 30}, "unknown key of source 'seval' 'network'; did you mean 'networks'?"),
        ({"measure": "latency", "views": "executed"}, "unknown key of source 'seval' 'views'; did you mean 'view'?"),
        (
            {"measure": "latency", "view": "function"},
            "unknown view of a network 'function'; did you mean 'functional'?",
        ),
        (7, "expected a path, got 7"),
    ],
)
def test_a_wrong_argument_is_named(tmp_path: Path, argument: Any, message: str) -> None:
    with pytest.raises(InputError) as error:
        PredictedSource(Context(TopologySpace(), folder=tmp_path), argument)
    assert message in str(error.value)


def test_measuring_outside_of_a_run_is_refused() -> None:
    with pytest.raises(InputError, match="only within a run"):
        PredictedSource(Context(TopologySpace()), {"measure": "latency"})
