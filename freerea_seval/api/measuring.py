"""Timing networks on this machine, or on another device: :func:`measure` and its two relatives of the command line."""

from __future__ import annotations

import copy
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freerea_patch import InputError, SearchSpace
from freerea_seval.api.arguments import as_space, as_tensors, input_text, prepare_torch, progress_bars, space_spec
from freerea_seval.files import write_atomically
from freerea_seval.progress import Progress

if TYPE_CHECKING:
    from pandas import DataFrame
    from torch import Tensor, nn

    from freerea_seval.api.arguments import Inputs
    from freerea_seval.measurement.backends import Inputs as Tensors
    from freerea_seval.measurement.networks import Networks, NetworkSpec

    #: Genotypes of a space, or ``"pkg.module:factory"``, modules or ONNX files of the user's own.
    SomeNetworks = str | Path | nn.Module | Sequence[str | Path | nn.Module] | Mapping[str, nn.Module]

_SPACE = "nats-tss"
_NETWORKS = 100
#: Random networks among which the most informative are chosen.
_POOL = 1000
#: Key of a manifest under which an export keeps strings.
_STRINGS = "strings"


def measure(
    networks: SomeNetworks | None = None,
    inputs: Inputs | None = None,
    space: str | Mapping[str, Any] | SearchSpace | None = None,
    count: int | None = None,
    genotypes: str | Path | None = None,
    informative: bool = False,
    backend: str | None = None,
    device: str = "cpu",
    batch_size: int | None = None,
    threads: int = 1,
    rounds: int = 11,
    budget: str | float | None = None,
    memory: bool = False,
    seed: int = 0,
    output: str | Path | None = None,
    *,
    progress: bool = True,
) -> DataFrame:
    """Measure the latency of networks on this machine.

    Networks are visited in rounds, so that a slow minute of the machine affects all of them, and what it adds is
    removed by a robust fit; see :mod:`freerea_seval.measurement.detrend`.

    Args:
        networks: genotypes of ``space``; or networks with ``inputs``: ``"pkg.module:factory"``, a module, several of
            them, or modules by name. ONNX files, whose names end with ``.onnx``, need no ``inputs``.
        inputs: of networks that are not of a space, with the batch dimension; as for :func:`freerea_seval.encode`.
        space: search space, by its name or itself; without ``networks`` or ``genotypes``, random networks of it.
        count: number of random networks, 100 by default; or the first of ``genotypes``.
        genotypes: file with a genotype a line, or a CSV with a column ``genotype``.
        informative: choose the networks that teach a predictor most, among 1,000 random ones or ``genotypes``.
        backend: ``"eager"``, ``"compile"`` (``torch.compile``) or ``"onnx"`` (ONNX Runtime). None for ``"onnx"`` if
            there are ONNX files, which run as they are, and ``"eager"`` otherwise.
        device: ``"cpu"``, ``"cuda"``, ...
        batch_size: images at once for networks of a space, 1 by default.
        threads: CPU threads of a network.
        rounds: visits to every network.
        budget: time for measuring, such as ``"60s"``, ``"1h"`` or seconds: the most informative networks first.
        memory: measure the peak resident memory too, in a process a network; not for modules.
        seed: fixes the random networks, the inputs and the order of visits.
        output: CSV to write, with a JSON that describes the measurement and a journal beside it: the same call
            continues after an interruption. None keeps no file.
        progress: show progress bars on a terminal, or print a line every ten seconds on standard error elsewhere.

    Returns:
        One row a network: ``genotype`` or ``network``, ``latency_ms`` (the median), ``latency_iqr_ms``, ``rounds``, and
        where measured ``peak_mb`` (megabytes) and ``energy_mj`` (millijoules of a pass); NaN for a network that cannot
        run, and no row for one that could not be built or exported. Networks that are not of a space have their
        ``string``, from which :func:`freerea_seval.train` learns; it is empty if the network cannot be traced. Units
        are in ``attrs["units"]``, reasons in ``attrs["unsupported"]`` and ``attrs["failed"]``.

    Raises:
        InputError: there are no networks, arguments contradict each other, or none of the networks can run.

    Example:
        >>> import freerea_seval as fs
        >>> cells = fs.TopologySpace().genotypes()[:2]
        >>> fs.measure(cells, space="nats-tss", rounds=1)["latency_ms"].gt(0).tolist()
        [True, True]
    """
    from freerea_seval.config import is_onnx
    from freerea_seval.measurement import measure_networks, parse_seconds
    from freerea_seval.measurement.run import journal_path

    for name, value, most in (("--threads", threads, 1024), ("--rounds", rounds, 1_000_000)):
        if not 1 <= value <= most:
            raise InputError(f"{name} must be 1 or more, and at most {most}, got {value!r:.40}")
    files = [] if networks is None else [name for name in _by_name(networks) if is_onnx(name)]
    if files and backend not in (None, "onnx"):
        raise InputError(f"{files[0]} is an ONNX file, which runs with --backend onnx, not {backend}; leave it out")
    backend = backend or ("onnx" if files else "eager")
    objects = [] if networks is None else [module for module in _by_name(networks).values() if module is not None]
    if memory and (objects or not isinstance(space, (str, Mapping, type(None)))):
        raise InputError(
            "memory is measured in a process a network, which makes it by its name; give the space by its name, or"
            " networks as pkg.module:factory"
        )
    file = None if output is None else _check_output(Path(output)).absolute()
    if budget is not None:
        parse_seconds(str(budget))
    bars = progress_bars(progress)
    ordered = budget is not None
    chosen, strings = _choose(
        networks, inputs, space, count, genotypes, informative, batch_size, seed, ordered=ordered, bars=bars
    )
    try:
        table = measure_networks(
            chosen,
            file,
            backend=backend,
            device=device,
            threads=threads,
            rounds=rounds,
            budget=None if budget is None else str(budget),
            memory=memory,
            seed=seed,
            progress=bars,
        )
    except KeyboardInterrupt:
        if file is not None:
            print(f"\nstopped; the same command continues from {journal_path(file)}", file=sys.stderr)
        raise
    if strings:
        table["string"] = table["network"].map(strings)
        if file is not None:
            _add_strings(file, strings)
    return table


def export_networks(
    networks: SomeNetworks | None = None,
    inputs: Inputs | None = None,
    space: str | Mapping[str, Any] | SearchSpace | None = None,
    count: int | None = None,
    genotypes: str | Path | None = None,
    informative: bool = False,
    batch_size: int | None = None,
    seed: int = 0,
    output: str | Path | None = None,
    *,
    progress: bool = True,
) -> int:
    """Write networks as ONNX with a script that measures them on another device, and return the number written.

    The script needs only onnxruntime and numpy; :func:`import_results` reads what it writes. The arguments are those of
    :func:`measure`, and ``output`` is the folder to make. A network that cannot be written is left out, and listed with
    the reason in the manifest and on standard error.

    Raises:
        InputError: as for :func:`measure`; there is no output, or it holds something else; or none can be written.
    """
    from freerea_seval.measurement.backends import check_onnx
    from freerea_seval.measurement.remote import export

    if output is None:
        raise InputError("networks are exported into a folder: add -o FOLDER")
    check_onnx("onnx")
    folder = Path(output).absolute()  # code of a user may change the working folder
    bars = progress_bars(progress)
    chosen = _exported(_choose(networks, inputs, space, count, genotypes, informative, batch_size, seed, bars=bars))
    with bars.task(f"exporting {len(chosen.names)} networks") as show:
        failed = export(chosen, folder, show)
    for name, reason in failed.items():
        bars.say(f"{name} is not exported, as the manifest says: {reason}")
    return len(chosen.names) - len(failed)


def measure_over_ssh(
    hosts: Sequence[str],
    networks: SomeNetworks | None = None,
    inputs: Inputs | None = None,
    space: str | Mapping[str, Any] | SearchSpace | None = None,
    count: int | None = None,
    genotypes: str | Path | None = None,
    informative: bool = False,
    batch_size: int | None = None,
    threads: int = 1,
    rounds: int = 11,
    seed: int = 0,
    python: str = "python3",
    output: str | Path | None = None,
    *,
    progress: bool = True,
) -> dict[str, DataFrame]:
    """Measure the latency of the same networks on several other machines at the same time.

    Networks are exported as ONNX, copied, and timed there with ONNX Runtime. After an interruption, or where a machine
    could not be reached, the same call goes on with what is missing.

    Args:
        hosts: of the machines, as ``ssh`` takes them; each must let this one in without a question, by a key.
        networks, inputs, space, count, genotypes, informative, batch_size, seed: see :func:`measure`.
        threads: CPU threads of a network, over there.
        rounds: visits to every network on each machine.
        python: program on the machines, with onnxruntime and numpy.
        output: folder, in which ``HOST.csv`` has the measurements of a machine, as :func:`measure` writes them.
        progress: as for :func:`measure`.

    Returns:
        The tables of :func:`measure` by host.

    Raises:
        InputError: as for :func:`measure`; a host is given twice, there is no output, or a machine cannot be reached,
            lacks Python or a package, or sends damaged results. Measurements of the other machines are kept.
    """
    from freerea_seval.measurement.ssh import SshMachine, measure_on

    if output is None:
        raise InputError("measurements are written into a folder: add -o FOLDER")
    if len(set(hosts)) < len(hosts):
        raise InputError(f"each host once, got {', '.join(hosts)}")
    if not hosts:
        raise InputError("expected at least one host such as pi or user@pi.local")
    machines = [SshMachine(host, python, threads) for host in hosts]
    folder = Path(output).absolute()
    bars = progress_bars(progress)
    chosen = _exported(_choose(networks, inputs, space, count, genotypes, informative, batch_size, seed, bars=bars))
    folder.mkdir(parents=True, exist_ok=True)
    outputs = [folder / f"{host}.csv" for host in hosts]
    measure_on(machines, chosen, outputs, rounds, bars)
    return {host: _read_measurements(path) for host, path in zip(hosts, outputs, strict=True)}


def import_results(results: str | Path, output: str | Path) -> DataFrame:
    """Check what the script of an export has measured, write it as a CSV, and return it as :func:`measure` does.

    Args:
        results: the ``results.csv`` of an exported folder, with its manifest beside.
        output: CSV to write.

    Raises:
        InputError: the results are not those of the manifest, or damaged.
    """
    from freerea_seval.measurement.remote import import_results as import_checked

    import_checked(Path(results), Path(output), _STRINGS)
    return _read_measurements(Path(output))


def _check_output(output: Path) -> Path:
    from freerea_seval.measurement.run import journal_path

    if output.suffix == ".json":
        raise InputError(f"{output}: the CSV's name cannot end in .json, the name of its description; try -o FILE.csv")
    if output.exists() and not journal_path(output).exists():
        raise InputError(
            f"{output} exists already, and no journal beside it to continue from; choose another file with -o"
        )
    if not output.parent.is_dir():
        raise InputError(f"{output}: there is no folder {output.parent}; make it, or choose another -o")
    return output


def _choose(
    networks: SomeNetworks | None,
    inputs: Inputs | None,
    space: str | Mapping[str, Any] | SearchSpace | None,
    count: int | None,
    genotypes: str | Path | None,
    informative: bool,
    batch_size: int | None,
    seed: int,
    *,
    ordered: bool = False,
    bars: Progress,
) -> tuple[Networks, dict[str, str]]:
    """Return the networks that the arguments of :func:`measure` name, and the strings of those of no space.

    Args:
        ordered: whether the most informative networks of a space come first.
        bars: shows the progress of choosing them.

    Raises:
        InputError: they name none, or contradict each other.
    """
    from freerea_seval.measurement.networks import draw, most_informative_first, read_genotypes, space_networks

    listed: Mapping[str, nn.Module | None] = {} if networks is None else _by_name(networks)
    if listed and (space is None or inputs):
        for option, value in (
            ("--space", space),
            ("--networks", count),
            ("--genotypes", genotypes),
            ("--batch-size", batch_size),
            ("--informative", informative or None),
        ):
            if value is not None:
                raise InputError(
                    f"{next(iter(listed))}: leave out {option}, which belongs to a space; --input includes the batch"
                )
        return _own_networks(listed, inputs, seed, bars)
    if inputs:
        raise InputError(
            "--input belongs to networks given as pkg.module:factory; a space defines the inputs of its networks"
        )
    if space is None and genotypes is None:
        raise InputError(
            "nothing to measure: give --space nats-tss, --genotypes FILE,"
            " networks as pkg.module:factory with --input, or ONNX files"
        )
    for option, number in (("--networks", count), ("--batch-size", batch_size)):
        if number is not None and number < 1:
            raise InputError(f"{option} must be 1 or more, got {number}")
    named = _SPACE if space is None else space
    space = as_space(named)
    spec: str | Mapping[str, Any]
    spec, base = space_spec(named) if isinstance(named, str) else (named if isinstance(named, Mapping) else "", Path())
    if listed or genotypes is not None:
        if listed and genotypes is not None:
            raise InputError("give genotypes as arguments or in a file with --genotypes, not both")
        candidates = list(listed) if listed else read_genotypes(Path(str(genotypes)), space)
        for genotype in candidates:
            space.check(genotype)
        wanted = count or len(candidates)
    else:
        wanted = count or (_POOL if ordered else _NETWORKS)
        candidates = draw(space, max(wanted, _POOL) if informative else wanted, seed, least=count or 1)
    if not informative:
        candidates = candidates[:wanted]
    prepare_torch()
    if ordered or informative:
        with bars.task(f"choosing among {len(candidates)} networks") as show:
            candidates = most_informative_first(space, candidates, show)[:wanted]
    return space_networks(space, candidates, batch_size or 1, seed, spec, base), {}


def _exported(chosen: tuple[Networks, dict[str, str]]) -> Networks:
    """Return networks whose export keeps their strings in its manifest, for the import."""
    networks, strings = chosen
    return replace(networks, about={**networks.about, _STRINGS: strings}) if strings else networks


def _by_name(networks: SomeNetworks) -> dict[str, nn.Module | None]:
    """Return modules by name, and None for a text, which is a genotype, ``pkg.module:factory`` or an ONNX file."""
    if isinstance(networks, Mapping):
        return dict(networks)
    several: list[Any] = (
        [networks] if isinstance(networks, str) or not isinstance(networks, Sequence) else list(networks)
    )
    several = [str(network) if isinstance(network, Path) else network for network in several]
    names = [network if isinstance(network, str) else type(network).__name__ for network in several]
    named: dict[str, nn.Module | None] = {}
    for position, (name, network) in enumerate(zip(names, several, strict=True)):
        if isinstance(network, str):
            named[name] = None
        else:
            named[name if names.count(name) == 1 else f"{name}-{position}"] = network
    return named


def _own_networks(
    modules: Mapping[str, nn.Module | None], inputs: Inputs | None, seed: int, bars: Progress
) -> tuple[Networks, dict[str, str]]:
    """Return networks of the user's own, the given modules or what ``pkg.module:factory`` makes, and their strings."""
    prepare_torch()
    from freerea_seval.config import build_network, is_onnx
    from freerea_seval.measurement.backends import random_inputs
    from freerea_seval.measurement.networks import Networks
    from freerea_seval.strings import OnnxNetwork, encode_module

    def make(name: str) -> tuple[nn.Module, Tensors]:
        module = modules[name]
        # Measuring moves a module to its device and into evaluation mode: the user's own stays as it is.
        built = build_network(name) if module is None else copy.deepcopy(module)
        tensors: Any = as_tensors(inputs, built, name)
        return built, random_inputs(built.named_inputs(tensors) if isinstance(built, OnnxNetwork) else tensors, seed)

    shapes: dict[str, list[str]] = {}
    strings: dict[str, str] = {}
    for name in modules:
        # A wrong name or input is an error here, not a network that cannot run.
        try:
            module, tensors = make(name)
        except InputError as error:  # one of many files need not keep the others from being measured
            is_last_hope = not shapes and name == list(modules)[-1]
            if not is_onnx(name) or is_last_hope:
                raise
            bars.say(f"{name} is left out: {error}")
            continue
        shapes[name] = _shapes(inputs, tensors)
        try:
            strings[name] = encode_module(
                module, as_tensors(inputs, module, name) if isinstance(module, OnnxNetwork) else tensors
            )
        except InputError:  # measuring says why it cannot run, if it cannot
            strings[name] = ""

    def spec(name: str) -> NetworkSpec:
        return {"network": name, "inputs": shapes[name], "seed": seed}

    first = next(iter(shapes.values()), [])
    alike = all(shape == first for shape in shapes.values())  # ONNX files state their own
    return Networks("network", list(shapes), make, spec, {"input": first if alike else shapes}), strings


def _add_strings(output: Path, strings: Mapping[str, str]) -> None:
    """Add a column ``string`` to a CSV of networks."""
    from freerea_seval.tables import read_csv, to_csv

    table = read_csv(output)
    table["string"] = table["network"].map(strings).fillna("")
    write_atomically(output, to_csv(table))


def _shapes(inputs: Inputs | None, tensors: Any) -> list[str]:
    """Return inputs as the command line has them, for records and other processes."""
    if isinstance(inputs, Sequence) and not isinstance(inputs, str) and all(isinstance(i, str) for i in inputs):
        return [str(i) for i in inputs]
    named = tensors.items() if isinstance(tensors, Mapping) else (("", tensor) for tensor in tensors)
    return [
        input_text([_text(item) for item in value] if isinstance(value, list) else _text(value), name)
        for name, value in named
    ]


def _text(tensor: Tensor) -> str:
    text = ",".join(map(str, tensor.shape)) + f":{str(tensor.dtype).removeprefix('torch.')}"
    return text.removesuffix(":float32")


def _read_measurements(path: Path) -> DataFrame:
    from pandas import to_numeric

    from freerea_seval.tables import read_csv
    from freerea_seval.units import unit_of

    table = read_csv(path).reset_index(drop=True)
    for column in table.columns.difference(["genotype", "network", "string"]):
        table[column] = to_numeric(table[column])
    table.attrs["units"] = {str(name): unit for name in table.columns if (unit := unit_of(str(name)))}
    return table
