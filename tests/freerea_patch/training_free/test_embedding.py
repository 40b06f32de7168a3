"""Language models as functions of their embedding's output, and FreeREA's metrics of them."""

from __future__ import annotations

import math
from random import Random

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from freerea_patch import GPTSpace, InputError, TrainingFree
from freerea_patch.gpt_networks import Attention
from freerea_patch.training_free import FromEmbedding, logsynflow, naswot

SPACE = GPTSpace([32], [2], [1, 2], [2], context=16, vocabulary=50)
GENOTYPE = SPACE.sample(Random(0))
TOKENS = torch.randint(50, (4, 16), generator=torch.Generator().manual_seed(1))


class Positions(nn.Module):
    """A model whose embedding of positions is called first, and whose head shares the weight of the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.positions, self.tokens = nn.Embedding(16, 8), nn.Embedding(50, 8)
        self.head = nn.Linear(8, 50, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.head(self.positions(torch.arange(tokens.shape[1])) + self.tokens(tokens))
        return logits


@pytest.mark.parametrize("network", [SPACE.build(GENOTYPE), Positions()])
def test_a_model_of_the_embedding_is_the_model_of_tokens(network: nn.Module) -> None:
    model = FromEmbedding(network, TOKENS)
    embedded = model.embedded(TOKENS).requires_grad_()
    logits = model(embedded)
    torch.testing.assert_close(logits, network(TOKENS))
    (gradient,) = torch.autograd.grad(logits.sum(), embedded)
    assert gradient.abs().sum() > 0
    assert len(list(model.parameters())) == len(list(network.parameters()))


def test_the_weights_are_left_as_they_were() -> None:
    network = Positions()
    model, before = FromEmbedding(network, TOKENS), network.tokens.weight.detach().clone()
    state = {name: p.detach().double() for name, p in model.named_parameters()}
    assert functional_call(model, state, (torch.ones(1, 16, 8, dtype=torch.float64),)).dtype == torch.float64
    assert network.tokens.weight.dtype == torch.float32
    assert network.tokens.weight is network.head.weight
    assert torch.equal(network.tokens.weight, before)


def test_a_model_without_an_embedding_or_without_logits_of_all_tokens_is_refused() -> None:
    class OneHot(nn.Module):
        def forward(self, tokens: Tensor) -> Tensor:
            return nn.functional.one_hot(tokens, 50).float()

    with pytest.raises(ValueError, match=r"act on the output of an nn\.Embedding that reads the tokens"):
        FromEmbedding(OneHot(), TOKENS)
    model = FromEmbedding(nn.Sequential(nn.Embedding(50, 8), nn.Flatten(), nn.Linear(128, 3)), TOKENS)
    with pytest.raises(ValueError, match=r"expected logits of shape \(4, 16, vocabulary\), got \(4, 3\)"):
        model(torch.ones(4, 16, 8))


def test_naswot_counts_the_signs_of_the_activations_of_tokens() -> None:
    network = SPACE.build(GENOTYPE)
    codes: list[Tensor] = []
    for module in network.modules():
        if type(module).__name__ == "MLP":
            module.get_submodule("up").register_forward_hook(lambda m, a, y: codes.append((y > 0).flatten(1).double()))
    with torch.no_grad():
        network(TOKENS)
    c = torch.cat(codes, dim=1)
    expected = torch.linalg.slogdet(c @ c.T + (1 - c) @ (1 - c).T)[1]
    model = FromEmbedding(network, TOKENS)
    assert naswot(model, model.embedded(TOKENS)) == pytest.approx(float(expected))


def test_logsynflow_takes_the_weights_of_attention_as_constants() -> None:
    attention, last = Attention(64, 1, 1, False, 16, 32), nn.Linear(64, 50, bias=False)
    model = FromEmbedding(nn.Sequential(nn.Embedding(50, 64), attention, last), TOKENS)
    # Every position averages equal values, whatever its weights: a chain of three layers for ones.
    weights = attention.inputs.weight[128:], attention.output.weight, last.weight
    values, output, head = (weight.detach().double().abs().requires_grad_() for weight in weights)
    ones = torch.ones(16, 64, dtype=torch.float64)
    gradients = torch.autograd.grad((ones @ values.T @ output.T @ head.T).sum(), [values, output, head])
    expected = sum(
        float((w.detach() * g.log1p()).sum()) for w, g in zip((values, output, head), gradients, strict=True)
    )
    assert logsynflow(model, (16, 64)) == pytest.approx(expected)


def test_the_source_computes_metrics_of_tokens_the_same_every_time() -> None:
    rows = []
    for batch in ("random", "tokens"):
        source = TrainingFree(SPACE, batch=batch, batch_size=4, length=8)
        assert source.images.shape == (4, 8)
        (row,) = source.evaluate([GENOTYPE], ["naswot", "logsynflow"])
        rows.append({name: row[name].value for name in ("naswot", "logsynflow")})
    assert rows[0] == rows[1]
    assert all(math.isfinite(value) for value in rows[0].values())
    with pytest.raises(InputError, match="does not define the metric skip"):
        source.check("skip")
