"""ONNX files for tests: made by PyTorch's exporters, or node by node."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from freerea_seval.strings import OnnxNetwork


def exported(module: nn.Module, inputs: Sequence[Tensor], path: Path, **options: Any) -> Path:
    """Write a module as ONNX by PyTorch's exporter by tracing, or by that of ``torch.export`` with ``dynamo=True``."""
    options = {"dynamo": False, **options}
    with (
        warnings.catch_warnings(),
        open(os.devnull, "w") as nowhere,
        redirect_stdout(nowhere),
        redirect_stderr(nowhere),
    ):
        warnings.simplefilter("ignore")  # of the exporters
        torch.onnx.export(module.eval(), tuple(inputs), str(path), **options)
    return path


def made(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Sequence[int | str]],
    stored: Mapping[str, Any] | None = None,
    outputs: Sequence[str] = ("y",),
    opset: int = 20,
    domains: Sequence[str] = (),
    types: Mapping[str, int] | None = None,
) -> Path:
    """Write a file with the given nodes."""
    kinds = types or {}
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info(n, kinds.get(n, TensorProto.FLOAT), list(s)) for n, s in inputs.items()],
        [helper.make_tensor_value_info(name, kinds.get(name, TensorProto.FLOAT), None) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (stored or {}).items()],
    )
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    path.write_bytes(helper.make_model(graph, opset_imports=imports, ir_version=9).SerializeToString())
    return path


def runtime_error(path: Path) -> float:
    """Return the largest difference of the outputs from ONNX Runtime's, relative to the largest one or to 1."""
    import onnxruntime

    network = OnnxNetwork(path, values=True)
    generator = torch.Generator().manual_seed(0)
    tensors = [
        torch.randn(one.shape, generator=generator) if one.is_floating_point() else torch.ones_like(one)
        for one in network.example_inputs()
    ]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]
    expected = session.run(None, {name: tensor.numpy() for name, tensor in zip(names, tensors, strict=True)})
    with torch.no_grad():
        outputs = network(*tensors)
    errors = [0.0]
    for ours, theirs in zip(outputs, expected, strict=True):
        assert tuple(ours.shape) == theirs.shape
        scale = max(1.0, float(np.abs(theirs).max(initial=0)))
        errors.append(float(np.abs(ours.numpy().astype(np.float64) - theirs).max(initial=0)) / scale)
    return max(errors)
