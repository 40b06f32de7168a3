"""Which view of a network a metric takes."""

from __future__ import annotations

import pytest

from freerea_patch import InputError
from freerea_seval.strings.graph.ir import Graph
from freerea_seval.strings.text.parse import parse_graph as read
from freerea_seval.strings.text.serialize import serialize_graph as write
from freerea_seval.strings.views import check_view, default_view, view_of

OF_THE_FUNCTION = """
    accuracy accuracies cifar10_accuracy CIFAR-100_Accuracy val_accs test_acc testacc top1 top-5 top5_error error
    err test_error_rate val_loss logloss f1 macro_f1 auc roc_auc mAP map50 mIoU perplexity robustness robust_accuracy
    fgsm_1.0 fgsm@Linf_eps-1.0 pgd pgd@Linf apgd@L2_eps-0.5 auto_attack corruption_cifar10c jacobian
    analog_noisy_accuracy
"""
OF_WHAT_RUNS = """
    latency latency_ms edgegpu_latency raspi4_latency edgegpu_energy energy_mj params flops macs memory peak_memory_mb
    eyeriss_arithmetic_intensity throughput power fpga_latency pixel3_latency_ms latency_bf16 laptop1_latency
    accelerator_latency memory_mapped_ms interrupts seconds cost
"""


@pytest.mark.parametrize("metric", OF_THE_FUNCTION.split())
def test_accuracy_and_robustness_take_the_functional_view(metric: str) -> None:
    assert default_view(metric) == default_view(metric.upper()) == "functional"


@pytest.mark.parametrize("metric", OF_WHAT_RUNS.split())
def test_costs_and_unknown_metrics_take_the_executed_view(metric: str) -> None:
    assert default_view(metric) == default_view(metric.upper()) == "executed"


def graph() -> Graph:
    return read("input[1x3x8x8] alias conv(4,k3) mul(0) add<-2,1 output")


def test_the_executed_view_is_the_graph_itself() -> None:
    assert view_of(graph(), "executed") == graph()


def test_the_functional_view_leaves_out_identities_and_zeros() -> None:
    assert (
        write(view_of(read("input[1x3x8x8] alias relu mul(0)<-3 add output"), "functional"))
        == "input[1x3x8x8] relu output"
    )


def test_an_unknown_view_is_named_with_those_there_are() -> None:
    assert check_view("functional") == "functional"
    for call in (lambda: check_view("executes"), lambda: view_of(graph(), "executes")):  # type: ignore[arg-type]
        with pytest.raises(InputError) as caught:
            call()
        assert str(caught.value) == (
            "unknown view of a network 'executes'; did you mean 'executed'? Valid: executed, functional"
        )
