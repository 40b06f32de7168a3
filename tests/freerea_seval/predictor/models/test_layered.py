"""The Gaussian process on sizes of layers."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

from freerea_patch import GPTSpace
from freerea_seval.predictor.features.layer_features import layers
from freerea_seval.predictor.models.gp import GaussianProcessPredictor
from freerea_seval.predictor.models.layered import LayeredPredictor, LayeredProcess
from freerea_seval.predictor.models.validation import Values
from freerea_seval.predictor.scores import kendall_tau
from freerea_seval.predictor.seval import SEvalPredictor
from freerea_seval.strings.encode import SpaceStrings

SPACE = GPTSpace(width=(64, 128), layers=(6,), heads=(1, 2), ratio=(1, 2, 3, 4))
GENOTYPES = list(dict.fromkeys(SPACE.sample(Random(seed)) for seed in range(260)))
STRINGS = list(SpaceStrings(SPACE, "functional").strings(GENOTYPES))
#: What the width of each layer adds: early layers count more, and the third one nothing.
EFFECTS = (5.0, 3.0, 0.0, 2.0, 1.0, 0.5)


def worth(genotype: str) -> float:
    genes = SPACE.genes(genotype)
    return (
        sum(effect * int(genes[f"ratio {layer + 1}"]) for layer, effect in enumerate(EFFECTS)) + int(genes["width"]) / 8
    )


VALUES = np.array([worth(genotype) for genotype in GENOTYPES])


def test_it_learns_what_each_layer_adds_and_is_selected_for_it() -> None:
    models = (LayeredPredictor(), GaussianProcessPredictor())
    ours, other = (
        kendall_tau(VALUES[80:], model.fit(STRINGS[:80], VALUES[:80]).predict(STRINGS[80:])) for model in models
    )
    assert ours > 0.9 > 0.75 > other
    assert "layered" in SEvalPredictor().fit(STRINGS[:80], VALUES[:80]).members_


def test_blocks_are_whole_networks_then_costs_and_counts_then_layers_and_proxies() -> None:
    process = LayeredProcess().fit(STRINGS[:30], VALUES[:30])
    totals, counts, single = process.blocks_
    assert len(totals) == process.layers_.totals
    assert len(totals) + len(single) == len(process.layers_.names)
    assert process.points_.shape == (30, len(totals) + len(counts) + len(single))
    points = LayeredProcess().fit(STRINGS[:30], VALUES[:30], [[1.0], [2.0], [3.0]] * 10)
    assert [len(block) for block in points.blocks_] == [len(totals), len(counts), len(single), 1]


def test_a_power_of_the_size_is_extrapolated_to_larger_networks() -> None:
    def power(strings: list[str]) -> Values:
        return np.array([2.0 ** (layers(string)["linear"][0] / 3) for string in strings])

    layered = LayeredPredictor().fit(STRINGS[:80], power(STRINGS[:80]))
    wide = GPTSpace(width=(1024,), layers=(6,), heads=(2, 4, 8), ratio=(1, 2, 3, 4))
    strings = list(SpaceStrings(wide, "functional").strings([wide.sample(Random(seed)) for seed in range(20)]))
    assert layered.predict(strings) == pytest.approx(power(strings), rel=0.01)


def test_what_was_saved_predicts_the_same() -> None:
    layered = LayeredPredictor().fit(STRINGS[:30], np.stack([VALUES[:30], -VALUES[:30]], axis=1))
    state, files = layered.state()
    again = LayeredPredictor()
    again.restore(json.loads(json.dumps(state)), files)
    assert again.predict(STRINGS) == pytest.approx(layered.predict(STRINGS))


@pytest.mark.parametrize(
    "change", [{"layers": ["linear 1"]}, {"absent": []}, {"layers": [], "absent": []}, {"vocabulary": ["cost a"]}]
)
def test_a_state_that_does_not_fit_its_files_is_refused(change: dict[str, Any]) -> None:
    state, files = LayeredPredictor().fit(STRINGS[:30], VALUES[:30]).state()
    with pytest.raises((ValueError, KeyError, IndexError)):
        LayeredPredictor().restore({**state, "process": {**state["process"], **change}}, files)
    with pytest.raises(ValueError, match="2 scales of 1 metrics"):
        LayeredPredictor().restore({**state, "scales": state["scales"] * 2}, files)


def test_values_that_are_not_positive_are_learned_as_they_are() -> None:
    shifted = VALUES - 100
    process = LayeredProcess().fit(STRINGS[:30], (shifted[:30] - shifted[:30].mean()) / shifted[:30].std())
    expected = process.predict(STRINGS[30:]) * shifted[:30].std() + shifted[:30].mean()
    assert LayeredPredictor().fit(STRINGS[:30], shifted[:30]).predict(STRINGS[30:]) == pytest.approx(expected)


def test_it_cannot_be_asked_before_it_is_fitted() -> None:
    with pytest.raises(NotFittedError):
        LayeredPredictor().predict(STRINGS[:1])
