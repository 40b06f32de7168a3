"""The network of the model ``t5``: transformers' T5 encoder over the operations of a string.

A token's vector is its embedding plus what two small layers make of its number. An operation's is the sum of its
tokens' and of where it and those that it reads stand; then operations hear from those that they read, in a few rounds,
because attention alone would have to learn to count, operands being distances (``add<-7``). The vectors that come out
of the encoder are averaged over the string's own operations, and one linear layer reads all metrics from the mean.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from freerea_patch import InputError
from freerea_seval.strings.text.tokenizer import Batch

try:
    from transformers import T5Config, T5EncoderModel
except ImportError:
    raise InputError("predictor 't5' needs the package transformers: pip install 'freerea-seval[t5]'") from None

#: Operations farther in than this share a place.
_PLACES = 1024
#: How much more a head attends to its neighbour than to the rest when training begins, a logit.
_LOOK = 3.0
#: Rounds before the encoder in which operations hear of those that they read: a relu-conv-bn is three.
_ROUNDS = 4
#: What of transformers' configuration gives the encoder its shape.
SHAPE = (
    "vocab_size",
    "d_model",
    "d_kv",
    "d_ff",
    "num_layers",
    "num_heads",
    "relative_attention_num_buckets",
    "relative_attention_max_distance",
    "dropout_rate",
    "layer_norm_epsilon",
    "feed_forward_proj",
)


class StringEncoder(nn.Module):
    """From operations, or the tokens of plain text, to metrics.

    Args:
        encoder: a ``transformers.T5EncoderModel``.
        metrics: number of metrics.
        text: whether strings are plain text, whose tokens go into the encoder as they are.
    """

    places: Tensor

    def __init__(self, encoder: T5EncoderModel, metrics: int, *, text: bool) -> None:
        super().__init__()
        width = encoder.config.d_model
        self.encoder = encoder
        self.text = text
        if not text:
            # Two layers, for widths that matter by steps; without biases, so that what is no number adds nothing.
            self.numbers = nn.Sequential(
                nn.Linear(2, width, bias=False), nn.GELU(), nn.Linear(width, width, bias=False)
            )
            self.rounds = nn.ModuleList(_Round(width) for _ in range(_ROUNDS))
            self.place = nn.Linear(width, width, bias=False)
            self.origin = nn.Linear(width, width, bias=False)
            self.register_buffer("places", _waves(width), persistent=False)
        self.head = nn.Linear(width, metrics)

    @property
    def shape(self) -> dict[str, Any]:
        """What :func:`make_encoder` makes an encoder of the same shape from."""
        return {name: getattr(self.encoder.config, name) for name in SHAPE}

    def pooled(self, ids: Tensor, values: Tensor, places: Tensor, operands: Tensor, mask: Tensor) -> Tensor:
        """Return the vectors of strings.

        Args:
            ids: of the tokens, 0 behind a string's end, ``(n, length)`` int64.
            values: the tokens' numbers and how far behind the begin of the operation each stands, 0 for tokens without
                a number, ``(n, length, 2)`` float32.
            places: the operation that each token is of, from 1, ``(n, length)`` int64; 0 behind the end.
            operands: the operations that each operation reads, from 1, 0 for none, ``(n, operations, k)`` int64.
            mask: 1 for operations (of plain text, for tokens) and 0 behind a string's end, ``(n, operations)`` int64.

        Returns:
            The mean over each string's own operations or tokens, ``(n, d_model)``.
        """
        vectors = self.encoder.shared(ids)
        if not self.text:
            vectors = self._operations(vectors + self.numbers(values), places, operands)
        hidden = self.encoder(inputs_embeds=vectors, attention_mask=mask).last_hidden_state
        weights = mask.unsqueeze(-1).to(hidden.dtype)
        mean: Tensor = (hidden * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
        return mean

    def _operations(self, tokens: Tensor, places: Tensor, operands: Tensor) -> Tensor:
        """Return a vector of each operation: of its own tokens and of those that it reads, ``(n, operations, d)``."""
        n, _, width = tokens.shape
        count = operands.shape[1] + 1
        rows = torch.arange(n, device=tokens.device).unsqueeze(1) * count
        # The first of each string gathers padding.
        own = tokens.new_zeros(n * count, width).index_add(0, (rows + places).flatten(), tokens.flatten(0, 1))
        last = len(self.places) - 1
        here = self.places[torch.arange(1, count, device=tokens.device).clamp(max=last)]
        there = self.places[operands.clamp(max=last)].sum(dim=2)
        where = self.place(here) + self.origin(there)
        vectors: Tensor = own.view(n, count, width)[:, 1:] + where
        for each in self.rounds:
            vectors = each(vectors, operands)
        return vectors

    def forward(self, ids: Tensor, values: Tensor, places: Tensor, operands: Tensor, mask: Tensor) -> Tensor:
        """Return the metrics of strings, ``(n, metrics)``; see :meth:`pooled`."""
        out: Tensor = self.head(self.pooled(ids, values, places, operands, mask))
        return out


class _Round(nn.Module):
    """Let every operation know the vectors of those that it reads."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.own = nn.Linear(width, width)
        self.read = nn.Linear(width, width, bias=False)
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, vectors: Tensor, operands: Tensor) -> Tensor:
        n, count, width = vectors.shape
        normed = self.norm(vectors)
        # What is read where there is no operand.
        sent = nn.functional.pad(self.read(normed), (0, 0, 1, 0)).flatten(0, 1)
        rows = torch.arange(n, device=vectors.device).view(n, 1, 1) * (count + 1)
        read = sent[(rows + operands).flatten()].view(*operands.shape, width).sum(dim=2)
        added: Tensor = vectors + self.out(nn.functional.gelu(self.own(normed) + read))
        return added


def _waves(width: int) -> Tensor:
    """Return sinusoids of the places (Vaswani 2017), ``(_PLACES, width)``, and nothing for 0, which is none."""
    pace = torch.exp(-math.log(_PLACES) * torch.arange(0, width, 2) / width)
    angles = torch.arange(_PLACES).unsqueeze(1) * pace
    waves = torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)
    waves[0] = 0
    return waves


def make_encoder(shape: Mapping[str, Any]) -> T5EncoderModel:
    """Return an encoder with new weights, drawn from torch's generator; ``shape`` names what differs from T5's own."""
    # Made from a configuration alone, which needs no network.
    encoder = T5EncoderModel(T5Config(**shape))
    bias = dict(encoder.named_parameters())["encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"]
    half = len(bias) // 2
    with torch.no_grad():
        # T5's heads begin with no sense of place, and learning one takes most of a short training. These begin with
        # a look at one neighbour each; the buckets of small distances are exact, those to the right in the upper half.
        bias.zero_()
        for head in range(bias.shape[1]):
            far = head // 2 % (half // 2)
            bias[half + far + 1 if head % 2 else far, head] = _LOOK
    return encoder


def load_encoder(source: str, dropout: float) -> T5EncoderModel:
    """Return the encoder of a pretrained T5, from a local folder or by a name of the Hugging Face hub.

    Raises:
        InputError: it is not there, not in reach, or no T5.
    """
    try:
        if (kind := T5Config.get_config_dict(source)[0].get("model_type")) != "t5":
            raise ValueError(f"its model_type is {kind!r}, expected 't5'")
        found: T5EncoderModel = T5EncoderModel.from_pretrained(source, dropout_rate=dropout)
    except Exception as error:  # of the hub, of files and of what they say, each with types of its own
        raise _unloadable(source, error) from error
    return found.float()  # type: ignore[no-untyped-call,no-any-return]


@contextmanager
def drawing(seed: int) -> Iterator[None]:
    """Draw new weights from a seed, and leave torch's generator as it was."""
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        yield


class TextTokenizer:
    """The tokenizer of a pretrained model, for strings as plain text: its tokens have no numbers.

    Args:
        content: a ``tokenizer.json`` of the library ``tokenizers``.
    """

    def __init__(self, content: bytes) -> None:
        import tokenizers

        self._tokenizer = tokenizers.Tokenizer.from_buffer(content)
        self._tokenizer.no_padding()

    @classmethod
    def load(cls, source: str) -> TextTokenizer:
        """Return the tokenizer of a local folder or a name of the Hugging Face hub.

        Raises:
            InputError: it is not there, or not in reach.
        """
        from transformers import AutoTokenizer

        try:
            return cls(AutoTokenizer.from_pretrained(source).backend_tokenizer.to_str().encode())
        except Exception as error:  # as above, and an AttributeError where there is no fast tokenizer
            raise _unloadable(source, error) from error

    def __len__(self) -> int:
        return int(self._tokenizer.get_vocab_size())

    def content(self) -> bytes:
        """Return what a twin is made from."""
        return str(self._tokenizer.to_str()).encode()

    def __call__(self, strings: Iterable[str], max_length: int) -> Batch:
        """Return the tokens of strings, cut off at ``max_length``."""
        self._tokenizer.enable_truncation(max_length)
        rows = [encoding.ids for encoding in self._tokenizer.encode_batch(list(strings))]
        lengths = np.array([len(row) for row in rows], dtype=np.int64)
        mask = np.arange(lengths.max(initial=1)) < lengths[:, None]
        ids = np.zeros(mask.shape, dtype=np.int64)
        ids[mask] = [token for row in rows for token in row]
        return Batch(ids, np.zeros(mask.shape, dtype=np.float32), mask.astype(np.int64))


def _unloadable(source: str, error: Exception) -> InputError:
    """Return the error for pretrained weights that cannot be had."""
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return InputError(
        f"pretrained {source!r} cannot be loaded ({reason}); name a folder that save_pretrained made of a T5 and its"
        " tokenizer, or a model of the Hugging Face hub while it is in reach, or None to train from scratch"
    )
