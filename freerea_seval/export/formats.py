"""Files of one network: Python source (``.py``), ONNX (``.onnx``) and PyTorch's exported program (``.pt2``).

Every file is loaded again, and written to where it is to be only if its outputs equal those of the network.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from freerea_patch import InputError
from freerea_patch.networks import preserve_state
from freerea_seval.export.source import network_source
from freerea_seval.files import check_new, temporary_folder, write_atomically
from freerea_seval.measurement.backends import check_onnx, one_line, onnx_bytes

#: Largest difference between an output of a file and of the network, relative to the largest output or to 1.
TOLERANCE = 1e-5
#: The same with batch-norm statistics of random inputs, which carry differences through all layers: on such networks of
#: FBNet, PyTorch itself differs by 1.2e-5 from what it computes in double precision.
SETTLED_TOLERANCE = 1e-4


def check_target(path: Path) -> None:
    """Make sure that a network can be written to a file of this name.

    Raises:
        InputError: another suffix than those of :data:`FORMATS`, a package is missing, or the file exists.
    """
    if path.suffix not in FORMATS:
        raise InputError(
            f"{path}: expected a file that ends with .py (PyTorch source), .onnx or .pt2 (torch.export), or .json in a"
            f" space of transformers, got {path.suffix or 'no suffix'!r}"
        )
    if path.suffix == ".onnx":
        check_onnx("onnx", "onnxruntime")
    check_new(path, "file")


def export_network(
    network: nn.Module,
    input_shape: tuple[int, ...],
    path: Path,
    *,
    title: str = "",
    batch_size: int = 1,
    dtype: str = "float32",
) -> tuple[float, float]:
    """Write a network in evaluation mode to a file, after the file's outputs were compared with the network's.

    Args:
        network: maps ``(n, *input_shape)`` to one tensor; it is left in evaluation mode.
        input_shape: of one input, without the batch.
        path: file to write; its suffix is one of :data:`FORMATS`.
        title: what the network is, in one line, for the head of a ``.py``.
        batch_size: inputs at once that an ``.onnx`` or ``.pt2`` takes; a ``.py`` takes any number.
        dtype: of the inputs: ``"float32"``, or ``"int64"`` for indices of tokens.

    Returns:
        The largest difference of an output on random inputs, relative to the largest output or to 1: with the
        network's own batch-norm statistics, and with those of random inputs.

    Raises:
        InputError: as :func:`check_target`; the network cannot be written as such a file; or the outputs differ.
        OSError: the file cannot be written.
    """
    check_target(path)
    images = _random(network, (batch_size, *input_shape), dtype)
    try:
        with preserve_state(network):
            # With initial statistics, the outputs of deep networks hardly depend on the input: on FBNet's, by 1e-8.
            if dtype == "float32":
                settle(network, input_shape)
            else:
                network.eval()
            settled = _difference(*_written_and_read(network, images, path, title)[1:])
        content, *outputs = _written_and_read(network.eval(), images, path, title)
        own = _difference(*outputs)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except Exception as error:  # whatever the network or an exporter raises
        raise InputError(f"{path}: the network cannot be written as {path.suffix} ({one_line(error)})") from error
    for difference, limit in ((own, TOLERANCE), (settled, SETTLED_TOLERANCE)):
        if not difference <= limit:
            raise InputError(
                f"{path}: not written, because its outputs differ from the network's by {difference:.1e} of the"
                f" largest; expected at most {limit:g}: choose another of {', '.join(FORMATS)}"
            )
    write_atomically(path, content)
    return own, settled


def _random(network: nn.Module, shape: tuple[int, ...], dtype: str) -> Tensor:
    """Return standard normal numbers, or indices of tokens that the network has."""
    generator = torch.Generator().manual_seed(0)
    if dtype == "float32":
        return torch.randn(shape, generator=generator)
    tokens = min((module.num_embeddings for module in network.modules() if isinstance(module, nn.Embedding)), default=2)
    return torch.randint(tokens, shape, generator=generator)


@torch.no_grad()
def settle(network: nn.Module, input_shape: tuple[int, ...]) -> None:
    """Give batch norms the statistics of random inputs, and leave the network in evaluation mode."""
    norms = [(m, m.momentum) for m in network.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    for norm, _ in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches, of which this one is the first
    network.train()(torch.randn(8, *input_shape, generator=torch.Generator().manual_seed(1)))
    for norm, momentum in norms:
        norm.momentum = momentum
    network.eval()


@torch.no_grad()
def _written_and_read(network: nn.Module, images: Tensor, path: Path, title: str) -> tuple[bytes, Tensor, Tensor]:
    """Return the content of a file, its outputs and those of the network."""
    write, load = FORMATS[path.suffix]
    content = write(network, images, title)
    with temporary_folder() as folder:
        part = folder / path.name
        part.write_bytes(content)
        return content, load(part, network)(images), network(images)


def _difference(output: Tensor, expected: Tensor) -> float:
    """Return the largest difference, relative to the largest expected value or to 1; equal NaNs are equal."""
    if output.shape != expected.shape:
        return float("inf")
    same = (output == expected) | (output.isnan() & expected.isnan())
    finite = expected.abs()[expected.isfinite()]
    scale = max(1.0, float(finite.max())) if len(finite) else 1.0
    return float(torch.where(same, 0.0, (output - expected).abs()).max()) / scale


def _write_source(network: nn.Module, images: Tensor, title: str) -> bytes:
    return network_source(network, images.shape[1:], title, _USAGE, images.dtype).encode()


_USAGE = """\
It needs torch alone. The weights of the network have the same names here, and the layers are made in the same order:

    network = Network()
    network.load_state_dict(torch.load("weights.pt"))
"""


def _load_source(path: Path, network: nn.Module) -> Callable[[Tensor], Tensor]:
    spec = importlib.util.spec_from_file_location("exported_network", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    loaded: nn.Module = module.Network()
    ours, theirs = ([name for name, _ in one.named_parameters()] for one in (network, loaded))
    if ours != theirs:  # such as of a layer in two places, whose weights the file would have twice
        raise InputError("the network shares weights between layers, which a .py does not; name a file .onnx or .pt2")
    loaded.load_state_dict(network.state_dict())
    return loaded.eval()


def _write_onnx(network: nn.Module, images: Tensor, title: str) -> bytes:
    return onnx_bytes(network, [images])


def _load_onnx(path: Path, network: nn.Module) -> Callable[[Tensor], Tensor]:
    import onnxruntime

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(None, {session.get_inputs()[0].name: images.numpy()})[0])


def _write_pt2(network: nn.Module, images: Tensor, title: str) -> bytes:
    buffer = BytesIO()
    torch.export.save(torch.export.export(network, (images,)), buffer)
    return buffer.getvalue()


def _load_pt2(path: Path, network: nn.Module) -> Callable[[Tensor], Tensor]:
    module: Callable[[Tensor], Tensor] = torch.export.load(path).module()
    return module


#: How a file of each suffix is written, and read as a function of inputs.
FORMATS: Mapping[str, tuple[Callable[[nn.Module, Tensor, str], bytes], Callable[[Path, nn.Module], Any]]] = {
    ".py": (_write_source, _load_source),
    ".onnx": (_write_onnx, _load_onnx),
    ".pt2": (_write_pt2, _load_pt2),
}
