"""The string of a network whose parts follow each other, from what is known of each part."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

from torch import nn

from freerea_patch import Part
from freerea_seval.strings.graph.ir import Graph, Node, Spec
from freerea_seval.strings.spaces.subgraph_cache import Composer, Piece, chained
from freerea_seval.strings.text.compress import Body, join, split
from freerea_seval.strings.text.serialize import tokens, write
from freerea_seval.strings.views import View, view_of

#: So many links are kept; a space has more cells than that, and each is needed once.
_KEPT = 4096


class _Link(NamedTuple):
    """What is known of a part of a chain, whatever its sizes.

    Attributes:
        bodies: their text between the input and the output; None where it depends on what is before or behind.
        constant: whether the result does not depend on the input.
        opening: the kinds of the operations that read the input.
        closing: the kind of the operation that makes the result; empty if that is the input.
    """

    bodies: list[Body] | None
    constant: bool
    opening: tuple[str, ...]
    closing: str


class Chains:
    """Writes chains of parts; what is known of a part is kept.

    A chain's string is made of its parts' because every path goes through the result between two parts: nothing is read
    across it, and neither the order of operations nor what repeats depends on what is on its other side. Where it
    does, as when a part ends with a sum that the next one goes on with, the whole graph is looked at.

    Args:
        view: what the strings show.
    """

    def __init__(self, view: View) -> None:
        self._view = view
        self._composer = Composer()
        self._links: dict[int, _Link] = {}
        self._endings: dict[Hashable, str] = {}

    def string(self, part: Part, given: Spec) -> str:
        """Return the string of a network.

        Args:
            part: the network.
            given: shape and dtype of its input.

        Raises:
            NotComposableError: some part does not map one tensor to one tensor.
        """
        pieces: list[Piece] = []
        # A part that occurs several times in a row keeps its input's shape more often than not.
        known: dict[tuple[int, Spec], Piece] = {}
        spec = given
        for inner in part.parts if part.make is nn.Sequential else (part,):
            piece = known.get((id(inner), spec))
            if piece is None:
                piece = known[id(inner), spec] = self._composer.piece(inner, spec)
            pieces.append(piece)
            spec = piece.result
        first = Node("input", (), (), (given,))
        links = [self._link(piece) for piece in pieces]
        for place in range(len(links) - 1, -1, -1):
            # What is before it runs for nothing, but it runs.
            if links[place].constant and self._view == "functional":
                return self._ending(pieces[place:], first)
        bodies: list[Body] = [(tokens(Graph((first,)))[0].text,)]
        before = ""
        for link in links:
            if link.bodies is None or _interact(before, link.opening):
                return write(self._whole(pieces, first))
            bodies += link.bodies
            before = link.closing or before
        return join([*bodies, ("output",)])

    def _link(self, piece: Piece) -> _Link:
        known = self._links.get(piece.signature)
        if known is None:
            if len(self._links) >= _KEPT:
                self._links.clear()
            known = self._links[piece.signature] = _link(view_of(piece.graph, self._view))
        return known

    def _ending(self, pieces: Sequence[Piece], first: Node) -> str:
        """Return the string of a chain that forgets its input in the first of these parts."""
        constant = view_of(pieces[0].graph, self._view)
        key = (first, constant.nodes[1:], *((piece.signature, piece.result) for piece in pieces[1:]))
        if key not in self._endings:
            self._endings[key] = write(self._whole(pieces, first))
        return self._endings[key]

    def _whole(self, pieces: Sequence[Piece], first: Node) -> Graph:
        graph = chained([piece.graph for piece in pieces])
        return view_of(Graph((first, *graph.nodes[1:])), self._view)


def _link(graph: Graph) -> _Link:
    words = tokens(graph)
    sources = not all([word.refs for word in words[1:-1]])
    bodies = split(words)
    # Closed: the input and the output are parts of their own, and the output reads what was made last.
    closed = not sources and len(bodies[0]) == 1 and bodies[-1] == ("output",)
    # What is written ^ is counted from the network's first operation, which no link knows.
    closed = closed and "^" not in repr(bodies)
    opening = tuple([node.kind for node, word in zip(graph, words, strict=True) for ref in word.refs if not ref.node])
    last = words[-1].refs[0].node
    return _Link(
        bodies[1:-1] if closed else None,
        sources and not _depends(graph),
        opening if last else (),
        graph.nodes[last].kind if last else "",
    )


def _depends(graph: Graph) -> bool:
    """Return whether a graph's result depends on its input."""
    reached = [False] * len(graph)
    reached[0] = True
    for place, node in enumerate(graph):
        if any(reached[ref.node] for ref in node.refs):
            reached[place] = True
    return reached[-1]


def _interact(closing: str, opening: Sequence[str]) -> bool:
    """Return whether a view may simplify the last operation of a part with the first ones of the next."""
    return (closing == "relu" and "relu" in opening) or (closing == "add" and tuple(opening) == ("add",))
