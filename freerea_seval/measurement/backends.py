"""Backends that run a network: eager PyTorch, ``torch.compile``, and ONNX Runtime."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import cache
from importlib.util import find_spec
from io import BytesIO
from typing import TYPE_CHECKING, Any

from freerea_patch import InputError, raised_in, unknown_name
from freerea_patch.training_free import check_device
from freerea_seval.measurement.timing import CannotRunError, NotReadyError, Runnable

if TYPE_CHECKING:
    from torch import Tensor, nn

    Input = Tensor | Sequence[Tensor]
    Inputs = Sequence[Input] | Mapping[str, Input]

BACKENDS = ("eager", "compile", "onnx")
_ONNX_INSTALL = "pip install 'freerea-seval[onnx]'"


def check_backend(backend: str, device: str, threads: int | None = None) -> None:
    """Make sure that a backend and a device are available, and set torch's threads, if a number is given.

    Raises:
        InputError: an unknown backend or device, or a package is missing.
    """
    if backend not in BACKENDS:
        raise unknown_name("backend", backend, BACKENDS)
    kind = check_device(device).type
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    if backend != "onnx":
        return
    check_onnx("onnxruntime", "onnx")
    if kind not in _PROVIDERS:
        raise InputError(f"--backend onnx runs on cpu or cuda, not on {device!r}; choose another backend or device")
    import onnxruntime

    if _PROVIDERS[kind] not in onnxruntime.get_available_providers():
        raise InputError(
            f"--backend onnx: this onnxruntime has no {_PROVIDERS[kind]} for device {device!r};"
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
    """Move a network to a device, run it once, and return it ready for further passes.

    Args:
        module: any module; it is put into evaluation mode. An ONNX file runs as it is, with the backend ``"onnx"``.
        inputs: its arguments, by position or by name.
        backend: one of :data:`BACKENDS`; see :func:`check_backend`.
        device: where it runs.
        threads: of ONNX Runtime; those of torch are set by :func:`check_backend`.

    Raises:
        NotReadyError: it cannot be exported for the backend.
        CannotRunError: the backend or the device cannot run it.
    """
    from freerea_seval.strings import OnnxNetwork

    try:
        if not isinstance(module, OnnxNetwork):
            module = module.to(device).eval()
        elif backend != "onnx":
            raise NotReadyError("an ONNX file runs with the backend onnx")
        run = (
            _onnx_run(module, inputs, device, threads)
            if backend == "onnx"
            else _torch_run(module, inputs, device, backend)
        )
        run()
    except (CannotRunError, NotReadyError):
        raise
    except Exception as error:  # whatever a user's network, a compiler or a driver may raise
        raise CannotRunError(one_line(error)) from error
    return Runnable(run, sum(p.numel() * p.element_size() for p in module.parameters()))


def random_inputs(inputs: Inputs, seed: int = 0) -> Inputs:
    """Replace floating-point inputs by standard normal numbers that depend on the seed only.

    Integers and sparse tensors, whose values say what is computed, stay as they are.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)

    def randomise(tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point() or tensor.layout != torch.strided:
            return tensor
        return torch.randn(tensor.shape, generator=generator).to(tensor)

    return _map_tensors(randomise, inputs)


def one_line(error: Exception) -> str:
    """Return an error's type, the beginning of its message, and where in the user's code it was raised, on one line."""
    text = " ".join(str(error).split())
    return (f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__) + raised_in(error)


def _torch_run(module: nn.Module, inputs: Inputs, device: str, backend: str) -> Callable[[], object]:
    import torch

    args, kwargs = _call_arguments(_map_tensors(lambda tensor: tensor.to(device), inputs))
    # Without fullgraph, a network with a graph break runs in pieces, as it would for its user.
    compiled: Any = torch.compile(module, dynamic=False) if backend == "compile" else module
    on_gpu = torch.device(device).type == "cuda"

    @torch.inference_mode()
    def run() -> None:
        compiled(*args, **kwargs)
        if on_gpu:
            torch.cuda.synchronize(device)

    return run


def _onnx_run(module: nn.Module, inputs: Inputs, device: str, threads: int) -> Callable[[], object]:
    import onnxruntime

    from freerea_seval.strings import OnnxNetwork

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Spinning threads would take a core from other processes while they wait.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4  # errors are raised as well
    provider = _PROVIDERS[device.partition(":")[0]]
    try:
        # ONNX Runtime finds external data beside the file.
        content = str(module.path) if isinstance(module, OnnxNetwork) else onnx_bytes(module, inputs)
    except Exception as error:  # whatever the exporter raises
        raise NotReadyError(f"cannot be written as ONNX ({one_line(error)})") from error
    session = onnxruntime.InferenceSession(content, options, providers=[provider])
    tensors = onnx_inputs(inputs)
    # The graph leaves out inputs that the network does not use; the others keep their names.
    arrays = {entry.name: tensors[entry.name].cpu().numpy() for entry in session.get_inputs()}
    return lambda: session.run(None, arrays)


def onnx_bytes(module: nn.Module, inputs: Inputs) -> bytes:
    """Return a network in evaluation mode as ONNX, with its weights; its inputs have the names of :func:`onnx_inputs`.

    An ONNX file is returned as it is, with its external data in it.

    Raises:
        Exception: whatever the exporter raises for a network that it cannot write.
    """
    import torch
    from torch.utils._pytree import tree_leaves

    from freerea_patch.training_free import replace_forwards
    from freerea_seval.strings import OnnxNetwork

    if isinstance(module, OnnxNetwork):
        import onnx

        content: bytes = onnx.load(str(module.path)).SerializeToString()
        return content
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    tensors = onnx_inputs(inputs)
    run = module.forward

    def forward(*flat: Tensor) -> tuple[Tensor, ...]:
        # The exporter would make tensors of the network's default arguments, and refuses outputs that are not tensors.
        given = iter(flat)
        args, kwargs = _call_arguments(_map_tensors(lambda _: next(given), inputs))
        return tuple(leaf for leaf in tree_leaves(run(*args, **kwargs)) if isinstance(leaf, torch.Tensor))

    forwards: dict[nn.Module, Any] = {}
    if not isinstance(module, torch.jit.ScriptModule):
        # Identities stay visible; runtimes remove them when they load the file.
        kept: Any = _identity_in_files()
        forwards = {one: kept for one in module.modules() if type(one) is torch.nn.Identity} | {module: forward}
    buffer = BytesIO()
    fused_attention = torch.backends.mha.get_fastpath_enabled()
    try:
        torch.backends.mha.set_fastpath_enabled(False)  # the exporter does not know the fused kernels
        with (
            warnings.catch_warnings(),
            torch.inference_mode(),
            _silence(),
            replace_forwards(forwards),
            _equal_operations_kept(),
        ):
            # The exporter by tracing is deprecated; it takes a twentieth of the time of its successor.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module.eval(),
                tuple(tensor.to(device) for tensor in tensors.values()),
                buffer,  # type: ignore[arg-type]  # the exporter by tracing writes into open files too
                input_names=list(tensors),
                dynamo=False,
            )
    finally:
        torch.backends.mha.set_fastpath_enabled(fused_attention)
    return buffer.getvalue()


@cache
def _identity_in_files() -> Callable[[Tensor], Tensor]:
    """Return an identity that the exporter by tracing writes, as it does not those of ``nn.Identity``."""
    import torch

    class Identity(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def symbolic(g: Any, x: Any) -> Any:
            return g.op("Identity", x)

    run: Callable[[Tensor], Tensor] = Identity.apply
    return run


def onnx_inputs(inputs: Inputs) -> dict[str, Tensor]:
    """Return the tensors of a network's inputs by their names in the ONNX graph, in the graph's order."""
    named = inputs if isinstance(inputs, Mapping) else {f"input{index}": value for index, value in enumerate(inputs)}
    tensors: dict[str, Tensor] = {}
    for name, value in named.items():
        if isinstance(value, Sequence):
            tensors |= {f"{name}.{index}": tensor for index, tensor in enumerate(value)}
        else:
            tensors[name] = value
    return tensors


def _map_tensors(change: Callable[[Tensor], Tensor], inputs: Inputs) -> Inputs:
    from torch.utils._pytree import tree_map

    mapped: Inputs = tree_map(change, inputs)
    return mapped


def _call_arguments(inputs: Inputs) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """Return the positional and the named arguments of a call."""
    return ((), inputs) if isinstance(inputs, Mapping) else (inputs, {})


@contextmanager
def _equal_operations_kept() -> Iterator[None]:
    """Keep PyTorch's exporter from merging equal operations on equal inputs, so that a file shows what a module runs.

    Runtimes merge them when they load the file.
    """
    import torch

    passes: Any = torch._C
    merge = getattr(passes, "_jit_pass_cse", None)
    if merge is None:  # a later version of PyTorch
        yield
        return
    passes._jit_pass_cse = lambda graph: False  # whether it has changed the graph
    try:
        yield
    finally:
        passes._jit_pass_cse = merge


@contextmanager
def _silence() -> Iterator[None]:
    """Discard what this process prints: PyTorch's exporter prints graphs and warnings from C++."""
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        copies = {stream: os.dup(stream) for stream in (1, 2)}
        try:
            for stream in copies:
                os.dup2(nowhere.fileno(), stream)
            yield
        finally:
            for stream, copy in copies.items():
                os.dup2(copy, stream)
                os.close(copy)
