"""From network strings to the tensors of :class:`~freerea_seval.predictor.t5.encoder.T5ForNetworkRegression`.

Two tokenizers: :func:`~freerea_seval.predictor.features.dataflow.word_tokenizer`, the package's own, whose tokens carry
numbers and belong to operations; and the tokenizer of a pretrained T5, which reads strings as plain text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tokenizers
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerFast

from freerea_seval.files import temporary_folder
from freerea_seval.predictor.features.dataflow import number_operations, strip_operands, token_offsets
from freerea_seval.strings.text.tokenizer import Tokenizer

Example = Mapping[str, Tensor]


def to_bytes(tokenizer: Tokenizer | PreTrainedTokenizerFast) -> bytes:
    """Return the ``tokenizer.json`` of a tokenizer."""
    if not isinstance(tokenizer, Tokenizer):
        backend = tokenizers.Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        backend.no_truncation()  # set by the last call
        return backend.to_str().encode()
    with temporary_folder() as folder:
        tokenizer.save(folder / "tokenizer.json")
        return (folder / "tokenizer.json").read_bytes()


def from_bytes(content: bytes, *, text: bool) -> Tokenizer | PreTrainedTokenizerFast:
    """Return the tokenizer of a ``tokenizer.json``, with ``text`` that of a pretrained T5; raises various errors."""
    if text:
        return PreTrainedTokenizerFast(tokenizer_object=tokenizers.Tokenizer.from_buffer(content))
    with temporary_folder() as folder:
        (folder / "tokenizer.json").write_bytes(content)
        return Tokenizer.load(folder / "tokenizer.json")


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
        tokenizer: Tokenizer | PreTrainedTokenizerFast,
        strings: Sequence[str],
        max_tokens: int,
        labels: npt.NDArray[np.float64] | None = None,
    ) -> None:
        if isinstance(tokenizer, Tokenizer):
            self._examples = _operation_examples(tokenizer, strings, max_tokens)
        else:
            rows = tokenizer(list(strings), truncation=True, max_length=max_tokens)["input_ids"]
            self._examples = [_text_example(ids) for ids in rows]
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
    batch = tokenizer(map(strip_operands, strings), max_length=max_tokens, truncate=True)
    operation_ids, operand_ids = number_operations(tokenizer, batch.ids, strings)
    offsets = token_offsets(operation_ids) * (batch.values != 0)
    values = np.stack([batch.values, offsets], axis=2).astype(np.float32)
    # One more position, because an empty string has no tokens.
    per_token: dict[str, npt.NDArray[Any]] = {"input_ids": batch.ids, "values": values, "operation_ids": operation_ids}
    padded = {k: np.pad(array, [(0, 0), (0, 1)] + [(0, 0)] * (array.ndim - 2)) for k, array in per_token.items()}
    examples = []
    for row, tokens in enumerate(batch.attention_mask.sum(axis=1).tolist()):
        operations = int(operation_ids[row].max(initial=0))
        example = {name: torch.from_numpy(array[row, : max(1, tokens)].copy()) for name, array in padded.items()}
        example["attention_mask"] = torch.tensor([1] * operations or [0])
        example["operand_ids"] = torch.from_numpy(operand_ids[row, : max(1, operations)].copy())
        examples.append(example)
    return examples


def collate(examples: Sequence[Example]) -> dict[str, Tensor]:
    """Return a batch: every tensor padded with zeros to the longest of the examples."""
    return {name: pad_sequence([example[name] for example in examples], batch_first=True) for name in examples[0]}
