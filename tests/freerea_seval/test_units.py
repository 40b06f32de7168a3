"""Names of metrics say their unit, and which values are better."""

from __future__ import annotations

import pytest

from freerea_seval.sources.registry import BUILTIN
from freerea_seval.units import direction_of, is_accuracy, unit_of, without_unit


@pytest.mark.parametrize(
    ("name", "bare", "unit"),
    [
        ("latency_ms", "latency", "ms"),
        ("edge_gpu_energy_mJ", "edge_gpu_energy", "mJ"),
        ("size_mb", "size", "MB"),
        ("time_s", "time", "s"),
        ("acc_pct", "acc", "%"),
        ("accuracy", "accuracy", ""),
        ("top_1", "top_1", ""),
        ("ms", "ms", ""),
        ("_ms", "_ms", ""),
        ("items", "items", ""),
        ("Energy (mJ)", "Energy", "mJ"),
        ("accuracy [%]", "accuracy", "%"),
        ("latency_(MS)", "latency", "ms"),
        ("latency (raspi4)", "latency (raspi4)", ""),
        ("(ms)", "(ms)", ""),
    ],
)
def test_units_are_told_by_the_end_of_a_name(name: str, bare: str, unit: str) -> None:
    assert unit_of(name) == unit
    assert without_unit(name) == bare


@pytest.mark.parametrize(
    ("direction", "names"),
    [
        ("max", "accuracy test_acc TestAccuracy top1 top-5 mIoU val_mAP auc f1 robustness throughput fps"),
        (
            "min",
            "latency_ms Latency Energy_(mJ) peak_mb train_seconds params flops macs test_loss err top1_error power",
        ),
        (None, "score quality accelerator_x accuracy_drop latency_reduction images_per_second accuracy_loss speedup"),
        (None, "latency_gain energy_efficiency accuracy_per_energy macro mapping timeline parametric"),
    ],
)
def test_the_better_direction_is_told_by_the_name_or_not_at_all(direction: str | None, names: str) -> None:
    assert {name: direction_of(name) for name in names.split()} == dict.fromkeys(names.split(), direction)


def test_accuracies_are_recognised_by_name() -> None:
    assert all(is_accuracy(name) for name in ["accuracy", "test_acc", "TestAccuracy", "robust_accuracy", "accuracy_%"])
    assert not any(
        is_accuracy(name) for name in ["accuracy_drop", "accuracy_loss", "accelerator", "quality", "latency"]
    )


def test_names_never_contradict_the_direction_of_a_built_in_metric() -> None:
    # The source zero-cost takes parameters and operations as hints at accuracy; elsewhere they are costs.
    infos = [info for record in BUILTIN.values() if record.name != "zero-cost" for info in record.metrics]
    known = {info.name: (direction_of(info.name), info.direction) for info in infos if direction_of(info.name)}
    assert known == {name: (direction, direction) for name, (_, direction) in known.items()}
    assert len(known) > 25
