"""What strings tell of networks: ceilings, tokens, speed, and whether equal ones compute the same.

``python -m experiments.strings.benchmark ceilings|tokens|speed|equality``
"""

from __future__ import annotations

import argparse
import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import numpy as np
import numpy.typing as npt

from experiments.strings.speed import speed
from experiments.strings.twins import equality
from experiments.strings.views import PUBLISHED, STRINGS, sample, strings_of
from experiments.tables import RowJournal, as_command, markdown
from freerea_patch import InputError, SizeSpace, TopologySpace
from freerea_patch.spaces import DATASETS
from freerea_seval.progress import terminal_progress
from freerea_seval.sources.freerea_cache import FreereaCacheSource
from freerea_seval.sources.hw_nas_bench import HwNasBenchSource
from freerea_seval.sources.registry import Context

DEVICES = ("raspi4_latency", "edgegpu_latency")

Floats = npt.NDArray[np.float64]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one of the experiments."""
    parser = argparse.ArgumentParser(prog="python -m experiments.strings.benchmark", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, run: Callable[[argparse.Namespace], None], help: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=help, description=help)
        added.add_argument("--cells", type=int, help="only so many random networks of a space")
        added.add_argument("--seed", type=int, default=0, help="seed of what is random")
        added.add_argument("-o", "--output", type=Path, default=Path("runs/strings") / name)
        added.set_defaults(run=run)
        return added

    added = command("ceilings", ceilings, "different strings of NAS-Bench-201, and the best tau that they allow")
    added.add_argument("--cache", type=Path, required=True, help="folder cached_metrics of FreeREA's code")
    added.add_argument("--hw-nas-bench", type=Path, help="file HW-NAS-Bench-v1_0.pickle, for latencies")
    added = command("tokens", tokens, "tokens a network of both NATS-Bench spaces")
    added.add_argument("--published", type=int, default=500, help="networks of a space in the published format")
    added.add_argument("--t5", type=Path, help="folder of a T5 tokenizer, for the published format")
    added = command("speed", speed, "networks a second, beside the published way")
    added.add_argument("--rounds", type=int, default=5)
    added.add_argument("--fresh", type=int, default=4, help="first conversions a round")
    added.add_argument("--batch", type=int, default=64, help="images that the published way runs on")
    added.add_argument("--threads", type=int, default=2, help="threads of torch")
    added = command("equality", equality, "whether networks with one functional string compute the same")
    added.add_argument("--pairs", type=int, default=200)
    options = parser.parse_args(arguments)
    options.run(options)


def ceilings(options: argparse.Namespace) -> None:
    """Write the string of every cell in every form; print how many differ, and how well they can tell metrics."""
    space = TopologySpace()
    metrics = read_metrics(options.cache, options.hw_nas_bench)
    journal = RowJournal(options.output, {"seed": options.seed}, ("index", "view", "string", "characters"))
    chosen = sample(space, options.cells, options.seed)
    done = {(int(row["index"]), row["view"]) for row in journal.rows()}
    for view in STRINGS:
        left = [index for index in chosen if (index, view) not in done]
        strings = strings_of(space, view, [space.genotypes()[index] for index in left])
        with terminal_progress().task(f"{len(chosen)} cells, {view}") as show:
            for count, (index, string) in enumerate(zip(left, strings, strict=True)):
                digest = hashlib.sha256(string.encode()).hexdigest()[:24]
                journal.append({"index": index, "view": view, "string": digest, "characters": len(string)})
                show((count + 1) / len(left), "")
    print(ceilings_summary(journal.rows(), sorted(chosen), metrics))


def read_metrics(cache: Path, hw_nas_bench: Path | None) -> dict[str, Floats]:
    """Return published values by metric, by index of the cell."""
    metrics = {}
    for dataset in DATASETS:
        space = TopologySpace(dataset)
        rows = FreereaCacheSource(Context(space), str(cache)).evaluate(space.genotypes(), ["accuracy"])
        metrics[f"accuracy, {dataset}"] = np.array([row["accuracy"].value for row in rows])
    if hw_nas_bench:
        space = TopologySpace()
        table = HwNasBenchSource(Context(space), str(hw_nas_bench)).evaluate(space.genotypes(), DEVICES)
        metrics |= {device: np.array([row[device].value for row in table]) for device in DEVICES}
    return metrics


def ceilings_summary(rows: Sequence[dict[str, str]], chosen: Sequence[int], metrics: dict[str, Floats]) -> str:
    """Return a Markdown table, a line a view."""
    from sklearn.model_selection import train_test_split

    place = {index: i for i, index in enumerate(chosen)}
    test = train_test_split(range(len(chosen)), test_size=0.2, random_state=42)[1]
    lines = []
    for view in STRINGS:
        strings, lengths = [""] * len(chosen), []
        for row in rows:
            if row["view"] == view and int(row["index"]) in place:
                strings[place[int(row["index"])]] = row["string"]
                lengths.append(int(row["characters"]))
        taus = [ceiling(strings, values[list(chosen)], test) for values in metrics.values()]
        sizes = f"{min(lengths)} / {median(lengths):.0f} / {max(lengths)}"
        lines.append([view, len(set(strings)), sizes, *(f"{tau:.4f}" for tau in taus)])
    header = ["view", f"different strings of {len(chosen)}", "characters (min / median / max)", *metrics]
    return f"{markdown(header, lines)}\n\n{CEILING.format(len(test))}"


CEILING = """\
Kendall's tau-b, on {} test cells, between a metric and its mean over all cells with the same string: the best that
can be had from the string alone, and optimistic where most strings are one cell's."""


def ceiling(strings: Sequence[str], values: Floats, test: Sequence[int]) -> float:
    """Return tau-b between values and their means by string.

    Args:
        strings, values: of all networks, ``(n,)``.
        test: the networks to compare.
    """
    from freerea_seval.predictor.scores import scores

    _, group = np.unique(np.array(strings), return_inverse=True)
    means = np.bincount(group, values) / np.bincount(group)
    known = list(test)
    return scores(values[known], means[group][known], direction="max").get("kendall_tau", float("nan"))


def tokens(options: argparse.Namespace) -> None:
    """Count the tokens of every network in every form; print median and maximum."""
    config = {"seed": options.seed, "t5": str(options.t5)}
    journal = RowJournal(options.output, config, ("space", "view", "index", "tokens", "characters"))
    done = {(row["space"], row["view"], int(row["index"])) for row in journal.rows()}
    for space in (TopologySpace(), SizeSpace()):
        chosen = sample(space, options.cells, options.seed)
        for view in STRINGS:
            count = counter(view, options.t5)
            wanted = chosen[: options.published] if view == PUBLISHED else chosen
            left = [index for index in wanted if (space.kind, view, index) not in done]
            strings = strings_of(space, view, [space.genotypes()[index] for index in left])
            with terminal_progress().task(f"{space.kind}, {view}") as show:
                for number, (index, string) in enumerate(zip(left, strings, strict=True)):
                    row = {"space": space.kind, "view": view, "index": index, "characters": len(string)}
                    journal.append({**row, "tokens": count(string)})
                    show((number + 1) / len(left), "")
    print(tokens_summary(journal.rows()))


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


def tokens_summary(rows: Sequence[dict[str, str]]) -> str:
    """Return a Markdown table, a line a space and view."""
    groups = defaultdict(list)
    for row in rows:
        groups[row["space"], row["view"]].append(row)
    lines = []
    for (space, view), group in groups.items():
        counts = [int(row["tokens"]) for row in group if row["tokens"]]
        lengths = [int(row["characters"]) for row in group]
        said = [f"{median(counts):.0f}", max(counts)] if counts else ["", ""]
        lines.append([space, view, len(group), *said, f"{median(lengths):.0f}", max(lengths)])
    return markdown(["space", "view", "networks", "tokens: median", "maximum", "characters: median", "maximum"], lines)


if __name__ == "__main__":
    as_command(main)
