"""Optuna: an evaluator as a study's objective, and its samplers as searches of ours."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

import numpy as np
import pytest

import freerea_seval as fs
from freerea_patch import Budget, Evaluation, InputError, Objective, Proposal, SearchResult, TopologySpace, run
from freerea_patch.history import pareto_fronts
from tests.freerea_patch.synthetic import BitSpace, Formulas, noise, objectives

optuna = pytest.importorskip("optuna")
from freerea_seval.integrations.optuna import OptunaGP, OptunaNSGA2, OptunaObjective, OptunaSearch, OptunaTPE  # noqa: E402

ENGINES = (OptunaTPE, OptunaNSGA2)
CONFIG: dict[str, Any] = {
    "budget": {"evaluations": 1},
    "objectives": [
        {"metric": "params", "source": "cost", "role": "pareto"},
        {"metric": "skip", "source": "training-free"},
        {"metric": "flops", "source": "cost", "role": "constraint", "max": 100},
    ],
}


class GeneSpace(BitSpace):
    """Bits as genes."""

    def choices(self) -> Mapping[str, Sequence[str]]:
        return {f"bit {i}": "01" for i in range(self.length)}

    def compose(self, genes: Mapping[str, str]) -> str:
        return "".join(genes[name] for name in self.choices())

    def genes(self, genotype: str) -> Mapping[str, str]:
        return dict(zip(self.choices(), genotype, strict=True))


def table() -> Formulas:
    return Formulas(ones=lambda g: g.count("1"), zeros=lambda g: -g.count("0"), limit=noise("limit"), a=noise("a"))


def search_bits(engine: type[OptunaSearch], *terms: Objective, evaluations: int = 40, seed: int = 0) -> SearchResult:
    bound = objectives(table(), *terms)
    search = engine(GeneSpace(12), bound.terms, population=8, seed=seed)
    return run(search, bound, Budget(evaluations=evaluations))


@pytest.mark.parametrize("engine", ENGINES)
def test_it_comes_nearer_to_the_best_network_than_random_search(engine: type[OptunaSearch]) -> None:
    result = search_bits(engine, Objective("ones"), Objective("zeros", weight=2.0))
    (best,) = result.front
    first = [c for c in result.history if c.generation < 8]
    assert len(result.history) == 40
    assert best.values["ones"] > max(c.values["ones"] for c in first)
    assert best.values["ones"] >= 10


@pytest.mark.parametrize("engine", ENGINES)
def test_a_constraint_directs_it_to_feasible_networks(engine: type[OptunaSearch]) -> None:
    limit = Objective("ones", "min", "constraint", upper=3)
    result = search_bits(engine, Objective("a"), limit, evaluations=20)
    everyone = list(result.history.all_candidates())
    share = sum(c.feasible for c in everyone[8:]) / len(everyone[8:])
    assert all(c.values["ones"] <= 3 for c in result.history)
    assert share > 3 * 299 / 4096  # of all networks, 299 of 4,096 are feasible
    assert all(set(c.values) == {"ones"} for c in everyone if not c.feasible)


def test_a_gaussian_process_takes_bounds_and_values_that_are_no_numbers() -> None:
    source = Formulas(ones=lambda g: g.count("1"), a=lambda g: math.nan if g[0] == "1" else noise("a")(g))
    bound = objectives(source, Objective("a"), Objective("ones", "max", "constraint", lower=5))
    search = OptunaGP(GeneSpace(12), bound.terms, population=8)
    while search.history.evaluated < 11:
        for proposal in search.ask():
            search.tell(proposal, next(iter(bound.evaluate([proposal.genotype]))))
    everyone = list(search.history.all_candidates())
    assert not all(c.feasible for c in everyone[:8])
    assert any(c.feasible for c in everyone[8:])


@pytest.mark.parametrize("engine", ENGINES)
def test_two_axes_give_a_front(engine: type[OptunaSearch]) -> None:
    result = search_bits(engine, Objective("zeros", role="pareto"), Objective("ones", "min", "pareto"))
    points = {(c.values["zeros"], c.values["ones"]) for c in result.front}
    assert len(points) >= 6  # of thirteen different points, all of which are on the front


def test_values_that_are_no_numbers_end_nothing() -> None:
    source = Formulas(a=lambda g: math.nan if g[0] == "1" else noise("a")(g), b=noise("b"))
    bound = objectives(source, Objective("a"), Objective("b", role="pareto"))
    result = run(OptunaTPE(GeneSpace(7), bound.terms, population=8), bound, Budget(evaluations=50))
    assert result.stopped == "budget"
    assert all(c.genotype[0] == "0" for c in result.front)


@pytest.mark.parametrize("engine", ENGINES)
def test_nothing_is_evaluated_twice_and_a_space_may_be_exhausted(engine: type[OptunaSearch]) -> None:
    source = table()
    bound = objectives(source, Objective("a"))
    result = run(engine(GeneSpace(4), bound.terms, population=4), bound, Budget(evaluations=1000))
    assert result.stopped == "exhausted"
    assert sorted(genotype for genotype, _ in source.asked) == sorted(f"{i:04b}" for i in range(16))


def test_the_course_depends_on_the_seed_and_not_on_how_many_are_taken_at_a_time() -> None:
    def course(limit: int | None, seed: int = 0) -> list[str]:
        bound = objectives(table(), Objective("a"), Objective("limit", role="constraint", upper=0.8))
        search = OptunaTPE(GeneSpace(9), bound.terms, population=8, seed=seed)
        while search.history.evaluated < 30:
            proposals = search.ask(limit)
            for proposal, evaluation in zip(proposals, bound.evaluate([p.genotype for p in proposals]), strict=True):
                search.tell(proposal, evaluation)
        return [c.genotype for c in search.history.all_candidates()][:30]

    assert course(None) == course(1) == course(3) != course(None, seed=1)


def test_what_was_evaluated_before_the_search_teaches_it() -> None:
    term = Objective("a", role="pareto")
    with_ones = {f"{i:08b}": float(f"{i:08b}".count("1")) for i in range(0, 256, 3)}
    search = OptunaTPE(GeneSpace(8), [term], population=8)
    for genotype, value in with_ones.items():
        search.history.add(Proposal(genotype, origin="given"), Evaluation({"a": value}))
    (first,) = search.ask()
    assert first.genotype not in with_ones
    assert first.genotype.count("1") >= 5  # not one of eight random networks to begin with


def test_genotypes_may_be_simplified() -> None:
    space = TopologySpace()
    bound = objectives(Formulas(a=noise("a")), Objective("a"))
    search = OptunaTPE(space, bound.terms, population=5, simplify=True)
    run(search, bound, Budget(evaluations=15))
    assert all(c.genotype == space.simplified(c.genotype) for c in search.history)


def test_optuna_says_nothing_and_its_own_level_of_messages_stays(capfd: pytest.CaptureFixture[str]) -> None:
    before = optuna.logging.get_verbosity()
    search_bits(OptunaTPE, Objective("a"), evaluations=10)
    assert capfd.readouterr() == ("", "")
    assert optuna.logging.get_verbosity() == before


def test_a_space_without_choices_is_refused_in_one_line() -> None:
    with pytest.raises(InputError, match="has no method choices and no compose and no genes, which engines"):
        OptunaTPE(BitSpace(4), [Objective("a")])
    with pytest.raises(InputError, match="population must be between 2 and 100000, got 1"):
        OptunaTPE(GeneSpace(4), [Objective("a")], population=1)


WRONG_SPACES: dict[str, tuple[str, Any, str]] = {
    "a list of choices": ("choices", lambda self: ["01"], "choices() returned ['01']; expected a mapping of names"),
    "no callable": ("choices", {"bit 0": "01"}, "has no method choices, which engines"),
    "a gene without values": ("choices", lambda self: {"bit 0": []}, "lists of different texts"),
    "no genes": ("choices", lambda self: {}, "lists of different texts"),
    "other genes": ("genes", lambda self, genotype: {"bit": "0"}, "expected for each gene of choices() one of its"),
    "other values": (
        "genes",
        lambda self, genotype: dict.fromkeys(self.choices(), "2"),
        "expected for each gene of choices() one of its values",
    ),
}


@pytest.mark.parametrize("case", WRONG_SPACES)
def test_genes_that_are_not_those_of_the_space_are_an_error_of_one_line(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    member, value, message = WRONG_SPACES[case]
    monkeypatch.setattr(GeneSpace, member, value)
    with pytest.raises(InputError, match=re.escape(message)) as error:
        # Of eight networks, the search soon proposes one again, and then a mutation of it.
        run(
            OptunaTPE(GeneSpace(3), [Objective("a")], population=4),
            objectives(table(), Objective("a")),
            Budget(evaluations=8),
        )
    assert "\n" not in str(error.value)


def test_a_composed_genotype_that_is_not_of_the_space_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def check(self: GeneSpace, genotype: str) -> None:
        raise InputError(f"{genotype} is not of this space")

    monkeypatch.setattr(GeneSpace, "check", check)
    with pytest.raises(InputError, match="is not of this space"):
        search_bits(OptunaTPE, Objective("a"))


def test_a_budget_may_end_within_a_large_population() -> None:
    source = table()
    bound = objectives(source, Objective("a"))
    run(OptunaNSGA2(GeneSpace(12), bound.terms, population=5000), bound, Budget(evaluations=20))
    assert len(source.asked) <= 32


def test_a_study_evaluates_what_our_search_evaluates() -> None:
    evaluator = fs.Evaluator.from_config(CONFIG)
    objective = OptunaObjective(evaluator)
    assert objective.directions == ["minimize", "maximize"]
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(directions=objective.directions, sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(objective, n_trials=12)
    assert len({trial.user_attrs["genotype"] for trial in study.trials}) == 12
    for trial in study.trials:
        row = evaluator([trial.user_attrs["genotype"]]).iloc[0]
        assert evaluator.space.genes(trial.user_attrs["genotype"]) == trial.params  # type: ignore[attr-defined]
        if row["feasible"]:
            assert trial.values == [row["params"], row["skip"]]
            assert set(trial.constraints.values()) == {0.0}
        else:
            assert trial.values == [math.inf, -math.inf]
            assert trial.constraints["flops"] == pytest.approx(row["flops"] / 100 - 1)
    assert {all(v == 0 for v in trial.constraints.values()) for trial in study.trials} == {True, False}


@pytest.mark.parametrize("space", [TopologySpace(), fs.SizeSpace(), fs.FBNetSpace()], ids=lambda space: space.kind)
def test_genotypes_of_the_built_in_spaces_are_made_of_genes(space: Any) -> None:
    rng = Random(0)
    for _ in range(20):
        genotype = space.sample(rng)
        genes = space.genes(genotype)
        assert space.compose(dict(reversed(genes.items()))) == genotype
        assert all(genes[name] in values for name, values in space.choices().items())
    name = next(iter(genes))
    for wrong in ({}, {**genes, name: "?"}, {**genes, "more": "0"}):
        with pytest.raises(InputError):
            space.compose(wrong)


def test_a_front_of_trials_is_that_of_their_points() -> None:
    result = search_bits(OptunaNSGA2, Objective("a", role="pareto"), Objective("ones", "min", "pareto"))
    everyone = list(result.history)
    points = np.array([(c.values["a"], -c.values["ones"]) for c in everyone])
    assert {c.genotype for c in result.front} == {
        everyone[i].genotype for i in np.flatnonzero(pareto_fronts(points) == 0)
    }
