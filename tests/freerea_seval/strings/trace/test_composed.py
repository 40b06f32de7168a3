"""Random modules of many layer types: a string that counts right, or one line; and the module stays as it was."""

from __future__ import annotations

import os
from random import Random
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from freerea_patch import InputError
from freerea_seval.costs import network_costs
from freerea_seval.strings import VIEWS, parse_graph, serialize_graph, trace_module, view_of
from tests.freerea_seval.strings.trace.layer_types import LAYER_TYPES, SHAPE

#: Number of random modules; ``COMPOSED=300`` in the environment for more.
MODULES = int(os.environ.get("COMPOSED", "30"))

pytestmark = pytest.mark.filterwarnings("ignore")


def snapshot(network: nn.Module) -> dict[str, Any]:
    tensors = dict((*network.named_parameters(), *network.named_buffers()))
    values = {name: tensor for name, tensor in tensors.items() if not torch.nn.parameter.is_lazy(tensor)}
    modes = {f"mode of {name}": getattr(module, "training", None) for name, module in network.named_modules()}
    return {name: value.clone() for name, value in values.items()} | modes


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    def equal(first: Any, second: Any) -> bool:
        return torch.equal(first, second) if isinstance(first, Tensor) else first == second

    return one.keys() == other.keys() and all(equal(one[name], other[name]) for name in one)


def check(names: list[str], layers: list[nn.Module], network: nn.Module) -> None:
    """Trace a network that runs the named layers, of which some may be the same object."""
    x = torch.linspace(-1, 1, 512).view(SHAPE)
    before, given = snapshot(network), x.clone()
    refused = [kind.refused for name in names if (kind := LAYER_TYPES[name]).refused is not None]
    if refused:
        with pytest.raises(InputError) as caught:
            trace_module(network, [x])
        message = str(caught.value)
        assert "\n" not in message
        assert any(text in message for text in refused)
        assert same(before, snapshot(network))
        return
    graph = trace_module(network, [x])
    assert torch.equal(x, given)
    assert same(before, snapshot(network))
    for view in VIEWS:
        viewed = view_of(graph, view)
        assert parse_graph(serialize_graph(viewed)) == viewed
    assert trace_module(network, [x]) == graph
    assert graph.macs == sum(LAYER_TYPES[name].macs for name in names)
    own = {id(layer): (LAYER_TYPES[name].parameters, layer) for name, layer in zip(names, layers, strict=True)}
    expected = sum(
        sum(p.numel() for p in layer.parameters()) if count is None else count for count, layer in own.values()
    )
    assert graph.parameters == expected
    costs = network_costs(network, [x])
    assert (costs.params, costs.macs) == (graph.parameters, graph.macs)
    assert same(before, snapshot(network))


@pytest.mark.parametrize("name", LAYER_TYPES)
def test_one_layer(name: str) -> None:
    torch.manual_seed(0)
    layer = LAYER_TYPES[name].make()
    check([name], [layer], nn.Sequential(layer))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(MODULES))
def test_a_random_composition(seed: int) -> None:
    rng = Random(seed)
    torch.manual_seed(seed)
    names = rng.choices(list(LAYER_TYPES), k=rng.randint(2, 6))
    layers = [LAYER_TYPES[name].make() for name in names]
    if rng.random() < 0.3:  # a layer that runs twice
        again = rng.randrange(len(layers))
        names.append(names[again])
        layers.append(layers[again])
    middle = len(layers) // 2
    network: nn.Module = nn.Sequential(*layers[:middle], nn.Sequential(*layers[middle:]))
    check(names, layers, network)
