"""Networks a second from string to value: the published predictor beside ours, on this machine in one run.

``python -m experiments.predictors.speed``
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from random import Random

import numpy as np
import pandas as pd
import torch
from torch import nn

from experiments.tables import RowJournal, as_command, experiment_parser, groups, markdown
from freerea_patch import TopologySpace
from freerea_seval.predictor.seval import SEvalPredictor
from freerea_seval.strings.encode import SpaceStrings

#: Tokens that the published predictor reads; every string of NAS-Bench-201 is longer and cut there.
TOKENS = 512
#: Words of T5's vocabulary.
_WORDS = 32128
COLUMNS = ("way", "round", "networks", "seconds")


def main(arguments: Sequence[str] | None = None) -> None:
    """Time both ways in turn, and print the medians."""
    parser = experiment_parser("predictors.speed", __doc__)
    parser.add_argument("--train", type=int, default=2500, help="training cells of our predictor")
    parser.add_argument("--theirs", type=int, default=6, help="networks a round of the published way")
    parser.shared("--rounds", default=5)
    parser.shared("--threads", default=2)
    parser.shared("--seed")
    parser.output("runs/predictor_speed")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    space = TopologySpace()
    cells = Random(options.seed).sample(space.genotypes(), options.train + options.rounds * (256 + 64))
    strings = SpaceStrings(space, "executed").strings(cells)
    train, fresh = strings[: options.train], iter(strings[options.train :])
    # The training values do not change the time: a made-up metric is enough.
    values = [string.count("conv") + 0.1 * (len(string) % 7) for string in train]
    predictor = SEvalPredictor(seed=options.seed).fit(train, values)
    theirs = published(options.seed)
    journal = RowJournal(options.output, {"train": options.train, "threads": options.threads}, COLUMNS)
    ways: Sequence[tuple[str, int, Callable[[], object]]]
    for turn in range(options.rounds):
        batch = [next(fresh) for _ in range(256)]
        single = [next(fresh) for _ in range(64)]
        ways = (
            ("published, one at a time", options.theirs, lambda: [theirs() for _ in range(options.theirs)]),
            ("ours, one at a time", len(single), partial(one_by_one, predictor, single)),
            ("ours, 256 at a time", len(batch), partial(predictor.predict, batch)),
        )
        for way, count, run in ways:
            began = time.perf_counter()
            run()
            seconds = time.perf_counter() - began
            journal.append({"way": way, "round": turn, "networks": count, "seconds": f"{seconds:.6f}"})
    print(summary(journal.frame(), predictor.choice_))


def one_by_one(predictor: SEvalPredictor, strings: Sequence[str]) -> None:
    """Predict each network on its own."""
    for string in strings:
        predictor.predict([string])


def published(seed: int) -> Callable[[], float]:
    """Return the published predictor on one network: T5-small's encoder over 512 tokens, their mean, and one head.

    Weights are random, as they do not change the time, and tokens are, too: reading them off a string is not counted.
    """
    from transformers import T5Config, T5EncoderModel

    torch.manual_seed(seed)
    shape = T5Config(vocab_size=_WORDS, d_model=512, d_kv=64, d_ff=2048, num_layers=6, num_heads=8)
    encoder = T5EncoderModel(shape)
    encoder.train(mode=False)
    head = nn.Linear(512, 1)
    tokens = np.random.default_rng(seed)

    def predict() -> float:
        ids = torch.from_numpy(tokens.integers(1, _WORDS, (1, TOKENS)))
        with torch.inference_mode():
            return float(head(encoder(input_ids=ids).last_hidden_state.mean(dim=1)))

    predict()
    return predict


def summary(rows: pd.DataFrame, choice: str) -> str:
    """Return a Markdown table, a line a way: the median over rounds, and how many times the published one."""
    rates = {way: (group["networks"] / group["seconds"]).median() for (way,), group in groups(rows, way=None)}
    base = next(iter(rates.values()))
    lines = [[way, f"{rate:.1f}", f"{rate / base:.1f}"] for way, rate in rates.items()]
    return f"{markdown(['way', 'networks a second', 'times the published'], lines)}\n\nOurs: {choice}."


if __name__ == "__main__":
    as_command(main)
