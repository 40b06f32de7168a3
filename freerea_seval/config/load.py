"""Read a config: YAML, overrides, schema; every mistake becomes one line that names its place."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from freerea_patch import InputError
from freerea_patch.errors import unknown_name
from freerea_seval.config.schema import Config

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
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"config {path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"config {path}: cannot be read ({error})") from None
    tree = _parse(text, f"config {path}")
    if not isinstance(tree, dict):
        came = "nothing" if tree is None else type(tree).__name__
        raise InputError(f"config {path}: expected keys such as 'space' and 'objectives', got {came}")
    for override in overrides:
        _override(tree, override)
    return check_config(tree, f"config {path}")


def check_config(tree: dict[str, Any], where: str) -> Config:
    """Return the config that a tree of plain values describes.

    Raises:
        InputError: the first thing that does not fit, with its place.
    """
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise InputError(f"{where}: {_describe(error)}") from None


def dump_config(config: Config) -> str:
    """Return a config as YAML, every value given."""
    return yaml.safe_dump(config.model_dump(), sort_keys=False, allow_unicode=True)


class _Loader(yaml.SafeLoader):
    """The safe loader, which refuses a key that is there twice instead of forgetting the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} is there twice", key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def _parse(text: str, where: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - it is a safe loader
    except (ValueError, RecursionError) as error:  # an impossible date; thousands of brackets
        raise InputError(f"{where}: not valid YAML: {str(error).splitlines()[0]}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise InputError(f"{where}: not valid YAML{place}: {problem}") from None


def _override(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not (key and equals):
        raise InputError(f"--set {override!r}: expected KEY=VALUE, such as budget.evaluations=50")
    value = _parse(text, f"--set {override!r}")
    *path, last = key.split(".")
    place: Any = tree
    for step in path:
        place = place.setdefault(step, {}) if isinstance(place, dict) else _item(place, step, override)
        if not isinstance(place, (dict, list)):
            raise InputError(f"--set {override!r}: {step!r} is a value and has nothing inside it")
    if isinstance(place, list):
        _item(place, last, override)
        place[int(last)] = value
    else:
        place[last] = value


def _item(items: list[Any], step: str, override: str) -> Any:
    if not step.isdigit() or int(step) >= len(items):
        raise InputError(f"--set {override!r}: expected an item number from 0 to {len(items) - 1}, got {step!r}")
    return items[int(step)]


def _describe(error: ValidationError) -> str:
    """Return one problem as 'place: expected, got', with the valid keys for an unknown one."""
    # A misspelt key is often also a missing one; the misspelling is what helps.
    problem = min(error.errors(include_url=False), key=lambda p: p["type"] != "extra_forbidden")
    path = [str(step) for step in problem["loc"] if step not in ("str", "dict[str,any]")]
    place = ".".join(path)
    if problem["type"] == "extra_forbidden":
        parent = ".".join(path[:-1])
        return str(unknown_name(f"key{f' in {parent}' if parent else ''}", path[-1], _keys_at(path[:-1])))
    if problem["type"] == "missing":
        return f"{place}: is missing"
    message = problem["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    given = problem.get("input")
    shown = f", got {given!r}" if not isinstance(given, (dict, list, BaseModel)) else ""
    return f"{place}: {message}{shown}" if place else f"{message}{shown}"


def _keys_at(path: Sequence[str]) -> list[str]:
    """Return the keys that the schema knows at a place."""
    model: Any = Config
    for step in path:
        if step.isdigit():
            continue
        annotation = model.model_fields[step].annotation
        model = next((a for a in (annotation, *get_args(annotation)) if hasattr(a, "model_fields")), None)
        if model is None:
            return []
    return list(model.model_fields)
