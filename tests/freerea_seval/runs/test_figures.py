"""The figures of a run: what they show, and that they draw into the axes that they are given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.mathtext import MathTextParser

import freerea_seval as fs
from freerea_patch import Evaluation, History, Objective, Proposal
from freerea_seval.runs.figures import calibration_points, hypervolumes, last_hypervolume, plot_network
from tests.freerea_seval.runs.searches import write_search


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> fs.Run:
    folder = tmp_path_factory.mktemp("run_with_figures")
    return fs.search(write_search(folder, seeds="[1, 2]"), folder / "run")


def texts(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def line(axes: Axes, label: str) -> tuple[list[float], list[float]]:
    (drawn,) = [line for line in axes.get_lines() if line.get_label() == label]
    return np.asarray(drawn.get_xdata()).tolist(), np.asarray(drawn.get_ydata()).tolist()


def test_a_figure_is_drawn_into_the_axes_of_the_caller_or_into_new_ones(run: fs.Run) -> None:
    axes = Figure().subplots()
    assert run.plot_front(ax=axes) is axes
    assert not pyplot.get_fignums()
    for draw in (run.plot_front, run.plot_history, run.plot_network):
        drawn = draw()
        assert drawn is pyplot.gca()
        pyplot.close("all")


def test_the_front_is_drawn_with_the_pick(run: fs.Run) -> None:
    axes = run.plot_front()
    pyplot.close("all")
    first = run.front[run.front["seed"] == 1].sort_values("cost")
    assert line(axes, "front") == (first["cost"].tolist(), first["score"].tolist())
    pick = run.front.iloc[run.pick]
    assert line(axes, "pick") == ([pick["cost"]], [pick["score"]])
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("cost [mJ]", "score of the fitness metrics")
    shown = sum(len(np.asarray(points.get_offsets())) for points in axes.collections)
    assert shown + len(run.front) == len(run.history[run.history["feasible"]])


@pytest.mark.parametrize("metric", ["hypervolume", "score", "worth", "cost"])
def test_the_history_has_the_best_so_far(run: fs.Run, metric: str) -> None:
    axes = run.plot_history(metric)
    pyplot.close("all")
    numbers, best = line(axes, "best so far")
    assert numbers == list(range(1, 61))
    ordered = sorted(best, reverse=metric == "cost")
    assert best == ordered
    if metric != "hypervolume":
        values = run.history[run.history["seed"] == 1][metric]
        assert best == (values.cummin() if metric == "cost" else values.cummax()).tolist()
    assert len(axes.collections) == (0 if metric == "hypervolume" else 2)
    with pytest.raises(fs.InputError, match="unknown metric of the history 'again'"):
        run.plot_history("again", ax=axes)


def test_hypervolumes_are_those_of_a_grid() -> None:
    """A naive twin: the share of a grid's points that are below a network on both axes."""
    rng = np.random.default_rng(0)
    history = History([Objective("a", "max", "pareto"), Objective("b", "min", "pareto")])
    points = [*rng.integers(0, 21, (30, 2)), (0, 0), (20, 20)]  # the axes span 20 steps
    for number, (a, b) in enumerate(points):
        history.add(Proposal(str(number)), Evaluation({"a": float(a), "b": float(b)}, {}))
    history.add(Proposal("none"), Evaluation({"a": float("nan"), "b": 0.0}, {}))
    x, y = np.meshgrid(np.arange(20) + 0.5, np.arange(20) + 0.5)
    below, expected = np.zeros_like(x, bool), []
    for a, b in points:
        below |= (x < a) & (y < 20 - b)
        expected.append(below.mean())
    assert hypervolumes(history) == pytest.approx([*expected, expected[-1]])
    assert last_hypervolume(history) == pytest.approx(expected[-1])
    assert last_hypervolume(History(history.terms)) == 0.0


def test_predictions_are_drawn_over_measurements(run: fs.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(fs.InputError, match="no metric is both predicted and measured; add the measured one to"):
        run.plot_calibration(ax=Figure().subplots())
    objective = {"metric": "latency_ms", "source": {"seval": "p"}, "name": "guess", "unit": "ms", "direction": "min"}
    report = [{"metric": "latency", "source": "device", "unit": "ms"}]
    config = {"budget": {"evaluations": 1}, "objectives": [objective], "report": report}
    front = [{"genotype": "a", "guess": 2.0, "latency": 3.0}, {"genotype": "b", "guess": None, "latency": 1.0}]
    folder: Any = fs.load_run(run.path).folder
    monkeypatch.setattr(folder, "config", fs.Config.model_validate(config))
    monkeypatch.setattr(folder, "results", lambda: [{"front": front}])
    shown = calibration_points(folder, "guess", "latency")
    assert (shown.genotypes, shown.measured, shown.predicted) == (["a"], [3.0], [2.0])
    axes = fs.Run(folder).plot_calibration("latency", ax=Figure().subplots())
    assert line(axes, "networks of the result") == ([3.0], [2.0])
    assert axes.get_xlabel() == "latency_ms, measured [ms]"
    with pytest.raises(fs.InputError, match="unknown metric that is both predicted and measured 'guess'"):
        fs.Run(folder).plot_calibration("guess", ax=axes)


def test_a_network_is_drawn_with_its_layers_and_its_cell(run: fs.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(MathTextParser, "parse")  # a figure that reads mathematics would fail
    space = fs.TopologySpace()
    genotype = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|avg_pool_3x3~1|nor_conv_1x1~2|"
    figure = Figure()
    axes = plot_network(space.build(genotype), space.input_shape, "$x_{$", ax=figure.subplots())
    figure.canvas.draw()
    assert axes.get_title() == "$x_{$"
    shown = texts(axes)
    assert shown[:4] == [
        "input\n3x32x32",
        "Conv2d 3x3\nBatchNorm2d\n16x32x32",
        "5 x Cell\n16x32x32",
        "ResidualBlock\n32x16x16",
    ]
    operations = ["nor conv 3x3", "none", "skip connect", "none", "avg pool 3x3", "nor conv 1x1"]
    assert shown[8:] == [*operations, "in", "1", "2", "out"]


def test_a_network_without_cells_is_drawn() -> None:
    space = fs.FBNetSpace()
    axes = plot_network(space.build(":".join("15" * 11)), space.input_shape, "t", ax=Figure().subplots())
    shown = texts(axes)
    assert shown[2] == "InvertedResidual 3x3\nexpansion 1, groups 2\n16x32x32"
    assert len(shown) == 25


def test_figures_without_matplotlib_name_the_command(run: fs.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(fs.InputError, match=r"^figures need matplotlib, .*: pip install 'freerea-seval\[figures\]'$"):
        run.plot_front()


def test_the_figure_of_a_run_has_its_pick(run: fs.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(Figure, "savefig", lambda self, file, **_: drawn.extend(self.axes))
    run.draw()
    assert [axes.get_title() for axes in drawn] == ["Evaluated networks", "Reported metrics of the result"]
    assert "pick" in drawn[0].get_legend_handles_labels()[1]
    assert Path(run.path / "front.png").exists()
