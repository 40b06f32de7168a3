"""Measuring on another machine, which stand-ins of ssh and scp play: they run in a folder of this one."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from pathlib import Path

import pytest

import freerea_seval as fs
from freerea_patch import InputError, TopologySpace
from freerea_seval.measurement.networks import space_networks
from freerea_seval.measurement.ssh import SshMachine
from freerea_seval.progress import Progress
from freerea_seval.runs.refine_log import RefineLog
from freerea_seval.tables import read_csv
from tests.freerea_seval.cli.test_mistakes import call
from tests.freerea_seval.runs.test_refine import PRICE, QUALITY, search, write_config

pytest.importorskip("onnxruntime", reason="needs the package onnxruntime")
pytest.importorskip("onnx", reason="needs the package onnx")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the stand-ins are shell scripts")

CELLS = [TopologySpace().genotypes()[i] for i in (0, 7000, 15000)]
#: Every call is a line of a log; what comes behind -- is taken as OpenSSH does.
STAND_IN = """#!/bin/sh
log=LOG home=HOME
printf '%s' "${0##*/}" >> "$log"; printf ' <%s>' "$@" >> "$log"; echo >> "$log"
while [ "$1" != -- ]; do shift; done; shift
"""
SSH = """[ "$1" = pi@board ] || [ "$1" = nano ] || { echo "ssh: Could not resolve hostname $1" >&2; exit 255; }
[ $# = 2 ] || exit 99
cd "$home" && exec sh -c "$2"
"""
SCP = """cd "$home" && for last; do :; done
while [ $# -gt 1 ]; do cp "${1#*:}" "${last#*:}" || exit 1; shift; done
"""


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home folder of the other machine; beside it, ``log`` has the commands."""
    programs, home = tmp_path / "bin", tmp_path / "home of board"
    programs.mkdir()
    home.mkdir()
    head = STAND_IN.replace("LOG", shlex.quote(str(tmp_path / "log"))).replace("HOME", shlex.quote(str(home)))
    for name, body in (("ssh", SSH), ("scp", SCP)):
        (programs / name).write_text(head + body)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    return home


def machine(host: str = "pi@board", python: str = sys.executable) -> SshMachine:
    return SshMachine(host, python)


def measure(device: SshMachine, output: Path) -> dict[str, str]:
    return device.measure(space_networks(TopologySpace(), CELLS), output, 2, Progress())


def test_networks_are_measured_there_and_nothing_is_left_but_the_results(board: Path, tmp_path: Path) -> None:
    latencies = measure(machine(), tmp_path / "m.csv")
    assert set(latencies) == set(CELLS)
    assert all(float(latency) > 0 for latency in latencies.values())
    facts = json.loads((tmp_path / "m.json").read_text())
    assert {name: facts[name] for name in machine().conditions()} == machine().conditions()
    assert not list(board.iterdir())
    assert not (tmp_path / "m").exists()
    lines = (tmp_path / "log").read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["ssh", "ssh", "scp", "ssh", "scp", "ssh"]
    assert all(" <--> " in line for line in lines)
    assert measure(machine(), tmp_path / "m.csv") == latencies
    assert len((tmp_path / "log").read_text().splitlines()) == 6


def test_an_interrupted_measurement_goes_on_with_the_visits_that_were_made(board: Path, tmp_path: Path) -> None:
    class Interrupted(Exception):  # noqa: N818
        pass

    class Impatient(Progress):
        def task(self, description: str):  # type: ignore[no-untyped-def]
            if description.startswith("measuring"):
                raise Interrupted
            return super().task(description)

    networks = space_networks(TopologySpace(), CELLS)
    with pytest.raises(Interrupted):
        machine().measure(networks, tmp_path / "m.csv", 2, Impatient())
    (there,) = board.iterdir()
    visits = "".join(f"{cell},{turn},9000,board,\n" for cell in CELLS for turn in (0, 1))
    (there / "visits.csv").write_text("network,round,latency_ms,machine,reason\n" + visits)
    assert [float(latency) for latency in measure(machine(), tmp_path / "m.csv").values()] == [9000.0] * 3


def test_several_machines_measure_the_same_networks_at_the_same_time(
    board: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The Python of the machines waits until both have begun.
    waiting = board / "waiting"
    waiting.write_text(
        f"""#!/bin/sh
case "$1" in *measure.py)
    touch "began-$$"
    while [ "$(ls -d began-* | wc -l)" -lt 2 ]; do sleep 0.05; done
esac
exec {shlex.quote(sys.executable)} "$@"
"""
    )
    waiting.chmod(0o755)
    arguments = ["measure", "ssh", "pi@board", "nano", "--space", "nats-tss", "--networks", "2", "--rounds", "1"]
    arguments += ["--python", "./waiting", "-o", str(tmp_path / "devices"), "--json"]
    assert call(*arguments) == 0
    tables = {host: read_csv(tmp_path / "devices" / f"{host}.csv") for host in ("pi@board", "nano")}
    for table in tables.values():
        assert list(table["genotype"]) == list(tables["nano"]["genotype"])
        assert (table["latency_ms"].astype(float) > 0).all()
    assert {path.name for path in (tmp_path / "devices").iterdir()} == {
        f"{host}.{kind}" for host in tables for kind in ("csv", "json")
    }
    assert set(json.loads(capsys.readouterr().out)["devices"]) == set(tables)


def test_what_a_machine_has_measured_is_kept_where_another_one_fails(
    board: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["measure", "ssh", "nano", "elsewhere", "--space", "nats-tss", "--networks", "1", "--rounds", "1"]
    arguments += ["--python", sys.executable, "-o", str(tmp_path / "devices")]
    assert call(*arguments) == 2
    assert "elsewhere cannot be reached by ssh" in capsys.readouterr().err
    kept = (tmp_path / "devices" / "nano.csv").read_text()
    log = (tmp_path / "log").read_text()
    assert call(*arguments) == 2
    assert (tmp_path / "devices" / "nano.csv").read_text() == kept
    assert "<nano>" not in (tmp_path / "log").read_text().removeprefix(log)
    assert call(*arguments[:2], "nano", "nano", "-o", str(tmp_path / "x")) == 2
    assert "each host once" in capsys.readouterr().err
    assert not list(board.glob("freerea-seval-*"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"host": "-oProxyCommand=touch x"}, "expected a host such as pi or user@pi.local"),
        ({"host": "pi; touch x"}, "expected a host such as pi or user@pi.local"),
        ({"host": "pi:22"}, "give it a name in ~/.ssh/config"),
        ({"host": 7}, "expected a host such as pi or user@pi.local"),
        ({"python": "-c"}, "expected a program of pi@board, such as python3"),
        ({"python": ""}, "expected a program of pi@board, such as python3"),
    ],
)
@pytest.mark.usefixtures("board")
def test_what_is_no_host_or_program_is_refused(changes: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        machine(**changes)


def no_packages(home: Path) -> None:
    (home / "bare").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -I -S "$@"\n')
    (home / "bare").chmod(0o755)


PROBLEMS: dict[str, tuple[dict[str, str], str]] = {
    "unreachable": ({"host": "elsewhere"}, r"elsewhere cannot be reached by ssh \(ssh: Could not resolve hostname"),
    "no Python": ({"python": "/no/python3"}, r"pi@board cannot run '/no/python3' \(.*not found\)"),
    "a program that a shell would take for two": ({"python": "x; touch y"}, "cannot run 'x; touch y'"),
    "no packages": (
        {"python": "./bare"},
        r"\./bare of pi@board has no package numpy .*; install onnxruntime and numpy",
    ),
}


@pytest.mark.parametrize("kind", PROBLEMS)
def test_a_problem_of_the_other_machine_is_one_line(board: Path, tmp_path: Path, kind: str) -> None:
    changes, message = PROBLEMS[kind]
    no_packages(board)
    with pytest.raises(InputError, match=message) as error:
        measure(machine(**changes), tmp_path / "m.csv")
    assert "\n" not in str(error.value)
    assert not (board / "y").exists()
    if "host" not in changes:
        assert set(measure(machine(), tmp_path / "m.csv")) == set(CELLS)


def test_without_the_programs_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="measuring on pi@board needs the program 'ssh', which is not here; install"):
        machine()


def test_damaged_results_are_refused_and_measured_anew(board: Path, tmp_path: Path) -> None:
    (board / "fake").write_text('#!/bin/sh\n[ "$1" = -c ] || echo "network,latency_ms" > "${1%/*}/results.csv"\n')
    (board / "fake").chmod(0o755)
    with pytest.raises(InputError, match=r"m/results\.csv: expected the columns network, latency_ms, latency_iqr_ms"):
        measure(machine(python="./fake"), tmp_path / "m.csv")
    assert not (tmp_path / "m.csv").exists()
    assert not list(board.glob("freerea-seval-*"))
    assert set(measure(machine(), tmp_path / "m.csv")) == set(CELLS)


LATENCY = {**PRICE, "metric": "latency"}


def remote(**options: object) -> dict[str, object]:
    return {
        **LATENCY,
        "source": {"seval": {"measure": "latency", "ssh": "pi@board", "python": sys.executable, **options}},
    }


@pytest.mark.slow
def test_a_search_measures_over_ssh_and_a_folder_from_elsewhere_does_not_connect_unasked(
    board: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    quality = {"metric": "params", "source": "cost", "role": "fitness"}
    small = {"refine": {"start": 10, "rounds": 1, "networks": 2}}
    assert call("search", write_config(tmp_path, remote(ssh="pi"), quality, **small), "-o", tmp_path / "run") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "pi cannot be reached by ssh (ssh: Could not resolve hostname pi)" in line
    assert line.endswith(f"continue with --resume {tmp_path / 'run'}")
    assert not list(tmp_path.glob("run/seed-4/measured-*"))  # nothing was exported
    shutil.rmtree(tmp_path / "run")
    run = search(write_config(tmp_path, remote(), quality, **small), tmp_path / "run")
    values = RefineLog(run.path / "seed-4/refine.jsonl").known("latency")
    assert len(values) == 12
    assert all(value > 0 for value in values.values())
    assert json.loads((run.path / "seed-4/measured-latency-1.json").read_text())["ssh"] == "pi@board"
    capsys.readouterr()
    # Another machine's measurements are refused by a search that takes them over, the same one's are not.
    again = write_config(tmp_path, {**LATENCY, "source": {"seval": {"measure": "latency"}}}, quality, **small)
    assert call("search", again, "-o", tmp_path / "local", "--start-from", run.path) == 2
    assert "its latency was measured with backend 'onnx', here 'eager'" in capsys.readouterr().err
    assert len(search(write_config(tmp_path, remote(), quality, **small), tmp_path / "next", start_from=run.path).front)
    (run.path / "seed-4/result.json").unlink()
    (tmp_path / "log").unlink()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "other user"))
    for path in (*run.path.glob("seed-4/measured-*"), run.path / "seed-4/refine.jsonl"):
        path.unlink()
    assert call("search", "--resume", run.path) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "its config names 'ssh pi@board', which you have not run" in line
    assert not (tmp_path / "log").exists()


@pytest.mark.usefixtures("board")
@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"measure": "memory", "ssh": "pi@board"}, "over ssh, 'measure' can be latency, not 'memory'"),
        ({"ask": "latency", "ssh": "pi@board"}, "and for 'measure' ssh and python, as options"),
        ({"measure": "latency", "python": "python3"}, "and for 'measure' ssh and python, as options"),
        ({"measure": "latency", "ssh": "--"}, "expected a host such as pi"),
    ],
)
def test_a_config_that_cannot_be_measured_over_ssh_is_one_line(
    tmp_path: Path, source: dict[str, str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path, {**LATENCY, "source": {"seval": source}}, QUALITY)
    assert call("search", config, "-o", tmp_path / "run") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not (tmp_path / "run").exists()


def test_outside_of_rounds_it_is_refused(tmp_path: Path) -> None:
    config = write_config(tmp_path, {**LATENCY, "source": {"seval": {"measure": "latency", "ssh": "pi"}}}, refine=None)
    with pytest.raises(InputError, match="'ssh' measures during a search; add 'refine:"):
        fs.search(config, tmp_path / "run", progress=False)
