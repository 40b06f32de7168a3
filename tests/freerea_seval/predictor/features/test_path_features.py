"""Ways between two points; what is counted of them is compared with a naive twin in ``test_segments``."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from freerea_seval.predictor.features.path_features import Step, cut, step, ways

READS = st.integers(1, 9).flatmap(
    lambda n: st.tuples(*(st.lists(st.integers(0, p - 1), max_size=3) if p else st.just([]) for p in range(n)))
)


@given(READS)
def test_a_chain_is_cut_where_no_later_operation_reads_past(reads: tuple[list[int], ...]) -> None:
    expected = [p for p in range(len(reads)) if all(read >= p for later in reads[p + 1 :] for read in later)]
    assert cut(reads) == expected
    assert expected[-1] == len(reads) - 1


def test_equal_steps_are_one_object() -> None:
    assert step("add", "add<-2,3", (2, 3)) is step("add", "add<-2,3", (2, 3)) is not step("add", "add<-1,2", (1, 2))


def test_a_step_that_the_end_does_not_depend_on_is_on_no_way() -> None:
    segment = (Step("conv", "conv<-1", (1,)), Step("linear", "linear<-2", (2,)), Step("add", "add<-2,3", (2, 3)))
    counts, times, first, last = ways(segment)
    found = {
        name: value * often for its, often in zip(counts, times, strict=True) for name, value in its.numbers.items()
    }
    assert (first, last) == ("conv", "add")
    assert (found["most linear"], found["least linear"], found["mean linear"]) == (0, 0, 0)
    assert (found["most conv"], found["least conv"], found["mean conv"]) == (1, 0, 0.5)
    assert (found["path"], found["path conv"]) == (1, 1)
    assert found["walk ^ > linear"] == 1


def test_operations_on_every_element_alone_are_no_steps() -> None:
    counts, times, first, last = ways((Step("relu", "relu<-1", (1,)),))
    assert [dict(its.numbers) for its in counts] == [{"total depth": 1}]
    assert (times, first, last) == ((1,), "", "")
