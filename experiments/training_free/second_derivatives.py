"""What the faster second derivatives of batch norm and convolution are worth for the zero-cost proxies.

``python -m experiments.training_free.second_derivatives [--cells 6]``
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from freerea_patch import TopologySpace
from freerea_patch.training_free.quick import keep_memory
from freerea_seval.proxies import PROXIES, gradient_passes
from freerea_seval.proxies.compute import zero_cost_proxies
from freerea_seval.proxies.live import draw_weights


COMPLETE = gradient_passes._quick


def variant(convolutions: bool, norms: bool) -> Callable[..., Any]:
    """Return the function that chooses a module's forward, without the faster ones that are switched off."""

    def quick(module: nn.Module, asked: Any, again: bool) -> Any:
        plain = (nn.BatchNorm2d,) * (not norms) + (nn.Conv2d,) * (not convolutions)
        return None if again and type(module) in plain else COMPLETE(module, asked, again)

    return quick


def main() -> None:
    """Print seconds of CPU of all thirteen proxies, the better of two runs, and ratios, over random cells."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=6)
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_memory()
    variants = {
        "both": variant(True, True),
        "without convolutions": variant(False, True),
        "without norms": variant(True, False),
        "neither": variant(False, False),
    }
    space, rng = TopologySpace(), random.Random(0)
    images = torch.randn(64, 3, 32, 32).to(memory_format=torch.channels_last)
    seconds = dict.fromkeys(variants, 0.0)
    for _ in range(options.cells):
        network = space.build(space.sample(rng))
        draw_weights(network, 0)
        network = network.to(memory_format=torch.channels_last)
        best = dict.fromkeys(variants, float("inf"))
        for _ in range(2):
            for name, quick in variants.items():
                gradient_passes._quick = quick
                began = time.process_time()
                zero_cost_proxies(network, images, None, PROXIES)
                best[name] = min(best[name], time.process_time() - began)
        for name, value in best.items():
            seconds[name] += value
    for name, value in seconds.items():
        print(f"{name:24} {value:8.2f} s  {value / seconds['both']:.3f}")


if __name__ == "__main__":
    main()
