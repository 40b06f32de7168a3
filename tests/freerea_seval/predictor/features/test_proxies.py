"""Proxies as columns of a model."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from freerea_patch import InputError
from freerea_seval.predictor.features.proxies import ProxyColumns

TABLE = [[1.0, -5.0, 1e12], [20.0, 0.0, 3.0], [300.0, 5.0, 40.0], [7.0, 1e-3, 0.0]]


def test_columns_are_standardised_signed_logarithms() -> None:
    found = ProxyColumns().fit(TABLE).transform(TABLE)
    for column in range(3):
        logs = [math.copysign(math.log(1 + abs(row[column])), row[column]) for row in TABLE]
        mean = sum(logs) / 4
        deviation = math.sqrt(sum((x - mean) ** 2 for x in logs) / 4)
        assert found[:, column] == pytest.approx([(x - mean) / deviation for x in logs])


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_counts_as_the_smallest_seen_in_training(broken: float) -> None:
    whole = [[1.0], [5.0], [-3.0], [-3.0]]
    columns, twin = ProxyColumns().fit([[1.0], [5.0], [-3.0], [broken]]), ProxyColumns().fit(whole)
    asked = [[broken], [-7.0], [2.0]]
    assert np.array_equal(columns.transform(asked), twin.transform([[-3.0], [-7.0], [2.0]]))


def test_a_column_without_any_value_is_zero_and_so_is_one_that_never_differs() -> None:
    columns = ProxyColumns().fit([[math.nan, 0.1], [math.inf, 0.1], [math.nan, 0.1]])
    found = columns.transform([[math.nan, 0.1], [-math.inf, 0.1]])
    assert found[:, 0].tolist() == [0.0, 0.0]
    assert found[:, 1] == pytest.approx([0.0, 0.0], abs=1e-12)


TABLES = hnp.arrays(np.float64, st.tuples(st.integers(1, 6), st.integers(1, 4)), elements=st.floats(width=64))


@given(TABLES)
def test_any_numbers_become_finite_ones_in_the_same_order(table: Any) -> None:
    before = table.copy()
    found = ProxyColumns().fit(table).transform(table)
    assert np.array_equal(table, before, equal_nan=True)
    assert found.shape == table.shape
    assert np.isfinite(found).all()
    for values, column in zip(table.T, found.T, strict=True):
        known = np.isfinite(values)
        assert (np.diff(column[known][np.argsort(values[known], kind="stable")]) >= 0).all()
        assert not known.any() or (column >= column[known].min()).all()


def test_a_state_in_json_gives_the_same_columns() -> None:
    columns = ProxyColumns().fit(TABLE)
    again = ProxyColumns.restore(json.loads(json.dumps(columns.state())))
    asked = [[0.5, math.nan, -8.0]]
    assert np.array_equal(again.transform(asked), columns.transform(asked))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mean": [0.0]}, "expected three lists of one length"),
        ({"worst": [], "mean": [], "scale": []}, "expected three lists of one length"),
        ({"mean": [0.0, math.nan, 0.0]}, "expected finite numbers and positive scales"),
        ({"scale": [1.0, 0.0, 1.0]}, "expected finite numbers and positive scales"),
    ],
)
def test_a_state_that_does_not_fit_together_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ProxyColumns.restore(ProxyColumns().fit(TABLE).state() | change)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ProxyColumns().fit([1.0, 2.0]), r"expected proxies of shape \(networks, proxies\), got shape \(2,\)"),
        (lambda: ProxyColumns().fit(np.empty((0, 3))), r"at least one network and one column, got shape \(0, 3\)"),
        (lambda: ProxyColumns().fit(np.empty((3, 0))), r"at least one network and one column, got shape \(3, 0\)"),
        (lambda: ProxyColumns().fit([["snip"]]), "expected a table of numbers as proxies, got list"),
        (lambda: ProxyColumns().fit(TABLE).transform([[1.0]]), "expected 3 proxies a network, as in training, got 1"),
    ],
)
def test_tables_that_are_none_are_errors_of_one_line(call: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
