"""Peak resident memory of a network in eager PyTorch on the CPU, each in a process of its own.

A worker process imports torch and forks once a network, so that nothing is resident that a network before has left.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from freerea_patch import InputError

if TYPE_CHECKING:
    from freerea_seval.measurement.network_spec import Recipe

_CLEAR = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")
#: Written to ``clear_refs`` it sets the peak to what is resident now (Linux, proc_pid_clear_refs(5)).
_RESET_PEAK = "5"


def check_memory(backend: str, device: str) -> None:
    """Make sure that memory can be measured.

    Raises:
        InputError: not on this system, or not of this backend or device.
    """
    if (backend, device) != ("eager", "cpu"):
        raise InputError("--memory measures --backend eager on --device cpu; leave it out for others")
    try:
        _CLEAR.write_text(_RESET_PEAK)
    except OSError:
        raise InputError("--memory needs Linux, and leave to write /proc/self/clear_refs; leave it out here") from None


def peaks_mb(recipes: Sequence[Recipe]) -> Iterator[float | None]:
    """Yield the peak memory of each network over building it and running it once, beyond what torch itself takes.

    Args:
        recipes: ``{"space", "genotype", "batch_size", "seed"}``, or ``{"network", "inputs", "seed"}``.

    Yields:
        Megabytes (10^6 bytes), None for a network that cannot run.
    """
    if not recipes:
        return
    command = [sys.executable, "-m", "freerea_seval.measurement.memory"]
    # One thread: a process that has several cannot be forked.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, text=True
    ) as worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        for recipe in recipes:
            worker.stdin.write(json.dumps(recipe) + "\n")
            worker.stdin.flush()
            yield json.loads(worker.stdout.readline() or "null")
        worker.stdin.close()


def _serve() -> None:
    """Answer every recipe on standard input with a line on standard output: megabytes, or null."""
    import torch

    import freerea_seval.measurement.network_spec  # noqa: F401  # here, not in every child

    torch.set_num_threads(1)
    answers = os.dup(sys.stdout.fileno())
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # a network may print
    for line in sys.stdin:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.write(writer, json.dumps(_peak_mb(json.loads(line))).encode())
            finally:
                os._exit(0)
        os.close(writer)
        with os.fdopen(reader, "rb") as answer:
            text = answer.read()
        os.waitpid(child, 0)
        os.write(answers, (text or b"null") + b"\n")


def _peak_mb(recipe: Recipe) -> float | None:
    from freerea_seval.measurement.backends import prepare
    from freerea_seval.measurement.network_spec import make

    try:
        # What the libraries load at a first run is not the network's: it runs, goes, and then is measured.
        prepare(*make(recipe))
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        _CLEAR.write_text(_RESET_PEAK)
        before = _kib("VmHWM")
        prepare(*make(recipe))
    except Exception:  # whatever a network may raise; the visit has told the reason
        return None
    return (_kib("VmHWM") - before) * 1024 / 1e6


def _kib(name: str) -> int:
    for line in _STATUS.read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1])
    raise ValueError(f"{_STATUS} has no {name}")


if __name__ == "__main__":
    _serve()
