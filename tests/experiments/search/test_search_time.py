"""The experiment on the time that the plugin takes, on made-up metrics and with a quick stand-in for T5-small."""

from __future__ import annotations

import csv
import pickle
from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from experiments.predictors import speed as predictor_speed
from experiments.published import DEVICES
from experiments.search import search_time
from experiments.search.clock import Clock
from experiments.search.search_time import (
    AGAIN,
    COLUMNS,
    EXPLANATION,
    ONCE,
    PLUGIN,
    WITHOUT,
    Reports,
    Seconds,
    as_published,
    main,
    summary,
)
from freerea_patch import Budget, Objective, TopologySpace, make_search, run
from freerea_seval.sources import predicted
from tests.freerea_patch.synthetic import BitSpace, Formulas, noise, objectives

CELLS = TopologySpace().genotypes()


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    """Made-up tables in the published layouts: computing both metrics of a cell takes 0.25 s."""
    folder = tmp_path / "cached_metrics" / "nats" / "cifar10"
    folder.mkdir(parents=True)
    values: dict[str, Callable[[str], float]] = {
        "naswot": lambda cell: cell.count("conv") + noise("naswot")(cell),
        "logsynflow": lambda cell: cell.count("3x3") + noise("logsynflow")(cell),
    }
    for metric, value in values.items():
        lines = [f"index,{metric},time=[s]", *(f"{i},{value(cell)},0.125" for i, cell in enumerate(CELLS))]
        (folder / f"{metric}.csv").write_text("\n".join(lines) + "\n")
    latency = [2.0 + cell.count("conv_3x3") + 0.5 * cell.count("conv_1x1") for cell in CELLS]
    path = tmp_path / "HW-NAS-Bench-v1_0.pickle"
    path.write_bytes(pickle.dumps({"nasbench201": {"cifar10": dict.fromkeys(DEVICES, latency)}}))
    cache = str(tmp_path / "cached_metrics")
    return ["--cache", cache, "--hw-nas-bench", str(path), "--seeds", "1", "-o", str(tmp_path / "out")]


@pytest.mark.slow
@pytest.mark.parametrize("role", ["constraint", "pareto"])
def test_all_ways_are_timed_and_a_finished_run_only_sums_up(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], role: str
) -> None:
    arguments = [*arguments, "--role", role]
    monkeypatch.setattr(search_time, "CELLS", 20)
    monkeypatch.setattr(search_time, "MODEL", "gp")
    # A batch of predictions costs a millisecond: on a busy machine, a real one may take longer than the budget's rest.
    milliseconds = count()
    clock = SimpleNamespace(perf_counter=lambda: next(milliseconds) / 1000)
    monkeypatch.setattr(predicted, "time", clock)
    monkeypatch.setattr(search_time, "published_seconds", lambda threads: Seconds(2.0, 0.5))
    main(arguments)
    printed = capsys.readouterr().out
    path = tmp_path / "out" / "rows.csv"
    rows = {row["way"]: {k: float(v) for k, v in row.items() if k != "way"} for row in csv.DictReader(path.open())}
    assert list(rows) == [WITHOUT, PLUGIN, ONCE, AGAIN]
    without, plugin, once, again = rows.values()
    assert without["metric_s"] == 45.0
    assert without["explored"] == without["drawn"] == 180
    assert without["predictions"] == without["batches"] == without["share"] == 0
    assert 45.0 <= plugin["metric_s"] + plugin["predictor_s"] < 45.25
    assert plugin["metric_s"] == 0.25 * plugin["explored"]
    assert plugin["drawn"] == plugin["predictions"] > plugin["batches"] > 0
    # A bound leaves networks out, which are predicted all the same; an axis of the front leaves out none.
    assert (plugin["explored"] < plugin["drawn"]) == (role == "constraint")
    assert 0 < plugin["strings_cpu_s"] + plugin["features_cpu_s"] < plugin["predictor_cpu_s"]
    all_s = plugin["metric_s"] + plugin["predictor_s"] + plugin["loop_s"]
    assert plugin["share"] == pytest.approx(plugin["predictor_s"] / all_s)
    assert once["predictor_s"] == 2.0 * plugin["drawn"]
    assert once["predictor_cpu_s"] == 0.5 * plugin["drawn"]
    assert again["predictions"] > once["predictions"] + plugin["explored"]
    assert {row["metric_s"] for row in (plugin, once, again)} == {plugin["metric_s"]}

    text = path.read_text()
    monkeypatch.setattr(search_time, "prepare", None)
    monkeypatch.setattr(search_time, "published_seconds", None)
    main(arguments)
    assert capsys.readouterr().out == printed
    assert path.read_text() == text


def test_a_report_is_about_all_that_is_feasible_after_each_generation() -> None:
    bound = objectives(
        Formulas(a=noise("a"), b=noise("b")), Objective("a"), Objective("b", role="constraint", upper=0.6)
    )
    search = make_search("freerea", BitSpace(8), bound.terms, population=10, tournament=5)
    reports = Reports()
    result = run(search, bound, Budget(evaluations=90), on_candidate=reports)
    born = [c.proposal.generation for c in result.history.all_candidates()]
    assert len(set(born)) < max(born) + 1, "some generation brings nothing new"
    feasible = [c.proposal.generation for c in result.history]
    # As FreeREA's generations follow each other, what a report sees is what was born until then.
    assert reports.networks == sum(sum(b <= g for b in feasible) for g in range(max(born) + 1))


def test_the_published_way_is_computed_from_its_seconds_a_prediction() -> None:
    plugin = {"metric_s": 40.0, "loop_s": 1.0, "drawn": 3, "again": 9, "explored": 2, "strings_cpu_s": 7.0}
    once, again = as_published(plugin, Seconds(2.0, 1.0))
    assert once[0] == ONCE
    assert once[1]["predictor_s"] == 6.0
    assert once[1]["share"] == 6.0 / 47.0
    assert once[1]["strings_cpu_s"] == 0.0
    assert again[0] == AGAIN
    assert (again[1]["predictions"], again[1]["predictor_cpu_s"], again[1]["share_cpu"]) == (9, 9.0, 9.0 / 50.0)
    assert plugin["strings_cpu_s"] == 7.0


def test_a_summary_has_a_line_a_way() -> None:
    def row(way: str, seed: int, values: str) -> dict[str, object]:
        return dict(zip(COLUMNS, (way, seed, *map(float, values.split())), strict=True))

    rows = [
        row(PLUGIN, 0, "44 1.0 0.5 0.125 0.25 0.1 3 80 90 90 50 0.02 0.01"),
        row(AGAIN, 0, "44 100 50 0 0 0.1 0 80 90 400 400 0.7 0.5"),
        row(PLUGIN, 1, "46 2.0 0.5 0.125 0.25 0.3 3 82 98 98 60 0.04 0.01"),
    ]
    assert summary(pd.DataFrame(rows)).splitlines()[2:] == [
        "| plugin | 2 | 81 | 94 | 94 | 55 | 45.0 | 0.200 | 1.500 | 3.00 % | 0.500 | 0.125 + 0.250 + 0.125 | 1.00 % |",
        f"| {AGAIN} (computed) | 1 | 80 | 90 | 400 | 400 | 44.0 | 0.100 | 100.000 | 70.00 % | 50.000 |  | 50.00 % |",
        "",
        *EXPLANATION.splitlines(),
    ]


def test_a_clock_watches_every_call() -> None:
    clock = Clock()
    add = clock.timed(sum)
    assert (add([1, 2]), add([3], 4)) == (3, 7)
    assert clock.calls == 2
    assert clock.wall_s > 0


def test_the_published_predictor_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(predictor_speed, "published", lambda seed: lambda: asked.append(seed))
    wall, cpu = search_time.published_seconds(1)
    assert len(asked) == 8
    assert wall > 0
    assert cpu >= 0
