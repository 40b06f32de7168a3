"""The JSON Schema of a config is committed, describes every key, and knows what is right and what is wrong."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

import freerea_seval as fs
from freerea_patch import algorithm_options, find_algorithm
from freerea_patch.algorithms import ALGORITHMS
from freerea_seval.api.documents import schemas
from freerea_seval.config.presets import PRESETS
from freerea_seval.sources.registry import BUILTIN
from tests.freerea_seval.cli.test_mistakes import call

ROOT = Path(__file__).parents[2]
COMMITTED = ROOT / "freerea_seval" / "schemas" / "config.json"
EXAMPLES = [*sorted((ROOT / "experiments" / "configs").glob("*.yaml")), ROOT / "freerea_seval/configs/default.yaml"]
SCHEMA = fs.schema()
VALIDATOR = Draft7Validator(SCHEMA)


def test_the_committed_schema_is_that_of_the_code() -> None:
    assert json.loads(COMMITTED.read_text()) == SCHEMA, "run: freerea-seval schema -o freerea_seval/schemas/config.json"


def test_the_command_prints_the_schema_or_writes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("schema") == 0
    assert json.loads(capsys.readouterr().out) == SCHEMA
    assert call("schema", "-o", tmp_path / "config.json") == 0
    assert (tmp_path / "config.json").read_bytes() == COMMITTED.read_bytes()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_fits_the_schema_and_names_it_for_editors(path: Path) -> None:
    first, _, rest = path.read_text().partition("\n")
    assert first.startswith("# yaml-language-server: $schema=")
    assert (path.parent / first.partition("=")[2]).resolve() == COMMITTED
    assert not list(VALIDATOR.iter_errors(yaml.safe_load(rest)))


GOOD: dict[str, Any] = {
    "space": "nats-tss",
    "search": {"preset": "guided", "population": 9},
    "budget": {"evaluations": 5},
    "objectives": [{"metric": "params", "source": "cost", "role": "constraint", "max": 1}],
}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("space", {"name": "own:Space", "width": 3}),
        ("search", {"algorithm": "own:Search", "temperature": 3}),
        ("search", {"algorithm": "optuna:tpe"}),
        ("objectives", []),  # those of the preset
        ("objectives", [{"metric": "m", "source": {"table": "t.csv"}}]),
        ("objectives", [{"metric": "m", "source": "of-a-package"}]),
        ("live", {"cache": False}),
    ],
)
def test_what_is_right_fits(key: str, value: Any) -> None:
    assert not list(VALIDATOR.iter_errors(GOOD | {key: value}))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("serach", {}),
        ("search", {"populaton": 9}),
        ("search", {"preset": "best"}),
        ("search", {"preset": "guided", "population": "large"}),
        ("search", {"seeds": [-1]}),
        ("budget", {"evaluation": 5}),
        ("objectives", [{"metric": "parms", "source": "cost"}]),
        ("objectives", [{"metric": "m", "source": {"a": 1, "b": 2}}]),
        ("objectives", [{"metric": "params", "source": "cost", "role": "axis"}]),
        ("live", {"batch_size": 1}),
        ("refine", {"start": 3}),
    ],
)
def test_what_is_wrong_does_not_fit(key: str, value: Any) -> None:
    assert VALIDATOR.is_valid(GOOD)
    assert not VALIDATOR.is_valid(GOOD | {key: value})


def test_objectives_are_needed_without_a_preset() -> None:
    config = copy.deepcopy(GOOD)
    del config["objectives"]
    assert VALIDATOR.is_valid(config)
    del config["search"]["preset"]
    assert not VALIDATOR.is_valid(config)


def test_every_key_has_a_description_and_every_choice_is_offered() -> None:
    sections = {"Config": SCHEMA, **SCHEMA["$defs"]}
    for name, section in sections.items():
        assert section["description"], name
        for key, described in section["properties"].items():
            assert described.get("description"), f"{name}.{key}"
            assert ":class:" not in described["description"]
    options = sections["SearchSection"]["properties"]
    for algorithm in ALGORITHMS:
        assert set(algorithm_options(find_algorithm(algorithm))) <= set(options)
    text = json.dumps(SCHEMA)
    for preset in PRESETS:
        assert [c["description"] for c in options["preset"]["anyOf"] if c.get("const") == preset] != [""]
    for record in BUILTIN.values():
        for name in (record.name, *(info.name for info in record.metrics)):
            assert f'"{name}"' in text


@pytest.mark.parametrize("name", sorted(schemas()))
def test_texts_of_schemas_are_for_those_who_do_not_know_the_code(name: str) -> None:
    """They neither refer to its classes and functions, nor have Python's words."""
    schema = schemas()[name]
    classes = set(schema.get("$defs", {}))
    texts: list[str] = []

    def collect(part: Any) -> None:
        if isinstance(part, dict):
            texts.extend(part[key] for key in ("title", "description") if isinstance(part.get(key), str))
        for item in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
            collect(item)

    collect(schema)
    assert texts
    for text in texts:
        words = set(re.findall(r"\w+", text))
        assert not words & ({"None", "True", "False", "self"} | (classes - {"Budget"})), text
        assert not re.search(r"\bsee [A-Za-z]+_?\w*\.|``|:\w+:`", text), text
