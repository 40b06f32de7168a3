"""Operators of ONNX in torch: the outputs of ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from freerea_patch import InputError
from freerea_seval.strings import OnnxNetwork, trace_module
from tests.freerea_seval.strings.trace.onnx_files import made, runtime_error

ONES = np.ones((4, 3, 3, 3), np.float32)
CHANNELS = np.linspace(0.5, 2, 3, dtype=np.float32)
#: By operator: attributes, further inputs, and the version of the operators if an older one is meant.
CASES: list[tuple[str, dict[str, Any], list[Any], int]] = [
    ("ArgMax", {"axis": 1, "keepdims": 0}, [], 20),
    ("AveragePool", {"kernel_shape": [3, 3], "auto_pad": "SAME_UPPER", "strides": [2, 2]}, [], 20),
    ("AveragePool", {"kernel_shape": [3, 3], "pads": [0, 1, 1, 0], "count_include_pad": 1}, [], 20),
    ("Clip", {"min": 0.0, "max": 0.5}, [], 7),
    ("Conv", {"pads": [0, 1, 2, 3], "strides": [2, 1]}, [ONES], 20),
    ("Conv", {"auto_pad": "SAME_LOWER", "strides": [2, 2]}, [ONES], 20),
    ("ConvTranspose", {"strides": [2, 2], "pads": [0, 1, 1, 0]}, [ONES.reshape(3, 4, 3, 3)], 20),
    ("ConvTranspose", {"strides": [2, 2], "output_shape": [15, 16]}, [ONES.reshape(3, 4, 3, 3)], 20),
    ("CumSum", {"reverse": 1, "exclusive": 1}, [np.int64(2)], 20),
    ("DepthToSpace", {"blocksize": 1, "mode": "DCR"}, [], 20),
    ("Div", {}, [np.float32(3)], 20),
    ("Einsum", {"equation": "nchw->nhc"}, [], 20),
    ("Expand", {}, [np.array([2, 1, 1, 1])], 20),
    ("Flatten", {"axis": -2}, [], 20),
    ("Gather", {"axis": 1}, [np.array([[0, -1]])], 20),
    ("Gather", {"axis": 3}, [np.int64(-1)], 20),
    ("GlobalMaxPool", {}, [], 20),
    ("HardSigmoid", {"alpha": 0.3}, [], 20),
    ("InstanceNormalization", {}, [CHANNELS, CHANNELS], 20),
    ("LpNormalization", {"axis": 1, "p": 1}, [], 20),
    ("Max", {}, [np.float32(0.2)], 20),
    ("MaxPool", {"kernel_shape": [2, 2], "pads": [0, 0, 1, 1], "ceil_mode": 1, "strides": [2, 2]}, [], 20),
    ("Mod", {"fmod": 1}, [np.float32(0.3)], 20),
    ("Pad", {"mode": "edge"}, [np.array([0, 0, 1, 0, 0, 0, 2, 1])], 20),
    ("Pad", {"pads": [0, 0, 1, 0, 0, 0, 2, 1], "value": 2.0}, [], 7),
    ("Pow", {}, [np.float32(2)], 20),
    ("ReduceL2", {"keepdims": 0}, [np.array([-1])], 20),
    ("ReduceSum", {"axes": [1, 2]}, [], 11),
    ("Resize", {"mode": "linear"}, ["", np.array([1, 1, 2, 2], np.float32)], 20),
    ("Slice", {}, [np.array([3, -1]), np.array([-99, 1]), np.array([2, 3]), np.array([-1, -2])], 20),
    ("Slice", {"starts": [1], "ends": [3], "axes": [1]}, [], 7),
    ("Softmax", {"axis": 2}, [], 11),
    ("SpaceToDepth", {"blocksize": 2}, [], 20),
    ("Squeeze", {"axes": [0]}, [], 11),
    ("Tile", {}, [np.array([1, 2, 1, 1])], 20),
    ("TopK", {"axis": 3, "largest": 0}, [np.array([2])], 20),
    ("Trilu", {"upper": 0}, [np.int64(1)], 20),
    ("Unsqueeze", {}, [np.array([0, -1])], 20),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{case[3]}")
def test_outputs_are_those_of_onnx_runtime(case: tuple[str, dict[str, Any], list[Any], int], tmp_path: Path) -> None:
    operator, attributes, others, opset = case
    names = ["" if isinstance(other, str) else f"s{index}" for index, other in enumerate(others)]
    stored = {name: other for name, other in zip(names, others, strict=True) if name}
    outputs = ["y", "z"] if operator == "TopK" else ["y"]
    node = helper.make_node(operator, ["x", *names], outputs, **attributes)
    integers = {"y": 7} if operator == "ArgMax" else {"z": 7}
    path = made(tmp_path / "m.onnx", [node], {"x": [1, 3, 8, 8]}, stored, outputs, opset, types=integers)
    assert runtime_error(path) < 1e-6
    network = OnnxNetwork(path)  # without values, it has the shapes of the results as well
    trace_module(network, network.example_inputs())


@pytest.mark.parametrize(
    ("operator", "attributes", "inputs", "message"),
    [
        ("Reshape", {}, ["x", "x"], "its input 2 depends on what the network computes; export"),
        ("Dropout", {}, [], "it has no input 1"),
        (
            "BatchNormalization",
            {"training_mode": 1},
            ["x", "w", "w", "w", "w"],
            "export the network in evaluation mode",
        ),
        ("GRU", {"hidden_size": 3}, ["x", "w", "w"], "linear_before_reset=0 has no counterpart"),
    ],
)
def test_what_cannot_be_run_says_why(
    operator: str, attributes: dict[str, Any], inputs: list[str], message: str, tmp_path: Path
) -> None:
    node = helper.make_node(operator, inputs, ["y"], **attributes)
    path = made(tmp_path / "m.onnx", [node], {"x": [1, 3, 8]}, {"w": CHANNELS})
    network = OnnxNetwork(path)
    with pytest.raises(InputError, match=message):
        trace_module(network, network.example_inputs())
