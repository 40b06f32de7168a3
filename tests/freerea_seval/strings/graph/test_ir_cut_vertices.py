"""Cut vertices beside their naive twin, the definition."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from freerea_seval.strings.graph.ir import cut_vertices

READS = st.integers(1, 9).flatmap(
    lambda n: st.tuples(*(st.lists(st.integers(0, p - 1), max_size=3) if p else st.just([]) for p in range(n)))
)


@given(READS)
def test_a_cut_vertex_is_one_that_no_later_node_reads_past(reads: tuple[list[int], ...]) -> None:
    expected = [p for p in range(len(reads)) if all(read >= p for later in reads[p + 1 :] for read in later)]
    assert cut_vertices(reads) == expected
    assert expected[-1] == len(reads) - 1
