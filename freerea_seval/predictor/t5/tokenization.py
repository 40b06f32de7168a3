"""From network strings to the tensors of :class:`~freerea_seval.predictor.t5.encoder.T5ForNetworkRegression`.

Two tokenizers: :func:`~freerea_seval.predictor.features.dataflow.words`, the package's own, whose tokens carry numbers
and belong to operations; and :class:`TextTokenizer`, that of a pretrained T5, which reads strings as plain text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import tokenizers
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from freerea_seval.predictor.features.dataflow import behind, placed, unsaid
from freerea_seval.strings.text.tokenizer import Tokenizer

Example = Mapping[str, Tensor]
TOKENIZER_FILE = "tokenizer.json"


class TextTokenizer:
    """The tokenizer of a pretrained T5.

    Args:
        content: a ``tokenizer.json`` of the library ``tokenizers``.
    """

    def __init__(self, content: bytes) -> None:
        self._tokenizer = tokenizers.Tokenizer.from_buffer(content)
        self._tokenizer.no_padding()

    @classmethod
    def from_pretrained(cls, source: str) -> TextTokenizer:
        """Return the tokenizer of a local folder or of a model of the Hugging Face hub; any exception is the cause."""
        from transformers import AutoTokenizer

        return cls(AutoTokenizer.from_pretrained(source).backend_tokenizer.to_str().encode())

    def __len__(self) -> int:
        return int(self._tokenizer.get_vocab_size())

    def to_bytes(self) -> bytes:
        """Return the content of ``tokenizer.json``."""
        return str(self._tokenizer.to_str()).encode()

    def __call__(self, strings: Iterable[str], max_length: int) -> list[list[int]]:
        """Return the token ids of strings, truncated to ``max_length``."""
        self._tokenizer.enable_truncation(max_length)
        return [encoding.ids for encoding in self._tokenizer.encode_batch(list(strings))]


def tokenizer_bytes(tokenizer: Tokenizer | TextTokenizer) -> bytes:
    """Return the file content of a tokenizer."""
    if isinstance(tokenizer, TextTokenizer):
        return tokenizer.to_bytes()
    with TemporaryDirectory() as folder:
        tokenizer.save(Path(folder) / TOKENIZER_FILE)
        return (Path(folder) / TOKENIZER_FILE).read_bytes()


def load_tokenizer(content: bytes, *, text: bool) -> Tokenizer | TextTokenizer:
    """Return the tokenizer whose :func:`tokenizer_bytes` these are; ``text`` for one of a pretrained T5.

    Raises:
        InputError, Exception: the content is no such tokenizer.
    """
    if text:
        return TextTokenizer(content)
    with TemporaryDirectory() as folder:
        (Path(folder) / TOKENIZER_FILE).write_bytes(content)
        return Tokenizer.load(Path(folder) / TOKENIZER_FILE)


class NetworkDataset(Dataset[Example]):
    """Tokenized network strings, with labels for training.

    Args:
        tokenizer: one of the two tokenizers.
        strings: ``(n,)`` network strings.
        max_tokens: longer strings are truncated.
        labels: ``(n, m)`` standardised metrics, NaN where a metric was not measured.

    Attributes:
        lengths: positions of each string in the encoder, ``(n,)``.
    """

    def __init__(
        self,
        tokenizer: Tokenizer | TextTokenizer,
        strings: Sequence[str],
        max_tokens: int,
        labels: npt.NDArray[np.float64] | None = None,
    ) -> None:
        if isinstance(tokenizer, TextTokenizer):
            self._examples = [_text_example(ids) for ids in tokenizer(strings, max_tokens)]
        else:
            self._examples = _operation_examples(tokenizer, strings, max_tokens)
        if labels is not None:
            for example, row in zip(self._examples, torch.from_numpy(labels.astype(np.float32)), strict=True):
                example["labels"] = row
        self.lengths = np.array([len(example["attention_mask"]) for example in self._examples], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> Example:
        return self._examples[index]


def _text_example(ids: list[int]) -> dict[str, Tensor]:
    # At least one position, masked if need be, because an empty string has no tokens.
    return {"input_ids": torch.tensor(ids or [0]), "attention_mask": torch.tensor([1] * len(ids) or [0])}


def _operation_examples(tokenizer: Tokenizer, strings: Sequence[str], max_tokens: int) -> list[dict[str, Tensor]]:
    # Operands that follow from the data flow are not spelled out: ``operand_ids`` holds them.
    batch = tokenizer(map(unsaid, strings), max_length=max_tokens, truncate=True)
    operation_ids, operand_ids = placed(tokenizer, batch.ids, strings)
    offsets = behind(operation_ids) * (batch.values != 0)
    values = np.stack([batch.values, offsets], axis=2).astype(np.float32)
    examples = []
    for row, tokens in enumerate(batch.attention_mask.sum(axis=1).tolist()):
        count = int(operation_ids[row].max(initial=0))
        width, length = max(1, tokens), max(1, count)
        examples.append(
            {
                "input_ids": _first(batch.ids[row], width),
                "attention_mask": torch.tensor([1] * count or [0]),
                "values": _first(values[row], width),
                "operation_ids": _first(operation_ids[row], width),
                "operand_ids": _first(operand_ids[row], length),
            }
        )
    return examples


def _first(array: npt.NDArray[np.generic], length: int) -> Tensor:
    """Return a copy of the first rows of an array, with rows of zeros where it has fewer."""
    rows = np.zeros((length, *array.shape[1:]), dtype=array.dtype)
    rows[: len(array)] = array[:length]
    return torch.from_numpy(rows)


def collate(examples: Sequence[Example]) -> dict[str, Tensor]:
    """Return a batch: every tensor padded with zeros to the longest of the examples."""
    return {name: pad_sequence([example[name] for example in examples], batch_first=True) for name in examples[0]}
