"""The network of the model ``t5``: transformers' T5 encoder over a network string, mean-pooled, with a regression head.

Notation: ``n`` strings, ``t`` tokens, ``o`` operations, ``k`` operands of an operation, ``d`` the width ``d_model``,
``m`` metrics.

Two kinds of input are possible. With ``config.operations``, :class:`OperationEmbedding` turns the tokens of one of the
package's strings, their numeric values and the data flow between the operations into one vector per operation.
Without, the string is plain text for a pretrained T5, which embeds the tokens itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from freerea_patch import InputError
from freerea_seval.predictor.models.losses import regression_loss

try:
    from transformers import AutoTokenizer, PreTrainedTokenizerFast, T5Config, T5EncoderModel, T5PreTrainedModel
    from transformers.modeling_outputs import SequenceClassifierOutput
except ImportError:
    raise InputError("predictor 't5' needs the package transformers: pip install 'freerea-seval[t5]'") from None

#: Operations beyond this position share one positional encoding.
_MAX_POSITIONS = 1024
#: Message-passing layers before the encoder; relu-conv-bn, the block of NAS-Bench-201, has three operations.
_MESSAGE_LAYERS = 4
#: Initial attention logit of a head for its neighbour; all other logits start at 0.
_NEIGHBOUR_LOGIT = 3.0


#: A model that is read has at most this number of layers, and of anything else that its configuration counts.
MOST_LAYERS = 256
MOST_WIDTH = 2**20


class T5ForNetworkRegression(T5PreTrainedModel):  # type: ignore[misc]
    """A T5 encoder (Raffel 2020) that predicts metrics from a network string, as in SEval-NAS (arXiv 2603.00099).

    Args:
        config: a ``T5Config`` with three further fields: ``num_labels``, the number of metrics; ``operations``, whether
            strings are sequences of operations or plain text; ``regression_loss``, one of
            :data:`~freerea_seval.predictor.models.losses.LOSSES`.
    """

    def __init__(self, config: T5Config) -> None:
        super().__init__(config)
        self.transformer = T5EncoderModel(config)
        self.operations = OperationEmbedding(config.d_model) if config.operations else None
        self.regressor = nn.Linear(config.d_model, config.num_labels)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Initialise T5's modules as T5 does, and the linear layers outside of the encoder as PyTorch does."""
        if isinstance(module, nn.Linear):
            module.reset_parameters()
        else:
            super()._init_weights(module)

    def pooled(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        values: Tensor | None = None,
        operation_ids: Tensor | None = None,
        operand_ids: Tensor | None = None,
    ) -> Tensor:
        """Return one vector per string: the mean of the encoder's last hidden states, ``(n, d)``.

        Args:
            input_ids: ``(n, t)`` int64 tokens, 0 for padding.
            attention_mask: ``(n, o)`` int64, 1 for operations and 0 for padding; for plain text, ``(n, t)``.
            values: ``(n, t, 2)`` float32, the numeric value of each token and its position in its operation; 0 for
                tokens without a number.
            operation_ids: ``(n, t)`` int64, the operation that each token belongs to, from 1; 0 for padding.
            operand_ids: ``(n, o, k)`` int64, the operations whose results each operation reads, from 1; 0 for none.
        """
        embeddings = self.transformer.shared(input_ids)
        if self.operations is not None:
            embeddings = self.operations(embeddings, values, operation_ids, operand_ids)
        hidden = self.transformer(inputs_embeds=embeddings, attention_mask=attention_mask).last_hidden_state
        weights = attention_mask.unsqueeze(-1).to(hidden.dtype)
        mean: Tensor = (hidden * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
        return mean

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        values: Tensor | None = None,
        operation_ids: Tensor | None = None,
        operand_ids: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> SequenceClassifierOutput:
        """Return the standardised metrics, ``(n, m)``, as ``logits`` and, given ``labels``, the loss.

        ``labels`` are ``(n, m)``, NaN where a metric was not measured; for the other arguments see :meth:`pooled`.
        """
        logits = self.regressor(self.pooled(input_ids, attention_mask, values, operation_ids, operand_ids))
        loss = None if labels is None else regression_loss(logits, labels, self.config.regression_loss)
        return SequenceClassifierOutput(loss=loss, logits=logits)


class OperationEmbedding(nn.Module):
    """One vector per operation, from the embeddings and numbers of its tokens and from the operations that it reads.

    The vector is the sum of the token embeddings, of a small network's output for each number, and of the positional
    encodings of the operation and its operands. Message-passing layers along the operands follow: operands are
    relative distances (``add<-7``), which attention alone would have to learn to resolve.
    """

    encodings: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        # Two layers, because some numbers act in steps; no biases, so that tokens without a number add nothing.
        self.numbers = nn.Sequential(nn.Linear(2, width, bias=False), nn.GELU(), nn.Linear(width, width, bias=False))
        self.position = nn.Linear(width, width, bias=False)
        self.operand_position = nn.Linear(width, width, bias=False)
        self.layers = nn.ModuleList(MessageLayer(width) for _ in range(_MESSAGE_LAYERS))
        self.register_buffer("encodings", sinusoids(width), persistent=False)

    def forward(self, tokens: Tensor, values: Tensor, operation_ids: Tensor, operand_ids: Tensor) -> Tensor:
        """Return ``(n, o, d)`` from ``(n, t, d)`` token embeddings; see :meth:`T5ForNetworkRegression.pooled`."""
        n, _, width = tokens.shape
        tokens = tokens + self.numbers(values)
        slots = operand_ids.shape[1] + 1  # slot 0 of each string collects the padding
        rows = torch.arange(n, device=tokens.device).unsqueeze(1) * slots
        sums = tokens.new_zeros(n * slots, width).index_add(0, (rows + operation_ids).flatten(), tokens.flatten(0, 1))
        last = len(self.encodings) - 1
        positions = self.encodings[torch.arange(1, slots, device=tokens.device).clamp(max=last)]
        operand_positions = self.encodings[operand_ids.clamp(max=last)].sum(dim=2)
        vectors: Tensor = sums.view(n, slots, width)[:, 1:]
        vectors = vectors + self.position(positions) + self.operand_position(operand_positions)
        for layer in self.layers:
            vectors = layer(vectors, operand_ids)
        return vectors


class MessageLayer(nn.Module):
    """A residual layer: adds to each operation a function of its own vector and the sum of its operands' vectors."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.own = nn.Linear(width, width)
        self.operand = nn.Linear(width, width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, vectors: Tensor, operand_ids: Tensor) -> Tensor:
        """Return ``(n, o, d)`` from ``(n, o, d)`` vectors and ``(n, o, k)`` operands."""
        n, count, width = vectors.shape
        normed = self.norm(vectors)
        # Row 0 of each string is the zero vector, which a missing operand reads.
        messages = nn.functional.pad(self.operand(normed), (0, 0, 1, 0)).flatten(0, 1)
        rows = torch.arange(n, device=vectors.device).view(n, 1, 1) * (count + 1)
        received = messages[(rows + operand_ids).flatten()].view(*operand_ids.shape, width).sum(dim=2)
        updated: Tensor = vectors + self.out(nn.functional.gelu(self.own(normed) + received))
        return updated


def sinusoids(width: int) -> Tensor:
    """Return sinusoidal positional encodings (Vaswani 2017), ``(_MAX_POSITIONS, width)``; position 0 is all zeros."""
    frequencies = torch.exp(-math.log(_MAX_POSITIONS) * torch.arange(0, width, 2) / width)
    angles = torch.arange(_MAX_POSITIONS).unsqueeze(1) * frequencies
    encodings = torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)
    encodings[0] = 0
    return encodings


def make_model(vocab_size: int, metrics: int, loss: str, **shape: Any) -> T5ForNetworkRegression:
    """Return a model with new weights, drawn from torch's generator.

    Args:
        vocab_size: number of tokens.
        metrics: number of metrics.
        loss: for training.
        shape: further fields of ``T5Config``.
    """
    model = T5ForNetworkRegression(_config(T5Config(vocab_size=vocab_size, **shape), metrics, loss, operations=True))
    # T5's relative position bias starts without a notion of order, and learning one takes most of a short training.
    # Here each head starts with a preference for one near neighbour. The buckets of small distances are exact; those of
    # positions to the right are in the upper half.
    bias = model.get_parameter("transformer.encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight")
    half = len(bias) // 2
    with torch.no_grad():
        bias.zero_()
        for head in range(bias.shape[1]):
            distance = head // 2 % (half // 2)
            bias[half + distance + 1 if head % 2 else distance, head] = _NEIGHBOUR_LOGIT
    return model


def load_pretrained(
    source: str, metrics: int, loss: str, dropout_rate: float
) -> tuple[T5ForNetworkRegression, PreTrainedTokenizerFast]:
    """Return a model whose encoder is a pretrained T5, and its tokenizer.

    Args:
        source: a local folder, or the name of a model of the Hugging Face hub.
        metrics, loss: as in :func:`make_model`.
        dropout_rate: for training.

    Raises:
        InputError: it does not exist, is out of reach, or is not a T5.
    """
    try:
        if (kind := T5Config.get_config_dict(source)[0].get("model_type")) != "t5":
            raise ValueError(f"its model_type is {kind!r}, expected 't5'")
        config = T5Config.from_pretrained(source, dropout_rate=dropout_rate)
        model = T5ForNetworkRegression(_config(config, metrics, loss, operations=False))
        model.transformer = T5EncoderModel.from_pretrained(source, config=model.config)
        tokenizer: PreTrainedTokenizerFast = AutoTokenizer.from_pretrained(source)
        return model.float(), tokenizer
    except Exception as error:  # the hub, the file system and the parsers have error types of their own
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise InputError(
            f"pretrained {source!r} cannot be loaded ({reason}); name a folder with a T5 and its tokenizer, as"
            " save_pretrained writes them, or a model of the Hugging Face hub that is within reach, or None to train"
            " from scratch"
        ) from error


def load_weights(config: dict[str, Any], weights: Mapping[str, Tensor]) -> T5ForNetworkRegression:
    """Return a model with the given parameters.

    Raises:
        ValueError: a name, shape or type is not the model's, or a weight is NaN or infinite.
    """
    for key, value in config.items():
        most = MOST_LAYERS if "layers" in key else MOST_WIDTH
        if isinstance(value, (int, float)) and not value <= most:
            raise ValueError(f"{key} is {value}, expected at most {most}")
    configuration = T5Config.from_dict(config)
    with torch.device("meta"):  # the shapes alone: a damaged configuration may describe a model larger than the memory
        expected = dict(T5ForNetworkRegression(configuration).named_parameters())
    if differing := sorted(expected.keys() ^ weights.keys()):
        raise ValueError(f"{len(differing)} weights are missing or unknown, the first {differing[0]!r}")
    for name, tensor in weights.items():
        if tensor.shape != expected[name].shape or tensor.dtype != expected[name].dtype:
            raise ValueError(f"{name} must be {expected[name].dtype} of shape {tuple(expected[name].shape)}")
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{name} has values that are NaN or infinite")
    with torch.random.fork_rng([]):
        model = T5ForNetworkRegression(configuration)
    model.load_state_dict(weights, strict=False)  # tied weights are stored once
    return model


def _config(config: T5Config, metrics: int, loss: str, *, operations: bool) -> T5Config:
    config.num_labels, config.regression_loss, config.operations = metrics, loss, operations
    config.is_encoder_decoder = config.use_cache = False
    return config
