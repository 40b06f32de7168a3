"""The schema of a search config. An unknown key is an error; only ``search`` takes keys that an algorithm defines."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from freerea_patch import Budget, Objective

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Side = Literal["lower", "upper"]
#: Columns of every result; a metric cannot have these names.
RESERVED = ("#", "genotype", "score", "seed")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SearchSection(BaseModel):
    """The algorithm and the seeds; every other key is an option of the algorithm.

    An option that is left out or null has the algorithm's default. Options are checked when the algorithm is known: see
    :func:`freerea_seval.config.load.resolve_algorithm`.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    algorithm: str = "freerea"
    seeds: list[Annotated[int, Field(ge=0)]] = Field(default=[0], min_length=1)

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("a seed is listed twice")
        return seeds

    def options(self) -> dict[str, Any]:
        """Return the options of the algorithm that are set."""
        return {name: value for name, value in (self.model_extra or {}).items() if value is not None}


class LiveSettings(_Section):
    """Settings of metric sources that compute on live networks.

    Attributes:
        batch: the images: ``random``, ``FILE.npz`` or ``pkg.module:callable``; see
            :func:`freerea_patch.training_free.load_batch`.
        batch_size: number of images.
        initialisations: number of random initialisations over which the training-free metrics are averaged.
        seed: of initialisations and noise.
        device: of torch.
        threads: CPU threads of torch; None leaves torch's default.
        cache: file of metric values, ``off``, or None for the file in the user's cache folder.
    """

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
    """A metric and its source, which supplies the unit and the direction if they are left out."""

    metric: str
    source: str | dict[str, Any]
    name: str | None = None
    unit: str | None = None
    direction: Literal["max", "min"] | None = None

    @field_validator("source")
    @classmethod
    def _one_source(cls, source: str | dict[str, Any]) -> str | dict[str, Any]:
        if isinstance(source, dict) and len(source) != 1:
            raise ValueError("expected the name of a source, or one 'name: argument'")
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
        """The argument of the source, None if it has none."""
        return None if isinstance(self.source, str) else next(iter(self.source.values()))


class ObjectiveSection(MetricSection):
    """A metric that the search optimises or bounds; see :class:`freerea_patch.Objective`.

    With ``confidence``, a constraint requires that the true value is within the bounds with this probability, in
    addition to the predicted value. The predictor's own bound of the value is recorded as ``NAME_lower`` or
    ``NAME_upper`` and constrained as well.
    """

    role: Literal["fitness", "constraint", "pareto"] = "fitness"
    weight: Positive = 1.0
    min: Finite | None = None
    max: Finite | None = None
    confidence: Annotated[float, Field(ge=0.5, lt=1)] | None = None

    @model_validator(mode="after")
    def _only_constraints_have_confidence(self) -> ObjectiveSection:
        if self.confidence is not None and self.role != "constraint":
            raise ValueError(f"'confidence' belongs to role 'constraint', not {self.role!r}")
        return self

    @property
    def confident_sides(self) -> dict[Side, float]:
        """The sides that are bounded with confidence, and the probability with which each bound must hold."""
        if self.confidence is None:
            return {}
        bounds: dict[Side, float | None] = {"lower": self.min, "upper": self.max}
        sides = [side for side, bound in bounds.items() if bound is not None]
        # Two bounds hold jointly with the confidence if each fails with half of the probability (Bonferroni).
        return {side: 1 - (1 - self.confidence) / len(sides) for side in sides}

    def objectives(self) -> list[Objective]:
        """Return the objectives of a resolved section: the metric, then one for each of its confident sides.

        Raises:
            InputError: the role does not allow the bounds or the weight.
        """
        # A constraint needs no direction, because it has bounds.
        direction, unit, source = self.direction or "max", self.unit or "", self.source_name
        metric = Objective(self.column, direction, self.role, self.weight, self.min, self.max, unit, source)
        terms = [metric]
        for side in self.confident_sides:
            lower, upper = (self.min, None) if side == "lower" else (None, self.max)
            terms.append(replace(metric, name=f"{self.column}_{side}", lower=lower, upper=upper))
        return terms


class Config(_Section):
    """The config of a search, which may have several seeds."""

    space: str | dict[str, Any] = "nats-tss"
    search: SearchSection = SearchSection()
    budget: Budget
    objectives: list[ObjectiveSection] = Field(min_length=1)
    report: list[MetricSection] = []
    live: LiveSettings = LiveSettings()

    @model_validator(mode="after")
    def _distinct_columns(self) -> Config:
        columns = [section.column for section in (*self.objectives, *self.report)]
        columns += [f"{section.column}_{side}" for section in self.objectives for side in section.confident_sides]
        for column in columns:
            if column in RESERVED:
                raise ValueError(f"{column!r} is a column of every result; give the metric another 'name'")
            if columns.count(column) > 1:
                raise ValueError(f"two metrics are recorded as {column!r}; give one of them another 'name'")
        return self
