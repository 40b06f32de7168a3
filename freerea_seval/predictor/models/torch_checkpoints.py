"""The weights of torch modules as safetensors, and the checkpoints of a training."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from freerea_patch import InputError
from freerea_seval.files import write_atomically

try:
    import safetensors.torch
except ImportError:
    raise InputError("trained networks need the package safetensors: pip install 'freerea-seval[t5]'") from None

_RECORD = "checkpoint.json"
_FORMAT = 1


@dataclass(frozen=True)
class Epoch:
    """What an epoch reached.

    Attributes:
        loss: mean over the training steps.
        error: mean squared error on the validation part; None without one, as is the next.
        tau: Kendall's tau-b on the validation part, the mean over the metrics that differ there.
    """

    loss: float
    error: float | None = None
    tau: float | None = None


def packed(tensors: Mapping[str, Tensor]) -> bytes:
    """Return tensors by name as a safetensors file."""
    return safetensors.torch.save(dict(tensors))


def unpacked(content: bytes) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file; raises what safetensors does if it is none."""
    return safetensors.torch.load(content)


def _own(module: nn.Module) -> dict[str, Tensor]:
    """Return a module's own parameters and buffers by name: shared ones once, and what it can make again not at all."""
    kept = module.state_dict()
    named = (*module.named_parameters(), *module.named_buffers())
    return {name: tensor for name, tensor in named if name in kept}


def weights(module: nn.Module) -> dict[str, Tensor]:
    """Return copies of a module's parameters and buffers on the CPU by name, shared ones once."""
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in _own(module).items()}


def load_weights(module: nn.Module, found: Mapping[str, Tensor]) -> None:
    """Put what :func:`weights` returned into a module of the same shape.

    Raises:
        InputError: names, shapes or types are not the module's, or a weight is NaN or infinite.
    """
    own = _own(module)
    if own.keys() != found.keys():
        odd = sorted(own.keys() ^ found.keys())
        raise InputError(f"weights: {len(odd)} names are missing or unknown, the first {odd[0]!r}; train anew")
    for name, tensor in own.items():
        given = found[name]
        if given.shape != tensor.shape or given.dtype != tensor.dtype:
            raise InputError(
                f"weights: {name} should be {tensor.dtype} of shape {tuple(tensor.shape)}, got {given.dtype} of shape"
                f" {tuple(given.shape)}; train anew"
            )
        if not torch.isfinite(given).all():
            raise InputError(f"weights: {name} has values that are NaN or infinite; train anew")
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(found[name])


class Checkpoints:
    """A folder with the state after the last epoch: the tensors in one file, and ``checkpoint.json`` that names it.

    Args:
        folder: made with missing parents.
        fingerprint: of the training that it belongs to.

    Raises:
        InputError: there can be no such folder.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self.folder = folder
        self.fingerprint = fingerprint
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unwritable(error) from None

    def save(
        self, module: nn.Module, optimizer: torch.optim.Optimizer, history: list[Epoch], best: Mapping[str, Tensor]
    ) -> None:
        """Write the state after the last epoch in place of the one before.

        Raises:
            InputError: it cannot be written.
        """
        tensors = {f"module/{name}": tensor for name, tensor in weights(module).items()}
        tensors |= {f"best/{name}": tensor.clone() for name, tensor in best.items()}
        for number, state in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{number}/{key}": tensor.cpu().contiguous() for key, tensor in state.items()}
        content = packed(tensors)
        name = f"epoch-{len(history)}.safetensors"
        record = {
            "format": _FORMAT,
            "training": self.fingerprint,
            "tensors": name,
            "sha256": hashlib.sha256(content).hexdigest(),
            "history": [asdict(epoch) for epoch in history],
        }
        try:
            write_atomically(self.folder / name, content)
            # Only now does the folder mean the new epoch.
            write_atomically(self.folder / _RECORD, json.dumps(record, indent=1) + "\n")
            for old in self.folder.glob("epoch-*.safetensors"):
                if old.name != name:
                    old.unlink()
        except OSError as error:
            raise self._unwritable(error) from None

    def load(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[list[Epoch], dict[str, Tensor]] | None:
        """Put the checkpoint into a module and its optimiser.

        Returns:
            The history and the best weights, or None if there is no checkpoint.

        Raises:
            InputError: it cannot be read, or is another training's.
        """
        try:
            record: Any = json.loads((self.folder / _RECORD).read_bytes())
            if record["format"] != _FORMAT or record["training"] != self.fingerprint:
                raise InputError(
                    f"checkpoints {self.folder}: of a training with other data, settings or versions;"
                    " name another folder, or delete this one"
                )
            content = (self.folder / Path(record["tensors"]).name).read_bytes()
            if hashlib.sha256(content).hexdigest() != record["sha256"]:
                raise ValueError(f"{record['tensors']} has changed since it was written")
            names = {field.name for field in fields(Epoch)}
            history = [Epoch(**{name: epoch[name] for name in names}) for epoch in record["history"]]
            return history, _restore(module, optimizer, unpacked(content))
        except InputError:
            raise
        except FileNotFoundError as error:
            if not (self.folder / _RECORD).exists():
                return None
            raise self._damaged(error) from None
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise self._damaged(error) from None

    def _unwritable(self, error: Exception) -> InputError:
        return InputError(f"checkpoints {self.folder}: cannot be written ({error}); name another folder")

    def _damaged(self, error: Exception) -> InputError:
        return InputError(f"checkpoints {self.folder}: damaged ({error}); delete the folder to train from the start")


def _restore(module: nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Put the tensors of a checkpoint where they belong; return those of the best weights."""
    parts: dict[str, dict[str, Tensor]] = {"module": {}, "best": {}, "optimizer": {}}
    for name, tensor in tensors.items():
        part, _, rest = name.partition("/")
        parts[part][rest] = tensor
    load_weights(module, parts["module"])
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in parts["optimizer"].items():
        number, _, key = name.partition("/")
        state.setdefault(int(number), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return parts["best"]
