"""JSON Schemas for editors and programs: :func:`config_schema`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from inspect import Parameter
from typing import Any

from pydantic import TypeAdapter

from freerea_patch import Budget, Search, algorithm_options, find_algorithm
from freerea_patch.algorithms import ALGORITHMS
from freerea_patch.spaces import SPACES
from freerea_seval.config import Config, LiveSettings, MetricSection, ObjectiveSection, SearchSection
from freerea_seval.config.presets import PRESETS
from freerea_seval.config.schema import ENGINES, RefineSection
from freerea_seval.sources.registry import BUILTIN

Schema = dict[str, Any]
#: The version that editors know best.
DIALECT = "http://json-schema.org/draft-07/schema#"
_SECTIONS = (Config, SearchSection, Budget, ObjectiveSection, MetricSection, LiveSettings, RefineSection)
_ENTRY = re.compile(r"^    (?P<names>\w+(?:, \w+)*): (?P<text>.*(?:\n {5,}.*)*)", re.MULTILINE)
#: A reference to a name of the code, which leads nowhere for the reader of a schema.
_SEE = re.compile(r"[;,]? ?\bsee :\w+:`[^`]*`")
_ROLE = re.compile(r":\w+:`~?(?:[\w.]+\.)?(\w+)`")
_PRESETS = {
    "guided": "metrics that need no training and rank networks best, with the options of the loop that go with them",
    "published": "FreeREA's three metrics and options, as published",
}


def config_schema() -> Schema:
    """Return the JSON Schema of a config: its keys with their types, defaults and descriptions.

    It says what an editor can know. What depends on files, on installed packages or on several keys at once is checked
    by :func:`freerea_seval.check`.
    """
    schema = Config.model_json_schema()
    sections: dict[str, Schema] = {**schema["$defs"], "Config": schema}
    for section in _SECTIONS:
        described = sections[section.__name__]
        described.pop("title")  # the name of the class
        described["description"] = summary_of(section)
        for name, text in descriptions_of(section).items():
            if name in described["properties"]:
                described["properties"][name]["description"] = text
    schema["properties"]["space"] = {**_space(), "description": schema["properties"]["space"]["description"]}
    sections["LiveSettings"]["properties"]["cache"]["anyOf"].append({"const": False})  # YAML's bare off
    _add_options(sections["SearchSection"])
    for name in ("MetricSection", "ObjectiveSection"):
        _add_sources(sections[name])
    # A preset brings objectives of its own.
    schema["required"] = ["budget"]
    least = schema["properties"]["objectives"].pop("minItems")
    schema["anyOf"] = [
        {"required": ["objectives"], "properties": {"objectives": {"minItems": least}}},
        {"required": ["search"], "properties": {"search": {"required": ["preset"]}}},
    ]
    return {"$schema": DIALECT, "title": "Config of freerea-seval", **schema}


def summary_of(cls: type) -> str:
    """Return the first paragraph of a class's docstring as plain text."""
    return plain((inspect.getdoc(cls) or "").partition("\n\n")[0])


def descriptions_of(cls: type) -> dict[str, str]:
    """Return what the docstrings of a class and of the classes before it say of arguments and attributes, by name."""
    texts: dict[str, str] = {}
    for base in cls.__mro__:
        for entry in _ENTRY.finditer(inspect.cleandoc(base.__doc__ or "")):
            for name in entry["names"].split(", "):
                text = plain(entry["text"])
                if text != ".":  # a reference to the description of another class
                    texts.setdefault(name, text)
    return texts


def plain(text: str) -> str:
    """Return a text of a docstring on one line in the words of JSON, without references and marks."""
    text = _ROLE.sub(r"\1", _SEE.sub("", " ".join(text.split()))).replace("``", "")
    return re.sub(r"\bNone\b", "null", text)


def _choices(texts: Mapping[str, str]) -> list[Schema]:
    """Return one schema a value, with the description that an editor shows beside it."""
    return [{"const": value, "description": text} if text else {"const": value} for value, text in texts.items()]


def _space() -> Schema:
    names = _choices(dict.fromkeys((name for name in SPACES if name != "transformers"), ""))
    name = {"anyOf": [*names, {"type": "string"}]}
    options = {
        "name": name,
        "dataset": {"type": "string", "description": "of a built-in space, such as cifar10, cifar100"},
        "only": {"type": "string", "description": "table (CSV) whose rows the search is limited to"},
    }
    transformers: Schema = {
        "transformers": {"type": ["string", "object"], "description": "config.json, its folder, or a model type"},
        "vary": {
            "type": "object",
            "description": "keys of the config, each with its values",
            "additionalProperties": {"type": "array", "minItems": 1},
        },
        "task": {"type": "string", "description": "such as causal-lm; by default that of the config"},
        "context": {"type": "integer", "description": "tokens of an input"},
        "image_size": {"type": "integer", "description": "of images, where the config does not say"},
        "only": options["only"],
    }
    return {
        "anyOf": [
            *name["anyOf"],
            {"type": "object", "required": ["name"], "properties": options},
            {"type": "object", "required": ["transformers", "vary"], "properties": transformers},
        ]
    }


def _add_options(section: Schema) -> None:
    """Add the preset and the options of the built-in algorithms; those of others are free."""
    properties = section["properties"]
    names = {name: "" if isinstance(cls, str) else summary_of(cls) for name, cls in ALGORITHMS.items()}
    engines = dict.fromkeys(ENGINES, "of another library, which has to be installed")
    properties["algorithm"]["anyOf"] = [*_choices({**names, **engines}), {"type": "string"}]
    properties["preset"] = {
        "anyOf": [*_choices({name: _PRESETS.get(name, "") for name in PRESETS}), {"type": "null"}],
        "description": "objectives that guide the search without training, added behind those of the config, and"
        " options of the algorithm",
    }
    options: dict[str, Schema] = {}
    for name in ALGORITHMS:
        for option, schema in _options(find_algorithm(name)):
            if options.setdefault(option, schema) != schema:
                options[option].pop("default", None)  # the algorithms have defaults of their own
    properties.update(options)
    section["if"] = {"properties": {"algorithm": {"enum": list(ALGORITHMS)}}}
    section["then"] = {"propertyNames": {"enum": list(properties)}}


def _options(algorithm: type[Search]) -> Iterator[tuple[str, Schema]]:
    texts = descriptions_of(algorithm)
    for name, parameter in algorithm_options(algorithm).items():
        schema = TypeAdapter[Any](parameter.annotation).json_schema()
        default = {} if parameter.default is Parameter.empty else {"default": parameter.default}
        if default.get("default") == ():
            default["default"] = []  # as JSON has it
        text = texts.get(name, "")
        yield name, {"anyOf": [*schema.get("anyOf", [schema]), {"type": "null"}], "description": text, **default}


def _add_sources(section: Schema) -> None:
    """Add the built-in sources, and for each of them its metrics."""
    plain_names = {record.name: record.origin for record in BUILTIN.values() if not record.argument}
    arguments = {r.name: {"description": f"{r.origin}; {r.argument}"} for r in BUILTIN.values() if r.argument}
    section["properties"]["source"]["anyOf"] = [
        *_choices(plain_names),
        {"type": "string"},
        {"type": "object", "minProperties": 1, "maxProperties": 1, "properties": arguments},
    ]
    section["allOf"] = []
    for record in BUILTIN.values():
        if record.metrics:
            source: Schema = (
                {"type": "object", "required": [record.name]} if record.argument else {"const": record.name}
            )
            metrics = {info.name: f"{info.description}{info.unit and f' [{info.unit}]'}" for info in record.metrics}
            section["allOf"].append(
                {
                    "if": {"properties": {"source": source}},
                    "then": {"properties": {"metric": {"anyOf": _choices(metrics)}}},
                }
            )
