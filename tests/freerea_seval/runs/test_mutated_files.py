"""Damaged run files and journals: every mutation gives an answer or one line that names the file."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from random import Random
from shutil import copytree, rmtree
from typing import Any

import pytest
from rich.console import Console

from freerea_patch import InputError
from freerea_seval.measurement.run import VisitJournal
from freerea_seval.measurement.timing import Timing
from freerea_seval.runs.execute import execute
from freerea_seval.runs.folder import RunFolder
from freerea_seval.runs.report import front_table, history_table, print_report
from freerea_seval.runs.run_page import run_page
from tests.freerea_seval.cli.test_mistakes import call
from tests.freerea_seval.runs.searches import write_search

_NESTED: Any = []
for _ in range(150):
    _NESTED = [_NESTED]
#: What takes the place of a value.
VALUES: tuple[Any, ...] = (
    *(None, True, 0, -1, 1.5, -0.0, 1e308, 5e-324, 10**400, -(10**400), 2**63, float("nan"), float("inf")),
    *("", "x", "inf", "1", "\0", "\ud800", "é\n\x1b[31m", "random", [], [1], {}, {"x": 1}, _NESTED),
)
#: What is put between two bytes.
INSERTIONS = (b"\xff", b"\xed\xa0\x80", b"\0", b"\n", b"[" * 5_000, b"9" * 500, b'"', b"}", b",", b"\xef\xbb\xbf")


def mutated(lines: list[bytes], rng: Random) -> bytes:
    """Return documents of JSON with one change: of a value, of bytes, or of the order of documents."""
    lines, content = [*lines], b"".join(lines)
    number = rng.randrange(len(lines))
    if rng.random() < 0.6:
        lines[number] = json.dumps(_with_another_value(json.loads(lines[number]), rng)).encode() + b"\n"
        return b"".join(lines)
    kind, at, end = rng.randrange(5), *sorted(rng.randrange(len(content)) for _ in range(2))
    if kind == 0:
        return content[:at] + rng.choice(INSERTIONS) + content[at:]
    if kind == 1:
        return content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :]
    if kind == 2:
        return content[:at] + content[end:]
    if kind == 3:
        return content[:at] + content[end:] + content[at:end]
    lines.insert(rng.randrange(len(lines)), lines[number])
    return b"".join(lines)


def _with_another_value(tree: Any, rng: Random) -> Any:
    """Return a tree of JSON with a random value or key of it replaced, or left out."""
    places: list[tuple[Any, Any]] = []

    def collect(node: Any) -> None:
        keys: Any = node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        for key in keys:
            places.append((node, key))
            collect(node[key])

    collect(tree)
    if not places or rng.random() < 0.02:
        return rng.choice(VALUES)
    node, key = rng.choice(places)
    kind = rng.random()
    if kind < 0.15:
        del node[key]
    elif kind < 0.25 and isinstance(node, dict):
        node[rng.choice(["", "seed", "x\0", "é"])] = node.pop(key)
    else:
        node[key] = rng.choice(VALUES)
    return tree


def read_finished(run: Path) -> None:
    folder = RunFolder.open(run)
    print_report(folder, Console(file=StringIO(), width=100))
    front_table(folder)
    history_table(folder)
    run_page(folder)


def resume(run: Path) -> None:
    execute(RunFolder.open(run))


MEASUREMENT = {"threads": 1, "networks": ["a", "b"], "machine": {"cpu": "x"}}


def read_visits(run: Path) -> None:
    VisitJournal(run / "visits.jsonl", MEASUREMENT).close()


def outcome(read: Callable[[Path], None], run: Path) -> Exception | None:
    try:
        read(run)
    except Exception as error:
        return error
    return None


#: The file that is mutated, and what reads it.
READERS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "result": ("seed-3/result.json", read_finished),
    "journal, reported": ("seed-3/journal.jsonl", read_finished),
    "record, reported": ("run.json", read_finished),
    "journal, resumed": ("seed-3/journal.jsonl", resume),
    "record, resumed": ("run.json", resume),
    "visits": ("visits.jsonl", read_visits),
}


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, with measurements beside it."""
    folder = tmp_path_factory.mktemp("mutated")
    config = write_search(
        folder, budget="evaluations: 12, wall_seconds: 1000", options="population: 6, tournament: 2, "
    )
    whole = folder / "whole"
    assert call("search", config, "-o", whole) == 0
    visits = VisitJournal(whole / "visits.jsonl", MEASUREMENT)
    visits.add("a", Timing(0, 1.5, 0.1, energy_mj=3.0))
    visits.add("b", Timing(0, None, 0.1, reason="too large"))
    visits.add_peak("a", 7.5)
    visits.close()
    return whole


@pytest.mark.parametrize("count", [60, pytest.param(850, marks=pytest.mark.long)])
@pytest.mark.parametrize("kind", READERS)
def test_a_mutation_gives_an_answer_or_one_line(tmp_path: Path, searched: Path, kind: str, count: int) -> None:
    whole = tmp_path / "whole"
    copytree(searched, whole)
    name, read = READERS[kind]
    if read is resume:
        (whole / "seed-3" / "result.json").unlink()
    content = (whole / name).read_bytes()
    documents = content.splitlines(keepends=True) if name.endswith("l") else [content]
    refused = 0
    for seed in range(count):
        run = tmp_path / f"run-{seed}"
        copytree(whole, run)
        (run / name).write_bytes(mutated(documents, Random(seed)))
        error = outcome(read, run)
        assert error is None or (isinstance(error, InputError) and "\n" not in str(error)), f"{kind}, seed {seed}"
        refused += error is not None
        rmtree(run)
    print(f"{kind}: {refused} of {count} mutations refused")
    assert 0.2 * count < refused < count
