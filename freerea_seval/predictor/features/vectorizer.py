"""A scikit-learn transformer from network strings to the features of :mod:`.segment_features`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from freerea_patch import InputError
from freerea_seval.predictor.features.segment_features import TOTALS, count_parts
from freerea_seval.predictor.features.sparse_counts import Columns, Parts

Matrix = npt.NDArray[np.float32]
Values = npt.NDArray[np.float64]

#: What tells how large a network is, of the totals.
SIZES = ("multiply-adds", "parameters", "operations")
#: The matrix of more networks than this is not cached.
_MAX_CACHED = 1024


class StringFeatures(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """A scikit-learn transformer from network strings to features.

    Columns, of which the totals come first:

    - :data:`~freerea_seval.predictor.features.segment_features.TOTALS` in logarithms, so that no width is out of range;
    - ``cost ...``: per group of operations (kind and window, at any width) their number, elements and multiply-adds;
    - the other features of :func:`~freerea_seval.predictor.features.segment_features.describe`.

    Columns behind the totals are a sorted vocabulary: features of at least two training strings, without duplicate
    columns. Operations that are absent from training contribute only to the totals and the lengths of paths.

    Attributes:
        vocabulary_: names of the columns after the totals.
    """

    vocabulary_: list[str]

    @classmethod
    def of(cls, vocabulary: Iterable[str]) -> StringFeatures:
        """Return fitted features with this vocabulary."""
        features = cls()
        features.vocabulary_ = list(vocabulary)
        return features

    def fit(self, strings: Sequence[str], y: object = None) -> StringFeatures:
        """Learn the vocabulary.

        Args:
            strings: ``(n,)`` network strings, at least one.
            y: ignored.

        Raises:
            InputError: no string, or something that is no network string.
        """
        self.fit_transform(strings)
        return self

    def transform(self, strings: Sequence[str]) -> Matrix:
        """Return the features.

        Args:
            strings: ``(n,)`` network strings.

        Returns:
            ``(n, d)`` float32.

        Raises:
            InputError: something that is no network string.
            sklearn.exceptions.NotFittedError: before :meth:`fit`.
        """
        return self.matrix(strings).copy()

    def matrix(self, strings: Sequence[str]) -> Matrix:
        """Return what :meth:`transform` does, read-only and without the overhead of scikit-learn's wrappers.

        The last matrix is cached, because the models of an ensemble ask for the same one in turn.
        """
        check_is_fitted(self, "vocabulary_")
        requested, columns = tuple(check_strings(strings)), self._columns()
        cached_columns, cached, matrix = getattr(self, "_last", (None, (), None))
        if matrix is None or cached_columns is not columns or cached != requested:
            matrix = _matrix(columns, strings, _parts(strings))
            matrix.flags.writeable = False
            if len(requested) <= _MAX_CACHED:
                self._last = columns, requested, matrix
        return matrix

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name != "_last"}

    def fit_transform(self, strings: Sequence[str], y: object = None) -> Matrix:
        """Fit and transform, and parse each string only once."""
        if not len(check_strings(strings)):
            raise InputError("features need at least one network string to learn their vocabulary from")
        parts = _parts(strings)
        occurrences: Counter[str] = Counter()
        for string, times in Counter(strings).items():
            for name in parts[string].names():
                occurrences[name] += times
        frequent = sorted(name for name, count in occurrences.items() if count > 1 and name not in TOTALS)
        matrix = _matrix(Columns([*TOTALS, *frequent]), strings, parts)
        _, first = np.unique(matrix[:, len(TOTALS) :], axis=1, return_index=True)
        first.sort()
        self.vocabulary_ = [frequent[column] for column in first]
        return np.ascontiguousarray(matrix[:, [*range(len(TOTALS)), *(len(TOTALS) + first)]])

    def _columns(self) -> Columns:
        """Return the columns of the vocabulary, with their cache."""
        columns: Columns | None = getattr(self, "_cached_columns", None)
        if columns is None or columns.names[len(TOTALS) :] != self.vocabulary_:
            self._cached_columns = columns = Columns([*TOTALS, *self.vocabulary_])
        return columns

    def get_feature_names_out(self, input_features: object = None) -> npt.NDArray[np.object_]:
        """Return the names of the columns, ``(d,)``."""
        check_is_fitted(self, "vocabulary_")
        return np.array([*TOTALS, *self.vocabulary_], dtype=object)

    @property
    def costs_(self) -> slice:
        """The columns ``cost ...``, of which costs are weighted sums."""
        return self._columns().named("cost ")

    @property
    def counts_(self) -> slice:
        """The columns ``count ...``: how many operations of a kind have certain shapes."""
        return self._columns().named("count ")

    @property
    def order_(self) -> slice:
        """The columns ``order ...``: operations with the distances of their operands, and pairs of consecutive ones."""
        return self._columns().named("order ")

    @property
    def place_(self) -> slice:
        """The columns ``place ...``: elements of operations, weighted by their place; some are negative."""
        return self._columns().named("place ")

    def without(self, matrix: Matrix, *hidden: slice) -> Matrix:
        """Return a matrix without these columns; others may follow behind the features."""
        if all(part.start == part.stop for part in hidden):
            return matrix
        starts, stops = zip(*sorted((part.start, part.stop) for part in hidden), strict=True)
        parts = [matrix[:, stop:start] for stop, start in zip((0, *stops), (*starts, None), strict=True)]
        return np.concatenate(parts, axis=1)


def sizes(strings: Sequence[str]) -> dict[str, Values]:
    """Return the multiply-adds, parameters and operations of networks, ``(n,)`` each, by name.

    Raises:
        InputError: a string is not a network string.
    """
    parts = _parts(check_strings(strings))
    rows = Columns([f"total {name}" for name in SIZES]).rows([parts[string] for string in strings])
    return dict(zip(SIZES, rows.T, strict=True))


def share_features(models: Iterable[object]) -> None:
    """Let models with equal vocabularies share one object, so that a string is vectorised once."""
    shared: dict[tuple[str, ...], StringFeatures] = {}
    for model in models:
        features = getattr(model, "features_", None)
        if isinstance(features, StringFeatures):
            vars(model)["features_"] = shared.setdefault(tuple(features.vocabulary_), features)


def check_strings(strings: Sequence[str]) -> Sequence[str]:
    """Return ``strings``; raise :class:`InputError` unless it is a sequence of strings."""
    # A DataFrame has the length of its rows but iterates over its columns; a set has no order.
    listed = hasattr(strings, "__len__") and getattr(strings, "ndim", 1) == 1
    listed = listed and not isinstance(strings, (str, bytes, Mapping, Set))
    if not listed or not all(isinstance(string, str) for string in strings):
        raise InputError("expected a list of network strings, such as SpaceStrings(space).strings(genotypes) gives")
    return strings


def _parts(strings: Sequence[str]) -> dict[str, Parts]:
    """Return the features of each distinct string; many networks share a string of the functional view."""
    return {string: count_parts(string) for string in dict.fromkeys(strings)}


def _matrix(columns: Columns, strings: Sequence[str], parts: Mapping[str, Parts]) -> Matrix:
    """Return the columns of strings, ``(n, d)``, the totals first and in logarithms."""
    matrix = columns.rows(list(parts.values()))
    matrix[:, : len(TOTALS)] = np.log1p(matrix[:, : len(TOTALS)])
    if len(parts) < len(strings):
        row = {string: index for index, string in enumerate(parts)}
        matrix = matrix[[row[string] for string in strings]]
    return matrix.astype(np.float32)
