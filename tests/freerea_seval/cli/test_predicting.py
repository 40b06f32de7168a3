"""The commands train, predict and evaluate on good input."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random

import numpy as np
import pytest
import yaml

import freerea_seval as fs
from freerea_patch import TopologySpace, make_space
from freerea_seval.predictor.folder import load_predictor
from freerea_seval.predictor.seval import SEvalPredictor
from freerea_seval.strings.encode import SpaceStrings
from freerea_seval.strings.views import View
from tests.freerea_seval.cli.test_mistakes import call, refused

CELLS = TopologySpace().genotypes()
#: A training that takes a second.
QUICK = ("--model", "boosted", "--scale", "linear")


def work(cell: str) -> float:
    return 1.0 + 2.0 * cell.count("nor_conv_3x3") + cell.count("nor_conv_1x1") + 0.5 * cell.count("avg_pool")


def write_table(path: Path, columns: Mapping[str, Sequence[object]], cells: Sequence[str]) -> Path:
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([("genotype", *columns), *zip(cells, *columns.values(), strict=True)])
    return path


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(text.splitlines()))


@pytest.fixture(scope="module")
def cells() -> list[str]:
    """A hundred cells from all over the space."""
    return [CELLS[i] for i in np.random.default_rng(0).permutation(len(CELLS))[:100]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, cells: list[str]) -> Path:
    """A predictor of two metrics: latency, which cells without a 1x1 convolution do not have, and accuracy."""
    folder = tmp_path_factory.mktemp("trained")
    latency = [work(cell) if "nor_conv_1x1" in cell else "" for cell in cells]
    accuracy = [-1 if i % 5 == 0 else 90 - cell.count("none") for i, cell in enumerate(cells)]
    table = write_table(folder / "t.csv", {"latency_ms": latency, "val_acc": accuracy}, cells)
    options = ("--metric", "latency_ms", "--metric", "val_acc", "--unsupported", "-1", *QUICK)
    assert call("train", table, *options, "-o", folder / "p") == 0
    return folder / "p"


def test_train_predict_and_search_with_a_predictor(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], cells: list[str]
) -> None:
    table = write_table(tmp_path / "t.csv", {"energy_mj": [work(cell) for cell in cells[:60]]}, cells[:60])
    assert call("train", table, "--metric", "energy_mj", "-o", tmp_path / "p") == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == (
        f"{tmp_path / 'p'}: predicts energy_mj of nats-tss/cifar10 from the executed view, trained on 60 networks"
    )
    assert printed[1].startswith("chose ")
    assert "by Kendall's tau in five-fold cross-validation: boosted 0." in printed[1]
    assert printed[2].startswith("energy_mj, 60 values; cross-validated kendall tau ")
    assert call("predict", tmp_path / "p", *cells[60:62]) == 0
    predicted = rows(capsys.readouterr().out)
    assert [row["genotype"] for row in predicted] == cells[60:62]
    assert float(predicted[1]["energy_mj"]) == pytest.approx(work(cells[61]), abs=2.0)
    (tmp_path / "s.yaml").write_text(
        "space: nats-tss\nsearch: {population: 4, tournament: 2}\nbudget: {evaluations: 8}\nobjectives:\n"
        "  - {metric: energy_mj, source: {seval: p}}\n"
    )
    assert call("search", tmp_path / "s.yaml", "-o", tmp_path / "run") == 0
    assert "energy mj, predicted" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("metric", "said", "view"),
    [
        ("val_acc", [], "functional"),
        ("latency_ms", [], "executed"),
        ("val_acc", ["--view", "executed"], "executed"),
        ("latency_ms", ["--view", "functional"], "functional"),
    ],
)
def test_a_predictor_is_trained_and_asked_in_the_view_of_its_metric_or_the_one_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], metric: str, said: list[str], view: View
) -> None:
    table = write_table(tmp_path / "t.csv", {metric: list(range(30))}, CELLS[:30])
    assert call("train", table, "--metric", metric, "-o", tmp_path / "p", *QUICK, *said) == 0
    predictor, info = load_predictor(tmp_path / "p")
    assert info.view == view
    strings = SpaceStrings(TopologySpace(), view).strings(CELLS[:30])
    twin = SEvalPredictor("boosted", "linear").fit(strings, np.arange(30.0))
    assert np.array_equal(predictor.predict(strings), twin.predict(strings))
    capsys.readouterr()
    assert call("predict", tmp_path / "p", *CELLS[:3]) == 0
    predicted = [float(row[metric]) for row in rows(capsys.readouterr().out)]
    assert predicted == pytest.approx(twin.predict(strings[:3]).tolist(), rel=1e-5)


def test_options_of_training_reach_the_folder(tmp_path: Path, cells: list[str]) -> None:
    table = write_table(tmp_path / "t.csv", {"score": [work(cell) for cell in cells[:30]]}, cells[:30])
    options = ("--direction", "max", "--unit", "points", "--model", "gp", "--scale", "log", "--seed", "7")
    assert call("train", table, "--metric", "score", "-o", tmp_path / "p", *options) == 0
    predictor, info = load_predictor(tmp_path / "p")
    (metric,) = info.metrics
    assert (metric.direction, metric.unit, predictor.members_, predictor.seed) == ("max", "points", ("gp",), 7)
    assert predictor.scales_[0].name == "log"
    assert "points" in (tmp_path / "p" / "README.md").read_text()


def test_several_metrics_are_learned_together_and_an_unsupported_one_is_an_empty_cell(
    trained: Path, cells: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    _, info = load_predictor(trained)
    without = sum("nor_conv_1x1" not in cell for cell in cells)
    assert [(m.name, m.unit, m.samples, m.unsupported) for m in info.metrics] == [
        ("latency_ms", "ms", 100, without),
        ("val_acc", "", 100, 20),
    ]
    assert call("predict", trained, *cells) == 0
    predicted = rows(capsys.readouterr().out)
    assert list(predicted[0]) == ["genotype", "latency_ms", "val_acc"]
    empty = [row["latency_ms"] == "" for row in predicted]
    assert np.mean([e == ("nor_conv_1x1" not in cell) for e, cell in zip(empty, cells, strict=True)]) > 0.95


@pytest.mark.parametrize(
    ("options", "values", "samples", "unsupported"),
    [
        (["--unsupported", "-1"], [-1, 5], 30, 10),
        (["--unsupported", "nan"], [-1, 5], 30, 0),
        ([], ["", 5], 30, 10),
        (["--missing"], ["", 5], 20, 0),
        (["--missing", "--unsupported", "-1"], [-1, 5], 30, 10),
    ],
)
def test_a_number_or_an_empty_cell_means_what_is_said(
    options: list[str], values: list[object], samples: int, unsupported: int, tmp_path: Path
) -> None:
    column = [values[0] if i % 3 == 0 else i for i in range(30)]
    table = write_table(tmp_path / "t.csv", {"latency_ms": column}, CELLS[:30])
    assert call("train", table, "--metric", "latency_ms", *options, "-o", tmp_path / "p", *QUICK) == 0
    _, info = load_predictor(tmp_path / "p")
    assert (info.metrics[0].samples, info.metrics[0].unsupported) == (samples, unsupported)


def test_a_missing_cell_of_one_of_several_metrics_leaves_the_row_in(tmp_path: Path) -> None:
    one, two = ([("" if i % 3 == k else i) for i in range(30)] for k in (0, 1))
    table = write_table(tmp_path / "t.csv", {"a": one, "b": two}, CELLS[:30])
    options = ("--metric", "a", "--metric", "b", "--direction", "min", "--missing", "-o", tmp_path / "p", *QUICK)
    assert call("train", table, *options) == 0
    _, info = load_predictor(tmp_path / "p")
    assert (info.samples, [metric.samples for metric in info.metrics]) == (30, [20, 20])


@pytest.mark.parametrize(
    ("metrics", "options", "directions"),
    [
        (["accuracy"], [], ["max"]),
        (["accuracy", "latency_ms"], [], ["max", "min"]),
        (["accuracy"], ["min"], ["min"]),
        (["score", "a"], ["max"], ["max", "max"]),
        (["score", "a"], ["max", "min"], ["max", "min"]),
    ],
)
def test_the_name_of_a_metric_or_the_user_says_which_values_are_better(
    tmp_path: Path, metrics: list[str], options: list[str], directions: list[str]
) -> None:
    table = write_table(tmp_path / "t.csv", dict.fromkeys(metrics, range(20)), CELLS[:20])
    named = [word for metric in metrics for word in ("--metric", metric)]
    said = [word for direction in options for word in ("--direction", direction)]
    assert call("train", table, *named, *said, "-o", tmp_path / "p", *QUICK) == 0
    assert [metric.direction for metric in load_predictor(tmp_path / "p")[1].metrics] == directions


def test_a_search_on_a_predicted_accuracy_finds_large_values(tmp_path: Path, cells: list[str]) -> None:
    table = write_table(tmp_path / "t.csv", {"accuracy": [work(cell) for cell in cells]}, cells)
    assert call("train", table, "--metric", "accuracy", "-o", tmp_path / "p", *QUICK) == 0
    objectives = [{"metric": "accuracy", "source": {"seval": str(tmp_path / "p")}}]
    search = {"population": 10, "tournament": 5}
    run = fs.search({"search": search, "budget": {"evaluations": 60}, "objectives": objectives}, tmp_path / "run")
    assert work(run.genotypes()[0]) > np.quantile([work(cell) for cell in cells], 0.95)


def test_an_interval_is_two_more_columns_a_metric(
    trained: Path, cells: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("predict", trained, *cells, "--interval", "0.9") == 0
    wide = rows(capsys.readouterr().out)
    names = [f"{name}{end}" for name in ("latency_ms", "val_acc") for end in ("", "_low", "_high")]
    assert list(wide[0]) == ["genotype", *names]
    assert call("predict", trained, *cells, "--interval", "0.5") == 0
    narrow = rows(capsys.readouterr().out)
    for row, other in zip(wide, narrow, strict=True):
        assert row["val_acc"] == other["val_acc"]
        for name in ("latency_ms", "val_acc"):
            if row[name]:
                bounds = [float(r[f"{name}{end}"]) for r in (row, other) for end in ("_low", "_high")]
                assert bounds[0] <= bounds[2] <= bounds[3] <= bounds[1]
            else:
                assert row[f"{name}_low"] == row[f"{name}_high"] == ""


def test_genotypes_come_from_standard_input_and_go_to_a_file(
    trained: Path, cells: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call("predict", trained, *cells[:3]) == 0
    expected = capsys.readouterr().out
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(["", *cells[:3], ""])))
    assert call("predict", trained, "-", "-o", tmp_path / "p.csv") == 0
    assert capsys.readouterr().out == ""
    assert (tmp_path / "p.csv").read_text() == expected


@pytest.mark.parametrize("text", ["{0}\n\n{1}\n{2}\n", "latency_ms,genotype\n1,{0}\n2,{1}\n3,{2}\n"])
def test_genotypes_come_from_a_file(
    text: str, trained: Path, cells: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("predict", trained, *cells[:3]) == 0
    expected = capsys.readouterr().out
    path = tmp_path / "cells.csv"
    path.write_text(text.format(*cells[:3]))
    assert call("predict", trained, "--genotypes", path) == 0
    assert capsys.readouterr().out == expected
    refused(capsys, "got both; leave one of them out", "predict", trained, cells[0], "--genotypes", path)
    refused(capsys, f"a file of genotypes is given with --genotypes {path}", "predict", trained, path)


def test_a_genotype_may_be_longer_than_a_name_of_a_file(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused(capsys, "is not a cell of the topology space", "predict", trained, CELLS[0] * 9)


def test_evaluate_judges_by_other_measurements_and_writes_what_it_found(
    trained: Path, cells: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = [CELLS[i] for i in np.random.default_rng(1).permutation(len(CELLS))[:60] if CELLS[i] not in cells]
    latency = [work(cell) if "nor_conv_1x1" in cell else "" for cell in new]
    table = write_table(
        tmp_path / "t.csv", {"latency_ms": latency, "val_acc": [90 - c.count("none") for c in new]}, new
    )
    assert call("evaluate", trained, table, "-o", tmp_path / "e", "--interval", "0.8") == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith(f"latency_ms, {len(new)} networks: kendall tau ")
    assert printed[1].startswith(f"val_acc, {len(new)} networks: kendall tau ")
    assert "auc " in printed[0]
    assert "auc " not in printed[1]
    assert {path.name for path in (tmp_path / "e").iterdir()} == {
        *("predictions.csv", "scores.json", "latency_ms.svg", "val_acc.svg"),
    }
    facts = json.loads((tmp_path / "e" / "scores.json").read_text())
    assert facts["interval"] == 0.8
    assert facts["scores"]["latency_ms"]["kendall_tau"] > 0.6
    assert facts["scores"]["latency_ms"]["auc"] > 0.9
    assert 0.5 < facts["scores"]["latency_ms"]["coverage"] <= 1
    written = rows((tmp_path / "e" / "predictions.csv").read_text())
    assert [row["genotype"] for row in written] == new
    assert [row["latency_ms"] == "" for row in written] == [value == "" for value in latency]
    capsys.readouterr()
    assert call("predict", trained, *new, "--interval", "0.8") == 0
    for row, said in zip(written, rows(capsys.readouterr().out), strict=True):
        for name in ("latency_ms", "val_acc"):
            for ours, theirs in (("_predicted", ""), ("_low", "_low"), ("_high", "_high")):
                assert (row[name + ours] == "") == (said[name + theirs] == "")
                if row[name + ours]:
                    assert float(row[name + ours]) == pytest.approx(float(said[name + theirs]), rel=1e-5)


def test_evaluate_without_a_folder_prints_alone(
    trained: Path, cells: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = write_table(
        tmp_path / "t.csv", {"latency_ms": [-1, *range(1, 20)], "val_acc": ["", *range(1, 20)]}, cells[:20]
    )
    assert call("evaluate", trained, table, "--unsupported", "-1", "--missing") == 0
    assert capsys.readouterr().out.count("\n") == 2
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]


@pytest.fixture(scope="module")
def proxies(tmp_path_factory: pytest.TempPathFactory, cells: list[str]) -> Path:
    """Two proxies of every cell, one of them not known of every fourth."""
    columns: dict[str, Sequence[object]] = {
        "naswot": [f"{work(cell) ** 2:g}" for cell in cells],
        "snip": ["" if i % 4 else i for i in range(100)],
    }
    return write_table(tmp_path_factory.mktemp("proxies") / "proxies.csv", columns, cells)


def test_proxies_of_a_table_reach_training_prediction_and_judgement(
    tmp_path: Path, cells: list[str], proxies: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hidden = np.random.default_rng(0).permutation(100)
    more = np.array([[work(cell) ** 2, np.nan if i % 4 else i] for i, cell in enumerate(cells)])[hidden]
    # A row of the proxies goes with a cell by its name, not by its place.
    some = [cells[i] for i in hidden]
    table = write_table(tmp_path / "t.csv", {"energy_mj": [work(cell) for cell in some[:60]]}, some[:60])
    assert call("train", table, "--metric", "energy_mj", "-o", tmp_path / "p", *QUICK, "--proxies", proxies) == 0
    _, info = load_predictor(tmp_path / "p")
    assert info.proxies == ("naswot", "snip")
    assert "Inputs beside strings: proxies naswot, snip." in (tmp_path / "p" / "README.md").read_text()
    strings = SpaceStrings(TopologySpace(), "executed").strings(some)
    twin = SEvalPredictor("boosted", "linear").fit(strings[:60], [work(cell) for cell in some[:60]], more[:60])
    expected = twin.predict(strings[60:], more[60:])
    capsys.readouterr()
    assert call("predict", tmp_path / "p", *some[60:], "--proxies", proxies) == 0
    assert [float(row["energy_mj"]) for row in rows(capsys.readouterr().out)] == pytest.approx(expected, rel=1e-5)
    new = write_table(tmp_path / "new.csv", {"energy_mj": [work(cell) for cell in some[60:]]}, some[60:])
    assert call("evaluate", tmp_path / "p", new, "--proxies", proxies, "-o", tmp_path / "e") == 0
    written = rows((tmp_path / "e" / "predictions.csv").read_text())
    assert [float(row["energy_mj_predicted"]) for row in written] == pytest.approx(expected, rel=1e-6)


def test_metrics_and_proxies_may_be_in_one_table(tmp_path: Path, cells: list[str]) -> None:
    columns: dict[str, Sequence[object]] = {
        "a": range(30),
        "flops": [work(cell) for cell in cells[:30]],
        "b": range(30),
    }
    table = write_table(tmp_path / "t.csv", columns, cells[:30])
    arguments = ("--metric", "a", "--metric", "b", "--direction", "min", "--proxies", table)
    assert call("train", table, *arguments, "-o", tmp_path / "p", *QUICK) == 0
    assert load_predictor(tmp_path / "p")[1].proxies == ("flops",)
    assert call("predict", tmp_path / "p", cells[0], "--proxies", table) == 0


def test_proxies_that_do_not_go_with_the_predictor_or_the_networks_are_refused(
    tmp_path: Path, trained: Path, cells: list[str], proxies: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = write_table(tmp_path / "t.csv", {"latency_ms": range(30)}, cells[:30])
    options = ("--metric", "latency_ms", *QUICK, "-o", tmp_path / "p", "--proxies")
    refused(capsys, "no column besides those of networks and metrics", "train", table, *options, table)
    few = write_table(tmp_path / "few.csv", {"naswot": range(29), "snip": range(29)}, cells[:29])
    refused(capsys, f"few.csv has no row for {cells[29]!r}; add the row", "train", table, *options, few)
    assert call("train", table, *options, proxies) == 0
    seeing = tmp_path / "p"
    refused(
        capsys,
        "p also learned from proxies; give --proxies TABLE with the columns naswot, snip",
        "predict",
        seeing,
        cells[0],
    )
    refused(capsys, "also learned from proxies; give --proxies", "evaluate", seeing, table)
    other = write_table(tmp_path / "o.csv", {"naswot": [1], "synflow": [2]}, cells[:1])
    expected = "o.csv has no column 'snip'; the predictor learned from the proxies naswot, snip"
    refused(capsys, expected, "predict", seeing, cells[0], "--proxies", other)
    refused(capsys, "strings alone; leave --proxies out", "predict", trained, cells[0], "--proxies", proxies)


def test_a_predictor_starts_from_others_and_takes_their_view(
    tmp_path: Path, trained: Path, cells: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    odd = [work(cell) + 9 * (cell.count("none") % 2) for cell in cells]
    much = write_table(tmp_path / "much.csv", {"score": odd}, cells)
    first = ("--metric", "score", "--direction", "min", "--view", "functional")
    assert call("train", much, *first, "-o", tmp_path / "b", *QUICK) == 0
    new = CELLS[7000:7060:4]
    few = write_table(tmp_path / "few.csv", {"energy_mj": [work(c) + 9 * (c.count("none") % 2) for c in new]}, new)
    arguments = ("train", few, "--metric", "energy_mj", "--base", tmp_path / "b")
    assert call(*arguments, "-o", tmp_path / "p") == 0
    predictor, info = load_predictor(tmp_path / "p")
    assert (info.view, info.base) == ("functional", (f"score of nats-tss/cifar10 ({tmp_path / 'b'})",))
    assert len(predictor.base_) == 1
    card = (tmp_path / "p" / "README.md").read_text()
    assert f"Inputs beside strings: predictions of {info.base[0]}." in card
    assert call("predict", tmp_path / "p", cells[0], "--interval", "0.5") == 0
    expected = "reads the functional view of networks, expected the executed view; leave it out, or"
    refused(capsys, expected, *arguments, "--view", "executed", "-o", tmp_path / "q")
    refused(capsys, f"--base {trained} reads the executed view", *arguments, "--base", trained, "-o", tmp_path / "q")
    refused(capsys, "no such folder", "train", few, "--metric", "energy_mj", "--base", "nowhere", "-o", tmp_path / "q")


def test_a_predictor_that_knows_nothing_is_called_weak_in_training_search_and_report(
    tmp_path: Path, cells: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    noise = np.random.default_rng(0).normal(size=20)
    table = write_table(tmp_path / "t.csv", {"energy_mj": noise.tolist(), "time_s": [2] * 20}, cells[:20])
    for metric, reason in (("time_s", "because all values or all predictions are equal"), ("energy_mj", "'s tau ")):
        assert call("train", table, "--metric", metric, "-o", tmp_path / metric, *QUICK) == 0
        printed = capsys.readouterr()
        (line,) = printed.err.splitlines()
        assert line.startswith(f"freerea-seval: {metric}: warning: weak prediction, ")
        assert reason in line
        assert line.endswith("measure more networks, and choose them with 'freerea-seval measure --informative'")
        assert ("recall" in printed.out) == (metric == "energy_mj")
    objective = f"{{metric: energy_mj, source: {{seval: {tmp_path / 'energy_mj'}}}}}"
    (tmp_path / "s.yaml").write_text(
        "search: {population: 4, tournament: 2, seeds: [0, 1]}\nbudget: {evaluations: 8}\n"
        f"objectives:\n  - {objective}\n"
    )
    for workers in ("1", "2"):
        assert call("search", tmp_path / "s.yaml", "-o", tmp_path / workers, "--workers", workers) == 0
        printed = capsys.readouterr()
        (line,) = printed.err.splitlines()  # once, not for each seed or process
        assert line.startswith("energy_mj: predicted, warning: weak prediction, cross-validated Kendall's tau ")
        assert line in printed.out
        assert call("search", "--resume", tmp_path / workers) == 0
        assert call("report", tmp_path / workers, "--html", tmp_path / "page.html") == 0
        printed = capsys.readouterr()
        assert printed.err == ""
        assert printed.out.count(line) == 2
        assert "warning: weak prediction" in (tmp_path / "page.html").read_text()


def test_a_search_says_how_good_its_predictor_is(
    tmp_path: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    objective = f"{{metric: val_acc, source: {{seval: {trained}}}}}"
    (tmp_path / "s.yaml").write_text(
        f"search: {{population: 4, tournament: 2}}\nbudget: {{evaluations: 8}}\nobjectives:\n  - {objective}\n"
    )
    assert call("search", tmp_path / "s.yaml", "-o", tmp_path / "run") == 0
    printed = capsys.readouterr()
    assert re.fullmatch(r"val_acc: predicted, cross-validated Kendall's tau [01]\.\d\d on 100 networks\n", printed.err)
    assert printed.err in re.sub("\n +", "\n", printed.out)
    assert "val acc, predicted" in printed.out
    run = fs.load_run(tmp_path / "run")
    assert run.front.attrs["predicted"] == ["val_acc"]
    assert run.history.attrs["predicted"] == ["val_acc"]


def test_a_predictor_of_a_space_with_options_is_trained_and_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = "{name: gpt, width: [64, 128], layers: [1, 2], heads: 2, ratio: [2, 4], context: 16, vocabulary: 100}"
    space = make_space(yaml.safe_load(options))
    networks = sorted({space.sample(Random(seed)) for seed in range(60)})[:16]
    measured = write_table(tmp_path / "gpt.csv", {"latency_ms": range(16)}, networks)
    command = ("train", measured, "--metric", "latency_ms", "-o", tmp_path / "p", *QUICK)
    assert call(*command, "--space", options) == 0
    recorded = fs.load_predictor(tmp_path / "p").info.space
    assert json.loads(recorded) == yaml.safe_load(options)
    capsys.readouterr()
    assert call("predict", tmp_path / "p", networks[0]) == 0  # the space is built in, and its options are known
    alone = capsys.readouterr().out
    assert call("predict", tmp_path / "p", networks[0], "--space", options) == 0
    assert capsys.readouterr().out == alone
    wrong = ("train", measured, "--metric", "latency_ms", "-o", tmp_path / "q", "--space")
    refused(capsys, "expected a name, or options such as '{name: gpt, width: 128}'", *wrong, "{width: 1}")
    refused(capsys, "not valid YAML", *wrong, "{name: gpt")


def test_a_search_in_another_space_than_that_of_its_predictor_says_so(
    tmp_path: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = {
        "space": "nats-sss",
        "search": {"population": 4, "tournament": 2},
        "budget": {"evaluations": 8},
        "objectives": [{"metric": "val_acc", "source": {"seval": str(trained)}}],
    }
    (tmp_path / "s.yaml").write_text(json.dumps(config))
    assert call("search", tmp_path / "s.yaml", "-o", tmp_path / "run") == 0
    note = "; it learned from the space nats-tss/cifar10, whose networks may be unlike these\n"
    assert capsys.readouterr().err.endswith(note)
