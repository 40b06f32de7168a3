"""Ask and tell: what is handed out, and what a wrong call order says."""

from __future__ import annotations

import pytest

from freerea_patch import Evaluation, NothingFeasible, Objective, Proposal, RandomSearch, Search
from freerea_patch.search import PATIENCE, Rounds
from tests.freerea_patch.synthetic import BitSpace

TERMS = [Objective("a")]


class Scripted(Search):
    """Proposes what it was given, round by round, then the last round for ever."""

    rounds: list[list[str]]

    def course(self) -> Rounds:
        for genotypes in self.rounds:
            yield [Proposal(genotype) for genotype in genotypes]
        while True:
            yield [Proposal(genotype) for genotype in self.rounds[-1]]


def scripted(*rounds: list[str]) -> Search:
    search = Scripted(BitSpace(2), TERMS)
    search.rounds = list(rounds)  # the course begins with the first ask
    return search


def tell_all(search: Search, proposals: list[Proposal]) -> None:
    for proposal in proposals:
        search.tell(proposal, Evaluation({"a": 1.0}))


def names(proposals: list[Proposal]) -> list[str]:
    return [proposal.genotype for proposal in proposals]


def test_what_was_seen_before_is_not_handed_out_again() -> None:
    search = scripted(["00", "01"], ["01", "10"])
    first = search.ask()
    assert names(first) == ["00", "01"]
    tell_all(search, first)
    assert names(search.ask()) == ["10"]


def test_a_genotype_proposed_twice_in_a_round_is_handed_out_once() -> None:
    assert names(scripted(["00", "01", "00"]).ask()) == ["00", "01"]


def test_a_limit_cuts_a_round_short_and_the_course_goes_on() -> None:
    search = scripted(["00", "01"], ["10"])
    first = search.ask(1)
    assert names(first) == ["00"]
    tell_all(search, first)
    assert names(search.ask()) == ["10"]
    assert "01" not in search.history


def test_asking_before_telling_is_an_error_that_names_what_waits() -> None:
    search = scripted(["00", "01"])
    waiting = search.ask()
    tell_all(search, waiting[:1])
    with pytest.raises(RuntimeError, match=r"ask\(\) before tell\(\): 1 candidates still wait .* the first is '01'"):
        search.ask()


def test_telling_what_was_not_asked_is_an_error() -> None:
    search = scripted(["00"])
    with pytest.raises(RuntimeError, match=r"tell\(\) without ask\(\): '11' is not waiting"):
        search.tell(Proposal("11"), Evaluation({"a": 1.0}))


def test_a_proposal_whose_evaluation_lacks_a_metric_still_waits() -> None:
    search = scripted(["00"])
    (proposal,) = search.ask()
    with pytest.raises(KeyError, match="a"):
        search.tell(proposal, Evaluation({}))
    assert search.tell(proposal, Evaluation({"a": 1.0})).values == {"a": 1.0}


def test_telling_twice_is_an_error() -> None:
    search = scripted(["00"])
    (proposal,) = search.ask()
    tell_all(search, [proposal])
    with pytest.raises(RuntimeError, match="'00' is not waiting"):
        search.tell(proposal, Evaluation({"a": 1.0}))


def test_candidates_may_be_told_in_any_order() -> None:
    search = scripted(["00", "01"], ["10"])
    tell_all(search, search.ask()[::-1])
    assert [c.genotype for c in search.history] == ["01", "00"]
    assert names(search.ask()) == ["10"]


def test_a_search_is_exhausted_after_its_patience() -> None:
    search = scripted(["00"])
    tell_all(search, search.ask())
    assert not search.exhausted
    assert search.ask() == []
    assert search.exhausted
    assert search.ask() == []


def test_a_new_candidate_renews_the_patience() -> None:
    search = scripted(["00"], *[["00"]] * (PATIENCE - 1), ["01"], *[["00"]] * (PATIENCE - 1), ["10"])
    for expected in ("00", "01", "10"):
        proposals = search.ask()
        assert names(proposals) == [expected]
        tell_all(search, proposals)


def test_a_search_that_never_finds_a_feasible_candidate_says_which_bounds_are_in_the_way() -> None:
    terms = [
        Objective("a"),
        Objective("params", role="constraint", lower=1.0, upper=2.5, unit="M"),
        Objective("latency", role="constraint", upper=3.0),
    ]
    search = RandomSearch(BitSpace(2), terms)
    with pytest.raises(NothingFeasible) as error:  # noqa: PT012 - the search takes several rounds to find out
        while True:
            for proposal in search.ask():
                search.tell(proposal, Evaluation({"params": 9.0}))
    assert str(error.value) == (
        "none of 4 candidates is within the constraints (params >= 1 and <= 2.5 M; latency <= 3); loosen a bound"
    )


def test_front_is_that_of_the_history() -> None:
    search = scripted(["00", "01"])
    assert search.front() == []
    for proposal, value in zip(search.ask(), (1.0, 2.0), strict=True):
        search.tell(proposal, Evaluation({"a": value}))
    assert [c.genotype for c in search.front()] == ["01"]
