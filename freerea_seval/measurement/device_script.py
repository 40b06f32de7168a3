"""Time the networks of this folder: python measure.py [--rounds 11] [--threads 1] [--provider CPUExecutionProvider].

It needs onnxruntime, numpy, and detrend.py beside it, and writes results.csv. After an interruption, the same command
resumes.
"""

import argparse
import csv
import json
import os
import platform
import random
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from detrend import detrended  # type: ignore[import-not-found]  # beside this file on the device

WARM_UPS = 2
BURST, LONGEST_BURST = 3, 20
VISITS = ("network", "round", "latency_ms", "machine", "reason")


def machine() -> str:
    """Return the name of this machine and of its processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Hardware", "Model"))]
    return f"{platform.node()} {names[-1] if names else platform.processor() or platform.machine()}"


def arrays(inputs: "list[dict[str, Any]]") -> "dict[str, np.ndarray[Any, Any]]":
    """Return standard normal numbers for floating-point inputs, zeros for others."""
    generator = np.random.default_rng(0)
    values = {}
    for entry in inputs:
        dtype = np.dtype(entry["dtype"])
        array = generator.standard_normal(entry["shape"]) if dtype.kind == "f" else np.zeros(entry["shape"])
        values[entry["name"]] = array.astype(dtype)
    return values


def waiting_s() -> float:
    """Return how long this thread has waited for a core so far; 0 where the system does not report it."""
    try:
        return int(Path("/proc/thread-self/schedstat").read_bytes().split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0


def visit(folder: Path, entry: "dict[str, Any]", inputs: "list[dict[str, Any]]", threads: int, provider: str) -> float:
    """Return the latency of the fastest pass of a burst, in milliseconds; of passes that waited, if all did.

    A burst has further passes for as long as it took to get ready.
    """
    started = time.perf_counter()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(folder / entry["file"]), options, providers=[provider])
    values = arrays(inputs)
    feed = {entry.name: values[entry.name] for entry in session.get_inputs()}
    for _ in range(WARM_UPS):
        session.run(None, feed)
    passes: list[tuple[float, float]] = []
    ready = time.perf_counter()
    while len(passes) < BURST or (len(passes) < LONGEST_BURST and time.perf_counter() - ready < ready - started):
        waited_before = waiting_s()
        began = time.perf_counter()
        session.run(None, feed)
        seconds = time.perf_counter() - began
        waited = waiting_s() - waited_before
        passes.append((waited, max(seconds - waited, 0.0) or seconds))
    return min(passes)[1] * 1e3


def read_visits(path: Path) -> "list[dict[str, str]]":
    """Return the visits of an earlier run; an incomplete last line is cut off."""
    with path.open("a+b") as file:
        file.seek(0)
        text = file.read()
        file.truncate(text.rfind(b"\n") + 1)
        if b"\n" not in text:
            file.write((",".join(VISITS) + "\n").encode())
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write_results(path: Path, visits: "list[dict[str, str]]") -> None:
    """Write one row a network, atomically."""
    unable = {row["network"]: row["reason"] for row in visits if row["reason"]}
    groups: dict[str, list[dict[str, str]]] = {}
    for row in visits:
        groups.setdefault(row["network"], []).append(row)
    values = {
        network: sorted(float(row["latency_ms"]) for row in rows)
        for network, rows in groups.items()
        if network not in unable
    }
    index = {network: position for position, network in enumerate(values)}
    # Disturbances only ever add time: without a model of the drift, the mean of the fastest quarter counts.
    fastest = [statistics.fmean(sorted_ms[: (len(sorted_ms) + 3) // 4]) for sorted_ms in values.values()]
    counted = [row for row in visits if row["network"] in index]
    networks = np.array([index[row["network"]] for row in counted])
    latencies = detrended(networks, np.array([float(row["latency_ms"]) for row in counted]), np.array(fastest))
    temporary = path.with_suffix(".part")
    with temporary.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["network", "latency_ms", "latency_iqr_ms", "rounds", "machine", "reason"])
        for network, rows in groups.items():
            if network in unable:
                writer.writerow([network, "", "", "", rows[0]["machine"], unable[network]])
                continue
            spread = np.subtract(*np.percentile(values[network], [75, 25]))
            machines = "; ".join(sorted({row["machine"] for row in rows}))
            writer.writerow([network, f"{latencies[index[network]]:.6g}", f"{spread:.4g}", len(rows), machines, ""])
    os.replace(temporary, path)


def main() -> None:
    """Measure in rounds, each in a random order of its own, so that drift of the machine affects all networks alike."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--provider", default="CPUExecutionProvider")
    options = parser.parse_args()
    folder = Path(__file__).resolve().parent
    manifest = json.loads((folder / "manifest.json").read_text())
    machine_name = machine()
    journal = folder / "visits.csv"
    visits = read_visits(journal)
    done = {(row["network"], int(row["round"])) for row in visits}
    unable = {row["network"] for row in visits if row["reason"]}
    for number in range(options.rounds):
        order = list(manifest["networks"])
        random.Random(number).shuffle(order)
        for entry in order:
            name = entry["network"]
            if name in unable or (name, number) in done:
                continue
            row = dict.fromkeys(VISITS, "") | {"network": name, "round": str(number), "machine": machine_name}
            try:
                latency = visit(folder, entry, manifest["inputs"], options.threads, options.provider)
                row["latency_ms"] = f"{latency:.6f}"
            except Exception as error:  # a network that this device cannot run has no latency
                row["reason"] = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
                unable.add(name)
            visits.append(row)
            with journal.open("a", newline="") as file:
                csv.writer(file, lineterminator="\n").writerow([row[column] for column in VISITS])
        print(f"round {number + 1} of {options.rounds}", flush=True)
        write_results(folder / "results.csv", visits)
    print(f"{folder / 'results.csv'}: {len({row['network'] for row in visits})} networks, {len(unable)} cannot run")


if __name__ == "__main__":
    main()
