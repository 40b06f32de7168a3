"""An example search and the picture of its front, as the documentation shows them.

``python -m experiments.search.picture experiments/configs/vit_latency.yaml -o runs/vit_latency`` searches, unless the
folder holds the run, and draws the front into its ``picture.png``.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import freerea_seval as fs
from experiments.tables import as_command, experiment_parser
from freerea_seval.api.runs import Run


def main(arguments: Sequence[str] | None = None) -> None:
    """Search, draw the front, and print the report."""
    parser = experiment_parser("search.picture", __doc__)
    parser.add_argument("config", type=Path, help="config of a search")
    parser.output("runs/picture", "the run")
    options = parser.parse_args(arguments)
    if options.output.exists():
        run = fs.load_run(options.output)
    else:
        began, used = time.perf_counter(), time.process_time()
        run = fs.search(options.config, options.output)
        minutes = [(clock() - start) / 60 for clock, start in ((time.perf_counter, began), (time.process_time, used))]
        print("{:.1f} minutes, {:.1f} of this process".format(*minutes))
    picture = options.output / "picture.png"
    draw(run, picture)
    print(f"{run.report()}{picture}: {run.pick_reason}")


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
