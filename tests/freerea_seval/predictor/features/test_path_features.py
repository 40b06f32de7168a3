"""Ways between two points; what is counted of them is compared with a naive twin in ``test_segments``."""

from __future__ import annotations

from freerea_seval.predictor.features.path_features import Step, count_paths, step


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
