"""Whether networks that were exported to ONNX read back as what they were.

``python -m experiments.strings.onnx [--networks 60] [--spaces nats-tss nats-sss fbnet] [--exporter ours]``

Random networks of each space are exported, read again, and compared with the traced module: parameters, multiply-adds,
both views, and the predictions of predictors that learned the measured latency of other networks of the space, one from
each view. ``ours`` exports as ``measure export`` does, ``tracing`` and ``export`` are PyTorch's two exporters as they
are. These leave out identities and merge equal operations on equal inputs, so that the executed view of their files may
have fewer operations than that of the module.
"""

from __future__ import annotations

import io
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn

import freerea_seval as fs
from experiments.tables import RowJournal, as_command, experiment_parser, groups, markdown
from freerea_patch import SearchSpace
from freerea_patch.networks import zero_input
from freerea_seval.api.arguments import as_space
from freerea_seval.files import temporary_folder
from freerea_seval.measurement import draw
from freerea_seval.measurement.backends import onnx_bytes
from freerea_seval.strings import VIEWS, OnnxNetwork, Tokenizer, serialize_graph, trace_module, view_of

COLUMNS = (
    *("space", "genotype", "parameters", "macs", "executed", "functional", "tokens", "tokens_of_module"),
    *("read_ms", "trace_ms", "trace_module_ms", "executed_error", "functional_error"),
)
EXPORTERS = ("ours", "tracing", "export")
#: Predictions of a file and its module are equal if they differ by no more than this share.
_EQUAL = 0.01


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare files with modules, and print a table."""
    parser = experiment_parser("strings.onnx", __doc__)
    parser.add_argument("--networks", type=int, default=60, help="number of exported networks of all spaces together")
    parser.add_argument("--spaces", nargs="+", default=["nats-tss", "nats-sss", "fbnet"])
    parser.add_argument("--exporter", choices=EXPORTERS, default="ours")
    parser.add_argument("--train", type=int, default=100, help="networks that a predictor learns from; 0 for none")
    parser.shared("--seed")
    parser.output("runs/strings/onnx")
    options = parser.parse_args(arguments)
    config = {name: getattr(options, name) for name in ("networks", "spaces", "exporter", "train", "seed")}
    journal = RowJournal(options.output, config, COLUMNS)
    each = -(-options.networks // len(options.spaces))
    for name in options.spaces:
        space = as_space(name)
        genotypes = draw(space, each + options.train, options.seed)
        predictors: Mapping[str, fs.Predictor] | None = None
        for _, genotype in journal.missing(("space", "genotype"), [(name, g) for g in genotypes[:each]], name):
            if predictors is None:
                predictors = _trained(name, genotypes[each:]) if options.train else {}
            journal.append(
                {"space": name, "genotype": genotype, **compare(space, genotype, predictors, options.exporter)}
            )
    print(summary(journal.frame()))


def _trained(space: str, genotypes: Sequence[str]) -> dict[str, fs.Predictor]:
    """Return a predictor of latency from each view."""
    table = fs.measure(list(genotypes), space=space, rounds=3, progress=False)
    return {
        view: fs.train(table, "latency_ms", space=space, view=view, model="boosted", progress=False) for view in VIEWS
    }


def export(module: nn.Module, inputs: list[Tensor], path: Path, exporter: str) -> None:
    """Write a module as ONNX by one of :data:`EXPORTERS`."""
    if exporter == "ours":
        path.write_bytes(onnx_bytes(module, inputs))
        return
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(module, tuple(inputs), str(path), dynamo=exporter == "export")


def compare(
    space: SearchSpace, genotype: str, predictors: Mapping[str, fs.Predictor], exporter: str = "ours"
) -> dict[str, object]:
    """Return a row without its first two columns: what is equal, times, and relative errors of predictions."""
    module, inputs = space.build(genotype).eval(), [zero_input(space)]
    with temporary_folder() as folder:
        path = Path(folder) / "network.onnx"
        export(module, inputs, path, exporter)
        start = time.perf_counter()
        network = OnnxNetwork(path)
        read = time.perf_counter()
        graph = trace_module(network, network.example_inputs())
        traced = time.perf_counter()
    expected = trace_module(module, inputs)
    end = time.perf_counter()
    strings = {view: [serialize_graph(view_of(one, view)) for one in (graph, expected)] for view in VIEWS}
    tokenizer = Tokenizer()
    row: dict[str, object] = {
        "parameters": int(graph.parameters == expected.parameters),
        "macs": int(graph.macs == expected.macs),
        **{view: int(ours == theirs) for view, (ours, theirs) in strings.items()},
        "tokens": len(tokenizer.tokens(strings["executed"][0])),
        "tokens_of_module": len(tokenizer.tokens(strings["executed"][1])),
        "read_ms": f"{1e3 * (read - start):.2f}",
        "trace_ms": f"{1e3 * (traced - read):.2f}",
        "trace_module_ms": f"{1e3 * (end - traced):.2f}",
    }
    for view in VIEWS:
        error = ""
        if predictors:
            ours, theirs = predictors[view].predict_strings(strings[view])["latency_ms"]
            error = f"{abs(ours / theirs - 1):.3g}"
        row[f"{view}_error"] = error
    return row


def summary(rows: pd.DataFrame) -> str:
    """Return a table with a line a space."""
    lines = []
    for (name,), some in groups(rows, space=None):
        count = len(some)
        equal = [f"{int(some[column].sum())} / {count}" for column in ("parameters", "macs", "functional", "executed")]
        within = []
        for view in ("functional", "executed"):
            errors = some[f"{view}_error"].dropna()
            shown = f"{int((errors <= _EQUAL).sum())} / {len(errors)} (at most {errors.max():.1%})"
            within.append(shown if len(errors) else "")
        tokens = f"{some['tokens'].median():.0f} ({some['tokens_of_module'].median():.0f})"
        times = f"{(some['read_ms'] + some['trace_ms']).median():.0f} ({some['trace_module_ms'].median():.0f})"
        lines.append([name, *equal, *within, tokens, times])
    header = [
        *("space", "equal parameters", "equal multiply-adds", "equal functional view", "equal executed view"),
        *("predictions from it within 1 %, functional", "executed"),
        *("tokens (of the module)", "ms (of the module)"),
    ]
    return markdown(header, lines)


if __name__ == "__main__":
    as_command(main)
