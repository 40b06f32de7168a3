"""Whether exported networks equal the networks: random ones of every space, in each format.

``python -m experiments.devices.exports --networks 20``.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from random import Random
from typing import Any

import pandas as pd
import torch

from experiments.tables import RowJournal, as_command, experiment_parser, markdown
from freerea_patch.spaces import input_dtype
from freerea_seval.config import make_space
from freerea_seval.export import export_network
from freerea_seval.export.formats import FORMATS
from freerea_seval.files import temporary_folder

#: Small language models, with layer norms, and vision transformers of a config, whose source is that of transformers.
_GPT = {"name": "gpt", "width": [64, 128], "layers": [2, 3], "heads": [1, 2], "ratio": [2, 4], "context": 16}
_VIT = {
    "transformers": {"model_type": "vit", "image_size": 32, "patch_size": 8, "intermediate_size": 64},
    "vary": {"hidden_size": [32, 64], "num_hidden_layers": [1, 2, 3], "num_attention_heads": [2, 4]},
}
#: The spaces as configs name them, and the formats of their networks.
SPACES: Mapping[str, tuple[str | Mapping[str, Any], Iterable[str]]] = {
    "nats-tss": ("nats-tss", FORMATS),
    "nats-sss": ("nats-sss", FORMATS),
    "fbnet": ("fbnet", FORMATS),
    "gpt": ({**_GPT, "bias": [True, False], "vocabulary": 100}, FORMATS),
    "vit": (_VIT, (".onnx", ".pt2")),
}
COLUMNS = ("space", "genotype", "format", "difference", "settled", "seconds")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the experiment and print the largest differences."""
    parser = experiment_parser("devices.exports", __doc__)
    parser.add_argument("--networks", type=int, default=20, help="of every space (default: 20)")
    parser.shared("--seed")
    parser.output("runs/exports")
    options = parser.parse_args(arguments)
    journal = RowJournal(options.output, {"networks": options.networks, "seed": options.seed}, COLUMNS)
    jobs: list[tuple[str, str, str]] = []
    spaces = {name: make_space(spec) for name, (spec, _) in SPACES.items()}
    for name, space in spaces.items():
        rng = Random(options.seed)
        genotypes = dict.fromkeys(space.sample(rng) for _ in range(10 * options.networks))
        chosen = list(genotypes)[: options.networks]
        jobs += [(name, genotype, suffix) for genotype in chosen for suffix in SPACES[name][1]]
    with temporary_folder() as folder:
        for name, genotype, suffix in journal.missing(COLUMNS[:3], jobs, "files"):
            space, path = spaces[name], folder / f"network{suffix}"
            torch.manual_seed(options.seed)
            network = space.build(genotype)
            began = time.perf_counter()
            own, settled = export_network(network, space.input_shape, path, dtype=input_dtype(space))
            seconds = f"{time.perf_counter() - began:.2f}"
            path.unlink()
            cells = (name, genotype, suffix, own, settled, seconds)
            journal.append(dict(zip(COLUMNS, cells, strict=True)))
    print(summary(journal.frame()))


def summary(rows: pd.DataFrame) -> str:
    """Return the largest differences of every space and format, and the mean seconds of a file."""
    header = ("space", "format", "networks", "largest difference", "with settled batch norms", "seconds a file")
    lines = [
        (
            space,
            suffix,
            str(len(group)),
            f"{group['difference'].astype(float).max():.1e}",
            f"{group['settled'].astype(float).max():.1e}",
            f"{group['seconds'].astype(float).mean():.1f}",
        )
        for (space, suffix), group in rows.groupby(["space", "format"], sort=False)
    ]
    return markdown(header, lines)


if __name__ == "__main__":
    as_command(main)
