"""What ``freerea-seval measure`` does."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from freerea_patch import InputError
from freerea_seval.progress import terminal_progress

if TYPE_CHECKING:
    from freerea_seval.measurement.network_spec import Recipe
    from freerea_seval.measurement.networks import Networks
    from freerea_seval.measurement.results_io import VisitJournal

_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_SPACE = "nats-tss"
_NETWORKS = 100
#: Random networks among which the most informative are found.
_POOL = 1000


class Choice(NamedTuple):
    """Which networks, as the command line says it."""

    networks: Sequence[str]
    inputs: Sequence[str]
    space: str | None
    amount: int | None
    genotypes: Path | None
    batch_size: int | None
    seed: int
    informative: bool


class Manner(NamedTuple):
    """How to measure, as the command line says it."""

    backend: str
    device: str
    threads: int
    rounds: int
    budget: str | None
    memory: bool


def measure(choice: Choice, manner: Manner, output: Path | None) -> None:
    """Measure networks, and write a CSV, a JSON beside it, and a journal."""
    if output is None:
        raise InputError("measurements are written to a file: add -o FILE.csv")
    for name, value in (("--threads", manner.threads), ("--rounds", manner.rounds)):
        if value < 1:
            raise InputError(f"{name} must be 1 or more, got {value}")
    from freerea_seval.measurement.results_io import journal_path

    if output.suffix == ".json":
        raise InputError(f"{output}: the CSV's name cannot end in .json, which its description has; try -o FILE.csv")
    if output.exists() and not journal_path(output).exists():
        raise InputError(
            f"{output} exists already, and no journal beside it to go on from; choose another file with -o"
        )
    if not output.parent.is_dir():
        raise InputError(f"{output}: there is no folder {output.parent}; make it, or choose another -o")
    budget_s = None if manner.budget is None else parse_seconds(manner.budget)
    networks = choose(choice, ordered=budget_s is not None)
    from freerea_seval.measurement.backends import check_backend

    check_backend(manner.backend, manner.device, manner.threads)
    if manner.memory:
        from freerea_seval.measurement.memory import check_memory

        check_memory(manner.backend, manner.device)
    from freerea_seval.measurement.machine import describe_machine
    from freerea_seval.measurement.results_io import VisitJournal

    config: dict[str, Any] = {
        "backend": manner.backend,
        "device": manner.device,
        "threads": manner.threads,
        "seed": choice.seed,
        **networks.about,
        "networks": list(networks.names),
        "machine": describe_machine(manner.device),
    }
    journal = VisitJournal(journal_path(output), config)
    try:
        _visit(networks, journal, choice, manner, budget_s)
    except KeyboardInterrupt:
        print(f"\nstopped; the same command goes on from {journal.path}", file=sys.stderr)
        raise
    finally:
        journal.close()
    _write(output, networks, journal, config, manner)


def choose(choice: Choice, ordered: bool = False) -> Networks:
    """Return the networks that the command line names.

    Args:
        choice: the command line.
        ordered: whether the most informative networks of a space shall come first.

    Raises:
        InputError: it names none, or contradicts itself.
    """
    from freerea_seval.config import LiveSettings
    from freerea_seval.sources.live import prepare_torch

    if choice.networks:
        return _given(choice)
    if choice.inputs:
        raise InputError("--input goes with networks given as pkg.module:factory; a space knows its inputs")
    if choice.space is None and choice.genotypes is None:
        raise InputError(
            "nothing to measure: give --space nats-tss, --genotypes FILE,"
            " or networks as pkg.module:factory with --input"
        )
    for name, value in (("--networks", choice.amount), ("--batch-size", choice.batch_size)):
        if value is not None and value < 1:
            raise InputError(f"{name} must be 1 or more, got {value}")
    from freerea_seval.config import make_space
    from freerea_seval.measurement.networks import draw, most_informative_first, read_genotypes, space_networks

    space = make_space(choice.space or _SPACE)
    if choice.genotypes is not None:
        genotypes = read_genotypes(choice.genotypes, space)
        wanted = choice.amount or len(genotypes)
    else:
        wanted = choice.amount or (_POOL if ordered else _NETWORKS)
        pool = max(wanted, _POOL) if choice.informative else wanted
        genotypes = draw(space, pool, choice.seed, least=choice.amount or 1)
    if not choice.informative:
        genotypes = genotypes[:wanted]
    prepare_torch(LiveSettings())
    if ordered or choice.informative:
        with terminal_progress().task(f"choosing among {len(genotypes)} networks") as show:
            genotypes = most_informative_first(space, genotypes, show)[:wanted]
    return space_networks(space, genotypes, choice.batch_size or 1, choice.seed, choice.space or _SPACE)


def _given(choice: Choice) -> Networks:
    """Return networks of the user's own."""
    for option, value in (
        ("--space", choice.space),
        ("--networks", choice.amount),
        ("--genotypes", choice.genotypes),
        ("--batch-size", choice.batch_size),
        ("--informative", choice.informative or None),
    ):
        if value is not None:
            raise InputError(
                f"{choice.networks[0]}: leave out {option}, which goes with a space; --input says the batch"
            )
    if not choice.inputs:
        raise InputError(f"{choice.networks[0]}: give the shape of its input, such as --input 1,3,32,32")
    from freerea_seval.config import LiveSettings, build_network, make_tensors
    from freerea_seval.measurement.network_spec import make
    from freerea_seval.measurement.networks import Networks
    from freerea_seval.sources.live import prepare_torch

    prepare_torch(LiveSettings())
    names = list(dict.fromkeys(choice.networks))
    for name in names:
        # A wrong name or input is a mistake, not a network that cannot run.
        make_tensors(choice.inputs, build_network(name))

    def recipe(name: str) -> Recipe:
        return {"network": name, "inputs": list(choice.inputs), "seed": choice.seed}

    return Networks("network", names, lambda name: make(recipe(name)), recipe, {"input": list(choice.inputs)})


def _visit(networks: Networks, journal: VisitJournal, choice: Choice, manner: Manner, budget_s: float | None) -> None:
    from freerea_seval.measurement.energy import find_meter
    from freerea_seval.measurement.timing import Rounds, Runnable

    def make(name: str) -> Runnable:
        return networks.ready(name, backend=manner.backend, device=manner.device, threads=manner.threads)

    meter = find_meter() if manner.device == "cpu" else None
    rounds = Rounds(networks.names, make, seed=choice.seed, meter=meter)
    total = manner.rounds * len(networks.names)
    done = sum(map(len, journal.timings.values()))
    spent = sum(t.seconds for timings in journal.timings.values() for t in timings)
    with terminal_progress().task(f"measuring {len(networks.names)} networks") as show:
        for name, timing in rounds.visits(manner.rounds, journal.timings, budget_s):
            journal.add(name, timing)
            done += 1
            spent += timing.seconds
            show(done / total if budget_s is None else spent / budget_s, f"round {timing.turn + 1}")
    if manner.memory:
        from freerea_seval.measurement.memory import peaks_mb

        wanted = [name for name in journal.timings if name not in journal.peaks]
        with terminal_progress().task("measuring memory") as show:
            peaks = peaks_mb([networks.recipe(name) for name in wanted])
            for number, (name, peak) in enumerate(zip(wanted, peaks, strict=True)):
                show(number / len(wanted), "")
                if peak is not None:
                    journal.add_peak(name, peak)


def _write(output: Path, networks: Networks, journal: VisitJournal, config: dict[str, Any], manner: Manner) -> None:
    from freerea_seval.measurement.machine import governor
    from freerea_seval.measurement.results_io import json_path, write_results
    from freerea_seval.measurement.timing import BURST, REWARM, WARM_UPS, summaries
    from freerea_seval.versions import versions

    summed_up = summaries(journal.visits)
    found = {name: summed_up[name] for name in networks.names if name in summed_up}
    unable = [name for name, summed in found.items() if summed is None]
    if unable and len(unable) == len(found):
        reason = next(t.reason for t in journal.timings[unable[0]] if t.reason)
        raise InputError(
            f"none of {len(unable)} networks can run on {manner.device} with --backend {manner.backend} ({reason});"
            f" mend that, and delete {journal.path}"
        )
    facts = {name: value for name, value in config.items() if name != "networks"} | {
        "rounds": manner.rounds,
        "passes": f"{WARM_UPS} to warm up, then a round: {REWARM} that does not count, the median of {BURST} that do",
        "latency_ms": "of all rounds, without the drift of the machine and waiting for a core that others had",
        "budget": manner.budget,
        "governor": governor(),
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "versions": versions(),
    }
    write_results(output, networks.column, found, journal.timings, journal.peaks, facts)
    values = sorted(summed.latency_ms for summed in found.values() if summed is not None)
    text = f"{output}: {len(values)} networks, {values[0]:.3g} to {values[-1]:.3g} ms"
    if unable:
        text += f"; {len(unable)} cannot run, why is in {json_path(output)}"
    print(text)


def export_networks(choice: Choice, output: Path | None) -> None:
    """Write networks for a device elsewhere."""
    if output is None:
        raise InputError("networks are exported into a folder: add -o FOLDER")
    from freerea_seval.measurement.backends import check_onnx
    from freerea_seval.measurement.remote import export

    check_onnx("onnx")
    networks = choose(choice)
    with terminal_progress().task(f"exporting {len(networks.names)} networks") as show:
        export(networks, output, show)
    print(
        f"{output}: {len(networks.names)} networks; copy it to the device, run python measure.py there"
        f" (it needs onnxruntime and numpy), and bring back results.csv for: freerea-seval measure import"
    )


def import_from(results: Path, output: Path) -> None:
    """Take results from a device elsewhere."""
    from freerea_seval.measurement.remote import import_results

    measured, unable = import_results(results, output)
    text = f"; {unable} cannot run, why is in {output.with_suffix('.json')}" if unable else ""
    print(f"{output}: {measured} networks{text}")


def parse_seconds(text: str) -> float:
    """Return the seconds of ``60s``, ``5m``, ``1h``, or ``60``.

    Raises:
        InputError: the text is none of these, or not more than 0.
    """
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)(s|m|min|h|)", text.strip(), re.ASCII)
    seconds = float(match[1]) * _SECONDS[match[2]] if match else 0.0
    if not seconds:
        raise InputError(f"--budget {text!r}: expected a time such as 60s, 5m or 1h")
    return seconds
