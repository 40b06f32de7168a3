"""The report: made of rows that the test makes up, and read back."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from experiments.search.report import NUMBERS, TEXTS, main, page_markdown, read_runs, report
from freerea_patch import InputError
from freerea_seval.runs.statistics import paired_p, summarise
from tests.page_reader import PageReader

COMMAND = "python -m experiments.search.report"
BENCHMARKS = (("cifar10", "edgegpu_latency"), ("cifar100", "raspi4_latency"))
BOUNDED = (("random", ""), ("freerea+true", ""), ("freerea+seval", "100"), ("freerea+seval", "1000"))
PARETO = (("pareto+true", ""), ("pareto+seval", "100"))
SEEDS = 4


def made_up_rows() -> list[dict[str, object]]:
    rng = np.random.default_rng(7)
    rows = []
    for (dataset, metric), seed in product(BENCHMARKS, range(SEEDS)):
        common = {"dataset": dataset, "metric": metric, "unit": "ms", "direction": "min", "seed": seed, "status": "ok"}
        for quantile, (method, cells) in product((0.5, 0.1), BOUNDED):
            # The second seed of a predictor from 100 cells is outside the bound.
            violated = int(cells == "100" and seed == 1)
            regret = round(float(rng.uniform(0, 4)), 3)
            row = {**common, "method": method, "cells": cells, "quantile": quantile, "violated": violated}
            row.update(
                regret="" if violated else regret,
                metric_s=45.0,
                predictor_s=0.25 if cells else 0,
                loop_s=0.5,
                predictor_cpu_s=0.125 if cells else 0,
            )
            if cells:
                row.update(remeasured_regret=regret, remeasured=1 + violated, tau=rng.uniform(-1, 0), prepare_s=2)
            rows.append(row)
        for method, cells in PARETO:
            row = {**common, "method": method, "cells": cells, "front": 3, "folder": f"runs/{dataset}-{method}-{seed}"}
            row.update(hypervolume=rng.uniform(0.8, 1), igd_plus=rng.uniform(0, 1), metric_s=45.0, loop_s=0.5)
            rows.append(row)
    return rows


def failed_row() -> dict[str, object]:
    error = 'expected <b>cells</b> | "10", got & 3'
    return {"dataset": "cifar10", "metric": "pgd", "method": "freerea", "seed": 9, "status": "failed", "error": error}


def write(folder: Path, rows: list[dict[str, object]]) -> Path:
    folder.mkdir(exist_ok=True)
    with (folder / "rows.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ("bound", *TEXTS, *NUMBERS), restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    record = {"config": {"budget_s": 45, "note": "<i>"}, "versions": {"python": "3.11.7", "numpy": "2.4.6"}}
    (folder / "config.json").write_text(json.dumps(record))
    return folder


def write_front(path: Path, header: str, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *lines]) + "\n")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = write(tmp_path_factory.mktemp("experiment") / "out", [*made_up_rows(), failed_row()])
    write_front(made / "true-fronts" / "cifar10-edgegpu_latency.csv", "accuracy,value", "60,1", "70,2.5", "72,4")
    for method, seed in product(("pareto+true", "pareto+seval"), range(SEEDS)):
        front = made / "runs" / f"cifar10-{method}-{seed}" / "front.csv"
        write_front(front, "genotype,accuracy,value", f"a,6{seed},1.5", "b,68,3")
    return made


@pytest.fixture(scope="module")
def page(folder: Path) -> str:
    return report(folder).html()


def values(column: str, quantile: float | None, line: tuple[str, str]) -> dict[tuple[object, ...], float]:
    return {
        (row["dataset"], row["seed"]): float(str(row[column]))
        for row in made_up_rows()
        if (row.get("quantile"), (row["method"], row["cells"])) == (quantile, line) and row.get(column, "") != ""
    }


def strata(found: dict[tuple[object, ...], float]) -> list[list[float]]:
    return [[value for (d, _), value in found.items() if d == dataset] for dataset, _ in BENCHMARKS]


def signed(text: str) -> str:
    return text.replace("-", "\N{MINUS SIGN}")


def test_a_page_is_well_formed_and_refers_to_nothing_outside(page: str) -> None:
    read = PageReader(page)
    assert read.open == []
    assert read.references == [("href", "data:,")]
    assert "http" not in read.visible


def test_a_page_has_its_sections_and_every_method(page: str) -> None:
    read = PageReader(page)
    sections = ["What was run", "Search time", "Regret under a bound", "Ranking what the search generates", "Fronts"]
    assert [heading for heading in read.headings if heading in sections] == sections
    first = {row[0] for table in read.tables for row in table}
    named = {f"{method}, {cells} cells" if cells else method for method, cells in (*BOUNDED, *PARETO)}
    assert named <= first
    # Search time has a panel for each half, regret one for each benchmark, and fronts were written for one.
    assert len(read.figures) == 2 + 2 + 1


def test_every_table_and_figure_names_its_command(page: str, folder: Path) -> None:
    captions = PageReader(page).captions
    assert len(captions) > 6
    for caption in captions:
        assert caption.startswith(("Table ", "Figure "))
        assert f"Made by {COMMAND} {folder}" in caption
    assert f"python -m experiments.search.integration GRID.yaml -o {folder}" in page


def test_numbers_are_those_of_the_statistics_computed_apart(page: str) -> None:
    together = next(table for table in PageReader(page).tables if "before, IQM" in table[0])
    assert len(together) == 1 + 2 * len(BOUNDED)
    for place, (quantile, line) in enumerate(product((0.1, 0.5), BOUNDED), start=1):
        before = values("regret", quantile, line)
        after = values("remeasured_regret" if line[1] else "regret", quantile, line)
        expected = []
        for found in (before, after):
            summary = summarise(strata(found))
            assert summary is not None
            outside = 25.0 if found is before and line[1] == "100" else 0.0
            interval = signed(f"{summary.low:.2f} to {summary.high:.2f}")
            expected += [signed(f"{summary.mean:.2f}"), signed(f"{summary.iqm:.2f}"), interval, f"{outside:.1f} %"]
        p = paired_p(after, values("regret", quantile, ("freerea+true", "")))
        measured = {"100": "1.2", "1000": "1.0"}.get(line[1], "")
        name = f"{line[0]}, {line[1]} cells" if line[1] else line[0]
        printed_p = "" if line[0] == "freerea+true" else f"{p:.3f}"
        reference = values("regret", quantile, ("freerea+true", ""))
        rest = sum(after[key] for key in after if key in reference) / sum(
            reference[key] for key in reference if key in after
        )
        share = signed(f"{100 * (1 - rest):.0f} %")
        assert together[place] == [name, f"{100 * quantile:g} %", "8", *expected, measured, share, printed_p]


def test_times_add_up_and_the_predictor_has_its_share(page: str) -> None:
    table = next(table for table in PageReader(page).tables if "predictor's share" in table[0])
    rows = {row[0]: row[1:] for row in table}
    assert rows["freerea+seval, 100 cells"] == [
        "16",
        "45.000",
        "0.250",
        "0.500",
        "45.750",
        "0.546 %",
        "0.274 %",
        "2.00",
    ]
    assert rows["random"] == ["16", "45.000", "0.000", "0.500", "45.500", "0.000 %", "0.000 %", "0.00"]


def test_taus_and_fronts_are_told_a_benchmark_at_a_time(page: str) -> None:
    tables = PageReader(page).tables
    taus = next(table for table in tables if table[0][2:] == [f"{m} on {d}" for d, m in BENCHMARKS])
    rows = [row for row in made_up_rows() if (row["dataset"], row["cells"]) == ("cifar10", "1000") and "tau" in row]
    summary = summarise([[float(str(row["tau"])) for row in rows]])
    assert summary is not None
    expected = signed(f"{summary.iqm:.2f} ({summary.low:.2f} to {summary.high:.2f})")
    assert next(row for row in taus if row[0] == "freerea+seval, 1000 cells")[2] == expected

    together, first, second = (table[1:] for table in tables if "hypervolume, IQM" in table[0])
    for table, count in ((together, 2 * SEEDS), (first, SEEDS), (second, SEEDS)):
        assert [row[:2] for row in table] == [["pareto+true", str(count)], ["pareto+seval, 100 cells", str(count)]]
    for column, start in (("hypervolume", 2), ("igd_plus", 5)):
        found = values(column, None, ("pareto+true", ""))
        for table, groups in ((together, strata(found)), (second, strata(found)[1:])):
            summary = summarise(groups)
            assert summary is not None
            interval = f"{summary.low:.3f} to {summary.high:.3f}"
            assert table[0][start : start + 3] == [f"{summary.mean:.3f}", f"{summary.iqm:.3f}", interval]
    assert together[0][8] == "3.0"


def test_the_front_that_is_drawn_is_of_the_run_with_the_median_hypervolume(page: str) -> None:
    rows = [r for r in made_up_rows() if (r["dataset"], r["method"]) == ("cifar10", "pareto+true")]
    median = sorted(rows, key=lambda row: float(str(row["hypervolume"])))[2]
    (front,) = (trace for trace in PageReader(page).figures[-1]["data"] if trace["name"] == "pareto+true")
    assert front["hovertext"] == [f"pareto+true<br>1.5, 6{median['seed']}.00", "pareto+true<br>3, 68.00"]
    assert (front["x"], front["y"]) == ([1.5, 3.0], [60.0 + float(str(median["seed"])), 68.0])


def test_failed_runs_are_listed_with_their_reason_and_counted_nowhere_else(page: str, folder: Path) -> None:
    table = next(table for table in PageReader(page).tables if "reason" in table[0])
    assert table[1:] == [["freerea", "pgd on cifar10", "", "9", 'expected <b>cells</b> | "10", got & 3']]
    assert "48 done, 1 failed".replace("48", str(len(made_up_rows()))) in page
    assert 'expected &lt;b&gt;cells&lt;/b&gt; \\| "10", got &amp; 3 |' in page_markdown(report(folder))
    assert "pgd" not in "".join(PageReader(page).headings)


def test_markdown_has_the_tables_of_the_page(page: str, folder: Path) -> None:
    text = page_markdown(report(folder))
    names, _, *others = PageReader(page).tables  # the second has markup of the runs that failed, which is escaped
    for table in (names, *others):
        for row in table:
            assert f"| {' | '.join(row)} |".replace("<0", "&lt;0").replace("\N{NO-BREAK SPACE}", " ") in text
    assert text.count("Made by `") == len(PageReader(page).tables)


def test_a_run_that_found_nothing_within_the_bound_counts_as_outside(tmp_path: Path) -> None:
    common = {"dataset": "cifar10", "metric": "m", "direction": "max", "method": "freerea", "status": "ok"}
    rows: list[dict[str, object]] = [
        {**common, "quantile": 0.1, "seed": 0, "regret": 2.0, "violated": 0},
        {**common, "quantile": 0.1, "seed": 1, "regret": -3.0, "violated": 1},
        {**common, "quantile": 0.1, "seed": 2},
        {**common, "quantile": 0.1, "seed": 3, "regret": "nan"},
    ]
    (table,) = (t for t in PageReader(report(write(tmp_path, rows)).html()).tables if "before, mean" in t[0])
    numbers = dict(zip(table[0], table[1], strict=True))
    assert (numbers["before, mean"], numbers["before, outside"]) == ("2.00", "75.0 %")
    assert (numbers["after, mean"], numbers["after, outside"]) == ("2.00", "75.0 %")
    assert (numbers["p"], numbers["measured"]) == ("", "")


def test_one_seed_has_neither_interval_nor_p_value(tmp_path: Path) -> None:
    common = {"dataset": "cifar10", "metric": "m", "direction": "max", "status": "ok", "quantile": 0.1, "violated": 0}
    rows: list[dict[str, object]] = [
        {**common, "method": "freerea+true", "seed": 0, "regret": 2.0},
        {
            **common,
            "method": "freerea+seval",
            "seed": 0,
            "regret": 1.5,
            "metric_s": 45,
            "predictor_s": 0.5,
            "loop_s": 4.5,
        },
    ]
    read = PageReader(report(write(tmp_path, rows)).html())
    (table,) = (t for t in read.tables if "before, mean" in t[0])
    for row in table[1:]:
        numbers = dict(zip(table[0], row, strict=True))
        assert (numbers["after, 95\N{NO-BREAK SPACE}%"], numbers["p"]) == ("", "")
    text = page_markdown(report(tmp_path))
    assert "Under a bound, freerea+seval has the least regret, 1.50 points (freerea+true: 2.00)" in text
    assert "Predictions take 1.0 % of a search's seconds" in text
    assert "| freerea+seval | FreeREA; the hardware metric is a bound, by predictions from strings |" in text
    assert text.index("Under a bound") < text.index("## What was run")


def test_benchmarks_come_in_one_order_whichever_process_was_first(tmp_path: Path) -> None:
    rows, later = made_up_rows(), made_up_rows()[len(made_up_rows()) // len(BENCHMARKS) :]
    one, other = write(tmp_path / "one", rows), write(tmp_path / "other", [*later, *rows[: -len(later)]])
    assert read_runs(one).equals(read_runs(other))


def test_sections_without_rows_are_left_out(tmp_path: Path) -> None:
    read = PageReader(report(write(tmp_path, [failed_row()])).html())
    assert read.headings == ["Searches with and without the plugin", "What was run"]
    assert read.figures == []
    assert read.scripts == 0, "no figure, no plotly.js"


def test_a_row_that_is_being_written_is_left_for_the_next_report(tmp_path: Path) -> None:
    write(tmp_path, made_up_rows())
    whole = page_markdown(report(tmp_path))
    with (tmp_path / "rows.csv").open("a") as file:
        file.write("0.5,cifar10,edge")
    assert page_markdown(report(tmp_path)) == whole


def test_the_command_writes_both_files_and_says_where(
    tmp_path: Path, folder: Path, page: str, capsys: pytest.CaptureFixture[str]
) -> None:
    main([str(folder), "-o", str(tmp_path / "page.html")])
    assert capsys.readouterr().out == f"{tmp_path}/page.html\n{tmp_path}/page.md\n"
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == page
    assert (tmp_path / "page.md").read_text(encoding="utf-8") == page_markdown(report(folder))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"status": "done"}, r"rows\.csv, row 2: expected status to be one of ok, failed, got 'done'"),
        ({"direction": "up"}, r"rows\.csv, row 2: expected direction to be one of min, max, got 'up'"),
        ({"regret": "much"}, r"rows\.csv, row 2: regret: expected a finite number or nothing, got 'much'"),
        ({"regret": "inf"}, r"rows\.csv, row 2: regret: expected a finite number or nothing, got 'inf'"),
    ],
)
def test_a_wrong_value_is_named_with_its_row(tmp_path: Path, change: dict[str, object], message: str) -> None:
    rows = made_up_rows()
    rows[0].update(change)
    with pytest.raises(InputError, match=message):
        report(write(tmp_path, rows))


def test_wrong_files_are_named(tmp_path: Path, folder: Path) -> None:
    made = write(tmp_path / "none", [])
    with pytest.raises(InputError, match=r"has no rows yet; continue with: .*integration GRID.yaml -o .*none$"):
        report(made)
    (made / "rows.csv").write_text("dataset,metric\ncifar10,x\n")
    with pytest.raises(InputError, match=r"rows\.csv lacks the columns unit, direction, .*prepare_s; expected rows"):
        report(made)
    (made / "rows.csv").write_text(",".join((*TEXTS, *NUMBERS)) + "\nx,y\n")
    with pytest.raises(InputError, match="row 2: expected one value for each column of the header, got more or fewer"):
        report(made)
    write(made, made_up_rows())
    (made / "config.json").write_text("[]")
    with pytest.raises(InputError, match=r"expected config\.json in .*none with config and versions"):
        report(made)
    write(made, made_up_rows())
    write_front(made / "true-fronts" / "cifar10-edgegpu_latency.csv", "accuracy,latency", "1,2")
    with pytest.raises(InputError, match=r"latency\.csv: expected the columns value, accuracy, got accuracy, latency"):
        report(made)
    with pytest.raises(InputError, match=r"expected -o FILE\.html in an existing folder, got .*page\.txt"):
        main([str(folder), "-o", str(tmp_path / "page.txt")])


def test_an_empty_folder_is_one_line_and_no_success(tmp_path: Path) -> None:
    command = [sys.executable, *COMMAND.split()[1:], str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    wanted = f"python -m experiments.search.integration GRID.yaml -o {tmp_path}"
    assert ended.stderr == f"error: expected rows.csv in {tmp_path}, found none; make it with: {wanted}\n"
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert list(tmp_path.iterdir()) == []
