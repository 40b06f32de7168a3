"""Files that are written atomically, and append-only journals that a killed process leaves readable."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from freerea_patch import InputError


def lock(handle: int) -> None:
    """Lock a file against other processes for as long as it is open; does nothing on Windows.

    Raises:
        BlockingIOError: another process has locked it.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file in one step: readers see the old content or the new one, never a part, even after a crash.

    Raises:
        OSError: the folder is missing, not writable, or the disk is full; the old file is untouched.
    """
    data = content.encode() if isinstance(content, str) else content
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files that only the user can read; these get the permissions of ordinary files.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


class JsonLines:
    """An append-only file of JSON objects, one a line: the journal of a long computation.

    Each line is one write to the operating system, so that a killed process leaves at most one incomplete line, the
    last, which :meth:`rows` skips and :meth:`append` cuts off.

    Args:
        path: the file; :meth:`append` makes it if it is missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: int | None = None

    def rows(self) -> list[dict[str, Any]]:
        """Return the complete lines.

        Raises:
            InputError: a complete line is not a JSON object.
        """
        if not self.path.exists():
            return []
        rows = []
        for number, line in enumerate(self.path.read_bytes().split(b"\n")[:-1], start=1):
            try:
                row = json.loads(line)
            except ValueError:  # covers bytes that are not UTF-8
                row = None
            if not isinstance(row, dict):
                raise InputError(
                    f"{self.path}, line {number}: expected a JSON object, got {line[:40]!r}; restore the file,"
                    " or delete it from this line on and resume"
                )
            rows.append(row)
        return rows

    def append(self, row: Mapping[str, Any]) -> None:
        """Add a line; equal rows give equal bytes.

        Raises:
            OSError: the disk is full; the lines before are complete.
        """
        if self._handle is None:
            if self.path.exists():
                content = self.path.read_bytes()
                os.truncate(self.path, content.rfind(b"\n") + 1)
            self._handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        data = (json.dumps(row, allow_nan=False) + "\n").encode()
        while data:
            data = data[os.write(self._handle, data) :]

    def close(self) -> None:
        """Close the file; :meth:`append` opens it again."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
