"""The journal: what is written is read back, torn ends are cut, replay is exact."""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freerea_patch import (
    Candidate,
    Evaluation,
    FreeREA,
    InputError,
    Objective,
    Proposal,
    Times,
    TopologySpace,
)
from freerea_seval.runs.journal import Entry, Journal, Recorder, Replayed, ReplayedStopwatch

names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
numbers = st.floats(allow_nan=False)
entries = st.builds(
    Entry,
    names,
    st.sampled_from(["random", "mutation", "crossover"]),
    st.integers(0, 10**6),
    st.lists(names, max_size=2).map(tuple),
    st.builds(Evaluation, st.dictionaries(names, numbers), st.dictionaries(names, st.floats(0, 1e9))),
    st.none() | st.builds(Times, st.floats(0, 1e9), st.floats(0, 1e9)),
)


def entry(genotype: str, **values: float) -> Entry:
    return Entry(genotype, "random", 0, (), Evaluation(values))


def write(path: Path, *rows: Entry) -> None:
    journal = Journal(path)
    for row in rows:
        journal.append(row)
    journal.close()


@given(entries)
def test_an_entry_reads_back_bit_for_bit(row: Entry) -> None:
    assert Entry.parse(row.line()) == row
    assert row.line().count("\n") == 1


def test_an_unsupported_value_is_null_and_reads_back_as_nan() -> None:
    line = entry("a", x=math.nan).line()
    assert '"x": null' in line
    assert math.isnan(Entry.parse(line).evaluation.values["x"])


@pytest.mark.parametrize("cut", range(1, 40, 3))
def test_a_torn_last_line_is_left_out_and_then_cut_off(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "j.jsonl"
    write(path, entry("a", x=1.0), entry("b", x=2.0))
    os.truncate(path, path.stat().st_size - cut)
    assert [e.genotype for e in Journal(path).entries()] == ["a"]
    write(path, entry("c", x=3.0))
    assert [e.genotype for e in Journal(path).entries()] == ["a", "c"]


def test_a_damaged_line_in_the_middle_is_named(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    write(path, entry("a", x=1.0), entry("b", x=2.0))
    path.write_text(path.read_text().replace('"a"', "a", 1))
    with pytest.raises(InputError, match=r"j.jsonl, line 1: not an entry of a journal"):
        Journal(path).entries()


def test_a_full_disk_loses_nothing_that_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "j.jsonl"
    journal = Journal(path)
    journal.append(entry("a", x=1.0))
    real_write = os.write

    def full(handle: int, data: bytes) -> int:
        if len(data) < 20:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real_write(handle, data[: len(data) // 2])

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space left"):
        journal.append(entry("b", x=2.0))
    monkeypatch.undo()
    assert [e.genotype for e in Journal(path).entries()] == ["a"]


class Counting:
    """Objectives that count what they are asked."""

    terms = (Objective("x"),)

    def __init__(self) -> None:
        self.asked: list[str] = []

    def evaluate(self, genotypes: Sequence[str]) -> Iterator[Evaluation]:
        for genotype in genotypes:
            self.asked.append(genotype)
            yield Evaluation({"x": float(len(genotype))})


def test_replayed_objectives_ask_only_for_what_is_not_recorded() -> None:
    counting = Counting()
    replayed = Replayed(counting, [entry("a", x=7.0), entry("b", x=8.0)])
    values = [e.values["x"] for e in replayed.evaluate(["a", "b", "ccc"])]
    assert values == [7.0, 8.0, 3.0]
    assert counting.asked == ["ccc"]


def test_a_journal_of_another_search_is_refused(tmp_path: Path) -> None:
    search = FreeREA(TopologySpace(), Counting.terms)
    candidate: Candidate = search.history.add(Proposal("b"), Evaluation({"x": 1.0}))
    recorder = Recorder(Journal(tmp_path / "j.jsonl"), [entry("a", x=1.0)], with_clock=False)
    with pytest.raises(InputError, match=r"line 1: this search would evaluate 'b' here, the journal has 'a'"):
        recorder.record(candidate, Times(0, 0))


def test_the_clocks_replay_and_then_go_on() -> None:
    recorded = [Entry("a", "random", 0, (), Evaluation({}), Times(100.0 * i, 10.0 * i)) for i in (1, 2)]
    stopwatch = ReplayedStopwatch(recorded)
    for expected in (100.0, 200.0, 200.0):
        assert stopwatch.read().wall_s == pytest.approx(expected, abs=1.0)
    stopwatch.evaluated(5.0)
    assert stopwatch.read().loop_s == pytest.approx(15.0, abs=1.0)
