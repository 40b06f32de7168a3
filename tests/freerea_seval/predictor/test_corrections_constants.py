"""Networks whose output is constant: told by their string, and never predicted to be better than chance."""

from __future__ import annotations

import numpy as np
import pytest
from torch import Tensor, nn, zeros

from freerea_patch import TopologySpace
from freerea_seval.predictor.corrections import constant_outputs, has_constant_output, values_of_constants
from freerea_seval.predictor.seval import SEvalPredictor
from freerea_seval.strings.encode import SpaceStrings
from freerea_seval.strings.text.serialize import serialize_graph as write
from freerea_seval.strings.trace.tracer import trace_module
from freerea_seval.strings.views import VIEWS, view_of

CONSTANT = "input[1x3x32x32] zeros[1x64]<- linear(10,b) output"
DEAD = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|none~0|none~1|none~2|"
ALIVE = "|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|"


class AddsZeros(nn.Module):
    """Reads its input beside a tensor that nothing is read for."""

    def forward(self, x: Tensor) -> Tensor:
        return x + zeros(3, 4, 4, device=x.device).exp()


@pytest.mark.parametrize(
    ("string", "constant"),
    [
        (CONSTANT, True),
        ("input[1x3] zeros[1x64]<- 3*{ relu linear(8,b) } output", True),
        ("input[1x3] zeros[1x3]<- add<-2,1 output", False),
        ("input[1x3] input[1x3] zeros[1x3]<- add<-3,1 output", False),
        ("input[1x3] relu output", False),
        ("input[1x3] 2*{ zeros[1x3]<- add<-2,1 } output", False),
        ("output", False),
    ],
)
def test_the_string_tells_a_constant_output(string: str, constant: bool) -> None:
    assert has_constant_output(string) == constant


def test_only_the_functional_view_tells_a_cell_without_a_way_through() -> None:
    executed, functional = (SpaceStrings(TopologySpace(), view) for view in VIEWS)
    assert constant_outputs(functional.strings([DEAD, ALIVE])).tolist() == [True, False]
    assert constant_outputs(executed.strings([DEAD, ALIVE])).tolist() == [False, False]
    graph = view_of(trace_module(AddsZeros(), [zeros(1, 3, 4, 4)]), "functional")
    assert not has_constant_output(write(graph))


def test_they_are_worth_what_those_in_training_are_or_else_the_worst() -> None:
    values = np.array([[3.0, 30.0, np.nan], [1.0, 10.0, 7.0], [5.0, np.nan, 8.0]])
    nothing, first = np.zeros(3, dtype=bool), np.array([True, False, False])
    found = values_of_constants(values, nothing, ["max", "min", "max"])
    np.testing.assert_array_equal(found, [1.0, np.nan, 7.0])
    np.testing.assert_array_equal(values_of_constants(values, first, ["max", "min", "max"]), [3.0, 30.0, 7.0])


def test_a_predictor_that_has_seen_none_predicts_no_better_than_the_worst() -> None:
    genotypes = [g for g in TopologySpace().genotypes()[::150] if g != DEAD]
    strings = [s for s in SpaceStrings(TopologySpace(), "functional").strings(genotypes) if not has_constant_output(s)]
    # The fewer operations, the better: what is constant looks best.
    values = np.array([-float(len(s)) for s in strings])
    predictor = SEvalPredictor("boosted").fit(strings, values)
    found, low, high = predictor.predict([CONSTANT, strings[0]], interval=0.9)
    assert found[0] == values.min()
    assert low[0] <= found[0] <= high[0]
    assert found[1] > values.min()
    costs = SEvalPredictor("boosted").fit(strings, values, directions=["min"])
    assert costs.predict([CONSTANT])[0] > values.min()


def test_a_predictor_remembers_those_in_training() -> None:
    strings = SpaceStrings(TopologySpace(), "functional").strings(TopologySpace().genotypes()[::150])
    values = np.array([10.0 if has_constant_output(s) else 50.0 + len(s) for s in strings])
    predictor = SEvalPredictor("boosted").fit([*strings, CONSTANT], [*values, 12.0])
    constant = values == 10.0
    expected = (10.0 * constant.sum() + 12.0) / (constant.sum() + 1)
    assert predictor.predict([CONSTANT])[0] == pytest.approx(expected)
    np.testing.assert_allclose(predictor.unseen_[:-1][constant], expected)
