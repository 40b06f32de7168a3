"""Small searches for the tests of runs: real loop, values from a function of the genotype."""

from __future__ import annotations

import sys
from pathlib import Path

METRICS = """
import time, zlib
DELAY_S = {delay}

def worth(genotype):
    time.sleep(DELAY_S)
    return (zlib.crc32(genotype.encode()) % 9973) / 7

def cost(genotype):
    return float(genotype.count("nor_conv_3x3")) + (zlib.crc32(genotype[::-1].encode()) % 97) / 97
"""

CONFIG = """
space: nats-tss
search: {{algorithm: {algorithm}, {options}seeds: {seeds}}}
budget: {{{budget}}}
objectives:
  - {{metric: worth, source: {{python: {module}:worth}}, direction: max}}
  - {{metric: cost, source: {{python: {module}:cost}}, direction: min, role: pareto, unit: mJ}}
report:
  - {{metric: again, source: {{python: {module}:cost}}, unit: mJ}}
"""


def write_search(
    folder: Path,
    *,
    delay: float = 0.0,
    seeds: str = "[3]",
    budget: str = "evaluations: 60",
    algorithm: str = "freerea",
    options: str = "population: 12, tournament: 4, ",
) -> Path:
    """Write a config and its metrics; the module's name is the folder's, so that tests do not share one."""
    module = f"metrics_{folder.name}".replace("-", "_")
    sys.modules.pop(module, None)
    (folder / f"{module}.py").write_text(METRICS.format(delay=delay))
    path = folder / "search.yaml"
    path.write_text(CONFIG.format(module=module, seeds=seeds, budget=budget, algorithm=algorithm, options=options))
    return path
