"""A metric of one's own, for ``python_metric.yaml``."""

from __future__ import annotations

import torch
from torch import nn


def peak_activation(network: nn.Module) -> float:
    """Return the kilobytes of the largest activation that one CIFAR image leaves in the network.

    A parameter named ``network`` receives the built module; one of any other name, the genotype.
    """
    sizes: list[int] = []
    hooks = [
        module.register_forward_hook(lambda module, args, output: sizes.append(output.numel() * output.element_size()))
        for module in network.modules()
    ]
    with torch.inference_mode():
        network.eval()(torch.zeros(1, 3, 32, 32))
    for hook in hooks:
        hook.remove()
    return max(sizes) / 1024
