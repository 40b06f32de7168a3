"""Rows of counts, beside a naive twin that adds up dictionaries; features of real networks are among them."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from random import Random

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import freerea_seval.predictor.features.sparse_counts as module
from freerea_patch import SizeSpace, TopologySpace
from freerea_seval.predictor.features.segment_features import TOTALS, count_parts, describe
from freerea_seval.predictor.features.sparse_counts import Columns, Counts, Parts, Sum
from freerea_seval.predictor.features.vectorizer import StringFeatures
from freerea_seval.strings.encode import SpaceStrings
from freerea_seval.strings.views import VIEWS, View
from tests.freerea_seval.predictor.features.test_segment_features import naive
from tests.freerea_seval.strings.text.test_fuzzing import STRINGS

NAMES = ("cost a", "cost b", "order", "path")


def naive_rows(columns: tuple[str, ...], networks: list[Parts]) -> npt.NDArray[np.float64]:
    """Add numbers one by one."""
    found = np.zeros((len(networks), len(columns)))
    for row, network in zip(found, networks, strict=True):
        for part, times in zip(*network, strict=True):
            for name, value in part.numbers().items():
                if name in columns:
                    row[columns.index(name)] += times * value
    return found


#: A residual network, and one of convolutions and of linear layers with shortcuts around them.
OTHERS = (
    "input[1x3x64x64] conv(8,k7,s2) bn relu max_pool2d(k3,s2) 3*{ conv(2,k1) bn relu conv(k3) bn relu conv(8,k1) bn"
    " add<-1,9 relu } mean(dim=2:3) linear(10,b) output",
    "input[1x3x32x32] conv(8,k4,s4,p0) 2*{ conv(16,k1) gelu conv(k3) gelu conv(8,k1) add<-1,6 } reshape[1x8x64]"
    " permute(dims=0:2:1) 2*{ layer_norm linear(16,b) gelu linear(8,b) add<-1,5 } mean(dim=1) linear(10,b) output",
)

NUMBERS = st.floats(0, 1e30) | st.integers(0, 10**30)
COUNTS = st.dictionaries(st.sampled_from((*NAMES, "strange")), NUMBERS, max_size=4).map(Counts)
TIMES = st.floats(0, 10) | st.integers(0, 3)
SUMS = st.lists(st.tuples(COUNTS, TIMES), max_size=4).map(
    lambda pairs: Sum(tuple(counts for counts, _ in pairs), tuple(times for _, times in pairs))
)
NETWORKS = st.lists(st.tuples(SUMS, st.integers(1, 99)), max_size=4).map(
    lambda pairs: Parts(tuple(part for part, _ in pairs), tuple(times for _, times in pairs))
)


@settings(max_examples=50)
@given(st.lists(NETWORKS, max_size=6), st.lists(st.integers(0, 5), max_size=9))
def test_rows_have_the_bits_of_the_naive_twin_whatever_is_shared(networks: list[Parts], again: list[int]) -> None:
    networks = [*networks, *(networks[i] for i in again if i < len(networks))]
    columns = Columns(NAMES)
    for _ in range(2):
        assert np.array_equal(columns.rows(networks), naive_rows(NAMES, networks))


@pytest.mark.parametrize("space", [TopologySpace(), SizeSpace()], ids=["topology", "size"])
@pytest.mark.parametrize("view", VIEWS)
def test_features_of_random_networks_have_the_bits_of_the_naive_twin(
    space: TopologySpace | SizeSpace, view: View
) -> None:
    cells = Random(0).sample(space.genotypes(), 6)
    assert_equal_to_naive(SpaceStrings(space, view).strings(cells))


@pytest.mark.parametrize("string", OTHERS)
def test_features_of_other_networks_have_the_bits_of_the_naive_twin(string: str) -> None:
    assert_equal_to_naive([string])


def assert_equal_to_naive(strings: list[str]) -> None:
    """Compare with what the whole graph of each says, less pairs in the order of execution, which some braces part."""
    features = StringFeatures().fit([*strings, *strings])  # so that all that is there has a column
    columns = features.get_feature_names_out().tolist()
    expected = np.zeros((len(strings), len(columns)))
    for row, string in zip(expected, strings, strict=True):
        found = describe(string)
        graph = {name: value for name, value in found.items() if value and name.count("<-") < 2}
        assert graph == pytest.approx(naive(string), rel=1e-12)
        assert count_parts(string).names() == found.keys()
        row[:] = [found.get(name, 0.0) for name in columns]
    expected[:, : len(TOTALS)] = np.log1p(expected[:, : len(TOTALS)])
    assert np.array_equal(features.transform(strings), expected.astype(np.float32))


@pytest.mark.parametrize("string", STRINGS)
def test_rows_of_real_networks_have_the_bits_of_the_naive_twin(string: str) -> None:
    found = sorted(describe(string).items())
    columns = Columns([name for name, _ in found])
    assert columns.rows([count_parts(string)]).tolist() == [[value for _, value in found]]


@pytest.mark.parametrize("limit", ["_CHUNK", "_MAX_CACHED"])
def test_rows_are_the_same_a_few_at_a_time_and_after_all_is_forgotten(
    limit: str, strings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    networks = [count_parts(string) for string in strings]
    columns = Columns(sorted({name for string in strings for name in count_parts(string).names()}))
    at_once = columns.rows(networks)
    monkeypatch.setattr(module, limit, 3)
    assert np.array_equal(columns.rows(networks), at_once)
    assert np.array_equal(columns.rows(networks[::-1]), at_once[::-1])


def test_what_is_remembered_is_bounded(strings: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    columns = Columns(sorted(count_parts(strings[0]).names()))
    monkeypatch.setattr(module, "_MAX_CACHED", 0)
    remembered = set()
    for string in strings[:30]:
        columns.rows([count_parts(string)])
        remembered.add(len(columns._counts) <= sum(len(part.counts) for part in count_parts(string).sums))
    assert remembered == {True}


def test_no_networks_and_no_columns_are_no_rows(strings: list[str]) -> None:
    assert Columns(NAMES).rows([]).shape == (0, 4)
    assert Columns(()).rows([count_parts(strings[0])]).shape == (1, 0)
    assert Columns(NAMES).rows([Parts((), ())]).tolist() == [[0.0] * 4]


def test_columns_are_named_by_how_their_names_begin() -> None:
    columns = Columns(NAMES)
    assert [columns.named(beginning) for beginning in ("cost ", "order", "walk")] == [
        slice(0, 2),
        slice(2, 3),
        slice(0, 0),
    ]


def test_threads_take_turns(strings: list[str]) -> None:
    networks = [count_parts(string) for string in strings]
    columns = Columns(sorted({name for string in strings for name in count_parts(string).names()}))
    expected = Columns(columns.names).rows(networks)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda network: columns.rows([network])[0], networks))
    assert np.array_equal(found, expected)


def test_columns_come_back_from_a_copy_without_what_they_remember(strings: list[str]) -> None:
    networks = [count_parts(string) for string in strings[:5]]
    columns = Columns(sorted(count_parts(strings[0]).names()))
    expected = columns.rows(networks)
    again = copy.deepcopy(columns)
    assert not again._counts
    assert np.array_equal(again.rows(networks), expected)
