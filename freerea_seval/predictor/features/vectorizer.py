"""Numbers out of network strings: what :mod:`.segments` counts, as the columns of a matrix.

The strings are those of :mod:`freerea_seval.strings.text.grammar`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from freerea_patch import InputError
from freerea_seval.predictor.features.segment_features import TOTALS, parts
from freerea_seval.predictor.features.sparse_counts import Columns, Parts

Matrix = npt.NDArray[np.float32]
Values = npt.NDArray[np.float64]

#: The features of more networks than this are not remembered.
_REMEMBERED = 1024


class StringFeatures(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """A scikit-learn transformer from network strings to features.

    Columns, of which the totals come first:

    - :data:`~freerea_seval.predictor.features.segment_features.TOTALS` in logarithms, so that no width is out of range;
    - ``cost ...``: per group of operations (kind and window, at any width) how many there are, and the
      elements and multiply-adds that they sum up to;
    - all else that :func:`~freerea_seval.predictor.features.segment_features.describe` counts.

    All but the totals are a sorted vocabulary of what two training strings or more show, less columns that
    repeat one before. What was never seen in training adds to the totals and the lengths of paths alone.

    Attributes:
        vocabulary_: names of the columns after the totals.
    """

    vocabulary_: list[str]

    @classmethod
    def of(cls, vocabulary: Iterable[str]) -> StringFeatures:
        """Return features that have learned this vocabulary."""
        features = cls()
        features.vocabulary_ = list(vocabulary)
        return features

    def fit(self, strings: Sequence[str], y: object = None) -> StringFeatures:
        """Learn the vocabulary.

        Args:
            strings: ``(n,)`` network strings, at least one.
            y: ignored.

        Raises:
            InputError: nothing to learn from, or something that is no network string.
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
        """Return what :meth:`transform` does, not to be written to, and without scikit-learn's time around it.

        The last matrix is remembered: the models of an ensemble ask for the same one after the other.
        """
        check_is_fitted(self, "vocabulary_")
        asked, columns = tuple(check_strings(strings)), self._columns()
        of, last, matrix = getattr(self, "_last", (None, (), None))
        if matrix is None or of is not columns or last != asked:
            matrix = _matrix(columns, strings, _read(strings))
            matrix.flags.writeable = False
            if len(asked) <= _REMEMBERED:
                self._last = columns, asked, matrix
        return matrix

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name != "_last"}

    def fit_transform(self, strings: Sequence[str], y: object = None) -> Matrix:
        """Do both, and read every string only once."""
        if not len(check_strings(strings)):
            raise InputError("features need at least one network string to learn their vocabulary from")
        read = _read(strings)
        seen: Counter[str] = Counter()
        for string, times in Counter(strings).items():
            for name in read[string].names():
                seen[name] += times
        often = sorted(name for name, count in seen.items() if count > 1 and name not in TOTALS)
        matrix = _matrix(Columns([*TOTALS, *often]), strings, read)
        _, first = np.unique(matrix[:, len(TOTALS) :], axis=1, return_index=True)
        first.sort()
        self.vocabulary_ = [often[column] for column in first]
        return np.ascontiguousarray(matrix[:, [*range(len(TOTALS)), *(len(TOTALS) + first)]])

    def _columns(self) -> Columns:
        """Return the columns of the vocabulary, which remember what they have met."""
        known: Columns | None = getattr(self, "_known", None)
        if known is None or known.names[len(TOTALS) :] != self.vocabulary_:
            self._known = known = Columns([*TOTALS, *self.vocabulary_])
        return known

    def get_feature_names_out(self, input_features: object = None) -> npt.NDArray[np.object_]:
        """Return the names of the columns, ``(d,)``."""
        check_is_fitted(self, "vocabulary_")
        return np.array([*TOTALS, *self.vocabulary_], dtype=object)

    @property
    def costs_(self) -> slice:
        """The columns that costs are sums of: see ``cost ...`` above."""
        return self._columns().named("cost ")

    @property
    def order_(self) -> slice:
        """The columns ``order ...``: what is executed after what, and how far back it reads."""
        return self._columns().named("order ")


def share_features(models: Iterable[object]) -> None:
    """Let models with equal features have the same, so that they look at a string once."""
    known: dict[tuple[str, ...], StringFeatures] = {}
    for model in models:
        features = getattr(model, "features_", None)
        if isinstance(features, StringFeatures):
            vars(model)["features_"] = known.setdefault(tuple(features.vocabulary_), features)


def check_strings(strings: Sequence[str]) -> Sequence[str]:
    """Return ``strings``; raise :class:`InputError` unless it is a sequence of strings."""
    # A table of pandas counts its rows and yields the names of its columns; a set has no order that values could have.
    listed = hasattr(strings, "__len__") and getattr(strings, "ndim", 1) == 1
    listed = listed and not isinstance(strings, (str, bytes, Mapping, Set))
    if not listed or not all(isinstance(string, str) for string in strings):
        raise InputError("expected a list of network strings, such as SpaceStrings(space).strings(genotypes) gives")
    return strings


def _read(strings: Sequence[str]) -> dict[str, Parts]:
    """Return what is counted of each different string: many networks share a functional one."""
    return {string: parts(string) for string in dict.fromkeys(strings)}


def _matrix(columns: Columns, strings: Sequence[str], read: Mapping[str, Parts]) -> Matrix:
    """Return the columns of strings, ``(n, d)``, of which the totals come first."""
    matrix = columns.rows(list(read.values()))
    matrix[:, : len(TOTALS)] = np.log1p(matrix[:, : len(TOTALS)])
    if len(read) < len(strings):
        row = {string: place for place, string in enumerate(read)}
        matrix = matrix[[row[string] for string in strings]]
    return matrix.astype(np.float32)
