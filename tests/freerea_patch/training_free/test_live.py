"""The training-free metrics as a source: averaging, charging, remembering."""

from __future__ import annotations

import csv
import math
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import freerea_patch.training_free.live as live_metrics
from freerea_patch import (
    Budget,
    InputError,
    Measured,
    MetricCache,
    SizeSpace,
    TopologySpace,
    TrainingFree,
    freerea_objectives,
    make_search,
    run,
)
from freerea_patch.networks import initialise, skip_initialisation
from freerea_patch.spaces import format_cell
from freerea_patch.training_free import METRICS, code_digest, logsynflow, naswot

SPACE = SizeSpace("ImageNet16-120")
CELL = TopologySpace().genotypes()[0]
SMALL, LARGE = "8:8:8:8:8", "16:8:24:8:16"


def source(**options: Any) -> TrainingFree:
    return TrainingFree(SPACE, **{"batch_size": 4, "initialisations": 1} | options)


def values(of: TrainingFree, genotype: str = SMALL, metrics: tuple[str, ...] = METRICS) -> dict[str, float]:
    (row,) = of.evaluate([genotype], metrics)
    return {metric: row[metric].value for metric in metrics}


class Counting:
    """A space that counts how often a network is built."""

    def __init__(self, space: SizeSpace | TopologySpace = SPACE, name: str = "") -> None:
        self.space = space
        self.input_shape = space.input_shape
        self.name = name or space.name
        self.built: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.space, name)

    def build(self, genotype: str) -> nn.Module:
        self.built.append(genotype)
        return self.space.build(genotype)


def test_metrics_are_means_over_the_initialisations() -> None:
    images = torch.from_numpy(source().images)
    # Another order in memory is another order of summation, which now and then turns a ReLU over.
    network = SPACE.build(LARGE).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    expected: dict[str, list[float]] = {"naswot": [], "logsynflow": []}
    for seed in (5, 6, 7):
        initialise(network, torch.Generator().manual_seed(seed))
        expected["naswot"].append(naswot(network, images.to(memory_format=torch.channels_last)))
        expected["logsynflow"].append(logsynflow(network, SPACE.input_shape))
    same = source(initialisations=3, seed=5, batch=images.numpy())
    found = values(same, LARGE)
    # Kept to ten digits.
    assert found["naswot"] == pytest.approx(fmean(expected["naswot"]), rel=1e-9)
    assert found["logsynflow"] == pytest.approx(fmean(expected["logsynflow"]), rel=1e-9)
    assert found["skip"] == SPACE.skip(LARGE)


def test_values_are_the_same_whoever_else_is_evaluated() -> None:
    alone = values(source(), LARGE)
    *_, last = source().evaluate([SMALL, LARGE], METRICS)
    assert {metric: last[metric].value for metric in METRICS} == alone


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning")
@pytest.mark.parametrize("name", ["weight_norm", "spectral_norm"])
@pytest.mark.parametrize("utilities", [nn.utils.parametrizations, nn.utils], ids=["parametrisation", "hook"])
def test_parametrised_weights_are_initialised_by_the_seed(name: str, utilities: Any) -> None:
    class Parametrised(TopologySpace):
        def build(self, genotype: str) -> nn.Module:
            layer = getattr(utilities, name)(nn.Conv2d(3, 64, 3))
            return nn.Sequential(layer, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))

    def rated(seed: int) -> float:
        metrics = TrainingFree(Parametrised(), batch_size=4, initialisations=1, seed=seed)
        torch.full((64 * 27,), math.nan)  # what a later allocation may find in memory
        return next(iter(metrics.evaluate([CELL], ["naswot"])))["naswot"].value

    assert math.isfinite(rated(0))
    assert rated(0) == rated(0) != rated(1)


def test_only_what_is_wanted_is_computed() -> None:
    (row,) = source().evaluate([SMALL], ["naswot"])
    assert set(row) == {"naswot", "network"}


def test_skip_alone_builds_no_network() -> None:
    space = Counting()
    (row,) = TrainingFree(space).evaluate([SMALL], ["skip"])
    assert row == {"skip": Measured(2.0)}
    assert space.built == []


def test_a_row_charges_building_and_every_metric() -> None:
    (row,) = source().evaluate([SMALL], METRICS)
    assert set(row) == {"network", *METRICS}
    assert all(row[name].seconds > 0 for name in ("network", "naswot", "logsynflow"))
    assert row["skip"].seconds == 0


def test_networks_are_evaluated_one_at_a_time() -> None:
    space = Counting()
    next(TrainingFree(space, batch_size=4, initialisations=1).evaluate([SMALL, LARGE], ["naswot"]))
    assert space.built == [SMALL]


def test_a_cell_without_any_way_through_has_finite_logsynflow_and_worst_naswot() -> None:
    space = TopologySpace("ImageNet16-120")
    (row,) = TrainingFree(space, batch_size=4, initialisations=2).evaluate([format_cell(["none"] * 6)], METRICS)
    assert row["naswot"].value == -math.inf
    assert math.isfinite(row["logsynflow"].value)


def test_remembered_values_are_those_computed_with_the_seconds_they_cost(tmp_path: Path) -> None:
    space = Counting()
    options: dict[str, Any] = {"batch_size": 4, "initialisations": 1}
    path = tmp_path / "cache.sqlite"
    (fresh,) = TrainingFree(space, cache=MetricCache(path), **options).evaluate([SMALL], METRICS)
    (remembered,) = TrainingFree(space, cache=MetricCache(path), **options).evaluate([SMALL], METRICS)
    assert remembered == fresh
    assert space.built == [SMALL]
    (uncached,) = TrainingFree(space, **options).evaluate([SMALL], METRICS)
    assert {m: uncached[m].value for m in METRICS} == {m: fresh[m].value for m in METRICS}
    assert space.built == [SMALL, SMALL]


def keys(of: TrainingFree, genotype: str = SMALL) -> set[str]:
    return {of._key(genotype, metric) for metric in ("naswot", "logsynflow", "network")}


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 1, "batch": "zeros"},
        {"initialisations": 2},
        {"batch": "zeros"},
        {"batch_size": 5},
    ],
    ids=["seed", "initialisations", "images", "batch size"],
)
def test_a_key_follows_what_a_value_depends_on(other: dict[str, Any]) -> None:
    zeros = np.zeros((4, *SPACE.input_shape), dtype=np.float32)
    base = {"batch": zeros} if "seed" in other else {}
    changed = other | ({"batch": zeros} if other.get("batch") == "zeros" else {})
    assert keys(source(**base)) & keys(source(**changed)) == set()


def test_a_key_follows_the_metric_and_the_genotype() -> None:
    assert len(keys(source())) == 3
    assert keys(source()) & keys(source(), LARGE) == set()


def test_a_key_follows_the_options_of_the_space() -> None:
    images = np.zeros((4, 3, 32, 32), dtype=np.float32)
    first, second = (TrainingFree(SizeSpace(dataset), batch=images) for dataset in ("cifar10", "cifar100"))
    assert keys(first) & keys(second) == set()


def test_a_key_follows_the_versions_and_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    before = keys(source())
    for name, value in (("torch.__version__", "9.9"), ("freerea_patch.training_free.live._VERSION", 99)):
        with monkeypatch.context() as patch:
            patch.setattr(name, value)
            assert keys(source()) & before == set()
    monkeypatch.setattr(live_metrics, "device_model", lambda device: "Some GPU")
    assert keys(source()) & before == set()
    monkeypatch.undo()
    assert keys(source()) == before


SPACE_FILE = """
from freerea_patch import SizeSpace

class Mine(SizeSpace):
    pass
"""


def test_a_key_follows_the_file_that_defines_the_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "space_of_mine.py"
    path.write_text(SPACE_FILE)
    from space_of_mine import Mine  # type: ignore[import-not-found]

    images = np.zeros((4, 3, 32, 32), dtype=np.float32)
    before = keys(TrainingFree(Mine(), batch=images))
    assert keys(TrainingFree(Mine(), batch=images)) == before
    path.write_text(SPACE_FILE.replace("pass", "width_factor = 2"))
    assert keys(TrainingFree(Mine(), batch=images)) & before == set()


def test_a_space_without_a_file_has_no_digest() -> None:
    scope: dict[str, Any] = {}
    exec("class Made:\n    pass", {"__name__": "builtins"}, scope)
    assert code_digest(scope["Made"]()) == ""


def test_an_unknown_metric_is_refused() -> None:
    with pytest.raises(InputError, match="unknown training-free metric 'naswott'; did you mean 'naswot'"):
        next(source().evaluate([SMALL], ["naswott"]))


def test_a_space_without_skip_says_how_to_give_it_one() -> None:
    class Plain:
        name = "plain"
        input_shape = (3, 4, 4)

    with pytest.raises(
        InputError, match="space 'plain' does not define the metric skip; use other metrics: naswot and log"
    ):
        next(TrainingFree(Plain()).evaluate(["x"], ["skip"]))  # type: ignore[arg-type]


class Broken:
    """A space whose networks are what a test says."""

    name = "broken"
    input_shape = (3, 4, 4)

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def build(self, genotype: str) -> nn.Module:
        return self.network


class TooNarrow(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        return x @ torch.ones(7, 7)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (nn.Linear(4, 4), "network 'x': naswot cannot be computed (the metric needs activations such as ReLU"),
        (TooNarrow(nn.ReLU()), "network 'x': naswot cannot be computed ("),
    ],
)
def test_a_network_that_cannot_be_computed_on_is_named(network: nn.Module, message: str) -> None:
    broken: Any = Broken(network)
    with pytest.raises(InputError) as error:
        next(TrainingFree(broken, batch_size=4).evaluate(["x"], ["naswot"]))
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_no_initialisation_is_refused() -> None:
    with pytest.raises(InputError, match="initialisations must be at least 1, got 0"):
        source(initialisations=0)


@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_a_device_that_is_not_there_is_refused(device: str) -> None:
    with pytest.raises(
        InputError, match=f"device '{device}' cannot be used here .*; use 'device: cpu' or --device cpu"
    ):
        next(source(device=device).evaluate([SMALL], ["naswot"]))


def test_a_search_runs_on_live_metrics_and_again_from_the_cache(tmp_path: Path) -> None:
    cache = MetricCache(tmp_path / "cache.sqlite")
    histories = []
    for _ in range(2):
        bound = freerea_objectives(source(cache=cache))
        search = make_search("freerea", SPACE, bound.terms, population=4, tournament=2)
        result = run(search, bound, Budget(evaluations=6))
        histories.append([(c.genotype, c.evaluation) for c in result.history])
        assert [term.name for term in bound.terms] == list(METRICS)
        assert result.ledger.total_s > 0
    assert histories[0] == histories[1]


def test_threads_compute_what_one_thread_does(tmp_path: Path) -> None:
    cells = [SPACE.sample(Random(number)) for number in range(6)]
    names = ("naswot", "logsynflow", "skip")
    alone = [values(source(), cell) for cell in cells]
    original = nn.Conv2d.reset_parameters
    shared = source(cache=MetricCache(tmp_path / "cache.sqlite"))

    def evaluate(shift: int) -> list[dict[str, float]]:
        order = [*range(shift, 6), *range(shift)]
        rows = dict(zip(order, shared.evaluate([cells[i] for i in order], names), strict=True))
        return [{name: rows[i][name].value for name in names} for i in range(6)]

    with ThreadPoolExecutor(6) as pool:
        assert all(found == alone for found in pool.map(evaluate, range(6)))
    assert nn.Conv2d.reset_parameters is original  # which building replaces for a while


def test_layers_are_as_they_were_after_threads_have_built_networks_at_once() -> None:
    original = nn.Conv2d.reset_parameters
    inside, leave = threading.Event(), threading.Event()

    def build() -> None:
        with skip_initialisation():
            inside.set()
            leave.wait(0.2)

    first, second = (threading.Thread(target=build) for _ in range(2))
    first.start()
    inside.wait(5)
    second.start()
    leave.set()
    first.join()
    second.join()
    assert nn.Conv2d.reset_parameters is original


def test_a_source_can_be_pickled_before_and_after_it_computed(tmp_path: Path) -> None:
    first = source(cache=MetricCache(tmp_path / "cache.sqlite"))
    for _ in range(2):
        again = pickle.loads(pickle.dumps(first))  # noqa: S301
        assert values(again, SMALL) == values(first, SMALL)


@pytest.mark.data
@pytest.mark.slow
def test_metrics_rank_cells_as_the_published_ones_do(data_dir: Path) -> None:
    from scipy.stats import spearmanr

    space = TopologySpace()
    live_source = TrainingFree(space, batch=str(data_dir / "cifar10_batch/batch64_0.npz"), initialisations=1)
    indices = Random(0).sample(range(15_625), 40)
    rows = list(live_source.evaluate([space.genotypes()[i] for i in indices], ["naswot", "logsynflow"]))
    for metric in ("naswot", "logsynflow"):
        with open(data_dir / f"freerea_cached_metrics/nats/cifar10/{metric}.csv") as file:
            published = [float(row[metric]) for row in csv.DictReader(file)]
        # Ranks, so that minus infinity is a value like another: the lowest.
        correlation = spearmanr([row[metric].value for row in rows], [published[i] for i in indices]).statistic
        assert correlation >= 0.98, metric
