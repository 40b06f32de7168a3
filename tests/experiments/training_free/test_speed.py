"""The experiment on the speed of proxies, with stand-ins for the public code, and its table on costs made up."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import experiments.training_free.speed as proxy_speed
from experiments.training_free.speed import (
    Cost,
    compare,
    draw,
    line,
    measure,
    start_all,
    start_ours,
    start_theirs,
    summary,
)
from freerea_patch import SizeSpace, TrainingFree
from freerea_seval.proxies import PROXIES
from freerea_seval.proxies.live import ZeroCost


def test_a_line_has_ratios_of_means_medians_of_ratios_and_rank_correlations() -> None:
    ours = [Cost((1.0, 3.0), 1.0, 0.5), Cost((2.0, 2.0), 1.0, 0.5), Cost((3.0, 1.0), 2.0, 0.5)]
    theirs = [Cost((10.0, 1.0), 4.0, 1.0), Cost((20.0, 2.0), 6.0, 1.0), Cost((30.0, 3.0), 6.0, 1.0)]
    thirteen = [Cost((0.0,), 3.0, 3.0)] * 3
    table = summary([line("nats-tss", ours, theirs, thirteen)]).splitlines()
    both = "5.333 | 1.333 | 4.00 | 4.00 | 1.000 | 0.500 | 2.00 | 2.00 | 1.0000 | -1.0000"
    assert table[2] == f"| nats-tss | 3 | {both} | 3.000 | 2.25 |"
    assert table[0].count("|") == table[2].count("|")


def test_draws_are_seeded() -> None:
    assert draw("nats-sss", 3, 1) == draw("nats-sss", 3, 1) != draw("nats-sss", 3, 2)


def test_ours_are_the_values_of_the_package() -> None:
    start_ours("nats-sss", 2, torch.get_num_threads())
    cost = measure("8:8:8:8:8")
    (row,) = TrainingFree(SizeSpace(), batch_size=2).evaluate(["8:8:8:8:8"], ["naswot", "logsynflow"])
    assert cost.values == (row["naswot"].value, row["logsynflow"].value)
    assert cost.wall_s > 0
    assert cost.cpu_s > 0


def test_the_thirteen_are_the_values_of_the_package() -> None:
    start_all("nats-sss", 2, torch.get_num_threads())
    (row,) = ZeroCost(SizeSpace(), batch_size=2).evaluate(["8:8:8:8:8"], PROXIES)
    assert measure("8:8:8:8:8").values == tuple(row[proxy].value for proxy in PROXIES)


def test_theirs_are_called_as_they_want_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    def compute_tfm(exemplar: Any, batch: Any, device: Any, metrics: Any) -> Any:
        network = exemplar.space.get_network(exemplar, device=device)
        assert not exemplar.born
        assert network(batch[0]).shape == (2, 10)
        return dict(zip(metrics, (5.0, 6.0), strict=True)), {}, 0.0

    class Opened:
        nas_utils = SimpleNamespace(compute_tfm=compute_tfm)

        def __enter__(self) -> Opened:
            return self

        def __exit__(self, *error: object) -> None: ...

    monkeypatch.setattr(proxy_speed, "Checkout", lambda path: Opened())
    start_theirs("nats-sss", 2, torch.get_num_threads(), Path("checkout"))
    assert measure("8:8:8:8:8").values == (5.0, 6.0)


@pytest.mark.slow
def test_every_network_is_measured_by_all_each_in_its_own_process() -> None:
    start = partial(start_ours, "nats-sss", 2, 1)
    first, second = compare([start, start], ["8:8:8:8:8", "8:8:8:8:16"], "nats-sss")
    assert [cost.values for cost in first] == [cost.values for cost in second]
    assert first[0].values != first[1].values
