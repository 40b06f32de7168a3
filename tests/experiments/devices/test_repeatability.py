"""The experiment on measuring twice, at a tiny size."""

from __future__ import annotations

import csv
from pathlib import Path

import pandas as pd
import pytest

from experiments.devices.repeatability import agreements, main
from freerea_patch import InputError


def test_it_goes_on_where_it_was_stopped_and_prints_a_line_a_way(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--cells", "3", "--rounds", "2", "-o", str(tmp_path)]
    main(arguments)
    whole = capsys.readouterr().out
    path = tmp_path / "rows.csv"
    text = path.read_text()
    assert len(list(csv.DictReader(text.splitlines()))) == 2 * 3 * (2 + 10)
    kept = text.splitlines(keepends=True)[:50]
    path.write_text("".join(kept) + "1,rou")
    main(arguments)
    again = path.read_text()
    assert again.startswith("".join(kept))
    visits = [
        tuple(row[name] for name in ("repeat", "way", "index", "turn")) for row in csv.DictReader(again.splitlines())
    ]
    assert len(visits) == len(set(visits)) == 72
    assert [line.split(" | ")[0] for line in whole.splitlines()[2:]] == [
        *("| rounds", "| rounds, median pass", "| naive loop"),
    ]


def test_agreement_is_that_of_each_ways_own_statistic() -> None:
    def rows(way: str, repeat: int, values: dict[int, list[float]]) -> list[dict[str, object]]:
        return [
            {
                "way": way,
                "repeat": repeat,
                "index": i,
                "turn": t,
                "latency_ms": v,
                "median_ms": 4.0 - v if way == "rounds" and repeat else v,
                "seconds": 1.0,
            }
            for i, times in values.items()
            for t, v in enumerate(times)
        ]

    first = {0: [1.0, 1.0, 90.0], 1: [2.0, 2.0, 2.0], 2: [3.0, 3.0, 3.0]}
    second = {0: [1.0, 1.0, 1.0], 1: [2.0, 2.0, 2.0], 2: [3.0, 3.0, 3.0]}
    visits = [row for way in ("rounds", "naive loop") for r, v in enumerate((first, second)) for row in rows(way, r, v)]
    printed = agreements(pd.DataFrame(visits))
    assert "| rounds | 1 and 2 | 3 | 1.000 | 0.0 % | 9 and 9 |" in printed
    assert "| rounds, median pass | 1 and 2 | 3 | -1.000 |" in printed
    assert "| naive loop | 1 and 2 | 3 | -0.333 |" in printed


def test_there_must_be_something_to_compare(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--cells and --repeat must be 2 or more"):
        main(["--repeat", "1", "-o", str(tmp_path)])
