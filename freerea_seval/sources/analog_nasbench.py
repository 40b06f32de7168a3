"""The source ``analog-nasbench``: accuracy on analog hardware, from the data of the package analog-nasbench."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from freerea_patch import InputError, Measured, TopologySpace
from freerea_patch.spaces import format_cell
from freerea_seval.sources.registry import BUILTIN, Context, MetricInfo, builtin_metric
from freerea_seval.unpickle import PlainValue, load_pickle

_WHAT = "source 'analog-nasbench'"
_DATASET = "cifar10"
#: The package's numbers for the operations.
_OPERATIONS = ("skip_connect", "none", "nor_conv_3x3", "nor_conv_1x1", "avg_pool_3x3")
#: Position of each edge of a genotype in the package's keys, which list edges by source: 01, 02, 03, 12, 13, 23.
_EDGE_POSITIONS = (0, 1, 3, 2, 4, 5)
_VALUE_CLASSES = {
    ("analognasbench.data", "Architecture"): PlainValue,
    ("analognasbench.data", "DriftMeasurement"): PlainValue,
}


class AnalogNasbenchSource:
    """Accuracy of every cell on CIFAR-10, digital and analog. Looking it up charges no seconds.

    The package is not imported: it would import pandas and pkg_resources, and unpickle without a guard.

    Args:
        context: the search that it serves.
        argument: none.

    Raises:
        InputError: the space or data set is another one, the package is not installed, or its file is
            not of the layout that version 0.1 has.
    """

    def __init__(self, context: Context, argument: None) -> None:
        space = context.space
        if not isinstance(space, TopologySpace) or space.dataset != _DATASET:
            raise InputError(f"{_WHAT} has nats-tss on {_DATASET} only, not {space.name}")
        path = _data_file()
        content = load_pickle(path, _VALUE_CLASSES, _WHAT)
        try:
            self._rows = dict(_rows(content))
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise _layout_error(path, f"{type(error).__name__}: {error}") from None
        if self._rows.keys() != set(space.genotypes()):
            raise _layout_error(path, f"{len(self._rows)} of {len(space.genotypes())} cells")

    def describe(self, metric: str) -> MetricInfo:
        """Return a metric's direction and unit."""
        return builtin_metric("analog-nasbench", metric)

    def evaluate(self, genotypes: Sequence[str], metrics: Sequence[str]) -> list[dict[str, Measured]]:
        """Return the accuracies of each cell.

        Raises:
            InputError: a genotype is not a cell of the space.
        """
        for genotype in genotypes:
            if genotype not in self._rows:
                raise InputError(f"{_WHAT}: {genotype!r} is not a cell of nats-tss")
        return [{m: Measured(self._rows[genotype][m]) for m in metrics} for genotype in genotypes]


def _data_file() -> Path:
    """Return the path of the package's data file, without importing the package."""
    spec = find_spec("analognasbench")
    if spec is None or not spec.submodule_search_locations:
        raise InputError(f"{_WHAT} needs the package analog-nasbench: pip install 'freerea-seval[benchmarks]'")
    return Path(spec.submodule_search_locations[0]) / "data.anb"


def _rows(content: Any) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield genotype and metrics of every cell."""
    metrics = [info.name for info in BUILTIN["analog-nasbench"].metrics]
    for key, cell in content.items():
        genotype = format_cell([_OPERATIONS[key[position]] for position in _EDGE_POSITIONS])
        yield genotype, {metric: _number(getattr(cell, metric)) for metric in metrics}


def _number(value: Any) -> float:
    """Return a value; of a drift measurement, which has an uncertainty beside it, the value."""
    return float(getattr(value, "value", value))


def _layout_error(path: Path, problem: str) -> InputError:
    return InputError(
        f"{_WHAT}: {path} is not in the known layout ({problem}); install a known version:"
        " pip install 'analog-nasbench>=0.1.3,<0.2'"
    )
