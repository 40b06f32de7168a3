"""Zero-cost proxies of language models: what they act on, and which there are."""

from __future__ import annotations

import math
from random import Random

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from freerea_patch import GPTSpace, InputError
from freerea_patch.errors import UndefinedMetric
from freerea_patch.gpt_networks import Attention
from freerea_patch.training_free import FromEmbedding
from freerea_seval.config import LiveSettings
from freerea_seval.proxies import ALL_PROXIES, NOT_OF_TOKENS
from freerea_seval.proxies.az_nas import NoiseFeatures
from freerea_seval.proxies.compute import zero_cost_proxies
from freerea_seval.proxies.per_network import correlations, jacov
from freerea_seval.sources.live import ZeroCostSource
from freerea_seval.sources.registry import Context

SPACE = GPTSpace([32], [2], [1, 2], [2], context=16, vocabulary=50)
GENOTYPE = SPACE.sample(Random(0))
TOKENS = torch.randint(50, (4, 16), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SPACE.build(GENOTYPE)


def value(network: nn.Module, name: str) -> float:
    return zero_cost_proxies(network, TOKENS, names=[name])[name].value


def test_every_other_proxy_has_a_value_on_a_language_model() -> None:
    names = [name for name in ALL_PROXIES if name not in NOT_OF_TOKENS]
    live = LiveSettings(batch_size=4, length=8, cache="off")
    (row,) = ZeroCostSource(Context(SPACE, live), None).evaluate([GENOTYPE], names)
    assert all(math.isfinite(row[name].value) for name in names), row


@pytest.mark.parametrize("name", sorted(NOT_OF_TOKENS))
def test_the_others_name_what_to_take_instead(network: nn.Module, name: str) -> None:
    source = ZeroCostSource(Context(SPACE, LiveSettings(cache="off")), None)
    with pytest.raises(UndefinedMetric, match=rf"^space 'gpt .*' reads tokens: {name} .*; take "):
        source.describe(name)
    with pytest.raises(InputError, match=rf"^{name} .*; take "):
        value(network, name)


def test_gradients_are_of_the_loss_of_the_next_token(network: nn.Module) -> None:
    logits = network(TOKENS)
    loss = F.cross_entropy(logits[:, :-1].reshape(-1, 50), TOKENS[:, 1:].reshape(-1))
    weights = [module.weight for module in network.modules() if isinstance(module, nn.Linear)]
    gradients = torch.autograd.grad(loss, weights)
    assert value(network, "grad_norm") == pytest.approx(sum(float(g.norm()) for g in gradients), rel=1e-4)


def test_jacov_is_of_the_output_of_the_embedding(network: nn.Module) -> None:
    outputs: list[Tensor] = []
    with next(network.children()).register_forward_hook(lambda m, a, y: outputs.append(y)):
        summed = network(TOKENS).sum()
    (gradient,) = torch.autograd.grad(summed, outputs)
    assert value(network, "jacov") == pytest.approx(jacov(correlations(gradient.flatten(1))), rel=1e-3)


def test_depth_counts_the_layers_of_values() -> None:
    # Embedding, values, output, head: three weighted layers, whatever attention attends to.
    chain = nn.Sequential(nn.Embedding(50, 64), Attention(64, 2, 2, False, 16, 32), nn.Linear(64, 50, bias=False))
    assert value(chain, "depth") == pytest.approx(3)


def test_logits_are_no_features(network: nn.Module) -> None:
    features = NoiseFeatures(FromEmbedding(network, TOKENS), (4, 16, 32), 0, own_weights=True).features
    assert features[-1].shape == (4, 16, 32)
    assert all(feature.shape == (4, 16, 32) for feature in features)
