"""Searches that start from earlier runs: what they take over, and what they refuse."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

import freerea_seval as fs
from freerea_seval.files import open_locked
from freerea_seval.measurement.run import conditions
from freerea_seval.runs.earlier import _live, read_earlier
from freerea_seval.runs.folder import Journal, RunFolder
from freerea_seval.runs.refine_log import RefineLog
from freerea_seval.runs.setup import prepare
from freerea_seval.sources import device
from tests.freerea_seval.cli.test_mistakes import call
from tests.freerea_seval.runs.test_refine import (
    ASKED,
    BOUND,
    PRICE,
    QUALITY,
    answer,
    calls,
    interrupted_after,
    outcome,
    search,
    write_config,
)

LATENCY = {**PRICE, "metric": "latency", "source": {"seval": {"measure": "latency"}}}
Change = Callable[[Path], object]


def config_of(folder: Path, *objectives: Mapping[str, object], **sections: object) -> Path:
    """Write a config with other sections into the folder of :func:`write_config`."""
    return write_config(folder, *objectives, **{"search": {"population": 6, "tournament": 3, "seeds": [5]}, **sections})


def log_of(run: Path, seed: int = 5) -> RefineLog:
    return RefineLog(run / f"seed-{seed}/refine.jsonl")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run, ``first``, that the tests start from."""
    folder = tmp_path_factory.mktemp("place")
    search(write_config(folder, PRICE, QUALITY), folder / "first")
    return folder


def explored(run: Path, seed: int) -> list[str]:
    parts = sorted((run / f"seed-{seed}").glob("round-*.jsonl"))
    return [step.proposal.genotype for part in parts for step in Journal(part).steps()]


def test_known_values_are_not_measured_again_and_what_was_explored_is_not_evaluated_again(
    place: Path, tmp_path: Path
) -> None:
    first = fs.load_run(place / "first")
    known, before = log_of(first.path, 4).known("price"), calls(place)
    second = search(config_of(place, PRICE, QUALITY), tmp_path / "second", start_from=[first.path])
    added = calls(place) - before
    assert sum(added.values()) == 6  # two rounds of three, and none to start with
    assert not set(added) & set(known)
    log = log_of(second.path)
    assert log.wanted[0, "price"] == {}
    assert set(log.known("price")) == set(added)
    both = json.loads((second.path / "seed-5/result.json").read_text())
    assert both["measured"] == 22
    assert both["explored"] == len(explored(second.path, 5)) > 0
    assert not set(explored(second.path, 5)) & (set(explored(first.path, 4)) | set(known))
    table = (second.path / "measured-price.csv").read_text()
    assert all(genotype in table for genotype in (*known, *added))


@pytest.mark.slow
def test_too_few_known_values_are_completed_to_the_number_to_start_with(place: Path, tmp_path: Path) -> None:
    first = fs.load_run(place / "first")
    before = calls(place)
    more = {"start": 18, "rounds": 1, "networks": 3}
    second = search(config_of(place, PRICE, QUALITY, refine=more), tmp_path / "second", start_from=first.path)
    wanted = log_of(second.path).wanted
    assert len(wanted[0, "price"]) == 2
    assert sum((calls(place) - before).values()) == 5
    third = search(
        config_of(place, PRICE, QUALITY, refine={**more, "start": 22}),
        tmp_path / "third",
        start_from=[first.path, second.path],  # the second has taken over the first
    )
    assert len(log_of(third.path).wanted[0, "price"]) == 1
    assert sum((calls(place) - before).values()) == 9


def test_answers_are_taken_over_also_of_a_run_that_waits(tmp_path: Path) -> None:
    config = write_config(tmp_path, BOUND, {**ASKED, "source": {"seval": {"ask": "accuracy", "start": 11}}})
    with pytest.raises(fs.AnswersWanted):
        search(config, tmp_path / "first")
    with pytest.raises(fs.AnswersWanted):
        fs.search(resume=tmp_path / "first", answers=answer(tmp_path / "first", at_0="failed"), progress=False)
    known = log_of(tmp_path / "first", 4).known("accuracy")
    later = {**ASKED, "source": {"seval": {"ask": "accuracy", "start": 0}}}
    with pytest.raises(fs.AnswersWanted, match="values of accuracy are wanted"):
        search(config_of(tmp_path, BOUND, later), tmp_path / "second", start_from=tmp_path / "first")
    wanted = (tmp_path / "second/wanted.csv").read_text()
    assert not any(genotype in wanted for genotype in known)
    (failed,) = (genotype for genotype, value in known.items() if math.isnan(value))
    run = RunFolder.open(tmp_path / "second")
    (again,) = read_earlier(run, prepare(run.config, run.base)).values["accuracy"][failed]
    assert math.isnan(again)


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_result_without_the_earlier_one(place: Path, tmp_path: Path) -> None:
    config = config_of(place, PRICE, QUALITY)

    def result(run: Path) -> object:
        (run / "seed-5").rename(run / "seed-4")
        return outcome(run)

    search(config, tmp_path / "second", start_from=[place / "first"])
    expected = result(tmp_path / "second")
    for stop in (0, 1, 4):
        before = calls(place)
        with interrupted_after(stop):
            search(config, tmp_path / f"run-{stop}", start_from=[place / "first"])
        (place / "first").rename(place / "away")
        fs.search(resume=tmp_path / f"run-{stop}", progress=False)
        (place / "away").rename(place / "first")
        assert result(tmp_path / f"run-{stop}") == expected
        assert sum((calls(place) - before).values()) <= 7  # one value may have been measured and not recorded


def test_a_metric_that_is_new_is_measured_as_without_the_earlier_run(place: Path, tmp_path: Path) -> None:
    first = fs.load_run(place / "first")
    worth = {"metric": "quality", "source": {"seval": {"python": "MODULE:quality"}}, "direction": "max"}
    second = search(config_of(place, PRICE, worth), tmp_path / "second", start_from=first.path)
    wanted = log_of(second.path).wanted
    assert (len(wanted[0, "price"]), len(wanted[0, "quality"])) == (0, 10)


@pytest.mark.slow
def test_what_is_not_computed_alike_is_not_taken_for_known(place: Path, tmp_path: Path) -> None:
    first = fs.load_run(place / "first")
    other = {**QUALITY, "metric": "worth"}
    second = search(config_of(place, PRICE, other), tmp_path / "second", start_from=first.path)
    run = RunFolder.open(second.path)
    taken = read_earlier(run, prepare(run.config, run.base))
    assert not taken.explored
    assert len(taken.values["price"]) == 16
    config = config_of(place, PRICE, QUALITY)
    third = RunFolder.open(search(config, tmp_path / "third", start_from=first.path).path)
    networks = read_earlier(third, prepare(third.config, third.base)).explored
    assert [c.genotype for c in networks] == explored(first.path, 4)
    assert all(set(c.values) == {"quality"} and not c.evaluation.seconds for c in networks)


def test_networks_that_the_search_is_not_limited_to_are_left_out(place: Path, tmp_path: Path) -> None:
    config = config_of(place, PRICE, QUALITY)
    rows = (place / "cells.csv").read_text().splitlines()
    (place / "cells.csv").write_text("\n".join(rows[:120]) + "\n")
    second = search(config, tmp_path / "second", start_from=place / "first")
    table = (second.path / "measured-price.csv").read_text().splitlines()[1:]
    assert {line.rpartition(",")[0] for line in table} <= {row.rpartition(",")[0] for row in rows[:120]}


@pytest.mark.slow
def test_networks_to_start_with_are_measured_beside_known_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    busy = [1.0]

    def measured(space: object, genotypes: list[str], *, output: Path, **options: object) -> list[float]:
        facts = json.dumps(conditions("eager", "cpu"))
        output.with_suffix(".json").write_text(facts)
        return [busy[0] * (10.0 + genotype.count("conv")) for genotype in genotypes]

    monkeypatch.setattr(device, "measure_latency_ms", measured)
    search(write_config(tmp_path, LATENCY, QUALITY), tmp_path / "first")
    busy[0] = 3.0
    more = {"start": 18, "rounds": 1, "networks": 3}
    second = search(
        config_of(tmp_path, LATENCY, QUALITY, refine=more), tmp_path / "second", start_from=tmp_path / "first"
    )
    values = log_of(second.path).known("latency")
    assert len(values) == 5
    assert all(value == 10.0 + genotype.count("conv") for genotype, value in values.items())


def edit(name: str, old: str, new: str) -> Change:
    def change(run: Path) -> None:
        text = (run / name).read_text()
        assert old in text
        (run / name).write_text(text.replace(old, new))

    return change


def no_log(run: Path) -> None:
    (run / "seed-4/refine.jsonl").unlink()


MISTAKES: dict[str, tuple[Change, str]] = {
    "no run": (shutil.rmtree, "first is not a run folder"),
    "of another space": (
        edit("config.yaml", "name: nats-tss", "name: nats-sss"),
        "first: its networks are of the space",
    ),
    "of another data set": (edit("config.yaml", "  only:", "  dataset: cifar100\n  only:"), "nats-tss/cifar100"),
    "of another unit": (
        edit("config.yaml", "unit: ''", "unit: EUR"),
        "first: its price is in 'EUR', that of this search",
    ),
    "by another function": (
        edit("config.yaml", ":price", ":quality"),
        ":quality', that of this search comes from 'python: measured_",
    ),
    "without a value": (no_log, "first: it has no values of 'price'; leave it out"),
    "without a round": (edit("config.yaml", "refine:", "refine: null\nlive:"), "config"),
    "damaged": (edit("seed-4/refine.jsonl", '"value": ', '"value": "x'), "first/seed-4/refine.jsonl, line "),
    "with other networks": (
        edit("seed-4/refine.jsonl", "conv_3x3", "conv_9x9"),
        "first: it has a network of another space (",
    ),
}


@pytest.fixture(scope="module")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("earlier")
    objective = {**QUALITY, "role": "fitness"}
    search(write_config(folder, PRICE, objective, refine={"start": 10, "rounds": 1, "networks": 1}), folder / "first")
    return folder


@pytest.mark.parametrize("kind", MISTAKES)
def test_a_run_that_does_not_suit_is_one_line_and_leaves_nothing(
    first_run: Path, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    change, message = MISTAKES[kind]
    shutil.copytree(first_run, tmp_path / "place")
    change(tmp_path / "place/first")
    config, run = tmp_path / "place/search.yaml", tmp_path / "run"
    text = config.read_text()
    config.write_text(text.replace("only: cells.csv\n", "") if kind == "with other networks" else text)
    capsys.readouterr()
    assert call("search", config, "-o", run, "--start-from", tmp_path / "place/first") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not run.exists()


def test_a_run_in_progress_is_refused(first_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    handle = open_locked(first_run / "first/.lock")
    run, first = tmp_path / "run", first_run / "first"
    try:
        assert call("search", first_run / "search.yaml", "-o", run, "--start-from", first) == 2
    finally:
        os.close(handle)
    assert "first is being written by another process" in capsys.readouterr().err
    assert not run.exists()


def test_it_takes_a_search_that_learns(first_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write_config(tmp_path, {**QUALITY, "role": "fitness"}, refine=None)
    assert call("search", config, "-o", tmp_path / "run", "--start-from", first_run / "first") == 2
    assert "--start-from takes measurements over, and this config has no section 'refine'" in capsys.readouterr().err
    search(config, tmp_path / "plain")
    assert call("search", first_run / "search.yaml", "-o", tmp_path / "run", "--start-from", tmp_path / "plain") == 2
    assert "plain: it learned no metric" in capsys.readouterr().err
    assert call("search", "--resume", first_run / "first", "--start-from", tmp_path / "plain") == 2
    assert "leave out the config and the other options" in capsys.readouterr().err


@pytest.mark.slow
def test_measurements_of_another_device_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = {"refine": {"start": 10, "rounds": 1, "networks": 1}, "live": {"threads": 1}}
    search(write_config(tmp_path, LATENCY, QUALITY, **small), tmp_path / "first")
    config = config_of(tmp_path, LATENCY, QUALITY, **small)
    assert call("search", config, "-o", tmp_path / "good", "--start-from", tmp_path / "first") == 0
    records = {path: json.loads(path.read_text()) for path in (tmp_path / "first/seed-4").glob("measured-*.json")}
    arguments = ("-o", tmp_path / "run", "--start-from", tmp_path / "first")
    others = {"machine": {"cpu": "Z80", "cores": 1}, "device": "cuda", "threads": 64, "backend": "onnx"}
    for name, value in others.items():
        for path, record in records.items():
            path.write_text(json.dumps({**record, name: value}))
        capsys.readouterr()
        assert call("search", config, *arguments) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert f"first: its latency was measured with {name} {value!r}, here " in line
        assert "learn it with 'ask: latency', which takes values from anywhere, or leave the run out" in line
    asked = {**LATENCY, "source": {"seval": {"ask": "latency"}}, "unit": "ms"}
    assert call("search", config_of(tmp_path, asked, QUALITY, **small), *arguments) == 3
    for path in records:
        path.unlink()
    config = config_of(tmp_path, LATENCY, QUALITY, **small)
    assert call("search", config, "-o", tmp_path / "again", "--start-from", tmp_path / "first") == 2
    assert "its latency was measured on a device that it does not name" in capsys.readouterr().err


@pytest.mark.parametrize(("live", "alike"), [({"threads": 1}, True), ({"cache": "off"}, True), ({"threads": 2}, False)])
def test_values_of_another_number_of_threads_are_not_taken_for_known(live: dict[str, Any], alike: bool) -> None:
    """It decides the order of additions; None is 1 where training-free metrics are computed."""
    content: dict[str, Any] = {"budget": {"evaluations": 1}, "objectives": [QUALITY]}
    mine, other = (fs.Config.model_validate({**content, "live": section}) for section in ({}, live))
    assert (_live(mine) == _live(other)) is alike
