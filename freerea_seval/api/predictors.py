"""Predictors of metrics: :func:`train`, :func:`load_predictor`, :class:`Predictor`.

Tables of measurements are CSV files, or DataFrames of the same content, with a column ``genotype`` (or ``index``) and a
column a metric: see :class:`freerea_seval.sources.table.Table`. Networks of no search space have a column ``string``
instead, as :func:`freerea_seval.measure` writes it. An empty cell is a network that the device cannot run.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from freerea_patch import SPACES, InputError, SearchSpace
from freerea_seval.api.arguments import as_space, as_table, prepare_torch, progress_bars, space_spec
from freerea_seval.api.encoding import encode
from freerea_seval.files import check_new, new_folder, remove_abandoned, write_atomically
from freerea_seval.strings.views import View

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from pandas import DataFrame
    from torch import nn

    from freerea_patch import Direction
    from freerea_seval.api.arguments import Inputs
    from freerea_seval.predictor.model_card import PredictorInfo
    from freerea_seval.predictor.seval import SEvalPredictor

    Values = npt.NDArray[np.float64]

_FACTORY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", re.ASCII)
#: A network is unlike all training networks if its size is beyond their range by this factor.
_FAR = 2.0
#: How to correct a cell of a table, in the words of these functions' arguments.
_CELL_ADVICE = (
    ", or write a number and add --unsupported NUMBER; if it was not measured, leave it empty and add --missing"
)
#: How to correct a network of another space.
_SPACE_ADVICE = "; name the space of the table's networks with --space"


def train(
    table: str | Path | DataFrame,
    metric: str | Sequence[str],
    output: str | Path | None = None,
    *,
    space: str | Mapping[str, Any] | SearchSpace = "nats-tss",
    direction: str | Sequence[str] | None = None,
    unit: str | None = None,
    unsupported: float | None = None,
    missing: bool = False,
    view: str | None = None,
    model: str = "auto",
    scale: str = "auto",
    proxies: str | Path | DataFrame | None = None,
    base: Sequence[str | Path] | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Predictor:
    """Train a predictor from a table of measurements.

    Args:
        table: CSV file or DataFrame with a column ``genotype`` and one a metric; at least ten values a metric. With a
            column ``string`` and none of genotypes, as :func:`freerea_seval.measure` writes of modules, no ``space`` is
            needed.
        metric: the column to predict; several are learned together.
        output: folder to save the predictor in; None to save it later.
        space: the search space of the genotypes: ``"nats-tss"``, ``"nats-sss"``, ``"fbnet"``,
            ``"nats-tss/cifar100"``, ``"pkg.module:Class"``; a name with options, as in a config, such as
            ``{"name": "gpt", "width": [128, 256]}`` or its text; or the space itself.
        direction: which values are better, ``"min"`` or ``"max"``: of all metrics, or one a metric; None for what the
            names say, such as ``"max"`` for ``accuracy``.
        unit: unit of the metrics; None for the ending of a column's name (``latency_ms``).
        unsupported: number that marks networks that the device cannot run, such as -1; NaN to keep -1 as a number.
        missing: an empty cell was not measured; otherwise, the device cannot run the network.
        view: what strings show: ``"executed"`` (for costs) or ``"functional"`` (for accuracy); None to decide by the
            metric's name.
        model: ``boosted``, ``ordered``, ``gp``, ``layered``, ``additive``, ``calibrated``, ``ridge``, ``mlp``,
            ``t5`` or ``ensemble``; ``auto`` chooses by cross-validation.
        scale: ``linear``, ``log``, ``rank`` or ``blend`` (the mean of linear and rank): on what scale values are
            learned; ``auto`` chooses.
        proxies: CSV file or DataFrame with a column a zero-cost proxy, which the model sees beside the strings.
        base: folders of predictors of other metrics or data sets, whose predictions the model sees, too.
        seed: fixes the training.
        progress: show progress bars on a terminal, and print on standard error if predictions are weak.

    Returns:
        The predictor; ``info.metrics`` has the scores of a cross-validation.

    Raises:
        InputError: the table cannot be used, or a metric has fewer than ten values.
        InputError: an unknown space, model, scale or view.
        InputError: there is no direction, and a metric's name does not say it.
        InputError: the output folder exists.
        InputError: a base predictor learned the same metric: it would leak the target into the validation folds.

    Example:
        >>> import freerea_seval as fs, pandas
        >>> cells = fs.TopologySpace().genotypes()[:30]
        >>> table = pandas.DataFrame({"genotype": cells, "energy_mj": [cell.count("conv") for cell in cells]})
        >>> predictor = fs.train(table, "energy_mj", "predictor", model="boosted", scale="linear")
        >>> predictor.predict(cells[:2]).columns.tolist()
        ['genotype', 'energy_mj']
    """
    from freerea_seval.predictor.training import Proxies, Target, data_hash, train_predictor
    from freerea_seval.predictor.transfer import load_bases
    from freerea_seval.units import unit_of

    if output is not None:
        output = Path(output).absolute()  # before code of a user changes the folder
        check_new(output)
    metrics = [metric] if isinstance(metric, str) else list(metric)
    named = space
    space = as_space(space)
    genotypes, values, space = read_measurements(table, metrics, space, unsupported, missing)
    space_name = recorded_name(named, space)
    better = _directions(direction, metrics)
    bases = load_bases([Path(folder) for folder in base or ()], metrics, (space_name, space.name), view)
    known_proxies = None if proxies is None else Proxies(*_read_proxies(proxies, space, genotypes, without=metrics))
    strings = read_strings(space, bases.view, genotypes, progress)
    bases.check_data(data_hash(strings, values))
    bars = progress_bars(progress)
    with bars.task(f"training on {len(genotypes)} networks") as show:
        fitted, info = train_predictor(
            strings,
            values[:, 0] if len(metrics) == 1 else values,
            [
                Target(name, unit_of(name) if unit is None else unit, which)
                for name, which in zip(metrics, better, strict=True)
            ],
            space_name=space_name,
            view=bases.view,
            model=model,
            scale=scale,
            seed=seed,
            proxies=known_proxies,
            base=bases.predictors,
            show=show,
        )
    for predicted in info.metrics:
        if predicted.weak:
            bars.say(f"freerea-seval: {predicted.name}: {predicted.quality()}")
    predictor = Predictor(fitted, info, space=space)
    if output is not None:
        predictor.save(output)
    return predictor


def load_predictor(folder: str | Path) -> Predictor:
    """Return a predictor that :meth:`Predictor.save` or ``freerea-seval train`` wrote. Nothing is unpickled.

    Raises:
        InputError: the folder or a file is missing, damaged, or of another version of the package.

    Example:
        >>> import freerea_seval as fs
        >>> fs.load_predictor("predictor").metrics
        ['energy_mj']
    """
    from freerea_seval.predictor.folder import load_predictor as load

    remove_abandoned(Path(folder).absolute().parent)
    return Predictor(*load(folder), folder=Path(folder))


class Predictor:
    """A trained predictor of one metric or several.

    Tables that it returns have the units of their columns in ``attrs["units"]``, by column name. A network that the
    device probably cannot run has NaN there, and NaN as its bounds.

    Args:
        model: the fitted scikit-learn regressor from network strings to metrics.
        info: what it predicts and what it learned from.
        folder: where it was loaded from or saved.
        space: the search space of its genotypes, if it is at hand; else it is made from its name.

    Attributes:
        model, info, folder: as above.

    Example:
        >>> import freerea_seval as fs
        >>> predictor = fs.load_predictor("predictor")
        >>> predictor.predict(fs.TopologySpace().genotypes()[:2], interval=0.9).columns.tolist()
        ['genotype', 'energy_mj', 'energy_mj_low', 'energy_mj_high']
    """

    def __init__(
        self, model: SEvalPredictor, info: PredictorInfo, folder: Path | None = None, space: SearchSpace | None = None
    ) -> None:
        self.model = model
        self.info = info
        self.folder = folder
        self._space = space

    def __repr__(self) -> str:
        of = f"{', '.join(self.metrics)} of {self.info.space}, {self.view} view, {self.info.samples} networks"
        return f"<Predictor of {of}>"

    @property
    def metrics(self) -> list[str]:
        """Names of the predicted metrics."""
        return [metric.name for metric in self.info.metrics]

    @property
    def units(self) -> dict[str, str]:
        """Units of the predicted metrics by name, empty for none."""
        return {metric.name: metric.unit for metric in self.info.metrics}

    @property
    def view(self) -> View:
        """The view of networks that it reads."""
        return self.info.view

    def save(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Write the predictor as a folder of JSON and safetensors files with a model card, and return the folder.

        Args:
            folder: the folder to make.
            overwrite: replace another predictor there.

        Raises:
            InputError: the folder exists, or cannot be written.
        """
        from freerea_seval.predictor.folder import save_predictor

        save_predictor(folder, self.model, self.info, overwrite=overwrite)
        self.folder = Path(folder)
        return self.folder

    def predict(
        self,
        genotypes: Sequence[str | Path | nn.Module] | str | Path | nn.Module | None = None,
        space: str | Mapping[str, Any] | SearchSpace | None = None,
        interval: float | None = None,
        proxies: str | Path | DataFrame | None = None,
        output: str | Path | None = None,
        inputs: Inputs | None = None,
        file: str | Path | None = None,
        *,
        progress: bool = True,
    ) -> DataFrame:
        """Predict the metrics of genotypes, or of modules.

        Args:
            genotypes: ``(n,)`` genotypes; or with ``inputs`` modules, or ``"pkg.module:factory"`` of modules; or ONNX
                files, whose names end with ``.onnx``. None if there is a ``file``.
            space: the search space of the genotypes; None for the predictor's own, if it is built in.
            interval: probability with which the bounds hold each value, such as 0.9; None for no bounds.
            proxies: table of the zero-cost proxies that it learned from.
            output: CSV file to write as well, with six digits.
            inputs: of modules, with the batch dimension, as for :func:`freerea_seval.encode`.
            file: file of the genotypes: one a line, or a CSV with a column ``genotype``.
            progress: show progress bars on a terminal.

        Returns:
            ``n`` rows in the order of the genotypes: ``genotype`` (``network`` for modules), then for each metric its
            value, and with an interval ``METRIC_low`` and ``METRIC_high``; a bound is infinite where too few networks
            were measured. ``attrs["extrapolated"]`` says of rows in which way the network is less than half or more
            than twice as large as all training networks: its interval may not hold.

        Raises:
            InputError: a genotype is not of the space, or the proxies are not those of training.
            InputError: a file cannot be read, or there are both a file and genotypes, or neither.
            InputError: the predictor's space is not built in, and ``space`` is None: a folder alone runs no code.
        """
        from freerea_seval.config import is_onnx
        from freerea_seval.measurement.networks import read_genotypes

        output = None if output is None else Path(output).absolute()
        networks: list[Any] = [genotypes]
        if genotypes is None or (isinstance(genotypes, Sequence) and not isinstance(genotypes, str)):
            networks = list(genotypes or [])
        if file is not None:
            if networks:
                raise InputError(f"expected genotypes or --genotypes {file}, got both; leave one of them out")
            networks = list(read_genotypes(Path(file), self._space_of(space)))
        if not networks:
            raise InputError(
                "nothing to predict: give genotypes, or --genotypes FILE, or - to read them from standard input"
            )
        names = [str(one) if isinstance(one, (str, Path)) else type(one).__name__ for one in networks]
        files = [is_onnx(network) for network in networks]
        if any(files) and not all(files) and inputs is None:
            raise InputError(f"{names[files.index(True)]} is a file, and others are not; predict files separately")
        if inputs is None and not any(files):
            chosen, column = self._space_of(space), "genotype"
            for name, network in zip(names, networks, strict=True):
                if not isinstance(network, (str, Path)):
                    raise InputError(f"{name}: give the shape of its input")
                try:
                    chosen.check(name)
                except InputError as error:
                    if os.path.isfile(name):  # not Path.is_file, which raises an error for a long genotype
                        raise InputError(f"{error}; a file of genotypes is given with --genotypes {name}") from None
                    if _FACTORY.fullmatch(name) is None:
                        raise
                    raise InputError(f"{error}; a network as pkg.module:factory needs --input 1,3,32,32") from None
            others = self._proxies_of(proxies, chosen, names)
            strings = read_strings(chosen, self.view, names, progress)
        else:
            if space is not None or self.info.proxies or proxies is not None:
                what = (
                    "--input belongs to modules, which have"
                    if inputs is not None
                    else f"{names[0]} is a file, which has"
                )
                raise InputError(f"{what} no search space and no proxies; leave it out")
            others, column = None, "network"
            strings = [encode(network, inputs, self.view) for network in networks]
        predicted = self.predict_strings(strings, interval, others)
        predicted["string"] = names
        predicted = predicted.rename(columns={"string": column})
        if output is not None:
            from freerea_seval.tables import to_csv

            write_atomically(Path(output), to_csv(predicted, 6))
        return predicted

    def predict_strings(
        self, strings: Sequence[str], interval: float | None = None, proxies: npt.ArrayLike | None = None
    ) -> DataFrame:
        """Predict the metrics of network strings, such as :func:`freerea_seval.encode` returns.

        Args:
            strings: ``(n,)`` network strings in the view of the predictor.
            interval: as for :meth:`predict`.
            proxies: ``(n, k)`` zero-cost proxies, if it learned from ``k``; NaN where one is not known.

        Returns:
            As :meth:`predict`, with the column ``string`` in place of ``genotype``.

        Raises:
            InputError: a text that is no network string, or proxies that are not those of training.
        """
        from pandas import DataFrame

        shape = (len(strings), len(self.metrics))
        parts = [part.reshape(shape) for part in self._ask(strings, interval, proxies)]
        table = DataFrame({"string": list(strings)})
        for column, name in enumerate(self.metrics):
            for part, ending in zip(parts, ("", "_low", "_high"), strict=False):
                table[name + ending] = part[:, column]
        table.attrs["units"] = {
            name + ending: unit for name, unit in self.units.items() for ending in ("", "_low", "_high")[: len(parts)]
        }
        table.attrs["extrapolated"] = self._extrapolated(strings)
        return table

    def _extrapolated(self, strings: Sequence[str]) -> dict[int, str]:
        """Return in which way networks are far from all that the predictor learned from, by their row."""
        from freerea_seval.predictor.features.vectorizer import sizes

        unlike: dict[int, str] = {}
        if len(strings) and self.info.sizes:
            for name, column in sizes(strings).items():
                least, most = self.info.sizes[name]
                for row in ((column < least / _FAR) | (column > most * _FAR)).nonzero()[0].tolist():
                    unlike.setdefault(row, f"{column[row]:.3g} {name}, and {least:.3g} to {most:.3g} in training")
        return unlike

    def evaluate(
        self,
        table: str | Path | DataFrame,
        space: str | Mapping[str, Any] | SearchSpace | None = None,
        interval: float = 0.9,
        unsupported: float | None = None,
        missing: bool = False,
        proxies: str | Path | DataFrame | None = None,
        output: str | Path | None = None,
        *,
        progress: bool = True,
    ) -> DataFrame:
        """Compare predictions with measurements that the predictor did not learn from.

        Args:
            table: CSV file or DataFrame with the metrics of the predictor; see :func:`train`.
            space: the search space of the genotypes; None for the predictor's own, if it is built in.
            interval: nominal coverage of the intervals to judge.
            unsupported, missing: what cells mean; see :func:`train`.
            proxies: table of the zero-cost proxies that it learned from.
            output: folder to make, with ``predictions.csv``, ``scores.json`` and a figure a metric.
            progress: show progress bars on a terminal.

        Returns:
            One row a metric, by name: ``networks``, and the scores of
            :func:`freerea_seval.predictor.scores.scores`; NaN where a score is not defined.

        Raises:
            InputError: the table cannot be used, or the output folder exists.
        """
        from pandas import DataFrame

        from freerea_seval.predictor.scores import scores

        if output is not None:
            output = Path(output).absolute()  # before code of a user changes the folder
            check_new(output)
        chosen = self._space_of(space)
        genotypes, values, chosen = read_measurements(table, self.metrics, chosen, unsupported, missing)
        others = self._proxies_of(proxies, chosen, genotypes)
        strings = read_strings(chosen, self.view, genotypes, progress)
        predicted, low, high = (
            part.reshape(values.shape) for part in self.model.predict(strings, others, interval=interval)
        )
        supported = self.model.supported(strings).reshape(values.shape)
        judged = {
            metric.name: scores(
                values[:, column],
                predicted[:, column],
                direction=metric.direction,
                low=low[:, column],
                high=high[:, column],
                supported=supported[:, column],
            )
            for column, metric in enumerate(self.info.metrics)
        }
        if output is not None:
            facts = {
                "predictor": str(self.folder),
                "table": "DataFrame" if isinstance(table, DataFrame) else str(table),
                "interval": interval,
                "scores": judged,
            }
            try:
                with new_folder(Path(output)) as folder:
                    self._write_evaluation(folder, genotypes, values, (predicted, low, high), facts)
            except FileExistsError:  # another process has made it in the meantime
                check_new(Path(output))
                raise
        return DataFrame([{"networks": len(genotypes), **row} for row in judged.values()], index=list(judged))

    def unbounded(self, interval: float) -> dict[str, int]:
        """Return the metrics measured too rarely for such an interval, with their numbers of measurements.

        Args:
            interval: probability with which the bounds are to hold; fewer than
                :func:`~freerea_seval.predictor.conformal.samples_needed` measurements give infinite bounds.
        """
        from freerea_seval.predictor.conformal import samples_needed

        needed = samples_needed(interval)
        samples = zip(self.metrics, (conformal.samples for conformal in self.model.conformals_), strict=True)
        return {name: count for name, count in samples if count < needed}

    def _ask(self, strings: Sequence[str], interval: float | None, proxies: npt.ArrayLike | None) -> list[Values]:
        """Return predictions, and bounds with an interval; NaN for unsupported networks."""
        import numpy as np

        if interval is None:
            parts = [self.model.predict(strings, proxies)]
        else:
            parts = list(self.model.predict(strings, proxies, interval=interval))
        return [np.where(np.isfinite(parts[0]), part, np.nan) for part in parts]

    def _space_of(self, space: str | Mapping[str, Any] | SearchSpace | None) -> SearchSpace:
        """Return the space of the genotypes: the caller's choice, or the predictor's own.

        Raises:
            InputError: only the folder names the space, and it is not built in: making it would run code.
        """
        if space is not None:
            return as_space(space)
        if self._space is not None:
            return self._space
        if self.info.space == _Modules.name:
            return cast("SearchSpace", _Modules({}))
        if not _is_builtin(self.info.space):
            raise InputError(
                f"predictor {self.folder} learned from networks of the space {self.info.space!r}, which is not built"
                " in, and a folder alone must not cause code to run; if you trust that space, give it:"
                " --space pkg.module:Class, or --space FILE.yaml of a search in it"
            )
        return as_space(self.info.space)

    def _proxies_of(
        self, table: str | Path | DataFrame | None, space: SearchSpace, genotypes: Sequence[str]
    ) -> Values | None:
        """Return the proxies that the predictor learned from, ``(n, k)``, or None.

        Raises:
            InputError: they are not given, or some are given that it did not learn from.
        """
        if table is None:
            if self.info.proxies:
                names = ", ".join(self.info.proxies)
                raise InputError(
                    f"predictor {self.folder} also learned from proxies; give --proxies TABLE with the columns {names}"
                )
            return None
        if not self.info.proxies:
            raise InputError(f"predictor {self.folder} learned from strings alone; leave --proxies out")
        return _read_proxies(table, space, genotypes, names=self.info.proxies)[1]

    def _write_evaluation(
        self, output: Path, genotypes: Sequence[str], values: Values, parts: Sequence[Values], facts: dict[str, Any]
    ) -> None:
        import numpy as np
        from pandas import DataFrame

        from freerea_seval.predictor.scores import scatter
        from freerea_seval.tables import to_csv

        predicted, low, high = parts
        supported = np.isfinite(predicted)
        table = DataFrame({"genotype": list(genotypes)})
        for column, metric in enumerate(self.info.metrics):
            measured = values[:, column]
            table[metric.name] = np.where(np.isfinite(measured), measured, np.nan)
            for part, ending in zip(parts, ("_predicted", "_low", "_high"), strict=True):
                table[metric.name + ending] = np.where(supported[:, column], part[:, column], np.nan)
            scatter(
                output / f"{metric.name.replace('/', '_')}.svg",
                measured,
                predicted[:, column],
                metric=metric.name,
                unit=metric.unit,
                low=low[:, column],
                high=high[:, column],
            )
        write_atomically(output / "predictions.csv", to_csv(table, 10))
        write_atomically(output / "scores.json", json.dumps(facts, indent=2) + "\n")


def read_measurements(
    table: str | Path | DataFrame,
    metrics: Sequence[str],
    space: SearchSpace,
    unsupported: float | None,
    missing: bool,
) -> tuple[list[str], Values, SearchSpace]:
    """Return the genotypes of a table, their values and their space; or names and strings, if it has no genotypes.

    Values are ``(n, m)``: +inf for unsupported, NaN for not measured.

    Raises:
        InputError: the table cannot be used, a column has no value, or a metric is named twice.
        InputError: ``unsupported`` is None, but -1 seems to mark networks that cannot run, as in HW-NAS-Bench.
    """
    import numpy as np

    from freerea_seval.sources.table import KEY_COLUMNS, Advice, read_table
    from freerea_seval.tables import read_csv

    if len(set(metrics)) < len(metrics):
        raise InputError(f"a metric is named twice in {', '.join(metrics)}; name each once")
    columns = []
    with as_table(table) as path:
        frame, key = read_csv(path), None
        if "string" in frame.columns and not KEY_COLUMNS & set(frame.columns):
            key = "network" if "network" in frame.columns else "string"
            space = cast("SearchSpace", _Modules(dict(zip(frame[key], frame["string"], strict=True))))
        for metric in metrics:
            genotypes, numbers = read_table(
                path, space, metric, key=key, advice=Advice("", _CELL_ADVICE, _SPACE_ADVICE)
            )
            column = np.array(numbers, dtype=np.float64)
            empty = np.isnan(column)
            if empty.all():
                raise InputError(
                    f"{path}: every cell of {metric} is empty; measure it on a device that can run the networks"
                )
            marked = int((column == -1).sum())
            if unsupported is None and marked and bool(np.all((column == -1) | (column > 0) | empty)):
                raise InputError(
                    f"{path}: {marked} values of {metric} are -1 and all others are positive; add --unsupported -1 if"
                    " -1 marks networks that cannot run, or --unsupported nan if it is a measurement"
                )
            column[column == unsupported] = np.inf
            column[empty] = np.nan if missing else np.inf
            columns.append(column)
    values = np.stack(columns, axis=1)
    measured = ~np.isnan(values).all(axis=1)
    return [genotypes[row] for row in np.flatnonzero(measured)], values[measured], space


def _read_proxies(
    table: str | Path | DataFrame,
    space: SearchSpace,
    genotypes: Sequence[str],
    names: Sequence[str] | None = None,
    without: Sequence[str] = (),
) -> tuple[Sequence[str], Values]:
    """Return the columns of a table, all but ``without`` or those of ``names``, for some networks: names, ``(n, k)``.

    Raises:
        InputError: the table cannot be used, lacks a column or a network, or has no columns.
    """
    import numpy as np

    from freerea_seval.sources.table import Advice, Table

    with as_table(table) as path:
        rows = Table(path, space, advice=Advice("", ""))
        names = [name for name in rows.columns if name not in without] if names is None else names
        if not names:
            raise InputError(f"{path} has no column besides those of networks and metrics; expected one column a proxy")
        lacking = [name for name in names if name not in rows.columns]
        if lacking:
            raise InputError(
                f"{path} has no column {lacking[0]!r}; the predictor learned from the proxies {', '.join(names)}"
            )
        for genotype in genotypes:
            if genotype not in rows:
                raise InputError(
                    f"{path} has no row for {genotype!r}; add the row, with an empty cell for an unknown proxy"
                )
        columns = [rows.column(name, seconds=False) for name in names]
        return names, np.array([[column[genotype].value for column in columns] for genotype in genotypes])


class _Modules:
    """Networks of no search space, by name; takes the place of a space where a table has strings.

    Args:
        strings: their strings in the executed view; a name that is not among them is a string itself.
    """

    name = "modules"

    def __init__(self, strings: Mapping[str, str]) -> None:
        self._strings = strings

    def check(self, genotype: str) -> None:
        """Raise :class:`InputError` if there is no string."""
        from freerea_seval.strings import parse_graph

        if not (string := self._strings.get(genotype, genotype)):
            raise InputError(f"network {genotype!r} has no string, because it could not be traced; remove the row")
        parse_graph(string)

    def strings(self, names: Sequence[str], view: View) -> list[str]:
        """Return the strings of networks in a view."""
        from freerea_seval.strings import parse_graph, serialize_graph, view_of

        strings = [self._strings.get(name, name) for name in names]
        if view == "executed":
            return strings
        return [serialize_graph(view_of(parse_graph(string), view)) for string in strings]


def recorded_name(named: str | Mapping[str, Any] | SearchSpace, space: SearchSpace) -> str:
    """Return the name of a table's space as predictors record it, from which it can be made again, if that is possible.

    That is ``pkg.module:Class`` of a space of one's own, and JSON where there are options beside the name.
    """
    spec = space_spec(named)[0] if isinstance(named, str) else named
    if isinstance(space, _Modules) or not isinstance(spec, (str, Mapping)):
        return space.name
    if not isinstance(spec, str) and "name" not in spec:  # of a config of transformers
        return space.name
    name = str(spec if isinstance(spec, str) else spec["name"])
    if ":" not in name and _is_builtin(space.name):
        return space.name
    return name if isinstance(spec, str) else json.dumps({"name": name, **spec})  # the name first


def _is_builtin(recorded: str) -> bool:
    """Whether a recorded name is that of a built-in space, which can be made without running anyone's code."""
    if recorded.endswith((".yaml", ".yml")):  # of someone's file
        return False
    spec, _ = space_spec(recorded)
    name = spec if isinstance(spec, str) else spec.get("name")
    return str(name).partition("/")[0] in SPACES


def read_strings(space: SearchSpace, view: View, genotypes: Sequence[str], progress: bool) -> list[str]:
    """Return the strings of genotypes, and show the progress."""
    if isinstance(space, _Modules):
        return space.strings(genotypes, view)
    prepare_torch()
    from freerea_seval.strings.encode import SpaceStrings

    with progress_bars(progress).task(f"reading {len(genotypes)} networks") as show:
        return SpaceStrings(space, view).strings(genotypes, show)


def _directions(direction: str | Sequence[str] | None, metrics: Sequence[str]) -> list[Direction]:
    """Return which values of each metric are better.

    Raises:
        InputError: neither the argument nor a metric's name says it, or it is no direction.
    """
    from freerea_seval.units import direction_of

    given: list[str | None] = [direction] if direction is None or isinstance(direction, str) else list(direction)
    if len(given) not in (1, len(metrics)):
        raise InputError(
            f"--direction: expected one for all metrics, or one for each of {len(metrics)}, got {len(given)}"
        )
    better: list[Direction] = []
    for name, wanted in zip(metrics, given * (len(metrics) if len(given) == 1 else 1), strict=True):
        which = direction_of(name) if wanted is None else wanted
        if which is None:
            raise InputError(
                f"the name of metric {name!r} does not say which values are better; add --direction min or"
                " --direction max"
            )
        if which not in ("min", "max"):
            raise InputError(f"--direction must be min or max, not {which!r}")
        better.append("max" if which == "max" else "min")
    return better
