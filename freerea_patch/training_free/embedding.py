"""Language models for metrics of the input: as functions of what their embedding returns.

Tokens have neither gradients nor noise. Metrics that need one of them act on the output of the embedding, as metrics
of transformers do (Serianni 2023, section 4).
"""

from __future__ import annotations

from contextlib import ExitStack

import torch
from torch import Tensor, nn

from freerea_patch.networks import preserve_state


class FromEmbedding(nn.Module):
    """A language model that is given the output of its embedding, ``(n, t, width)``, instead of tokens.

    Its parameters are the model's.

    Args:
        network: maps ``(n, t)`` tokens, int64, to logits ``(n, t, vocabulary)``.
        tokens: ``(n, t)``; one sequence shows which embedding reads them.

    Raises:
        ValueError: no ``nn.Embedding`` reads the tokens.
    """

    def __init__(self, network: nn.Module, tokens: Tensor) -> None:
        super().__init__()
        self.network = network
        # In a tuple: as a child beside the model, torch.func.functional_call would replace its weight twice.
        self._embedding = (_reader(network, tokens[:1]),)

    @torch.no_grad()
    def embedded(self, tokens: Tensor) -> Tensor:
        """Return what the embedding makes of tokens ``(n, t)``: ``(n, t, width)``."""
        embedded: Tensor = self._embedding[0](tokens)
        return embedded

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(n, t, width)`` to ``(n, t, vocabulary)``.

        Raises:
            ValueError: the model returns something else.
        """
        tokens = torch.zeros(x.shape[:2], dtype=torch.int64, device=x.device)
        with self._embedding[0].register_forward_hook(lambda module, args, output: x):
            logits = self.network(tokens)
        if not isinstance(logits, Tensor) or logits.dim() != 3 or logits.shape[:2] != x.shape[:2]:
            shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise ValueError(f"expected logits of shape ({len(x)}, {x.shape[1]}, vocabulary), got {shape}")
        return logits


def as_embedded(network: nn.Module, tokens: Tensor) -> tuple[nn.Module, Tensor]:
    """Return a language model as a function of its embedding's output, with this output for tokens."""
    model = FromEmbedding(network, tokens)
    return model, model.embedded(tokens)


@torch.no_grad()
def _reader(network: nn.Module, tokens: Tensor) -> nn.Embedding:
    """Return the embedding that reads the tokens; positions have others."""
    readers: list[nn.Embedding] = []

    def note(module: nn.Module, args: tuple[object, ...], output: object) -> None:
        if isinstance(module, nn.Embedding) and args and isinstance(args[0], Tensor) and torch.equal(args[0], tokens):
            readers.append(module)

    with ExitStack() as stack:
        stack.enter_context(preserve_state(network))
        for module in network.modules():
            stack.callback(module.register_forward_hook(note).remove)
        network(tokens)
    if not readers:
        raise ValueError("the metrics act on the output of an nn.Embedding that reads the tokens, and there is none")
    return readers[0]
