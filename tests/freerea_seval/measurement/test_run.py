"""The journal of visits, and the files at the end."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from freerea_patch import InputError, TopologySpace
from freerea_seval.measurement import Networks, measure_networks, space_networks
from freerea_seval.measurement.run import VisitJournal, journal_path, json_path, results_table, write_results
from freerea_seval.measurement.timing import Timing

CONFIG = {"threads": 1, "networks": ["a", "b"], "shape": (1, 2)}
VISITS = [
    ("a", Timing(0, 1.5, 0.25, 0.125, 3.0)),
    ("b", Timing(0, None, 0.5, reason="too large")),
    ("a", Timing(1, 2.5, 0.25)),
]


def test_two_processes_do_not_write_one_journal(tmp_path: Path) -> None:
    first = VisitJournal(tmp_path / "j.jsonl", CONFIG)
    with pytest.raises(InputError, match="is being written by another process"):
        VisitJournal(tmp_path / "j.jsonl", CONFIG)
    first.close()
    VisitJournal(tmp_path / "j.jsonl", CONFIG).close()


def test_a_refused_journal_is_left_to_others(tmp_path: Path) -> None:
    VisitJournal(tmp_path / "j.jsonl", CONFIG).close()
    with pytest.raises(InputError, match="is of another measurement"):
        VisitJournal(tmp_path / "j.jsonl", {"threads": 2})
    VisitJournal(tmp_path / "j.jsonl", CONFIG).close()


def test_a_folder_has_no_journal(tmp_path: Path) -> None:
    for folder in (tmp_path, Path(".")):
        with pytest.raises(InputError, match="is a folder; give a file with -o"):
            journal_path(folder)


def test_what_was_added_comes_back_and_a_torn_line_goes(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    journal = VisitJournal(path, CONFIG)
    for name, timing in VISITS:
        journal.add(name, timing)
    journal.add_peak("a", 7.5)
    journal.close()
    whole = path.read_bytes()
    for cut in range(1, 30, 7):
        path.write_bytes(whole + whole[:cut])
        again = VisitJournal(path, CONFIG)
        assert again.timings == {"a": [VISITS[0][1], VISITS[2][1]], "b": [VISITS[1][1]]}
        assert again.peaks == {"a": 7.5}
        again.add("b", VISITS[0][1])
        again.close()
        assert path.read_bytes().startswith(whole)
        assert json.loads(path.read_bytes()[len(whole) :])["network"] == "b"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"threads": 2}, r"is of another measurement \(threads 1, now 2\); choose another -o"),
        ({"networks": ["a"]}, r"\(of other networks\)"),
        ({"device": "cuda"}, r"\(device None, now 'cuda'\)"),
    ],
)
def test_a_journal_of_another_measurement_is_refused(tmp_path: Path, change: dict[str, object], expected: str) -> None:
    VisitJournal(tmp_path / "j", CONFIG).close()
    with pytest.raises(InputError, match=expected):
        VisitJournal(tmp_path / "j", {**CONFIG, **change})


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("nonsense", r"not valid JSON \(.*"),
        ("[1]", "visit: input should be an object"),
        ('{"turn": 1}', "visit.network: field required"),
        ('{"network": "a", "speed": 3}', "visit.turn: field required"),
        ('{"network": "a", "turn": 0, "seconds": "2"}', "visit.seconds: input should be a valid number"),
        ('{"network": "a", "peak_mb": 1' + "0" * 400 + "}", "peak.peak_mb: input should be a finite number"),
        ('{"config": {}}', "a config, which is the first line"),
    ],
)
def test_an_invalid_line_is_named(tmp_path: Path, line: str, expected: str) -> None:
    path = tmp_path / "j"
    VisitJournal(path, CONFIG).close()
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(InputError, match=rf"j, line 2: expected a visit of a measurement \({expected}\); restore"):
        VisitJournal(path, CONFIG)


def networks(*names: str) -> Networks:
    return replace(space_networks(TopologySpace(), []), column="network", names=list(names))


def test_the_files_have_empty_cells_and_a_reason_for_what_cannot_run(tmp_path: Path) -> None:
    output = tmp_path / "x.csv"
    visits = [*VISITS, ("d", Timing(0, 4.0, 0.1)), ("e", Timing(0, None, 0.1, failed="no such layer"))]
    table = results_table(networks("a", "b", "c", "d", "e"), visits, {"a": 7.5})
    assert table.attrs["units"] == {
        "latency_ms": "ms",
        "latency_iqr_ms": "ms",
        "peak_mb": "MB",
        "energy_mj": "mJ",
    }
    write_results(output, table, {"threads": 1})
    assert output.read_text().splitlines() == [
        "network,latency_ms,latency_iqr_ms,rounds,peak_mb,energy_mj",
        "a,1.5,0.5,2,7.5,3",
        "b,,,,,",
        "d,4,0,1,,",
    ]
    assert json.loads(json_path(output).read_text()) == {
        "threads": 1,
        "unsupported": {"b": "too large"},
        "failed": {"e": "no such layer"},
    }
    write_results(output, results_table(networks("d"), visits[-2:-1]), {})
    assert output.read_text() == "network,latency_ms,latency_iqr_ms,rounds\nd,4,0,1\n"


def test_networks_are_measured_without_files_and_resumed_with_them(tmp_path: Path) -> None:
    cells = space_networks(TopologySpace(), TopologySpace().genotypes()[:2])
    table = measure_networks(cells, rounds=2)
    assert table["genotype"].tolist() == cells.names
    assert (table["latency_ms"] > 0).all()
    assert table["rounds"].tolist() == [2, 2]
    assert table.attrs["unsupported"] == {}
    first = measure_networks(cells, tmp_path / "x.csv", rounds=1)
    journal = (tmp_path / "x.csv.journal.jsonl").read_text()
    pd.testing.assert_frame_equal(measure_networks(cells, tmp_path / "x.csv", rounds=1), first)
    assert (tmp_path / "x.csv.journal.jsonl").read_text() == journal
