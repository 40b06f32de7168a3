"""The search of vision transformers for the latency of this machine, of ``experiments/configs/vit_latency.yaml``.

``python -m experiments.transformers.vit_latency -o runs/vit_latency`` searches, unless the folder holds the run, and
draws the front into its ``vit.png``.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import freerea_seval as fs
from experiments.tables import as_command, experiment_parser
from freerea_seval.api.runs import Run

CONFIG = Path(__file__).parents[1] / "configs" / "vit_latency.yaml"


def main(arguments: Sequence[str] | None = None) -> None:
    """Search, draw the front, and print how it was found."""
    parser = experiment_parser("transformers.vit_latency", __doc__)
    parser.output("runs/vit_latency", "the run")
    parser.add_argument("--config", type=Path, default=CONFIG, help="another search (default: vit_latency.yaml)")
    options = parser.parse_args(arguments)
    began = time.perf_counter()
    run = fs.load_run(options.output) if options.output.exists() else fs.search(options.config, options.output)
    print(f"{(time.perf_counter() - began) / 60:.1f} minutes")
    draw(run, options.output / "vit.png")
    print(f"{options.output / 'vit.png'}: {run.pick_reason}")


def draw(run: Run, path: Path) -> None:
    """Draw all networks and the front of a run."""
    from matplotlib import pyplot

    figure, ax = pyplot.subplots(figsize=(7, 4.2), layout="constrained")
    run.plot_front(ax=ax)
    ax.set_title("")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


if __name__ == "__main__":
    as_command(main)
