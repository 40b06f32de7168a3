"""Kill every command at every point where it changes a file, and run pairs of commands at the same time.

``python -m tests.kills --kills 1000 --pairs 1000`` prints the counts; it starts each command as a fork of itself, which
has imported everything. After a kill, the next command must give the files of an uninterrupted one, byte for byte
without the seconds that were measured, and leave nothing else.
"""

from __future__ import annotations

import argparse
import gc
import io
import json
import os
import random
import re
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import cache
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

os.environ |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # before numpy and torch: threads do not fork

#: Files and their contents, without what depends on the clock.
Files = dict[str, bytes]

MODULE = """
from torch import nn

def small():
    return nn.Linear(8, 4)

def large():
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))

def fails(genotype):
    raise ValueError("no board")

def convolutions(genotype):
    return genotype.count("conv")
"""
SEARCH = """
space: {name: nats-tss, only: table.csv}
search: {population: 4, tournament: 2, seeds: [0, 1]}
budget: {evaluations: 8}
live: {batch_size: 2, initialisations: 1, cache: metrics.sqlite}
objectives:
  - {metric: worth, source: {table: table.csv}, direction: max}
  - {metric: latency_ms, source: {table: table.csv}, direction: min, role: pareto}
"""
LIVE = """
  - {metric: logsynflow, source: training-free, role: constraint, min: -1.0e+9}
  - {metric: count, source: {python: "nets:convolutions"}, direction: min}
"""
REFINED = """
space: {name: nats-tss, only: table.csv}
search: {population: 4, tournament: 2}
budget: {evaluations: 8}
objectives:
  - {metric: worth, source: {table: table.csv}, direction: max}
  - {metric: latency_ms, source: {seval: {table: table.csv}}, direction: min, role: pareto}
refine: {start: 10, rounds: 2, networks: 2}
"""
BROKEN = '  - {metric: broken, source: {python: "nets:fails"}, direction: min}\n'
RESULTS = "network,latency_ms,latency_iqr_ms,rounds,machine,reason\n{}"
#: Seconds and dates, in the JSON of runs and measurements, and in their CSV.
_MEASURED = (
    rb'"(?:seconds|metric_s|wall_s|loop_s|ready_s|preparing|prepared|date|clock)": (?:\{[^}]*\}|"[^"]*"|[^,}\n]*)'
)


@dataclass(frozen=True)
class Command:
    """A command and how it goes on after a kill.

    Attributes:
        name: for the counts.
        arguments: of the command line.
        resumed: arguments of the next command, if this path is there; otherwise it is the same command.
        path: see ``resumed``.
        output: what the next command may refuse to write over, because it is complete.
    """

    name: str
    arguments: tuple[str, ...]
    output: str = ""
    resumed: tuple[str, ...] = ()
    path: str = ""
    #: Whether it succeeds by itself.
    succeeds: bool = True


def _cells() -> list[str]:
    from freerea_patch import TopologySpace

    return list(TopologySpace().genotypes())


def commands() -> list[Command]:
    """Return the commands, which write different files of one folder."""
    nets = ("nets:small", "nets:large", "--input", "1,8")
    train = ("--model", "gp", "--scale", "linear", "--metric", "latency_ms")
    return [
        Command("search", ("search", "search.yaml", "-o", "run"), "run", ("search", "--resume", "run"), "run"),
        Command("live", ("search", "live.yaml", "-o", "live"), "live", ("search", "--resume", "live"), "live"),
        Command("refined", ("search", "refined.yaml", "-o", "ref"), "ref", ("search", "--resume", "ref"), "ref"),
        Command("resume", ("search", "--resume", "begun")),
        Command("report", ("report", "done", "--html", "page.html")),
        Command("train", ("train", "few.csv", *train, "-o", "trained"), "trained"),
        Command("predict", ("predict", "predictor", *_cells()[:2], "-o", "predicted.csv")),
        Command("evaluate", ("evaluate", "predictor", "few.csv", "-o", "evaluated"), "evaluated"),
        Command("encode", ("encode", *nets[1:], "-o", "encoded.txt")),
        Command("measure", ("measure", *nets, "--rounds", "3", "-o", "measured.csv")),
        Command("export", ("measure", "export", *nets, "-o", "exported")),
        Command("import", ("measure", "import", "device/results.csv", "-o", "imported.csv"), "imported.csv"),
    ]


def failing() -> Command:
    """Return a search that finds its mistake after its folder is made."""
    return Command("failing", ("search", "broken.yaml", "-o", "run"), succeeds=False)


def call(arguments: Sequence[str]) -> int:
    """Run the command line in this process; return its exit code."""
    from freerea_seval.cli.main import main

    sys.argv = ["freerea-seval", *arguments]
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@contextmanager
def chdir(folder: Path) -> Iterator[None]:
    """Work in a folder; as contextlib has it from Python 3.11 on."""
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@dataclass(frozen=True)
class Process:
    """A command that runs in a fork, in a folder of its own."""

    pid: int
    folder: Path
    log: Path

    def wait(self, seconds: float = 120) -> int:
        """Return the exit code, or the negative number of the signal that has ended it."""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.002)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        raise AssertionError(f"{self.folder}: hung: {self.log.read_text()}")


def start(folder: Path, arguments: Sequence[str], before_change: Callable[[str], None] | None = None) -> Process:
    """Run a command in a fork.

    Args:
        folder: the working folder.
        arguments: of the command line.
        before_change: called in the fork before everything that changes files.
    """
    log = folder.parent / f"{folder.name}.{random.getrandbits(32)}.log"
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return Process(pid, folder, log)
    code = 70
    try:
        os.chdir(folder)
        tempfile.tempdir = str(folder)
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT), 1)
        os.dup2(1, 2)
        sys.stdout = io.TextIOWrapper(os.fdopen(1, "wb", closefd=False), write_through=True)
        sys.stderr = sys.stdout
        if before_change is not None:
            _watch(before_change)
        code = call(arguments)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


def _watch(before_change: Callable[[str], None]) -> None:
    """Call a function before each opening for writing, write, fsync, rename, removal and making of a folder."""
    wrapped = ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.link")

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        if event in wrapped or (
            event == "open"
            and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            and arguments[0] != os.devnull
            and not isinstance(arguments[0], int)
        ):
            before_change(event)

    write, fsync, truncate = os.write, os.fsync, os.ftruncate

    def write_halves(handle: int, data: bytes) -> int:
        before_change("write")
        half = write(handle, data[: len(data) // 2])
        before_change("half a write")
        return half + write(handle, data[half:])

    def fsync_between(handle: int) -> None:
        before_change("fsync")
        fsync(handle)
        before_change("after fsync")

    def truncate_after(handle: int, length: int) -> None:
        before_change("ftruncate")
        truncate(handle, length)

    os.write, os.fsync, os.ftruncate = write_halves, fsync_between, truncate_after  # type: ignore[assignment]
    sys.addaudithook(audit)


def killer(number: int) -> Callable[[str], None]:
    """Return a function that ends its process, without a word to Python, when it is called for this time."""
    left = number

    def before_change(event: str) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    return before_change


def sleeper(seed: int, most_s: float) -> Callable[[str], None]:
    """Return a function that sleeps for random times."""
    numbers = random.Random(seed)
    return lambda event: time.sleep(most_s * numbers.random() ** 3)


def files(folder: Path) -> Files:
    """Return all files of a copy of the inputs, without paths of this copy; folders have an empty content."""
    found: Files = {}
    root = folder.parent if folder.name == "inputs" else folder.parent.parent
    here = re.compile(re.escape(str(root.resolve()).encode()) + rb"/(?:inputs|work/\d+)")
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if name.endswith(("-wal", "-shm")):  # of a cache; SQLite's next connection takes them up
            continue
        if path.suffix == ".sqlite":
            with closing(sqlite3.connect(path)) as connection:
                rows = connection.execute("SELECT key, value FROM metric ORDER BY key").fetchall()
                assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            found[name] = repr(rows).encode()
        elif path.is_file():
            content = path.read_bytes()
            text = path.suffix in (".json", ".jsonl", ".csv", ".html")
            if path.suffix == ".html":  # a page shows seconds; its other numbers are those of files
                content = re.sub(rb"-?[0-9.]+(?:e-?[0-9]+)?", b"0", content)
            if path.name == "refine.jsonl":  # a killed training is repeated, and its time recorded again
                content = b"".join(line for line in content.splitlines(keepends=True) if b"trained_s" not in line)
            found[name] = here.sub(b"", re.sub(_MEASURED, b"", content)) if text else content
        else:
            found[name] = b""
    return found


def difference(found: Mapping[str, bytes], expected: Mapping[str, bytes]) -> str:
    """Return which files differ, empty for none."""
    names = sorted(found.keys() | expected.keys())
    kinds = {
        name: "missing" if name not in found else "left" if name not in expected else "other"
        for name in names
        if found.get(name) != expected.get(name)
    }
    return ", ".join(f"{name} ({kind})" for name, kind in kinds.items())


class Place:
    """A folder of inputs, copies of which commands run in.

    Args:
        folder: where to make it.
        chosen: the commands.
    """

    def __init__(self, folder: Path, chosen: Sequence[Command]) -> None:
        self.folder = folder
        self.commands = chosen
        self.inputs = folder / "inputs"
        self.inputs.mkdir()
        self._count = 0
        cells = _cells()
        numbers = random.Random(0)
        lines = [f"{cell},{numbers.random():.6f},{cell.count('conv') + numbers.random():.6f}" for cell in cells]
        header = "genotype,worth,latency_ms"
        (self.inputs / "table.csv").write_text("\n".join([header, *lines[::60]]) + "\n")
        (self.inputs / "few.csv").write_text("\n".join([header, *lines[::600]]) + "\n")
        (self.inputs / "nets.py").write_text(MODULE)
        (self.inputs / "search.yaml").write_text(SEARCH)
        (self.inputs / "live.yaml").write_text(
            SEARCH.replace("[0, 1]", "[0]").replace("evaluations: 8", "evaluations: 5") + LIVE
        )
        (self.inputs / "refined.yaml").write_text(REFINED)
        (self.inputs / "broken.yaml").write_text(SEARCH + BROKEN)
        by_name = {command.name: command for command in commands()}
        # In this process, so that forks of it have all that is imported and computed once.
        with redirect_stdout(io.StringIO()), chdir(self.inputs):
            for name, output, users in (
                ("search", "done", {"resume", "report"}),
                ("train", "predictor", {"predict", "evaluate"}),
                ("export", "device", {"import"}),
            ):
                if not users & {command.name for command in chosen}:
                    continue
                arguments = [
                    output if a == by_name[name].output or a == "exported" else a for a in by_name[name].arguments
                ]
                assert call(arguments) == 0, name
                if output == "device":
                    rows = [f"nets:{network},1.5,0.1,3,a board,\n" for network in ("small", "large")]
                    Path("device", "results.csv").write_text(RESULTS.format("".join(rows)))
                elif output == "done":
                    shutil.copytree("done", "begun")
                    self._cut(self.inputs / "begun")
            warm = folder / "warm"
            shutil.copytree(self.inputs, warm)
            os.chdir(warm)
            for command in chosen:
                assert call(command.arguments) == 0, command.name
        (self.inputs / "metrics.sqlite").unlink(missing_ok=True)
        gc.collect()
        gc.freeze()  # what is in memory now is shared with the forks, and not looked at by their collections
        self._base = files(self.inputs)
        self._expected: dict[str, Files] = {}
        self.changes: dict[str, int] = {}
        self.seconds: dict[str, float] = {}

    @staticmethod
    def _cut(run: Path) -> None:
        """Make a run as if it had been killed within its second seed."""
        results = ("front.csv", "summary.json", "front.png", "report.html", "seed-1/result.json", "seed-1/clock.json")
        for name in results:
            (run / name).unlink(missing_ok=True)
        journal = run / "seed-1" / "journal.jsonl"
        journal.write_bytes(journal.read_bytes()[:-30])

    @contextmanager
    def copy(self) -> Iterator[Path]:
        """Return a copy of the inputs that is removed afterwards, unless something fails."""
        self._count += 1
        work = self.folder / "work" / str(self._count)
        shutil.copytree(self.inputs, work)
        yield work
        shutil.rmtree(work)
        for log in work.parent.glob(f"{work.name}.*.log"):
            log.unlink()

    def expected(self, command: Command) -> Files:
        """Return the files of an uninterrupted command; count its changes and take its time once."""
        if command.name not in self._expected:
            with self.copy() as work:
                self.changes[command.name] = _count_changes(work, command)
            with self.copy() as work:
                began = time.monotonic()
                _finish(start(work, command.arguments), command)
                self.seconds[command.name] = time.monotonic() - began
                self._expected[command.name] = files(work)
        return self._expected[command.name]

    def together(self, *several: Command) -> Files:
        """Return the files of commands that do not depend on each other."""
        found = dict(self._base)
        for command in several:
            found |= {
                name: content for name, content in self.expected(command).items() if self._base.get(name) != content
            }
        return found


def _count_changes(work: Path, command: Command) -> int:
    """Return how often a command changes files."""
    counter = work.parent / f"{work.name}.count.log"
    handle = os.open(counter, os.O_WRONLY | os.O_CREAT)
    write = os.write  # the fork replaces the module's

    def count(event: str) -> None:
        write(handle, b"x")

    process = start(work, command.arguments, count)
    os.close(handle)
    _finish(process, command)
    return counter.stat().st_size


def _finish(process: Process, command: Command, *, complete: bool = False) -> None:
    """Wait for a command that must succeed, or refuse to write over its own complete output."""
    code, printed = process.wait(), process.log.read_text()
    refused = complete and code == 2 and re.search(r"exists", printed) is not None
    assert code == 0 or refused, f"{process.folder}: {command.name} ended with {code}: {printed}"


def kill(place: Place, command: Command, *, change: int | None = None, after_s: float = 0.0) -> bool:
    """Kill a command before a change or after a time, run the next, and compare; return whether the kill hit it."""
    expected = place.expected(command)
    with place.copy() as work:
        process = start(work, command.arguments, None if change is None else killer(change))
        if change is None:
            time.sleep(after_s)
            os.kill(process.pid, signal.SIGKILL)
        hit = process.wait() == -signal.SIGKILL
        resumes = command.path and (work / command.path / "run.json").exists()
        complete = bool(command.output) and (work / command.output).exists()
        _finish(start(work, command.resumed if resumes else command.arguments), command, complete=complete)
        wrong = difference(files(work), expected)
        assert not wrong, (
            f"{work}: {command.name} killed {f'at {change}' if after_s == 0 else f'after {after_s}'}: {wrong}"
        )
    return hit


def pair(place: Place, first: Command, second: Command, seed: int, most_s: float) -> None:
    """Run two commands at once with random pauses at every change of a file, then both again, and compare."""
    with place.copy() as work:
        processes = [start(work, c.arguments, sleeper(2 * seed + n, most_s)) for n, c in enumerate((first, second))]
        for process, command in zip(processes, (first, second), strict=True):
            code, printed = process.wait(), process.log.read_text()
            assert code in (0, 2), f"{work}: {command.name} ended with {code}: {printed}"
            assert code == 0 or "freerea-seval: error: " in printed.splitlines()[-1], f"{work}: {printed}"
        successes = [command for command in (first, second) if command.succeeds]
        for command in successes:
            resumes = command.path and (work / command.path / "run.json").exists()
            _finish(start(work, command.resumed if resumes else command.arguments), command, complete=True)
        wrong = difference(files(work), place.together(*successes))
        assert not wrong, f"{work}: {first.name} and {second.name}, seed {seed}: {wrong}"


def run_kills(place: Place, kills: int, seed: int) -> Counter[str]:
    """Kill commands: a share at every change of a file, in turns, and the rest at random moments; return the hits."""
    numbers = random.Random(seed)
    chosen = place.commands if kills else ()
    for command in chosen:
        place.expected(command)
    at_changes = [(command, change) for command in chosen for change in range(place.changes[command.name])]
    numbers.shuffle(at_changes)
    hits: Counter[str] = Counter()
    while hits.total() < kills:  # one that came after the end does not count
        if hits.total() % 50 == 0:
            print(f"{time.strftime('%X')} {hits.total()} kills", file=sys.stderr, flush=True)
        if at_changes and hits.total() % 4:
            command, change = at_changes.pop()
            hits[f"{command.name} at a change"] += kill(place, command, change=change)
        else:
            command = numbers.choice(chosen)
            moment = numbers.uniform(0, place.seconds[command.name])
            hits[f"{command.name} at random"] += kill(place, command, after_s=moment)
    return hits


def run_pairs(place: Place, pairs: int, seed: int, most_s: float = 0.05) -> Counter[str]:
    """Run pairs of commands, every pair before any is repeated; return how often each was run."""
    search = commands()[0]
    resume = Command("resume it", ("search", "--resume", "run"), succeeds=False)
    wanted = [
        (failing(), resume),
        (failing(), search),
        (search, resume),
        *combinations_with_replacement(place.commands, 2),
    ]
    counts: Counter[str] = Counter()
    for number in range(pairs):
        first, second = wanted[number % len(wanted)]
        pair(place, first, second, seed + number, most_s)
        counts[f"{first.name} + {second.name}"] += 1
    return counts


def prepare() -> None:
    """Make what is measured the same in every process, and commands quick."""
    import typer.main
    from matplotlib.figure import Figure

    from freerea_seval.measurement import timing

    def timed_pass(run: Callable[[], object]) -> tuple[float, float]:
        run()
        return 0.0, 0.001

    timing._timed_pass = timed_pass
    # Drawing and parsing take most of the time of small commands, and change no file.
    Figure.savefig = lambda self, file, **options: file.write(b"figure")  # type: ignore[method-assign]
    typer.main.get_command = cache(typer.main.get_command)
    sys.dont_write_bytecode = True


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=[], help="commands that take part")
    options = parser.parse_args()
    prepare()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_STATE_HOME"] = str(Path(folder) / "state")
        place = Place(Path(folder), [c for c in commands() if not options.only or c.name in options.only])
        kills = run_kills(place, options.kills, options.seed)
        print(json.dumps({"kills": kills.total(), **dict(sorted(kills.items())), "changes": place.changes}, indent=1))
        pairs = run_pairs(place, options.pairs, options.seed)
        print(json.dumps({"pairs": pairs.total(), "different": len(pairs)}))


if __name__ == "__main__":
    main()
