"""CSV files that are written and read back; what is wrong with one is in ``sources/test_table.py``."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from freerea_seval.tables import read_csv, to_csv

FORMULAS = ["=1+1", "+cmd|x", "-a", "@SUM(A1)", "'=1", "''+a"]
PLAIN = ["-1.5", "+2e3", "-inf", "'quoted'", "a=1", ""]


@pytest.mark.parametrize("text", FORMULAS)
def test_a_spreadsheet_finds_no_formula_and_the_text_comes_back(tmp_path: Path, text: str) -> None:
    written = to_csv(pd.DataFrame({"genotype": [text, "b"], text: ["1", "2"]}))
    assert written == f"genotype,'{text}\n'{text},1\nb,2\n"
    (tmp_path / "t.csv").write_text(written)
    table = read_csv(tmp_path / "t.csv")
    assert table.columns.tolist() == ["genotype", text]
    assert table["genotype"].tolist() == [text, "b"]


@pytest.mark.parametrize("text", PLAIN)
def test_any_other_text_is_written_as_it_is(tmp_path: Path, text: str) -> None:
    written = to_csv(pd.DataFrame({"a": ["b"], "c": [text]}))
    assert written.splitlines()[1] == f"b,{text}"
    (tmp_path / "t.csv").write_text(written)
    assert read_csv(tmp_path / "t.csv")["c"].tolist() == [text]


def test_numbers_have_so_many_digits_and_nan_is_an_empty_cell() -> None:
    assert to_csv(pd.DataFrame({"a": [-1 / 3, float("nan")], "b": [1, 2]}), 3) == "a,b\n-0.333,1\n,2\n"


def test_the_line_of_a_row_is_that_where_it_begins(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('a,b\n\n1,"x\ny"\n2,3\n')
    assert read_csv(tmp_path / "t.csv").index.tolist() == [3, 5]
