"""The page of a run: what it shows, and what it escapes."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import freerea_seval as fs
from freerea_patch import TopologySpace
from freerea_seval.runs import run_page
from freerea_seval.runs.folder import RunFolder
from freerea_seval.runs.report import pick_of
from freerea_seval.runs.run_page import write_page
from tests.page_reader import PageReader

NASTY = "</script><script>alert(1)</script><b>%{x}</b>"


def finished(
    folder: Path, role: str, name: str | None = None, more: Sequence[str] = (), seeds: str = "0,3"
) -> RunFolder:
    """Return a finished run on a table of all cells, with further Pareto objectives."""
    cells, rng = TopologySpace().genotypes(), np.random.default_rng(0)
    lines = ["genotype,score_a,latency,energy,accuracy"]
    for cell, (a, b, c) in zip(cells, rng.random((len(cells), 3)), strict=True):
        lines.append(f"{cell},{a:.6f},{b:.6f},{c:.6f},{50 + a:.4f}")
    (folder / "table.csv").write_text("\n".join(lines) + "\n")
    table = {"table": str(folder / "table.csv")}
    latency: dict[str, Any] = {"metric": "latency", "source": table, "role": role, "direction": "min", "unit": "ms"}
    latency |= {"max": 0.5} if role == "constraint" else {}
    config = {
        "space": "nats-tss",
        "search": {"population": 6, "tournament": 3},
        "budget": {"evaluations": 15},
        "objectives": [
            {"metric": "score_a", "source": table, "direction": "max"} | ({"name": name} if name else {}),
            latency,
            *({"metric": metric, "source": table, "role": "pareto", "direction": "min"} for metric in more),
        ],
        "report": [{"metric": "accuracy", "source": table, "unit": "%", "direction": "max"}],
    }
    return fs.search(config, folder / "run", seeds=seeds, progress=False).folder


def read(run: RunFolder) -> PageReader:
    return PageReader(write_page(run).read_text(encoding="utf-8"))


def predicted(run: RunFolder) -> Path:
    """Write the page of a run as if its latency had been predicted, by half too much, between one less and two more."""
    for seed in run.config.search.seeds:
        path = run.seed(seed) / "result.json"
        result = json.loads(path.read_text())
        for row in result["front"]:
            value = row["latency"]
            row |= {"latency_predicted": value + 0.5, "latency_low": value - 1, "latency_high": value + 2}
        path.write_text(json.dumps(result))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_page, "predicted_and_measured", lambda _: [("latency_predicted", "latency")])
        patch.setattr(run_page, "MOST_DRAWN", 2)
        return write_page(run)


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, PageReader]:
    run = finished(tmp_path_factory.mktemp("front"), "pareto")
    return run, read(run)


def test_without_a_front_the_best_networks_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = finished(tmp_path, "constraint")
    monkeypatch.setitem(sys.modules, "torch", None)
    page = read(run)
    assert page.headings[1] == "Best networks"
    assert len(page.tables[0]) == 11
    assert "not drawn: torch is not installed: pip install 'freerea-seval[live]'" in page.visible


def test_a_page_has_the_result_with_units_the_history_and_the_configuration(
    front: tuple[RunFolder, PageReader],
) -> None:
    run, page = front
    assert page.open == []
    assert page.references == [("href", "data:,")]
    headings = ["Networks", "History", "Where the time went", "Use it", "Configuration"]
    assert page.headings[:2] == ["Search run", "Front"]
    assert [h for h in page.headings if h in headings] == headings
    table = page.tables[0]
    assert table[0] == ["number", "seed", "score", "score_a", "latency [ms]", "accuracy [%]", "genotype"]
    rows = [(row["genotype"], result["seed"]) for result in run.results() for row in result["front"]]
    assert [(line[-1], int(line[1])) for line in table[1:]] == rows
    pick = pick_of(run)
    assert pick is not None
    assert [line[0] for line in table[1:]] == [f"{i} ★" if i == pick.row else str(i) for i in range(len(rows))]
    assert pick.reason in page.visible
    assert (run.path / "config.yaml").read_text() in page.visible
    assert f"freerea-seval export run --pick {pick.row} -o network.onnx" in page.visible
    traces = [trace for trace in page.figures[0]["data"] if trace["name"] != "recommended"]
    labels = [label.replace("<br>", " ") for trace in traces for label in trace["hovertext"]]
    assert all("latency [ms]: " in label for label in labels)
    assert len(labels) == 30
    assert sum(label.startswith("network ") and "accuracy [%]: " in label for label in labels) == len(rows)
    assert [len(trace["x"]) for trace in page.figures[0]["data"] if trace["name"] == "recommended"] == [1]


def test_the_course_of_a_search_never_gets_worse(front: tuple[RunFolder, PageReader]) -> None:
    page = front[1]
    (history,) = (f for f in page.figures if f["layout"]["yaxis"]["title"]["text"].startswith("hypervolume"))
    best = [trace["y"] for trace in history["data"] if trace["name"].startswith("best so far")]
    assert len(best) == 2
    assert all(values == sorted(values) for values in best)
    (table,) = (t for t in page.tables if t[0][:3] == ["seed", "networks", "seconds"])
    assert [line[:2] for line in table[1:]] == [[s, str(n)] for s in "03" for n in (2, 3, 5, 6, 8, 9, 11, 12, 14, 15)]
    assert float(table[10][3]) == pytest.approx(best[0][-1], rel=1e-4)


def test_three_objectives_have_parallel_coordinates_and_a_front_each(tmp_path: Path) -> None:
    page = read(finished(tmp_path, "pareto", more=["energy"]))
    assert page.headings[2:4] == ["latency [ms]", "energy"]
    (parallel,) = (f for f in page.figures if "ticktext" in f["layout"]["xaxis"])
    assert parallel["layout"]["xaxis"]["ticktext"] == ["score<br>a", "latency<br>[ms]", "energy", "accuracy<br>[%]"]
    lines = [trace["y"] for trace in parallel["data"] if trace["mode"] == "lines+markers"]
    rows = page.tables[0][1:]
    assert len(lines) == len(rows)
    best = min(range(len(rows)), key=lambda i: float(rows[i][4]))
    assert max(line[1] for line in lines) == 1, "the best is on top, though it is the smallest"
    (table,) = (t for t in page.tables[1:] if "accuracy [%]" in t[0])
    assert rows[best][4] in [line[2] for line in table[1:]]


def test_networks_are_drawn_once_each_with_a_table(front: tuple[RunFolder, PageReader]) -> None:
    run, page = front
    (cells,) = (t for t in page.tables if t[0][1:2] == ["in → 1"])
    pick = pick_of(run)
    assert pick is not None
    assert cells[1][0].startswith(f"{pick.row} ★")
    genotypes = [row["genotype"] for result in run.results() for row in result["front"]]
    assert "|".join(
        f"{operation}~{source}" for operation, source in zip(cells[1][1:], (0, 0, 1, 0, 1, 2), strict=True)
    ) == genotypes[pick.row].replace("+|", "").strip("|")
    (layers,) = (t for t in page.tables if t[0] == ["network", "layer", "output", "times"])
    assert [line[1:] for line in layers[1:3]] == [
        ["input", "3x32x32", "1"],
        ["Conv2d 3x3, BatchNorm2d", "16x32x32", "1"],
    ]
    drawn = [f for f in page.figures if f["layout"].get("annotations") and len(f["data"]) == 7]
    assert len(drawn) == len(cells) - 1


def test_predictions_have_a_band_and_the_intervals_of_the_run(tmp_path: Path) -> None:
    page = PageReader(predicted(finished(tmp_path, "pareto", seeds="0")).read_text(encoding="utf-8"))
    (figure,) = (f for f in page.figures if any("error_y" in trace for trace in f["data"]))
    band, equal, points = figure["data"]
    assert band["name"] == "within 0.5 [ms] of the measured value"
    assert np.subtract(band["y"][:2], equal["y"]).tolist() == pytest.approx([-0.5, -0.5])
    assert points["error_y"]["array"] == pytest.approx([1.5] * len(points["x"]))
    assert points["error_y"]["arrayminus"] == pytest.approx([1.5] * len(points["x"]))
    assert page.tables[0][0][5:8] == ["latency, predicted", "latency, low", "latency, high"]
    (label, *_) = page.figures[0]["data"][1]["hovertext"]
    assert "(predicted " in label.replace("<br>", " ")


def test_many_networks_and_seeds_are_thinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_page, "MOST_POINTS", 20)
    monkeypatch.setattr(run_page, "MOST_DRAWN", 1)
    monkeypatch.setattr(run_page, "MOST_ROWS", 3)
    page = read(finished(tmp_path, "pareto", seeds="0-9"))
    front = page.figures[0]["data"]
    assert len(front[0]["x"]) <= 30
    assert [trace["name"] for trace in front[1:]] == [*["front, a seed each"] * 10, "recommended"]
    assert sum(trace.get("showlegend", True) for trace in front) == 3
    assert "are left out at even intervals" in page.captions[0]
    assert [line[0] for line in page.tables[0][1:4]] == ["0", "1", "2"]
    assert [line[0][-1:] for line in page.tables[0][4:]] == ["★"], "the recommended network is in the table"
    assert "front.csv has all" in page.captions[1]


def test_everything_that_a_run_holds_is_escaped(tmp_path: Path) -> None:
    html = write_page(finished(tmp_path, "pareto", NASTY)).read_text(encoding="utf-8")
    assert NASTY not in html
    page = PageReader(html)
    assert page.open == []
    assert NASTY in page.tables[0][0]
    # Plotly reads tags: what it is given has none but its own line breaks, and no template.
    (history,) = (figure for figure in page.figures if "%{x}" in figure["layout"]["yaxis"]["title"]["text"])
    assert "<b>" not in history["layout"]["yaxis"]["title"]["text"]
    labels = [label for trace in history["data"] for label in trace["hovertext"]]
    assert all("<" not in label.replace("<br>", "") for label in labels)
    assert not any("hovertemplate" in trace for figure in page.figures for trace in figure["data"])
