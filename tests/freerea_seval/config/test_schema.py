"""Configs: what is read, what is filled in, and what is said about mistakes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from freerea_patch import InputError
from freerea_seval.config import DEFAULT, Config, check_config, dump_config, load_config
from freerea_seval.config.schema import MOST_BYTES, MOST_NODES

GOOD = """
space: nats-tss
budget: {evaluations: 10}
objectives:
  - {metric: naswot, source: training-free, role: fitness}
  - {metric: latency, source: {table: a.csv}, role: constraint, max: 5, unit: ms}
"""


def load(tmp_path: Path, text: str, *overrides: str) -> object:
    return load_config(write(tmp_path, text), overrides)


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    return path


def test_a_good_config_is_read_and_defaults_are_filled_in(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(GOOD)
    config = load_config(path)
    assert config.objectives[1].source_name == "table"
    assert config.objectives[1].source_argument == "a.csv"
    assert config.search.algorithm == "freerea"
    assert config.search.seeds == [0]


def test_a_dumped_config_reads_back_the_same(tmp_path: Path) -> None:
    config = load_config(DEFAULT)
    path = tmp_path / "again.yaml"
    path.write_text(dump_config(config))
    assert load_config(path) == config


def test_an_override_reaches_into_sections_and_lists(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(GOOD)
    config = load_config(path, ["budget.evaluations=3", "objectives.1.max=7.5", "search.population=4"])
    assert config.budget.evaluations == 3
    assert config.objectives[1].max == 7.5
    assert config.search.options() == {"population": 4}


def test_a_preset_stands_for_options_and_objectives(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, GOOD + "search: {preset: guided, population: 7, simplify: false}\n"))
    assert config.search.options() == {
        "aggregation": "log-ranks",
        "normalisation": "history",
        "simplify": False,
        "population": 7,
    }
    assert [s.column for s in config.objectives] == ["naswot", "latency", "independence", "size", "depth", "skip"]
    path = tmp_path / "again.yaml"
    path.write_text(dump_config(config))
    assert load_config(path) == config


def test_a_preset_alone_is_enough_to_search_for() -> None:
    config = check_config({"budget": {"evaluations": 5}, "search": {"preset": "published"}}, "config")
    assert [s.column for s in config.objectives] == ["naswot", "logsynflow", "skip"]
    assert config.search.options() == {}


def test_an_unknown_preset_is_named() -> None:
    with pytest.raises(InputError, match="unknown preset 'guide'; did you mean 'guided'"):
        check_config({"budget": {"evaluations": 5}, "search": {"preset": "guide"}}, "config")


def test_cache_off_may_be_written_as_yaml_writes_false(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(GOOD + "live: {cache: off}\n")
    assert load_config(path).live.cache == "off"


def test_a_constraint_with_confidence_constrains_what_its_source_promises_as_well(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(GOOD.replace("max: 5", "max: 5, confidence: 0.9"))
    section = load_config(path).objectives[1]
    assert section.confident_sides == {"upper": pytest.approx(0.9)}
    latency, upper = section.objectives()
    assert (latency.name, latency.lower, latency.upper) == ("latency", None, 5.0)
    assert (upper.name, upper.lower, upper.upper, upper.unit) == ("latency_upper", None, 5.0, "ms")

    lower = load_config(path, ["objectives.1.min=2", "objectives.1.max=null"]).objectives[1]
    assert [(o.name, o.lower, o.upper) for o in lower.objectives()] == [
        ("latency", 2.0, None),
        ("latency_lower", 2.0, None),
    ]


def test_two_bounds_share_what_confidence_leaves(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(GOOD.replace("max: 5", "min: 2, max: 5, confidence: 0.9"))
    section = load_config(path).objectives[1]
    assert section.confident_sides == {"lower": pytest.approx(0.95), "upper": pytest.approx(0.95)}
    assert [(o.name, o.lower, o.upper) for o in section.objectives()] == [
        ("latency", 2.0, 5.0),
        ("latency_lower", 2.0, None),
        ("latency_upper", None, 5.0),
    ]


def test_without_confidence_nothing_is_promised(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(GOOD)
    for section in load_config(path).objectives:
        assert section.confident_sides == {}
        assert [o.name for o in section.objectives()] == [section.metric]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "got nothing"),
        ("- 1\n- 2\n", "got list"),
        ("space: [", "not valid YAML at line 1"),
        ("a: !!python/object/apply:os.system [echo]", "not valid YAML"),
        (GOOD.replace("budget", "budgets"), "unknown key 'budgets'; did you mean 'budget'?"),
        (GOOD.replace("evaluations", "evaluation"), "unknown key in budget 'evaluation'; did you mean 'evaluations'?"),
        (GOOD.replace("role: fitness", "rolle: fitness"), "unknown key in objectives.0 'rolle'; did you mean 'role'?"),
        (
            GOOD.replace("role: fitness", "role: fitnes"),
            "objectives.0.role: expected 'fitness', 'constraint', 'pareto' or 'guide', got 'fitnes'",
        ),
        (
            GOOD.replace("evaluations: 10", "evaluations: -1"),
            "budget: evaluations must be a positive number, got -1",
        ),
        (GOOD.replace("{evaluations: 10}", "{}"), "budget: a budget needs at least one of: metric_seconds"),
        (GOOD.replace("max: 5", "max: .nan"), "objectives.1.max: expected a finite number, got nan"),
        (GOOD.replace("max: 5", "max: five"), "objectives.1.max: expected a number, got 'five'"),
        (
            GOOD.replace("{table: a.csv}", "{table: a.csv, python: b}"),
            "expected the name of a source, or one 'name: argument'",
        ),
        (GOOD.replace("metric: latency", "metric: naswot"), "two metrics are recorded as 'naswot'"),
        (GOOD.replace("metric: naswot, ", ""), "objectives.0.metric: is missing"),
        (
            GOOD.replace("role: fitness", "confidence: 0.9"),
            "objectives.0: 'confidence' belongs to role 'constraint', not 'fitness'",
        ),
        (
            GOOD.replace("max: 5", "max: 5, confidence: 90"),
            "objectives.1.confidence: expected less than 1, got 90",
        ),
        (
            GOOD.replace("max: 5", "max: 5, confidence: 0.4"),
            "objectives.1.confidence: expected at least 0.5, got 0.4",
        ),
        (
            GOOD.replace("max: 5", "max: 5, confidence: 0.9") + "report: [{metric: latency_upper, source: device}]",
            "two metrics are recorded as 'latency_upper'",
        ),
        (
            GOOD.replace("metric: naswot", "metric: naswot, name: genotype"),
            "'genotype' is a column of every result; give the metric another 'name'",
        ),
        (GOOD + "budget: {evaluations: 20}", "not valid YAML at line"),
        (GOOD + "budget: {evaluations: 20}", "'budget' is a duplicate key"),
        ("space: 2024-99-99", "not valid YAML at line 1, column 8: no timestamp (month must be in 1..12)"),
        ("space: !!timestamp x", "not valid YAML at line 1, column 8: no timestamp ("),
        ("space: !!int ''", "not valid YAML at line 1, column 8: no int ("),
        ("space: !!bool x", "not valid YAML at line 1, column 8: no bool ("),
        ("space: !!map x", "not valid YAML: "),
        ("space: 1" + ":10" * 500 + ".0", "not valid YAML at line 1, column 8: a number of more than 64 characters"),
        ("space: 0x" + "f" * 5000, "not valid YAML at line 1, column 8: a number of more than 64 characters"),
        (GOOD + "live: {seed: 9223372036854775808}", "live.seed: a whole number has at most 63 bits"),
        (GOOD + 'live: {cache: "a\\0b"}', r"live.cache: 'a\x00b' has a character that no file name or text file"),
        (GOOD + 'live: {batch: "\\ud800.npz"}', r"live.batch: '\ud800.npz' has a character that no file name or text"),
        (GOOD + 'live: {"\\ud800": 1}', r"live: '\ud800' has a character that no file name or text file"),
        (GOOD.replace("{table: a.csv}", f"{{table: {'[' * 65 + ']' * 65}}}"), "more than 64 values within each other"),
        ("[" * 5000, "not valid YAML"),
        (
            "budget: {evaluations: 1}\nobjectives: [" + "{metric: a, source: cost}, " * 101 + "]",
            "objectives: expected a list of at most 100, got a list of 101",
        ),
        (GOOD + "search: {seeds: [1, 1]}", "a seed is listed twice"),
        (GOOD + "live: {batch_size: 1}", "live.batch_size: expected at least 2, got 1"),
        ("budget: {evaluations: 1}\nobjectives: []", "objectives: expected a list of at least 1, got a list of 0"),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        load(tmp_path, text)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("budget", "expected KEY=VALUE"),
        ("objectives.7.max=1", "expected an item number from 0 to 1, got '7'"),
        ("space.x.y=1", "'space' is a value and has no keys"),
        ("budget.evaluations=[", "not valid YAML"),
        ("objectives.².max=1", "expected an item number from 0 to 1, got '²'"),
        ("objectives." + "1" * 5000 + ".max=1", "expected an item number from 0 to 1, got '1111"),
        ("objectives.1.max=" + "1" * 5000, "a number of more than 64 characters"),
    ],
)
def test_a_malformed_override_is_named(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(InputError, match="--set"):
        load(tmp_path, GOOD, override)
    with pytest.raises(InputError) as error:
        load(tmp_path, GOOD, override)
    assert message in str(error.value)


def test_a_missing_config_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere.yaml: no such file"):
        load_config(tmp_path / "nowhere.yaml")


def test_a_config_that_is_not_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot be read"):
        load_config(path)


def laughs(levels: int) -> str:
    """A document of ``levels`` lines that stands for ten to the power of ``levels`` values."""
    lines = ["a0: &a0 [" + ", ".join(["x"] * 10) + "]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, levels)]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    "text", [laughs(9), laughs(60), "search: {seeds: [0], start: &s [" + "x, " * MOST_NODES + "]}"]
)
def test_aliases_cannot_make_a_config_large(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match=r"not valid YAML at line .*: its aliases make more than 100000 values"):
        load(tmp_path, text + GOOD)


@pytest.mark.parametrize("text", ["a: &a [*a]\n", "a: &a {b: [1, {c: *a}]}\n", "a: &a\n  <<: *a\n"])
def test_a_config_within_itself_is_an_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match=r"not valid YAML at line 1, column .*: an alias of what it is part of"):
        load(tmp_path, text + GOOD)
    with pytest.raises(InputError, match=r"--set .*: an alias of what it is part of"):
        load(tmp_path, GOOD, f"search.start={text.split(':', 1)[1].strip()}")


def test_an_alias_may_be_used(tmp_path: Path) -> None:
    config = load(
        tmp_path, GOOD.replace("{table: a.csv}", "&table {table: a.csv}") + "report: [{metric: b, source: *table}]\n"
    )
    assert config.report[0].source == {"table": "a.csv"}  # type: ignore[attr-defined]


def test_a_config_has_a_bound(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"c.yaml: cannot be read \(.*more than 0.5 MiB\)"):
        load(tmp_path, GOOD + "#" * MOST_BYTES)


def test_a_batch_that_no_memory_holds_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"live.batch_size: expected at most 65536, got 1000000000"):
        load(tmp_path, GOOD + "live: {batch_size: 1000000000}\n")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("search.seeds=[4294967296]", "search.seeds.0: expected less than 4294967296, got 4294967296"),
        (f"search.seeds={list(range(10_001))}", "search.seeds: expected a list of at most 10000, got a list of 10001"),
        ("live.seed=4294967296", "live.seed: expected less than 4294967296"),
        ("live.initialisations=1001", "live.initialisations: expected at most 1000, got 1001"),
        ("live.batch_size=65537", "live.batch_size: expected at most 65536"),
        ("budget.evaluations=0", "budget: evaluations must be a positive number"),
    ],
)
def test_a_number_has_a_stated_bound(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load(tmp_path, GOOD, override)


def test_a_config_that_could_not_be_read_back_is_not_written(tmp_path: Path) -> None:
    config = load(tmp_path, GOOD + f"search: {{start: [{'aa,' * 90_000}]}}")
    with pytest.raises(InputError, match="more than 512 KiB with the defaults of all keys; shorten it"):
        dump_config(config)  # type: ignore[arg-type]


def test_a_config_from_python_has_the_same_bounds() -> None:
    tree = {"budget": {"evaluations": 1}, "objectives": [{"metric": "a", "source": "cost"}], "live": {"cache": "\0"}}
    with pytest.raises(InputError, match=r"config: live.cache: '\\x00' has a character"):
        check_config(tree, "config")
    inner: list[object] = []
    inner.append(inner)
    with pytest.raises(InputError, match="more than 64 values within each other"):
        check_config({**tree, "live": inner}, "config")


@pytest.mark.parametrize(
    ("space", "source"),
    [
        ("nats-tss", "network.py"),
        ("my_transformers:Space", "network.py"),
        ({"name": "gpt", "width": [64]}, "network.py"),
        ({"transformers": "vit", "vary": {"hidden_size": [32]}}, "config.json"),
    ],
)
def test_the_source_of_a_network_is_that_of_its_space(space: Any, source: str) -> None:
    objectives = [{"metric": "params", "source": "cost", "role": "pareto"}]
    config = Config.model_validate({"space": space, "budget": {"evaluations": 5}, "objectives": objectives})
    assert config.network_files == (source, "network.onnx", "network.pt2")
