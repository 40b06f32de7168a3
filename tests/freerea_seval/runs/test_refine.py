"""Searches that measure in rounds: what they present, what they ask for, and that nothing is measured twice."""

from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from matplotlib.figure import Figure

import freerea_seval as fs
from freerea_patch import InputError, NothingFeasible, TopologySpace
from freerea_seval.files import JsonLines
from freerea_seval.runs.figures import plot_reported
from freerea_seval.runs.refine_log import RefineLog
from freerea_seval.runs.report import sections_of
from freerea_seval.sources import device
from tests.freerea_seval.cli.test_mistakes import call as exit_code

MEASURED = """
import zlib
from pathlib import Path

CALLS = Path(__file__).with_name("calls.txt")


def price(genotype):
    with CALLS.open("a") as file:
        print(genotype, file=file)
    return cost(genotype)


def cost(genotype):
    noise = zlib.crc32(genotype.encode()) % 97 / 970
    return 1.0 + genotype.count("conv_3x3") + 0.5 * genotype.count("conv_1x1") + noise


def quality(genotype):
    return 60.0 + 5 * genotype.count("conv_3x3") + 3 * genotype.count("skip") + zlib.crc32(genotype.encode()) % 89 / 100
"""


def quality(genotype: str) -> float:
    noise = zlib.crc32(genotype.encode()) % 89 / 100
    return 60.0 + 5 * genotype.count("conv_3x3") + 3 * genotype.count("skip") + noise


def write_config(folder: Path, *objectives: Mapping[str, object], **sections: object) -> Path:
    """Write a config whose metrics are functions beside it; the module's name is the folder's."""
    module = f"measured_{folder.name}".replace("-", "_")
    sys.modules.pop(module, None)
    (folder / f"{module}.py").write_text(MEASURED)
    cells = list(TopologySpace("cifar10").genotypes())[::60]
    (folder / "cells.csv").write_text("\n".join(["genotype,known", *(f"{cell},1" for cell in cells)]) + "\n")
    content = {
        "space": {"name": "nats-tss", "only": "cells.csv"},
        "search": {"population": 6, "tournament": 3, "seeds": [4]},
        "budget": {"evaluations": 16},
        "objectives": objectives,
        "refine": {"start": 10, "rounds": 2, "networks": 3},
        **sections,
    }
    content = json.loads(json.dumps(content).replace("MODULE", module))
    path = folder / "search.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


PRICE = {"metric": "price", "source": {"seval": {"python": "MODULE:price"}}, "role": "pareto", "direction": "min"}
QUALITY = {"metric": "quality", "source": {"python": "MODULE:quality"}, "role": "pareto", "direction": "max"}
ASKED = {"metric": "accuracy", "source": {"seval": {"ask": "accuracy"}}, "role": "fitness", "direction": "max"}
BOUND = {**PRICE, "role": "constraint", "max": 3.2}


def search(path: Path, run: Path, **arguments: object) -> fs.Run:
    return fs.search(path, run, progress=False, **arguments)  # type: ignore[arg-type]


def outcome(run: Path) -> tuple[object, ...]:
    """What a seed decides: the result and the choices and values, without seconds."""
    result = json.loads((run / "seed-4/result.json").read_text())
    log = [json.loads(line) for line in (run / "seed-4/refine.jsonl").read_text().splitlines()]
    kept = [{k: v for k, v in row.items() if k != "seconds"} for row in log if "trained_s" not in row]
    return result["front"], result["explored"], result["measured"], kept


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a command and return its exit code and what it printed to standard output and standard error."""

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = exit_code(*arguments)
        return (code, *capsys.readouterr())

    return run


@contextmanager
def interrupted_after(lines: int) -> Iterator[None]:
    """Interrupt what is done within as soon as it has added so many lines to journals."""
    append, left = JsonLines.append, lines

    def interrupted(self: JsonLines, row: dict[str, object]) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        append(self, row)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JsonLines, "append", interrupted)
        with pytest.raises(KeyboardInterrupt):
            yield


def calls(folder: Path) -> Counter[str]:
    return Counter((folder / "calls.txt").read_text().splitlines())


def test_what_is_presented_was_measured_and_no_measured_network_dominates_it(tmp_path: Path) -> None:
    report = [{"metric": "worth", "source": QUALITY["source"]}]
    run = search(write_config(tmp_path, PRICE, QUALITY, report=report), tmp_path / "run")
    front, measured = run.front, calls(tmp_path)
    assert len(measured) == 16
    assert set(measured.values()) == {1}
    assert set(front["genotype"]) <= set(measured)
    module = sys.modules[f"measured_{tmp_path.name}".replace("-", "_")]
    costs = {genotype: module.cost(genotype) for genotype in measured}
    assert front["price"].tolist() == [costs[genotype] for genotype in front["genotype"]]
    for price, worth in zip(front["price"].tolist(), front["quality"].tolist(), strict=True):
        assert not any(costs[g] < price and quality(g) > worth for g in measured)
    assert (front["price_low"] <= front["price_high"]).all()
    assert front.attrs["predicted"] == []
    assert "price_predicted differs from price by" in run.report()
    axes = Figure().subplots()
    price, worth = (next(s for s in sections_of(run.config) if s.metric == name) for name in ("price", "worth"))
    plot_reported(run.folder, price, worth, ax=axes)
    drawn = {
        str(line.get_label()): np.sort(np.asarray(line.get_xdata(), dtype=float)).tolist() for line in axes.get_lines()
    }
    assert drawn["measured"] == sorted(front["price"])
    assert drawn["predicted"] == sorted(front["price_predicted"])
    assert run.history["price"].tolist() == [costs[genotype] for genotype in run.history["genotype"]]


def test_a_bound_holds_for_measured_values(tmp_path: Path) -> None:
    objective = {**QUALITY, "role": "fitness"}
    run = search(write_config(tmp_path, BOUND, objective), tmp_path / "run")
    assert len(run.front)
    assert (run.front["price"] <= 3.2).all()


def test_scores_rank_the_measured_networks_among_all_that_were_explored(tmp_path: Path) -> None:
    objective = {**QUALITY, "role": "fitness"}
    settings = {"population": 6, "tournament": 3, "seeds": [4], "aggregation": "ranks", "normalisation": "history"}
    run = search(write_config(tmp_path, BOUND, objective, search=settings), tmp_path / "run")
    explored = {row["genotype"]: row["values"].get("quality") for row in rounds_of(tmp_path / "run/seed-4")}
    values = {g: value for g, value in explored.items() if value is not None}
    values |= dict(zip(run.history["genotype"], run.history["quality"], strict=True))
    values = {g: value for g, value in values.items() if not math.isnan(value)}
    for genotype, score in zip(run.front["genotype"], run.front["score"], strict=True):
        own = values[genotype]
        below, equal = sum(v < own for v in values.values()), sum(v == own for v in values.values())
        assert score == pytest.approx((below + (equal - 1) / 2) / (len(values) - 1))  # equals share their mean rank


def rounds_of(seed: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(seed.glob("round-*.jsonl")):
        yield from map(json.loads, path.read_text().splitlines())


def test_a_guide_steers_until_the_metric_is_learned(tmp_path: Path) -> None:
    accuracy = {"metric": "quality", "source": {"seval": {"python": "MODULE:quality", "start": 0, "networks": 6}}}
    guide = {**QUALITY, "metric": "guess", "role": "guide"}
    learned = {**accuracy, "direction": "max", "role": "fitness"}
    config = write_config(tmp_path, guide, BOUND, learned, refine={"start": 10, "rounds": 3, "networks": 6})
    run = search(config, tmp_path / "run")
    assert "guess" not in run.front.columns
    rounds = [(tmp_path / f"run/seed-4/round-{n}.jsonl").read_text().splitlines() for n in (1, 2, 3)]
    guided = ["guess" in json.loads(lines[-1])["values"] for lines in rounds if lines]
    assert guided[0]
    assert not guided[-1]
    asked = RefineLog(tmp_path / "run/seed-4/refine.jsonl").known("quality")
    prices = RefineLog(tmp_path / "run/seed-4/refine.jsonl").known("price")
    assert asked
    assert all(prices[genotype] <= 3.2 for genotype in asked)


@pytest.mark.slow
def test_a_run_interrupted_anywhere_resumes_to_the_same_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = write_config(tmp_path, PRICE, QUALITY)
    search(config, tmp_path / "run")
    expected, append = outcome(tmp_path / "run"), JsonLines.append
    total = 0

    def counted(self: JsonLines, row: dict[str, object]) -> None:
        nonlocal total
        total += 1
        append(self, row)

    (tmp_path / "calls.txt").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(JsonLines, "append", counted)
        search(config, tmp_path / "again")
    assert outcome(tmp_path / "again") == expected
    for stop in (2, 13, total - 1):
        (tmp_path / "calls.txt").unlink(missing_ok=True)
        with interrupted_after(stop):
            search(config, tmp_path / f"run-{stop}")
        fs.search(resume=tmp_path / f"run-{stop}", progress=False)
        assert outcome(tmp_path / f"run-{stop}") == expected
        # A value that could not be recorded is the only one that is measured again.
        assert sum(calls(tmp_path).values()) <= 17


def test_what_is_measured_here_is_freed_of_the_machines_drift_and_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = {**PRICE, "metric": "latency", "source": {"seval": {"measure": "latency"}}}
    config, sessions = write_config(tmp_path, objective, QUALITY), []

    def measured(space: object, genotypes: Sequence[str], **options: object) -> list[float]:
        sessions.append(list(genotypes))
        busy = 1.0 + len(sessions)  # every session is on a busier machine
        return [busy * (10.0 + zlib.crc32(genotype.encode()) % 89) for genotype in genotypes]

    monkeypatch.setattr(device, "measure_latency_ms", measured)
    run = search(config, tmp_path / "run")
    known = RefineLog(tmp_path / "run/seed-4/refine.jsonl").known("latency")
    assert len(known) == 16
    for genotype, value in known.items():
        assert value == pytest.approx(2.0 * (10.0 + zlib.crc32(genotype.encode()) % 89))
    assert [len(session) for session in sessions] == [10, 6, 6]
    expected = outcome(run.path)
    # Interrupted while the values of a session are recorded, the same networks are measured, or read, together again.
    sessions.clear()
    with interrupted_after(5):
        search(config, tmp_path / "again")
    first = sessions.pop()
    fs.search(resume=tmp_path / "again", progress=False)
    assert sessions[0] == first
    assert outcome(tmp_path / "again") == expected


def answer(run: Path, **changes: str) -> Path:
    """Fill in what is wanted by the true values, except for changes by position, such as ``at_0="failed"``."""
    rows = list(csv.DictReader((run / "wanted.csv").open()))
    path = run.parent / "answers.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["genotype", "accuracy"])
        writer.writeheader()
        for number, row in enumerate(rows):
            value = changes.get(f"at_{number}", repr(quality(row["genotype"])))
            writer.writerow({"genotype": row["genotype"], "accuracy": value})
    return path


def test_asking_for_values_ends_with_a_code_of_its_own(
    tmp_path: Path, call: Callable[..., tuple[int, str, str]]
) -> None:
    config, run = write_config(tmp_path, BOUND, ASKED), tmp_path / "run"
    code, out, err = call("search", str(config), "-o", str(run))
    assert code == 3
    assert err == ""
    assert out.count("\n") == 1
    assert "10 values of accuracy are wanted" in out
    assert f"--resume {run} --answers" in out
    wanted = list(csv.DictReader((run / "wanted.csv").open()))
    assert [set(row) for row in wanted] == [{"genotype", "accuracy"}] * 10
    built = subprocess.run([sys.executable, run / "wanted.py"], capture_output=True, text=True, check=True).stdout
    assert all(row["genotype"] in built for row in wanted)
    assert "Conv2d" in built
    rounds = 0
    while code == 3:
        rounds += 1
        code, out, err = call("search", "--resume", str(run), "--answers", str(answer(run)))
    assert (code, rounds) == (0, 3)
    best = fs.load_run(run).front
    assert best["accuracy"].tolist() == [quality(genotype) for genotype in best["genotype"]]


def test_partial_repeated_surplus_and_failed_answers_are_taken_as_they_come(tmp_path: Path) -> None:
    config, run = write_config(tmp_path, BOUND, ASKED), tmp_path / "run"
    with pytest.raises(fs.AnswersWanted):
        search(config, run)
    first = answer(run, at_0="failed", at_1="", at_2=" 71.5 ")
    genotypes = [row["genotype"] for row in csv.DictReader((run / "wanted.csv").open())]
    cells = [row["genotype"] for row in csv.DictReader((tmp_path / "cells.csv").open())]
    surplus = next(cell for cell in cells if cell not in genotypes)
    with first.open("a") as file:
        file.write(f"{genotypes[2]},72.5\n{surplus},80\n\n")
    with pytest.raises(fs.AnswersWanted, match="1 values of accuracy"):
        fs.search(resume=run, answers=first, progress=False)
    left = [row["genotype"] for row in csv.DictReader((run / "wanted.csv").open())]
    assert left == [genotypes[1]]
    with pytest.raises(fs.AnswersWanted, match="1 values of accuracy"):
        fs.search(resume=run, answers=first, progress=False)
    known = RefineLog(run / "seed-4/refine.jsonl").known("accuracy")
    assert math.isnan(known[genotypes[0]])
    assert known[genotypes[2]] == 72.0
    assert known[surplus] == 80.0
    assert len(known) == 10


def test_what_was_filled_in_stays_when_the_file_is_written_again(tmp_path: Path) -> None:
    config, run = write_config(tmp_path, BOUND, ASKED), tmp_path / "run"
    with pytest.raises(fs.AnswersWanted):
        search(config, run)
    rows = list(csv.reader((run / "wanted.csv").open()))
    rows[3][1] = "88.5"
    (run / "wanted.csv").write_text("\n".join(",".join(row) for row in rows) + "\n")
    with pytest.raises(fs.AnswersWanted):
        fs.search(resume=run, progress=False)
    assert list(csv.reader((run / "wanted.csv").open())) == rows


def test_a_search_goes_on_after_a_part_that_ran_out_of_patience(tmp_path: Path) -> None:
    config = write_config(
        tmp_path, {**BOUND, "max": 1.2}, {**QUALITY, "role": "fitness"}, budget={"evaluations": 30, "patience": 3}
    )
    with suppress(NothingFeasible):
        search(config, tmp_path / "run")
    assert len(calls(tmp_path)) == 16
    assert (tmp_path / "run/seed-4/round-2.jsonl").stat().st_size


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected the columns 'genotype' and"),
        ("genotype,price\nx,1\n", "expected the columns 'genotype' and"),
        ("genotype,accuracy\nWANTED,high\n", "line 2: expected a number as accuracy, 'failed', or an empty cell"),
        ("genotype,accuracy\nWANTED,9050\n", "line 2: expected 0 to 100 as accuracy, got 9050"),
        ("genotype,accuracy\nWANTED,-0.5\n", "line 2: expected 0 to 100 as accuracy, got -0.5"),
        ("genotype,accuracy\nWANTED,90\n|no|,3\n", "line 3: "),
        ("genotype,accuracy\n,3\n", "line 2: "),
    ],
)
def test_a_mistake_in_the_answers_changes_nothing(
    tmp_path: Path, text: str, message: str, call: Callable[..., tuple[int, str, str]]
) -> None:
    config, run = write_config(tmp_path, BOUND, ASKED), tmp_path / "run"
    with pytest.raises(fs.AnswersWanted):
        search(config, run)
    before = (run / "seed-4/refine.jsonl").read_bytes()
    wanted = next(csv.DictReader((run / "wanted.csv").open()))["genotype"]
    (tmp_path / "answers.csv").write_text(text.replace("WANTED", wanted))
    code, _, err = call("search", "--resume", str(run), "--answers", str(tmp_path / "answers.csv"))
    assert code == 2
    assert message in err
    assert err.count("\n") == 1
    assert (run / "seed-4/refine.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("objectives", "sections", "message"),
    [
        ((PRICE, {**QUALITY, "role": "guide"}), {"refine": None}, "role 'guide' needs 'refine'"),
        ((QUALITY,), {}, "'refine' needs an objective to measure"),
        ((PRICE, QUALITY), {"search": {"seeds": [0, 1]}}, "takes one seed"),
        ((PRICE, QUALITY), {"refine": {"start": 4}}, "refine.start"),
        (({**PRICE, "source": {"seval": {"python": "MODULE:price", "ask": "price"}}}, QUALITY), {}, "expected one of"),
        (({**PRICE, "source": {"seval": {"measure": "power"}}}, QUALITY), {}, "'measure' can be latency"),
        (({**PRICE, "source": {"seval": {"python": "MODULE:price", "start": 3}}}, QUALITY), {}, "at least 10 networks"),
        (({**BOUND, "confidence": 0.9}, QUALITY), {}, "remove 'confidence'"),
        (({**ASKED, "source": {"seval": {"ask": "accuracy", "start": 0}}},), {}, "role: guide"),
        ((BOUND, {**QUALITY, "role": "guide"}), {}, "a guide does not decide the result"),
        (({**PRICE, "name": "x"}, BOUND), {}, "another objective learns the same metric"),
        (({**PRICE, "name": "../x"}, QUALITY), {}, "its name is also one of files"),
        ((PRICE, QUALITY), {"report": [{"metric": "l", "source": {"seval": {"ask": "l"}}}]}, "is not learned"),
        (({**PRICE, "source": {"seval": {"python": "MODULE:price", "networks": 9999}}}, QUALITY), {}, "to 2000"),
    ],
)
def test_a_config_that_cannot_be_refined_is_one_line(
    tmp_path: Path,
    objectives: tuple[Mapping[str, object], ...],
    sections: dict[str, object],
    message: str,
    call: Callable[..., tuple[int, str, str]],
) -> None:
    config = write_config(tmp_path, *objectives, **sections)
    code, _, err = call("search", str(config), "-o", str(tmp_path / "run"))
    assert (code, err.count("\n")) == (2, 1)
    assert message in err
    assert not (tmp_path / "run").exists()


def test_answers_without_a_question_are_refused(tmp_path: Path) -> None:
    config = write_config(tmp_path, {**QUALITY, "role": "fitness"}, refine=None)
    with pytest.raises(InputError, match="give its folder with --resume"):
        fs.search(config, answers=tmp_path / "a.csv", progress=False)
    search(config, tmp_path / "run")
    with pytest.raises(InputError, match="asks for no answers"):
        fs.search(resume=tmp_path / "run", answers=tmp_path / "a.csv", progress=False)


@pytest.mark.parametrize("aggregation", ["sum", "log-ranks"])
def test_the_scores_of_a_history_are_those_of_the_result(tmp_path: Path, aggregation: str) -> None:
    """Both refer to what the search explored, of which the measured networks are a selection."""
    options = {"population": 6, "tournament": 3, "seeds": [4], "aggregation": aggregation, "normalisation": "history"}
    terms: list[dict[str, object]] = [{**QUALITY, "role": "fitness"}, {"metric": "skip", "source": "training-free"}]
    run = search(write_config(tmp_path, PRICE, *terms, search=options), tmp_path / "run")
    history = dict(zip(run.history["genotype"], run.history["score"], strict=True))
    np.testing.assert_allclose([history[g] for g in run.front["genotype"]], run.front["score"], rtol=1e-12)
    best = -math.inf
    for _, row in run.front.sort_values("price").iterrows():
        assert row["score"] > best
        best = row["score"]


@pytest.mark.parametrize(("evaluations", "rounds"), [(3, 5), (8, 5)])
def test_all_parts_together_explore_as_many_networks_as_the_budget_has(
    tmp_path: Path, evaluations: int, rounds: int
) -> None:
    """A share of each part that is rounded by itself adds up to more, at least to one for each part."""
    refine = {"start": 10, "rounds": rounds, "networks": 1}
    path = write_config(tmp_path, PRICE, QUALITY, refine=refine, budget={"evaluations": evaluations})
    search(path, tmp_path / "run")
    parts = [len(file.read_text().splitlines()) for file in (tmp_path / "run/seed-4").glob("round-*.jsonl")]
    assert sum(parts) == evaluations
    assert max(parts) - min(parts) <= 1
