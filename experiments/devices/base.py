"""The base predictor of ``calibrate`` that comes with the package: measured on this machine, and trained.

Run it on an idle machine with two cores: ``python -m experiments.devices.base [-o runs/base]``

The latency of the same random cells of NATS-Bench is measured in some settings, and a Gaussian process learns them.
``python -m experiments.predictors.calibration --ways shipped planned-shipped alone`` shows what it is worth on other
devices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

import freerea_seval as fs
from experiments.tables import as_command, experiment_parser
from freerea_seval.predictor.transfer import SHIPPED

SPACE = "nats-tss"
#: Arguments of :func:`freerea_seval.measure` by setting.
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "eager_2_threads": {"backend": "eager", "threads": 2, "batch_size": 1},
    "eager_8_images": {"backend": "eager", "threads": 1, "batch_size": 8},
    "onnx_1_thread": {"backend": "onnx", "threads": 1, "batch_size": 1},
}
MEASUREMENTS = "measurements.csv"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what has not been measured, train, and write the predictor with its measurements into the package."""
    parser = experiment_parser("devices.base", __doc__)
    parser.add_argument("--cells", type=int, default=200)
    parser.shared("--rounds", default=5)
    parser.shared("--seed", default=7)
    parser.add_argument("--package", type=Path, default=SHIPPED, help="folder to write (default: the package's)")
    parser.output("runs/base", "measurements of each setting")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    columns = []
    for name, setting in SETTINGS.items():
        table = fs.measure(
            space=SPACE,
            count=options.cells,
            rounds=options.rounds,
            seed=options.seed,
            output=options.output / f"{name}.csv",
            **setting,
        )
        columns.append(table.set_index("genotype")["latency_ms"].rename(f"{name}_ms"))
    measurements = pd.concat(columns, axis=1, join="inner").dropna().reset_index()
    predictor = fs.train(measurements, [str(column.name) for column in columns], model="gp", scale="log", space=SPACE)
    (options.package / MEASUREMENTS).unlink(missing_ok=True)
    predictor.save(options.package, overwrite=True)
    measurements.to_csv(options.package / MEASUREMENTS, index=False, float_format="%.5g", lineterminator="\n")
    print((options.package / "README.md").read_text())


if __name__ == "__main__":
    as_command(main)
