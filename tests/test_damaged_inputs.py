"""A million damaged inputs: an answer, or an InputError of one line, each within ten seconds and two gigabytes.

``python -m tests.test_damaged_inputs SEED FACTOR [READER ...]`` runs the readers in one process: a damaged input may
crash or stop the interpreter. Input ``i`` of a reader depends on the seed and ``i`` alone; the last line of the output
is a JSON object of counts.
"""

from __future__ import annotations

import bz2
import copy
import hashlib
import io
import json
import os
import pickle
import re
import resource
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from freerea_patch import InputError, Measured, MetricCache, SizeSpace, TopologySpace
from freerea_patch.training_free import load_batch
from freerea_seval.api.runs import load_run, parse_seeds, search
from freerea_seval.config.schema import check_config, dump_config, load_config
from freerea_seval.measurement import parse_seconds
from freerea_seval.measurement.networks import read_genotypes
from freerea_seval.measurement.remote import import_results
from freerea_seval.measurement.run import VisitJournal
from freerea_seval.measurement.timing import Timing, summaries
from freerea_seval.predictor import folder as predictor_folder
from freerea_seval.predictor.features.segment_features import count_parts
from freerea_seval.sources.table import Table
from freerea_seval.strings.text.parse import parse_graph
from freerea_seval.strings.text.serialize import serialize_graph
from freerea_seval.unpickle import PlainValue, load_pickle, load_weights
from tests.freerea_seval.strings.text.test_fuzzing import BITS as WORDS
from tests.freerea_seval.strings.text.test_fuzzing import STRINGS, mutant

MOST_SECONDS, MOST_MEGABYTES = 10, 2000  # of CPU time
#: An input that waits for something is given up after this time; a process on a busy machine gets a part of it.
MOST_WALL_SECONDS = 300
CELLS = TopologySpace().genotypes()[:5]
#: What a place in a tree of values is replaced by.
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2**31, 2**63, 2**64, 10**20, -(10**400), 0.5, -0.0, 1e308, -1e308, 5e-324),
    *(
        float("nan"),
        float("inf"),
        "",
        " ",
        "x",
        "0",
        "-1",
        "1e999",
        "\0",
        "\ud800",
        "\x1b[2J",
        "=1+1",
        "a\nb",
        "é",
        "²",
    ),
    *("x" * 5000, "../..", "/dev/zero", "nan", "None", "a:b", "~", "|", [], {}, [[]], [None], {"": 0}, [1] * 300),
)
#: What is inserted into texts and bytes.
BITS = (
    *(
        b"\0",
        b"\xff",
        b"\n",
        b"\r",
        b'"',
        b"'",
        b",",
        b":",
        b"{",
        b"}",
        b"[",
        b"]",
        b"&a ",
        b"*a",
        b"<<: *a",
        b"!!int ''",
    ),
    *(
        b"!!timestamp x",
        b"!!python/object:x",
        b"- ",
        b"? ",
        b"# ",
        b"|",
        b">",
        b"%",
        b"\xef\xbb\xbf",
        b"9" * 50,
        b"0x",
        b"1e9",
    ),
    *(
        b"\\ud800",
        b"\xed\xa0\x80",
        b"nan",
        b"-",
        b"=1+1",
        b"{" * 500,
        b"[" * 500,
        b"(" * 500,
        b"\x85" * 500,
        b".",
        b"1:10:10",
    ),
    *(
        b"\x94",
        b"h\x00",
        b"(",
        b"t",
        b"R",
        b"b",
        b"s",
        b"u",
        b"\x81",
        b"\x8f",
        b"\x90",
        b"}",
        b"cos\nsystem\n",
        b"2",
        b"0",
        b"]",
    ),
)


def damaged(data: bytes, random: Random) -> bytes:
    """Return bytes with some of them changed, deleted, doubled, moved or inserted."""
    for _ in range(random.choice((1, 1, 1, 1, 2, 5))):
        first, last = sorted(random.randrange(len(data) + 1) for _ in range(2))
        last = min(last, first + random.choice((1, 1, 2, 8, 100)))
        how = random.randrange(7)
        if how == 0 and first < len(data):
            data = data[:first] + bytes([data[first] ^ 1 << random.randrange(8)]) + data[first + 1 :]
        elif how == 1:
            data = data[:first] + data[last:]
        elif how == 2:
            data = data[:last] + data[first:last] * random.choice((1, 2, 50)) + data[last:]
        elif how == 3:
            place = random.randrange(len(data) + 1)
            data = data[:place] + data[first:last] + data[place:]
        elif how == 4:
            data = random.choice((data[:first], data[first:]))
        else:
            data = data[:first] + random.choice(BITS) + data[first:]
    return data


def changed(tree: Any, random: Random) -> Any:
    """Return a copy of a tree of JSON values with one value or more replaced, deleted, doubled or wrapped."""
    tree = json.loads(json.dumps(tree))
    for _ in range(random.choice((1, 1, 1, 2, 5))):
        places = list(_places(tree))
        if not places:
            return copy.deepcopy(random.choice(ODD))
        parent, key = random.choice(places)
        how = random.randrange(8)
        if how == 0:
            del parent[key]
        elif how == 1:
            other, other_key = random.choice(places)
            parent[key] = json.loads(json.dumps(other[other_key])) if other_key in _keys(other) else None
        elif how == 2:
            parent[key] = random.choice(([parent[key]], {"x": parent[key]}, [parent[key]] * 3))
        elif how == 3 and isinstance(parent, dict):
            parent[random.choice(("x", "", "\0", str(key) + "x", "\ud800"))] = parent.pop(key)
        elif how == 4 and type(parent[key]) in (int, float) and abs(parent[key]) < 1e300:
            parent[key] = random.choice((-parent[key], parent[key] + 1, parent[key] * 1000, float(parent[key])))
        else:
            parent[key] = copy.deepcopy(random.choice(ODD))
    return tree


def _keys(node: Any) -> Any:
    return node.keys() if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    for key in _keys(tree):
        yield tree, key
        yield from _places(tree[key])


def text(tree: Any) -> bytes:
    """Return a tree as JSON, which is also YAML; a number of many digits is one that JSON reads as text."""
    return json.dumps(tree).encode()


def either(tree: Any, random: Random, render: Callable[[Any], bytes] = text) -> bytes:
    """Return a tree with changed values, or its text with changed characters, or both."""
    how = random.randrange(3)
    data = render(changed(tree, random) if how else tree)
    return data if how == 1 else damaged(data, random)


#: Reads one damaged input, which it makes with the generator.
Reader = Callable[[Random], object]

CONFIG: dict[str, Any] = {
    "space": {"name": "nats-tss", "dataset": "cifar10", "only": "a.csv"},
    "search": {"algorithm": "freerea", "population": 10, "tournament": 5, "seeds": [0, 1]},
    "budget": {"evaluations": 20, "metric_seconds": 10.5, "patience": 50},
    "live": {"batch": "random", "batch_size": 8, "initialisations": 1, "threads": 2, "cache": "off"},
    "objectives": [
        {"metric": "naswot", "source": "training-free", "role": "fitness", "weight": 2.0},
        {"metric": "params", "source": "cost", "role": "constraint", "max": 0.8, "min": 0.1, "confidence": 0.9},
        {"metric": "b", "source": {"table": {"path": "b.csv", "key": "x"}}, "role": "pareto", "direction": "min"},
    ],
    "report": [{"metric": "latency", "source": "device", "name": "measured", "unit": "ms"}],
}


def config(folder: Path) -> Reader:
    import yaml

    block = yaml.safe_dump(CONFIG).encode()
    path = folder / "config.yaml"

    def read(random: Random) -> object:
        data = damaged(block, random) if random.randrange(2) else either(CONFIG, random)
        path.write_bytes(data)
        checked = load_config(path)
        path.write_text(dump_config(checked))
        return load_config(path)

    return read


def arguments(folder: Path) -> Reader:
    """The texts that the command line reads: overrides, seeds, times."""
    overrides = (
        "budget.evaluations=50",
        "objectives.0.max=12",
        "search.seeds=[1, 2]",
        "space.name=nats-sss",
        "live={}",
    )
    readers: tuple[tuple[Callable[[str], object], tuple[str, ...]], ...] = (
        (lambda value: check_config(json.loads(json.dumps(CONFIG)), "config", [value]), overrides),
        (parse_seeds, ("0,1,2", "0-29", "3", "1, 4-5")),
        (parse_seconds, ("60s", "5m", "1.5h", "60")),
    )

    def read(random: Random) -> object:
        reader, valid = random.choice(readers)
        return reader(damaged(random.choice(valid).encode(), random).decode(errors="surrogateescape"))

    return read


def table(folder: Path) -> Reader:
    rows = [
        "genotype,latency_ms,energy (mJ),latency_ms_seconds",
        *(f'{c},{i}.5,"{i}",0.1' for i, c in enumerate(CELLS)),
    ]
    data = ("\ufeff" + "\r\n".join(rows)).encode()
    path, space = folder / "table.csv", TopologySpace()

    def read(random: Random) -> object:
        path.write_bytes(
            damaged(random.choice((data, data.replace(b"genotype", b"index"), b"index,x\n0,1\n1,\n")), random)
        )
        opened = Table(path, space)
        return [opened.column(name) for name in opened.columns]

    return read


def genotype(folder: Path) -> Reader:
    """Genotypes, also such as are no texts, and files of genotypes."""
    spaces = (TopologySpace(), SizeSpace())
    path = folder / "genotypes.txt"

    def read(random: Random) -> object:
        space = random.choice(spaces)
        valid = space.sample(random)
        if not random.randrange(4):
            path.write_bytes(damaged("\n".join(["genotype", valid, valid]).encode(), random))
            return read_genotypes(path, space)
        data = damaged(valid.encode(), random)
        text = data.decode(errors="surrogateescape")
        value: Any = random.choice((valid, text, text, text, data, random.choice(ODD), (data,), {valid}))
        space.check(value)
        return space.mutate(value, random)

    return read


def pickled(folder: Path) -> Reader:
    metric = {"edgegpu_latency": [1.5, 2.5, np.float64(3.5)], "config": [{"arch_str": c, "n": (1, 2)} for c in CELLS]}
    value = {"nasbench201": {"cifar10": metric}, 7: [{1, 2}, frozenset((3,)), True, None, b"bytes", 2**40, -1]}
    valid = [pickle.dumps(value, protocol) for protocol in range(6)]
    valid.append(b"\x80\x03cpublisher.data\nValue\n)\x81}X\x01\x00\x00\x00aG\x40\x00\x00\x00\x00\x00\x00\x00sb.")
    path = folder / "values.pickle"

    def read(random: Random) -> object:
        data = damaged(random.choice(valid), random)
        data += b"." if random.randrange(2) else b""
        path.write_bytes(damaged(bz2.compress(data), random) if not random.randrange(20) else data)
        return load_pickle(path, {("publisher.data", "Value"): PlainValue}, "some table")

    return read


def weights(folder: Path) -> Reader:
    """Files of torch with one tensor of two rows and three columns."""
    pickled_state = (
        b"\x80\x02ccollections\nOrderedDict\n)R(X\x01\0\0\0wctorch._utils\n_rebuild_tensor_v2\n"
        b"((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x06tQ"
        b"K\0K\x02K\x03\x86K\x03K\x01\x86\x89ccollections\nOrderedDict\n)RtRu."
    )
    members = {"w/data.pkl": pickled_state, "w/data/0": np.arange(6, dtype="<f4").tobytes()}
    path = folder / "weights.pth"

    def read(random: Random) -> object:
        how = random.randrange(4)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED if how else zipfile.ZIP_DEFLATED) as archive:
            for name, data in members.items():
                archive.writestr(name, damaged(data, random) if how == 1 or (how == 2 and "pkl" in name) else data)
        if how == 3:
            path.write_bytes(damaged(path.read_bytes(), random))
        return load_weights(path, {"w": (2, 3)}, "some network")

    return read


def images(folder: Path) -> Reader:
    path = folder / "batch.npz"
    headers: dict[str, Any] = {"descr": "<f8", "fortran_order": False, "shape": [4, 3, 2, 2]}

    def read(random: Random) -> object:
        member = io.BytesIO()
        np.save(member, np.arange(48.0).reshape(4, 3, 2, 2))
        content = member.getvalue()
        if random.randrange(2):
            header = repr({**headers, "shape": tuple(random.choice((0, 2, 3, 4, -1, 10**9, 10**30)) for _ in range(4))})
            content = b"\x93NUMPY\x01\x00" + (len(header)).to_bytes(2, "little") + header.encode() + content[128:]
        if random.randrange(2):
            content = damaged(content, random)
        with zipfile.ZipFile(path, "w", random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
            archive.writestr("images.npy", content)
        if random.randrange(2):
            path.write_bytes(damaged(path.read_bytes(), random))
        return load_batch(str(path), size=3, input_shape=(3, 2, 2))

    return read


def string(folder: Path) -> Reader:
    """Network strings, which also come back from what they are read as, and their features."""

    def read(random: Random) -> object:
        bits = [random.choice(WORDS) for _ in range(random.randrange(1, 12))]
        try:
            graph = parse_graph(mutant(random.choice(STRINGS), random) if random.randrange(5) else " ".join(bits))
        except InputError as error:
            if re.match(r"(word|operation) \d+ of a network string, |a network string ", str(error)) is None:
                raise AssertionError(f"{error} does not say where") from error
            raise
        written = serialize_graph(graph)
        assert parse_graph(written) == graph
        assert min(graph.parameters, graph.macs) >= 0
        return count_parts(written) if len(graph) < 2000 else written

    return read


def imported(folder: Path) -> Reader:
    manifest = {
        **{
            "format": 1,
            "column": "genotype",
            "space": "nats-tss/cifar10",
            "input": [[1, 3, 32, 32]],
            "failed": {"f": "x"},
        },
        **{"networks": [{"network": cell, "file": "0.onnx", "id": "0"} for cell in CELLS], "strings": {"f": "x"}},
    }
    rows = ["network,latency_ms,latency_iqr_ms,rounds,machine,reason", *(f"{c},1.5,0.25,11,pi," for c in CELLS[1:])]
    data = "\n".join([*rows, f"{CELLS[0]},,,,pi,cannot run", ""]).encode()
    results, output = folder / "results.csv", folder / "out.csv"

    def read(random: Random) -> object:
        how = random.randrange(3)
        (folder / "manifest.json").write_bytes(either(manifest, random) if how != 0 else text(manifest))
        results.write_bytes(damaged(data, random) if how != 1 else data)
        output.unlink(missing_ok=True)
        return import_results(results, output)

    return read


def cache(folder: Path) -> Reader:
    valid = folder / "valid.sqlite"
    filled = MetricCache(valid)
    filled.put({f"key {number}": Measured(number / 2, 0.5) for number in range(100)})
    filled.close()
    with sqlite3.connect(valid) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    data = valid.read_bytes()

    def read(random: Random) -> object:
        path = folder / "cache.sqlite"
        for ending in ("", "-wal", "-shm", "-journal"):
            path.with_name(path.name + ending).unlink(missing_ok=True)
        path.write_bytes(damaged(data, random))
        opened = MetricCache(path)
        try:
            opened.put({"new": Measured(1.0, 1.0)})
            return [opened.get(f"key {random.randrange(100)}"), opened.get("none")]
        finally:
            opened.close()

    return read


def runs(folder: Path) -> Reader:
    """The files of a run that ``report`` reads."""
    section = {"metric": "number", "source": {"python": "builtins:len"}, "role": "pareto", "direction": "min"}
    settings = {
        "space": "nats-sss",
        "search": {"population": 4, "tournament": 2},
        "budget": {"evaluations": 12},
        "objectives": [
            {"metric": "score", "name": "hash", "source": {"python": "builtins:hash"}, "direction": "max"},
            section,
        ],
    }
    path = search(settings, folder / "run", progress=False).path
    names = ("config.yaml", "run.json", "seed-0/journal.jsonl", "seed-0/result.json")
    files = {name: (path / name).read_bytes() for name in names}

    def read(random: Random) -> object:
        name = random.choice(names)
        data = files[name]
        if name.endswith("jsonl"):
            lines = data.splitlines()
            place = random.randrange(len(lines))
            lines[place] = either(json.loads(lines[place]), random)
            data = b"\n".join([*lines, b""])
        else:
            data = either(json.loads(data), random) if name.endswith("json") else damaged(data, random)
        (path / name).write_bytes(data)
        try:
            run = load_run(path)
            return run.front, run.history, run.report()
        finally:
            (path / name).write_bytes(files[name])

    return read


def visits(folder: Path) -> Reader:
    """The journal of a measurement."""
    about = {"backend": "eager", "device": "cpu", "networks": list(CELLS), "threads": 1}
    path = folder / "out.csv.journal.jsonl"
    journal = VisitJournal(path, about)
    for turn in range(2):
        for number, cell in enumerate(CELLS):
            journal.add(cell, Timing(turn, float(number), 1.5, 0.5))
    journal.add_peak(CELLS[0], 12.5)
    journal.close()
    valid = path.read_bytes().splitlines()

    def read(random: Random) -> object:
        lines = list(valid)
        place = random.randrange(len(lines))
        lines[place] = either(json.loads(lines[place]), random)
        path.write_bytes(b"\n".join([*lines, b""]))
        opened = VisitJournal(path, about)
        opened.close()
        return summaries(opened.visits), opened.timings

    return read


def predictors(model: str, parameters: Mapping[str, Any]) -> Callable[[Path], Reader]:
    """Return the reader of predictors of one model, whose hashes fit what is damaged."""

    def make(folder: Path) -> Reader:
        from freerea_seval.predictor.model_card import PredictedMetric, PredictorInfo
        from freerea_seval.predictor.seval import SEvalPredictor
        from tests.freerea_seval.predictor.conftest import chain, cost

        strings = [chain(seed) for seed in range(30)]
        values = [cost(one) for one in strings[:28]] + [float("inf")] * 2
        trained = SEvalPredictor(model, "linear", dict(parameters) or None).fit(strings, values)
        info = PredictorInfo((PredictedMetric("latency", "ms", "min", 30, 2),), "nats-tss", "executed", 30, "0" * 64)
        path = folder / "predictor"
        predictor_folder.save_predictor(path, trained, info)
        manifest = json.loads((path / "predictor.json").read_text())
        files = {name: (path / name).read_bytes() for name in manifest["files"]}

        def read(random: Random) -> object:
            spoilt, written = dict(files), json.loads(json.dumps(manifest))
            if random.randrange(2):
                name = random.choice(sorted(files))
                spoilt[name] = (
                    either(json.loads(files[name]), random) if name.endswith("json") else damaged(files[name], random)
                )
            else:
                part = random.choice(("state", "state", "info", None))
                written = (
                    changed(written, random) if part is None else {**written, part: changed(written[part], random)}
                )
            if isinstance(written, dict):
                if isinstance(written.get("files"), dict):
                    fitting = {name: hashlib.sha256(content).hexdigest() for name, content in spoilt.items()}
                    written["files"] = {name: fitting.get(name, value) for name, value in written["files"].items()}
                written["digest"] = predictor_folder._digest(written)
            (path / "predictor.json").write_bytes(text(written))
            for name, content in spoilt.items():
                if content != (path / name).read_bytes():
                    (path / name).write_bytes(content)
            try:
                return predictor_folder.load_predictor(path)[0].predict(
                    ["input[1x3x8x8] conv(4,k1) output"], interval=0.9
                )
            finally:
                for name in spoilt:
                    (path / name).write_bytes(files[name])

        return read

    return make


#: Each reader, and its share of a thousand inputs.
READERS: Mapping[str, tuple[Callable[[Path], Reader], int]] = {
    "configs": (config, 30),
    "arguments": (arguments, 111),
    "tables": (table, 150),
    "genotypes": (genotype, 150),
    "pickles": (pickled, 240),
    "weights": (weights, 100),
    "images": (images, 100),
    "strings": (string, 60),
    "imports": (imported, 50),
    "caches": (cache, 50),
    "runs": (runs, 20),
    "visits": (visits, 20),
    "predictors of trees": (predictors("boosted", {"n_estimators": 5}), 8),
    "predictors of a Gaussian process": (predictors("gp", {}), 4),
    "predictors of a network": (predictors("mlp", {"width": 4, "epochs": 2}), 7),
    "predictors of a T5": (
        predictors("t5", {"d_model": 8, "num_layers": 1, "num_heads": 2, "d_ff": 8, "epochs": 1}),
        1,
    ),
}


NEED_TORCH = ("predictors of a network", "predictors of a T5")


def run(reader: str, seed: int, count: int, folder: Path) -> dict[str, Any]:
    """Return the numbers of answers and errors, and the inputs for which there was neither."""
    read = READERS[reader][0](folder)
    counts: dict[str, Any] = {"answers": 0, "errors": 0, "failures": []}
    longest, began = 0.0, time.monotonic()
    current = os.open(folder.parent / "current", os.O_WRONLY | os.O_CREAT)
    for index in range(count):
        os.pwrite(current, f"{reader}, seed {seed}, input {index}{'':20}\n".encode(), 0)
        signal.setitimer(signal.ITIMER_REAL, MOST_WALL_SECONDS)
        started = time.process_time()
        failure = ""
        try:
            read(Random(f"{seed} {reader} {index}"))
            counts["answers"] += 1
        except InputError as error:
            counts["errors"] += 1
            if "\n" in str(error) or len(str(error)) > 10_000:
                failure = f"an error of {len(str(error))} characters: {error!r:.200}"
        except Exception as error:
            last = error.__traceback__
            while last is not None and last.tb_next is not None:
                last = last.tb_next
            where = f" in {last.tb_frame.f_code.co_filename}, line {last.tb_lineno}" if last else ""
            failure = f"{type(error).__name__}: {error!s:.200}{where}"
        seconds = time.process_time() - started
        longest = max(longest, seconds)
        megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        if seconds > MOST_SECONDS or megabytes > MOST_MEGABYTES:
            failure = f"took {seconds:.1f} s and {megabytes:.0f} MB"
        if failure and len(counts["failures"]) < 20:
            counts["failures"].append(f"{reader}, seed {seed}, input {index}: {failure}")
        if megabytes > MOST_MEGABYTES:
            break
    signal.setitimer(signal.ITIMER_REAL, 0)
    os.close(current)
    wall = time.monotonic() - began
    return {
        **counts,
        "longest_s": round(longest, 2),
        "inputs_a_second": round(count / max(wall, 1e-9)),
        "mb": round(megabytes),
    }


def _too_long(*_: object) -> None:
    raise TimeoutError(f"no answer after {MOST_WALL_SECONDS} s")


def main(seed: int, factor: float, readers: list[str]) -> None:
    """Run readers, and print their counts."""
    warnings.simplefilter("error")
    signal.signal(signal.SIGALRM, _too_long)
    counts = {}
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as parent:
        for name in readers or READERS:
            (folder := Path(parent) / name.replace(" ", "-")).mkdir()
            counts[name] = run(name, seed, max(1, round(READERS[name][1] * factor)), folder)
            print(name, counts[name], flush=True)
    print(json.dumps(counts))


def check(seed: int, factor: float, readers: Sequence[str]) -> None:
    command = [sys.executable, "-m", "tests.test_damaged_inputs", str(seed), str(factor), *readers]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent.parent)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    counts = json.loads(ran.stdout.splitlines()[-1])
    assert set(counts) == set(readers)
    assert [failure for count in counts.values() for failure in count["failures"]] == []
    assert all(count["errors"] for count in counts.values())


def test_two_thousand_damaged_inputs_are_answered_or_refused_in_one_line() -> None:
    check(seed=1, factor=2, readers=[reader for reader in READERS if reader not in NEED_TORCH])


@pytest.mark.long
def test_a_million_damaged_inputs_are_answered_or_refused_in_one_line() -> None:
    check(seed=0, factor=1000, readers=list(READERS))


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:])
