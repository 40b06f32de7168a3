"""Strings and costs of spaces of transformers, of the sizes that the library has by default, without their weights.

``python -m experiments.transformers.families``; ``--families llama-7b --networks 1000`` is a thousand networks around
Llama 2's 7 billion parameters. Seconds are of the processor, those of checks and of the first networks included.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from experiments.tables import as_command, experiment_parser, markdown
from freerea_patch import make_space, unknown_name
from freerea_seval.costs import SpaceCosts
from freerea_seval.measurement.networks import draw
from freerea_seval.strings import SpaceStrings, Spec, serialize_graph
from freerea_seval.strings.spaces import traced_on_meta

_DECODER: Mapping[str, Any] = {
    "num_hidden_layers": list(range(16, 41)),
    "hidden_size": [3072, 4096, 5120],
    "intermediate_size": [8192, 9728, 11008, 12288, 13824, 14336],
    "num_attention_heads": [32, 40],
    "num_key_value_heads": [4, 8, 32],
}
_ENCODER: Mapping[str, Any] = {
    "num_hidden_layers": list(range(6, 25)),
    "hidden_size": [384, 576, 768, 960],
    "num_attention_heads": [6, 12],
    "intermediate_size": [1536, 2304, 3072],
}
#: What is varied of each family, and options of its space.
FAMILIES: Mapping[str, Mapping[str, Any]] = {
    "llama-7b": {"transformers": "llama", "context": 1024, "vary": _DECODER},
    "qwen3": {"transformers": "qwen3", "context": 1024, "vary": _DECODER},
    "mistral": {"transformers": "mistral", "context": 1024, "vary": _DECODER},
    "gpt2": {
        "transformers": "gpt2",
        "context": 1024,
        "vary": {"n_layer": list(range(6, 25)), "n_embd": [384, 576, 768, 960], "n_head": [6, 12]},
    },
    "bert": {"transformers": "bert", "context": 512, "vary": _ENCODER},
    "vit": {"transformers": "vit", "vary": _ENCODER},
    "mamba": {
        "transformers": "mamba",
        "context": 16,
        "vary": {"num_hidden_layers": list(range(6, 25)), "hidden_size": [384, 576, 768, 960], "state_size": [8, 16]},
    },
    "whisper": {
        "transformers": "whisper",
        "vary": {
            **{"encoder_layers": [2, 4, 6, 8], "decoder_layers": [2, 4, 6, 8], "d_model": [256, 384, 512]},
            **{"encoder_attention_heads": [4, 8], "decoder_attention_heads": [4, 8]},
        },
    },
}


class Times(NamedTuple):
    """What the networks of a family take.

    Attributes:
        layers: of the largest network.
        tokens: words of the longest string.
        string_s, costs_s: seconds of all networks.
        again_ms: milliseconds of a further string with sizes that were seen before.
        largest: parameters.
    """

    layers: int
    tokens: int
    string_s: float
    costs_s: float
    again_ms: float
    largest: int


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the experiment and print the table."""
    parser = experiment_parser("transformers.families", __doc__)
    parser.add_argument("--families", nargs="+", default=list(FAMILIES), help="by default all")
    parser.add_argument("--networks", type=int, default=100, help="of each (default: 100)")
    parser.shared("--seed")
    options = parser.parse_args(arguments)
    for name in options.families:
        if name not in FAMILIES:
            raise unknown_name("family", name, FAMILIES)
    print(
        markdown(
            ("family", "networks", "parameters, at most", "layers", "tokens", "strings", "costs", "a further string"),
            [line(name, options.networks, options.seed) for name in options.families],
        )
    )


def line(name: str, networks: int, seed: int) -> tuple[str, ...]:
    """Return the cells of a family."""
    times = measure(make_space(FAMILIES[name]), networks, seed)
    return (
        name,
        str(networks),
        f"{times.largest / 1e6:,.0f} M",
        str(times.layers),
        str(times.tokens),
        f"{times.string_s:.1f} s",
        f"{times.costs_s:.1f} s",
        f"{times.again_ms:.1f} ms",
    )


def measure(space: Any, networks: int, seed: int) -> Times:
    """Return what random networks of a space take; the string of one is compared with that of tracing it whole."""
    genotypes = draw(space, networks, seed)
    reader, costs = SpaceStrings(space), SpaceCosts(space)
    began = time.process_time()
    strings = reader.strings(genotypes)
    string_s = time.process_time() - began
    began = time.process_time()
    counts = [costs.counts(genotype) for genotype in genotypes]
    if space.generates:
        for genotype in genotypes:
            costs.serving(genotype)
    costs_s = time.process_time() - began
    reader._cache.clear()
    began = time.process_time()
    assert reader.strings(genotypes) == strings
    again_ms = (time.process_time() - began) / networks * 1e3
    stack = space.stack(genotypes[-1])
    traced = traced_on_meta(stack.make(stack.counts), [Spec((1, *space.input_shape), space.input_dtype)])
    assert serialize_graph(traced) == strings[-1]
    return Times(
        max(sum(space.stack(genotype).counts) for genotype in genotypes),
        max(len(string.split()) for string in strings),
        string_s,
        costs_s,
        again_ms,
        max(count.params for count in counts),
    )


if __name__ == "__main__":
    as_command(main)
