"""The authors' own search program, ``run_search.py`` of FreeREA, with our objectives in it: :func:`upstream`.

A :class:`_Session` imports the checkout, takes the place of its ``NATSBench`` class, and puts the objectives into the
search as soon as the program has made its ``NATSBench``. :func:`upstream` runs the program in a session; the patch
of :func:`write_patch` lets the program open the same session itself, by :func:`objectives_from_environment`.
"""

from __future__ import annotations

import ast
import inspect
import math
import os
import random
import runpy
import sys
from argparse import ArgumentError, ArgumentParser
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from difflib import unified_diff
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freerea_patch import BoundObjective, InputError, Measured, Objective, TopologySpace, unknown_name
from freerea_patch.checkout import Checkout, CheckoutMetrics, Hook
from freerea_seval.api.arguments import as_config, progress_bars
from freerea_seval.config import Config, make_space
from freerea_seval.files import write_atomically
from freerea_seval.progress import Progress, terminal_progress
from freerea_seval.unpickle import NatsBenchPatch

if TYPE_CHECKING:
    from pandas import DataFrame

    from freerea_seval.runs.setup import Setup

_SCRIPT = "run_search.py"
_EXPECTED = "expected commit 9c2a726 of FreeREA's code"
#: What FreeREA's searches rank by.
METRICS = ("naswot", "logsynflow", "skip")
#: Arguments of its search space that are used here.
_ARGUMENTS = ("path", "dataset", "metric_root")
#: Operations with parameters, and a cell with one operation on its first edge.
_CONVOLUTIONS = ("nor_conv_1x1", "nor_conv_3x3")
_COSTING = "|{}~0|+|none~0|none~1|+|none~0|none~1|none~2|"
#: What a patched program reads its config, its metrics and its output from.
VARIABLES = ("FREEREA_SEVAL_CONFIG", "FREEREA_SEVAL_METRICS", "FREEREA_SEVAL_OUTPUT")


@dataclass(frozen=True)
class UpstreamRun:
    """What the authors' program has come to.

    Attributes:
        best: a row for the best network of each repeat, or for each network of its front if an objective has the role
            ``pareto``: ``repeat``, ``genotype``, ``accuracy`` (test accuracy of NATS-Bench in percent), ``cells`` (the
            networks in the history), ``seconds`` (those charged to the budget) and the objectives, with their units in
            ``attrs["units"]``.
        histories: the genotypes of each repeat's history, in the program's order.
    """

    best: DataFrame
    histories: list[list[str]]


def upstream(
    checkout: str | Path,
    config: str | Path | Mapping[str, Any] | Config | None = None,
    arguments: Sequence[str] | None = None,
    *,
    metrics: str | Sequence[str] | None = None,
    output: str | Path | None = None,
    progress: bool = True,
) -> UpstreamRun:
    """Run ``run_search.py`` of a checkout of FreeREA with the objectives of a config in it.

    The program runs in the checkout's folder, which it leaves as it was; what its ``--save`` writes goes to ``results``
    in the present working folder. Afterwards everything is undone, also after an error.

    Args:
        checkout: a clone of github.com/NiccoloCavagnero/FreeREA.
        config: a config of a search, of which ``objectives`` is enough; ``budget`` and ``search`` are not used. None
            for the program as it is.
        arguments: arguments of the program, such as ``["--dataset", "cifar100", "--repeat", "5"]``.
        metrics: FreeREA's metrics that stay in its score, by the names of its tables, also as one text with commas; all
            three by default, ``"none"`` for none. An objective of the same name replaces one.
        output: CSV file for the best networks.
        progress: show the progress of preparations, and what is stood in for, on standard error.

    Raises:
        InputError: the folder is not a checkout, or its code differs where objectives come in.
        InputError: whatever is wrong with the config, a source, or the metrics; the space is not the program's.
        InputError: the program refused its arguments, or the output cannot be written. What ended the program, such as
            an interrupt, passes; the best networks of the repeats before it are written, or shown without an output.
    """
    if output is not None:
        _check_output(Path(output))
    session = _Session(Path(checkout), config, arguments or (), metrics, progress_bars(progress))
    with session, _running_in(session.code, arguments or ()):
        try:
            runpy.run_path(str(session.script), run_name="__main__")
        except SystemExit as error:
            if error.code:
                raise InputError(f"{_SCRIPT} ended with exit code {error.code}; see what it printed") from None
            return session.run()  # it has shown its help
        except BaseException:
            session.keep_finished(output)
            raise
    return session.finished(output)


def write_patch(checkout: str | Path, file: str | Path) -> None:
    """Write a patch for ``git apply`` in a checkout, after which ``python run_search.py`` itself has our objectives.

    The patch adds an import and a ``with`` block around the program. The program then reads the config, the metrics and
    the output of :func:`upstream` from the environment variables :data:`VARIABLES`.

    Args:
        checkout: the clone, which is left as it is.
        file: the patch to write.

    Raises:
        InputError: the folder is not a checkout, or is patched already.
    """
    script = _find_script(Path(checkout))
    try:
        text = script.read_bytes().decode()
        before, after = (_split_lines(version) for version in (text, _patched(text)))
    except (SyntaxError, UnicodeDecodeError, IndexError) as error:
        raise InputError(f"{script} is not a program in UTF-8 ({error}); {_EXPECTED}") from None
    patch = unified_diff(before, after, f"a/{_SCRIPT}", f"b/{_SCRIPT}")
    write_atomically(
        Path(file),
        "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in patch).encode(),
    )


@contextmanager
def objectives_from_environment(script: str) -> Iterator[None]:
    """Do in a patched program what :func:`upstream` does, by :data:`VARIABLES`; a mistake ends it with one line.

    Args:
        script: the program's ``__file__``.
    """
    config, metrics, output = (os.environ.get(name) or None for name in VARIABLES)
    try:
        folder = Path(script).resolve().parent
        session = _Session(folder, config, sys.argv[1:], metrics, terminal_progress(), patched=True)
        if output is not None:
            _check_output(Path(output))
        with session:
            try:
                yield
            except BaseException:
                session.keep_finished(output)
                raise
        print(shown(session.finished(output)))
    except InputError as error:
        print(f"{_SCRIPT}: error: {error}", file=sys.stderr)
        sys.exit(2)


def shown(run: UpstreamRun) -> str:
    """Return the best networks as an aligned table with units."""
    units = run.best.attrs["units"]
    headings = {name: f"{name} ({units[name]})" if units.get(name) else name for name in run.best}
    return run.best.rename(columns=headings).to_string(index=False, float_format="{:.6g}".format)


class _Session:
    """A checkout with our objectives in it, inside a ``with`` block.

    Args:
        patched: the program itself opens the session.
    """

    def __init__(
        self,
        path: Path,
        config: str | Path | Mapping[str, Any] | Config | None,
        arguments: Sequence[str],
        metrics: str | Sequence[str] | None,
        progress: Progress,
        patched: bool = False,
    ) -> None:
        self.code = Checkout(path)
        self.script = _find_script(path, patched)
        self._say = progress.say
        self._own = _OwnMetrics()
        if config is None and metrics is not None:
            raise InputError("upstream: --metrics chooses what stays beside our objectives; add --config")
        self._default_metrics = metrics is None
        self._metrics = _metric_names(metrics)
        self._dataset = _dataset(arguments)
        self._setup = None if config is None else self._prepare(config, progress)
        self._hook: Hook | None = None
        self._repeats: list[_Repeat] = []
        self._start = Path.cwd()  # the program runs in another folder
        self._undo = ExitStack()

    def _prepare(self, config: str | Path | Mapping[str, Any] | Config, progress: Progress) -> Setup:
        """Open the sources of a config; FreeREA's own metrics come before its objectives."""
        from freerea_seval.runs.setup import prepare

        unused = {"budget": {"evaluations": 1}}
        if isinstance(config, Mapping):
            config = {**config, **unused}
        checked, base, _ = as_config(config, ["budget={evaluations: 1}"] if isinstance(config, (str, Path)) else ())
        if checked.refine is not None or checked.only is not None:
            key = "'refine'" if checked.refine is not None else "'only' of 'space'"
            raise InputError(f"upstream: FreeREA's code searches the whole space, in one go; remove {key}")
        if "space" not in checked.model_fields_set:
            checked = checked.model_copy(update={"space": {"name": "nats-tss", "dataset": self._dataset}})
        space = make_space(checked.whole_space, base)
        self._check_space(space.dataset if isinstance(space, TopologySpace) else "", self._dataset, space.name)
        columns = {section.column for section in checked.objectives}
        self._metrics = [name for name in self._metrics if name not in columns]
        own = [BoundObjective(Objective(name, source="freerea"), self._own, name) for name in self._metrics]
        return prepare(checked, base.resolve(), progress=progress, first=own)

    def _check_space(self, ours: str, theirs: str, name: str) -> None:
        if ours != theirs:
            raise InputError(
                f"upstream: the config searches {name}, and {_SCRIPT} nats-tss on {theirs}; leave 'space' out, or write"
                f" 'space: {{name: nats-tss, dataset: {theirs}}}'"
            )

    def __enter__(self) -> _Session:
        try:
            code = self._undo.enter_context(self.code)
            code.check_seams()
            for module in (code.search, code.our_baselines, code.nas_utils):
                self._rebind(module, "info", self._info(module.info))
            nats = import_module("nas_spaces.nats")
            original, create = getattr(nats, "NATSBench", None), getattr(nats, "create", None)
            if not isinstance(original, type) or create is None:
                raise InputError(f"{code.path}: nas_spaces/nats.py has no NATSBench with a create; {_EXPECTED}")
            made = type(original.__name__, (original,), {"__init__": self._made(original, nats, create)})
            for module in (code.nas_spaces, nats):
                self._rebind(module, "NATSBench", made)
        except BaseException:
            self._undo.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def _rebind(self, owner: Any, name: str, value: object) -> None:
        self._undo.callback(setattr, owner, name, vars(owner)[name])
        setattr(owner, name, value)

    def _made(self, original: Any, nats: Any, create: Callable[..., Any]) -> Callable[..., None]:
        """Return a constructor that reads the archive or stands in for it, and puts the objectives in."""
        signature = inspect.signature(original.__init__)
        if missing := [name for name in _ARGUMENTS if name not in signature.parameters]:
            raise InputError(
                f"{self.code.path}: NATSBench of nas_spaces/nats.py takes no {', '.join(missing)}; {_EXPECTED}"
            )

        def construct(api: Any, *args: Any, **named: Any) -> None:
            given = signature.bind(api, *args, **named).arguments
            path, dataset, root = (given.get(name) for name in _ARGUMENTS)
            replaced = list(self.code.replaced)
            if path is None or not Path(path).is_dir() or "nats_bench" in replaced:
                where = "not set" if path is None else path
                replaced.append(f"NATS-Bench's archive (NATS_PATH: {where}) by accuracies of {root} and computed costs")
                nats.create = lambda *_, **__: _Archive(str(dataset), Path(str(root)))
            else:
                self._undo.enter_context(NatsBenchPatch())
            try:
                original.__init__(api, *args, **named)
            finally:
                nats.create = create
            if replaced:
                self._say(f"stood in for what is not here: {', '.join(replaced)}")
            if self._setup is not None:
                self._put_in(api, str(dataset), self._setup)

        return construct

    def _put_in(self, api: Any, dataset: str, setup: Setup) -> None:
        """Put the objectives into the search of a space object."""
        self._check_space(str(getattr(setup.space, "dataset", "")), dataset, setup.space.name)
        valid = ["skip", *(name for name in api.metrics_cache.columns if not name.endswith("time=[s]"))]
        for metric in self._metrics:
            if metric not in valid:
                raise unknown_name("metric of FreeREA's tables", metric, valid)
        if self._hook is not None:
            self._hook.undo()
        self._own.source = CheckoutMetrics(api)
        ranks_by = METRICS if self._default_metrics else None
        preparation_s = sum(setup.preparation.values())
        hook = Hook(self.code, api, setup.objectives, preparation_s=preparation_s, ranks_by=ranks_by)
        self._hook = self._undo.enter_context(hook)

    def _info(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function that reports a search at its end, which also records it."""
        signature = inspect.signature(original)

        def info(*args: Any, **named: Any) -> Any:
            reported = original(*args, **named)
            given = signature.bind(*args, **named).arguments
            self._record(given["history"], given["metrics"], 60 * reported[1])
            return reported

        return info

    def _record(self, history: Mapping[str, Any], metrics: Sequence[str], seconds: float) -> None:
        best = self.code.nas_utils.return_top_k(list(history.values()), 1, metrics)
        if self._hook is not None:
            admitted = {candidate.genotype for candidate in self._hook.history}
            if not admitted.issuperset(history):
                raise InputError(
                    f"{self.code.path}: its search kept networks that it did not filter by our constraints; {_EXPECTED}"
                )
            front = [candidate.genotype for candidate in self._hook.history.front()]
            if not front:
                raise InputError(self._hook.history.describe_nothing_compared())
            if self._hook.history.is_pareto:
                best = [history[genotype] for genotype in front if genotype in history]
        rows = []
        for exemplar in best:
            candidate = self._hook.history.find(exemplar.genotype) if self._hook is not None else None
            values = {} if candidate is None else dict(candidate.values)
            rows.append((exemplar.genotype, float(exemplar.get_accuracy()), values))
        self._repeats.append(_Repeat(list(history), seconds, rows))

    def run(self) -> UpstreamRun:
        """Return what was recorded."""
        from pandas import DataFrame

        terms = self._setup.objectives.terms if self._setup is not None else ()
        rows = [
            {
                "repeat": number,
                "genotype": genotype,
                "accuracy": accuracy,
                "cells": len(repeat.history),
                "seconds": repeat.seconds,
                **{term.name: values[term.name] for term in terms},
            }
            for number, repeat in enumerate(self._repeats)
            for genotype, accuracy, values in repeat.best
        ]
        names = [term.name for term in terms]
        best = DataFrame(rows, columns=["repeat", "genotype", "accuracy", "cells", "seconds", *names])
        best.attrs["units"] = {"accuracy": "%", "seconds": "s", **{term.name: term.unit for term in terms}}
        for bound in self._setup.report if self._setup is not None else ():
            section = bound.section
            values = bound.source.evaluate(best["genotype"].tolist(), [section.metric])
            best[section.column] = [row[section.metric].value for row in values]
            best.attrs["units"][section.column] = section.unit or ""
        return UpstreamRun(best, [repeat.history for repeat in self._repeats])

    def keep_finished(self, output: str | Path | None) -> None:
        """Write the best networks of the repeats that have finished, or show them, when the program ends early."""
        if self._repeats:
            if output is not None:
                self._write(self.run(), output)
            where = f"are in {output}" if output is not None else f"are:\n{shown(self.run())}"
            count = len(self._repeats)
            whose = "1 repeat had finished; its" if count == 1 else f"{count} repeats had finished; their"
            self._say(f"{whose} best networks {where}")

    def _write(self, run: UpstreamRun, output: str | Path) -> None:
        from freerea_seval.tables import to_csv

        write_atomically(self._start / output, to_csv(run.best))

    def finished(self, output: str | Path | None) -> UpstreamRun:
        """Return what was recorded, and write the best networks.

        Raises:
            InputError: nothing was recorded: the program did not search in the way that is known.
        """
        if not self._repeats:
            raise InputError(
                f"{self.script} ended no search of nas_spaces' NATSBench through info of nas_utils; {_EXPECTED}, and a"
                " --repeat of at least 1"
            )
        run = self.run()
        if output is not None:
            self._write(run, output)
        return run


@dataclass(frozen=True)
class _Repeat:
    """A finished search: its history, its seconds, and genotype, accuracy and values of its best networks."""

    history: list[str]
    seconds: float
    best: list[tuple[str, float, dict[str, float]]]


@dataclass
class _OwnMetrics:
    """FreeREA's own metrics, from a space object that is made later than the objectives."""

    source: CheckoutMetrics | None = None

    def evaluate(self, genotypes: Sequence[str], metrics: Sequence[str]) -> Iterator[Mapping[str, Measured]]:
        """Yield the metrics of each genotype."""
        if self.source is None:
            raise RuntimeError("FreeREA's metrics are asked for before its space is made")
        return self.source.evaluate(genotypes, metrics)


class _Archive:
    """Stands in for NATS-Bench's archive: accuracies of FreeREA's tables, and parameters and FLOPs of our cost model.

    It has the members of the package ``nats_bench`` that FreeREA's searches use, with NATS-Bench's units.

    Args:
        dataset: the data set.
        root: the folder of the tables, with one folder a data set.
    """

    def __init__(self, dataset: str, root: Path) -> None:
        from freerea_seval.sources.freerea_cache import FreereaCacheSource
        from freerea_seval.sources.registry import Context

        context = Context(TopologySpace(dataset))
        self._cells = list(context.space.genotypes())  # type: ignore[attr-defined]
        self._rows = {genotype: index for index, genotype in enumerate(self._cells)}
        has_accuracies = (root / dataset / "accuracies.csv").is_file()
        self._accuracies = FreereaCacheSource(context, str(root.resolve())) if has_accuracies else None
        self._costs = _costs(dataset)

    def __len__(self) -> int:
        return len(self._cells)

    def get_net_config(self, index: int, dataset: str) -> dict[str, str]:
        """Return the cell of an index."""
        return {"arch_str": self._cells[index]}

    def query_index_by_arch(self, arch: str) -> int:
        """Return the index of a cell, -1 if it is none."""
        return self._rows.get(arch, -1)

    def get_more_info(self, index: int, dataset: str, **_: object) -> dict[str, float]:
        """Return the test accuracy after 200 epochs, NaN without a table of it."""
        if self._accuracies is None:
            return {"test-accuracy": math.nan}
        (row,) = self._accuracies.evaluate([self._cells[index]], ["accuracy"])
        return {"test-accuracy": row["accuracy"].value}

    def get_cost_info(self, index: int, dataset: str) -> dict[str, float | None]:
        """Return the parameters and multiply-adds, in millions; both are whole numbers."""
        counts = [self._cells[index].count(operation) for operation in _CONVOLUTIONS]
        fixed, *others = self._costs
        params, flops = (
            round(fixed[k] + sum(n * (cost[k] - fixed[k]) for n, cost in zip(counts, others, strict=True)), 6)
            for k in (0, 1)
        )
        return {"params": params, "flops": flops, "latency": None}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # asked for by Python itself, such as to copy an object
            raise AttributeError(name)
        raise InputError(f"FreeREA's code asked for {name} of NATS-Bench's archive; set NATS_PATH to its folder")


@cache
def _costs(dataset: str) -> list[tuple[float, float]]:
    """Return parameters and multiply-adds of a cell without convolutions, and of cells with one.

    Both are sums over the six edges, so that these cells have the terms of all operations.
    """
    from freerea_seval.sources.registry import Context, load_registry

    cells = [_COSTING.format(operation) for operation in ("none", *_CONVOLUTIONS)]
    rows = load_registry().open("cost", None, Context(TopologySpace(dataset))).evaluate(cells, ["params", "macs"])
    return [(row["params"].value, row["macs"].value) for row in rows]


@contextmanager
def _running_in(code: Checkout, arguments: Sequence[str]) -> Iterator[None]:
    """Run a program in a checkout's folder with arguments; put back what it sets for the whole process."""
    import numpy as np
    import torch

    start, argv = Path.cwd(), sys.argv
    cudnn = {name: getattr(torch.backends.cudnn, name) for name in ("deterministic", "benchmark")}
    drawn, drawn_by_numpy = random.getstate(), np.random.get_state()
    analyzer = code.analyzer.Analyzer
    save = analyzer.save

    def save_outside(self: Any) -> None:
        os.chdir(start)
        try:
            Path("results", self.api.get_api_name(), self.dataset).mkdir(parents=True, exist_ok=True)
            save(self)
        finally:
            os.chdir(code.path)

    try:
        with torch.random.fork_rng(range(torch.cuda.device_count())):
            os.chdir(code.path)
            sys.argv = [_SCRIPT, *arguments]
            analyzer.save = save_outside
            yield
    finally:
        os.chdir(start)
        sys.argv = argv
        random.setstate(drawn)
        np.random.set_state(drawn_by_numpy)
        for name, value in cudnn.items():
            setattr(torch.backends.cudnn, name, value)


def _check_output(output: Path) -> None:
    """Make sure before a long run that its output can be written.

    Raises:
        InputError: it is a folder, or is to be in a folder that does not exist or takes no files.
    """
    folder = output.absolute().parent
    if output.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        problem = "is a folder" if output.is_dir() else f"cannot be written, as {folder} is no folder that takes files"
        raise InputError(f"--output {output} {problem}; name another file")


def _find_script(checkout: Path, patched: bool = False) -> Path:
    """Return the program of a checkout.

    Raises:
        InputError: there is none, or it has our patch although it must not.
    """
    script = checkout.resolve() / _SCRIPT
    if not script.is_file():
        raise InputError(f"{checkout} has no {_SCRIPT}; {_EXPECTED}")
    if not patched and objectives_from_environment.__name__ in script.read_text(encoding="utf-8", errors="replace"):
        raise InputError(f"{script} is patched already; run it, with {VARIABLES[0]}, or take the patch back")
    return script


def _metric_names(metrics: str | Sequence[str] | None) -> list[str]:
    if metrics is None:
        return list(METRICS)
    if isinstance(metrics, str):
        return [] if metrics == "none" else [name.strip() for name in metrics.split(",")]
    return list(metrics)


def _dataset(arguments: Sequence[str]) -> str:
    """Return the data set among a program's arguments; what is wrong with them, it says itself."""
    parser = ArgumentParser(add_help=False, exit_on_error=False)
    parser.add_argument("--dataset", default="cifar10")
    with suppress(ArgumentError):
        return str(parser.parse_known_args(list(arguments))[0].dataset)
    return "cifar10"


def _split_lines(text: str) -> list[str]:
    r"""Return the lines with their ``\n``; other characters that end a line for Python do not for git."""
    *lines, last = text.split("\n")
    return [*(f"{line}\n" for line in lines), *([last] if last else [])]


def _patched(text: str) -> str:
    """Return a program in a ``with`` block that puts objectives in; lines within a text keep their indentation."""
    tree = ast.parse(text)
    after = 0  # docstring and imports from the future stay in front
    if tree.body and isinstance(tree.body[0], ast.Expr) and isinstance(tree.body[0].value, ast.Constant):
        after = 1
    while isinstance(tree.body[after], ast.ImportFrom) and getattr(tree.body[after], "module", "") == "__future__":
        after += 1
    statement = tree.body[after]
    first = min([statement.lineno, *(node.lineno for node in getattr(statement, "decorator_list", []))])
    texts = [node for node in ast.walk(tree) if isinstance(node, (ast.Constant, ast.JoinedStr))]
    within = {line for node in texts for line in range(node.lineno + 1, (node.end_lineno or node.lineno) + 1)}
    lines = text.split("\n")
    end = "\r" if lines[first - 1].endswith("\r") else ""
    name = objectives_from_environment.__name__
    added = [f"from {__name__} import {name}", "", f"with {name}(__file__):"]
    rest = enumerate(lines[first - 1 :], first)
    indented = [f"    {line}" if line.strip() and number not in within else line for number, line in rest]
    return "\n".join([*lines[: first - 1], *(f"{line}{end}" for line in added), *indented])
