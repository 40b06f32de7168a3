"""What strings tell of networks: ceilings, tokens, speed, and whether networks of equal strings compute the same.

``python -m experiments.strings.benchmark ceilings|tokens|speed|equality``
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import numpy as np
import numpy.typing as npt
import pandas as pd

from experiments.published import read_accuracies, read_devices
from experiments.strings.speed import speed
from experiments.strings.twins import equality
from experiments.strings.views import PUBLISHED, STRINGS, sample, strings_of
from experiments.tables import ExperimentParser, RowJournal, as_command, experiment_parser, groups, markdown
from freerea_patch import SPACES, InputError, SizeSpace, TopologySpace
from freerea_patch.spaces import DATASETS
from freerea_seval.progress import terminal_progress

DEVICES = ("raspi4_latency", "edgegpu_latency")

Floats = npt.NDArray[np.float64]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one of the experiments."""
    parser = experiment_parser("strings.benchmark", __doc__)

    def command(name: str, run: Callable[[argparse.Namespace], None], help: str) -> ExperimentParser:
        added = parser.command(name, run, help)
        added.add_argument("--cells", type=int, help="only so many random networks of a space")
        added.shared("--seed")
        added.output(f"runs/strings/{name}")
        return added

    added = command("ceilings", ceilings, "different strings of NAS-Bench-201, and the best tau that they allow")
    added.shared("--cache", required=True)
    added.shared("--hw-nas-bench")
    added = command("tokens", tokens, "tokens a network of both NATS-Bench spaces")
    added.add_argument("--published", type=int, default=500, help="networks of a space in the published format")
    added.add_argument("--t5", type=Path, help="folder of a T5 tokenizer, for the published format")
    added = command("speed", speed, "networks a second, beside the published way")
    added.add_argument("--space", choices=SPACES, default="nats-tss")
    added.shared("--rounds", default=5)
    added.add_argument("--fresh", type=int, default=4, help="first conversions a round")
    added.add_argument("--batch", type=int, default=64, help="images that the published way runs on")
    added.shared("--threads", default=2)
    added = command("equality", equality, "whether networks with one functional string compute the same")
    added.add_argument("--pairs", type=int, default=200)
    options = parser.parse_args(arguments)
    options.run(options)


def ceilings(options: argparse.Namespace) -> None:
    """Write the string of every cell in every form; print how many differ, and the best tau with each metric."""
    space = TopologySpace()
    metrics = {f"accuracy, {dataset}": read_accuracies(options.cache, dataset) for dataset in DATASETS}
    if options.hw_nas_bench:
        devices = read_devices(options.hw_nas_bench)
        metrics |= {device: devices[device].values for device in DEVICES}
    journal = RowJournal(options.output, {"seed": options.seed}, ("index", "view", "string", "characters"))
    chosen = sample(space, options.cells, options.seed)
    done = {(int(row["index"]), row["view"]) for row in journal.rows()}
    for view in STRINGS:
        missing = [index for index in chosen if (index, view) not in done]
        strings = strings_of(space, view, [space.genotypes()[index] for index in missing])
        with terminal_progress().task(f"{len(chosen)} cells, {view}") as show:
            for count, (index, string) in enumerate(zip(missing, strings, strict=True)):
                digest = hashlib.sha256(string.encode()).hexdigest()[:24]
                journal.append({"index": index, "view": view, "string": digest, "characters": len(string)})
                show((count + 1) / len(missing), "")
    print(ceilings_summary(journal.frame(), sorted(chosen), metrics))


def ceilings_summary(rows: pd.DataFrame, chosen: Sequence[int], metrics: dict[str, Floats]) -> str:
    """Return a Markdown table, a line a view."""
    from sklearn.model_selection import train_test_split

    test = train_test_split(range(len(chosen)), test_size=0.2, random_state=42)[1]
    lines = []
    for (view,), group in groups(rows, view=STRINGS):
        cells = group.set_index("index").loc[list(chosen)]
        strings, lengths = cells["string"].astype(str).tolist(), cells["characters"].tolist()
        taus = [ceiling(strings, values[list(chosen)], test) for values in metrics.values()]
        sizes = f"{min(lengths)} / {median(lengths):.0f} / {max(lengths)}"
        lines.append([view, len(set(strings)), sizes, *(f"{tau:.4f}" for tau in taus)])
    header = ["view", f"different strings of {len(chosen)}", "characters (min / median / max)", *metrics]
    return f"{markdown(header, lines)}\n\n{CEILING.format(len(test))}"


CEILING = """\
Kendall's tau-b, on {} test cells, between a metric and its mean over all cells with the same string: an upper bound
for any predictor of the string alone, and optimistic where most strings are one cell's."""


def ceiling(strings: Sequence[str], values: Floats, test: Sequence[int]) -> float:
    """Return tau-b between values and their means by string.

    Args:
        strings, values: of all networks, ``(n,)``.
        test: the networks to compare.
    """
    from freerea_seval.predictor.scores import scores

    _, group = np.unique(np.array(strings), return_inverse=True)
    means = np.bincount(group, values) / np.bincount(group)
    rows = list(test)
    return scores(values[rows], means[group][rows], direction="max").get("kendall_tau", float("nan"))


def tokens(options: argparse.Namespace) -> None:
    """Count the tokens of every network in every form; print median and maximum."""
    config = {"seed": options.seed, "t5": str(options.t5)}
    journal = RowJournal(options.output, config, ("space", "view", "index", "tokens", "characters"))
    for space in (TopologySpace(), SizeSpace()):
        chosen, genotypes = sample(space, options.cells, options.seed), space.genotypes()
        for view in STRINGS:
            count = counter(view, options.t5)
            jobs = [
                (space.kind, view, index) for index in (chosen[: options.published] if view == PUBLISHED else chosen)
            ]
            missing = list(journal.missing(("space", "view", "index"), jobs, f"{space.kind}, {view}"))
            strings = strings_of(space, view, [genotypes[index] for _, _, index in missing])
            for (_, _, index), string in zip(missing, strings, strict=True):
                row = {"space": space.kind, "view": view, "index": index, "characters": len(string)}
                journal.append({**row, "tokens": count(string)})
    print(tokens_summary(journal.frame()))


def counter(view: str, t5: Path | None) -> Callable[[str], int | str]:
    """Return what counts the tokens of a string; without T5's tokenizer those of the published one stay uncounted.

    Raises:
        InputError: there is no tokenizer in the folder ``t5``, or no library for it.
    """
    if view != PUBLISHED:
        from freerea_seval.strings.text.tokenizer import Tokenizer

        ours = Tokenizer()
        return lambda string: len(ours.encode(string).ids)
    if t5 is None:
        return lambda string: ""
    try:
        from transformers import AutoTokenizer

        theirs = AutoTokenizer.from_pretrained(str(t5), local_files_only=True)
    except ImportError:
        raise InputError("T5's tokenizer needs the package transformers: pip install transformers") from None
    except (OSError, ValueError):
        raise InputError(
            f"{t5} has no tokenizer; expected a folder with tokenizer.json, as saved by transformers"
        ) from None
    return lambda string: len(theirs(string).input_ids)


def tokens_summary(rows: pd.DataFrame) -> str:
    """Return a Markdown table, a line a space and view."""
    lines = []
    for (space, view), group in groups(rows, space=None, view=None):
        cells = []
        for counts in (group["tokens"].dropna(), group["characters"]):
            cells += [f"{counts.median():.0f}", f"{counts.max():.0f}"] if len(counts) else ["", ""]
        lines.append([space, view, len(group), *cells])
    return markdown(["space", "view", "networks", "tokens: median", "maximum", "characters: median", "maximum"], lines)


if __name__ == "__main__":
    as_command(main)
