"""Files of one network: Python source (``.py``), ONNX (``.onnx``) and PyTorch's exported program (``.pt2``).

Every file is loaded again, and written to where it is to be only if its outputs equal those of the network.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freerea_patch import InputError
from freerea_seval.files import check_new, temporary_folder, write_atomically
from freerea_seval.measurement.backends import check_onnx, one_line, onnx_bytes

if TYPE_CHECKING:
    from torch import Tensor, nn

#: Largest difference between an output of a file and of the network, relative to the largest output or to 1.
TOLERANCE = 1e-5


def check_suffix(path: Path) -> None:
    """Make sure that a network can be written to a file of this name.

    Raises:
        InputError: another suffix than those of :data:`FORMATS`, a package is missing, or the file exists.
    """
    if path.suffix not in FORMATS:
        raise InputError(
            f"{path}: expected a file that ends with .py (PyTorch source), .onnx or .pt2 (torch.export), got"
            f" {path.suffix or 'no suffix'!r}"
        )
    if path.suffix == ".onnx":
        check_onnx("onnx", "onnxruntime")
    check_new(path, "file")


def export_network(
    network: nn.Module, input_shape: tuple[int, ...], path: Path, *, title: str = "", batch_size: int = 1
) -> float:
    """Write a network in evaluation mode to a file, after the file's outputs were compared with the network's.

    Args:
        network: maps ``(n, *input_shape)`` to one tensor; it is left in evaluation mode.
        input_shape: of one input, without the batch.
        path: file to write; its suffix is one of :data:`FORMATS`.
        title: what the network is, in one line, for the head of a ``.py``.
        batch_size: inputs at once that an ``.onnx`` or ``.pt2`` takes; a ``.py`` takes any number.

    Returns:
        The largest difference of an output on random inputs, relative to the largest output or to 1.

    Raises:
        InputError: as :func:`check_suffix`; the network cannot be written as such a file; or the outputs differ.
        OSError: the file cannot be written.
    """
    import torch

    check_suffix(path)
    write, load = FORMATS[path.suffix]
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch_size, *input_shape, generator=generator)
    try:
        with torch.no_grad():
            expected = network.eval()(images)
        content = write(network, images, title)
        with temporary_folder() as folder:
            part = folder / path.name
            part.write_bytes(content)
            with torch.no_grad():
                output = load(part, network)(images)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except Exception as error:  # whatever the network or an exporter raises
        raise InputError(f"{path}: the network cannot be written as {path.suffix} ({one_line(error)})") from error
    difference = _difference(output, expected)
    if not difference <= TOLERANCE:
        raise InputError(
            f"{path}: not written, because its outputs differ from the network's by {difference:.1e} of the largest;"
            f" expected at most {TOLERANCE:g}: choose another of {', '.join(FORMATS)}"
        )
    write_atomically(path, content)
    return difference


def _difference(output: Tensor, expected: Tensor) -> float:
    """Return the largest difference, relative to the largest expected value or to 1; equal NaNs are equal."""
    import torch

    if output.shape != expected.shape:
        return float("inf")
    same = (output == expected) | (output.isnan() & expected.isnan())
    finite = expected.abs()[expected.isfinite()]
    scale = max(1.0, float(finite.max())) if len(finite) else 1.0
    return float(torch.where(same, 0.0, (output - expected).abs()).max()) / scale


def _write_source(network: nn.Module, images: Tensor, title: str) -> bytes:
    from freerea_seval.export.source import network_source

    return network_source(network, images.shape[1:], title, _USAGE).encode()


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
    import torch

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(None, {session.get_inputs()[0].name: images.numpy()})[0])


def _write_pt2(network: nn.Module, images: Tensor, title: str) -> bytes:
    import torch

    buffer = BytesIO()
    torch.export.save(torch.export.export(network, (images,)), buffer)
    return buffer.getvalue()


def _load_pt2(path: Path, network: nn.Module) -> Callable[[Tensor], Tensor]:
    import torch

    module: Callable[[Tensor], Tensor] = torch.export.load(path).module()
    return module


#: How a file of each suffix is written, and read as a function of inputs.
FORMATS: Mapping[str, tuple[Callable[[nn.Module, Tensor, str], bytes], Callable[[Path, nn.Module], Any]]] = {
    ".py": (_write_source, _load_source),
    ".onnx": (_write_onnx, _load_onnx),
    ".pt2": (_write_pt2, _load_pt2),
}
