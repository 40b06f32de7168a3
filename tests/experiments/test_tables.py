"""Rows on disk, and tables of them."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pandas as pd
import pytest

from experiments.tables import RowJournal, experiment_parser, groups, markdown, mean
from freerea_patch import InputError

ROOT = Path(__file__).parents[2] / "experiments"


def journal(folder: Path, **config: object) -> RowJournal:
    return RowJournal(folder / "out", config, ["a", "b"])


def test_rows_come_back_as_they_were_added(tmp_path: Path) -> None:
    rows = journal(tmp_path)
    assert rows.rows() == []
    rows.append({"a": 1, "b": "x, y"})
    rows.append({"b": float("-inf"), "a": 2.5})
    assert rows.rows() == [{"a": "1", "b": "x, y"}, {"a": "2.5", "b": "-inf"}]


def test_rows_outlive_the_process(tmp_path: Path) -> None:
    journal(tmp_path, seed=1, sizes=(1, 2)).append({"a": 1, "b": 2})
    assert journal(tmp_path, seed=1, sizes=(1, 2)).rows() == [{"a": "1", "b": "2"}]


def test_a_line_that_was_cut_short_goes(tmp_path: Path) -> None:
    rows = journal(tmp_path)
    rows.append({"a": 1, "b": 2})
    with rows.path.open("a") as file:
        file.write("3,")
    again = journal(tmp_path)
    assert again.rows() == [{"a": "1", "b": "2"}]
    again.append({"a": 5, "b": 6})
    assert again.rows()[-1] == {"a": "5", "b": "6"}


def test_rows_that_are_dropped_are_gone_and_others_stay_as_they_were(tmp_path: Path) -> None:
    journal = RowJournal(tmp_path, {}, ["a", "b"])
    for a, b in ((1, "x,y"), (2, "z"), (3, 'q"')):
        journal.append({"a": a, "b": b})
    before = journal.path.read_text().splitlines()
    journal.drop("a", "2")
    assert journal.path.read_text().splitlines() == [before[0], before[1], before[3]]
    journal.append({"a": 4, "b": ""})
    assert [row["a"] for row in RowJournal(tmp_path, {}, ["a", "b"]).rows()] == ["1", "3", "4"]


def test_rows_of_another_experiment_are_refused(tmp_path: Path) -> None:
    journal(tmp_path, seed=1)
    with pytest.raises(
        InputError, match=r"holds rows of an experiment with another config\.json; choose another .* -o"
    ):
        journal(tmp_path, seed=2)


def test_rows_of_other_columns_are_refused(tmp_path: Path) -> None:
    RowJournal(tmp_path, {}, ["a", "b"])
    with pytest.raises(InputError, match=r"has columns of another version \(a, b\); choose another folder with -o"):
        RowJournal(tmp_path, {}, ["a", "b", "c"])


def test_a_markdown_table() -> None:
    assert markdown(["x", "y"], [[1, "a"], [2, ""]]) == "| x | y |\n| --- | --- |\n| 1 | a |\n| 2 |  |"


def test_only_jobs_without_a_row_are_missing(tmp_path: Path) -> None:
    rows = journal(tmp_path)
    rows.append({"a": 1, "b": "x"})
    assert list(rows.missing(("b", "a"), [("x", 1), ("x", 2), ("y", 1)], "jobs")) == [("x", 2), ("y", 1)]


def test_a_frame_has_numbers_as_they_were_written(tmp_path: Path) -> None:
    rows = journal(tmp_path)
    for value in (0.1 + 0.2, 1 / 3, -1e300):
        rows.append({"a": value, "b": ""})
    assert rows.frame()["a"].tolist() == [0.1 + 0.2, 1 / 3, -1e300]
    assert rows.frame()["b"].isna().all()


def test_groups_come_in_their_order_and_others_are_left_out() -> None:
    frame = pd.DataFrame({"a": [2, 1, 1, 3], "b": list("xyzx"), "c": range(4)})
    found = [(key, rows["c"].tolist()) for key, rows in groups(frame, a=(1, 2), b=None)]
    assert found == [((1, "y"), [1]), ((1, "z"), [2]), ((2, "x"), [0])]
    assert [key for key, _ in groups(frame[:1], a=None)] == [(2,)]
    assert list(groups(frame[:0], a=None, b=(1,))) == []


def test_a_mean_leaves_out_what_is_missing() -> None:
    assert mean([1.0, float("nan"), 2.0], 2) == "1.50"
    assert mean([float("nan")]) == ""


SCRIPTS = sorted(
    path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
    for path in ROOT.glob("*/*.py")
    if "experiment_parser(" in path.read_text()
)


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_has_help_under_its_own_name(script: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        import_module(f"experiments.{script}").main(["--help"])
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: python -m experiments.{script} ")


def test_the_documents_name_every_script_and_no_other() -> None:
    text = "".join(path.read_text() for path in ROOT.rglob("README.md"))
    assert set(re.findall(r"python -m experiments\.([a-z_0-9]+\.[a-z_0-9]+)", text)) == set(SCRIPTS)


def test_shared_options_may_be_changed() -> None:
    parser = experiment_parser("theme.script", "What it does.")
    parser.shared("--seeds", default=7)
    parser.output("runs/x")
    options = parser.parse_args([])
    assert (options.seeds, options.output) == (7, Path("runs/x"))
