"""From a string to its graph; :mod:`freerea_seval.strings.text.grammar` has the grammar."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from math import nan
from typing import NamedTuple

from freerea_patch import InputError
from freerea_seval.strings.graph.ir import Graph, Node, Ref, Shape, Spec, Value, Weight, node_macs, sorted_attributes
from freerea_seval.strings.graph.shape_inference import (
    BARE,
    CONVOLUTIONS,
    SINKS,
    WINDOWS,
    channels,
    infer_dtype,
    infer_results,
    infer_weights,
    spatial,
    window_defaults,
)
from freerea_seval.strings.text.expand import expand, shortened
from freerea_seval.strings.text.grammar import LARGEST, MOST_DIMENSIONS, Unread

_LABEL = re.compile(
    r"(?P<kind>[A-Za-z_][\w.]*)(?:\((?P<attributes>[^()\[\]\s]+)\))?(?:\[(?P<results>[\w:,]*|!)\])?", re.ASCII
)
_NUMBER = re.compile(r"-?(?:\d{1,400}(?:\.\d{1,400})?(?:e[+-]?\d{1,4})?|inf)|nan", re.ASCII)
_WORD = re.compile(r"[A-Za-z_][\w.+-]*", re.ASCII)
_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_WINDOW = re.compile(r"([kspdo])(\d{1,18}(?:x\d{1,18})*)", re.ASCII)
_GROUPS = re.compile(r"g(\d{1,18})", re.ASCII)
_RESULT = re.compile(r"(\d{1,18}(?:x\d{1,18})*)?(?::([A-Za-z]\w*))?", re.ASCII)
_REF = re.compile(r"(\d{1,18})(?:\.(\d{1,18}))?", re.ASCII)
_WEIGHT = re.compile(r"w(\d{1,18}(?:x\d{1,18})*)?(?::([A-Za-z]\w*))?(?:~(\d{1,18}))?", re.ASCII)


class _Said(NamedTuple):
    """What a token says before its operands."""

    kind: str
    attributes: tuple[str, ...]
    results: tuple[tuple[Shape, str | None], ...] | None


def read(string: str) -> Graph:
    """Return the graph of a string.

    Raises:
        InputError: not a string of this grammar; the message names the place.
    """
    if not isinstance(string, str):
        raise InputError(f"expected a network string, got {type(string).__name__}")
    nodes: list[Node] = []
    unread = Unread()
    for position, text in enumerate(expand(string)):
        try:
            node, refs = read_operation(text, position, nodes, unread)
        except InputError as error:
            raise InputError(f"operation {position + 1} of a network string, {shortened(text)}, {error}") from None
        nodes.append(node)
        unread.step(refs, position, node.outputs)
    outputs = sum(node.kind == "output" for node in nodes)
    if outputs != 1 or nodes[-1].kind != "output":
        raise InputError(
            f"a network string has one output, as its last operation; {shortened(string)} has {outputs}, and ends with"
            f" {nodes[-1].kind if nodes else ''!r}; expected something like 'input[1x3x32x32] relu output'"
        )
    return Graph(tuple(nodes))


def read_operation(text: str, position: int, nodes: Sequence[Node], unread: Unread) -> tuple[Node, list[Ref]]:
    """Return an operation behind others, and what it reads of them."""
    label, arrow, operands = text.partition("<-")
    said = _take_apart(label)
    bare = False  # no parameters
    refs: list[Ref] = []
    weights: list[Weight] = []
    inputs: list[Ref | Weight] = []
    if not arrow:
        refs = unread.default(said.kind, position)
        inputs += refs
    else:
        items, bare = _operands(operands)
        for item in items:
            if isinstance(item, Ref):
                ref = Ref(_position(item.node, position), item.port)
                refs.append(ref)
                inputs.append(ref)
            else:
                weights.append(item._replace(tied=None))
                inputs.append(item if item.tied is None else _tied(item, item.tied, position, nodes))
    specs = []
    for ref in refs:
        made = nodes[ref.node].outputs
        if ref.port >= len(made):
            raise InputError(f"reads result {ref.port} of {nodes[ref.node].kind!r}, which has {len(made)} (from 0)")
        specs.append(made[ref.port])
    order = tuple([isinstance(item, Ref) for item in inputs])
    attributes, outputs, more = _resolved(said, bare, tuple(specs), tuple(weights), order)
    return Node(said.kind, attributes, (*inputs, *more), outputs), refs


def _position(distance: int, position: int) -> int:
    if not 0 < distance <= position:
        raise InputError(f"reads {distance} before it; expected 1 to {position}")
    return position - distance


def _tied(item: Weight, distance: int, position: int, nodes: Sequence[Node]) -> Weight:
    node = _position(distance, position)
    if all(isinstance(other, Ref) for other in nodes[node].inputs):
        raise InputError(f"shares a parameter with {nodes[node].kind!r}, {distance} before it, which has none")
    return item._replace(tied=node)


@lru_cache(maxsize=65536)
def _take_apart(label: str) -> _Said:
    match = _LABEL.fullmatch(label)
    if match is None:
        raise InputError(
            "is no token; expected kind(attributes)[results]<-operands, such as 'conv(16,k3)', 'relu<-2' or 'add<-1,4'"
        )
    results = None
    if match["results"] is not None:
        if match["kind"] in SINKS:
            raise InputError(f"cannot have a result; write {match['kind']!r} without brackets")
        texts = () if match["results"] == "!" else match["results"].split(",")
        results = tuple(map(_result, texts))
    attributes = tuple(match["attributes"].split(",")) if match["attributes"] else ()
    return _Said(match["kind"], attributes, results)


@lru_cache(maxsize=65536)
def _operands(said: str) -> tuple[tuple[Ref | Weight, ...], bool]:
    """Return operands, with distances instead of positions, and whether there are no parameters."""
    items: list[Ref | Weight] = []
    texts = said.split(",") if said else []
    bare = texts[-1:] == ["!"]
    for operand in texts[:-1] if bare else texts:
        if match := _REF.fullmatch(operand):
            items.append(Ref(int(match[1]), int(match[2] or 0)))
        elif match := _WEIGHT.fullmatch(operand):
            items.append(Weight(_shape(match[1]), match[2] or "float32", int(match[3]) if match[3] else None))
        else:
            raise InputError(f"has an operand {shortened(operand)}; expected one such as 2, 2.1, w16x3 or w16~4")
    return tuple(items), bare


def _result(said: str) -> tuple[Shape, str | None]:
    match = _RESULT.fullmatch(said)
    if match is None:
        raise InputError(f"has a result {shortened(said)}; expected one such as 1x16x32x32 or 1x8:int64")
    return _shape(match[1]), match[2]


def _shape(sizes: str | None) -> Shape:
    return tuple(map(int, sizes.split("x"))) if sizes else ()


@lru_cache(maxsize=65536)
def _resolved(
    said: _Said, bare: bool, specs: tuple[Spec, ...], weights: tuple[Weight, ...], order: tuple[bool, ...]
) -> tuple[tuple[tuple[str, Value], ...], tuple[Spec, ...], tuple[Weight, ...]]:
    """Return attributes, results and the parameters that go without saying.

    Args:
        said: the token's beginning.
        bare: whether it has no parameters.
        specs, weights: what it reads.
        order: whether each operand is of the first.
    """
    attributes = _attributes(said, specs)
    outputs = infer_results(said.kind, attributes, specs, weights)
    if said.results is not None:
        dtype = infer_dtype(said.kind, specs, weights)
        outputs = tuple(Spec(shape, its or dtype) for shape, its in said.results)
    if outputs is None:
        raise InputError(
            "has a result that does not follow from its inputs; write its shape, such as 'relu[1x16x32x32]'"
        )
    more: tuple[Weight, ...] = ()
    if not weights and not bare and outputs:
        expected = infer_weights(said.kind, attributes, specs)
        more = tuple(Weight(shape, outputs[0].dtype) for shape in expected)
    left, right = iter(specs), iter((*weights, *more))
    shapes = [next(left).shape if made else next(right).shape for made in (*order, *(False for _ in more))]
    for shape in [*shapes, *(spec.shape for spec in outputs)]:
        if len(shape) > MOST_DIMENSIONS or not all(0 <= size <= LARGEST for size in shape):
            sizes = shortened("x".join(map(str, shape)))
            raise InputError(f"has a tensor of {sizes}; expected at most {MOST_DIMENSIONS} sizes of 0 to {LARGEST}")
    try:
        node_macs(Node(said.kind, tuple(attributes.items()), (), outputs), shapes)
    except (LookupError, TypeError, ValueError, ZeroDivisionError):
        sizes = ", ".join("x".join(map(str, shape)) for shape in shapes)
        raise InputError(f"cannot multiply what it reads, {sizes}; expected operands that fit it") from None
    return sorted_attributes(attributes), outputs, more


def _attributes(said: _Said, specs: Sequence[Spec]) -> dict[str, Value]:
    kind = said.kind
    windows: dict[str, tuple[int, ...]] = {}
    attributes: dict[str, Value] = {}
    width = channels(kind, specs)
    for text in said.attributes:
        name, equals, value = text.partition("=")
        sizes: tuple[int, ...] | None = None
        meant: Value
        if equals:
            if not _NAME.fullmatch(name):
                raise InputError(f"has an attribute named {shortened(name)}; expected a name such as 'dim'")
            meant = _value(value)
        elif kind in WINDOWS and (match := _WINDOW.fullmatch(text)):
            name, meant = match[1], (sizes := tuple(map(int, match[2].split("x"))))
        elif kind in CONVOLUTIONS and (match := _GROUPS.fullmatch(text)):
            name, meant = "g", int(match[1])
        elif text == "dw" and width is not None:
            name, meant = "g", width
        elif text in ("b", "plain"):
            name, meant = text, 1
        else:
            name, meant = BARE.get(kind, "other"), _value(text)
        if name in attributes or name in windows:
            raise InputError(f"says {name!r} twice")
        if sizes is None:
            attributes[name] = meant
        else:
            windows[name] = sizes
    if width is not None:
        attributes.setdefault("out", width)
    if windows:
        _fill_window(kind, attributes, windows, specs)
    return attributes


def _fill_window(
    kind: str, attributes: dict[str, Value], windows: dict[str, tuple[int, ...]], specs: Sequence[Spec]
) -> None:
    n = spatial(kind, specs[0].shape) if specs else 0
    whole = {name: sizes * n if len(sizes) == 1 else sizes for name, sizes in windows.items()}
    defaults = window_defaults(kind, whole.get("k"), whole.get("d"), specs)
    if defaults is None or any(len(sizes) != n for sizes in whole.values()) or not defaults.keys() >= whole.keys():
        raise InputError(
            f"has a window that does not fit its input of {len(specs[0].shape) if specs else 0} dimensions;"
            f" expected k, and one size or {n} for each"
        )
    groups = attributes.get("g", 1)
    if not isinstance(groups, int) or not 0 <= groups <= LARGEST:
        raise InputError(f"has groups {shortened(str(groups))}; expected a number such as g4, or dw")
    for name, value in (defaults | whole).items():
        if value is not None and not (name == "g" and "g" in attributes):
            attributes[name] = value


def _value(text: str) -> Value:
    numbers = text.split(":")
    if all(_NUMBER.fullmatch(number) for number in numbers):
        values = tuple(map(_number, numbers))
        return values if len(values) > 1 else values[0]
    if _WORD.fullmatch(text):
        return text
    raise InputError(f"has a value {shortened(text)}; expected a number, numbers such as 2:3, or a word")


def _number(text: str) -> int | float:
    if text.lstrip("-").isdigit():
        return int(text)
    value = float(text)
    if value != value:
        return nan  # the same object, so that graphs are equal
    return int(value) if value.is_integer() and abs(value) < 2**53 else value
