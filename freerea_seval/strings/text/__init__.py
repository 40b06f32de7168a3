"""Network strings: the text form of a graph.

:mod:`.grammar` defines strings and splits a word into its parts. :mod:`.serialize` writes a graph, and :mod:`.compress`
its repetitions; :mod:`.parse` reads a string back, as a whole, and :mod:`.blocks` as a chain of cached blocks.
:mod:`.tokenizer` turns strings into the inputs of a language model by the tokens of :mod:`.vocabulary`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from freerea_patch.imports import lazy_exports

if TYPE_CHECKING:
    from freerea_seval.strings.text.blocks import Block, parse_blocks
    from freerea_seval.strings.text.grammar import DefaultOperands, Word, lex
    from freerea_seval.strings.text.parse import Operation, expand, parse_graph
    from freerea_seval.strings.text.serialize import serialize_graph
    from freerea_seval.strings.text.tokenizer import Batch, Tokenizer
    from freerea_seval.strings.text.vocabulary import Vocabulary
else:
    __getattr__, __dir__ = lazy_exports(__name__, __file__)
