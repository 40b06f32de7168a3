from __future__ import annotations

import csv
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from freerea_patch import Measured, TopologySpace
from freerea_seval.sources.freerea_cache import FreereaCacheSource
from freerea_seval.sources.registry import BUILTIN, Context

ErrorOf = Callable[[Callable[[], object]], str]
CELLS = TopologySpace().genotypes()
NAMES = [info.name for info in BUILTIN["freerea-cache"].metrics]


def write(folder: Path, file: str, header: str, row: Callable[[int], str], count: int = len(CELLS)) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = [header, *(f"{i},{row(i)}" for i in range(count))]
    (folder / file).write_text("\n".join(lines) + "\n")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A made-up cache: naswot of cell i is i, infinite or missing for some; it took i / 10 seconds."""
    where = tmp_path / "cached_metrics" / "nats" / "cifar10"

    def naswot(i: int) -> str:
        return f"{ {3: '-inf', 4: 'inf', 5: 'nan', 6: ''}.get(i, i + 100) },{i / 10},{i / 20}"

    write(where, "naswot.csv", "index,naswot,time=[s],time_pure=[s]", naswot)
    write(where, "params.csv", "index,params", lambda i: f"{0.1 + i / 1e5}")
    write(where, "accuracies.csv", "index,accuracy", lambda i: f"{i / 1000}")
    return where


def values(source: FreereaCacheSource, metric: str) -> list[Measured]:
    return [row[metric] for row in source.evaluate(CELLS, [metric])]


@pytest.mark.parametrize("argument", ["cached_metrics", "cached_metrics/nats", "cached_metrics/nats/cifar10"])
def test_the_folder_may_be_named_at_three_levels(topology: Context, folder: Path, argument: str) -> None:
    assert values(FreereaCacheSource(topology, argument), "accuracy")[7] == Measured(0.007)


def test_values_that_are_not_finite_become_the_smallest_finite_one(topology: Context, folder: Path) -> None:
    found = values(FreereaCacheSource(topology, "cached_metrics"), "naswot")
    assert [m.value for m in found[:9]] == [100, 101, 102, 100, 100, 100, 100, 107, 108]


def test_the_seconds_are_those_with_initialisation(topology: Context, folder: Path) -> None:
    source = FreereaCacheSource(topology, "cached_metrics")
    assert [m.seconds for m in values(source, "naswot")[:4]] == [0, 0.1, 0.2, 0.3]
    assert {m.seconds for metric in ("params", "accuracy", "skip") for m in values(source, metric)} == {0}


def test_skip_is_the_spaces_own(topology: Context, folder: Path) -> None:
    (row,) = FreereaCacheSource(topology, "cached_metrics").evaluate([CELLS[0]], ["skip", "naswot"])
    assert row == {"skip": Measured(1 / 3), "naswot": Measured(100)}


def test_parameters_that_are_counted_singly_become_millions(topology: Context, folder: Path) -> None:
    assert values(FreereaCacheSource(topology, "cached_metrics"), "params")[0].value == 0.1
    write(folder, "params.csv", "index,params", lambda i: str(80_456 + i))
    found = values(FreereaCacheSource(topology, "cached_metrics"), "params")
    assert found[:2] == [Measured(0.080456), Measured(0.080457)]


def test_a_metric_without_a_file_lists_those_with_one(topology: Context, folder: Path, error_of: ErrorOf) -> None:
    source = FreereaCacheSource(topology, "cached_metrics")
    error = error_of(lambda: source.describe("synflow"))
    assert "cifar10: 'synflow'" in error
    assert error.endswith("Valid: accuracy, naswot, params, skip")
    assert "Valid: accuracy, logsynflow" in error_of(lambda: source.describe("fame"))


def test_a_folder_of_another_data_set_is_an_error(tmp_path: Path, folder: Path, error_of: ErrorOf) -> None:
    context = Context(TopologySpace("cifar100"), base=tmp_path)
    for argument in ("cached_metrics", "cached_metrics/nats", "cached_metrics/nats/cifar10", "elsewhere"):
        error = error_of(partial(FreereaCacheSource, context, argument))
        assert "has no folder nats/cifar100; expected the folder cached_metrics of FreeREA's code" in error


BROKEN = {
    "other columns": ("index,fame", lambda i: "1", 15625, "expected the columns index,naswot, got index,fame"),
    "short": ("index,naswot", lambda i: "1", 15624, "expected one row for each index from 0 to 15624"),
    "long": ("index,naswot", lambda i: "1", 15626, "expected one row for each index from 0 to 15624"),
    "word": ("index,naswot", lambda i: "good", 15625, "could not convert string to float: 'good'"),
    "short row": ("index,naswot,time=[s]", lambda i: "1", 15625, "time=[s] is not a number of seconds in every row"),
    "no time": ("index,naswot,time=[s]", lambda i: "1,nan", 15625, "time=[s] is not a number of seconds in every row"),
    "time below 0": ("index,naswot,time=[s]", lambda i: "1,-1", 15625, "time=[s] is not a number of seconds"),
    "nothing finite": ("index,naswot,time=[s]", lambda i: ",1", 15625, "has no finite value of naswot"),
    "empty": ("", lambda i: "", 0, "No columns to parse from file"),
}


@pytest.mark.parametrize("name", list(BROKEN))
def test_a_broken_file_is_an_error_when_its_metric_is_asked_for(
    topology: Context, folder: Path, error_of: ErrorOf, name: str
) -> None:
    header, row, count, message = BROKEN[name]
    write(folder, "naswot.csv", header, row, count)
    source = FreereaCacheSource(topology, "cached_metrics")
    error = error_of(lambda: source.describe("naswot"))
    assert message in error
    assert "naswot.csv" in error
    assert source.describe("accuracy").unit == "%"


def test_a_file_of_no_lines_or_no_text_is_an_error(topology: Context, folder: Path, error_of: ErrorOf) -> None:
    source = FreereaCacheSource(topology, "cached_metrics")
    for data in (b"", b"\xff\xfe\x00"):
        (folder / "naswot.csv").write_bytes(data)
        assert "naswot.csv cannot be used" in error_of(lambda: source.describe("naswot"))


def test_another_space_and_a_foreign_cell_are_errors(
    topology: Context, size: Context, folder: Path, error_of: ErrorOf
) -> None:
    assert "nats-tss only, not of nats-sss/cifar10" in error_of(lambda: FreereaCacheSource(size, "cached_metrics"))
    source = FreereaCacheSource(topology, "cached_metrics")
    assert "'64:32' is not a cell" in error_of(lambda: list(source.evaluate(["64:32"], ["skip"])))


@pytest.mark.parametrize("argument", [None, 3, "", {"path": "x"}])
def test_an_argument_that_is_no_path_is_an_error(topology: Context, error_of: ErrorOf, argument: Any) -> None:
    assert "expected a path" in error_of(lambda: FreereaCacheSource(topology, argument))


def naive(path: Path) -> list[Measured]:
    """Read a file as FreeREA's loader does, row by row."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    metric = next(name for name in rows[0] if name != "index")
    numbers = [float(row[metric]) for row in rows]
    smallest = min(n for n in numbers if not math.isinf(n))
    return [
        Measured(smallest if math.isinf(n) else n, float(row.get("time=[s]", 0)))
        for n, row in zip(numbers, rows, strict=True)
    ]


@pytest.mark.data
@pytest.mark.parametrize("dataset", ["cifar10", "cifar100", "ImageNet16-120"])
def test_the_published_files_are_read_as_by_a_naive_loop(data_dir: Path, error_of: ErrorOf, dataset: str) -> None:
    context = Context(TopologySpace(dataset), base=data_dir)
    source = FreereaCacheSource(context, "freerea_cached_metrics")
    for metric in NAMES:
        if metric == "nregions" and dataset == "ImageNet16-120":
            assert "has no finite value of nregions" in error_of(lambda: source.describe("nregions"))
        elif metric not in ("skip", "params"):
            file = "accuracies.csv" if metric == "accuracy" else f"{metric}.csv"
            assert values(source, metric) == naive(data_dir / "freerea_cached_metrics" / "nats" / dataset / file)
    params = [m.value for m in values(source, "params")]
    assert 0.07 < min(params) < max(params) < 1.6


@pytest.mark.data
def test_parameters_differ_between_data_sets_by_the_classifier_alone(data_dir: Path) -> None:
    counts = []
    for dataset in ("cifar10", "ImageNet16-120"):
        source = FreereaCacheSource(Context(TopologySpace(dataset), base=data_dir), "freerea_cached_metrics")
        counts.append([m.value for m in values(source, "params")])
    # 110 more classes on 64 features and a bias
    assert all(big - small == pytest.approx(110 * 65 / 1e6) for small, big in zip(*counts, strict=True))
