"""Peak resident memory of a network in eager PyTorch on the CPU, each in a process of its own.

A worker process imports torch and forks for every network, so that no memory of an earlier network is resident.
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
    from freerea_seval.measurement.networks import NetworkSpec

_CLEAR = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")
#: Written to ``clear_refs``, it sets the peak to what is resident now (Linux, proc_pid_clear_refs(5)).
_RESET_PEAK = "5"
#: Bytes from which glibc gives an allocation pages of its own, which it returns as soon as they are freed. By default,
#: the threshold grows while a program runs, and whether freed tensors stay resident differs from process to process.
_OWN_PAGES = "65536"


def check_memory(backend: str, device: str) -> None:
    """Make sure that memory can be measured.

    Raises:
        InputError: memory cannot be measured on this system, or with this backend or device.
    """
    if (backend, device) != ("eager", "cpu"):
        raise InputError("memory is measured with --backend eager on --device cpu; leave it out for others")
    try:
        _CLEAR.write_text(_RESET_PEAK)
    except OSError:
        raise InputError(
            "measuring memory needs Linux and permission to write /proc/self/clear_refs; leave it out here"
        ) from None


def peaks_mb(specs: Sequence[NetworkSpec]) -> Iterator[float | None]:
    """Yield the peak memory of building each network and running it once, without the memory of torch itself.

    Args:
        specs: see :data:`~freerea_seval.measurement.networks.NetworkSpec`.

    Yields:
        Megabytes (10^6 bytes), None for a network that cannot run.
    """
    if not specs:
        return
    command = [sys.executable, "-m", "freerea_seval.measurement.memory"]
    # One thread: a process with several threads cannot be forked safely.
    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    environment = {**os.environ, **threads, "MALLOC_MMAP_THRESHOLD_": _OWN_PAGES}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, text=True
    ) as worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        for spec in specs:
            worker.stdin.write(json.dumps(spec) + "\n")
            worker.stdin.flush()
            yield json.loads(worker.stdout.readline() or "null")
        worker.stdin.close()


def _serve() -> None:
    """Answer every network specification on standard input with a line on standard output: megabytes, or null."""
    import torch

    import freerea_seval.measurement.backends
    import freerea_seval.measurement.networks  # noqa: F401  # once here replace_forwards of in every child

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


def _peak_mb(spec: NetworkSpec) -> float | None:
    from freerea_seval.measurement.backends import prepare
    from freerea_seval.measurement.networks import build_from_spec

    try:
        # The first run loads what the libraries need once; it is discarded, and the second run is measured.
        prepare(*build_from_spec(spec))
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        _CLEAR.write_text(_RESET_PEAK)
        before = _status_kib("VmHWM")
        prepare(*build_from_spec(spec))
    except Exception:  # whatever a network may raise; the reason is recorded by the visit
        return None
    return (_status_kib("VmHWM") - before) * 1024 / 1e6


def _status_kib(name: str) -> int:
    for line in _STATUS.read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1])
    raise ValueError(f"{_STATUS} has no {name}")


if __name__ == "__main__":
    _serve()
