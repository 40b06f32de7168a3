"""SEval-NAS's own setting (arXiv 2603.00099), trained here: its string, T5-small on 512 tokens, two metrics together.

``python -m experiments.predictors.sevalnas_baseline --cache cached_metrics --hw-nas-bench FILE [--t5 t5-small]``
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.published import DEVICES, read_targets
from experiments.strings.views import PUBLISHED, strings_of
from experiments.tables import RowJournal, as_command, experiment_parser, markdown, scored
from freerea_patch import TopologySpace
from freerea_patch.spaces import DATASETS
from freerea_seval.predictor.scores import scores
from freerea_seval.predictor.splits import published_split
from freerea_seval.predictor.t5 import estimator as t5
from freerea_seval.progress import terminal_progress

#: Words of T5's vocabulary (Raffel 2020).
_WORDS = 32128
_SCORES = ("kendall_tau", "spearman", "r2", "rmse")
ROW = ("metric", "start", "networks", "judged_on", "epochs", "seed", *_SCORES, "loss", "train_s")


def main(arguments: Sequence[str] | None = None) -> None:
    """Train once and score."""
    parser = experiment_parser("predictors.sevalnas_baseline", __doc__)
    parser.shared("--cache", "--hw-nas-bench", required=True)
    parser.add_argument("--accuracy", default="cifar10", choices=DATASETS, metavar="DATASET")
    parser.add_argument("--latency", default="edgegpu_latency", choices=DEVICES, metavar="DEVICE")
    parser.add_argument("--t5", help="pretrained T5-small: a folder or hub name; without it, its shape is made anew")
    parser.add_argument("--cells", type=int, default=9375, help="training cells of the published split")
    parser.add_argument("--judged-on", type=int, default=3125, help="test cells")
    parser.add_argument("--epochs", type=int, default=t5.PUBLISHED["epochs"])
    parser.shared("--seed", "--threads")
    parser.output("runs/published", "rows and checkpoints")
    options = parser.parse_args(arguments)
    journal = RowJournal(options.output, {}, ROW)
    targets = read_targets(options.cache, options.hw_nas_bench, None)
    chosen = [targets[options.accuracy], targets[options.latency]]
    space = TopologySpace()
    split = published_split(len(space.genotypes()))
    train, test = split.train[: options.cells], split.test[: options.judged_on]
    # A network that the device cannot run has no latency; the published predictor has no class for that.
    values = np.stack([np.where(np.isinf(target.values), np.nan, target.values) for target in chosen], axis=1)
    strings: list[str] = []
    cells = [space.genotypes()[i] for i in (*train, *test)]
    with terminal_progress().task(f"writing {len(cells)} strings") as show:
        for string in strings_of(space, PUBLISHED, cells):
            strings.append(string)
            show(len(strings) / len(cells), "")
    start = options.t5 or fresh(options.output / "t5-fresh", strings[: len(train)], options.seed)
    settings = {**t5.PUBLISHED, "epochs": options.epochs, "seed": options.seed, "threads": options.threads}
    predictor = t5.T5Predictor(**settings, pretrained=start)
    began = time.perf_counter()
    with terminal_progress().task("training") as show:
        predictor.fit(strings[: len(train)], values[train], show=show, checkpoints=options.output / "checkpoints")
    seconds = time.perf_counter() - began
    predicted = predictor.predict(strings[len(train) :])
    for column, target in enumerate(chosen):
        results = scores(values[test, column], predicted[:, column], direction=target.direction)
        journal.append(
            {
                "metric": target.name,
                "start": options.t5 or "fresh",
                "networks": len(train),
                "judged_on": len(test),
                "epochs": options.epochs,
                "seed": options.seed,
                **scored(results, _SCORES),
                "loss": f"{predictor.history_[-1]['loss']:.6g}",
                "train_s": f"{seconds:.1f}",
            }
        )
    print(markdown(ROW, [[row[name] for name in ROW] for row in journal.rows()]))


def fresh(folder: Path, strings: Sequence[str], seed: int) -> str:
    """Return a folder with new weights of T5-small's shape, and a tokenizer learned from strings."""
    if not folder.exists():
        import torch
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
        from transformers import PreTrainedTokenizerFast

        from freerea_seval.predictor.t5.encoder import make_model
        from freerea_seval.predictor.t5.training import isolated_seed

        tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.decoder = decoders.Metaspace()
        # About as finely as T5's own tokenizer, which knows none of these names as one word (2,600 tokens a string).
        trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=["<pad>", "</s>", "<unk>"], show_progress=False)
        tokenizer.train_from_iterator(strings, trainer)
        shape = {name: t5.PUBLISHED[name] for name in ("d_model", "d_ff", "num_layers", "num_heads")}
        with isolated_seed(seed, torch.device("cpu")):
            model = make_model(_WORDS, 1, "mse", **shape, d_kv=shape["d_model"] // shape["num_heads"])
        fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>")
        model.transformer.save_pretrained(folder)
        fast.save_pretrained(folder)
    return str(folder)


if __name__ == "__main__":
    as_command(main)
