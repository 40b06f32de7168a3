"""The string format of SEval-NAS: each of its rules, a recursive twin as the oracle, and examples of cells."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from freerea_patch import InputError, SizeSpace, TopologySpace
from freerea_patch.networks import ResidualBlock
from freerea_seval.strings.trace.sevalnas_format import OMITTED, format_result, sevalnas_string

CELLS = TopologySpace().genotypes()


class Function(nn.Module):
    """A function as a network."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor, **named: Tensor) -> Any:
        return self.function(*inputs, **named)


def string_of(function: Callable[..., Any], *shape: int) -> str:
    return sevalnas_string(Function(function), [torch.rand(shape or (3,))])


def recursive(root: Any) -> str:
    """The format as a recursion, one rule after the other."""
    seen, order, leaves, text = set(), [], {4: "", 2: ""}, ""

    def visit(function: Any) -> None:
        nonlocal text
        seen.add(function)
        for source, _ in function.next_functions:
            if source is not None and source not in seen:
                visit(source)
        if hasattr(function, "variable"):
            shape = list(function.variable.shape)
            texts = {4: f":(num_filters={shape[0]}, kernel_size={shape[-2:][0]})", 2: f":(num_units={shape[-1]})"}
            leaves.update({n: s for n, s in texts.items() if n == len(shape)})
        name = type(function).__name__
        if not any(part in name for part in OMITTED):
            order.append(function)
            name = name.replace("Backward0", "")
            operands = [order.index(source) + 1 for source, _ in function.next_functions if source in order]
            if "Convolution" in name:
                name += leaves[4]
            elif "Addmm" in name:
                name = "Dense" + leaves[2]
            elif len(operands) > 1:
                name += f":{operands[1]}~{operands[0]}"
            text += f"|{len(order)}_{name}"

    visit(root)
    return text


def test_a_residual_block_reads_as_published() -> None:
    assert sevalnas_string(ResidualBlock(4, 8), [torch.zeros(2, 4, 8, 8)]) == (
        "|1_AvgPool2D|2_Convolution:(num_filters=8, kernel_size=1)|3_Relu|4_Convolution:(num_filters=8, kernel_size=3)"
        "|5_NativeBatchNorm|6_Relu|7_Convolution:(num_filters=8, kernel_size=3)|8_NativeBatchNorm|9_Add:8~2"
    )


def test_multiplication_means_views_and_a_capital_t_leave_no_trace() -> None:
    assert string_of(lambda x: (x.exp() * 0).mean().tanh().view(1).relu()) == "|1_Exp|2_Relu"


def test_operands_are_said_where_two_written_operations_are_read() -> None:
    assert string_of(lambda x: x.exp() + x.relu()) == "|1_Exp|2_Relu|3_Add:2~1"
    assert string_of(lambda x: x.exp() + x.relu() * 0) == "|1_Exp|2_Relu|3_Add"
    assert string_of(lambda x: x.exp() + x) == "|1_Exp|2_Add"
    assert string_of(lambda x: torch.cat([x.exp(), x.relu(), x.sin()])) == "|1_Exp|2_Relu|3_Sin|4_Cat:2~1"


def test_a_spurious_addition_of_a_sum_is_written() -> None:
    assert string_of(lambda x: sum([x.exp(), x.relu()])) == "|1_Exp|2_Add|3_Relu|4_Add:3~2"


def test_the_units_of_a_dense_layer_are_its_inputs() -> None:
    assert sevalnas_string(nn.Linear(7, 5), [torch.zeros(2, 7)]) == "|1_Dense:(num_units=7)"


def test_a_shared_convolution_says_the_weight_met_last() -> None:
    first, second = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 5, padding=2)
    string = sevalnas_string(nn.Sequential(first, second, first), [torch.zeros(1, 3, 8, 8)])
    assert string.count("kernel_size=5") == 2
    assert string.count("kernel_size=1") == 1


def test_the_first_of_several_results_is_walked() -> None:
    assert string_of(lambda x: (x.exp(), x.relu())) == "|1_Exp"
    assert string_of(lambda x: {"one": [x.exp()], "two": x.relu()}) == "|1_Exp"


def test_inputs_may_have_names_and_be_no_numbers_with_a_gradient() -> None:
    network = Function(lambda x, mask, factor: (x.exp() + mask).relu() / factor)
    arguments = {"x": torch.rand(2), "mask": torch.tensor([1, 0]), "factor": 2.0}
    assert sevalnas_string(network, arguments) == "|1_Exp|2_Add|3_Relu|4_Div"


@pytest.mark.parametrize("index", range(0, len(CELLS), 3000))
def test_the_walk_equals_a_recursive_one(index: int) -> None:
    network = TopologySpace().build(CELLS[index])
    result = network(torch.rand(2, 3, 8, 8, requires_grad=True))
    assert format_result(result) == recursive(result.grad_fn)


def test_sizes_of_batch_and_images_do_not_show() -> None:
    for space, genotype in ((TopologySpace(), CELLS[7]), (TopologySpace(), CELLS[11]), (SizeSpace(), "8:64:16:40:24")):
        network = space.build(genotype)
        small = sevalnas_string(network, [torch.zeros(2, 3, 8, 8)])
        assert small == sevalnas_string(network, [torch.rand(5, 3, 32, 32)])


def test_an_edge_of_zeros_and_a_skip_that_nothing_adds_read_alike() -> None:
    def string(cell: str) -> str:
        return sevalnas_string(TopologySpace().build(cell), [torch.zeros(2, 3, 8, 8)])

    form = "|{}~0|+|none~0|none~1|+|nor_conv_1x1~0|none~1|none~2|"
    # Only a multiplication by zero reads the first node: neither is written, what they read is.
    assert string(form.format("none")) == string(form.format("skip_connect"))
    assert string(form.format("none")) != string(form.format("avg_pool_3x3"))


def test_a_network_of_depth_5000_needs_no_recursion() -> None:
    def deep(x: Tensor) -> Tensor:
        for _ in range(5000):
            x = x.relu()
        return x

    assert string_of(deep).endswith("|5000_Relu")


def test_the_network_and_the_random_numbers_come_back_unharmed() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout()).eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    state = torch.get_rng_state()
    sevalnas_string(network, [torch.rand(4, 3, generator=torch.Generator().manual_seed(0))])
    assert not any(module.training for module in network.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert torch.equal(state, torch.get_rng_state())


def test_it_says_what_it_needs() -> None:
    with pytest.raises(InputError, match=r"cannot run on these inputs in training mode \(Expected more than 1 value"):
        sevalnas_string(nn.BatchNorm1d(3), [torch.rand(1, 3)])
    with pytest.raises(InputError, match="a tensor with a gradient, got a tensor without one; the published format"):
        string_of(lambda x: x.detach())
    with pytest.raises(InputError, match="got one of type list"):
        string_of(lambda x: [])
    with pytest.raises(InputError, match="got one of type int"):
        string_of(lambda x: 3)
