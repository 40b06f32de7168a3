"""What a trace leaves behind: nothing, or one line that says what cannot be converted."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from freerea_patch import InputError
from freerea_seval.strings.text.serialize import serialize_graph as write
from freerea_seval.strings.trace.tracer import trace_module
from tests.freerea_seval.strings.trace.tracing import Function, string_of, traced


@pytest.mark.parametrize("fail", [False, True])
def test_network_inputs_and_global_state_come_back_unharmed(fail: bool) -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("calls", torch.zeros(3))
            self.register_buffer("last", torch.zeros(1, 4))
            self.norm = nn.BatchNorm1d(4)
            self.frozen = nn.BatchNorm1d(4).eval()
            self.same = nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            self.calls.add_(x.detach().sum() * 0 + 1)  # type: ignore[operator]
            self.last = x * 2
            y = self.frozen(self.norm(self.same(x)))
            if fail:
                raise RuntimeError("no\nmore")
            return x.mul_(2) + y  # type: ignore[no-any-return]

    network = Counting()
    state = {name: value.clone() for name, value in network.state_dict().items()}
    x = torch.ones(1, 4)
    attention = F.scaled_dot_product_attention
    torch.backends.mha.set_fastpath_enabled(True)
    try:
        trace_module(network, [x])
    except InputError as error:
        assert fail
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert not fail
    assert network.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert (network.training, network.norm.training, network.frozen.training) == (True, True, False)
    assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())
    assert not any(module._forward_hooks for module in network.modules())
    assert not x.requires_grad
    assert torch.equal(x, torch.ones(1, 4))
    assert F.scaled_dot_product_attention is attention
    assert torch.backends.mha.get_fastpath_enabled()
    assert torch.backends.mkldnn.enabled
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_work_under_no_grad_and_inference_mode_is_seen(device: str) -> None:
    layer = nn.Linear(4, 4).to(device)
    expected = "input[1x4] linear(b) output"
    for decorator in (torch.no_grad(), torch.inference_mode()):
        network = Function(decorator(lambda x: layer(x)), layer=layer)
        assert write(traced(network, torch.ones(1, 4, device=device))) == expected


def value_decides(x: Tensor) -> Tensor:
    return torch.relu(x) if x.sum() > 0 else x


META = torch.ones(1, 4, device="meta")


@pytest.mark.parametrize(
    ("network", "inputs", "message"),
    [
        ("resnet", [META], r"^expected a network \(torch.nn.Module\), got str; build it first$"),
        (
            nn.Linear(3, 2),
            [torch.ones(1, 4)],
            r"cannot run on inputs of shape 1x4 \(aten::addmm: mat1 and .*\); check both$",
        ),
        (
            Function(lambda x: x.lost),
            [torch.ones(2)],
            r"of shape 2 \('Tensor' object has no attribute 'lost'\); check both$",
        ),
        (Function(lambda x: 1 // 0), {"x": torch.ones(2)}, "of shape 2 .*by zero"),
        (
            Function(value_decides),
            [META],
            r"\(aten::_local_scalar_dense: .*\); if it needs the values of tensors, build it off the meta device$",
        ),
        (Function(lambda x: x * x.max().item()), [META], "aten::_local_scalar_dense: .* build it off the meta device$"),
        (Function(lambda x: x[x > 0]), [META], "aten::index: .* build it off the meta device$"),
    ],
)
def test_what_cannot_be_converted_says_so_in_one_line(network: Any, inputs: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        trace_module(network, inputs)
    assert "\n" not in str(caught.value)


def test_a_failure_that_the_network_mends_is_none() -> None:
    def mends(x: Tensor) -> Tensor:
        try:
            return torch.mm(x, x)
        except RuntimeError:
            return torch.relu(x)

    assert string_of(mends, torch.ones(1, 4)) == "input[1x4] relu output"
