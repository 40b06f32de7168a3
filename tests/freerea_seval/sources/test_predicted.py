"""The source ``seval``: a predictor in a search, and one that a run trains for itself."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from freerea_patch import InputError, TopologySpace
from freerea_seval.predictor.folder import load_predictor, save_predictor
from freerea_seval.predictor.training import train_predictor
from freerea_seval.sources import device
from freerea_seval.sources.predicted import PredictedSource
from freerea_seval.sources.registry import Context
from freerea_seval.strings.encode import SpaceStrings
from freerea_seval.strings.views import VIEWS, View

CELLS = list(TopologySpace().genotypes()[:40])


def convolutions(genotype: str) -> float:
    return 3.0 * genotype.count("nor_conv_3x3") + genotype.count("nor_conv_1x1") + 1.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A predictor of a metric that counts convolutions."""
    path = tmp_path_factory.mktemp("predictors") / "p"
    predictor, info = train_predictor(
        SpaceStrings(TopologySpace()).strings(CELLS),
        [convolutions(cell) for cell in CELLS],
        metric="energy",
        unit="mJ",
        direction="min",
        space_name="nats-tss/cifar10",
        view="executed",
    )
    save_predictor(path, predictor, info)
    return path


def test_a_folder_predicts_with_its_own_unit_and_direction(folder: Path) -> None:
    source = PredictedSource(Context(TopologySpace(), base=folder.parent), "p")
    info = source.describe("energy")
    assert (info.direction, info.unit) == ("min", "mJ")
    rows = source.evaluate(CELLS[:5], ["energy"])
    strings = SpaceStrings(TopologySpace()).strings(CELLS[:5])
    assert [row["energy"].value for row in rows] == load_predictor(folder)[0].predict(strings).tolist()
    assert all(row["energy"].seconds > 0 for row in rows)
    assert source.evaluate([], ["energy"]) == []


def test_a_predictor_reads_the_view_that_it_was_trained_on(tmp_path: Path) -> None:
    space = TopologySpace()
    strings = {view: SpaceStrings(space, view).strings(CELLS) for view in VIEWS}
    assert not set(strings["executed"]) & set(strings["functional"])
    found = {}
    for view in VIEWS:
        predictor, info = train_predictor(
            strings[view],
            [convolutions(cell) for cell in CELLS],
            metric="energy",
            unit="mJ",
            direction="min",
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


def test_a_run_measures_and_trains_once_and_keeps_what_it_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def measure(space: object, genotypes: list[str], **_: object) -> list[float]:
        calls.append(list(genotypes))
        return [convolutions(genotype) for genotype in genotypes]

    monkeypatch.setattr(device, "measure_latency_ms", measure)
    context = Context(TopologySpace(), folder=tmp_path, seed=4)
    first = PredictedSource(context, {"measure": "latency", "networks": 12})
    again = PredictedSource(context, {"measure": "latency", "networks": 12})
    assert len(calls) == 1
    assert len(set(calls[0])) == 12
    assert first.preparation == again.preparation
    assert set(first.preparation) == {"measure latency", "train latency"}
    with open(tmp_path / "measured-latency.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["genotype"] for row in rows] == calls[0]
    assert [float(row["latency_ms"]) for row in rows] == [convolutions(g) for g in calls[0]]
    (a,), (b,) = first.evaluate(CELLS[:1], ["latency"]), again.evaluate(CELLS[:1], ["latency"])
    assert a["latency"].value == b["latency"].value


def test_a_run_that_was_killed_before_its_receipt_measures_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        device, "measure_latency_ms", lambda space, genotypes, **_: [convolutions(g) for g in genotypes]
    )
    context = Context(TopologySpace(), folder=tmp_path)
    PredictedSource(context, {"measure": "latency", "networks": 12})
    receipt = tmp_path / "predictor-latency.json"
    assert json.loads(receipt.read_text())["seconds"]
    receipt.unlink()
    PredictedSource(context, {"measure": "latency", "networks": 12})
    assert receipt.exists()


@pytest.mark.parametrize(("said", "view"), [({}, "executed"), ({"view": "functional"}, "functional")])
def test_a_run_trains_on_the_view_that_it_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: dict[str, str], view: View
) -> None:
    monkeypatch.setattr(
        device, "measure_latency_ms", lambda space, genotypes, **_: [convolutions(g) for g in genotypes]
    )
    context = Context(TopologySpace(), folder=tmp_path)
    source = PredictedSource(context, {"measure": "latency", "networks": 12, **said})
    predictor, info = load_predictor(tmp_path / "predictor-latency")
    assert info.view == view
    strings = SpaceStrings(TopologySpace(), view).strings(CELLS)
    assert [row["latency"].value for row in source.evaluate(CELLS, ["latency"])] == predictor.predict(strings).tolist()


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"measure": "energy"}, "'measure' can be latency, not 'energy'"),
        ({"measure": "latency", "networks": 3}, "must be a whole number of at least 10, not 3"),
        ({"measure": "latency", "networks": "many"}, "must be a whole number of at least 10, not 'many'"),
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
