"""Numbers out of network strings: what :mod:`.segments` counts, as the columns of a matrix.

The strings are those of :mod:`freerea_seval.strings.grammar`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from freerea_patch import InputError
from freerea_seval.predictor.segments import TOTALS, Features, describe, parts

Matrix = npt.NDArray[np.float32]
Values = npt.NDArray[np.float64]


class StringFeatures(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """A scikit-learn transformer from network strings to features.

    Columns, of which the totals come first:

    - :data:`~freerea_seval.predictor.segments.TOTALS` in logarithms, so that no width is out of range;
    - ``cost ...``: per group of operations (kind and window, at any width) how many there are, and the
      elements and multiply-adds that they sum up to;
    - all else that :func:`~freerea_seval.predictor.segments.describe` counts.

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
        self._fit(self._described(strings))
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
        check_is_fitted(self, "vocabulary_")
        column = {name: place for place, name in enumerate([*TOTALS, *self.vocabulary_])}
        rows: dict[str, int] = {}
        for string in check_strings(strings):
            rows.setdefault(string, len(rows))
        matrix = np.zeros((len(rows), len(column)))
        known: dict[int, tuple[Features, list[int], Values]] = {}  # blocks come again, as the same objects
        for string, row in rows.items():
            for counted, times in parts(string):
                if id(counted) not in known:
                    there = {column[name]: value for name, value in counted.items() if name in column}
                    known[id(counted)] = counted, list(there), np.array(list(there.values()), dtype=np.float64)
                _, places, values = known[id(counted)]
                matrix[row, places] += values if times == 1 else times * values
        matrix[:, : len(TOTALS)] = np.log1p(matrix[:, : len(TOTALS)])
        whole = matrix if len(rows) == len(strings) else matrix[[rows[string] for string in strings]]
        return whole.astype(np.float32)

    def fit_transform(self, strings: Sequence[str], y: object = None) -> Matrix:
        """Do both, and read every string only once."""
        described = self._described(strings)
        self._fit(described)
        return _matrix(described, [*TOTALS, *self.vocabulary_])

    def _described(self, strings: Sequence[str]) -> list[Features]:
        # Many networks share a functional string.
        described = {string: describe(string) for string in dict.fromkeys(check_strings(strings))}
        return [described[string] for string in strings]

    def _fit(self, described: Sequence[Features]) -> None:
        if not described:
            raise InputError("features need at least one network string to learn their vocabulary from")
        seen = Counter(name for description in described for name in description)
        names = sorted(name for name, count in seen.items() if count > 1 and name not in TOTALS)
        _, first = np.unique(_matrix(described, names), axis=1, return_index=True)
        self.vocabulary_ = [names[column] for column in sorted(first)]

    def get_feature_names_out(self, input_features: object = None) -> npt.NDArray[np.object_]:
        """Return the names of the columns, ``(d,)``."""
        check_is_fitted(self, "vocabulary_")
        return np.array([*TOTALS, *self.vocabulary_], dtype=object)

    @property
    def costs_(self) -> slice:
        """The columns that costs are sums of: see ``cost ...`` above."""
        return self._named("cost ")

    @property
    def order_(self) -> slice:
        """The columns ``order ...``: what is executed after what, and how far back it reads."""
        return self._named("order ")

    def _named(self, beginning: str) -> slice:
        """Return the columns with a name that begins so; the vocabulary is sorted."""
        start = len(TOTALS) + sum(name < beginning for name in self.vocabulary_)
        return slice(start, start + sum(name.startswith(beginning) for name in self.vocabulary_))


def check_strings(strings: Sequence[str]) -> Sequence[str]:
    """Return ``strings``; raise :class:`InputError` unless it is a sequence of strings."""
    if isinstance(strings, str) or not all(isinstance(string, str) for string in strings):
        raise InputError("expected a list of network strings, such as SpaceStrings(space).strings(genotypes) gives")
    return strings


def _matrix(described: Sequence[Features], names: Sequence[str]) -> Matrix:
    matrix = np.zeros((len(described), len(names)))
    column = {name: place for place, name in enumerate(names)}
    for row, description in zip(matrix, described, strict=True):
        for name, value in description.items():
            if name in column:
                row[column[name]] = value
    totals = [place for place, name in enumerate(names) if name in TOTALS]
    matrix[:, totals] = np.log1p(matrix[:, totals])
    return matrix.astype(np.float32)
