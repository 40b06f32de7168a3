"""Calibration to a device: which networks to measure on it, and a predictor from those few measurements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from freerea_patch import InputError, SearchSpace
from freerea_seval.api.arguments import as_space, prepare_torch, progress_bars, space_spec
from freerea_seval.api.measuring import measure
from freerea_seval.api.predictors import Predictor, read_measurements, read_strings, recorded_name
from freerea_seval.files import check_new, write_atomically

if TYPE_CHECKING:
    from pandas import DataFrame

    from freerea_seval.predictor.seval import SEvalPredictor

#: Random networks among which those to measure are chosen.
_POOL = 400
#: Two measurements of one network that differ by a larger factor were not made alike.
_REPEATABLE = 1.5
#: Splits into halves from which is estimated what more measurements are worth.
_HALVINGS = 5
#: What can be measured of networks here.
_MEASURED = ("latency", "memory", "energy")


def plan(
    n: int = 10,
    space: str | Mapping[str, Any] | SearchSpace = "nats-tss",
    genotypes: str | Path | None = None,
    base: Sequence[str | Path] | None = None,
    earlier: Sequence[str | Path] = (),
    seed: int = 0,
    output: str | Path | None = None,
    *,
    progress: bool = True,
) -> list[str]:
    """Choose the networks whose measurement on a new device teaches a predictor most.

    Args:
        n: how many.
        space: search space, by its name or itself.
        genotypes: file of the networks to choose from, a genotype a line or a CSV with a column ``genotype``; by
            default 400 random ones.
        base: folders of predictors for other devices, from which the one for the new device will start; see
            :func:`calibrate`.
        earlier: CSV files of earlier calibrations, whose networks are not chosen again.
        seed: draws the random networks.
        output: CSV to write, with the column ``genotype``.
        progress: show progress bars on a terminal.

    Returns:
        ``(n,)`` genotypes, the most informative first.

    Raises:
        InputError: there are fewer networks, or a base folder holds no predictor.
    """
    from freerea_seval.measurement.networks import draw, most_informative_first, read_genotypes
    from freerea_seval.predictor.folder import load_predictor
    from freerea_seval.predictor.transfer import device_bases

    if not 1 <= n <= _POOL:
        raise InputError(f"--n must be from 1 to {_POOL}, got {n}")
    space = as_space(space)
    prepare_torch()
    known = {genotype for file in earlier for genotype in read_genotypes(Path(file), space)}
    pool = draw(space, _POOL, seed, least=n) if genotypes is None else read_genotypes(Path(genotypes), space)
    candidates = [genotype for genotype in pool if genotype not in known]
    if len(candidates) < n:
        raise InputError(f"expected at least {n} networks to choose from, got {len(candidates)}; ask for fewer")
    bases = [load_predictor(folder)[0] for folder in device_bases(base, "latency", space.name)]
    with progress_bars(progress).task(f"choosing among {len(candidates)} networks") as show:
        chosen = most_informative_first(space, candidates, show, bases)[:n]
    if output is not None:
        write_atomically(Path(output), "genotype\n" + "".join(f"{genotype}\n" for genotype in chosen))
    return chosen


class Calibration(NamedTuple):
    """A predictor for a device, and what its measurements were worth.

    Attributes:
        predictor: of the metric on the device; ``info.metrics`` has its cross-validated scores.
        error: median relative error of predictions of measured networks by models that have not seen them.
        error_of_half: the same from half of the measurements.
    """

    predictor: Predictor
    error: float
    error_of_half: float


def calibrate(
    table: str | Path | DataFrame | Sequence[str | Path],
    output: str | Path | None = None,
    *,
    metric: str = "latency_ms",
    base: Sequence[str | Path] | None = None,
    space: str | Mapping[str, Any] | SearchSpace = "nats-tss",
    unit: str | None = None,
    unsupported: float | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Calibration:
    """Train a predictor for a device from a few measurements, and from predictors for other devices, if there are any.

    Args:
        table: CSV file or DataFrame of at least ten measurements, as :func:`freerea_seval.measure` writes them; or
            several files, which are learned together.
        output: folder to save the predictor in; None to save it later.
        metric: the column to predict: a cost, such as latency, energy or memory.
        base: folders of predictors of this metric for other devices, ``()`` for none. None takes the one that comes
            with the package for the latency of ``nats-tss`` on CIFAR: a CPU of this project in three settings.
        space: the search space of the genotypes.
        unit: unit of the metric; None for the ending of the column's name.
        unsupported: number that marks networks that the device cannot run, such as -1.
        seed: fixes the training.
        progress: show progress bars on a terminal.

    Raises:
        InputError: as :func:`freerea_seval.train`; measurements of a network contradict each other, all values are
            equal, the device cannot run most of the networks, or some values seem to be in another unit.

    Example:
        >>> import freerea_seval as fs, pandas
        >>> cells = fs.TopologySpace().genotypes()[:60]
        >>> costs = pandas.DataFrame({"genotype": cells, "phone_ms": [1 + cell.count("conv_3x3") for cell in cells]})
        >>> base = fs.train(costs, "phone_ms", "phone", model="gp", scale="log").folder
        >>> board = costs[:10].assign(latency_ms=7.0 * costs["phone_ms"])[["genotype", "latency_ms"]]
        >>> fs.calibrate(board, base=[base]).predictor.metrics
        ['latency_ms']
    """
    from freerea_seval.predictor.training import Target, data_hash, train_predictor
    from freerea_seval.predictor.transfer import device_bases, load_bases
    from freerea_seval.units import unit_of

    if output is not None:
        output = Path(output).absolute()
        check_new(output)
    named, space = space, as_space(space)
    genotypes, table_values, space = read_measurements(_merged(table, metric), [metric], space, unsupported, False)
    values = table_values[:, 0]
    _check_values(metric, values)
    bases = load_bases(device_bases(base, metric, space.name), [metric], (), None)
    strings = read_strings(space, bases.view, genotypes, progress)
    bases.check_data(data_hash(strings, table_values))
    with progress_bars(progress).task(f"calibrating to {len(genotypes)} networks") as show:
        fitted, info = train_predictor(
            strings,
            values,
            [Target(metric, unit_of(metric) if unit is None else unit, "min")],
            space_name=recorded_name(named, space),
            view=bases.view,
            model="calibrated",
            seed=seed,
            base=bases.predictors,
            show=show,
        )
    finite = np.isfinite(values)
    ratios = values[finite] / fitted.unseen_[finite, 0]
    _check_units(metric, [genotypes[row] for row in np.flatnonzero(finite)], ratios)
    predictor = Predictor(fitted, info, space=space)
    if output is not None:
        predictor.save(output)
    half = _error_of_half(fitted, [strings[row] for row in np.flatnonzero(finite)], values[finite], seed)
    return Calibration(predictor, float(np.median(np.abs(1.0 / ratios - 1.0))), half)


def _merged(table: str | Path | DataFrame | Sequence[str | Path], metric: str) -> str | Path | DataFrame:
    """Return files or a DataFrame as one table, in which each network has one row; a file as it is, if it has that.

    Raises:
        InputError: two measurements of a network contradict each other.
    """
    import pandas as pd

    from freerea_seval.sources.table import KEY_COLUMNS
    from freerea_seval.tables import read_csv

    parts = [table] if isinstance(table, (str, Path, pd.DataFrame)) else list(table)
    frames = [part if isinstance(part, pd.DataFrame) else read_csv(Path(part)) for part in parts]
    frame = pd.concat(frames, ignore_index=True)
    key = next((name for name in frame if name in KEY_COLUMNS | {"network"}), None)
    if metric not in frame:
        others = [str(name) for name in frame if name not in KEY_COLUMNS | {"network", "string"}]
        raise InputError(f"the measurements have no column {metric}; choose one with --metric: {', '.join(others)}")
    if key is None or not frame[key].duplicated().any():
        return parts[0] if len(parts) == 1 else frame
    numbers = pd.to_numeric(frame[metric], errors="coerce")
    ranges = numbers.groupby(frame[key]).agg(["min", "max"])
    apart = ranges[ranges["max"] > _REPEATABLE * ranges["min"]]
    if len(apart):
        first = apart.iloc[0]
        raise InputError(
            f"{metric} of {apart.index[0]} was measured as {first['min']:g} and as {first['max']:g}; expected repeated"
            f" measurements within a factor of {_REPEATABLE:g}: leave the wrong ones out"
        )
    return frame.assign(**{metric: numbers.groupby(frame[key]).transform("mean")}).drop_duplicates(key)


def _check_values(metric: str, values: npt.NDArray[np.float64]) -> None:
    """Raise :class:`InputError` if a predictor cannot be calibrated to ``(n,)`` values, infinite where unsupported."""
    supported = values[np.isfinite(values)]
    if 2 * len(supported) < len(values):
        raise InputError(
            f"the device cannot run {len(values) - len(supported)} of {len(values)} networks; measure networks that it"
            " can run, or check how they were exported"
        )
    if (supported <= 0).any():
        raise InputError(f"{metric} is {supported.min():g} for a network; expected positive costs: leave it out")
    if len(supported) > 1 and np.ptp(supported) == 0:
        raise InputError(f"{metric} is {supported[0]:g} for all {len(supported)} networks; expected different costs")


def _check_units(metric: str, genotypes: Sequence[str], ratios: npt.NDArray[np.float64]) -> None:
    """Raise :class:`InputError` if some values are a power of 1,000 times what the others make expect."""
    powers = np.log(ratios) / np.log(1000.0)
    other = np.flatnonzero((np.round(powers) != 0) & (np.abs(powers - np.round(powers)) < np.log(1.5) / np.log(1000.0)))
    if len(other):
        row = other[0]
        raise InputError(
            f"{metric} of {len(other)} networks, the first {genotypes[row]}, is about {1000.0 ** round(powers[row]):g}"
            " times what the other measurements make expect; give all in one unit"
        )


def _error_of_half(
    predictor: SEvalPredictor, strings: Sequence[str], values: npt.NDArray[np.float64], seed: int
) -> float:
    """Return the median relative error of predictions of one half of the measurements from the other."""
    from freerea_seval.predictor.models.calibrated import CalibratedPredictor
    from freerea_seval.predictor.seval import base_predictions

    devices = base_predictions(predictor.base_, strings)
    rng, errors = np.random.default_rng(seed), []
    for _ in range(_HALVINGS):
        order = rng.permutation(len(values))
        for half in (order[: len(order) // 2], order[len(order) // 2 :]):
            rest = np.setdiff1d(order, half)
            known, other = (None if devices is None else devices[rows] for rows in (half, rest))
            model = CalibratedPredictor().fit([strings[row] for row in half], values[half], known)
            errors.append(model.predict([strings[row] for row in rest], other) / values[rest] - 1.0)
    return float(np.median(np.abs(np.concatenate(errors))))


def measure_and_calibrate(
    output: str | Path,
    n: int = 10,
    space: str = "nats-tss",
    genotypes: str | Path | None = None,
    *,
    metric: str = "latency",
    base: Sequence[str | Path] | None = None,
    earlier: Sequence[str | Path] = (),
    ssh: str | None = None,
    python: str = "python3",
    backend: str = "eager",
    device: str = "cpu",
    batch_size: int | None = None,
    threads: int = 1,
    seed: int = 0,
    progress: bool = True,
) -> Calibration:
    """Choose networks, measure what they cost on this machine or another, and calibrate a predictor to it.

    The measurements are in ``OUTPUT.csv``; after an interruption, the same call goes on with them.

    Args:
        output: folder of the predictor.
        n, space, genotypes, base, seed, progress: see :func:`plan` and :func:`calibrate`.
        metric: ``latency``, or on this machine ``memory`` or ``energy``.
        earlier: CSV files of earlier calibrations to this device, which are learned as well.
        ssh: host that measures, as ``ssh`` takes it; None for this machine.
        python: its Python, with onnxruntime and numpy.
        backend, device, batch_size, threads: see :func:`freerea_seval.measure`.

    Raises:
        InputError: as :func:`plan`, :func:`freerea_seval.measure` and :func:`calibrate`; the metric cannot be measured
            there; ``backend`` or ``device`` are given beside ``ssh``, which measures with ONNX Runtime on the CPU.
    """
    from freerea_seval.sources.device import COLUMNS, check_measurable

    folder = Path(output).absolute()
    check_new(folder)
    if metric not in _MEASURED or (ssh is not None and metric != "latency"):
        valid = "latency" if ssh is not None else ", ".join(_MEASURED)
        raise InputError(f"metric {metric!r} cannot be measured here; expected one of: {valid}")
    check_measurable(metric, device)
    if base is None and metric != "latency":  # the predictor that comes with the package is of latencies
        base = ()
    measured = folder.with_name(folder.name + ".csv")
    chosen = plan(n, space, genotypes, base, earlier, seed, progress=progress)
    if ssh is None:
        measure(
            chosen,
            space=space,
            backend=backend,
            device=device,
            batch_size=batch_size,
            threads=threads,
            seed=seed,
            memory=metric == "memory",
            output=measured,
            progress=progress,
        )
    else:
        from freerea_seval.measurement.networks import space_networks
        from freerea_seval.measurement.ssh import SshMachine
        from freerea_seval.measurement.timing import ROUNDS

        if (backend, device) != ("eager", "cpu"):
            raise InputError("over ssh, networks run in ONNX Runtime on the CPU; leave out --backend and --device")
        networks = space_networks(as_space(space), chosen, batch_size or 1, seed, *space_spec(space))
        SshMachine(ssh, python, threads).measure(networks, measured, ROUNDS, progress_bars(progress))
    column = COLUMNS[metric]
    return calibrate([*earlier, measured], folder, metric=column, base=base, space=space, seed=seed, progress=progress)
