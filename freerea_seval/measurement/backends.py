"""What runs a network: eager PyTorch, ``torch.compile``, or ONNX Runtime."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from inspect import signature
from io import BytesIO
from typing import TYPE_CHECKING, Any

from freerea_patch import InputError, unknown_name
from freerea_patch.training_free import check_device
from freerea_seval.measurement.timing import CannotRunError, Runnable

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    Inputs = Sequence[Tensor] | Mapping[str, Tensor]

BACKENDS = ("eager", "compile", "onnx")
_ONNX_INSTALL = "pip install 'freerea-seval[onnx]'"


def check_backend(backend: str, device: str, threads: int | None = None) -> None:
    """Make sure that a backend is here, and give torch its threads, if a number is given.

    Raises:
        InputError: an unknown backend or device, or a package is missing.
    """
    if backend not in BACKENDS:
        raise unknown_name("backend", backend, BACKENDS)
    place = check_device(device)
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    if backend != "onnx":
        return
    check_onnx("onnxruntime", "onnx")
    if place.type not in _PROVIDERS:
        raise InputError(f"--backend onnx runs on cpu or cuda, not on {device!r}; take another backend or device")
    import onnxruntime

    if _PROVIDERS[place.type] not in onnxruntime.get_available_providers():
        raise InputError(
            f"--backend onnx: this onnxruntime has no {_PROVIDERS[place.type]} for device {device!r};"
            " pip install onnxruntime-gpu, or try --device cpu"
        )


_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


def check_onnx(*packages: str) -> None:
    """Make sure that packages for ONNX are installed.

    Raises:
        InputError: one is not.
    """
    for package in packages:
        if find_spec(package) is None:
            raise InputError(f"ONNX needs the package {package}, which is not installed: {_ONNX_INSTALL}")


def prepare(
    module: nn.Module, inputs: Inputs, *, backend: str = "eager", device: str = "cpu", threads: int = 1
) -> Runnable:
    """Return a network that is ready to run, and has run once.

    Args:
        module: any module; it goes to the device, in evaluation mode.
        inputs: its arguments, by place or by name.
        backend: one of :data:`BACKENDS`, which :func:`check_backend` has found to be here.
        device: where it runs.
        threads: of ONNX Runtime; torch's are set by :func:`check_backend`.

    Raises:
        CannotRunError: the backend or the device cannot run it.
    """
    try:
        module = module.to(device).eval()
        run = (
            _onnx_run(module, inputs, device, threads)
            if backend == "onnx"
            else _torch_run(module, inputs, device, backend)
        )
        run()
    except Exception as error:  # whatever a user's network, a compiler or a driver may raise
        raise CannotRunError(one_line(error)) from error
    return Runnable(run, sum(p.numel() * p.element_size() for p in module.parameters()))


def random_inputs(inputs: Inputs, seed: int = 0) -> Inputs:
    """Return inputs with normal numbers in place of floating zeros, the same for one seed; integers stay."""
    import torch

    generator = torch.Generator().manual_seed(seed)

    def filled(tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point():
            return tensor
        return torch.randn(tensor.shape, generator=generator).to(tensor)

    if isinstance(inputs, Mapping):
        return {name: filled(tensor) for name, tensor in inputs.items()}
    return [filled(tensor) for tensor in inputs]


def one_line(error: Exception) -> str:
    """Return what went wrong, on one line that is not too long."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__


def _torch_run(module: nn.Module, inputs: Inputs, device: str, backend: str) -> Callable[[], object]:
    import torch

    places = [] if isinstance(inputs, Mapping) else [tensor.to(device) for tensor in inputs]
    names = {name: tensor.to(device) for name, tensor in inputs.items()} if isinstance(inputs, Mapping) else {}
    # fullgraph is off: a network with a graph break runs in pieces, as it would for its user.
    called: Any = torch.compile(module, dynamic=False) if backend == "compile" else module
    wait = _waiter(torch.device(device))

    @torch.inference_mode()
    def run() -> None:
        called(*places, **names)
        wait()

    return run


def _onnx_run(module: nn.Module, inputs: Inputs, device: str, threads: int) -> Callable[[], object]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Threads that spin while they wait take the core from whoever else wants it.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    provider = _PROVIDERS[device.partition(":")[0]]
    session = onnxruntime.InferenceSession(onnx_bytes(module, inputs), options, providers=[provider])
    given = inputs if isinstance(inputs, Mapping) else dict(zip(input_names(module, inputs), inputs, strict=True))
    # What the network does not use is not among the inputs of the graph; the others keep their names.
    wanted = {entry.name: given[entry.name].cpu().numpy() for entry in session.get_inputs()}
    return lambda: session.run(None, wanted)


def onnx_bytes(module: nn.Module, inputs: Inputs) -> bytes:
    """Return a network as ONNX, with its weights.

    Raises:
        Exception: whatever the exporter raises for a network that it cannot write.
    """
    import torch

    buffer = BytesIO()
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    names = list(inputs) if isinstance(inputs, Mapping) else []
    given = [tensor.to(device) for tensor in (inputs.values() if isinstance(inputs, Mapping) else inputs)]
    with warnings.catch_warnings(), torch.inference_mode():
        # The exporter by tracing is called old; it takes a twentieth of the time of the new one.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            () if names else tuple(given),
            buffer,  # type: ignore[arg-type]  # the exporter by tracing writes into open files too
            kwargs=dict(zip(names, given, strict=True)) if names else None,
            input_names=input_names(module, inputs),
            dynamo=False,
        )
    return buffer.getvalue()


def input_names(module: nn.Module, inputs: Inputs) -> list[str]:
    """Return the names of a network's inputs in its ONNX graph, in the graph's order."""
    if not isinstance(inputs, Mapping):
        return [f"input{place}" for place in range(len(inputs))]
    order = list(signature(module.forward).parameters)
    return sorted(inputs, key=lambda name: order.index(name) if name in order else len(order))


def _waiter(place: torch.device) -> Callable[[], object]:
    """Return the function that waits for a GPU to finish; a CPU has finished when the call returns."""
    if place.type == "cuda":
        import torch

        return lambda: torch.cuda.synchronize(place)
    return lambda: None
