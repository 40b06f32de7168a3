"""Learn the vocabulary of the tokenizer of network strings again.

``python -m experiments.strings.vocabulary [-o FILE] [--size 768] [--networks 150] [--views executed functional]``

The strings are of random networks of NATS-Bench's spaces, on all data sets, of torch's layers, and of published
architectures, which are built from their configs; nothing is downloaded.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from torch import nn

from experiments.tables import as_command, experiment_parser, markdown
from freerea_patch import InputError, SizeSpace, TopologySpace
from freerea_patch.spaces import DATASETS
from freerea_seval.progress import terminal_progress
from freerea_seval.strings import Inputs, serialize_graph, trace_module
from freerea_seval.strings.graph.simplify import simplify
from freerea_seval.strings.text.tokenizer import DEFAULT, Tokenizer

VIEWS = ("executed", "functional")
SPACES: tuple[type[TopologySpace | SizeSpace], ...] = (TopologySpace, SizeSpace)

IMAGE, TEXT, TALK = ("pixel_values", (1, 3, 224, 224)), ("input_ids", (1, 16)), ("decoder_input_ids", (1, 8))
_SMALL = {
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "use_cache": False,
}
#: Models of transformers, what their configs differ in from the default, and their inputs. Widths and depths do
#: not matter here, numbers being no part of tokens; so large ones are made small.
ARCHITECTURES: Mapping[str, tuple[Mapping[str, Any], Sequence[tuple[str, tuple[int, ...]]]]] = {
    **dict.fromkeys(("ResNet", "RegNet", "MobileNetV1", "MobileNetV2", "EfficientNet", "ConvNext"), ({}, [IMAGE])),
    **dict.fromkeys(("ViT", "Swin", "Segformer"), ({}, [IMAGE])),
    **dict.fromkeys(("Bert", "Albert"), ({}, [TEXT])),
    "GPT2": ({"n_layer": 4, "n_embd": 256, "n_head": 4, "use_cache": False}, [TEXT]),
    "OPT": ({"hidden_size": 256, "ffn_dim": 512, "num_attention_heads": 4, "use_cache": False}, [TEXT]),
    "T5": ({"d_model": 256, "use_cache": False}, [TEXT, TALK]),
    "Bart": ({"d_model": 256, "use_cache": False}, [TEXT, TALK]),
    **dict.fromkeys(("Llama", "Qwen2", "Mistral"), ({**_SMALL, "num_key_value_heads": 2}, [TEXT])),
}

#: Layers without arguments.
ACTIVATIONS = (
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.ELU,
    nn.GELU,
    nn.SiLU,
    nn.Mish,
    nn.Hardswish,
    nn.Hardsigmoid,
    nn.Tanh,
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from a command line."""
    parser = experiment_parser("strings.vocabulary", __doc__)
    parser.add_argument("-o", "--output", type=Path, default=DEFAULT, help="default: the file of the package")
    parser.add_argument("--size", type=int, default=768)
    parser.add_argument("--networks", type=int, default=150, help="of each space and data set")
    parser.add_argument("--views", nargs="+", choices=VIEWS, default=VIEWS)
    parser.add_argument("--architectures", nargs="*", choices=list(ARCHITECTURES), default=list(ARCHITECTURES))
    parser.shared("--seed")
    options = parser.parse_args(arguments)
    corpus: dict[str, list[str]] = {}
    total = len(SPACES) * len(DATASETS) * options.networks + 3 + len(options.architectures)
    with terminal_progress().task("strings") as show:
        corpora = (networks(options.networks, options.seed), layers(), architectures(options.architectures))
        for count, (name, network, inputs) in enumerate(itertools.chain(*corpora)):
            show(count / total, name)
            for view, string in views(network, inputs, options.views):
                corpus.setdefault(f"{name}, {view}", []).append(string)
    tokenizer = Tokenizer.fit((string for strings in corpus.values() for string in strings), options.size)
    tokenizer.save(options.output)
    print(f"{len(tokenizer)} tokens in {options.output}\n")
    print(summary(tokenizer, corpus))


def networks(count: int, seed: int) -> Iterator[tuple[str, nn.Module, Inputs]]:
    """Yield random networks of each space and data set, with the space's name and an input."""
    for make, dataset in itertools.product(SPACES, DATASETS):
        space = make(dataset)
        for genotype in Random(seed).sample(list(space.genotypes()), count):
            yield space.kind, space.build(genotype), [torch.zeros(1, *space.input_shape)]


def architectures(names: Sequence[str]) -> Iterator[tuple[str, nn.Module, Inputs]]:
    """Yield published architectures with random weights, and their inputs.

    Raises:
        InputError: transformers is not installed.
    """
    if not names:
        return
    try:
        import transformers
    except ImportError:
        raise InputError(
            "the architectures need the package transformers: pip install transformers; or name none: --architectures"
        ) from None
    for name in names:
        changes, inputs = ARCHITECTURES[name]
        network = getattr(transformers, f"{name}Model")(getattr(transformers, f"{name}Config")(**changes))
        examples = {
            key: torch.zeros(shape, dtype=None if key == "pixel_values" else torch.int64) for key, shape in inputs
        }
        yield "architectures", network, examples


def layers() -> Iterator[tuple[str, nn.Module, Inputs]]:
    """Yield torch's own layers, of images, sequences and volumes, a network for each."""
    for n in (1, 2, 3):
        windows = [getattr(nn, f"{kind}{n}d") for kind in ("Conv", "ConvTranspose")]
        pools = [getattr(nn, f"{kind}Pool{n}d") for kind in ("Avg", "Max")]
        adaptive = [getattr(nn, f"Adaptive{kind}Pool{n}d") for kind in ("Avg", "Max")]
        others = [
            *(
                window(8, 8, 3, padding=padding, bias=bias)
                for window in windows
                for padding in (0, 1)
                for bias in (0, 1)
            ),
            *(pool(2) for pool in pools),
            nn.GroupNorm(4, 8),
            *(kind() for kind in ACTIVATIONS),
            nn.Upsample(scale_factor=2),
            nn.Softmax(dim=1),
            *(pool(size) for size in (4, 2, 1) for pool in adaptive),
        ]
        yield "layers", nn.Sequential(*others), [torch.zeros(1, 8, *[24] * n)]


def views(network: nn.Module, inputs: Inputs, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the names of views and the network's strings in them."""
    graph = trace_module(network, inputs)
    for name in names:
        yield name, serialize_graph(simplify(graph) if name == "functional" else graph)


def summary(tokenizer: Tokenizer, corpus: Mapping[str, Sequence[str]]) -> str:
    """Return how many tokens the strings have, as a Markdown table."""
    lines = []
    for name, strings in corpus.items():
        lengths = [len(tokenizer.encode(string).ids) for string in strings]
        lines.append([name, len(strings), int(np.median(lengths)), max(lengths)])
    return markdown(["strings", "networks", "median tokens", "most"], lines)


if __name__ == "__main__":
    as_command(main)
