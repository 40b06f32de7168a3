"""Make a network and its inputs from ``pkg.module:factory`` or ``FILE.onnx`` and shapes, as on the command line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freerea_patch import InputError, import_object, importable_from
from freerea_patch.errors import USERS_EXCEPTIONS

if TYPE_CHECKING:
    from torch import Tensor, nn

    #: One argument of a network.
    Argument = Tensor | list[Tensor]

_INPUT = re.compile(r"(?:(?P<name>[A-Za-z_]\w*)=)?(?P<tensor>[^\[\];]*|\[(?P<list>[^\[\]]*)\])", re.ASCII)
_TENSOR = re.compile(r"(?P<sizes>\d{1,9}(?:,\d{1,9})*)(?::(?P<dtype>[a-z]\w*))?", re.ASCII)


def is_onnx(network: object) -> bool:
    """Return whether a network is given as an ONNX file, by the end of its name."""
    return isinstance(network, (str, Path)) and str(network).lower().endswith(".onnx")


def build_network(network: str) -> nn.Module:
    """Return the module that ``pkg.module:factory`` names or returns, or that of an ONNX file.

    Raises:
        InputError: the object does not exist, fails, or is not a module; the file cannot be read.
    """
    from torch import nn

    if is_onnx(network):
        from freerea_seval.strings import OnnxNetwork

        return OnnxNetwork(network)
    with importable_from(Path()):
        factory = import_object(network, "network")
        if isinstance(factory, nn.Module):
            return factory
        if not callable(factory):
            raise InputError(f"network {network!r} is neither a torch.nn.Module nor a function that returns one")
        try:
            module: Any = factory()
        except USERS_EXCEPTIONS as error:  # a user's factory may raise anything
            raise InputError(f"network {network!r} failed ({type(error).__name__}: {error})") from error
    if not isinstance(module, nn.Module):
        raise InputError(f"network {network!r} returned {type(module).__name__}, not a torch.nn.Module")
    return module


def make_tensors(inputs: Sequence[str], module: nn.Module) -> list[Argument] | dict[str, Argument]:
    """Return zeros of the shapes ``[name=]sizes[:dtype]``, on the module's device.

    ``[name=][sizes[:dtype];...]``, with brackets around the sizes, is a list of tensors.

    Raises:
        InputError: a malformed shape, a tensor that cannot be created, or names for some inputs only.
    """
    import torch

    device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))

    def zeros(text: str, tensor: str) -> Tensor:
        match = _TENSOR.fullmatch(tensor)
        dtype = getattr(torch, match["dtype"] or "float32", None) if match else None
        if match is None or not isinstance(dtype, torch.dtype):
            raise InputError(
                f"--input {text!r}: expected sizes such as 1,3,32,32, or with a name and a dtype, mask=1,16:int64, or a"
                " list of tensors, '[3,64,64;3,32,32]'"
            )
        shape = [int(size) for size in match["sizes"].split(",")]
        try:
            return torch.zeros(shape, dtype=dtype, device=device)
        except RuntimeError as error:  # too large, or of a dtype without zeros
            raise InputError(f"--input {text!r} cannot be created ({str(error).splitlines()[0]})") from error

    arguments: list[tuple[str | None, Argument]] = []
    for text in inputs:
        match = _INPUT.fullmatch(text)
        name, tensor, several = match.group("name", "tensor", "list") if match else (None, "", None)
        arguments.append(
            (name, zeros(text, tensor) if several is None else [zeros(text, one) for one in several.split(";")])
        )
    named = {name: argument for name, argument in arguments if name is not None}
    if named and len(named) < len(arguments):
        raise InputError("--input: name all inputs, each once, or none")
    return named or [argument for _, argument in arguments]
