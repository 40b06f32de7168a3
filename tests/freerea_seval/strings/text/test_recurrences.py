"""The steps of a recurrence are one repetition, however it is written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from freerea_patch import InputError
from freerea_seval.strings import parse_graph, serialize_graph, trace_module
from tests.freerea_seval.strings.trace.tracing import Function

CELL = nn.GRUCell(8, 8)


def by_unbinding(x: Tensor) -> Tensor:
    state, states = x[:, 0] * 0, []
    for step in x.unbind(1):
        state = CELL(step, state)
        states.append(state)
    return torch.stack(states, 1)


def by_index(x: Tensor) -> Tensor:
    state, states = x.sum(1), []
    for index in range(x.shape[1]):
        state = CELL(x[:, index], state)
        states.append(state)
    return torch.stack(states, 1)


def backwards(x: Tensor) -> Tensor:
    state, states = x.sum(1), []
    for step in reversed(x.unbind(1)):
        state = CELL(step, state)
        states.append(state)
    return torch.stack(states[::-1], 1)


def two_reads_a_step(x: Tensor) -> Tensor:
    parts, state = x.unbind(1), x.sum(1)
    for part in parts:
        state = CELL(part, state) + part.sin()
    return state


def every_other(x: Tensor) -> Tensor:
    parts, state = x.unbind(1), x.sum(1)
    for part in parts[::2]:
        state = CELL(part, state)
    return state


RECURRENCES: dict[str, nn.Module] = {
    "lstm": nn.LSTM(8, 8, batch_first=True),
    "bidirectional": nn.LSTM(8, 8, num_layers=2, bidirectional=True, batch_first=True),
    "projected": nn.LSTM(8, 8, proj_size=4, batch_first=True),
    "gru": nn.GRU(8, 8, batch_first=True),
    "rnn": nn.RNN(8, 8, batch_first=True),
    **{
        function.__name__: Function(function, cell=CELL)
        for function in (by_unbinding, by_index, backwards, two_reads_a_step, every_other)
    },
}


@pytest.mark.parametrize("name", RECURRENCES)
def test_a_string_is_about_as_long_for_many_steps_as_for_few(name: str) -> None:
    lengths = []
    for steps in (16, 64):
        graph = trace_module(RECURRENCES[name], [torch.zeros(1, steps, 8)])
        string = serialize_graph(graph)
        assert parse_graph(string) == graph
        lengths.append(len(string))
    if name != "every_other":  # its ports advance by two, which no operand can say
        assert lengths[1] < 1.1 * lengths[0]


@pytest.mark.parametrize("seed", range(20))
def test_any_order_of_reading_is_read_back(seed: int) -> None:
    order = torch.randint(0, 12, (40,), generator=torch.Generator().manual_seed(seed)).tolist()
    if seed % 2:  # stretches of neighbours
        order = [(start + k * step) % 12 for start, step in zip(order, [1, -1] * 20, strict=True) for k in range(9)]

    def function(x: Tensor) -> Any:
        parts, total = x.unbind(1), x.sum(1)
        for index in order:
            total = (total + parts[index]).tanh()
        return total, *parts[:3]

    graph = trace_module(Function(function), [torch.zeros(1, 12, 8)])
    assert parse_graph(serialize_graph(graph)) == graph


@pytest.mark.parametrize(
    ("tail", "error"),
    [
        ("relu<-^2-", "reads a result before the first one"),
        ("relu<-3.3 relu<-^2+", "reads result 4 of 'unbind', which has 4"),
        ("cat<-4..1/2", "has an operand '4..1/2'"),
        ("cat<-3..3/1", "has an operand '3..3/1'"),
        ("relu<-9..1/2", "reads 9 before it"),
    ],
)
def test_an_operand_that_is_not_there(tail: str, error: str) -> None:
    with pytest.raises(InputError, match=error):
        parse_graph(f"input[4x3] unbind relu tanh {tail} output")


@pytest.mark.parametrize(("written", "same"), [("cat<-4..1/1", "cat<-4,3,2,1"), ("cat<-1..3/2", "cat<-1,3")])
def test_a_range_is_its_distances(written: str, same: str) -> None:
    front = "input[1x3] relu tanh sin"
    assert parse_graph(f"{front} {written} output") == parse_graph(f"{front} {same} output")


def test_the_next_result_is_behind_the_last_one_that_was_read() -> None:
    stepped = "input[4x3] unbind relu<-^2+ add<-^2+,1 add<-^2=,1 add<-^2+,1 add<-^2-,1 output"
    listed = "input[4x3] unbind relu<-1.0 add<-2.1,1 add<-3.1,1 add<-4.2,1 add<-5.1,1 output"
    assert parse_graph(stepped) == parse_graph(listed)


_Function = Callable[[Tensor], Any]


def test_selections_become_one_operation_only_if_they_are_all() -> None:
    whole: _Function = lambda x: [x[:, index] for index in range(8)]  # noqa: E731
    graph = trace_module(Function(whole), [torch.zeros(2, 8, 3)])
    assert [node.kind for node in graph] == ["input", "unbind", "output"]
    assert [len(node.outputs) for node in graph] == [1, 8, 0]
    for function in (
        lambda x: [x[:, index] for index in range(7)],
        lambda x: [x[:, 7 - index] for index in range(8)],
        lambda x: [x[index] for index in range(2)],
    ):
        kinds = {node.kind for node in trace_module(Function(function), [torch.zeros(2, 8, 3)])}
        assert kinds == {"input", "select", "output"}
