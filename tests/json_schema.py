"""The part of JSON Schema that this project's schemas use, as a validator for tests."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "null": (type(None),),
    "integer": (int,),
    "number": (int, float),
}
#: Keywords that a validator ignores.
_NOTES = {"$schema", "$defs", "title", "description", "default", "$id"}


def errors(schema: Any, value: Any, root: Any = None, path: str = "$") -> Iterator[str]:
    """Yield what is wrong with a value; raise :class:`KeyError` for a keyword that is not implemented."""
    root = schema if root is None else root
    for keyword, argument in {} if isinstance(schema, bool) else schema.items():
        if keyword not in _NOTES and keyword not in ("then", "else"):
            yield from (f"{path}: {problem}" for problem in _KEYWORDS[keyword](argument, value, schema, root))
    if schema is False:
        yield f"{path}: nothing is allowed here"


def is_valid(schema: Any, value: Any, root: Any) -> bool:
    return not list(errors(schema, value, root))


def _is(kind: str, value: Any) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, _TYPES[kind]) or (kind == "integer" and isinstance(value, float) and value.is_integer())


def _type(kind: Any, value: Any, schema: Any, root: Any) -> Iterator[str]:
    if not any(_is(one, value) for one in ([kind] if isinstance(kind, str) else kind)):
        yield f"expected {kind}, got {value!r}"


def _same(a: Any, b: Any) -> bool:
    return a == b and isinstance(a, bool) == isinstance(b, bool)


def _all(parts: Any, value: Any, schema: Any, root: Any) -> Iterator[str]:
    for part in parts:
        yield from errors(part, value, root)


def _any(parts: Any, value: Any, schema: Any, root: Any) -> Iterator[str]:
    if not any(is_valid(part, value, root) for part in parts):
        yield f"{value!r} fits none of {len(parts)}"


def _if(condition: Any, value: Any, schema: Any, root: Any) -> Iterator[str]:
    yield from errors(schema.get("then" if is_valid(condition, value, root) else "else", True), value, root)


def _reference(target: str, value: Any, schema: Any, root: Any) -> Iterator[str]:
    part = root
    for step in re.sub(r"^#/", "", target).split("/"):
        part = part[step]
    yield from errors(part, value, root)


def _properties(properties: Any, value: Any, schema: Any, root: Any) -> Iterator[str]:
    for name, part in properties.items() if isinstance(value, dict) else ():
        if name in value:
            yield from errors(part, value[name], root, name)


def _additional(part: Any, value: Any, schema: Any, root: Any) -> Iterator[str]:
    for name in value if isinstance(value, dict) else ():
        if name not in schema.get("properties", {}):
            yield from errors(part, value[name], root, name)


def _items(part: Any, value: Any, schema: Any, root: Any) -> Iterator[str]:
    for number, item in enumerate(value if isinstance(value, list) else ()):
        yield from errors(part, item, root, str(number))


def _names(part: Any, value: Any, schema: Any, root: Any) -> Iterator[str]:
    for name in value if isinstance(value, dict) else ():
        yield from errors(part, name, root, f"key {name}")


def _bound(holds: Any, kind: Any) -> Any:
    def check(limit: Any, value: Any, schema: Any, root: Any) -> Iterator[str]:
        if isinstance(value, kind) and not isinstance(value, bool):
            size = value if isinstance(value, (int, float)) else len(value)
            if not math.isnan(size) and not holds(size, limit):
                yield f"{value!r} is out of bounds: {limit}"

    return check


_KEYWORDS: dict[str, Any] = {
    "type": _type,
    "const": lambda c, v, s, r: iter([] if _same(c, v) else [f"expected {c!r}, got {v!r}"]),
    "enum": lambda e, v, s, r: iter([] if any(_same(c, v) for c in e) else [f"expected one of {e}, got {v!r}"]),
    "anyOf": _any,
    "allOf": _all,
    "if": _if,
    "$ref": _reference,
    "properties": _properties,
    "additionalProperties": _additional,
    "items": _items,
    "propertyNames": _names,
    "required": lambda names, v, s, r: (f"lacks {n}" for n in names if isinstance(v, dict) and n not in v),
    "minimum": _bound(lambda a, b: a >= b, (int, float)),
    "maximum": _bound(lambda a, b: a <= b, (int, float)),
    "exclusiveMinimum": _bound(lambda a, b: a > b, (int, float)),
    "exclusiveMaximum": _bound(lambda a, b: a < b, (int, float)),
    "minItems": _bound(lambda a, b: a >= b, list),
    "maxItems": _bound(lambda a, b: a <= b, list),
    "minProperties": _bound(lambda a, b: a >= b, dict),
    "maxProperties": _bound(lambda a, b: a <= b, dict),
}
