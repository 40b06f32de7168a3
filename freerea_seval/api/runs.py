"""Searches and their runs: :func:`search`, :func:`load_run`, :class:`Run`."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext, suppress
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from freerea_patch import InputError, NothingFeasible, user_message
from freerea_patch.spaces import input_dtype
from freerea_seval.api.arguments import as_config, prepare_torch, progress_bars
from freerea_seval.config import Config, with_engine
from freerea_seval.files import check_new, write_atomically
from freerea_seval.progress import Progress
from freerea_seval.runs.folder import RunFolder

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame
    from torch import nn

    from freerea_patch import SearchSpace
    from freerea_seval.runs.pick import Pick


#: An exported network takes at most this number of images at once.
MOST_IMAGES = 1_024
#: Texts of seeds mean at most this number.
MOST_SEEDS = 10_000


def search(
    config: str | Path | Mapping[str, Any] | Config | None = None,
    output: str | Path | None = None,
    *,
    seeds: str | int | Iterable[int] | None = None,
    device: str | None = None,
    batch: str | None = None,
    override: Sequence[str] | None = None,
    resume: str | Path | None = None,
    answers: str | Path | None = None,
    start_from: str | Path | Sequence[str | Path] | None = None,
    trust: bool = False,
    workers: int | Literal["auto"] | None = None,
    executor: str | None = None,
    engine: str | None = None,
    log: str | None = None,
    progress: bool = True,
) -> Run:
    """Search, and write a run folder.

    The journal of a seed depends on the config and the seed alone, not on the number of workers, unless the budget
    limits wall-clock time.

    Args:
        config: a YAML file, whose relative paths start from its folder; or the same content as a mapping or
            :class:`~freerea_seval.config.schema.Config`, whose paths start from the working folder; None for the
            default search, which needs no data.
        output: run folder to make; None for ``runs/NAME-TIME`` in the working folder.
        seeds: instead of the config's: ``"0,1,2"``, ``"0-29"``, a number or numbers.
        device: of live networks, such as ``"cpu"`` or ``"cuda"``, instead of the config's.
        batch: images for live networks instead of the config's: ``"FILE.npz"`` relative to the working folder,
            ``"pkg.module:callable"`` or ``"random"``.
        override: ``key.to.value=YAML``, such as ``"budget.evaluations=50"``, of any values of the config.
        resume: continue this run folder instead of starting one; takes no other argument but ``answers``, ``workers``,
            ``executor``, ``log`` and ``trust``.
        answers: with ``resume``, a CSV of values that the search asked for: the run's ``wanted.csv``, filled in.
        start_from: earlier runs with a section ``refine``, of the same space. Their measurements and answers of the
            metrics that this search learns count as known, and it starts from the networks that they explored.
        trust: of a run folder from elsewhere, import the code that its config names; not needed where you have run that
            config yourself.
        workers: processes that evaluate networks, or search with whole seeds where metrics are looked up or predicted;
            None or 1 for this process alone; ``"auto"`` for what the command line does, which is as many as there are
            physical cores, once training-free metrics have taken five seconds, and one where a metric is measured by a
            clock. A script that uses more than one calls this below ``if __name__ == "__main__":``, as
            :mod:`multiprocessing` requires.
        executor: ``"ray"`` or ``"ray://HOST:PORT"``: the cores of a Ray cluster evaluate networks instead of processes.
        engine: the algorithm instead of the config's, such as ``"optuna:tpe"`` or ``"pymoo:nsga2"``; options that it
            does not have are left out.
        log: ``"tensorboard"``, ``"mlflow"`` or ``"wandb"``: write the finished run to this experiment tracker.
        progress: show a progress bar on a terminal, or print a line every ten seconds on standard error elsewhere; and
            say there if nothing is feasible after a second, or a metric has no value for most networks.

    Returns:
        The finished run.

    Raises:
        InputError: whatever is wrong with the config, a source, or the run folder. What was measured before stays in
            the folder, for ``resume``.
        AnswersWanted: the search waits for values of networks that only the user can supply; the message says which.

    Example:
        >>> import freerea_seval as fs
        >>> run = fs.search({"budget": {"evaluations": 8}, "search": {"population": 4, "tournament": 2},
        ...     "objectives": [{"metric": "params", "source": "cost"}]}, "runs/small")
        >>> run.best.columns.tolist()
        ['seed', 'genotype', 'score', 'params']
    """
    if isinstance(workers, int) and workers < 1:
        raise InputError(f"--workers must be 1 or more, got {workers}")
    if log is not None:
        from freerea_seval.runs.trackers import find_tracker

        find_tracker(log)
    bars = progress_bars(progress)
    if resume is not None:
        others = (config, output, seeds, device, batch, override, start_from, engine)
        if any(value is not None and value != [] for value in others):
            raise InputError("--resume continues a run with its own config; leave out the config and the other options")
        folder = RunFolder.open(Path(resume).absolute(), trust)  # code of a user may change the working folder
        with folder.locked():
            _execute(folder, workers, executor, bars, None if answers is None else Path(answers).absolute())
        return _finished(folder, log)
    if answers is not None:
        raise InputError("--answers continues a run that asked for them; give its folder with --resume")
    if trust:
        raise InputError("--trust belongs to --resume; leave it out")
    overrides = list(override or [])
    if device is not None:
        overrides.append(f"live.device={json.dumps(device)}")
    if batch is not None:
        # A path that the caller names starts where the caller is, not where the config is.
        overrides.append(f"live.batch={json.dumps(str(Path(batch).resolve()) if batch.endswith('.npz') else batch)}")
    if seeds is not None:
        overrides.append(f"search.seeds={parse_seeds(seeds)}")
    settings, base, name = as_config(config, overrides)
    if engine is not None:
        section, left_out = with_engine(settings.search, engine, base)
        settings = settings.model_copy(update={"search": section})
        if left_out:
            options = "options" if len(left_out) > 1 else "option"
            bars.say(f"engine {engine} does not take the {options} {', '.join(left_out)} of the config")
    # To the microsecond, so that searches that are started together have folders of their own.
    path = Path("runs") / f"{name}-{datetime.now():%Y%m%d-%H%M%S-%f}" if output is None else Path(output)
    path = path.absolute()  # code of a user may change the working folder
    earlier = [start_from] if isinstance(start_from, (str, Path)) else list(start_from or [])
    folder = RunFolder.create(path, settings, base, lambda draft: _take_over(settings, earlier, draft))
    with folder.locked():
        try:
            _execute(folder, workers, executor, bars)
        except NothingFeasible as error:
            # Continuing would end in the same way.
            made = [str(receipt.with_suffix("").resolve()) for receipt in path.glob("predictor-*.json")]
            if made:
                mend = f"its predictor serves again as 'source: {{seval: {made[0]}}}'"
                raise NothingFeasible(f"{error}; {mend}") from error
            raise
        except InputError as error:
            kept = ("measured-*", "predictor-*", "seed-*/measured-*", "seed-*/refine.jsonl")
            if any(any(path.glob(name)) for name in kept):
                raise InputError(f"{error}; the run is kept in {path}: continue with --resume {path}") from error
            folder.discard()
            raise
    return _finished(folder, log)


def _finished(folder: RunFolder, log: str | None) -> Run:
    """Return a finished run, after it was written to an experiment tracker."""
    run = Run(folder)
    if log is not None:
        from freerea_seval.runs.trackers import track

        figure = None
        with suppress(InputError):  # matplotlib is not installed
            figure = run.draw()
        track(folder, log, figure)
    return run


def _take_over(config: Config, runs: Sequence[str | Path], draft: Path) -> None:
    """Copy what a run starts from into its folder."""
    if not runs:
        return
    if config.refine is None:
        raise InputError("--start-from takes measurements over, and this config has no section 'refine'; add it")
    from freerea_seval.runs.earlier import copy_runs

    copy_runs([Path(run) for run in runs], draft)


def load_run(folder: str | Path, *, trust: bool = False) -> Run:
    """Return a run that :func:`search` or ``freerea-seval search`` wrote.

    Args:
        folder: the run folder.
        trust: let :attr:`Run.space`, and what uses it, import a space of one's own that the folder names, also if you
            have not run its config yourself.

    Raises:
        InputError: the folder is not a run, or its files are damaged.

    Example:
        >>> import freerea_seval as fs
        >>> fs.load_run("runs/small").seeds
        [0]
    """
    return Run(RunFolder.open(Path(folder), trust))


def compare(runs: Sequence[str | Path | Run], metrics: Sequence[str] = (), html: str | Path | None = None) -> DataFrame:
    """Lay finished runs side by side.

    Args:
        runs: two or more, or their folders.
        metrics: columns of the results to compare; by default the Pareto objectives and the reported metrics that every
            run has, and without these the fitness terms.
        html: file for a page with interactive figures, written as well.

    Returns:
        A row a run: see :func:`freerea_seval.runs.compare.compare_runs`.

    Raises:
        InputError: fewer than two runs, an unfinished one, no metric that all of them have, or a package is not
            installed.

    Example:
        >>> import freerea_seval as fs
        >>> fs.compare(["runs/small", "runs/small"])["networks"].tolist()
        [8.0, 8.0]
    """
    folders = [(run if isinstance(run, Run) else load_run(run)).folder for run in runs]
    if html is not None:
        from freerea_seval.runs.compare_page import write_comparison

        return write_comparison(folders, metrics, Path(html))
    from freerea_seval.runs.compare import compare_runs

    return compare_runs(folders, metrics)


class Run:
    """A run: what a search evaluated, and the networks that it returns.

    The networks of a run are numbered as the rows of :attr:`front` are, from 0. Tables have the units of their metric
    columns in ``attrs["units"]``, by column name, and the names of predicted columns in ``attrs["predicted"]``; a value
    that the device or the metric does not support is NaN.

    Args:
        folder: the run on disk; :func:`search` and :func:`load_run` make it.

    Attributes:
        folder: the run on disk.

    Example:
        >>> import freerea_seval as fs
        >>> run = fs.load_run("runs/small")
        >>> network = run.build(0)
        >>> run.front.attrs["units"]
        {'params': 'M'}
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder

    def __repr__(self) -> str:
        return f"Run({str(self.folder.path)!r})"

    def _repr_html_(self) -> str:
        """Return the front as an HTML table, for notebooks."""
        return f"<p>{self!r}</p>{self.front.to_html(index=True)}"

    @property
    def path(self) -> Path:
        """The run folder."""
        return self.folder.path

    @property
    def config(self) -> Config:
        """The config, with the directions and units that the sources supplied."""
        return self.folder.config

    @property
    def seeds(self) -> list[int]:
        """The seeds that were searched with."""
        return list(self.config.search.seeds)

    @cached_property
    def space(self) -> SearchSpace:
        """The search space, the whole of it.

        Raises:
            InputError: it would import code that a run folder from elsewhere names; see :func:`load_run`.
        """
        from freerea_seval.config import make_space

        self.folder.check_trust(space_alone=True)
        return make_space(self.config.whole_space, self.folder.base)

    @cached_property
    def front(self) -> DataFrame:
        """The resulting networks of all seeds: ``seed``, ``genotype``, ``score`` if there is one, a column a metric.

        A search with Pareto objectives returns its front, any other search its five best networks, best first.

        Raises:
            InputError: a seed is not finished.
        """
        from freerea_seval.runs.report import front_table

        return front_table(self.folder)

    @cached_property
    def history(self) -> DataFrame:
        """All evaluated networks of all seeds, in order; see :func:`freerea_seval.runs.report.history_table`."""
        from freerea_seval.runs.report import history_table

        return history_table(self.folder)

    @property
    def best(self) -> DataFrame:
        """One row of :attr:`front` a seed: that of the highest score, or the first if there is no score."""
        front = self.front
        order = front.sort_values("score", ascending=False, kind="stable") if "score" in front else front
        return order.drop_duplicates("seed").sort_index()

    def genotypes(self) -> list[str]:
        """Return the genotypes of :attr:`front`, ``(n,)``."""
        return [str(genotype) for genotype in self.front["genotype"]]

    def build(self, index: int) -> nn.Module:
        """Return a network of the front as a module with initial weights.

        Args:
            index: row of :attr:`front`.

        Returns:
            A module that maps ``(n, *space.input_shape)`` to ``(n, classes)``.

        Raises:
            InputError: there is no such row, or torch is not installed.
        """
        genotype = self._genotype(index)
        prepare_torch()
        return self.space.build(genotype)

    def _genotype(self, index: int) -> str:
        genotypes = self.genotypes()
        if not 0 <= index < len(genotypes):
            raise InputError(
                f"run {self.path}: expected an index of its front from 0 to {len(genotypes) - 1}, got {index}"
            )
        return genotypes[index]

    @property
    def pick(self) -> int:
        """The row of :attr:`front` that is recommended; :attr:`pick_reason` says why.

        With Pareto objectives, it is the knee of the front (Das 1999), otherwise the best score within the bounds: see
        :func:`freerea_seval.runs.pick.recommend`.

        Raises:
            InputError: the front is empty, or a seed is not finished.
        """
        return self._pick.row

    @property
    def pick_reason(self) -> str:
        """Why :attr:`pick` is recommended, in one sentence, with its values."""
        return self._pick.reason

    @cached_property
    def _pick(self) -> Pick:
        from freerea_seval.runs.pick import recommend

        return recommend(self.config, self.front)

    def export(
        self, path: str | Path, pick: int | None = None, seed: int | None = None, batch_size: int | None = None
    ) -> Path:
        """Write a network of the front to a file that needs this package no more, with initial weights.

        The file is loaded again, and its outputs on random inputs are compared with those of the network. The weights
        are those of a network that is built after ``torch.manual_seed(0)``; a ``.py`` gives them in the same way.

        Args:
            path: file to write: ``.py`` is PyTorch source with a class ``Network``, whose weights have the names of
                :meth:`build`'s; ``.onnx`` and ``.pt2`` (:mod:`torch.export`) are programs with weights. A ``.json`` is
                the config of a network of transformers, which builds it.
            pick: row of :attr:`front`; None for :attr:`pick`.
            seed: without ``pick``, recommend among the networks of this seed only.
            batch_size: images at once that an ``.onnx`` or ``.pt2`` takes, 1 by default; a ``.py`` takes any number.

        Returns:
            The path.

        Raises:
            InputError: the path has another suffix or exists; there is no such row; a package is not installed; or the
                network cannot be written in this way, such as one with classes of your own as a ``.py``.
            OSError: the file cannot be written.
        """
        from freerea_seval.runs.pick import recommend

        path = Path(path)
        if pick is not None and seed is not None:
            raise InputError("--pick counts over the networks of all seeds; leave out --seed")
        if batch_size is not None and not 1 <= batch_size <= MOST_IMAGES:
            raise InputError(f"--batch-size must be between 1 and {MOST_IMAGES}, got {batch_size}")
        if batch_size is not None and path.suffix == ".py":
            raise InputError(f"{path}: a .py takes any number of images; leave out --batch-size")
        if path.suffix == ".json" and batch_size is not None:
            raise InputError(f"{path}: a config is for any batch; leave out --batch-size")
        if path.suffix == ".json" and not hasattr(self.space, "config_json"):
            raise InputError(
                f"{path}: a .json is the config of a network of a space {{transformers: ...}}, and this run is of the"
                f" space {self.space.name}; name a file .py, .onnx or .pt2"
            )
        if path.suffix == ".py" and hasattr(self.space, "config_json"):
            raise InputError(f"{path}: transformers has the source of its networks; name a file .json, .onnx or .pt2")
        index = recommend(self.config, self.front, seed).row if pick is None else pick
        if path.suffix == ".json":
            check_new(path, "file")
            write_atomically(path, self.space.config_json(self._genotype(index)))  # type: ignore[attr-defined]
            return path
        prepare_torch()
        import torch

        from freerea_seval.export import check_target, export_network

        check_target(path)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = self.build(index)
        title = f"Network {index} of the run {self.path.name}, {self.space.name}: {self.genotypes()[index]}"
        export_network(
            network,
            self.space.input_shape,
            path,
            title=title,
            batch_size=batch_size or 1,
            dtype=input_dtype(self.space),
        )
        return path

    def plot_front(self, ax: Axes | None = None) -> Axes:
        """Draw all networks, the front and the pick, over the Pareto objectives and the score.

        Args:
            ax: matplotlib axes to draw into; None for those of a new figure. It is the same for all figures.

        Raises:
            InputError: a seed is not finished, or matplotlib is not installed. It is the same for all figures.
        """
        from freerea_seval.runs.figures import plot_front

        return plot_front(self.folder, ax=ax)

    def plot_history(self, metric: str | None = None, ax: Axes | None = None) -> Axes:
        """Draw the best value so far over the number of evaluated networks.

        Args:
            metric: ``"score"``, a metric that is optimised, or with Pareto objectives ``"hypervolume"`` (Zitzler 1998)
                of the front so far; None for the hypervolume, or without Pareto objectives the score.
            ax: as in :meth:`plot_front`.

        Raises:
            InputError: there is no such metric; or as :meth:`plot_front`.
        """
        from freerea_seval.runs.figures import plot_history

        return plot_history(self.folder, metric, ax=ax)

    def plot_calibration(self, metric: str | None = None, ax: Axes | None = None) -> Axes:
        """Draw predicted over measured values of the networks of the front.

        Args:
            metric: column of the measured values; None for the first metric that has both.
            ax: as in :meth:`plot_front`.

        Raises:
            InputError: no such metric is both predicted and measured; or as :meth:`plot_front`.
        """
        from freerea_seval.runs.figures import plot_calibration

        return plot_calibration(self.folder, metric, ax=ax)

    def plot_network(self, index: int | None = None, ax: Axes | None = None) -> Axes:
        """Draw a network of the front: its layers with the shapes of their outputs, and its cell, if it has one.

        Args:
            index: row of :attr:`front`; None for :attr:`pick`.
            ax: as in :meth:`plot_front`.

        Raises:
            InputError: there is no such row, or torch is not installed; or as :meth:`plot_front`.
        """
        from freerea_seval.runs.figures import plot_network

        index = self.pick if index is None else index
        network, genotype = self.build(index), self.genotypes()[index]
        return plot_network(
            network, self.space.input_shape, f"network {index}: {genotype}", input_dtype(self.space), ax=ax
        )

    def report(self, html: str | Path | None = None) -> str:
        """Return the report that the command line prints, as text.

        Args:
            html: file for a page with interactive figures, written as well.

        Raises:
            InputError: a seed is not finished, or a package that draws the page is not installed.
        """
        from rich.console import Console

        from freerea_seval.runs.report import print_report

        if html is not None:
            from freerea_seval.runs.run_page import write_page

            write_page(self.folder, Path(html))
        text = io.StringIO()
        print_report(self.folder, Console(file=text, width=120))
        return text.getvalue()

    def write_page(self) -> Path:
        """Write the page with interactive figures, ``report.html`` in the run folder, and return its path.

        Raises:
            InputError: a seed is not finished, or a package that draws the page is not installed.
        """
        from freerea_seval.runs.run_page import write_page

        return write_page(self.folder)

    def draw(self) -> Path:
        """Draw ``front.png`` in the run folder, and return its path.

        Raises:
            InputError: a seed is not finished, or matplotlib is not installed.
        """
        return self._figure

    @cached_property
    def _figure(self) -> Path:
        from freerea_seval.runs.figures import draw_run

        return draw_run(self.folder)


def parse_seeds(seeds: str | int | Iterable[int]) -> list[int]:
    """Return the seeds of ``"0,1,2"``, ``"0-29"``, a number or numbers.

    Raises:
        InputError: a text of another form.
    """
    if not isinstance(seeds, str):
        return [seeds] if isinstance(seeds, int) else [int(seed) for seed in seeds]
    numbers: list[int] = []
    for part in seeds.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,18})(?:-([0-9]{1,18}))?\s*", part)
        if match is None or (match[2] is not None and int(match[2]) < int(match[1])):
            raise InputError(f"--seeds {seeds!r:.80}: expected numbers such as 0,1,2 or a range such as 0-29")
        first, last = int(match[1]), int(match[2] or match[1])
        if len(numbers) + last - first >= MOST_SEEDS:
            raise InputError(f"--seeds {seeds!r:.80}: expected at most {MOST_SEEDS} seeds")
        numbers.extend(range(first, last + 1))
    return numbers


def _execute(
    folder: RunFolder,
    workers: int | Literal["auto"] | None,
    executor: str | None,
    progress: Progress,
    answers: Path | None = None,
) -> None:
    from freerea_seval.runs.execute import execute
    from freerea_seval.runs.workers import open_workers

    try:
        alone = workers is None and executor is None
        with nullcontext() if alone else open_workers(folder.config, workers, executor) as pool:
            execute(folder, progress, answers, pool)
    except SystemExit as error:  # of a user's space or algorithm, which would end the caller's program without a word
        raise InputError(user_message(error) or repr(error)) from error
    except KeyboardInterrupt:
        print(f"\nstopped; continue with: freerea-seval search --resume {folder.path}", file=sys.stderr)
        raise
