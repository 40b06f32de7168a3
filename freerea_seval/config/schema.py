"""The shape of a search config. A key that is not here is an error, never ignored."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from freerea_patch import ALGORITHMS, Objective
from freerea_patch.history import Aggregation, Normalisation

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Side = Literal["lower", "upper"]
#: Columns of every result, which no metric can have.
RESERVED = ("#", "genotype", "score", "seed")
#: More than any search evaluates, and few enough for what counts them.
_MOST = 10**9


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SearchSection(_Section):
    """The algorithm and its options; an option left out has the algorithm's default."""

    algorithm: str = "freerea"
    population: int | None = None
    tournament: int | None = None
    n_random: int | None = None
    aggregation: Aggregation | None = None
    normalisation: Normalisation | None = None
    simplify: bool | None = None
    near_feasible: bool | None = None
    repair: int | None = None
    unseen: int | None = None
    start: tuple[str, ...] | None = None
    seeds: list[Annotated[int, Field(ge=0)]] = Field(default=[0], min_length=1)

    @field_validator("algorithm")
    @classmethod
    def _known(cls, algorithm: str) -> str:
        if algorithm not in ALGORITHMS:
            raise ValueError(f"expected one of: {', '.join(ALGORITHMS)}")
        return algorithm

    @field_validator("seeds")
    @classmethod
    def _different(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("a seed is listed twice")
        return seeds

    def options(self) -> dict[str, Any]:
        """Return the options that are given, as the algorithm takes them."""
        return self.model_dump(exclude={"algorithm", "seeds"}, exclude_none=True)


class BudgetSection(_Section):
    """When to stop; see :class:`freerea_patch.Budget`."""

    metric_seconds: Positive | None = None
    wall_seconds: Positive | None = None
    total_seconds: Positive | None = None
    evaluations: Annotated[int, Field(gt=0, le=_MOST)] | None = None

    @model_validator(mode="after")
    def _some_limit(self) -> BudgetSection:
        if not self.model_dump(exclude_none=True):
            raise ValueError(f"needs at least one of: {', '.join(type(self).model_fields)}")
        return self


class LiveSection(_Section):
    """How networks are computed on; see :class:`freerea_seval.sources.registry.LiveSettings`."""

    batch: str = "random"
    batch_size: Annotated[int, Field(ge=2)] = 64
    initialisations: Annotated[int, Field(ge=1)] = 3
    seed: Annotated[int, Field(ge=0)] = 0
    device: str = "cpu"
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    cache: str | None = None

    @field_validator("cache", mode="before")
    @classmethod
    def _off(cls, value: Any) -> Any:
        return "off" if value is False else value  # YAML reads a bare `off` as false


class MetricSection(_Section):
    """A metric and its source; what is left out, the source supplies."""

    metric: str
    source: str | dict[str, Any]
    name: str | None = None
    unit: str | None = None
    direction: Literal["max", "min"] | None = None

    @field_validator("source")
    @classmethod
    def _one_source(cls, source: str | dict[str, Any]) -> str | dict[str, Any]:
        if isinstance(source, dict) and len(source) != 1:
            raise ValueError("expected a source's name, or one 'name: argument'")
        return source

    @property
    def column(self) -> str:
        """The name under which the values are recorded."""
        return self.name or self.metric

    @property
    def source_name(self) -> str:
        """The registered name of the source."""
        return self.source if isinstance(self.source, str) else next(iter(self.source))

    @property
    def source_argument(self) -> Any:
        """What the source is made with, None if nothing."""
        return None if isinstance(self.source, str) else next(iter(self.source.values()))


class ObjectiveSection(MetricSection):
    """A metric that the search optimises or bounds; see :class:`freerea_patch.Objective`.

    With ``confidence``, a constraint asks for more than that a predicted value is within its bounds: the real one is to
    be so with that probability. For this, the source's own bound of the value is recorded beside it, as ``NAME_lower``
    or ``NAME_upper``, and constrained as well.
    """

    role: Literal["fitness", "constraint", "pareto"] = "fitness"
    weight: Positive = 1.0
    min: Finite | None = None
    max: Finite | None = None
    confidence: Annotated[float, Field(ge=0.5, lt=1)] | None = None

    @model_validator(mode="after")
    def _confidence_of_a_constraint(self) -> ObjectiveSection:
        if self.confidence is not None and self.role != "constraint":
            raise ValueError(f"'confidence' belongs to role 'constraint', not {self.role!r}")
        return self

    @property
    def promised(self) -> dict[Side, float]:
        """The sides that are bounded with confidence, and the probability that each is to hold with."""
        if self.confidence is None:
            return {}
        bounds: dict[Side, float | None] = {"lower": self.min, "upper": self.max}
        sides = [side for side, bound in bounds.items() if bound is not None]
        # If each of two fails with half of the probability, both hold together with the confidence (Bonferroni).
        return {side: 1 - (1 - self.confidence) / len(sides) for side in sides}

    def objectives(self) -> list[Objective]:
        """Return what the loop sees of a resolved section: the metric, then its promised sides.

        Raises:
            InputError: the bounds or the weight do not go with the role.
        """
        # A constraint may have no direction: it has bounds instead.
        direction, unit, source = self.direction or "max", self.unit or "", self.source_name
        metric = Objective(self.column, direction, self.role, self.weight, self.min, self.max, unit, source)
        terms = [metric]
        for side in self.promised:
            lower, upper = (self.min, None) if side == "lower" else (None, self.max)
            terms.append(replace(metric, name=f"{self.column}_{side}", lower=lower, upper=upper))
        return terms


class Config(_Section):
    """One search."""

    space: str | dict[str, Any] = "nats-tss"
    search: SearchSection = SearchSection()
    budget: BudgetSection
    objectives: list[ObjectiveSection] = Field(min_length=1)
    report: list[MetricSection] = []
    live: LiveSection = LiveSection()

    @model_validator(mode="after")
    def _different_columns(self) -> Config:
        columns = [section.column for section in (*self.objectives, *self.report)]
        columns += [f"{section.column}_{side}" for section in self.objectives for side in section.promised]
        for column in columns:
            if column in RESERVED:
                raise ValueError(f"{column!r} is a column of the result itself; give that metric another 'name'")
            if columns.count(column) > 1:
                raise ValueError(f"two metrics are recorded as {column!r}; give one of them another 'name'")
        return self
