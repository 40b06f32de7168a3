"""Our objectives in the authors' own program: most tests run a program with the same seams, one the public code."""

from __future__ import annotations

import ast
import inspect
import os
import random
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import freerea_seval as fs
from freerea_patch import InputError, NothingFeasible
from freerea_patch.checkout import Checkout
from freerea_seval.api import upstream as module
from freerea_seval.cli import upstream
from freerea_seval.sources.registry import Context, load_registry
from freerea_seval.tables import read_csv
from tests.freerea_seval.cli.test_mistakes import call
from tests.freerea_seval.upstream_checkout import FILES, RUN_SEARCH, write_checkout

METRIC = """
def convolutions(genotype):
    return genotype.count("nor_conv")
def nothing(genotype):
    return 0.0
"""
CELLS = fs.TopologySpace().genotypes()
NEVER = {"metric": "nothing", "source": {"python": "upstream_metric:nothing"}, "role": "constraint", "max": 1}
FEW = {"metric": "convolutions", "source": {"python": "upstream_metric:convolutions"}, "role": "constraint", "max": 2}
TERM = {"metric": "convolutions", "source": {"python": "upstream_metric:convolutions"}, "direction": "min"}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkout(tmp_path_factory.mktemp("upstream") / "FreeREA", ("cifar10", "cifar100"))


@pytest.fixture
def copy(checkout: Path, tmp_path: Path) -> Path:
    """A checkout of a test's own, with the tables of the other."""
    shutil.copytree(checkout, tmp_path / "copy", ignore=shutil.ignore_patterns("cached_metrics"))
    (tmp_path / "copy" / "cached_metrics").symlink_to(checkout / "cached_metrics")
    return tmp_path / "copy"


@pytest.fixture(autouse=True)
def _a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NATS_PATH", raising=False)
    for clock in ("time.time", "time.perf_counter"):  # the budget counts the wall clock, too
        monkeypatch.setattr(clock, lambda: 0.0)
    (tmp_path / "upstream_metric.py").write_text(METRIC)
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("upstream_metric", None)


@pytest.fixture(autouse=True)
def _nothing_is_left_behind(_a_folder_of_its_own: None, checkout: Path) -> Iterator[None]:
    """Whatever a test does, the process and the checkout are as before."""

    def state() -> list[object]:
        files = sorted((str(path), path.stat().st_mtime_ns) for path in checkout.rglob("*"))
        drawn = [random.getstate(), np.random.get_state(legacy=False)["state"]["key"].tolist()]
        switches = [torch.backends.cudnn.deterministic, sys.dont_write_bytecode]
        own = {name.partition("/")[0].removesuffix(".py") for name in FILES} | {"thop", "xautodl"}
        return [files, drawn, switches, list(sys.path), list(sys.argv), Path.cwd(), own & sys.modules.keys()]

    before = state()
    yield
    assert state() == before


def objectives(*sections: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"objectives": list(sections), **more}


def run(checkout: Path, config: Any = None, *arguments: str, **options: Any) -> fs.UpstreamRun:
    return fs.upstream(checkout, config, arguments, **{"progress": False, **options})


@pytest.mark.parametrize("arguments", [("--algo", "ours"), ("--algo", "freeREA-", "--dataset", "cifar100")])
def test_with_an_objective_that_changes_nothing_every_history_is_that_of_the_program_itself(
    checkout: Path, arguments: tuple[str, ...]
) -> None:
    plain = run(checkout, None, *arguments)
    for _ in range(2):  # a second time is like the first
        patched = run(checkout, objectives(NEVER), *arguments)
        assert patched.histories == plain.histories
        assert patched.best["genotype"].tolist() == plain.best["genotype"].tolist()
        assert patched.best["accuracy"].tolist() == plain.best["accuracy"].tolist()
    assert len(plain.histories) == 2
    assert plain.histories[0] != plain.histories[1]
    assert plain.best.columns.tolist() == ["repeat", "genotype", "accuracy", "cells", "seconds"]
    assert plain.best["cells"].tolist() == [len(history) for history in plain.histories]
    assert run(checkout, None, *arguments, "--seed", "1").histories != plain.histories


def columns_of(checkout: Path, genotypes: list[str], dataset: str = "cifar10") -> pd.DataFrame:
    """Return the metrics of cells, straight from the tables."""
    folder = checkout / "cached_metrics" / "nats" / dataset
    table = pd.DataFrame({name: pd.read_csv(folder / f"{name}.csv")[name] for name in ("naswot", "logsynflow")})
    found = table.iloc[[CELLS.index(genotype) for genotype in genotypes]].reset_index(drop=True)
    return found.assign(skip=[fs.TopologySpace().skip(genotype) for genotype in genotypes], genotype=genotypes)


def best_of(values: pd.DataFrame) -> str:
    """Return the genotype with the largest sum of values divided by their largest magnitudes."""
    numbers = values.drop(columns="genotype")
    return str(values["genotype"][(numbers / (numbers.abs().max() + 1e-9)).sum(axis=1).argmax()])


@pytest.mark.parametrize(
    ("metrics", "kept"),
    [(None, ["naswot", "logsynflow", "skip"]), ("none", []), (["skip"], ["skip"])],
)
def test_a_fitness_term_joins_the_metrics_that_are_kept(checkout: Path, metrics: Any, kept: list[str]) -> None:
    term = {"metric": "naswot", "name": "term", "source": {"freerea-cache": str(checkout / "cached_metrics")}}
    found = run(checkout, objectives(term), metrics=metrics)
    assert found.best.columns[5:].tolist() == [*kept, "term"]
    for history, (_, best) in zip(found.histories, found.best.iterrows(), strict=True):
        values = columns_of(checkout, history)
        values = values.assign(term=values["naswot"])[["genotype", *kept, "term"]]
        assert best["genotype"] == best_of(values)
        assert best[values.columns].tolist() == values.iloc[history.index(best["genotype"])].tolist()


def test_an_objective_of_the_same_name_replaces_a_metric(checkout: Path) -> None:
    found = run(checkout, objectives({**TERM, "name": "naswot"}))
    assert found.best.columns[5:].tolist() == ["logsynflow", "skip", "naswot"]
    assert found.best["naswot"].tolist() == [genotype.count("nor_conv") for genotype in found.best["genotype"]]


def test_a_metric_that_no_table_has_is_refused(checkout: Path) -> None:
    with pytest.raises(InputError, match="--metrics chooses what stays beside our objectives; add --config"):
        run(checkout, None, metrics="naswot")
    with pytest.raises(InputError, match=r"'naswott'; did you mean 'naswot'\? Valid: logsynflow, naswot, nregions, sk"):
        run(checkout, objectives(TERM), metrics="naswott")


@pytest.mark.parametrize("algorithm", ["ours", "freeREA-"])
def test_a_constraint_acts_wherever_the_program_filters(checkout: Path, algorithm: str) -> None:
    bounded = run(checkout, objectives(FEW), "--algo", algorithm)
    plain = run(checkout, None, "--algo", algorithm)
    assert max(genotype.count("nor_conv") for history in bounded.histories for genotype in history) <= 2
    assert max(genotype.count("nor_conv") for history in plain.histories for genotype in history) > 2
    assert bounded.best["convolutions"].max() <= 2


def test_bounds_of_the_program_itself_hold_beside_ours(checkout: Path) -> None:
    found = run(checkout, objectives(FEW), "--max-params", "0.3")
    assert max(genotype.count("nor_conv_3x3") for history in found.histories for genotype in history) <= 1


def test_pareto_objectives_give_a_front(checkout: Path) -> None:
    found = run(checkout, objectives({**TERM, "role": "pareto", "direction": "max"}), "--repeat", "1", metrics="naswot")
    (history,) = found.histories
    values = columns_of(checkout, history)["naswot"].to_numpy()
    count = np.array([genotype.count("nor_conv") for genotype in history])
    better = (values[:, None] >= values) & (count[:, None] >= count)
    front = [genotype for i, genotype in enumerate(history) if better[:, i].sum() == 1]
    assert sorted(found.best["genotype"]) == sorted(front)
    assert len(front) > 1


def test_the_seconds_of_an_objective_count_against_the_programs_budget(checkout: Path) -> None:
    slow = {"metric": "nregions", "source": {"freerea-cache": str(checkout / "cached_metrics")}}
    found = run(checkout, objectives(slow), "--repeat", "1")
    # The first population of six costs 2 + 100 seconds a network; one step follows it.
    assert found.best["cells"][0] in (7, 8)
    assert found.best["seconds"][0] == pytest.approx(102 * found.best["cells"][0], abs=0.01)
    assert run(checkout, objectives(NEVER), "--repeat", "1").best["cells"][0] > 13


def test_a_failed_search_is_undone_and_says_why(checkout: Path) -> None:
    with pytest.raises(NothingFeasible, match=r"none of \d+ candidates is within the constraints \(convolutions <= -1"):
        run(checkout, objectives({**FEW, "max": -1}))


def test_what_the_program_saves_goes_to_the_working_folder(checkout: Path, tmp_path: Path) -> None:
    run(checkout, None, "--save", "yes", "--algo", "freeREA-")
    assert (tmp_path / "results" / "nats" / "cifar10" / "freeREA-").read_text().startswith("run\n")


def test_metrics_of_the_report_are_columns_and_the_output_is_a_table(checkout: Path, tmp_path: Path) -> None:
    config = tmp_path / "search.yaml"
    config.write_text(
        "objectives:\n  - {metric: convolutions, source: {python: upstream_metric:convolutions}, role: constraint,"
        " max: 2, unit: pieces}\nreport:\n  - {metric: macs, source: cost}\n"
    )
    found = run(checkout, config, "--repeat", "1", output="best.csv")
    assert found.best.columns[5:].tolist() == ["naswot", "logsynflow", "skip", "convolutions", "macs"]
    assert (
        found.best.attrs["units"] | {"accuracy": "%", "convolutions": "pieces", "macs": "M"}
        == (found.best.attrs["units"])
    )
    (row,) = read_csv(tmp_path / "best.csv").to_dict("records")
    assert row == {name: str(value) for name, value in found.best.iloc[0].items()}


@pytest.mark.parametrize("output", ["no/such/best.csv", "."])
def test_an_output_that_cannot_be_written_is_refused_before_the_program_runs(checkout: Path, output: str) -> None:
    with pytest.raises(InputError, match=rf"--output {re.escape(output)} .*; name another file"):
        run(checkout / "nowhere", None, output=output)


@pytest.mark.parametrize("output", [None, "best.csv"])
def test_the_repeats_before_an_interrupt_are_kept(
    checkout: Path, output: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = run(checkout, objectives(TERM))
    record = module._Session._record
    repeats: list[None] = []

    def interrupt(session: Any, *arguments: Any) -> None:
        if repeats:
            raise KeyboardInterrupt
        repeats.append(None)
        record(session, *arguments)

    monkeypatch.setattr(module._Session, "_record", interrupt)
    capsys.readouterr()
    with pytest.raises(KeyboardInterrupt):
        run(checkout, objectives(TERM), output=output, progress=True)
    error = capsys.readouterr().err
    (genotype,) = whole.best["genotype"][whole.best["repeat"] == 0]
    if output is None:
        assert genotype in error
    else:
        assert "1 repeat had finished; its best networks are in best.csv" in error
        assert read_csv(Path(output))["genotype"].tolist() == [genotype]


def test_a_metric_that_no_network_has_cannot_choose(checkout: Path) -> None:
    Path("upstream_metric.py").write_text("def nan(genotype):\n    return float('nan')\n")
    nan = {"metric": "nan", "source": {"python": "upstream_metric:nan"}, "direction": "max"}
    with pytest.raises(InputError, match="nothing could be compared: nan is unsupported, NaN or infinite for"):
        run(checkout, objectives(nan))


def test_the_space_is_that_of_the_program(checkout: Path) -> None:
    assert run(checkout, objectives(NEVER), "--dataset", "cifar100", "--repeat", "1").histories
    for space, name in (("nats-tss", "nats-tss/cifar10"), ("nats-sss/cifar100", "nats-sss/cifar100")):
        with pytest.raises(InputError) as error:
            run(checkout, objectives(NEVER, space=space), "--dataset", "cifar100")
        assert str(error.value) == (
            f"upstream: the config searches {name}, and run_search.py nats-tss on cifar100; leave 'space' out, or write"
            " 'space: {name: nats-tss, dataset: cifar100}'"
        )
    same = objectives(NEVER, space={"name": "nats-tss", "dataset": "cifar100"}, budget={"evaluations": 3})
    assert run(checkout, same, "--data", "cifar100", "--repeat", "1").histories  # argparse completes names


def test_a_default_of_the_program_is_checked_when_it_is_known(copy: Path) -> None:
    script = copy / "run_search.py"
    script.write_text(RUN_SEARCH.replace('default="cifar10"', 'default="cifar100"'))
    with pytest.raises(
        InputError, match=r"the config searches nats-tss/cifar10, and run_search.py nats-tss on cifar100"
    ):
        run(copy, objectives(NEVER))


def test_rounds_and_parts_of_the_space_are_refused(checkout: Path, tmp_path: Path) -> None:
    learned = {"metric": "latency", "source": {"seval": {"measure": "latency"}}}
    for config, key in (
        (objectives(learned, refine={"start": 12, "rounds": 1, "networks": 2}), "'refine'"),
        (objectives(NEVER, space={"name": "nats-tss", "only": "cells.csv"}), "'only' of 'space'"),
    ):
        with pytest.raises(InputError, match=f"searches the whole space, in one go; remove {key}"):
            run(checkout, config)


#: An edit of a file, and what is said of it.
SEAMS = {
    "another ranking": ("search.py", "parents = return_top_k(", "parents = sorted(", ""),
    "no pruning": (
        "search.py",
        "exemplars, history = prune_flops_params",
        "_ = max",
        "search does not call prune_flop",
    ),
    "no seconds": (
        "our_baselines.py",
        "api.total_metrics_time(",
        "len(",
        "freeREAMinus does not call total_metrics_time",
    ),
    "no filter": (
        "our_baselines.py",
        "if is_feasible(child",
        "if max((child)",
        "freeREAMinus does not call is_feasible",
    ),
    "own pruning": ("pruning.py", "return return_top_k(exemplars", "return max((exemplars)", "prune_tfm does not call"),
    "renamed search": ("our_baselines.py", "def freeREAMinus", "def minus", "freeREAMinus is missing"),
    "renamed argument": (
        "nas_utils.py",
        "metric_names",
        "names",
        "return_top_k has no parameter metric_names, but exem",
    ),
    "another report": (
        "nas_utils.py",
        "info(api, exemplars, history",
        "info(api, exemplars, seen",
        "no parameter history",
    ),
    "no save": ("analyzer.py", "def save", "def store", "Analyzer.save is missing"),
    "another space": (
        "nas_spaces/nats.py",
        "metric_root",
        "tables",
        "NATSBench of nas_spaces/nats.py takes no metric_ro",
    ),
    "another archive": (
        "nas_spaces/nats.py",
        "import create",
        "import create as make",
        "has no NATSBench with a create",
    ),
    "other metrics": (
        "nas_utils.py",
        '"logsynflow"',
        '"nregions"',
        "its search ranks by naswot, nregions, skip, expected",
    ),
    "another program": (
        "run_search.py",
        "in range(args.repeat)",
        "in range(0)",
        "ended no search of nas_spaces' NATSBen",
    ),
}


@pytest.mark.parametrize("edit", [edit for edit in SEAMS if SEAMS[edit][3]])
def test_a_checkout_whose_seams_differ_is_refused_with_the_seam(copy: Path, edit: str) -> None:
    file, old, new, message = SEAMS[edit]
    assert old in FILES[file]
    (copy / file).write_text(FILES[file].replace(old, new))
    with pytest.raises(InputError, match=re.escape(message)) as error:
        run(copy, objectives(NEVER))
    assert str(copy) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_filter_that_is_not_ours_is_noticed(copy: Path) -> None:
    text = FILES["search.py"].replace("step += 1", "step += 1; seen = dict(history)")
    text = text.replace(
        "exemplars, history = exemplars + new",
        "seen.update({e.genotype: e for e in new}); \\\n            exemplars, history = exemplars + new",
    )
    text = text.replace("            if len(", "            every.update(seen)\n            if len(").replace(
        "minutes, step = 0, 0", "minutes, step, every = 0, 0, {}"
    )
    (copy / "search.py").write_text(text.replace("info(api, exemplars, history", "info(api, exemplars, every"))
    with pytest.raises(InputError, match="kept networks that it did not filter by our constraints"):
        run(copy, objectives(FEW))


def test_other_metrics_of_the_checkout_can_be_kept_by_name(copy: Path) -> None:
    (copy / "nas_utils.py").write_text(FILES["nas_utils.py"].replace('"logsynflow"', '"nregions"'))
    arguments = ("--repeat", "1", "--initial-pop", "5")
    found = run(copy, objectives(NEVER), *arguments, metrics="naswot,nregions,skip")
    assert found.histories == run(copy, None, *arguments).histories


def test_harmless_edits_pass(copy: Path, checkout: Path) -> None:
    edits: dict[str, Callable[[str], str]] = {
        "search.py": lambda text: text.replace("minutes", "elapsed").replace("parents", "pair  ") + "\n# a comment\n",
        "nas_utils.py": lambda text: text + "\n\ndef another(x):\n    return [y for y in x]\n",
        "our_baselines.py": lambda text: text.replace("\n    minutes", "\n\n    # the clock\n    minutes"),
        "run_search.py": lambda text: text.replace("api", "benchmark"),
    }
    for name, edit in edits.items():
        assert edit(FILES[name]) != FILES[name]
        (copy / name).write_text(edit(FILES[name]))
    assert run(copy, objectives(FEW)).histories == run(checkout, objectives(FEW)).histories


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--dataset", "mnist"), "run_search.py ended with exit code 2; see what it printed"),
        (("--dataset",), "run_search.py ended with exit code 2; see what it printed"),
        (
            ("--space", "nasbench101"),
            "as it needs a protobuf of 2019; only searches on cached metrics of NATS-Bench work",
        ),
    ],
)
def test_arguments_that_the_program_refuses_are_one_line(
    checkout: Path, arguments: tuple[str, ...], message: str
) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        run(checkout, None, *arguments)


def test_folders_that_are_no_checkout_are_refused(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a checkout of FreeREA"):
        run(tmp_path)
    (copy / "run_search.py").unlink()
    with pytest.raises(InputError, match=r"has no run_search\.py; expected commit 9c2a726"):
        run(copy)


def test_costs_of_the_stand_in_are_those_of_the_cost_model(checkout: Path) -> None:
    seed = Random().randrange(10**6)
    print("seed", seed)
    archive = module._Archive("cifar100", checkout / "cached_metrics" / "nats")
    source = load_registry().open("cost", None, Context(fs.TopologySpace("cifar100")))
    for genotype in Random(seed).sample(list(CELLS), 8):
        index = archive.query_index_by_arch(genotype)
        assert archive.get_net_config(index, "cifar100") == {"arch_str": genotype}
        (row,) = source.evaluate([genotype], ["params", "macs"])
        expected = {"params": row["params"].value, "flops": row["macs"].value, "latency": None}
        assert archive.get_cost_info(index, "cifar100") == expected
    assert archive.query_index_by_arch("|none~0|") == -1
    with pytest.raises(InputError, match="asked for simulate_train_eval of NATS-Bench's archive; set NATS_PATH to its"):
        archive.simulate_train_eval(0, dataset="cifar100", hp=12)


@pytest.mark.data
def test_an_archive_that_is_there_is_read_and_agrees_with_the_stand_in(checkout: Path, data_dir: Path) -> None:
    folder = data_dir / "nats_official_samples" / "NATS-tss-v1_0-3ffb9-simple"
    tables = checkout / "cached_metrics" / "nats"
    with module._Session(checkout, None, (), None, module.progress_bars(False)) as session:
        api = session.code.nas_spaces.NATSBench(str(folder), "cifar10", metric_root=str(tables))
        stand_in = session.code.nas_spaces.NATSBench(None, "cifar10", metric_root=str(tables))
        assert not isinstance(api._official_api, module._Archive)
        for index in (0, 11, 284):
            costs, same = api.get_cost_info(index), stand_in.get_cost_info(index)
            assert [same["params"], same["flops"]] == pytest.approx([costs["params"], costs["flops"]], abs=1e-6)
        assert api.get_accuracy(api[0]) == pytest.approx(85.8633, abs=1e-3)


def test_what_is_stood_in_for_is_said_and_accuracies_may_be_missing(
    copy: Path, checkout: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (copy / "cached_metrics").unlink()
    shutil.copytree(
        checkout / "cached_metrics" / "nats" / "cifar10",
        copy / "tables" / "nats" / "cifar10",
        ignore=shutil.ignore_patterns("accuracies.csv"),
    )
    monkeypatch.setenv("NATS_PATH", "nowhere")
    found = run(copy, None, "--metrics-root", "tables", "--repeat", "1", progress=True)
    assert found.best["accuracy"].isna().all()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("stood in for what is not here: ")
    assert line.endswith("NATS-Bench's archive (NATS_PATH: nowhere) by accuracies of tables/nats and computed costs")


def test_the_command_prints_and_writes_the_best_of_each_repeat(
    checkout: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "o.yaml").write_text(
        "objectives: [{metric: convolutions, source: {python: upstream_metric:convolutions}, role: constraint, max: 2}]"
    )
    assert call("upstream", checkout, "--config", "o.yaml", "-o", "best.csv", "--", "--repeat", "2") == 0
    *_, heading, first, second = capsys.readouterr().out.splitlines()
    assert heading.split()[:3] == ["repeat", "genotype", "accuracy"]
    rows = read_csv(tmp_path / "best.csv")
    assert [line.split()[1] for line in (first, second)] == rows["genotype"].tolist()
    assert call("upstream", checkout, "--", "--help") == 0
    assert "--initial-pop" in capsys.readouterr().out
    assert call("upstream", checkout, "--config", "o.yaml", "--write-patch", "p") == 2
    assert "--write-patch only writes the patch; leave the other options out" in capsys.readouterr().err


def test_the_command_and_the_function_have_the_same_parameters_and_defaults() -> None:
    command, function = (
        {name: parameter.default for name, parameter in inspect.signature(twin).parameters.items()}
        for twin in (upstream.upstream, fs.upstream)
    )
    del command["write_patch"], command["quiet"], command["verbose"], function["progress"]
    assert list(command.items()) == list(function.items())


def run_patched(checkout: Path, *arguments: str, **variables: str) -> None:
    """Do what ``python run_search.py`` does in a checkout, in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["run_search.py", *arguments])
        patch.chdir(checkout)
        for name, value in variables.items():
            patch.setenv(f"FREEREA_SEVAL_{name}", value)
        before = random.getstate(), np.random.get_state(), torch.get_rng_state(), torch.backends.cudnn.deterministic
        try:
            runpy.run_path(str(checkout / "run_search.py"), run_name="__main__")
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])
            torch.set_rng_state(before[2])
            torch.backends.cudnn.deterministic = before[3]


def test_the_patched_program_does_the_same_as_the_command(
    copy: Path, checkout: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "search.yaml"
    config.write_text(
        "objectives: [{metric: convolutions, source: {python: upstream_metric:convolutions}, role: constraint, max: 2}]"
    )
    assert call("upstream", copy, "--write-patch", "with.patch") == 0
    assert (copy / "run_search.py").read_text() == RUN_SEARCH
    subprocess.run(["git", "apply", str(tmp_path / "with.patch")], cwd=copy, check=True)
    options = {"OUTPUT": str(tmp_path / "patched.csv"), "CONFIG": str(config), "METRICS": "naswot,skip"}
    run_patched(copy, "--algo", "freeREA-", **options)
    printed = capsys.readouterr().out
    run(checkout, config, "--algo", "freeREA-", output="command.csv", metrics="naswot,skip")
    assert printed.startswith(
        f"with.patch: apply it with 'git apply' in {copy}; run_search.py then reads FREEREA_SEVAL"
    )
    patched, command = (read_csv(tmp_path / f"{name}.csv").drop(columns="seconds") for name in ("patched", "command"))
    pd.testing.assert_frame_equal(patched, command)
    assert patched["genotype"][2] in printed.splitlines()[-2]
    with pytest.raises(SystemExit) as ended:
        run_patched(copy, CONFIG="nowhere.yaml")
    assert ended.value.code == 2
    assert capsys.readouterr().err == "run_search.py: error: config nowhere.yaml: no such file\n"
    with pytest.raises(InputError, match=r"run_search\.py is patched already; run it, with FREEREA_SEVAL_CONFIG"):
        run(copy)


@pytest.mark.parametrize(
    "text",
    [
        RUN_SEARCH,
        RUN_SEARCH.rstrip("\n"),
        RUN_SEARCH.replace("\n", "\r\n"),
        '"""Text."""\nfrom __future__ import annotations\n\n@print\ndef f():\n\treturn f"""{1}\n x"""\n',
    ],
)
def test_the_patch_changes_nothing_but_the_block_around_the_program(tmp_path: Path, text: str, copy: Path) -> None:
    (copy / "run_search.py").write_bytes(text.encode())
    module.write_patch(copy, tmp_path / "p")
    subprocess.run(["git", "apply", "--whitespace=nowarn", str(tmp_path / "p")], cwd=copy, check=True)
    patched = (copy / "run_search.py").read_bytes().decode()
    assert patched.count("\r") in (0, patched.count("\n"))
    body = ast.parse(patched).body
    block = body.pop()
    assert isinstance(block, ast.With)
    added = body.pop()
    assert ast.unparse(added) == "from freerea_seval.api.upstream import objectives_from_environment"
    assert ast.dump(ast.Module([*body, *block.body], [])) == ast.dump(ast.parse(text))


@pytest.mark.parametrize("content", [b"if :\n", b"# only a comment\n", b"x = '\xff'\n"])
def test_a_program_that_cannot_be_patched_is_refused(copy: Path, tmp_path: Path, content: bytes) -> None:
    (copy / "run_search.py").write_bytes(content)
    with pytest.raises(InputError, match=r"run_search\.py is not a program in UTF-8 \("):
        module.write_patch(copy, tmp_path / "p")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # those of the public code
def test_the_public_code_has_the_same_history_with_an_objective_that_changes_nothing(tmp_path: Path) -> None:
    folder = os.environ.get("FREEREA_CHECKOUT")
    if not folder:
        pytest.skip("needs a clone of github.com/NiccoloCavagnero/FreeREA: set FREEREA_CHECKOUT to its folder")
    path = Path(folder).resolve()
    with Checkout(path) as code:
        code.check_seams()
    plain, patched = (run(path, config, "--repeat", "2") for config in (None, objectives(NEVER)))
    bounded = run(path, objectives(FEW), "--repeat", "1", "--algo", "freeREA-")
    assert plain.histories == patched.histories
    assert max(genotype.count("nor_conv") for genotype in bounded.histories[0]) <= 2
    program = tmp_path / "patched"
    shutil.copytree(path, program, ignore=shutil.ignore_patterns(".git", "cached_metrics", "__pycache__"))
    module.write_patch(path, tmp_path / "p")
    subprocess.run(["git", "apply", str(tmp_path / "p")], cwd=program, check=True)
    root = str(path / "cached_metrics")
    run_patched(program, "--repeat", "1", "--metrics-root", root, OUTPUT=str(tmp_path / "best.csv"))
    assert read_csv(tmp_path / "best.csv")["genotype"].tolist() == plain.best["genotype"].tolist()[:1]
