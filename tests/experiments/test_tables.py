"""Rows on disk, and tables of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.tables import RowJournal, markdown
from freerea_patch import InputError


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


def test_rows_that_are_forgotten_are_gone_and_others_stay_as_they_were(tmp_path: Path) -> None:
    journal = RowJournal(tmp_path, {}, ["a", "b"])
    for a, b in ((1, "x,y"), (2, "z"), (3, 'q"')):
        journal.append({"a": a, "b": b})
    before = journal.path.read_text().splitlines()
    journal.forget(lambda row: row["a"] == "2")
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
