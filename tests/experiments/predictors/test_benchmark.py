"""The experiments on predictors, on made-up networks."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from scipy.stats import kendalltau

from experiments.predictors import benchmark as predictors
from experiments.predictors.benchmark import LARGE, SMALL, judge, large_summary, main, proxies_of_all, small_summary
from experiments.published import DEVICES, Target
from freerea_patch import InputError, TopologySpace
from freerea_patch.spaces import DATASETS
from freerea_seval.predictor.active_learning import most_informative
from freerea_seval.predictor.seval import SEvalPredictor
from freerea_seval.predictor.splits import Split, published_split
from tests.freerea_seval.predictor.conftest import chain, cost

Values = npt.NDArray[np.float64]

STRINGS = [chain(seed) for seed in range(100)]
COSTS = np.array([cost(string) for string in STRINGS])


def row(columns: Sequence[str], **values: object) -> dict[str, object]:
    return dict.fromkeys(columns, np.nan) | values


def table(text: str) -> list[list[str]]:
    """Return the cells of a Markdown table, without its header."""
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()[2:]]


def raw(folder: Path) -> list[dict[str, str]]:
    with (folder / "rows.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> list[Split]:
    """Put made-up networks and values in the place of NAS-Bench-201's, judge by the split; return the splits judged."""
    values = {name: Target(name, COSTS, "max") for name in DATASETS}
    seen: list[Split] = []

    def judged(
        strings: Sequence[str],
        targets: Sequence[Target],
        split: Split,
        predictor: SEvalPredictor,
        proxies: Values | None = None,
    ) -> list[dict[str, object]]:
        assert strings == STRINGS
        # A cell's proxies are its own number, in the tests that have any.
        assert proxies is None or (proxies[split.train] == split.train[:, None]).all()
        seen.append(split)
        measured = dict.fromkeys(LARGE[2:], "0.5") | {"model": predictor.model, "seed": predictor.seed}
        return [measured | {"metric": target.name, "networks": len(split.train)} for target in targets]

    monkeypatch.setattr(predictors, "strings_of", lambda view: STRINGS)
    monkeypatch.setattr(predictors, "read_targets", lambda *paths: values)
    monkeypatch.setattr(predictors, "judge", judged)
    return seen


def test_a_large_summary_has_means_over_seeds_and_the_papers_figures_of_its_split() -> None:
    def seed(split: str, metric: str, tau: float, **more: object) -> dict[str, object]:
        return row(
            LARGE, split=split, metric=metric, model="gp", kendall_tau=tau, train_s=10, networks_a_s=900.4, **more
        )

    rows = [
        seed("grouped", "cifar10", 0.7),
        seed("published", "edgetpu_latency", 0.9, kendall_tau_all=0.8, auc=1),
        seed("published", "cifar10", 0.7, coverage=0.89),
        seed("published", "cifar10", 0.8, coverage=0.91),
    ]
    assert table(large_summary(pd.DataFrame(rows))) == [
        ["published", "cifar10", "gp", "2", "0.7500", "", "", "0.9000", "0.51", "10", "900"],
        ["published", "edgetpu_latency", "gp", "1", "0.9000", "0.8000", "1.0000", "", "", "10", "900"],
        ["grouped", "cifar10", "gp", "1", "0.7000", "", "", "", "", "10", "900"],
    ]


def test_a_small_summary_keeps_random_cells_and_chosen_ones_apart() -> None:
    rows = [
        row(
            SMALL,
            metric=metric,
            model="gp",
            sees="strings",
            networks=networks,
            chosen=chosen,
            kendall_tau=tau,
            coverage=0.9,
        )
        for metric, networks, chosen, tau in [
            ("pgd", 50, "random", 0.5),
            ("cifar10", 100, "random", 0.8),
            ("cifar10", 50, "informative", 0.9),
            ("cifar10", 50, "random", 0.6),
            ("cifar10", 50, "random", 0.8),
        ]
    ]
    assert table(small_summary(pd.DataFrame(rows))) == [
        ["cifar10", "gp", "strings", "50", "random", "2", "0.700 ± 0.100", "0.9000"],
        ["cifar10", "gp", "strings", "50", "informative", "1", "0.900 ± 0.000", "0.9000"],
        ["cifar10", "gp", "strings", "100", "random", "1", "0.800 ± 0.000", "0.9000"],
        ["pgd", "gp", "strings", "50", "random", "1", "0.500 ± 0.000", "0.9000"],
    ]


def test_every_metric_is_judged_on_the_test_part_alone() -> None:
    heavy = np.array([string.count("conv") > 7 for string in STRINGS])
    targets = [Target("cost", COSTS, "min"), Target("device", np.where(heavy, np.inf, COSTS), "min")]
    split = Split(np.arange(60), np.arange(0), np.arange(60, 100))
    predictor = SEvalPredictor("gp", seed=4)
    rows = judge(STRINGS, targets, split, predictor)
    assert [(r["metric"], r["model"], r["seed"], r["networks"]) for r in rows] == [
        ("cost", "gp", 4, 60),
        ("device", "gp", 4, 60),
    ]
    tau = kendalltau(predictor.predict(STRINGS[60:])[:, 0], COSTS[60:]).statistic
    assert float(str(rows[0]["kendall_tau"])) == pytest.approx(tau, abs=1e-5)
    assert all(0.7 < float(str(r["kendall_tau"])) < 1 for r in rows)
    assert all(0.5 < float(str(r["coverage"])) <= 1 for r in rows)
    assert rows[0]["auc"] == ""
    assert float(str(rows[1]["auc"])) > 0.8
    assert set(LARGE) == {"split", "group", *rows[0]}
    assert set(SMALL) == {"sees", "chosen", "draw", *rows[0]} - {"seed", "networks_a_s"}


def test_the_large_experiment_goes_on_where_it_stopped(
    made_up: list[Split], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["large", "--cache", "c", "-o", str(tmp_path), "--groups", "accuracy", "--model", "gp"]
    main([*arguments, "--seeds", "1"])
    assert len(made_up) == 2
    assert [(r["split"], r["metric"]) for r in raw(tmp_path)] == [
        (split, metric) for split in ("published", "grouped") for metric in DATASETS
    ]
    main([*arguments, "--seeds", "2"])
    assert [r["seed"] for r in raw(tmp_path)] == ["0"] * 6 + ["1"] * 6
    assert ["grouped", "ImageNet16-120", "gp", "2", "0.5000"] in [t[:5] for t in table(capsys.readouterr().out)[-6:]]


def test_training_cells_are_random_or_the_most_informative_of_a_pool(
    made_up: list[Split], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(predictors, "_POOL", 40)
    monkeypatch.setattr(predictors, "_TEST", 30)
    arguments = ["small", "--cache", "c", "-o", str(tmp_path), "--metrics", "cifar10", "--draws", "2"]
    arguments += ["--networks", "5", "12"]
    main(arguments)
    main([*arguments, "--choose"])
    main([*arguments, "--choose"])
    assert len(made_up) == 8, "the third time all is done"
    assert [(r["chosen"], r["draw"], r["networks"]) for r in raw(tmp_path)] == [
        (chosen, draw, networks) for chosen in ("random", "informative") for draw in "01" for networks in ("5", "12")
    ]
    for number, split in enumerate(made_up):
        order = np.random.default_rng(number // 2 % 2).permutation(len(STRINGS))
        pool, networks = order[:40], (5, 12)[number % 2]
        best = pool[most_informative([STRINGS[i] for i in pool], networks)]
        assert np.array_equal(split.train, best if number >= 4 else order[:networks])
        assert np.array_equal(split.test, order[-30:])
    found = table(capsys.readouterr().out)[-4:]
    assert [line[2:6] for line in found] == [
        ["strings", networks, chosen, "2"] for networks in ("5", "12") for chosen in ("random", "informative")
    ]


def test_what_sees_proxies_is_a_row_of_its_own(
    made_up: list[Split], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(predictors, "_TEST", 20)
    monkeypatch.setattr(predictors, "proxies_of_all", lambda path: np.arange(100.0)[:, None])
    arguments = ["small", "--cache", "c", "-o", str(tmp_path), "--metrics", "cifar10", "--draws", "1"]
    main([*arguments, "--networks", "12", "--proxies", "table.csv"])
    assert "strings, proxies" in table(capsys.readouterr().out)[-1]
    main([*arguments, "--networks", "12"])
    told, blind = made_up
    assert np.array_equal(told.train, blind.train)


def test_a_cell_has_the_proxies_of_the_one_that_computes_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    space = TopologySpace()
    genotypes = space.genotypes()
    alive = [place for place, genotype in enumerate(genotypes) if space.simplified(genotype) == genotype]
    known = {place: [float(place)] * 13 for place in alive}
    monkeypatch.setattr(predictors, "read_proxies", lambda path: known)
    found = proxies_of_all(Path("table.csv"))
    assert found.shape == (15_625, 13)
    assert [genotypes[int(place)] for place in found[:, 0]] == [space.simplified(genotype) for genotype in genotypes]
    del known[alive[0]]
    with pytest.raises(InputError, match=r"table\.csv lacks 1 of 9445 cells, the first is"):
        proxies_of_all(Path("table.csv"))


def test_a_second_measurement_is_compared_on_the_test_cells_that_both_have(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal(15_625)
    noisy = values + 0.2 * rng.standard_normal(15_625)
    values[::3], noisy[1::3] = np.inf, np.inf

    def read(path: Path, dataset: str) -> dict[str, Target]:
        return {device: Target(device, {"cifar10": values, "cifar100": noisy}[dataset], "min") for device in DEVICES}

    monkeypatch.setattr(predictors, "read_devices", read)
    main(["again", "--hw-nas-bench", "hw.pickle"])
    test = published_split(15_625).test
    both = test[test % 3 == 2]
    expected = f"{kendalltau(values[both], noisy[both]).statistic:.4f}"
    assert table(capsys.readouterr().out) == [[device, str(len(both)), expected] for device in DEVICES]


def test_what_is_judged_with_proxies_sees_those_of_its_own_networks() -> None:
    split = Split(np.arange(60), np.arange(0), np.arange(60, 100))
    hidden = np.random.default_rng(0).standard_normal(100)
    given = ([Target("hidden", hidden, "max")], split, SEvalPredictor("boosted"))
    (blind,) = judge(STRINGS, *given)
    (told,) = judge(STRINGS, *given, hidden[:, None])
    assert abs(float(str(blind["kendall_tau"]))) < 0.4
    assert float(str(told["kendall_tau"])) > 0.6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["small", "--metrics", "cifar10", "pgd"], r"metric pgd has no values; give --robustness FILE, or name other"),
        (["small", "--metrics", DEVICES[0]], r"edgegpu_latency has no values; give --hw-nas-bench FILE, .*: cifar10, "),
        (["large"], "group devices has no values; give --hw-nas-bench FILE, or name other --groups"),
        (["small", "--metrics", "cifar10", "--networks", "5000", "--choose"], "from 1 to .* to choose, got 5000"),
    ],
)
def test_experiments_without_values_or_cells_are_refused(
    made_up: list[Split], tmp_path: Path, arguments: list[str], message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        main([*arguments, "--cache", "c", "-o", str(tmp_path)])
    assert "\n" not in str(caught.value)
    assert not made_up


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: command"),
        (["small"], "the following arguments are required: --cache"),
        (["small", "--cache", "c", "--metrics", "latency"], "invalid choice: 'latency'"),
        (["small", "--cache", "c", "--model", "forest"], "invalid choice: 'forest'"),
        (["large", "--cache", "c", "--choose"], "unrecognized arguments: --choose"),
    ],
)
def test_arguments_that_there_are_not_are_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
    assert message in capsys.readouterr().err
