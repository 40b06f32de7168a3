"""Tokenizers as bytes, for the folder of a model."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from freerea_seval.strings.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from freerea_seval.predictor.t5.encoder import TextTokenizer

TOKENIZER = "tokenizer.json"


def content(tokenizer: Tokenizer | TextTokenizer) -> bytes:
    """Return the file of a tokenizer."""
    if not isinstance(tokenizer, Tokenizer):
        return tokenizer.content()
    with TemporaryDirectory() as folder:
        tokenizer.save(Path(folder) / TOKENIZER)
        return (Path(folder) / TOKENIZER).read_bytes()


def vocabulary(content: bytes) -> Tokenizer:
    """Return the tokenizer of a file."""
    with TemporaryDirectory() as folder:
        (Path(folder) / TOKENIZER).write_bytes(content)
        return Tokenizer.load(Path(folder) / TOKENIZER)
