"""Files that are written atomically, and append-only journals that a killed process leaves readable."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from freerea_patch import InputError

if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError

Checked = TypeVar("Checked")

#: A line of a journal has at most this length; those of searches have some hundred bytes.
MOST_LINE_BYTES = 2**20
#: By this end of their names, temporary folders are recognised as ours.
_SUFFIX = ".freerea-seval-part"


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


def open_locked(path: Path, flags: int = os.O_RDWR | os.O_CREAT) -> int:
    """Open a file or folder, never a symbolic link, and lock it; return the handle that holds the lock.

    Raises:
        BlockingIOError: another process has locked it.
        OSError: it is a link, cannot be opened, or cannot be locked here.
    """
    handle = os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)
    try:
        lock(handle)
        if not os.path.samestat(os.fstat(handle), os.lstat(path)):  # its owner has removed it in the meantime
            raise BlockingIOError(errno.EAGAIN, "replaced while it was locked", str(path))
    except BaseException:
        os.close(handle)
        raise
    return handle


def _lock_folder(folder: Path) -> int:
    return open_locked(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))


def remove_abandoned(parent: Path) -> None:
    """Remove the temporary folders of processes that were killed: those that nobody has locked."""
    for folder in parent.glob(f".*{_SUFFIX}"):
        with suppress(OSError):  # in use, or another user's
            handle = _lock_folder(folder)
            shutil.rmtree(folder, ignore_errors=True)
            os.close(handle)


_remove_abandoned_once = cache(remove_abandoned)


def check_new(path: Path, kind: str = "folder") -> None:
    """Make sure that a folder or file to be made is not there; remove what killed processes left beside it.

    Raises:
        InputError: it exists.
    """
    remove_abandoned(path.absolute().parent)
    if path.exists():
        raise InputError(f"{path} exists already; choose another {kind} with -o")


def is_empty(folder: Path) -> bool:
    """Whether a folder holds nothing but what killed processes left, which is removed."""
    remove_abandoned(folder)
    return not any(folder.iterdir())


def check_plain(folder: Path) -> None:
    """Make sure that all that is written into a folder stays within it.

    Raises:
        InputError: there is a symbolic link, a pipe or a device in it, which may lead anywhere.
    """
    for parent, folders, names in os.walk(folder):  # follows no link
        for path in (os.path.join(parent, name) for name in (*folders, *names)):
            with suppress(FileNotFoundError):  # another process's temporary file
                mode = os.lstat(path).st_mode
                if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                    raise InputError(
                        f"{path}: expected a file or a folder, got a link, a pipe or a device; replace it by a copy"
                    )


@contextmanager
def temporary_folder(parent: Path | None = None) -> Iterator[Path]:
    """Make a folder that is removed at the end, and remove those that killed processes left in the same place.

    Args:
        parent: where it is; None for the system's folder for temporary files.

    Raises:
        OSError: ``parent`` is missing or not writable.
    """
    parent = Path(tempfile.gettempdir()) if parent is None else parent.absolute()
    _remove_abandoned_once(parent)
    while True:
        try:
            folder, handle = Path(tempfile.mkdtemp(_SUFFIX, ".", parent)), None
        except OSError as error:  # which names the temporary folder
            raise OSError(error.errno, error.strerror, str(parent)) from error
        try:
            handle = _lock_folder(folder)
        except (BlockingIOError, FileNotFoundError):  # another process took it for an abandoned one
            continue
        except OSError:  # such as on Windows, where none is removed therefore
            break
        if folder.exists():
            break
        os.close(handle)
    try:
        yield folder
    except OSError as error:
        if error.errno is None or not str(error.filename).startswith(f"{folder}{os.sep}"):
            raise
        final = parent / Path(error.filename).relative_to(folder)  # where a file goes that is written here first
        raise OSError(error.errno, error.strerror, str(final)) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if handle is not None:
            os.close(handle)


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Keep other processes that ask for the same from writing to a folder, where folders can be locked.

    Raises:
        InputError: another process is writing to it.
    """
    handle = None
    try:
        handle = _lock_folder(folder)
    except BlockingIOError:
        raise InputError(f"{folder} is being written by another process; wait for it") from None
    except OSError:  # such as on Windows, and on some network file systems
        pass
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Make a folder in one step: at the end of the context it is there with all that was put into it, or not at all.

    Args:
        path: the folder; missing parents are made.

    Raises:
        FileExistsError: there is something in it, which stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder(path.parent) as parent:
        draft = parent / path.name
        draft.mkdir()
        yield draft
        try:
            os.replace(draft, path)
        except OSError as error:
            if path.exists():
                raise FileExistsError(errno.EEXIST, "exists already", str(path)) from error
            raise


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file in one step: readers see the old content or the new one, never a part, even after a crash.

    Raises:
        OSError: the folder is missing, not writable, or the disk is full; the old file is untouched.
    """
    try:
        with temporary_folder(path.parent) as folder:
            part = folder / path.name
            with open(part, "wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error  # some name no file


def escape_formula(cell: Any) -> Any:
    """Return a cell with an apostrophe before it, if it is a text that a spreadsheet would take for a formula."""
    return f"'{cell}" if isinstance(cell, str) and is_formula(cell) else cell


def is_formula(text: str) -> bool:
    """Whether a text begins as a formula does and is no number, or is such a text with apostrophes before it."""
    text = text.lstrip("'")
    if not text.startswith(("=", "+", "-", "@", "\t", "\r")):
        return False
    try:
        float(text)
    except ValueError:
        return True
    return False


def read_bounded(path: Path, most_bytes: int) -> bytes:
    """Return the content of a file.

    Raises:
        OSError: it is missing or cannot be read, or is longer than ``most_bytes``.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        content = b"" if size > most_bytes else file.read(size or most_bytes + 1)  # a pipe has no size
    if max(size, len(content)) > most_bytes:
        raise OSError(errno.EFBIG, f"more than {most_bytes / 2**20:g} MiB")
    return content


def read_json(path: Path, schema: TypeAdapter[Checked], most_bytes: int) -> Checked:
    """Return the content of a JSON file of at most ``most_bytes``.

    Raises:
        InputError: the file is damaged, or does not fit the schema.
    """
    from pydantic import ValidationError

    try:
        return schema.validate_json(read_bounded(path, most_bytes))
    except OSError as error:
        raise InputError(f"{path}: not valid JSON ({error}); restore the file") from None
    except ValidationError as error:
        raise InputError(f"{path}: {first_problem(error)}; restore the file") from None


def first_problem(error: ValidationError) -> str:
    """Return the first problem of values that do not fit their schema: where it is, and what was expected."""
    problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ascii(".".join(map(str, problem["loc"])))[1:-1]
    message = problem["msg"][0].lower() + problem["msg"][1:]
    if problem["type"] == "json_invalid":
        return f"not valid JSON ({message.removeprefix('invalid JSON: ')})"
    return f"{where[:100]}: {message}" if where else message


class JsonLines:
    """An append-only file of JSON objects, one a line: the journal of a long computation.

    Only one process at a time can append. Each line is one write to the operating system, so that a killed process
    leaves at most one incomplete line, the last, which :meth:`rows` skips and :meth:`open` cuts off.

    Args:
        path: the file; :meth:`open` makes it if it is missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: int | None = None

    def rows(self, schema: TypeAdapter[Checked], what: str) -> list[Checked]:
        """Return the complete lines.

        Args:
            schema: what each line must fit; pydantic's compiled parser reads it faster than :mod:`json` does.
            what: what a line is, for error messages.

        Raises:
            InputError: a complete line is too long, or does not fit the schema.
        """
        from pydantic import ValidationError

        if not self.path.exists():
            return []
        rows = []
        with open(self.path, "rb") as file:
            for number, line in enumerate(iter(lambda: file.readline(MOST_LINE_BYTES + 1), b""), start=1):
                if len(line) > MOST_LINE_BYTES:
                    raise self.damaged(f"line {number}", what, f"it has more than {MOST_LINE_BYTES >> 20} MiB")
                if not line.endswith(b"\n"):
                    break
                try:
                    rows.append(schema.validate_json(line))
                except ValidationError as error:
                    raise self.damaged(f"line {number}", what, first_problem(error)) from None
        return rows

    def damaged(self, where: str, what: str, reason: str) -> InputError:
        """Return the error for a line."""
        return InputError(
            f"{self.path}, {where}: expected {what} ({reason}); restore the file, or delete it from this line on"
            " and resume"
        )

    def open(self) -> None:
        """Lock the file for as long as it is open, and cut an incomplete last line off.

        Raises:
            BlockingIOError: another process has it open.
            InputError: the last line is longer than any of a journal.
            OSError: the file is a symbolic link, or cannot be written.
        """
        if self._handle is not None:
            return
        handle = open_locked(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
        try:
            begin = max(0, os.fstat(handle).st_size - MOST_LINE_BYTES)
            os.lseek(handle, begin, os.SEEK_SET)
            with os.fdopen(os.dup(handle), "rb") as file:
                tail = file.read(MOST_LINE_BYTES)
            end = tail.rfind(b"\n") + 1
            if begin and not end:
                raise self.damaged("last line", "a JSON object", f"it has more than {MOST_LINE_BYTES >> 20} MiB")
            if end < len(tail):
                os.ftruncate(handle, begin + end)
        except BaseException:
            os.close(handle)
            raise
        self._handle = handle

    def append(self, row: Mapping[str, Any]) -> None:
        """Add a line; equal rows give equal bytes.

        Raises:
            OSError: as :meth:`open`, or the disk is full; the lines before are complete.
        """
        self.open()
        assert self._handle is not None
        data = (json.dumps(row, allow_nan=False) + "\n").encode()
        while data:
            data = data[os.write(self._handle, data) :]

    def close(self) -> None:
        """Close and unlock the file; :meth:`append` opens it again."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
