"""The source ``nats-bench``: trained accuracy and costs, read through the package nats_bench (Dong 2021)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from freerea_patch import UNSUPPORTED, InputError, Measured, SizeSpace, TopologySpace, unknown_name
from freerea_seval.sources.registry import Context, MetricInfo, builtin_metric
from freerea_seval.unpickle import NatsBenchPatch

_WHAT = "source 'nats-bench'"
#: Our metrics of a trained network, and what the package calls them.
_RESULTS = {
    "test_accuracy": "test-accuracy",
    "valid_accuracy": "valid-accuracy",
    "train_accuracy": "train-accuracy",
    "test_loss": "test-loss",
    "valid_loss": "valid-loss",
    "train_loss": "train-loss",
    "train_seconds": "train-all-time",
}


class _Benchmark(NamedTuple):
    """The package's name of a benchmark, its folder's as published, and how many epochs it was trained for."""

    kind: str
    folder: str
    epochs: tuple[int, ...]


_TOPOLOGY = _Benchmark("tss", "NATS-tss-v1_0-3ffb9-simple", (12, 200))
_SIZE = _Benchmark("sss", "NATS-sss-v1_0-50262-simple", (1, 12, 90))


class NatsBenchSource:
    """NATS-Bench in its "simple" form: a folder with a file of metadata and one file a network.

    Values are means over the training seeds. Looking them up charges no seconds: what training cost is the
    metric ``train_seconds``.

    Args:
        context: the search that it serves; its space says which of the two benchmarks, and the data set.
        argument: the folder, or ``{path: FOLDER, epochs: N}``; a network was trained for 12 and 200 epochs
            in the topology space, for 1, 12 and 90 in the size space, of which the most are the default.

    Raises:
        InputError: the package is not installed, or the space is another one.
        InputError: the folder is not of that form, or belongs to the other space.
        InputError: an unknown option or number of epochs.
    """

    def __init__(self, context: Context, argument: Any) -> None:
        space = context.space
        if not isinstance(space, (TopologySpace, SizeSpace)):
            raise InputError(f"{_WHAT} has nats-tss and nats-sss only, not {space.name}")
        benchmark = _TOPOLOGY if isinstance(space, TopologySpace) else _SIZE
        options = argument if isinstance(argument, dict) else {"path": argument}
        for option in options:
            if option not in ("path", "epochs"):
                raise unknown_name("option of source 'nats-bench'", option, ("path", "epochs"))
        epochs = options.get("epochs", benchmark.epochs[-1])
        if type(epochs) is not int or epochs not in benchmark.epochs:
            valid = ", ".join(map(str, benchmark.epochs))
            raise InputError(f"{_WHAT}: {space.name} was trained for {valid} epochs, not {epochs!r}")
        self._folder = context.path(options.get("path"), _WHAT)
        self._epochs = f"{epochs:02d}"  # the package's key: 01, 12, 90, 200
        self._dataset = space.dataset
        self._api = _open(self._folder, benchmark, space)

    def describe(self, metric: str) -> MetricInfo:
        """Return a metric's direction and unit."""
        return builtin_metric("nats-bench", metric)

    def evaluate(self, genotypes: Sequence[str], metrics: Sequence[str]) -> Iterator[Mapping[str, Measured]]:
        """Yield the metrics of each network, whose file is read for it.

        Raises:
            InputError: a genotype is not of the space; its file is missing or not of the known layout.
        """
        for genotype in genotypes:
            index = self._index(genotype)
            with NatsBenchPatch():  # in its fast mode the package reads a file a query
                try:
                    values = self._look_up(index, metrics)
                except InputError:
                    raise
                except Exception as error:  # the package checks nothing: a wrong file fails anywhere in it
                    raise InputError(
                        f"{_WHAT}: the file of network {index} in {self._folder} lacks a metric"
                        f" ({type(error).__name__}: {error}); download the folder again"
                    ) from None
                finally:
                    # The package keeps every network that it read, up to 2 MB each; a search asks once.
                    self._api.arch2infos_dict.pop(index, None)
            yield {m: Measured(UNSUPPORTED if values[m] is None else float(values[m])) for m in metrics}

    def _index(self, genotype: str) -> int:
        index: int = self._api.query_index_by_arch(genotype)
        if index < 0:
            raise InputError(f"{_WHAT}: {genotype!r} is not a network of {self._folder}")
        name = f"{index:06d}.pickle.pbz2"
        if not (self._folder / name).is_file():
            raise InputError(
                f"{_WHAT}: {self._folder} has no file {name}, which is {genotype!r}; download the whole folder"
            )
        return index

    def _look_up(self, index: int, metrics: Sequence[str]) -> dict[str, Any]:
        """Return the metrics of a network; None where NATS-Bench has none."""
        values: dict[str, Any] = {}
        costs: Mapping[str, Any] = {}
        results: dict[str, Mapping[str, Any]] = {}
        for metric in metrics:
            if metric in _RESULTS:
                # CIFAR-10 has a validation set only where it is split off the training set (Dong 2020, section 3.2).
                split_off = metric.startswith("valid") and self._dataset == "cifar10"
                dataset = "cifar10-valid" if split_off else self._dataset
                if dataset not in results:
                    results[dataset] = self._api.get_more_info(index, dataset, hp=self._epochs, is_random=False)
                values[metric] = results[dataset][_RESULTS[metric]]
            else:
                costs = costs or self._api.get_cost_info(index, self._dataset, hp=self._epochs)
                values[metric] = costs[metric]
        return values


def _open(folder: Path, benchmark: _Benchmark, space: TopologySpace | SizeSpace) -> Any:
    """Return the package's object for a folder."""
    expected = f"expected {benchmark.folder}, with meta.pickle.pbz2 and one file a network"
    if not (folder / "meta.pickle.pbz2").is_file():
        raise InputError(f"{_WHAT}: {folder} is not NATS-Bench's folder for {space.name}: {expected}")
    with NatsBenchPatch():
        from nats_bench import create

        try:
            api = create(str(folder), benchmark.kind, fast_mode=True, verbose=False)
        except InputError:
            raise
        except Exception as error:  # the package checks nothing
            raise InputError(
                f"{_WHAT}: meta.pickle.pbz2 of {folder} is not in NATS-Bench's layout"
                f" ({type(error).__name__}: {error}): {expected}"
            ) from None
    if list(api.meta_archs) != list(space.genotypes()):
        raise InputError(f"{_WHAT}: {folder} holds other networks than {space.name}: {expected}")
    return api
