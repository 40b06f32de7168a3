"""The mistakes of a config in one line: the key, what was expected there, and what came."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, get_args

from freerea_patch import unknown_name

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

#: What pydantic expected, by the type of its error; the names in braces are of the error's context.
_EXPECTED: Mapping[str, str] = {
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "a number"),
    "finite_number": "a finite number",
    "string_type": "a text",
    **dict.fromkeys(("bool_type", "bool_parsing"), "true or false"),
    **dict.fromkeys(("list_type", "tuple_type", "sequence_str"), "a list"),
    **dict.fromkeys(("dict_type", "mapping_type", "model_type", "dataclass_type"), "keys with values"),
    "literal_error": "{expected}",
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "too_short": "a list of at least {min_length}",
    "too_long": "a list of at most {max_length}",
}
_SECTIONS = ("model_type", "dataclass_type")
_UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")


def describe(error: ValidationError, root: type, parent: Sequence[str] = ()) -> str:
    """Return the first mistake, with the valid keys for an unknown one.

    Args:
        error: of pydantic.
        root: the class of the whole config.
        parent: the keys that lead to the checked value.
    """
    problems = error.errors(include_url=False)
    # A misspelt key is often also reported as a missing one; the misspelling is more helpful.
    problem = min(problems, key=lambda p: p["type"] not in _UNKNOWN)
    path = _path(problem, parent)
    key = ".".join(path)
    if problem["type"] in _UNKNOWN:
        section = ".".join(path[:-1])
        return str(unknown_name(f"key{f' in {section}' if section else ''}", path[-1], _keys_at(root, path[:-1])))
    if problem["type"] == "missing":
        return f"{key}: is missing"
    # A value that may be of several types has a problem with each.
    several = [p for p in problems if _path(p, parent) == path and p["type"] in _EXPECTED]
    value = problem.get("input")
    if several:
        expected = dict.fromkeys(_expected(p) for p in several)
        keys = f" ({', '.join(_keys_at(root, path))})" if problem["type"] in _SECTIONS else ""
        return f"{key}: expected {' or '.join(expected)}{keys}, got {_received(value)}"
    message = problem["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    received = f", got {_received(value)}" if value is None or isinstance(value, (str, int, float)) else ""
    return f"{key}: {message}{received}" if key else f"{message}{received}"


def _path(problem: ErrorDetails, parent: Sequence[str]) -> list[str]:
    """Return the keys that lead to a problem, without those that pydantic adds for one of several types."""
    return [*parent, *(str(step) for step in problem["loc"] if step not in ("str", "dict[str,any]"))]


def _expected(problem: ErrorDetails) -> str:
    context = {name: f"{v:g}" if isinstance(v, float) else v for name, v in problem.get("ctx", {}).items()}
    return _EXPECTED[problem["type"]].format(**context)


def _received(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return "keys with values"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"a list of {len(value)}"
    return f"{value!r:.80}"


def _keys_at(root: type, path: Sequence[str]) -> list[str]:
    """Return the keys of the section at a path."""
    section: Any = root
    for step in path:
        if step.isdigit():
            continue
        annotation = section.model_fields[step].annotation
        classes = (annotation, *get_args(annotation))
        section = next((c for c in classes if hasattr(c, "model_fields") or is_dataclass(c)), None)
        if section is None:
            return []
    return [f.name for f in fields(section)] if is_dataclass(section) else list(section.model_fields)
