"""Files are whole or not there."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import Field, TypeAdapter

from freerea_patch import InputError
from freerea_seval.files import (
    MOST_LINE_BYTES,
    JsonLines,
    check_new,
    check_plain,
    is_empty,
    locked_folder,
    new_folder,
    open_locked,
    read_bounded,
    read_json,
    temporary_folder,
    write_atomically,
)

OBJECT = TypeAdapter(dict[str, object])


def test_text_and_bytes_are_written_and_replace_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_atomically(path, "ä\n")
    write_atomically(path, b"b\n")
    assert path.read_bytes() == b"b\n"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_has_the_permissions_that_the_user_asks_for(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.touch()
    write_atomically(tmp_path / "ours", "x")
    assert (tmp_path / "ours").stat().st_mode == plain.stat().st_mode


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    write_atomically(path, "old")

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_journal_reads_back_what_was_appended(tmp_path: Path) -> None:
    journal = JsonLines(tmp_path / "journal.jsonl")
    assert journal.rows(OBJECT, "an object") == []
    journal.append({"a": 1})
    journal.close()
    journal.append({"b": [2.5, None]})
    journal.close()
    assert journal.rows(OBJECT, "an object") == [{"a": 1}, {"b": [2.5, None]}]


def test_a_torn_last_line_is_skipped_and_then_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b'{"a": 1}\n{"b": ')
    journal = JsonLines(path)
    assert journal.rows(OBJECT, "an object") == [{"a": 1}]
    journal.append({"c": 3})
    journal.close()
    assert path.read_bytes() == b'{"a": 1}\n{"c": 3}\n'


@pytest.mark.parametrize("line", [b"{", b"[1]", b"\xff", b'{"a": ' + b"9" * 5000 + b"}", b"[" * 100_000])
def test_a_damaged_line_is_named(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b'{"a": 1}\n' + line + b"\n")
    with pytest.raises(
        InputError, match=r"line 2: expected an object \(.*\); restore the file, or delete it from this line on"
    ):
        JsonLines(path).rows(OBJECT, "an object")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[" * 100_000, r"not valid JSON \(recursion limit exceeded at line 1 column \d+\)"),
        ("{", r"not valid JSON \(EOF while parsing an object at line 1 column 1\)"),
        ('{"base": ' + "9" * 400 + "}", r"base: input should be a finite number"),
        ('{"base": ' + "9" * 5000 + "}", r"not valid JSON \(number out of range at line 1 column \d+\)"),
        ('{"a": 1.0, "b\\n\\u001b": {"c": 2.0}}', r"b\\n\\x1b: input should be a valid number"),
        ("[]", r"input should be (an object|a valid dictionary)"),
        ('"\xff"', r"not valid JSON \(invalid unicode code point at line 1 column 2\)"),
    ],
)
def test_a_record_that_does_not_fit_is_named_with_the_place(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "run.json"
    path.write_bytes(content.encode("latin-1"))
    schema = TypeAdapter(dict[str, Annotated[float, Field(strict=True, allow_inf_nan=False)]])
    with pytest.raises(InputError, match=rf"run.json: {message}; restore the file$"):
        read_json(path, schema, 2**20)


def test_a_record_has_a_bound(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.touch()
    os.truncate(path, 2**40)
    with pytest.raises(InputError, match=r"run.json: not valid JSON \(.*more than 1 MiB\); restore the file"):
        read_json(path, OBJECT, 2**20)


def test_a_line_of_a_terabyte_is_named_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b'{"a": 1}\n')
    os.truncate(path, 2**40)  # zeros that take no space on the disk
    journal = JsonLines(path)
    with pytest.raises(InputError, match=r"line 2: expected an object \(it has more than 1 MiB\)"):
        journal.rows(OBJECT, "an object")
    with pytest.raises(InputError, match=r"last line: expected a JSON object \(it has more than 1 MiB\)"):
        journal.append({"b": 2})
    assert path.stat().st_size == 2**40


def test_long_lines_within_the_bound_are_read_and_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    row = {"a": "x" * (MOST_LINE_BYTES - 10)}
    for _ in range(2):
        journal = JsonLines(path)
        journal.append(row)
        journal.close()
    with open(path, "ab") as file:
        file.write(b"torn")
    assert JsonLines(path).rows(OBJECT, "an object") == [row, row]
    journal.append({})
    journal.close()
    assert JsonLines(path).rows(OBJECT, "an object") == [row, row, {}]


def test_a_file_is_read_up_to_a_bound(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100)
    assert read_bounded(path, 100) == b"x" * 100
    for longer in (path, Path("/dev/zero")):
        if longer.exists():
            with pytest.raises(OSError, match="more than"):
                read_bounded(longer, 99)
    os.truncate(path, 2**40)
    with pytest.raises(OSError, match="more than 1 MiB"):
        read_bounded(path, 2**20)


HOLD = """
import pathlib, sys, time
from freerea_seval.files import temporary_folder
with temporary_folder(pathlib.Path(sys.argv[1])) as folder:
    (folder / "large").write_text("x")
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no lock for folders")
def test_what_a_killed_process_left_goes_with_the_next_write_and_what_is_in_use_stays(tmp_path: Path) -> None:
    others = [tmp_path / ".mine", tmp_path / ".other.part", tmp_path / "seval-part"]
    for other in others:
        other.mkdir()

    def hold() -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    killed, running = hold(), hold()
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    left = set(tmp_path.iterdir()) - set(others)
    assert len(left) == 2
    write_atomically(tmp_path / "file", "x")
    kept = left & set(tmp_path.iterdir())
    assert len(kept) == 1
    assert [(folder / "large").read_text() for folder in kept] == ["x"]
    running.communicate("")
    assert set(tmp_path.iterdir()) == {*others, tmp_path / "file"}


def test_a_folder_appears_whole_or_not_at_all_and_never_in_the_place_of_another(tmp_path: Path) -> None:
    with new_folder(tmp_path / "a" / "new") as draft:
        (draft / "file").write_text("x")
        assert not (tmp_path / "a" / "new").exists()
    assert (tmp_path / "a" / "new" / "file").read_text() == "x"
    with pytest.raises(FileExistsError), new_folder(tmp_path / "a" / "new"):
        pass
    with pytest.raises(ZeroDivisionError), new_folder(tmp_path / "b"):
        raise ZeroDivisionError
    assert (tmp_path / "a" / "new" / "file").read_text() == "x"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    with pytest.raises(InputError, match="new exists already; choose another folder with -o"):
        check_new(tmp_path / "a" / "new")


def test_an_error_names_the_file_that_the_user_knows(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as error:
        write_atomically(tmp_path / "missing" / "file", "x")
    assert error.value.filename == str(tmp_path / "missing" / "file")
    with pytest.raises(IsADirectoryError) as other, new_folder(tmp_path / "new") as draft:
        write_atomically(draft, "x")
    assert other.value.filename == str(tmp_path / "new")
    with pytest.raises(FileNotFoundError) as third, temporary_folder(tmp_path / "missing"):
        pass
    assert third.value.filename == str(tmp_path / "missing")


def test_a_folder_with_what_a_killed_process_left_is_empty(tmp_path: Path) -> None:
    left = tmp_path / ".x.freerea-seval-part"
    left.mkdir()
    (left / "half").touch()
    assert is_empty(tmp_path)
    assert not left.exists()
    (tmp_path / "mine").touch()
    assert not is_empty(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no lock for folders")
def test_a_folder_is_written_by_one_process_at_a_time(tmp_path: Path) -> None:
    with locked_folder(tmp_path), pytest.raises(InputError, match="is being written"), locked_folder(tmp_path):
        pass
    with locked_folder(tmp_path):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such links")
@pytest.mark.parametrize("content", ["precious", '{"a": 1}\n{"b": '])
def test_nothing_is_written_through_a_link_of_a_journal_or_a_lock(tmp_path: Path, content: str) -> None:
    (tmp_path / "mine").write_text(content)
    (tmp_path / "link").symlink_to("mine")
    with pytest.raises(OSError, match="symbolic link"):
        JsonLines(tmp_path / "link").append({"c": 1})
    with pytest.raises(OSError, match="symbolic link"):
        open_locked(tmp_path / "link")
    assert (tmp_path / "mine").read_text() == content


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such links")
def test_links_and_pipes_in_a_folder_are_refused_at_any_depth(tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    (deep / "file").touch()
    check_plain(tmp_path)
    (deep / "link").symlink_to(tmp_path)
    with pytest.raises(InputError, match="link: expected a file or a folder, got a link, a pipe or a device"):
        check_plain(tmp_path)
    (deep / "link").unlink()
    os.mkfifo(deep / "pipe")
    with pytest.raises(InputError, match="pipe: expected a file or a folder"):
        check_plain(tmp_path)


def test_a_journal_is_appended_to_by_one_process_at_a_time(tmp_path: Path) -> None:
    first, second = JsonLines(tmp_path / "j"), JsonLines(tmp_path / "j")
    first.append({"a": 1})
    with pytest.raises(BlockingIOError):
        second.append({"b": 2})
    first.close()
    second.append({"b": 2})
    second.close()
    assert first.rows(OBJECT, "an object") == [{"a": 1}, {"b": 2}]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no lock for folders")
def test_a_lock_of_a_file_that_its_owner_has_replaced_counts_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def replaced(handle: int) -> None:
        (tmp_path / "new").touch()
        (tmp_path / "new").replace(tmp_path / "lock")

    monkeypatch.setattr("freerea_seval.files.lock", replaced)
    with pytest.raises(BlockingIOError):
        open_locked(tmp_path / "lock")


def test_a_temporary_folder_goes_also_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError), temporary_folder(tmp_path) as folder:
        folder.write_text("x")
    assert list(tmp_path.iterdir()) == []
