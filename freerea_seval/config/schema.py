"""The config of a search: its schema, and reading it from YAML with overrides.

An unknown key is an error; only ``search`` takes keys that an algorithm defines. Every mistake is one line that names
the key.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from inspect import Parameter
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PydanticSchemaGenerationError,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from freerea_patch import (
    ALGORITHMS,
    Budget,
    InputError,
    Objective,
    Role,
    Search,
    SearchSpace,
    algorithm_options,
    check_option_names,
    find_algorithm,
    importable_from,
    unknown_name,
)
from freerea_seval.config.mistakes import describe
from freerea_seval.config.presets import with_preset
from freerea_seval.files import read_bounded

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
#: What every generator of random numbers takes as a seed, NumPy's too.
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Side = Literal["lower", "upper"]
#: A predictor learns from at least this number of networks; that of :mod:`freerea_seval.predictor`, which is not
#: imported to read a config.
FEWEST_TO_LEARN = 10
#: Networks are measured together at most: their names are one line of a log.
MOST_AT_ONCE = 2_000
#: A config has at most this number of objectives, and of metrics to report.
MOST_METRICS = 100
#: Columns of every result; a metric cannot have these names.
RESERVED = ("#", "genotype", "score", "seed")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SearchSection(BaseModel):
    """The algorithm and the seeds; every other key is an option of the algorithm.

    The key ``preset`` stands for options and objectives: see :mod:`freerea_seval.config.presets`.

    An option that is left out or null has the algorithm's default. Options are checked when the algorithm is known: see
    :func:`freerea_seval.config.schema.resolve_algorithm`.

    Attributes:
        algorithm: ``freerea``, ``freerea-ranked``, ``freerea-minus``, ``random``; another engine, such as
            ``optuna:tpe`` or ``pymoo:nsga2``; one of an installed package; or ``pkg.module:Class``.
        seeds: each is a search of its own in the same run folder.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    algorithm: str = "freerea"
    seeds: list[Seed] = Field(default=[0], min_length=1, max_length=10_000)

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("a seed is listed twice")
        return seeds

    def scoring(self) -> dict[str, Any]:
        """Return the options that are those of a :class:`freerea_patch.History`."""
        return {name: value for name, value in self.options().items() if name in ("aggregation", "normalisation")}

    def options(self) -> dict[str, Any]:
        """Return the options of the algorithm that are set."""
        return {name: value for name, value in (self.model_extra or {}).items() if value is not None}


class LiveSettings(_Section):
    """Settings of metric sources that compute on live networks.

    Attributes:
        batch: the images or tokens: ``random``, ``tokens``, ``FILE.npz`` or ``pkg.module:callable``; see
            :func:`freerea_patch.training_free.load_inputs`.
        batch_size: number of images or sequences.
        length: tokens of a sequence, 128 by default, within the space's context.
        initialisations: number of random initialisations over which the training-free metrics are averaged.
        seed: of initialisations and noise.
        device: of torch.
        threads: CPU threads of torch; None for one where metrics are computed or measured, torch's default elsewhere.
        cache: file of metric values, ``off``, or None for the file in the user's cache folder.
    """

    batch: str = "random"
    batch_size: Annotated[int, Field(ge=2, le=65_536)] = 64
    length: Annotated[int, Field(ge=2, le=1_048_576)] | None = None
    initialisations: Annotated[int, Field(ge=1, le=1_000)] = 3
    seed: Seed = 0
    device: str = "cpu"
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    cache: str | None = None

    @field_validator("cache", mode="before")
    @classmethod
    def _off(cls, value: Any) -> Any:
        return "off" if value is False else value  # YAML reads a bare `off` as false


class MetricSection(_Section):
    """A metric and its source, which supplies the unit and the direction if they are left out.

    Attributes:
        metric: its name in the source.
        source: the name of a source, or ``{name: argument}``.
        name: under which values are recorded; by default the metric's.
        unit: of the values, where the source does not know it.
        direction: which values are better, where the source does not know it.
        optional: leave the metric out where the space does not define it, such as skip in ``fbnet``.
    """

    metric: str
    source: str | dict[str, Any]
    name: str | None = None
    unit: str | None = None
    direction: Literal["max", "min"] | None = None
    optional: bool = False

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
    def is_learnable(self) -> bool:
        """Whether a predictor is to be trained on measurements that the search asks for."""
        argument = self.source_argument
        return self.source_name == "seval" and isinstance(argument, dict) and "predictor" not in argument

    @property
    def source_argument(self) -> Any:
        """The argument of the source, None if it has none."""
        return None if isinstance(self.source, str) else next(iter(self.source.values()))


class ObjectiveSection(MetricSection):
    """A metric that the search optimises or bounds; see :class:`freerea_patch.Objective`.

    A metric with the role ``guide`` is a fitness term until predictors of all metrics that select are trained; it needs
    the section ``refine``.

    With ``confidence``, a constraint requires that the true value is within the bounds with this probability, in
    addition to the predicted value. The predictor's own bound of the value is recorded as ``NAME_lower`` or
    ``NAME_upper`` and constrained as well.

    Attributes:
        role: ``fitness``: a term of the score; ``constraint``: bounds that hold inside the loop; ``pareto``: an axis of
            the front; ``guide``: a fitness term until predictors are trained, with the section ``refine``.
        weight: of a fitness term.
        min, max: inclusive bounds of a constraint, in the metric's unit.
        confidence: of a constraint on a predicted metric: the probability with which the true value is within the
            bounds.
    """

    role: Literal["fitness", "constraint", "pareto", "guide"] = "fitness"
    weight: Positive = 1.0
    min: Finite | None = None
    max: Finite | None = None
    confidence: Annotated[float, Field(ge=0.5, lt=1)] | None = None

    @model_validator(mode="after")
    def _keys_fit_the_role(self) -> ObjectiveSection:
        if self.optional and self.role == "constraint":
            raise ValueError("'optional' belongs to what a search optimises or reports, not to a constraint")
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

        A guide is returned as the fitness term that it is at first.

        Raises:
            InputError: the role does not allow the bounds or the weight.
        """
        # A constraint needs no direction, because it has bounds.
        direction, unit, source = self.direction or "max", self.unit or "", self.source_name
        role: Role = "fitness" if self.role == "guide" else self.role
        metric = Objective(self.column, direction, role, self.weight, self.min, self.max, unit, source)
        terms = [metric]
        for side in self.confident_sides:
            lower, upper = (self.min, None) if side == "lower" else (None, self.max)
            terms.append(replace(metric, name=f"{self.column}_{side}", lower=lower, upper=upper))
        return terms


class RefineSection(_Section):
    """Rounds of measuring: after each part of the budget, some of the networks that the search leads to are measured.

    Objectives with the source ``{seval: {measure: ...}}``, ``{seval: {ask: ...}}`` or ``{seval: {SOURCE: ...}}`` are
    measured. They may have a ``start`` and a ``networks`` of their own.

    Attributes:
        start: networks that are measured before the search.
        rounds: parts of the search, each followed by measurements.
        networks: networks that are measured after each part.
    """

    start: Annotated[int, Field(ge=FEWEST_TO_LEARN, le=MOST_AT_ONCE)] = 12
    rounds: Annotated[int, Field(ge=1, le=1_000)] = 3
    networks: Annotated[int, Field(ge=1, le=MOST_AT_ONCE)] = 12


class Config(_Section):
    """The config of a search, which may have several seeds.

    Attributes:
        space: the search space: ``nats-tss``, ``nats-sss`` or ``fbnet``, ``/DATASET`` behind it;
            ``pkg.module:Class``; or ``{name: ..., only: FILE.csv}`` with options of the space; or a config of
            transformers and values of its keys, ``{transformers: config.json, vary: {num_hidden_layers: [4, 6]}}``.
        search: the algorithm, its options, and the seeds.
        budget: when a search ends.
        objectives: what the search optimises and bounds.
        report: metrics that are evaluated for the final front only; the search never sees them.
        live: settings of metrics that are computed on networks.
        refine: rounds of measuring and learning during the search.
    """

    space: str | dict[str, Any] = "nats-tss"
    search: SearchSection = SearchSection()
    budget: Budget
    objectives: list[ObjectiveSection] = Field(min_length=1, max_length=MOST_METRICS)
    report: list[MetricSection] = Field(default=[], max_length=MOST_METRICS)
    live: LiveSettings = LiveSettings()
    refine: RefineSection | None = None

    @model_validator(mode="before")
    @classmethod
    def _with_preset(cls, tree: Any) -> Any:
        search = tree.get("search") if isinstance(tree, Mapping) else None
        return with_preset(tree, _options_of) if isinstance(search, Mapping) and "preset" in search else tree

    @property
    def whole_space(self) -> str | dict[str, Any]:
        """The space without its limitation to the rows of a table."""
        return self.space if isinstance(self.space, str) else {k: v for k, v in self.space.items() if k != "only"}

    @property
    def network_files(self) -> tuple[str, str, str]:
        """Names of files that a network can be exported to, its source first."""
        spec = self.whole_space
        is_transformers = isinstance(spec, dict) and spec.get("name", "transformers") == "transformers"
        return "config.json" if is_transformers else "network.py", "network.onnx", "network.pt2"

    @property
    def only(self) -> Any:
        """The table whose rows the search is limited to, relative to the config; None for the whole space."""
        return None if isinstance(self.space, str) else self.space.get("only")

    def is_learned(self, section: MetricSection) -> bool:
        """Whether a metric is measured during the search, in rounds, and predicted in between."""
        return self.refine is not None and section.is_learnable

    @property
    def selecting(self) -> list[ObjectiveSection]:
        """The objectives without guides, which do not determine the result."""
        return [section for section in self.objectives if section.role != "guide"]

    @model_validator(mode="after")
    def _refine_has_something_to_learn(self) -> Config:
        if self.refine is None:
            if any(section.role == "guide" for section in self.objectives):
                raise ValueError("role 'guide' needs 'refine', such as 'refine: {start: 12, rounds: 3, networks: 12}'")
            return self
        if not any(section.is_learnable for section in self.objectives):
            raise ValueError("'refine' needs an objective to measure, such as 'source: {seval: {measure: latency}}'")
        if not any(section.role in ("fitness", "pareto") for section in self.objectives):
            raise ValueError(
                "expected an objective with role 'fitness' or 'pareto': a guide does not decide the result"
            )
        if any(section.confidence for section in self.objectives):
            raise ValueError("with 'refine', what is presented was measured; remove 'confidence'")
        if any(section.is_learnable for section in self.report):
            raise ValueError("a metric of 'report' is not learned; take 'source: device', or make it an objective")
        if len(self.search.seeds) > 1:
            raise ValueError("'refine' takes one seed, because every seed would measure networks of its own")
        return self

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


def _options_of(algorithm: str) -> Container[str] | None:
    """Return the names of the options of an algorithm or engine that this project has, None for another one."""
    target = ENGINES.get(algorithm) or (algorithm if algorithm in ALGORITHMS else None)
    return None if target is None else algorithm_options(find_algorithm(target))


#: A config has at most this length, also with the defaults of all keys, and this number of values where its aliases are
#: written out, each within at most so many others; a number in it has at most so many characters, and 63 bits.
MOST_BYTES = 2**19
MOST_NODES = 100_000
MOST_DEPTH = 64
MOST_DIGITS = 64
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
#: Types of options that a config can record; another value can only be the default of an option.
_PLAIN = (str, bool, int, float, list, tuple, dict, type(None))
DEFAULT = Path(__file__).parent.parent / "configs" / "default.yaml"


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Return a checked config.

    Args:
        path: the YAML file.
        overrides: ``key.to.value=YAML``, such as ``budget.evaluations=50`` or ``objectives.0.max=12``.

    Raises:
        InputError: the file is missing, is not YAML, or does not fit the schema; an override is malformed.
    """
    try:
        text = read_bounded(path, MOST_BYTES).decode()
    except FileNotFoundError:
        raise InputError(f"config {path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"config {path}: cannot be read ({error})") from None
    tree = parse_yaml(text, f"config {path}")
    if not isinstance(tree, dict):
        kind = "nothing" if tree is None else type(tree).__name__
        raise InputError(f"config {path}: expected keys such as 'space' and 'objectives', got {kind}")
    return check_config(tree, f"config {path}", overrides)


def check_config(tree: dict[str, Any], where: str, overrides: Sequence[str] = ()) -> Config:
    """Return the config that a tree of plain values describes.

    Args:
        tree: the values by key; overrides change it.
        where: the origin of the tree, for error messages.
        overrides: as for :func:`load_config`.

    Raises:
        InputError: the first value that does not fit the schema, with its key; an override is malformed.
    """
    for override in overrides:
        _override(tree, override)
    _check_plain(tree, where)
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise InputError(f"{where}: {' '.join(describe(error, Config).split())}") from None


def dump_config(config: Config) -> str:
    """Return a config as YAML, with the defaults of all keys.

    Raises:
        InputError: it is longer than :func:`load_config` reads.
    """
    text = yaml.safe_dump(config.model_dump(), sort_keys=False, allow_unicode=True)
    if len(text.encode()) > MOST_BYTES:
        raise InputError(f"the config has more than {MOST_BYTES >> 10} KiB with the defaults of all keys; shorten it")
    return text


def _check_plain(value: Any, where: str, key: str = "", depth: int = 0) -> None:
    """Make sure that a file name can have the texts of a config, and libraries can take its numbers.

    Raises:
        InputError: a text with a null character or half of a surrogate pair; a number of more than 63 bits; values
            within each other deeper than :data:`MOST_DEPTH`.
    """
    problem = ""
    if isinstance(value, str) and ("\0" in value or re.search("[\ud800-\udfff]", value)):
        problem = f"{value!r:.80} has a character that no file name or text file can have"
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        problem = "a whole number has at most 63 bits"
    elif depth > MOST_DEPTH:
        problem = f"more than {MOST_DEPTH} values within each other"
    if problem:
        raise InputError(f"{where}: {' '.join(key.split())[:80]}: {problem}")
    if isinstance(value, Mapping):
        for name, item in value.items():
            _check_plain(name, where, key, depth)
            _check_plain(item, where, f"{key}.{name}" if key else str(name), depth + 1)
    elif isinstance(value, (list, tuple)):
        for number, item in enumerate(value):
            _check_plain(item, where, f"{key}.{number}", depth + 1)


def foreign_names(config: Config, space_alone: bool = False) -> list[str]:
    """Return what a config names to be imported, ``pkg.module:name``, to be connected to, or written, the cache.

    Args:
        config: the config.
        space_alone: leave out what only a search uses.
    """
    names: list[str] = []

    def collect(value: Any) -> None:
        if isinstance(value, (dict, list, tuple)):
            for item in value.values() if isinstance(value, dict) else value:
                collect(item)
        elif isinstance(value, str) and ":" in value:
            names.append(value)

    space = config.space
    # A config of transformers, and values of its keys, are only read.
    collect(space if isinstance(space, str) or "transformers" not in space else space.get("only"))
    if space_alone:
        return names
    collect([config.live.batch, *([] if config.search.algorithm in ENGINES else [config.search.algorithm])])
    sources = [section.source_argument for section in (*config.objectives, *config.report)]
    names += [f"ssh {argument['ssh']}" for argument in sources if isinstance(argument, dict) and "ssh" in argument]
    collect([section.source for section in (*config.objectives, *config.report)])
    cache = config.live.cache
    return list(dict.fromkeys([*names, *([] if cache in (None, "off") else [cache])]))


#: Search engines of other libraries, as algorithms, by the name that a config uses.
ENGINES: Mapping[str, str] = {
    "optuna:gp": "freerea_seval.integrations.optuna:OptunaGP",
    "optuna:nsga2": "freerea_seval.integrations.optuna:OptunaNSGA2",
    "optuna:tpe": "freerea_seval.integrations.optuna:OptunaTPE",
    "pymoo:nsga2": "freerea_seval.integrations.pymoo:NSGA2",
}


def _find_algorithm(name: str, base: Path) -> type[Search]:
    """Return an algorithm of a config by name, which may be that of an engine."""
    library = name.partition(":")[0]
    if name not in ENGINES and any(engine.partition(":")[0] == library for engine in ENGINES):
        raise unknown_name("engine", name, ENGINES)
    with importable_from(base):
        return find_algorithm(ENGINES.get(name, name), ENGINES)


def with_engine(section: SearchSection, engine: str, base: Path) -> tuple[SearchSection, list[str]]:
    """Return a section ``search`` with another algorithm, and the names of the options that this one does not take.

    Args:
        section: the section, whose options are kept where the other algorithm has them.
        engine: the other algorithm.
        base: the folder in which ``pkg.module:Class`` is searched first.

    Raises:
        InputError: an unknown algorithm, or an option that neither algorithm has.
    """
    takes = algorithm_options(_find_algorithm(engine, base))
    options, known = section.options(), algorithm_options(_find_algorithm(section.algorithm, base))
    for name in options:
        if name not in takes and name not in known:
            raise unknown_name(f"option of algorithm {engine!r}:", name, takes)
    kept = {name: value for name, value in options.items() if name in takes}
    other = SearchSection(algorithm=engine, seeds=section.seeds, **kept)
    return other, [name for name in options if name not in takes]


def resolve_algorithm(section: SearchSection, space: SearchSpace, base: Path) -> tuple[type[Search], SearchSection]:
    """Return the algorithm of a config, and the section with the defaults of all of its options.

    The types of options are checked against the annotations of the algorithm's constructor, and their values by
    :meth:`freerea_patch.Search.check_options`.

    Args:
        section: the section ``search``.
        space: the search space.
        base: the folder in which ``pkg.module:Class`` is searched first.

    Raises:
        InputError: an unknown algorithm or option, or a value that the option cannot have.
    """
    algorithm = _find_algorithm(section.algorithm, base)
    options = section.options()
    check_option_names(section.algorithm, algorithm, options)
    values = {name: _option_value(name, p, options) for name, p in algorithm_options(algorithm).items()}
    algorithm.check_options(space, **values)
    recorded = {name: value for name, value in values.items() if isinstance(value, _PLAIN)}
    return algorithm, SearchSection(algorithm=section.algorithm, seeds=section.seeds, **recorded)


def _option_value(name: str, parameter: Parameter, options: Mapping[str, Any]) -> Any:
    """Return the value of an option, converted to the annotated type, or its default."""
    if name not in options:
        return parameter.default
    try:
        adapter = TypeAdapter[Any](parameter.annotation, config=ConfigDict(arbitrary_types_allowed=True))
        return adapter.validate_python(options[name])
    except PydanticSchemaGenerationError:  # an annotation that pydantic cannot check
        return options[name]
    except ValidationError as error:
        raise InputError(describe(error, Config, ("search", name))) from None


class _Loader(yaml.SafeLoader):
    """The safe loader, with errors for duplicate keys, whose first value it would ignore, and for too many aliases."""

    def get_single_node(self) -> yaml.Node | None:
        node: yaml.Node | None = super().get_single_node()
        if node is not None:
            _count_nodes(node, {})
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError, OverflowError) as error:  # an impossible date, an empty !!int
            problem = f"no {node.tag.rpartition(':')[2]} ({error})"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from None

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    problem = f"{key.value!r} is a duplicate key"
                    raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def _count_nodes(node: yaml.Node, counts: dict[int, int]) -> int:
    """Return the number of a document's nodes with its aliases written out.

    Args:
        node: the document.
        counts: those of nodes that were counted before, by their id; 0 for a node around this one.

    Raises:
        ComposerError: there are more than :data:`MOST_NODES`, or a node is within itself.
        ComposerError: a number has more than :data:`MOST_DIGITS` characters.
    """
    if id(node) not in counts:
        counts[id(node)] = 0
        if isinstance(node, yaml.ScalarNode) and node.tag in _NUMBERS and len(node.value) > MOST_DIGITS:
            problem = f"a number of more than {MOST_DIGITS} characters"
            raise yaml.composer.ComposerError(None, None, problem, node.start_mark)
        children = node.value if isinstance(node, yaml.CollectionNode) else ()
        if isinstance(node, yaml.MappingNode):
            children = [child for pair in node.value for child in pair]
        counts[id(node)] = 1 + sum(_count_nodes(child, counts) for child in children)
    count = counts[id(node)]
    if not 0 < count <= MOST_NODES:
        problem = f"its aliases make more than {MOST_NODES} values" if count else "an alias of what it is part of"
        raise yaml.composer.ComposerError(None, None, problem, node.start_mark)
    return count


def parse_yaml(text: str, where: str) -> Any:
    """Return the plain values of YAML that cannot cost more than stated bounds.

    Raises:
        InputError: it is not YAML, or exceeds a bound.
    """
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - it is a safe loader
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # YAML of thousands of brackets, a !!map of a text
        mark = getattr(error, "problem_mark", None)
        position = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        raise InputError(f"{where}: not valid YAML{position}: {' '.join(problem.split())[:200]}") from None


def _override(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not (key and equals):
        raise InputError(f"--set {override!r:.80}: expected KEY=VALUE, such as budget.evaluations=50")
    value = parse_yaml(text, f"--set {override!r:.80}")
    *path, last = key.split(".")
    node: Any = tree
    for step in path:
        node = node.setdefault(step, {}) if isinstance(node, dict) else _item(node, step, override)
        if not isinstance(node, (dict, list)):
            raise InputError(f"--set {override!r:.80}: {step!r:.80} is a value and has no keys")
    if isinstance(node, list):
        _item(node, last, override)
        node[int(last)] = value
    else:
        node[last] = value


def _item(items: list[Any], step: str, override: str) -> Any:
    if not (step.isascii() and step.isdigit() and len(step) < 10 and int(step) < len(items)):
        raise InputError(
            f"--set {override!r:.80}: expected an item number from 0 to {len(items) - 1}, got {step[:40]!r}"
        )
    return items[int(step)]
