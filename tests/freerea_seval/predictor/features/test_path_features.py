"""Ways between two points; what is counted of them is compared with a naive twin in ``test_segments``."""

from __future__ import annotations

import numpy as np

from freerea_seval.predictor.features.path_features import MOST_WALKS, Step, count_paths, step


def test_equal_steps_are_one_object() -> None:
    assert step("add", "add<-2,3", (2, 3)) is step("add", "add<-2,3", (2, 3)) is not step("add", "add<-1,2", (1, 2))


def test_a_step_that_the_end_does_not_depend_on_is_on_no_way() -> None:
    segment = (Step("conv", "conv<-1", (1,)), Step("linear", "linear<-2", (2,)), Step("add", "add<-2,3", (2, 3)))
    counts, times, first, last = count_paths(segment)
    found = {
        name: value * often for its, often in zip(counts, times, strict=True) for name, value in its.numbers.items()
    }
    assert (first, last) == ("conv", "add")
    assert (found["most linear"], found["least linear"], found["mean linear"]) == (0, 0, 0)
    assert (found["most conv"], found["least conv"], found["mean conv"]) == (1, 0, 0.5)
    assert (found["path"], found["path conv"]) == (1, 1)
    assert found["walk ^ > linear"] == 1


def test_operations_on_every_element_alone_are_no_steps() -> None:
    counts, times, first, last = count_paths((Step("relu", "relu<-1", (1,)),))
    assert [dict(its.numbers) for its in counts] == [{"total depth": 1}]
    assert (times, first, last) == ((1,), "", "")


def test_the_numbers_of_walks_and_paths_fit_a_feature() -> None:
    counts, times, _, _ = count_paths((Step("conv", "conv<-1", (1,)),) + (Step("add", "add<-1,2", (1, 2)),) * 1480)
    numbers = [value * often for its, often in zip(counts, times, strict=True) for value in its.numbers.values()]
    assert MOST_WALKS in numbers
    assert np.isfinite(np.array(numbers, dtype=np.float32)).all()
