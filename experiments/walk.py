"""How many modules run between a config and a front, and between a module and its prediction.

``python -m experiments.walk``
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).parent.parent
PACKAGES = ("freerea_patch", "freerea_seval")
CONFIG = """
search: {algorithm: freerea, population: 5, tournament: 2}
budget: {evaluations: 8}
live: {batch_size: 4, initialisations: 1, cache: off}
objectives:
  - {metric: naswot, source: training-free, role: fitness}
  - {metric: skip, source: training-free, role: fitness}
"""


class Walk:
    """The modules that calls enter, in order, and the number of calls from one package into the other."""

    def __init__(self) -> None:
        self.modules: list[str] = []
        self.crossings = 0

    @contextlib.contextmanager
    def recorded(self) -> Iterator[None]:
        """Record every call of a function; what runs while a module is imported does not count."""
        sys.setprofile(self._call)
        try:
            yield
        finally:
            sys.setprofile(None)

    def _call(self, frame: FrameType, event: str, argument: Any) -> None:
        module = _module(frame)
        if event != "call" or module is None or frame.f_code.co_name == "<module>":
            return
        if module not in self.modules:
            self.modules.append(module)
        caller = frame.f_back
        while caller is not None and _module(caller) is None:
            caller = caller.f_back
        if caller is not None and caller.f_code.co_name != "<module>":
            self.crossings += str(_module(caller)).split(os.sep)[0] != module.split(os.sep)[0]


def _module(frame: FrameType) -> str | None:
    """Return the file of a frame below the root, None if it is not of the two packages."""
    name = os.path.relpath(frame.f_code.co_filename, ROOT)
    return name if name.split(os.sep)[0] in PACKAGES else None


def search() -> None:
    """Search eight networks from a YAML file to a front."""
    import freerea_seval as fs

    Path("walk.yaml").write_text(CONFIG)
    fs.search("walk.yaml", tempfile.mkdtemp(dir="."), progress=False)


def prepare() -> None:
    """Train the predictor that :func:`prediction` loads, and build the module that it encodes."""
    import freerea_seval as fs

    genotypes = fs.TopologySpace().genotypes()[:300:5]
    rows = "".join(f"{genotype},{1 + genotype.count('conv')}\n" for genotype in genotypes)
    Path("table.csv").write_text(f"genotype,latency_ms\n{rows}")
    fs.train("table.csv", "latency_ms", model="boosted").save(Path("predictor"))


def prediction() -> None:
    """Predict the latency of a module: encode it, load a predictor, predict."""
    import torch

    import freerea_seval as fs

    space = fs.TopologySpace()
    string = fs.encode(space.build(space.genotypes()[7]), [torch.zeros(1, *space.input_shape)])
    fs.load_predictor("predictor").predict_strings([string])


def main(arguments: Sequence[str] | None = None) -> None:
    """Print both walks."""
    argparse.ArgumentParser(prog="python -m experiments.walk", description=__doc__).parse_args(arguments)
    walks: list[tuple[str, Callable[[], None]]] = [("YAML to front", search), ("module to prediction", prediction)]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        prepare()
        for title, steps in walks:
            walk = Walk()
            steps()  # a first time without recording, as classes and functions are made while modules are imported
            with contextlib.redirect_stdout(io.StringIO()), walk.recorded():
                steps()
            print(f"{title}: {len(walk.modules)} modules, {walk.crossings} calls between the packages")
            for number, module in enumerate(walk.modules, start=1):
                print(f"{number:>4}  {module}")
        os.chdir(ROOT)  # a folder in use cannot be removed on every system


if __name__ == "__main__":
    main()
