"""Measuring on another machine over SSH: networks are exported, copied and timed there, and the results come back.

The programs ``ssh`` and ``scp`` of OpenSSH connect, with the user's own configuration and keys. What was begun is
continued by the same call: the export, and on the other machine the visits, which ``measure.py`` records.
"""

from __future__ import annotations

import hashlib
import platform
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from freerea_patch import InputError
from freerea_seval.measurement.backends import check_onnx
from freerea_seval.measurement.networks import Networks
from freerea_seval.measurement.remote import export, import_results
from freerea_seval.progress import Note, Progress, Show
from freerea_seval.tables import read_csv

#: A name of ~/.ssh/config, a host name or an address, with or without a user; never an option, a path or a port.
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(@[A-Za-z0-9_][A-Za-z0-9_.-]*)?")
#: A question would wait for an answer in the middle of a search; a lost connection must end.
_SETTINGS = ("BatchMode=yes", "ConnectTimeout=20", "ServerAliveInterval=30")
_OPTIONS = [part for setting in _SETTINGS for part in ("-o", setting)]
#: Arguments of Python that fail where a package is missing.
_IMPORTS = "-c 'import numpy, onnxruntime'"
_ROUND = re.compile(r"round (\d+) of (\d+)")
_MISSING = re.compile(r"No module named '([\w.]+)'")


@dataclass(frozen=True)
class SshMachine:
    """Another machine.

    Args:
        host: as ``ssh`` takes it.
        python: its program, with the packages onnxruntime and numpy; a relative path starts from the home folder.
        threads: of a network.

    Raises:
        InputError: the host is no name, or a program or package that is needed here is missing.
    """

    host: str
    python: str = "python3"
    threads: int = 1

    def __post_init__(self) -> None:
        if not (isinstance(self.host, str) and _HOST.fullmatch(self.host)):
            raise InputError(
                f"'ssh' is {self.host!r:.80}, expected a host such as pi or user@pi.local; for a port or other options,"
                " give it a name in ~/.ssh/config"
            )
        if not (isinstance(self.python, str) and self.python and not self.python.startswith("-")):
            raise InputError(f"'python' is {self.python!r:.80}, expected a program of {self.host}, such as python3")
        for program in ("ssh", "scp"):
            if shutil.which(program) is None:
                raise InputError(
                    f"measuring on {self.host} needs the program {program!r}, which is not here; install OpenSSH"
                )
        check_onnx("onnx")

    def conditions(self) -> dict[str, Any]:
        """Return what measurements depend on, beside the networks, as results record it."""
        return {"backend": "onnx", "ssh": self.host, "threads": self.threads}

    def measure(self, networks: Networks, output: Path, rounds: int, progress: Progress) -> dict[str, str]:
        """Return the latencies of networks in milliseconds, as text by name; empty for one that cannot run.

        Args:
            networks: what to measure.
            output: CSV for the results, with the export in a folder beside it until they are there.
            rounds: visits to every network.
            progress: shows the steps.

        Raises:
            InputError: the machine cannot be reached, lacks Python or a package, or its results are damaged; or no
                network can be exported.
        """
        if not output.exists():  # before the export, which takes longer
            self._ssh(f"exec {shlex.quote(self.python)} {_IMPORTS}")
        self.export(networks, output, progress)
        self.measure_exported(output, rounds, progress)
        table = read_csv(output)
        return dict(zip(table[networks.column], table["latency_ms"], strict=True))

    def export(self, networks: Networks, output: Path, progress: Progress) -> None:
        """Write networks into a folder beside ``output``, unless that has the results already."""
        if not output.exists():
            with progress.task(f"exporting {len(networks.names)} networks") as show:
                about = {**networks.about, **self.conditions()}
                export(replace(networks, about=about), output.with_suffix(""), show)

    def measure_exported(self, output: Path, rounds: int, progress: Progress) -> None:
        """Measure what has been exported, write the results, and remove the export."""
        folder = output.with_suffix("")
        if not output.exists():
            self._measure(folder, output, rounds, progress)
        shutil.rmtree(folder, ignore_errors=True)

    def _measure(self, folder: Path, output: Path, rounds: int, progress: Progress) -> None:
        key = f"{platform.node()} {output.absolute()} ".encode() + (folder / "manifest.json").read_bytes()
        there = f"freerea-seval-{hashlib.sha256(key).hexdigest()[:16]}"
        python = shlex.quote(self.python)
        with progress.task(f"copying to {self.host}"):
            self._ssh(f"mkdir -p {there} && exec {python} {_IMPORTS}")
            # The results of an earlier call are not copied.
            files = [*folder.glob("*.onnx"), *folder.glob("*.json"), *folder.glob("*.py")]
            self._run(["scp", "-q", *_OPTIONS, "--", *map(str, sorted(files)), f"{self.host}:{there}/"])
        with progress.task(f"measuring on {self.host}") as show:

            def on_line(line: str) -> None:
                if match := _ROUND.match(line):
                    show(int(match[1]) / int(match[2]), "")

            self._ssh(f"exec {python} {there}/measure.py --rounds {rounds} --threads {self.threads}", on_line)
        results = folder / "results.csv"
        self._run(["scp", "-q", *_OPTIONS, "--", f"{self.host}:{there}/results.csv", str(results)])
        try:
            import_results(results, output)
        finally:  # damaged results are measured anew
            with suppress(InputError):
                self._ssh(f"rm -r {there}")

    def _ssh(self, command: str, on_line: Callable[[str], object] = lambda line: None) -> None:
        """Run a command of the other machine's shell."""
        self._run(["ssh", *_OPTIONS, "--", self.host, command], on_line)

    def _run(self, command: list[str], on_line: Callable[[str], object] = lambda line: None) -> None:
        """Run a program of this machine, and call a function with each line that it prints."""
        last = ""
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                last = line.strip() or last
                on_line(line)
        if not process.returncode:
            return
        reason = f"({last[:200] or f'exit code {process.returncode}'})"
        if missing := _MISSING.search(last):
            mend = (
                f"has no package {missing[1]} {reason}; install onnxruntime and numpy there, or give another 'python'"
            )
            raise InputError(f"{self.python} of {self.host} {mend}")
        if process.returncode in (126, 127):
            raise InputError(f"{self.host} cannot run {self.python!r} {reason}; name its Python with 'python'")
        if process.returncode == 255:
            mend = f"see that 'ssh {self.host} true' works without a question"
            raise InputError(f"{self.host} cannot be reached by {command[0]} {reason}; {mend}, then continue")
        raise InputError(f"{command[0]} with {self.host} failed {reason}; correct that, then continue")


def measure_on(
    machines: Sequence[SshMachine], networks: Networks, outputs: Sequence[Path], rounds: int, progress: Progress
) -> None:
    """Measure the same networks on several machines at the same time.

    Args:
        machines: of different hosts.
        networks: what to measure.
        outputs: a CSV for each machine, as for :meth:`SshMachine.measure`.
        rounds: visits to every network on each machine.
        progress: shows the steps; while machines measure, the mean of what they have done.

    Raises:
        InputError: as :meth:`SshMachine.measure`, of the first machine that fails, once the other ones have ended.
    """
    for machine, output in zip(machines, outputs, strict=True):
        machine.export(networks, output, progress)
    done = [0.0] * len(machines)
    title = f"measuring on {', '.join(machine.host for machine in machines)}"
    with progress.task(title) as show, ThreadPoolExecutor(len(machines)) as executor:

        def on_fraction(position: int, fraction: float) -> None:
            done[position] = fraction
            show(sum(done) / len(done), "")

        futures = [
            executor.submit(machine.measure_exported, output, rounds, _Part(partial(on_fraction, position)))
            for position, (machine, output) in enumerate(zip(machines, outputs, strict=True))
        ]
    for future in futures:
        future.result()


class _Part(Progress):
    """Passes on the fraction of one machine."""

    def __init__(self, on_fraction: Callable[[float], object]) -> None:
        self._on_fraction = on_fraction

    @contextmanager
    def task(self, description: str) -> Iterator[Show]:
        """Pass on the fraction of the task."""

        def update(fraction: float, note: Note = "") -> None:
            self._on_fraction(fraction)

        yield update
