"""The journal: what is written is read back, torn ends are cut, replay is exact."""

from __future__ import annotations

import errno
import math
import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freerea_patch import Candidate, Evaluation, FreeREA, InputError, Objective, Proposal, Step, Times, TopologySpace
from freerea_seval.runs.folder import Journal, Recorder

names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
steps = st.builds(
    Step,
    st.builds(
        Proposal,
        names,
        st.integers(0, 10**6),
        st.lists(names, max_size=2).map(tuple),
        st.sampled_from(["random", "mutation", "crossover"]),
    ),
    st.builds(
        Evaluation, st.dictionaries(names, st.floats(allow_nan=False)), st.dictionaries(names, st.floats(0, 1e9))
    ),
    st.none() | st.builds(Times, st.floats(0, 1e9), st.floats(0, 1e9)),
)


def candidate(step: Step) -> Candidate:
    return Candidate(step.proposal, step.evaluation, step.proposal.generation, feasible=True)


def step(genotype: str, **values: float) -> Step:
    return Step(Proposal(genotype), Evaluation(values))


def write(path: Path, *rows: Step) -> None:
    journal = Journal(path)
    for row in rows:
        journal.append(candidate(row), row.times)
    journal.close()


@given(steps)
def test_a_step_reads_back_bit_for_bit(row: Step) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "j.jsonl"
        write(path, row)
        assert Journal(path).steps() == [row]
        assert path.read_bytes().count(b"\n") == 1


def test_a_line_is_as_earlier_versions_wrote_it(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    row = Step(
        Proposal("c", 3, ("a", "b"), "crossover"),
        Evaluation({"x": math.nan, "y": -math.inf, "z": 0.1}, {"x": 0.5}),
        Times(2.0, 1.0),
    )
    write(path, row)
    assert path.read_text() == (
        '{"genotype": "c", "origin": "crossover", "generation": 3, "parents": ["a", "b"],'
        ' "values": {"x": null, "y": "-inf", "z": 0.1}, "seconds": {"x": 0.5},'
        ' "clock": {"wall_s": 2.0, "loop_s": 1.0}}\n'
    )
    assert math.isnan(Journal(path).steps()[0].evaluation.values["x"])


@pytest.mark.parametrize("cut", range(1, 40, 3))
def test_a_torn_last_line_is_left_out_and_then_cut_off(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "j.jsonl"
    write(path, step("a", x=1.0), step("b", x=2.0))
    os.truncate(path, path.stat().st_size - cut)
    assert [s.proposal.genotype for s in Journal(path).steps()] == ["a"]
    write(path, step("c", x=3.0))
    assert [s.proposal.genotype for s in Journal(path).steps()] == ["a", "c"]


def test_a_damaged_line_in_the_middle_is_named(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    write(path, step("a", x=1.0), step("b", x=2.0))
    path.write_text(path.read_text().replace('"a"', "a", 1))
    with pytest.raises(InputError, match=r"j.jsonl, line 1: expected an evaluated candidate \(not valid JSON"):
        Journal(path).steps()


def test_a_line_that_is_no_step_is_named(tmp_path: Path) -> None:
    (tmp_path / "j.jsonl").write_text('{"genotype": "a"}\n')
    with pytest.raises(
        InputError, match=r"j.jsonl, line 1: expected an evaluated candidate \(generation: field required\)"
    ):
        Journal(tmp_path / "j.jsonl").steps()


def test_a_full_disk_loses_nothing_that_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "j.jsonl"
    journal = Journal(path)
    journal.append(candidate(step("a", x=1.0)))
    real_write = os.write

    def full(handle: int, data: bytes) -> int:
        if len(data) < 20:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real_write(handle, data[: len(data) // 2])

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space left"):
        journal.append(candidate(step("b", x=2.0)))
    monkeypatch.undo()
    assert [s.proposal.genotype for s in Journal(path).steps()] == ["a"]


def test_a_journal_of_another_search_is_refused(tmp_path: Path) -> None:
    search = FreeREA(TopologySpace(), [Objective("x")])
    other = search.history.add(Proposal("b"), Evaluation({"x": 1.0}))
    recorder = Recorder(Journal(tmp_path / "j.jsonl"), [step("a", x=1.0)], with_clock=False)
    with pytest.raises(InputError, match=r"line 1: this search would evaluate 'b' here, the journal has 'a'"):
        recorder.record(other, Times(0, 0))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"m": 1.0', '"m": 1' + "0" * 400),  # no double holds it
        ('"s": 2.0', '"s": NaN'),
        ('"s": 2.0', '"s": 1e999'),
        ('"s": 2.0', '"s": -1.0'),
        ('"s": 2.0', '"s": "two"'),
        ('"wall_s": 3.0', '"wall_s": Infinity'),
        ('"wall_s": 3.0', '"wall_s": "x"'),
    ],
)
def test_a_number_with_which_a_budget_would_never_end_is_refused(tmp_path: Path, old: str, new: str) -> None:
    path = tmp_path / "j.jsonl"
    write(path, Step(Proposal("x"), Evaluation({"m": 1.0}, {"s": 2.0}), Times(3.0, 1.0)))
    assert len(Journal(path).steps()) == 1
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(InputError, match="line 1: expected an evaluated candidate") as error:
        Journal(path).steps()
    assert "\n" not in str(error.value)


BOUND = (Objective("m"), Objective("size", role="constraint", upper=2.0), Objective("latency", "min", "pareto"))


@pytest.mark.parametrize(
    ("values", "missing"),
    [
        ({"m": 1.0, "size": 1.0}, "latency"),
        ({"m": 1.0, "latency": 1.0}, "size"),
        ({"size": 3.0}, None),  # the bound excludes it
        ({"m": math.nan, "size": 1.0, "latency": math.inf, "more": 1.0}, None),
    ],
)
def test_a_step_has_the_values_of_its_search(tmp_path: Path, values: dict[str, float], missing: str | None) -> None:
    path = tmp_path / "j.jsonl"
    write(path, step("a", **values))
    if missing is None:
        assert len(Journal(path).steps(BOUND)) == 1
    else:
        with pytest.raises(
            InputError, match=rf"line 1: expected an evaluated candidate \(it has no value of {missing}\)"
        ):
            Journal(path).steps(BOUND)
