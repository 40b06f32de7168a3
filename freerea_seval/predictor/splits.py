"""Splits into training, validation and test networks: the published one, and one in which groups stay together."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import train_test_split

from freerea_patch import InputError

Indices = npt.NDArray[np.int64]

#: Shares of the validation and the test part; the rest is for training.
_VALIDATION, _TEST = 0.2, 0.2
#: With fewer networks, a part would be empty or the training part not the largest.
_FEWEST = 5


class Split(NamedTuple):
    """Row numbers of three parts that share no row and together hold all, each ``(k,)``."""

    train: Indices
    validation: Indices
    test: Indices


def published_split(n: int) -> Split:
    """Return the random 60/20/20 split that published predictors are judged on.

    It is two calls of scikit-learn's ``train_test_split`` with ``random_state=42``: a fifth of the ``n`` rows is for
    testing, a quarter of the rest for validation. The rows are in the order of these calls.

    Raises:
        InputError: fewer than five rows.
    """
    if n < _FEWEST:
        raise InputError(f"a split needs at least {_FEWEST} networks, got {n}; measure more networks")
    rest, test = train_test_split(np.arange(n), test_size=_TEST, random_state=42)
    train, validation = train_test_split(rest, test_size=_VALIDATION / (1 - _TEST), random_state=42)
    return Split(train, validation, test)


def grouped_split(groups: Sequence[Hashable], seed: int = 42) -> Split:
    """Return a random 60/20/20 split that keeps the rows of a group in one part.

    With a network's functional string as its group, no test network computes the same function as one in training.

    Args:
        groups: ``(n,)`` the group of each row; rows of a group are equal to each other.
        seed: of the order in which groups are drawn; nothing else is random.

    Returns:
        The parts, their rows ascending; their sizes are as near to the shares as whole groups drawn in this order
        allow, and none is empty.

    Raises:
        InputError: fewer than five rows, or fewer than three groups.
    """
    n = len(groups)
    if n < _FEWEST:
        raise InputError(f"a split needs at least {_FEWEST} networks, got {n}; measure more networks")
    number: dict[Hashable, int] = {}  # in the order of their appearance: sets of strings have none
    labels = np.array([number.setdefault(group, len(number)) for group in groups])
    if len(number) < 3:
        raise InputError(f"three parts need at least 3 different groups, got {len(number)}; use a random split")
    sizes = np.bincount(labels)
    remaining = np.random.default_rng(seed).permutation(len(sizes)).tolist()
    # Training comes last and takes the rest, so that each part before it must leave a group for every later one.
    test = _take(remaining, sizes, round(_TEST * n), leave=2)
    validation = _take(remaining, sizes, round(_VALIDATION * n), leave=1)
    part = np.zeros(len(sizes), dtype=np.int64)
    part[validation], part[test] = 1, 2
    return Split(*(np.flatnonzero(part[labels] == p) for p in range(3)))


def _take(remaining: list[int], sizes: npt.NDArray[np.int64], rows: int, *, leave: int) -> list[int]:
    """Move groups from ``remaining`` into a part of ``rows`` rows, in order, at least one; keep ``leave`` groups."""
    part: list[int] = []
    for group in list(remaining):
        if len(remaining) > leave and sizes[group] <= rows:
            remaining.remove(group)
            part.append(group)
            rows -= sizes[group]
    smallest = min(remaining, key=lambda group: sizes[group])
    # No further group fits; one that is too large may still bring the part closer to its size.
    if len(remaining) > leave and (not part or sizes[smallest] - rows < rows):
        remaining.remove(smallest)
        part.append(smallest)
    return part
