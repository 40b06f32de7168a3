from __future__ import annotations

import bz2
import csv
import math
import os
import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from freerea_patch import SizeSpace, TopologySpace
from freerea_seval.sources.nats_bench import NatsBenchSource
from freerea_seval.sources.registry import BUILTIN, Context

pytest.importorskip("nats_bench")

ErrorOf = Callable[[Callable[[], object]], str]
CELLS = TopologySpace().genotypes()
SIZES = SizeSpace().genotypes()
METRICS = [info.name for info in BUILTIN["nats-bench"].metrics]
SAMPLES = {
    "tss": Path("nats_official_samples") / "NATS-tss-v1_0-3ffb9-simple",
    "sss": Path("nats_official_samples") / "NATS-sss-v1_0-50262-simple",
}


def write(folder: Path, name: str, value: object) -> None:
    (folder / f"{name}.pickle.pbz2").write_bytes(bz2.compress(pickle.dumps(value)))


@pytest.fixture(scope="module")
def metadata() -> bytes:
    """The published file of metadata, made anew."""
    content = {"meta_archs": list(CELLS), "total_archs": len(CELLS), "evaluated_indexes": set()}
    return bz2.compress(pickle.dumps(content), compresslevel=1)


@pytest.fixture
def folder(tmp_path: Path, metadata: bytes) -> Path:
    """A folder of the published layout that has no network in it."""
    where = tmp_path / "NATS-tss-v1_0-3ffb9-simple"
    where.mkdir()
    (where / "meta.pickle.pbz2").write_bytes(metadata)
    return where


def first(source: NatsBenchSource, metric: str) -> float:
    """Look a metric of the first cell up."""
    (row,) = source.evaluate([CELLS[0]], [metric])
    return row[metric].value


class Attack:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.marker}",)


def test_a_network_without_a_file_is_an_error(topology: Context, folder: Path, error_of: ErrorOf) -> None:
    source = NatsBenchSource(topology, folder.name)
    error = error_of(lambda: list(source.evaluate([CELLS[5]], ["params"])))
    assert f"has no file 000005.pickle.pbz2, which is {CELLS[5]!r}; download the whole folder" in error


def test_a_genotype_of_another_space_is_an_error(topology: Context, folder: Path, error_of: ErrorOf) -> None:
    source = NatsBenchSource(topology, folder.name)
    assert "'64:32' is not a network of" in error_of(lambda: list(source.evaluate(["64:32"], ["params"])))


@pytest.mark.parametrize("content", [3, {}, {"200": {}}, {"200": {"arch_index": 0, "all_results": 3}}])
def test_a_network_of_another_layout_is_an_error(
    topology: Context, folder: Path, error_of: ErrorOf, content: object
) -> None:
    write(folder, "000000", content)
    source = NatsBenchSource(topology, folder.name)
    for metric in ("params", "test_accuracy"):
        error = error_of(partial(first, source, metric))
        assert "the file of network 0 in" in error
        assert "lacks a metric" in error


def test_a_hostile_file_does_not_run_when_the_folder_is_opened(
    topology: Context, folder: Path, error_of: ErrorOf
) -> None:
    write(folder, "meta", {"meta_archs": Attack(topology.base / "it-ran")})
    assert "refused to run code" in error_of(lambda: NatsBenchSource(topology, folder.name))
    assert not (topology.base / "it-ran").exists()


def test_a_hostile_file_does_not_run_when_a_network_is_looked_up(
    topology: Context, folder: Path, error_of: ErrorOf
) -> None:
    write(folder, "000000", {"200": Attack(topology.base / "it-ran")})
    source = NatsBenchSource(topology, folder.name)
    for metric in ("params", "test_accuracy"):
        error = error_of(partial(first, source, metric))
        assert "refused to run code" in error
    assert not (topology.base / "it-ran").exists()


def test_the_packages_own_loader_is_back_between_queries(topology: Context, folder: Path, error_of: ErrorOf) -> None:
    from nats_bench import api_topology

    original = api_topology.pickle_load
    source = NatsBenchSource(topology, folder.name)
    assert api_topology.pickle_load is original
    error_of(lambda: list(source.evaluate([CELLS[0]], ["params"])))
    assert api_topology.pickle_load is original


@pytest.mark.parametrize("content", [3, {}, {"meta_archs": None}])
def test_metadata_of_another_layout_is_an_error(
    topology: Context, folder: Path, error_of: ErrorOf, content: object
) -> None:
    write(folder, "meta", content)
    assert "is not in NATS-Bench's layout" in error_of(lambda: NatsBenchSource(topology, folder.name))


def test_a_wrong_folder_is_an_error_that_names_the_right_one(
    topology: Context, size: Context, folder: Path, error_of: ErrorOf
) -> None:
    error = error_of(lambda: NatsBenchSource(topology, "elsewhere"))
    assert "elsewhere is not NATS-Bench's folder for nats-tss/cifar10: expected NATS-tss-v1_0-3ffb9-simple" in error
    error = error_of(lambda: NatsBenchSource(size, folder.name))
    assert "holds other networks than nats-sss/cifar10: expected NATS-sss-v1_0-50262-simple" in error


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        (None, "expected a path, got None"),
        (3, "expected a path, got 3"),
        ({}, "expected a path, got None"),
        ({"path": "x", "epochs": 90}, "nats-tss/cifar10 was trained for 12, 200 epochs, not 90"),
        ({"path": "x", "epochs": "200"}, "not '200'"),
        ({"path": "x", "epochs": 12.0}, "not 12.0"),
        ({"path": "x", "epochs": [12]}, "not [12]"),
        ({"path": "x", "epoch": 12}, "unknown option of source 'nats-bench' 'epoch'; did you mean 'epochs'?"),
    ],
)
def test_an_argument_that_cannot_be_used_is_an_error(
    topology: Context, error_of: ErrorOf, argument: Any, message: str
) -> None:
    assert message in error_of(lambda: NatsBenchSource(topology, argument))


def test_the_size_space_has_epochs_of_its_own(size: Context, error_of: ErrorOf) -> None:
    error = error_of(lambda: NatsBenchSource(size, {"path": "x", "epochs": True}))
    assert "nats-sss/cifar10 was trained for 1, 12, 90 epochs, not True" in error


def test_a_space_of_ones_own_is_an_error(tmp_path: Path, error_of: ErrorOf) -> None:
    class Mine:
        name = "mine"

    context = Context(Mine(), base=tmp_path)  # type: ignore[arg-type]
    assert "has nats-tss and nats-sss only, not mine" in error_of(lambda: NatsBenchSource(context, "x"))


@pytest.mark.data
@pytest.mark.parametrize("dataset", ["cifar10", "cifar100", "ImageNet16-120"])
def test_the_official_samples_agree_with_freereas_tables(data_dir: Path, dataset: str) -> None:
    source = NatsBenchSource(Context(TopologySpace(dataset), base=data_dir), str(SAMPLES["tss"]))
    with (data_dir / "freerea_cached_metrics" / "nats" / dataset / "accuracies.csv").open() as file:
        accuracies = [float(row["accuracy"]) for row in csv.DictReader(file)]
    indices = (0, 11, 284)
    for index, row in zip(indices, source.evaluate([CELLS[i] for i in indices], ["test_accuracy"]), strict=True):
        assert row["test_accuracy"].value == pytest.approx(accuracies[index], abs=1e-6)


@pytest.mark.data
def test_the_first_cell_has_its_published_values(data_dir: Path) -> None:
    source = NatsBenchSource(Context(TopologySpace(), base=data_dir), str(SAMPLES["tss"]))
    (row,) = source.evaluate([CELLS[0]], METRICS)
    assert all(measured.seconds == 0 for measured in row.values())
    assert {name: round(measured.value, 4) for name, measured in row.items()} == {
        "test_accuracy": 85.8633,
        "valid_accuracy": 81.9827,  # of the training on half of the images
        "train_accuracy": 90.6687,
        "test_loss": 0.4297,
        "valid_loss": 0.5659,
        "train_loss": 0.2713,
        "params": 0.1293,
        "flops": 15.6474,
        "latency": 0.0139,
        "train_seconds": 2888.4372,
    }


@pytest.mark.data
def test_the_number_of_epochs_is_chosen(data_dir: Path) -> None:
    def accuracy(space: TopologySpace | SizeSpace, folder: str, genotype: str, **options: int) -> float:
        source = NatsBenchSource(Context(space, base=data_dir), {"path": str(SAMPLES[folder]), **options})
        (row,) = source.evaluate([genotype], ["test_accuracy"])
        return row["test_accuracy"].value

    assert accuracy(TopologySpace(), "tss", CELLS[0], epochs=12) == pytest.approx(69.55)
    assert accuracy(SizeSpace(), "sss", SIZES[284]) == pytest.approx(89.51)
    assert accuracy(SizeSpace(), "sss", SIZES[284], epochs=12) == pytest.approx(84.1967, abs=1e-4)
    assert accuracy(SizeSpace(), "sss", SIZES[284], epochs=1) == pytest.approx(41.71)


@pytest.mark.data
def test_looking_up_a_network_does_not_fill_the_memory(data_dir: Path) -> None:
    source = NatsBenchSource(Context(TopologySpace(), base=data_dir), str(SAMPLES["tss"]))
    for _ in range(2):
        for row in source.evaluate([CELLS[i] for i in (0, 11, 284)], METRICS):
            assert list(row) == METRICS
            assert not source._api.arch2infos_dict


@pytest.mark.data
def test_a_latency_that_was_never_measured_is_unsupported(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nats_bench.api_utils import ResultsCount

    source = NatsBenchSource(Context(TopologySpace(), base=data_dir), str(SAMPLES["tss"]))
    assert first(source, "latency") > 0
    monkeypatch.setattr(ResultsCount, "get_latency", lambda self: -1.0)  # the package's way to say so
    assert math.isnan(first(source, "latency"))
