"""The commands on good input."""

from __future__ import annotations

import csv
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from freerea_patch import TopologySpace
from freerea_seval.cli.commands import parse_seeds
from freerea_seval.predictor.boosted import BoostedPredictor
from freerea_seval.predictor.folder import load_predictor
from freerea_seval.strings.encode import SpaceStrings
from freerea_seval.strings.views import View
from tests.freerea_seval.cli.test_mistakes import call
from tests.freerea_seval.runs.searches import write_search


def test_help_answers_without_heavy_imports() -> None:
    code = (
        "import sys; from freerea_seval.cli.main import main; sys.argv = ['freerea-seval', '--help']\n"
        "heavy = {'torch', 'numpy', 'pydantic', 'xgboost', 'sklearn', 'matplotlib'}\n"
        "try: main()\n"
        "finally: print('LOADED', sorted(heavy & set(sys.modules)))"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "LOADED []" in output
    assert "search" in output


def test_help_takes_under_four_tenths_of_a_second() -> None:
    """Processor time, because the wall clock also counts whatever else the machine is doing."""
    times = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "freerea_seval.cli.main", "--help"], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(times) < 0.4


@pytest.mark.parametrize(
    ("text", "seeds"), [("3", [3]), ("0,2,5", [0, 2, 5]), ("0-3", [0, 1, 2, 3]), ("1, 4-5", [1, 4, 5])]
)
def test_seeds_are_listed_or_ranged(text: str, seeds: list[int]) -> None:
    assert parse_seeds(text) == seeds


def test_search_prints_a_table_and_draws_a_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write_search(tmp_path)
    assert call("search", config, "-o", tmp_path / "run", "--seeds", "0-1") == 0
    printed = capsys.readouterr().out
    assert "seed 0: the front of 60 networks" in printed
    assert "cost [mJ]" in printed
    assert f"run folder: {tmp_path / 'run'}" in printed
    figure = (tmp_path / "run" / "front.png").read_bytes()
    assert figure.startswith(b"\x89PNG")
    (tmp_path / "run" / "front.png").unlink()
    assert call("report", tmp_path / "run") == 0
    assert capsys.readouterr().out == printed
    assert (tmp_path / "run" / "front.png").read_bytes() == figure


def test_networks_without_a_value_are_left_out_of_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cells = TopologySpace().genotypes()[:30]
    rows = [f"{cell},{-1 if number % 3 == 0 else number}" for number, cell in enumerate(cells)]
    (tmp_path / "t.csv").write_text("\n".join(["genotype,latency_ms", *rows]) + "\n")
    arguments = ("train", tmp_path / "t.csv", "--metric", "latency_ms", "--unsupported")
    assert call(*arguments, "-1", "-o", tmp_path / "p") == 0
    assert "trained on 20 networks" in capsys.readouterr().out
    assert call(*arguments, "nan", "-o", tmp_path / "q") == 0
    assert "trained on 30 networks" in capsys.readouterr().out


def test_a_batch_on_the_command_line_is_looked_for_where_the_user_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "configs").mkdir()
    config = write_search(tmp_path / "configs", budget="evaluations: 4")
    config.write_text(config.read_text() + "live: {cache: off, batch_size: 4, initialisations: 1}\n")
    config.write_text(
        config.read_text().replace("role: pareto", "role: pareto}\n  - {metric: naswot, source: training-free")
    )
    np.savez(tmp_path / "b.npz", images=np.random.default_rng(0).standard_normal((4, 3, 32, 32)))
    monkeypatch.chdir(tmp_path)
    assert call("search", config, "-o", "run", "--batch", "b.npz") == 0


def test_ctrl_c_says_how_to_go_on(tmp_path: Path) -> None:
    config = write_search(tmp_path, delay=0.05)
    process = subprocess.Popen(
        [sys.executable, "-m", "freerea_seval.cli.main", "search", config, "-o", tmp_path / "run"],
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    while not (tmp_path / "run" / "seed-3" / "journal.jsonl").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    error = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 130
    assert error == f"\nstopped; go on with: freerea-seval search --resume {tmp_path / 'run'}\n"


def test_objectives_lists_every_source_and_metric(capsys: pytest.CaptureFixture[str]) -> None:
    from freerea_seval.sources.installed import load_registry

    assert call("objectives") == 0
    printed = capsys.readouterr().out
    for record in load_registry():
        assert record.name in printed
        for metric in record.metrics:
            assert metric.name in printed


def test_train_predict_and_search_with_a_predictor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cells = TopologySpace().genotypes()[:60]
    rows = [(cell, 2.0 * cell.count("nor_conv_3x3") + cell.count("nor_conv_1x1")) for cell in cells]
    with open(tmp_path / "t.csv", "w", newline="") as file:
        csv.writer(file).writerows([("genotype", "energy_mj"), *rows])
    assert call("train", tmp_path / "t.csv", "--metric", "energy_mj", "-o", tmp_path / "p") == 0
    printed = capsys.readouterr().out
    assert "predicts energy_mj of nats-tss/cifar10 from the executed view, trained on 60 networks" in printed
    assert call("predict", tmp_path / "p", *cells[:2]) == 0
    predicted = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [row["genotype"] for row in predicted] == list(cells[:2])
    assert float(predicted[1]["energy_mj"]) == pytest.approx(rows[1][1], abs=2.0)
    (tmp_path / "s.yaml").write_text(
        "space: nats-tss\nsearch: {population: 4, tournament: 2}\nbudget: {evaluations: 8}\nobjectives:\n"
        "  - {metric: energy_mj, source: {seval: p}}\n"
    )
    assert call("search", tmp_path / "s.yaml", "-o", tmp_path / "run") == 0
    assert "energy mj [mJ]" in capsys.readouterr().out


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
    space = TopologySpace()
    cells = space.genotypes()[:30]
    rows = [f"{cell},{number}" for number, cell in enumerate(cells)]
    (tmp_path / "t.csv").write_text("\n".join([f"genotype,{metric}", *rows]) + "\n")
    assert call("train", tmp_path / "t.csv", "--metric", metric, "-o", tmp_path / "p", *said) == 0
    predictor, info = load_predictor(tmp_path / "p")
    assert info.view == view
    strings = SpaceStrings(space, view).strings(cells)
    trained = BoostedPredictor().fit(strings, np.arange(30.0))
    assert np.array_equal(predictor.predict(strings), trained.predict(strings))
    capsys.readouterr()
    assert call("predict", tmp_path / "p", *cells[:3]) == 0
    predicted = [float(row[metric]) for row in csv.DictReader(capsys.readouterr().out.splitlines())]
    assert predicted == pytest.approx(trained.predict(strings[:3]).tolist(), rel=1e-5)
