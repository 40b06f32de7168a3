"""The grammar of network strings: a string lists a network's operations in the order of execution.

Words are separated by blanks, and one word is one operation. Five residual blocks on a CIFAR image read::

    input[1x3x32x32] conv(16,k3) bn 5*{ relu conv(k3) bn add<-4,1 } output

This is a 3x3 convolution with 16 output channels and a batch norm, followed by five repetitions of relu, convolution
and batch norm, whose result is added to the input of the repetition. In EBNF::

    string    = item { " " item }
    item      = [ count "*" ] ( operation | "{ " string " }" | "#" number )
    operation = kind [ "(" attribute { "," attribute } ")" ] [ "[" results "]" ] [ "<-" operands ]
    attribute = name "=" value
              | value                                   output channels or features (conv, deconv, linear, embedding);
                                                        for any other kind the scalar ``other`` of arithmetic
              | ( "k" | "s" | "p" | "d" | "o" ) sizes   kernel, stride, padding, dilation, output padding of a window
              | "g" size | "dw"                         groups of a convolution; depthwise: one group per input channel
              | "b" | "plain"                           the operation has a bias; a norm has no parameters
    value     = number { ":" number } | word
    results   = result { "," result } | "!"             "!": no result
    result    = [ sizes ] [ ":" dtype ]                 shape with the batch dimension; no sizes for a scalar
    operands  = [ operand { "," operand } ] [ "," "!" ] in the order of the arguments; "!": no parameters
    operand   = distance [ "." port ]                   result ``port`` (from 0) of the operation ``distance`` before
              | "^" number [ "." port ]                 the same of the ``number``-th operation of the string, from 1
              | "^" number ( "+" | "=" | "-" )          its result behind, at or before the one that was read last
              | distance ".." distance "/" step         the first results from one distance to the other
              | "w" [ sizes ] [ ":" dtype ] [ "~" distance ]  a parameter; "~": shared with the operation before
    sizes     = size { "x" size }
    count     = an integer of 1 or more without leading zeros

``3*relu`` repeats an operation, and ``3*{ ... }`` repeats everything between the braces. ``#2`` stands for the contents
of the second pair of braces. Braces are numbered from 1 in the order in which they open, inner ones included, and can
be named as soon as they are closed. The following two strings are the same network::

    input[1x4] 2*{ linear 3*{ relu tanh } add<-1,7 } 2*#2 #1 output
    input[1x4] 2*{ linear 3*{ relu tanh } add<-1,7 } 2*{ relu tanh } linear 3*{ relu tanh } add<-1,7 output

A string leaves out whatever equals its default:

- attributes: the number of output channels or features is that of the input; stride, dilation and groups are 1, output
  padding is 0, padding is half the window; a single size holds for all dimensions;
- results and parameters: :mod:`freerea_seval.strings.graph.shape_inference` infers them; parameters are inferred only
  if ``<-`` lists none, and a final ``!`` states that there are none; the default dtype is the inferred one, and
  float32 for a listed parameter;
- operands: the first result of the previous operation; ``add``, ``matmul``, ``cat`` and other arithmetic read before it
  the latest earlier result that nothing has read yet, if there is one; ``input`` and ``unused`` read nothing, and
  neither does an operation with ``<-`` and no operands.

Defaults only compress: a string stores deviations, so a poor default costs length, never correctness.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import inf
from typing import NamedTuple

from freerea_seval.strings.graph.ir import Ref, Shape, Weight
from freerea_seval.strings.graph.shape_inference import BINARY, SINKS

#: Kinds without default operands.
_SOURCES = frozenset(("input", "unused"))

_COUNT = re.compile(r"([1-9]\d{0,14})\*(?=[A-Za-z_{#])", re.ASCII)
_REFERENCE = re.compile(r"#(\d{1,18})", re.ASCII)
_KIND = re.compile(r"[^(\[]*")
_LABEL = re.compile(
    r"(?P<kind>[A-Za-z_][\w.]*)(?:\((?P<attributes>[^()\[\]\s]+)\))?(?:\[(?P<results>[\w:,]*|!)\])?", re.ASCII
)
_REF = re.compile(r"(?P<anchor>\^)?(?P<node>\d{1,18})(?:\.(?P<port>\d{1,18}))?", re.ASCII)
_NEXT = re.compile(r"\^(\d{1,18})([+=-])", re.ASCII)
_RANGE = re.compile(r"(\d{1,6})\.\.(\d{1,6})/(\d{1,6})", re.ASCII)
_WEIGHT = re.compile(r"w(\d{1,18}(?:x\d{1,18})*)?(?::([A-Za-z]\w*))?(?:~(\d{1,18}))?", re.ASCII)


class Anchor(NamedTuple):
    """An operand counted from the first operation of the string, ``^number.port``.

    Attributes:
        number: of the operation, from 1.
        port: of its result.
        step: 1 for ``^number+``, 0 for ``^number=`` and -1 for ``^number-``, where ``port`` is unused; otherwise None.
    """

    number: int
    port: int = 0
    step: int | None = None


@dataclass(frozen=True, eq=False, slots=True)
class Word:
    """A word split into its parts; :func:`lex` returns one object per text, so words are compared by identity.

    Attributes:
        count: the number before ``*``; None without one.
        text: the word without its count.
        label: the text before ``<-``.
        kind: of the operation; ``{``, ``}`` or ``#2`` for braces and references.
        attributes: their texts.
        results: their texts; None without brackets.
        operands: a :class:`Ref` or a tied :class:`Weight` holds the distance instead of the position; a text that is
            not an operand is kept as it is. None without ``<-``.
        refs: the operands that are results at a distance.
        reach: the largest distance; infinite if an operand is malformed, anchored, or no earlier operation.
        without_parameters: whether the operands end with ``!``.
        has_results: whether the operation has any result.
        reference: the number behind ``#``; 0 for any other word.
        is_operation: whether ``label`` follows the grammar.
    """

    count: int | None
    text: str
    label: str
    kind: str
    attributes: tuple[str, ...]
    results: tuple[str, ...] | None
    operands: tuple[Ref | Weight | Anchor | str, ...] | None
    refs: tuple[Ref, ...]
    reach: float
    without_parameters: bool
    has_results: bool
    reference: int
    is_operation: bool


@lru_cache(maxsize=65536)
def lex(text: str) -> Word:
    """Split a word, which may be any text without blanks; nothing but its form is examined."""
    count = None
    if match := _COUNT.match(text):
        count, text = int(match[1]), text[match.end() :]
    label, arrow, rest = text.partition("<-")
    texts = rest.split(",") if rest else []
    without_parameters = texts[-1:] == ["!"]
    operands = tuple([item for part in (texts[:-1] if without_parameters else texts) for item in _operands(part)])
    distances = [_distance(operand) for operand in operands]
    match = _LABEL.fullmatch(label)
    kind = match["kind"] if match else _KIND.findall(label)[0]
    attributes, results = (match["attributes"], match["results"]) if match else (None, None)
    listed = None if results is None else () if results == "!" else tuple(results.split(","))
    reference = _REFERENCE.fullmatch(text)
    return Word(
        count,
        text,
        label,
        kind,
        tuple(attributes.split(",")) if attributes else (),
        listed,
        operands if arrow else None,
        tuple([operand for operand in operands if isinstance(operand, Ref)]),
        max(distances, default=0) if min(distances, default=1) > 0 else inf,
        without_parameters,
        kind not in SINKS and listed != (),
        int(reference[1]) if reference else 0,
        match is not None,
    )


def _distance(operand: Ref | Weight | Anchor | str) -> float:
    if isinstance(operand, Ref):
        return operand.node
    if isinstance(operand, Weight):
        return 1 if operand.tied is None else operand.tied
    return inf


def _operands(text: str) -> Sequence[Ref | Weight | Anchor | str]:
    """Return the operands of a text; several for a range, and the text itself if it is none."""
    if match := _REF.fullmatch(text):
        return [(Anchor if match["anchor"] else Ref)(int(match["node"]), int(match["port"] or 0))]
    if match := _WEIGHT.fullmatch(text):
        return [Weight(parse_sizes(match[1]), match[2] or "float32", int(match[3]) if match[3] else None)]
    if match := _NEXT.fullmatch(text):
        return [Anchor(int(match[1]), step="-=+".index(match[2]) - 1)]
    if match := _RANGE.fullmatch(text):
        first, last, step = map(int, match.groups())
        if step and first != last and (first - last) % step == 0:
            ascending = first < last
            return list(map(Ref, range(first, last + (1 if ascending else -1), step if ascending else -step)))
    return [text]


def parse_sizes(text: str | None) -> Shape:
    """Return the sizes of a text such as ``1x3x32x32``."""
    return tuple(map(int, text.split("x"))) if text else ()


class DefaultOperands:
    """Tracks the results that nothing has read yet and derives default operands from them."""

    def __init__(self) -> None:
        self._produced: list[int] = []  # ascending positions; those that were read are dropped when they become last
        self._read: set[int] = set()

    def default(self, kind: str, position: int) -> list[int]:
        """Return the positions whose first results an operation at ``position`` reads unless it lists others."""
        if kind in _SOURCES or not position:
            return []
        previous = position - 1
        if kind not in BINARY:
            return [previous]
        produced = self._produced
        newest = [produced.pop()] if produced and produced[-1] == previous else []
        while produced and produced[-1] in self._read:
            produced.pop()
        operands = [produced[-1], previous] if produced else [previous]
        produced += newest
        return operands

    def add(self, sources: Iterable[int], position: int, has_results: bool) -> None:
        """Record an operation and the positions that it reads."""
        self._read.update(sources)
        if has_results:
            self._produced.append(position)
