"""The source ``hw-gpt-bench``: perplexity and memory of language models, predicted by HW-GPT-Bench (Sukthanker 2024).

The benchmark publishes networks that it trained on its measurements. They are evaluated here from their weights alone:
nothing of the repository is imported, and none of its pickled statistics are read. Its networks for parameters and
FLOPs are left out, as both are counted exactly; those for latency and energy are not public in this form.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from freerea_patch import GPTLargeSpace, GPTMediumSpace, GPTSmallSpace, GPTSpace, InputError, Measured
from freerea_seval.sources.registry import Context, MetricInfo, builtin_metric
from freerea_seval.unpickle import load_weights

Values = npt.NDArray[np.float64]

_WHAT = "source 'hw-gpt-bench'"
_SPACES = (GPTSmallSpace, GPTMediumSpace, GPTLargeSpace)
_FOLDER = "data_collection/gpt_datasets/predictor_ckpts"
#: Linear layers of a network, with a ReLU between them, and the width of all but the last.
_LAYERS, _WIDTH = 5, 128


class HwGptBenchSource:
    """HW-GPT-Bench's predictions for the networks of its three spaces. They charge no seconds.

    Args:
        context: the search that it serves; its space is ``gpt-s``, ``gpt-m`` or ``gpt-l``.
        argument: path of a clone of https://github.com/automl/HW-GPT-Bench.

    Raises:
        InputError: the space is another one, or the folder is no such clone.
    """

    def __init__(self, context: Context, argument: Any) -> None:
        space = context.space
        names = [kind.kind for kind in _SPACES]
        if not isinstance(space, _SPACES) or space.name not in names:  # with another context, the name has it
            raise InputError(
                f"{_WHAT} has the networks of {', '.join(names)} with their context of 1024 tokens only, not of"
                f" {space.name:.200}"
            )
        self._folder = context.path(argument, _WHAT) / _FOLDER
        if not self._folder.is_dir():
            raise InputError(
                f"{_WHAT}: expected a clone of https://github.com/automl/HW-GPT-Bench, but there is no folder"
                f" {self._folder}; check the path"
            )
        self._space: GPTSpace = space
        choices = space.choices()
        layers = range(1, int(choices["layers"][-1]) + 1)
        self._genes = ["width", "layers", *(f"ratio {i}" for i in layers), *(f"heads {i}" for i in layers), "bias"]
        #: The layer that a gene belongs to, or 0, ``(genes,)``.
        self._layer = np.array([0, 0, *layers, *layers, 0])
        #: The values of each gene in the order of the benchmark's one-hot codes, ``(genes, 3)``: a bias comes first.
        self._options = np.array([*([float(v) for v in choices[g]] for g in self._genes[:-1]), [1, 0, np.nan]])
        self._networks: dict[str, list[tuple[Values, Values]]] = {}

    def describe(self, metric: str) -> MetricInfo:
        """Return a metric's direction and unit, and read its network.

        Raises:
            InputError: an unknown metric, or a file that is missing, damaged or of another network.
        """
        info = builtin_metric("hw-gpt-bench", metric)
        if metric not in self._networks:
            self._networks[metric] = self._read(metric)
        return info

    def evaluate(self, genotypes: Sequence[str], metrics: Sequence[str]) -> list[dict[str, Measured]]:
        """Return the predictions for each network, all in one pass.

        Raises:
            InputError: a genotype is not of the space, or a prediction is not a finite number.
        """
        if not genotypes:
            return []
        genes = self._values(genotypes)
        columns = {metric: self._predict(metric, genes) for metric in metrics}
        return [{m: Measured(columns[m][i]) for m in metrics} for i in range(len(genotypes))]

    def _values(self, genotypes: Sequence[str]) -> Values:
        """Return the value of each gene, ``(n, genes)``, NaN of layers that a network lacks."""
        rows = [self._space.genes(genotype) for genotype in genotypes]
        values = np.array([[float(row[gene]) for gene in self._genes] for row in rows])
        values[self._layer > values[:, 1:2]] = np.nan
        return values

    def _predict(self, metric: str, genes: Values) -> list[float]:
        """Return a network's output for each row of genes."""
        self.describe(metric)
        if metric == "perplexity":  # one-hot codes; the last gene has two values
            features = (genes[:, :, None] == self._options).reshape(len(genes), -1)[:, :-1].astype(np.float64)
        else:  # from 0 for a gene's least value to 1, and -1 for none
            least, most = np.nanmin(self._options, axis=1), np.nanmax(self._options, axis=1)
            features = np.nan_to_num((genes - least) / (most - least), nan=-1.0)
        *hidden, (weight, bias) = self._networks[metric]
        for hidden_weight, hidden_bias in hidden:
            features = np.maximum(features @ hidden_weight.T + hidden_bias, 0)
        with np.errstate(over="ignore"):
            # Computed in float64 and rounded, a value does not depend on what else is evaluated at the same time.
            output = (features @ weight.T + bias)[:, 0].astype(np.float32)
        if not np.isfinite(output).all():
            raise InputError(f"{_WHAT}: {metric} is not a finite number; download {self._path(metric)} again")
        return [float(value) for value in output]

    def _path(self, metric: str) -> Path:
        scale = self._space.kind.removeprefix("gpt-")
        name = f"metric/{metric}_{scale}.pt" if metric == "perplexity" else f"hwmetric/mlp/{metric}_{scale}.pth"
        return self._folder / name

    def _read(self, metric: str) -> list[tuple[Values, Values]]:
        """Return weight and bias of each layer, ``(out, in)`` and ``(out,)``."""
        features = self._options.size - 1 if metric == "perplexity" else len(self._genes)
        widths = [features, *[_WIDTH] * (_LAYERS - 1), 1]
        shapes: dict[str, tuple[int, ...]] = {}
        for i in range(_LAYERS):
            shapes |= {f"fc{i + 1}.weight": (widths[i + 1], widths[i]), f"fc{i + 1}.bias": (widths[i + 1],)}
        weights = load_weights(self._path(metric), shapes, _WHAT)
        values = (weights[name].astype(np.float64) for name in shapes)
        return list(zip(values, values, strict=True))
