"""The training loss of torch models, against a naive implementation."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")
from torch import Tensor  # noqa: E402

from freerea_seval.predictor.models.losses import regression_loss  # noqa: E402

NAN = float("nan")


def naive_loss(predicted: Tensor, targets: Tensor, ranking: bool) -> float:
    n, m = targets.shape
    measured = [(i, c) for i in range(n) for c in range(m) if not math.isnan(targets[i, c])]
    total = sum(float(predicted[i, c] - targets[i, c]) ** 2 for i, c in measured) / max(1, len(measured))
    shortfalls = [
        max(0.0, min(0.1, float(targets[i, c] - targets[j, c])) - float(predicted[i, c] - predicted[j, c])) / 0.1
        for i, c in measured
        for j, d in measured
        if c == d and targets[i, c] > targets[j, c]
    ]
    return total + ranking * sum(shortfalls) / max(1, len(shortfalls))


@pytest.mark.parametrize("n", [0, 1, 2, 7])
def test_the_regression_loss_equals_its_naive_twin(n: int) -> None:
    generator = torch.Generator().manual_seed(n)
    predicted, targets = torch.randn(2, n, 3, generator=generator)
    targets[torch.rand(n, 3, generator=generator) < 0.3] = NAN
    assert regression_loss(predicted, targets, "mse").item() == pytest.approx(naive_loss(predicted, targets, False))
    computed = regression_loss(predicted, targets, "mse+ranking").item()
    assert computed == pytest.approx(naive_loss(predicted, targets, True), rel=1e-4)


def test_a_target_that_is_missing_has_no_gradient_and_a_perfect_prediction_no_loss() -> None:
    targets = torch.tensor([[1.0, NAN], [0.5, 2.0], [0.45, -1.0]])
    predicted = torch.zeros(3, 2, requires_grad=True)
    regression_loss(predicted, targets, "mse+ranking").backward()  # type: ignore[no-untyped-call]
    assert predicted.grad is not None
    assert predicted.grad[0, 1] == 0
    assert torch.isfinite(predicted.grad).all()
    assert regression_loss(targets[:, :1], targets[:, :1], "mse+ranking").item() == pytest.approx(0, abs=1e-6)
