"""Sizes of layers, beside a naive twin that cuts the whole graph."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from math import log2, prod
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freerea_patch import FBNetSpace, GPTSmallSpace, GPTSpace, InputError, SearchSpace, TopologySpace
from freerea_seval.predictor.features.layer_features import LayerFeatures, layers
from freerea_seval.strings.encode import SpaceStrings
from freerea_seval.strings.graph.ir import cut_vertices
from freerea_seval.strings.text.parse import parse_graph

GPT = GPTSpace(width=(64, 128), layers=(2, 3, 4), heads=(1, 2), ratio=(2, 3))


def strings_of(space: SearchSpace, networks: int) -> list[str]:
    genotypes = [space.sample(Random(seed)) for seed in range(networks)]
    return list(SpaceStrings(space, "functional").strings(genotypes))


def naive(string: str) -> dict[str, list[float]]:
    """Cut the graph of the whole string, and add elements one operation after the other."""
    graph = parse_graph(string)
    reads = [[ref.node for ref in node.refs] for node in graph]
    counts: defaultdict[str, list[int]] = defaultdict(list)
    for start, end in pairwise([-1, *cut_vertices(reads)]):
        elements: defaultdict[str, int] = defaultdict(int)
        for node in list(graph)[start + 1 : end + 1]:
            elements[node.kind] += sum(prod(spec.shape) for spec in node.outputs)
        for kind, count in elements.items():
            counts[kind].append(count)
    return {kind: [log2(max(count, 1)) for count in (sum(some), *some)] for kind, some in counts.items()}


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**31))
def test_layers_are_those_of_the_whole_graph(seed: int) -> None:
    for space in (GPT, TopologySpace(), FBNetSpace()):
        (string,) = SpaceStrings(space, "functional").strings([space.sample(Random(seed))])
        expected = naive(string)
        assert layers(string) == {kind: pytest.approx(sizes) for kind, sizes in expected.items() if kind != "entry"}


def test_a_column_has_the_size_of_a_layer_and_half_of_the_smallest_where_there_is_none() -> None:
    strings = ["input[1x8] relu linear(4) linear(2) output", "input[1x8] relu linear(2) output"]
    features = LayerFeatures.fit(strings)
    matrix = dict(zip(features.names, features.matrix(strings).T.tolist(), strict=True))
    assert matrix["linear 0"] == [log2(6), 1.0]
    assert matrix["linear 1"] == [2.0, 1.0]
    assert features.names[: features.totals] == ["linear 0"]
    other = LayerFeatures.fit(
        ["input[1x8] linear(4) linear(8) linear(4) output", "input[1x8] linear(8) linear(2) output"]
    )
    (row,) = other.matrix(["input[1x8] linear(16) output"])
    assert dict(zip(other.names, row.tolist(), strict=True))["linear 2"] == 0.0


def test_columns_that_are_equal_once_standardised_are_one() -> None:
    strings = strings_of(GPT, 40)
    features = LayerFeatures.fit(strings)
    matrix = features.matrix(strings)
    for part in np.split(matrix, [features.totals], axis=1):
        assert (np.corrcoef(part.T) - np.eye(part.shape[1])).max() < 1 - 1e-9
    assert matrix.std(axis=0).min() > 0


def test_features_are_those_of_their_names_and_absent_sizes() -> None:
    strings = strings_of(GPT, 20)
    features = LayerFeatures.fit(strings)
    again = LayerFeatures(features.names, features.absent)
    assert again.matrix(strings) == pytest.approx(features.matrix(strings))
    assert LayerFeatures.fit(strings[:1] * 3).matrix(strings).shape == (20, 0)


def test_layers_of_language_models_vary_independently_and_those_of_repeated_cells_do_not() -> None:
    def independent(space: SearchSpace, networks: int) -> float:
        strings = strings_of(space, networks)
        return LayerFeatures.fit(strings).independent(strings)

    assert independent(GPTSmallSpace(), 60) > 8
    assert independent(FBNetSpace(), 60) > 8
    assert independent(TopologySpace(), 200) < 3
    assert independent(GPTSmallSpace(), 1) == 0


def test_a_chain_of_100_000_layers_takes_no_memory() -> None:
    sizes = layers("input[1x8] 100000*{ linear(8) } output")["linear"]
    assert len(sizes) == 513
    assert sizes[0] == log2(8 * 100_000)


def test_what_is_no_string_is_refused() -> None:
    with pytest.raises(InputError, match="nonsense"):
        LayerFeatures.fit(["nonsense"])
