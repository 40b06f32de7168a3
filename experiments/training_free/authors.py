"""Whether our AZ-NAS, VKDNW, SWAP, ZiCo and MeCo equal their authors' code, and what both cost.

Both compute one random cell after the other: the same networks, weights, images, noise and signs, on a CPU with one
thread. The authors' functions run unmodified from clones of their code; each clone may be left out.

``python -m experiments.training_free.authors --az-nas AZ-NAS --vkdnw VKDNW --swap SWAP --zico ZiCo
--meco MeCo``
"""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from random import Random
from types import ModuleType
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np

from experiments.tables import as_command, experiment_parser, markdown
from freerea_patch import InputError, TopologySpace
from freerea_seval.predictor.scores import spearman
from freerea_seval.progress import terminal_progress

if TYPE_CHECKING:
    from torch import Tensor, nn

#: Values by metric.
Values = Mapping[str, float]
#: Computes the metrics of a network, given images and labels.
Theirs = Callable[["nn.Module", "Tensor", "Tensor", int], Values]
#: VKDNW with the factor of the covariance that the paper has: see :func:`vkdnw`.
CORRECTED = "vkdnw, corrected"
#: The clones, and the metrics that each computes.
METRICS = {
    "az_nas": ("expressivity", "progressivity", "trainability"),
    "vkdnw": ("vkdnw", CORRECTED, "vkdnw_dim"),
    "swap": ("swap",),
    "zico": ("zico",),
    "meco": ("meco",),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Compute the metrics of random cells in turn, and print how they agree and what they cost."""
    parser = experiment_parser("training_free.authors", __doc__)
    for name in METRICS:
        parser.add_argument(f"--{name.replace('_', '-')}", type=Path, metavar="CHECKOUT", help="clone of its code")
    parser.add_argument("--networks", type=int, default=20, help="number of cells")
    parser.shared("--batch-size", "--seed")
    options = parser.parse_args(arguments)
    checkouts = {name: getattr(options, name) for name in METRICS if getattr(options, name) is not None}
    if not checkouts:
        raise InputError(f"expected a clone of at least one of the codes: --{', --'.join(METRICS)}".replace("_", "-"))
    import torch

    torch.set_num_threads(1)
    theirs = {name: CODES[name](checkout) for name, checkout in checkouts.items()}
    print(summary(compare(theirs, options.networks, options.batch_size, options.seed)))


def compare(
    codes: Mapping[str, Theirs], networks: int, batch_size: int, seed: int
) -> dict[str, list[tuple[float, float, float, float]]]:
    """Return our value and theirs, our seconds and theirs, of every network by metric.

    The seconds of theirs are split evenly between the metrics that one call computes.
    """
    import torch

    from freerea_seval.proxies.compute import zero_cost_proxies
    from freerea_seval.proxies.live import draw_weights

    random, generator = Random(seed), torch.Generator().manual_seed(seed)
    space = TopologySpace()
    images = torch.randn(batch_size, *space.input_shape, generator=generator)
    labels = torch.randint(10, (batch_size,), generator=generator)
    rows: dict[str, list[tuple[float, float, float, float]]] = {name: [] for code in codes for name in METRICS[code]}
    with terminal_progress().task(f"{networks} networks") as show:
        for count in range(networks + 1):
            genotype = space.sample(random)
            show(count / (networks + 1), genotype)
            network = space.build(genotype)
            draw_weights(network, seed)
            for code, compute in codes.items():
                names = {label: label.partition(",")[0] for label in METRICS[code]}
                ours = zero_cost_proxies(network, images, labels, [*names.values()], seed=seed)
                twin = copy.deepcopy(network)
                began = time.perf_counter()
                values = compute(twin, images, labels, seed)
                seconds = (time.perf_counter() - began) / len(values)
                if count:  # the first network pays for kernels that are chosen once
                    for label, value in values.items():
                        measured = ours[names[label]]
                        rows[label].append((measured.value, value, measured.seconds, seconds))
    return rows


def summary(rows: Mapping[str, Sequence[tuple[float, float, float, float]]]) -> str:
    """Return a Markdown table, a line a metric; differences are those of finite values."""
    lines = []
    for name, values in rows.items():
        ours, theirs, our_s, their_s = np.array(values).T
        finite = np.isfinite(ours) & np.isfinite(theirs)
        infinite = f"{(~np.isfinite(ours)).sum()} / {(~np.isfinite(theirs)).sum()}"
        differences = np.abs(ours[finite] - theirs[finite]) / np.maximum(np.abs(theirs[finite]), 1e-12)
        seconds = [f"{our_s.mean():.3f}", f"{their_s.mean():.3f}", f"{their_s.mean() / our_s.mean():.1f}"]
        agreement = (
            f"{differences.max(initial=0):.1e}",
            f"{np.median(differences):.1e}",
            f"{spearman(ours, theirs):.4f}",
        )
        lines.append([name, len(values), infinite, *agreement, *seconds])
    header = ["metric", "cells", "not finite: ours / theirs", "largest relative difference", "median", "Spearman"]
    header += ["s: ours", "s: theirs", "ratio"]
    return markdown(header, lines)


def load(checkout: Path, file: str, absent: Sequence[str] = ()) -> Any:
    """Return a module of a clone; what it imports from the clone is removed from ``sys.modules`` again.

    Args:
        checkout: the clone.
        file: the module's path in it.
        absent: modules that it imports and does not use for its metric, with stand-ins instead.

    Raises:
        InputError: there is no such file.
    """
    path = checkout.resolve() / file
    if not path.is_file():
        raise InputError(f"{checkout} is not a clone of the authors' code: it has no {file}")
    package = [str(path.parent)] if path.stem == "__init__" else None
    spec = spec_from_file_location("published_metric", path, submodule_search_locations=package)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    before, folders, writes = dict(sys.modules), list(sys.path), sys.dont_write_bytecode
    try:
        sys.dont_write_bytecode = True
        sys.path.insert(0, str(checkout.resolve()))
        sys.modules |= {name: _StandIn(name) for name in absent} | {spec.name: module}
        spec.loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = writes
        sys.path[:] = folders
        for name, imported in list(sys.modules.items()):
            if isinstance(imported, _StandIn) or str(getattr(imported, "__file__", "")).startswith(
                f"{checkout.resolve()}/"
            ):
                del sys.modules[name]
        sys.modules |= {name: before[name] for name in absent if name in before}
    return module


class _StandIn(ModuleType):
    """A module with any name in it."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


@contextmanager
def on_cpu() -> Iterator[None]:
    """Let ``.cuda()`` do nothing, which the authors' code calls without asking."""
    import torch

    with (
        patch.object(torch.Tensor, "cuda", lambda tensor, *args, **kwargs: tensor),
        patch.object(torch.nn.Module, "cuda", lambda module, *args, **kwargs: module),
    ):
        yield


def cell_network(network: nn.Module) -> Any:
    """Return a network with the features and the outputs of the authors' networks (``custom/tss_model.py``)."""
    from torch import nn

    class CellNetwork(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = network

        def extract_cell_features(self, x: Tensor) -> list[Tensor]:
            features = [x]
            for layer in list(self.layers.children())[:-1]:
                features.append(layer(features[-1]))
            return features[1:]

        def forward(self, x: Tensor) -> tuple[None, Tensor]:
            return None, self.layers(x)

    return CellNetwork()


def az_nas(checkout: Path) -> Theirs:
    """Return AZ-NAS as its code computes it."""
    module = load(checkout, "NB201/ZeroShotProxy/compute_az_nas_score.py")
    return lambda *arguments: _scores(module, *arguments)


def vkdnw(checkout: Path) -> Theirs:
    """Return VKDNW as its code computes it, and with two corrections, as the paper defines it.

    The code is called for one weight of each tensor; by default it takes none, and fails. It multiplies the Jacobian by
    the factor L of the softmax's covariance ``L L^T`` instead of its transpose, and rounds a share to half precision.
    """
    import torch

    module = load(checkout, "NB201/ZeroShotProxy/compute_vkdnw_score.py", ["functorch"])
    flatten = torch.Tensor.flatten

    def compute(*arguments: Any) -> Values:
        # It writes into a flattened weight, which today's torch refuses within jacrev unless that is a copy.
        with patch.object(torch.Tensor, "flatten", lambda *given, **axes: flatten(*given, **axes).clone()):
            values = _scores(module, *arguments, p=1)
            factor = module.cholesky_covariance
            with (
                patch.object(module, "cholesky_covariance", lambda logits: factor(logits).mT),
                patch.object(torch, "float16", torch.float32),
            ):
                corrected = _scores(module, *arguments, p=1)["vkdnw_entropy"]
        return {"vkdnw": values["vkdnw_entropy"], CORRECTED: corrected, "vkdnw_dim": values["vkdnw_dim"]}

    return compute


def _scores(module: Any, network: nn.Module, images: Tensor, labels: Tensor, seed: int, **options: object) -> Values:
    import torch

    size = {"resolution": images.shape[-1], "batch_size": len(images)}
    with torch.random.fork_rng(devices=[]), on_cpu():
        torch.manual_seed(seed)
        values: Values = module.compute_nas_score(cell_network(network), None, None, **size, **options)
    return values


def swap(checkout: Path) -> Theirs:
    """Return SWAP as its code computes it, without the factor of the parameters."""
    module = load(checkout, "src/metrics/swap.py")

    def compute(network: nn.Module, images: Tensor, labels: Tensor, seed: int) -> Values:
        return {"swap": float(module.SWAP(model=network, inputs=images, device="cpu").forward())}

    return compute


def zico(checkout: Path) -> Theirs:
    """Return ZiCo as its code computes it, of the halves of the batch."""
    module = load(checkout, "ZeroShotProxy/compute_zico.py", ["global_utils", "ModelLoader"])

    def compute(network: nn.Module, images: Tensor, labels: Tensor, seed: int) -> Values:
        from torch.nn.functional import cross_entropy

        halves = list(zip(images.chunk(2), labels.chunk(2), strict=True))
        with on_cpu():
            return {"zico": float(module.getzico(network, halves, cross_entropy))}

    return compute


def meco(checkout: Path) -> Theirs:
    """Return MeCo as its code computes it, of noise with the images' size instead of 64x64 pixels."""
    module = load(checkout, "correlation/foresight/pruners/measures/__init__.py")

    def compute(network: nn.Module, images: Tensor, labels: Tensor, seed: int) -> Values:
        import torch

        noise = torch.randn(1, *images.shape[1:], generator=torch.Generator().manual_seed(seed))
        with patch.object(torch, "randn", lambda size: noise), torch.no_grad():
            return {"meco": float(module.meco.compute_meco(network, images, labels))}

    return compute


CODES: Mapping[str, Callable[[Path], Theirs]] = {
    "az_nas": az_nas,
    "vkdnw": vkdnw,
    "swap": swap,
    "zico": zico,
    "meco": meco,
}

if __name__ == "__main__":
    as_command(main)
