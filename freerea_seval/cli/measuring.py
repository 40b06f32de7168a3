"""What ``freerea-seval measure`` does."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from freerea_patch import InputError
from freerea_seval.progress import terminal_progress

if TYPE_CHECKING:
    from freerea_seval.measurement.networks import Networks

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
    from freerea_seval.measurement.run import journal_path

    if output.suffix == ".json":
        raise InputError(f"{output}: the CSV's name cannot end in .json, which its description has; try -o FILE.csv")
    if output.exists() and not journal_path(output).exists():
        raise InputError(
            f"{output} exists already, and no journal beside it to go on from; choose another file with -o"
        )
    if not output.parent.is_dir():
        raise InputError(f"{output}: there is no folder {output.parent}; make it, or choose another -o")
    from freerea_seval.measurement import measure_networks, parse_seconds

    if manner.budget is not None:
        parse_seconds(manner.budget)
    networks = choose(choice, ordered=manner.budget is not None)
    try:
        results = measure_networks(
            networks,
            output,
            backend=manner.backend,
            device=manner.device,
            threads=manner.threads,
            rounds=manner.rounds,
            budget=manner.budget,
            memory=manner.memory,
            seed=choice.seed,
            progress=terminal_progress(),
        )
    except KeyboardInterrupt:
        print(f"\nstopped; the same command goes on from {journal_path(output)}", file=sys.stderr)
        raise
    latencies = results["latency_ms"].dropna()
    text = f"{output}: {len(latencies)} networks, {latencies.min():.3g} to {latencies.max():.3g} ms"
    if len(latencies) < len(results):
        text += f"; {len(results) - len(latencies)} cannot run, why is in {output.with_suffix('.json')}"
    print(text)


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
    from freerea_seval.config import LiveSettings
    from freerea_seval.measurement import factory_networks
    from freerea_seval.sources.live import prepare_torch

    prepare_torch(LiveSettings())
    return factory_networks(choice.networks, choice.inputs, choice.seed)


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
