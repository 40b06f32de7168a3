"""The string of a graph, and the graph of a string: :func:`write` and :func:`read` undo each other.

Words are separated by blanks; one operation is one word. Five residual blocks on a CIFAR image read::

    input[1x3x32x32] conv(16,k3) bn 5*{ relu conv(k3) bn add<-4,1 } output

which is a 3x3 convolution to 16 channels, batch norm, and five times relu, convolution and batch norm whose result is
added to what they read. Grammar::

    string    = item { " " item }
    item      = operation | count "*" operation | [ count "*" ] "{ " string " }" | [ count "*" ] "#" number
    operation = kind [ "(" attribute { "," attribute } ")" ] [ "[" results "]" ] [ "<-" operands ]
    attribute = name "=" value
              | value                                   channels or features (conv, deconv, linear, embedding); of any
                                                        other kind the scalar of arithmetic, named ``other``
              | ( "k" | "s" | "p" | "d" | "o" ) sizes   kernel, stride, padding, dilation, output padding of a window
              | "g" size | "dw"                         groups of a convolution; as many groups as input channels
              | "b" | "plain"                           there is a bias; a norm has no parameters
    value     = number { ":" number } | word
    results   = result { "," result } | "!"             "!" if there are none
    result    = [ sizes ] [ ":" dtype ]                 the batch included; no sizes for a scalar
    operands  = [ operand { "," operand } ] [ "," "!" ] in the order of the arguments; "!" alone where it is all
    operand   = distance [ "." port ]                   made so many operations before, as which of its results (from 0)
              | "^" number [ "." port ]                 made by the operation of that number, the first is 1
              | "w" [ sizes ] [ ":" dtype ] [ "~" distance ]  a parameter, and how far before it was last read if it was
    sizes     = size { "x" size }

Braces repeat what they hold. ``#2`` repeats what the second braces hold: braces are numbered from 1 as they open, those
within braces too, and can be named once they are closed. So these two are one network::

    input[1x4] 2*{ linear 3*{ relu tanh } add<-1,7 } 2*#2 #1 output
    input[1x4] 2*{ linear 3*{ relu tanh } add<-1,7 } 2*{ relu tanh } linear 3*{ relu tanh } add<-1,7 output

What is not said follows:

- attributes: output channels or features are the input's; strides, dilations and groups are 1, output padding is 0,
  padding is half the window; one size stands for all dimensions;
- results and parameters: by :mod:`freerea_seval.strings.graph.shape_inference`, where ``<-`` names no parameter; ``!``
  behind ``<-`` says that there are none; a dtype is that of the rule, a parameter's float32;
- operands: the first result of the operation just before; for arithmetic, ``matmul`` and ``cat`` the latest result that
  nothing has read yet, if there is one, and then that one; for ``input`` and ``unused``, none. ``<-`` alone: none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from freerea_seval.strings.graph.ir import LARGEST_SIZE, Ref, Spec
from freerea_seval.strings.graph.shape_inference import BINARY

#: No dimension is longer, and no tensor has more of them.
LARGEST, MOST_DIMENSIONS = LARGEST_SIZE, 64
#: Kinds that read nothing unless something is said.
_SOURCES = frozenset(("input", "unused"))


class Unread:
    """Results that nothing has read yet, for the operands that go without saying."""

    def __init__(self) -> None:
        self._made: list[int] = []  # in order; those read since leave it when they come to its end
        self._read: set[int] = set()

    def default(self, kind: str, position: int) -> list[Ref]:
        """Return what an operation reads if nothing is said."""
        if kind in _SOURCES or not position:
            return []
        last = Ref(position - 1)
        if kind not in BINARY:
            return [last]
        made = self._made
        newest = [made.pop()] if made and made[-1] == last.node else []
        while made and made[-1] in self._read:
            made.pop()
        older = [Ref(made[-1])] if made else []
        made += newest
        return [*older, last]

    def step(self, refs: Iterable[Ref], position: int, outputs: Sequence[Spec]) -> None:
        """Take note of an operation."""
        for ref in refs:
            self._read.add(ref.node)
        if outputs:
            self._made.append(position)
