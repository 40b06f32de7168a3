"""The public interface: what the names of ``freerea_seval`` promise, and that the command line has the same ones."""

from __future__ import annotations

import doctest
import inspect
import json
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import freerea_seval as fs
from freerea_seval.api import measuring
from freerea_seval.cli import configs, encoding, predictors, runs
from freerea_seval.cli import measuring as measuring_commands
from freerea_seval.config import load_config
from tests.freerea_seval.cli.test_mistakes import call
from tests.freerea_seval.cli.test_predicting import work
from tests.freerea_seval.runs.searches import write_search

CELLS = fs.TopologySpace().genotypes()
TWINS: list[tuple[Callable[..., object], Callable[..., object]]] = [
    (runs.search, fs.search),
    (configs.check, fs.check),
    (runs.report, fs.Run.report),
    (runs.export, fs.Run.export),
    (predictors.train, fs.train),
    (predictors.predict, fs.Predictor.predict),
    (predictors.evaluate, fs.Predictor.evaluate),
    (encoding.encode, fs.encode),
    (measuring_commands.measure, fs.measure),
    (measuring_commands.ssh, measuring.measure_over_ssh),
    (measuring_commands.export, measuring.export_networks),
    (measuring_commands.import_results, measuring.import_results),
]
#: Parameters that only one of the two requires: a command must write somewhere, and may read genotypes from a pipe.
REQUIRED_BY_ONE = {"train": ["output"], "predict": ["genotypes"]}


def parameters(function: Callable[..., object]) -> dict[str, Any]:
    """Return defaults by name, without the object of a method and the progress bars that a command always has."""
    names = inspect.signature(function).parameters
    others = {"self", "run", "predictor", "progress", "as_json", "quiet", "verbose"}
    others |= {"trust"} if function is runs.export else set()  # of load_run
    return {name: names[name].default for name in names if name not in others}


@pytest.mark.parametrize(("command", "function"), TWINS, ids=lambda function: function.__qualname__)
def test_a_command_and_its_function_have_the_same_parameters_and_defaults(
    command: Callable[..., object], function: Callable[..., object]
) -> None:
    ours, theirs = parameters(command), parameters(function)
    assert list(ours) == list(theirs)
    for name in REQUIRED_BY_ONE.get(command.__name__, []):
        del ours[name], theirs[name]
    assert ours == theirs


def test_importing_the_package_is_light() -> None:
    code = (
        "import sys, time; began = time.process_time(); import freerea_seval\n"
        "heavy = {'numpy', 'pandas', 'pydantic', 'sklearn', 'torch', 'yaml'}\n"
        "print(time.process_time() - began, sorted(heavy & set(sys.modules)))"
    )
    outputs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split(
            maxsplit=1
        )
        for _ in range(3)
    ]
    assert all(loaded.strip() == "[]" for _, loaded in outputs)
    assert min(float(seconds) for seconds, _ in outputs) < 0.1


@pytest.mark.parametrize("name", fs.__all__)
def test_every_public_name_is_listed_and_described(name: str) -> None:
    assert name in dir(fs) or name == "__version__"
    assert getattr(fs, name).__doc__


def test_the_examples_of_the_docstrings_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # In the order in which one makes the files that the next one reads.
    documented: list[Any] = [fs.search, fs.load_run, fs.Run, fs.Evaluator, fs.encode, fs.measure]
    documented += [fs.train, fs.load_predictor, fs.Predictor, fs.init, fs.check, fs.schema]
    runner = doctest.DocTestRunner()
    for item in documented:
        (example,) = doctest.DocTestFinder(recurse=False).find(item, item.__name__, globs={})
        assert example.examples, item
        report: list[str] = []
        assert runner.run(example, out=report.append, clear_globs=False).failed == 0, "".join(report)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> fs.Run:
    """A run of two seeds."""
    folder = tmp_path_factory.mktemp("run_of_two_seeds")
    return fs.search(write_search(folder), folder / "run", seeds=[3, 4])


def test_a_run_is_read_as_tables_with_units(run: fs.Run) -> None:
    assert run.seeds == [3, 4]
    results = [run.folder.result(seed) or {} for seed in run.seeds]
    rows = [{"seed": result["seed"], **row} for result in results for row in result["front"]]
    assert run.front.to_dict("records") == rows
    assert run.front.attrs["units"] == {"worth": "", "cost": "mJ", "again": "mJ"}
    assert run.genotypes() == [row["genotype"] for row in rows]
    assert run.history.groupby("seed").size().to_dict() == {3: 60, 4: 60}
    assert run.history.attrs["units"] == {"worth": "", "cost": "mJ"}
    assert set(run.history["origin"]) == {"random", "mutation", "crossover"}
    lines = [json.loads(line) for line in (run.path / "seed-3" / "journal.jsonl").read_text().splitlines()]
    first = run.history[run.history["seed"] == 3]
    for name in ("genotype", "origin", "generation"):
        assert first[name].tolist() == [line[name] for line in lines]
    assert first["cost"].tolist() == [line["values"]["cost"] for line in lines]
    scored = first.set_index("genotype")["score"]
    for row in results[0]["front"]:
        assert scored[row["genotype"]] == row["score"]


def test_the_best_networks_of_a_run_are_one_a_seed(run: fs.Run) -> None:
    assert run.best["seed"].tolist() == [3, 4]
    for seed, score in zip(run.best["seed"], run.best["score"], strict=True):
        assert score == run.front.loc[run.front["seed"] == seed, "score"].max()
    assert run.best.attrs["units"] == run.front.attrs["units"]


def test_a_run_is_read_back_and_shown(run: fs.Run) -> None:
    loaded = fs.load_run(str(run.path))
    pd.testing.assert_frame_equal(loaded.front, run.front)
    assert "seed 3: the front of 60 networks" in loaded.report()
    assert loaded._repr_html_().count("<tr") == len(loaded.front) + 1
    assert loaded.draw().read_bytes().startswith(b"\x89PNG")


def test_a_run_writes_a_page(run: fs.Run, tmp_path: Path) -> None:
    pytest.importorskip("freerea_seval.runs.page", reason="needs the module that writes pages")
    run.report(tmp_path / "page.html")
    assert call("report", run.path, "--html", tmp_path / "command.html") == 0
    for page in tmp_path.glob("*.html"):
        assert "<html" in page.read_text()[:500].lower()


def test_a_network_of_a_run_is_built_and_exported(run: fs.Run, tmp_path: Path) -> None:
    network = run.build(0).eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert network(images).shape == (2, 10)
    for index in (-1, len(run.front)):
        with pytest.raises(fs.InputError, match=f"expected an index of its front from 0 to {len(run.front) - 1}, got"):
            run.build(index)
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs the package onnxruntime")
    pytest.importorskip("onnx", reason="needs the package onnx")
    path = run.export(tmp_path / "network.onnx", 0, batch_size=2)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    assert output.shape == (2, 10)


def test_a_network_that_onnx_cannot_express_is_named(
    run: fs.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    class Spectrum(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            spectrum: torch.Tensor = torch.fft.fft(x).abs()
            return spectrum

    pytest.importorskip("onnx", reason="needs the package onnx")
    monkeypatch.setattr(run, "build", lambda index: Spectrum())
    with pytest.raises(fs.InputError, match=r"network.onnx: the network cannot be written as .onnx \(.*aten::fft_fft"):
        run.export(tmp_path / "network.onnx", 1)
    assert not (tmp_path / "network.onnx").exists()
    assert capfd.readouterr() == ("", "")


def test_the_pick_is_exported_by_command_and_by_function(run: fs.Run, tmp_path: Path) -> None:
    assert call("export", run.path, "-o", tmp_path / "command.py") == 0
    by_function = run.export(tmp_path / "function.py")
    assert (tmp_path / "command.py").read_text() == by_function.read_text()
    assert run.genotypes()[run.pick] in by_function.read_text()
    of_seed = run.export(tmp_path / "seed.py", seed=4).read_text()
    picks = [genotype for genotype in run.front.loc[run.front["seed"] == 4, "genotype"] if f": {genotype}\n" in of_seed]
    assert len(picks) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["network.txt"], r"network.txt: expected a file that ends with \.py .*, \.onnx or \.pt2 .*, got '\.txt'$"),
        (["network.py", 0, 3], "--pick counts over the networks of all seeds; leave out --seed$"),
        (["network.py", 999], "expected an index of its front from 0 to"),
        (["network.py", None, 9], "there is no network to recommend of seed 9; expected one of 3, 4$"),
        (["network.py", None, None, 2], "a .py takes any number of images; leave out --batch-size$"),
        (["network.pt2", None, None, 0], "--batch-size must be between 1 and 1024, got 0$"),
        (["here.py"], "here.py exists already; choose another file with -o$"),
    ],
)
def test_what_cannot_be_exported_is_refused(run: fs.Run, tmp_path: Path, arguments: list[Any], message: str) -> None:
    (tmp_path / "here.py").write_text("mine")
    with pytest.raises(fs.InputError, match=message):
        run.export(tmp_path / arguments[0], *arguments[1:])
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("here.py", "mine")]


def test_a_run_of_unsupported_and_infinite_values_has_numbers(tmp_path: Path) -> None:
    config = write_search(tmp_path, budget="evaluations: 5")
    module = next(tmp_path.glob("metrics_*.py"))
    module.write_text(
        module.read_text() + "def odd(genotype): return float('inf')\ndef none(genotype): return float('nan')\n"
    )
    odd = f"  - {{metric: odd, source: {{python: {module.stem}:odd}}}}\n"
    config.write_text(config.read_text() + odd + odd.replace("odd", "none"))
    front = fs.search(config, tmp_path / "run").front
    assert front["odd"].tolist() == [float("inf")] * len(front)
    assert front["none"].isna().all()


def contents(run: Path) -> list[str]:
    """Return the files of a run of the seeds 3 and 4, without the seconds that metrics took."""
    files = ["front.csv", "config.yaml", *(f"seed-{seed}/journal.jsonl" for seed in (3, 4))]
    return [re.sub(r'"seconds": \{[^}]*\}', "", (run / name).read_text()) for name in files]


def test_workers_find_what_one_process_finds(run: fs.Run, tmp_path: Path) -> None:
    config = write_search(tmp_path, seeds="[3, 4]")
    for folder, workers in ((tmp_path / "one", 1), (tmp_path / "two", 2)):
        fs.search(config, folder, workers=workers)
    assert contents(tmp_path / "two") == contents(tmp_path / "one")
    for seed in (3, 4):
        (tmp_path / "two" / f"seed-{seed}" / "result.json").unlink()
    fs.search(resume=tmp_path / "two", workers=2)
    assert contents(tmp_path / "two") == contents(tmp_path / "one")


def test_a_mistake_in_a_worker_is_raised_here(tmp_path: Path) -> None:
    config = write_search(tmp_path, seeds="[3, 4]")
    module = next(tmp_path.glob("metrics_*.py"))
    module.write_text(module.read_text().replace("    time.sleep(DELAY_S)\n", "    raise KeyError('no board')\n"))
    with pytest.raises(fs.InputError, match="no board"):
        fs.search(config, tmp_path / "run", workers=2)
    with pytest.raises(fs.InputError, match="--workers must be 1 or more, got 0"):
        fs.search(config, tmp_path / "run", workers=0)


def test_a_config_is_a_file_a_mapping_or_an_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = write_search(tmp_path, budget="evaluations: 20")
    config = load_config(path)
    journals = []
    forms: list[Any] = [path, str(path), config, config.model_dump()]
    for number, form in enumerate(forms):
        run = fs.search(form, f"run-{number}", seeds="5", override=["budget.evaluations=15"])
        assert run.history["seed"].tolist() == [5] * 15
        journals.append(run.history.drop(columns="seconds"))
    assert all(journal.equals(journals[0]) for journal in journals)
    assert fs.search(config, seeds=5, override=["budget.evaluations=15"]).path.parent == Path("runs").absolute()
    with pytest.raises(fs.InputError, match=r"^config: unknown key 'serach'; did you mean 'search'"):
        fs.search({"serach": {}})
    with pytest.raises(fs.InputError, match=r"^config: budget: evaluations .* got 0"):
        fs.search(config, override=["budget.evaluations=0"])


def test_an_evaluator_gives_what_a_search_records(run: fs.Run) -> None:
    evaluator = fs.Evaluator.from_config(run.path.parent / "search.yaml")
    assert evaluator.space.name == "nats-tss/cifar10"
    assert [(o.name, o.role, o.unit) for o in evaluator.objectives] == [
        ("worth", "fitness", ""),
        ("cost", "pareto", "mJ"),
    ]
    seen = run.history[run.history["seed"] == 3]
    values = evaluator(seen["genotype"].tolist())
    for name in ("genotype", "worth", "cost"):
        assert values[name].tolist() == seen[name].tolist()
    assert values.attrs["units"] == {"worth": "", "cost": "mJ"}
    twice = evaluator.evaluate([CELLS[5], CELLS[3], CELLS[5]])
    assert twice["genotype"].tolist() == [CELLS[5], CELLS[3], CELLS[5]]
    assert twice["worth"][0] == twice["worth"][2] != twice["worth"][1]
    assert len(evaluator([])) == 0
    with pytest.raises(fs.InputError, match="is not a cell"):
        evaluator(["none"])


def test_an_evaluator_says_what_constraints_exclude(tmp_path: Path) -> None:
    path = write_search(tmp_path)
    text = path.read_text().replace("role: pareto", "role: constraint, max: 2")
    path.write_text(text)
    values = fs.Evaluator.from_config(path)(CELLS[:40])
    assert values["feasible"].tolist() == (values["cost"] <= 2).tolist()
    assert 0 < values["feasible"].sum() < 40
    assert values["worth"].isna().tolist() == (~values["feasible"]).tolist()


def test_an_evaluator_is_pickled_into_a_fresh_process(run: fs.Run, tmp_path: Path) -> None:
    evaluator = fs.Evaluator.from_config(run.path.parent / "search.yaml")
    (tmp_path / "evaluator").write_bytes(pickle.dumps(evaluator))
    code = (
        "import pickle, sys, pathlib; evaluator = pickle.loads(pathlib.Path('evaluator').read_bytes())\n"
        "print(evaluator(sys.argv[1:]).to_json())"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, *CELLS[:4]], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == evaluator(CELLS[:4]).to_json()


def test_an_evaluator_keeps_what_its_sources_prepare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from freerea_seval.sources import device

    def made_up(space: object, genotypes: list[str], **options: object) -> list[float]:
        measured.append(len(genotypes))
        return [1.0 + genotype.count("conv") for genotype in genotypes]

    measured: list[int] = []
    monkeypatch.setattr(device, "measure_latency_ms", made_up)
    latency = {"metric": "latency", "source": {"seval": {"measure": "latency", "networks": 12}}}
    config = {"budget": {"evaluations": 1}, "objectives": [latency]}
    with pytest.raises(fs.InputError, match="only within a run"):
        fs.Evaluator.from_config(config)
    evaluator = fs.Evaluator.from_config(config, folder=tmp_path / "prepared")
    again = pickle.loads(pickle.dumps(evaluator))  # noqa: S301 - what this test has just written
    assert again(CELLS[:3]).equals(evaluator(CELLS[:3]))
    assert measured == [12]


class Few(fs.TopologySpace):
    """A space of four cells."""

    def genotypes(self) -> list[str]:
        return list(CELLS[:4])


class Two(nn.Module):
    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return mask - nn.functional.relu(ids.float())


class Several(nn.Module):
    def forward(self, images: list[torch.Tensor]) -> list[torch.Tensor]:
        return [image.relu() for image in images]


def test_inputs_are_shapes_texts_or_tensors_by_position_or_name() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU())
    forms: list[Any] = [(1, 3, 8, 8), "1,3,8,8", [(1, 3, 8, 8)], ["1,3,8,8"], torch.zeros(1, 3, 8, 8)]
    assert {fs.encode(network, form) for form in forms} == {"input[1x3x8x8] conv(8,k3,b) relu output"}
    named: list[Any] = [
        {"ids": "1,4:int64", "mask": (1, 4)},
        ["ids=1,4:int64", "mask=1,4"],
        ["1,4:int64", (1, 4)],
        {"ids": torch.zeros(1, 4, dtype=torch.int64), "mask": torch.zeros(1, 4)},
    ]
    assert len({fs.encode(Two(), form) for form in named}) == 1
    with pytest.raises(fs.InputError, match="all inputs as tensors or all as shapes"):
        fs.encode(Two(), {"ids": torch.zeros(1, 4), "mask": (1, 4)})
    listed: list[Any] = [
        "[3,8,8;3,6,6:float32]",
        [[(3, 8, 8), "3,6,6"]],
        {"images": [(3, 8, 8), (3, 6, 6)]},
        [[torch.zeros(3, 8, 8), torch.zeros(3, 6, 6)]],
        {"images": (torch.zeros(3, 8, 8), torch.zeros(3, 6, 6))},
    ]
    mixed: Any = [[torch.zeros(3, 8, 8), (3, 6, 6)]]
    assert {fs.encode(Several(), form) for form in listed} == {"input[3x8x8] input[3x6x6] relu<-2 relu<-2 output<-2,1"}
    with pytest.raises(fs.InputError, match="all inputs as tensors or all as shapes"):
        fs.encode(Several(), mixed)
    assert fs.measure(Several(), listed[3], rounds=1, progress=False)["latency_ms"].gt(0).all()
    with pytest.raises(fs.InputError, match="Two: give the shape of its input"):
        fs.encode(Two())


def test_a_space_is_encoded_as_a_table(tmp_path: Path) -> None:
    strings = fs.encode(Few(), output=tmp_path / "few.csv")
    assert strings["genotype"].tolist() == list(CELLS[:4])
    assert strings["string"][3] == fs.encode(Few().build(CELLS[3]), (1, 3, 32, 32))
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "few.csv"), strings)
    pd.testing.assert_frame_equal(fs.encode(space=Few()), strings)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """Sixty cells with a latency that every third one does not have."""
    cells = [CELLS[i] for i in np.random.default_rng(0).permutation(len(CELLS))[:60]]
    latency = [np.nan if row % 3 == 0 else work(cell) for row, cell in enumerate(cells)]
    return pd.DataFrame({"genotype": cells, "latency_ms": latency})


def test_a_predictor_is_trained_saved_and_loaded(table: pd.DataFrame, tmp_path: Path) -> None:
    table.to_csv(tmp_path / "table.csv", index=False)
    predictor = fs.train(table, "latency_ms", tmp_path / "p", missing=True, model="boosted", scale="linear")
    twin = fs.train(tmp_path / "table.csv", ["latency_ms"], missing=True, model="boosted", scale="linear")
    assert (predictor.metrics, predictor.units, predictor.view) == (["latency_ms"], {"latency_ms": "ms"}, "executed")
    assert (predictor.folder, twin.folder) == (tmp_path / "p", None)
    assert repr(predictor) == "<Predictor of latency_ms of nats-tss/cifar10, executed view, 40 networks>"
    predicted = predictor.predict(CELLS[:5], interval=0.8)
    assert list(predicted) == ["genotype", "latency_ms", "latency_ms_low", "latency_ms_high"]
    assert set(predicted.attrs["units"].values()) == {"ms"}
    loaded = fs.load_predictor(twin.save(tmp_path / "q"))
    pd.testing.assert_frame_equal(loaded.predict(CELLS[:5], interval=0.8), predicted)
    strings = [fs.encode(fs.TopologySpace().build(cell), (1, 3, 32, 32)) for cell in CELLS[:5]]
    by_string = loaded.predict_strings(strings, 0.8)
    assert by_string["string"].tolist() == strings
    assert by_string.drop(columns="string").equals(predicted.drop(columns="genotype"))
    assert loaded.unbounded(0.99) == {"latency_ms": 40}
    assert loaded.unbounded(0.8) == {}
    scores = loaded.evaluate(table, missing=True)
    assert scores.index.tolist() == ["latency_ms"]
    assert scores["networks"].tolist() == [40]
    assert scores["kendall_tau"].gt(0.8).all()


def test_a_network_that_cannot_run_is_predicted_as_nan(table: pd.DataFrame) -> None:
    cells = table["genotype"]
    broken = table.assign(latency_ms=[work(cell) if "nor_conv_1x1" in cell else np.nan for cell in cells])
    predicted = fs.train(broken, "latency_ms", model="boosted", scale="linear").predict(cells.tolist(), interval=0.8)
    missing = predicted["latency_ms"].isna()
    assert np.mean(missing == broken["latency_ms"].isna()) > 0.9
    assert predicted.loc[missing, ["latency_ms_low", "latency_ms_high"]].isna().all(axis=None)


def test_a_predictor_of_a_space_at_hand_needs_no_name_for_it(table: pd.DataFrame) -> None:
    space = Few()
    space.name = "few"
    predictor = fs.train(table.dropna(), "latency_ms", space=space, model="boosted", scale="linear")
    assert predictor.info.space == "few"
    assert len(predictor.predict([CELLS[0]])) == 1
    predictor._space = None  # as after loading
    with pytest.raises(fs.InputError, match="the space 'few', which is not built in"):
        predictor.predict([CELLS[0]])
    assert len(predictor.predict([CELLS[0]], space)) == 1


def test_modules_are_measured_and_stay_as_they_are() -> None:
    modules = [nn.Conv2d(3, 4, 3), nn.Conv2d(3, 64, 5), nn.BatchNorm2d(3)]
    table = fs.measure(modules, (4, 3, 32, 32), rounds=2)
    assert table["network"].tolist() == ["Conv2d-0", "Conv2d-1", "BatchNorm2d"]
    assert table["latency_ms"].gt(0).all()
    assert table["rounds"].tolist() == [2, 2, 2]
    assert table.attrs["units"] == {"latency_ms": "ms", "latency_iqr_ms": "ms"}
    assert all(module.training for module in modules)
    named = fs.measure({"small": modules[0]}, (4, 3, 32, 32), rounds=1)
    assert named["network"].tolist() == ["small"]
    with pytest.raises(fs.InputError, match="memory is measured in a process a network"):
        fs.measure(modules, (4, 3, 32, 32), memory=True)


def test_genotypes_are_measured_as_given_and_the_files_continued(tmp_path: Path) -> None:
    table = fs.measure(CELLS[:3], space=Few(), rounds=1, output=tmp_path / "latency.csv")
    assert table["genotype"].tolist() == list(CELLS[:3])
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "latency.csv"), table, check_dtype=False)
    again = fs.measure(CELLS[:3], space=Few(), rounds=1, output=tmp_path / "latency.csv")
    pd.testing.assert_frame_equal(again, table, check_dtype=False)
    with pytest.raises(fs.InputError, match="is not a cell of the topology space"):
        fs.measure(["none"], space="nats-tss")
    with pytest.raises(fs.InputError, match="in a file with --genotypes, not both"):
        fs.measure(CELLS[:3], space="nats-tss", genotypes=tmp_path / "latency.csv")
