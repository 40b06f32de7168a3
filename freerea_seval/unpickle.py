"""Loading pickles of third parties without running code from them.

A pickle is a program that calls whatever its author chose. The benchmarks of this field are published as pickles; this
loader resolves a short list of names and refuses every other one.
"""

from __future__ import annotations

import bz2
import io
import pickle
import pickletools
import struct
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from freerea_patch import InputError

#: ``(module, name)`` in a pickle, and the class or function that replaces it.
Allowed = Mapping[tuple[str, str], Callable[..., object]]

#: Codes of numpy's number types, and the format characters of the module ``struct``.
_NUMBERS = {
    "b1": "?",
    "i1": "b",
    "i2": "h",
    "i4": "i",
    "i8": "q",
    "u1": "B",
    "u2": "H",
    "u4": "I",
    "u8": "Q",
    "f2": "e",
    "f4": "f",
    "f8": "d",
}
#: Names in errors are cut to this length, because a hostile file may hold a name of any length.
_LONGEST_NAME = 80
_BZ2_MAGIC = b"BZh"
#: A file has at most this length, also decompressed; that of HW-NAS-Bench has 7 MB.
MOST_BYTES = 2**27
#: By opcode: the bytes of its argument, or one of pickletools' negative codes, which say where their number stands.
_ARGUMENTS = {ord(opcode.code): opcode.arg.n if opcode.arg else 0 for opcode in pickletools.opcodes}
_LENGTHS = {
    pickletools.TAKEN_FROM_ARGUMENT1: 1,
    pickletools.TAKEN_FROM_ARGUMENT4: 4,
    pickletools.TAKEN_FROM_ARGUMENT4U: 4,
    pickletools.TAKEN_FROM_ARGUMENT8U: 8,
}
_TWO_LINES = pickle.GLOBAL + pickle.INST
#: Opcodes that store an entry of the memo under a number, and how to read it.
_STORING: dict[int, Callable[[bytes], int]] = {
    pickle.PUT[0]: int,
    pickle.LONG_BINPUT[0]: partial(int.from_bytes, byteorder="little"),
}


class PlainValue:
    """Stand-in for a value class of a benchmark's package: it holds attributes and does nothing."""


def load_pickle(path: Path, allowed: Allowed, what: str) -> Any:
    """Return the value in a pickle file, plain or compressed with bz2 (detected by content, not by file name).

    Containers, numbers, strings, ``OrderedDict``, sets and numpy's number scalars are read, the last as
    plain numbers. Any other name that the file asks for has to be in ``allowed``.

    Args:
        path: the file.
        allowed: ``(module, name)`` to what stands for it here. No module is imported.
        what: what the file is, for the error.

    Raises:
        InputError: the file cannot be read, is empty or damaged, or is no pickle.
        InputError: the file asks for a name outside the list; nothing of it has been called.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise InputError(f"{what}: cannot read {path} ({error.strerror}); check the path") from None
    if not data:
        raise InputError(f"{what}: {path} is empty; download it again")
    try:
        if data.startswith(_BZ2_MAGIC):
            with bz2.open(io.BytesIO(data)) as file:
                data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise ValueError(f"more than {MOST_BYTES >> 20} MiB")
        _check_sizes(data)
        return _Unpickler(data, {**_PLAIN, **allowed}).load()
    except _RefusedError as error:
        raise InputError(
            f"{what}: refused to run code from {path}: it asks for {error.name!r}, which is not a plain value;"
            " take the file from its publisher"
        ) from None
    except Exception as error:  # damaged bytes fail in pickle, bz2 or struct, each with types of its own
        message = next(iter(str(error).splitlines()), "")[:_LONGEST_NAME]
        raise InputError(
            f"{what}: {path} is damaged or not a pickle ({type(error).__name__}: {message}); download it again"
        ) from None


def _check_sizes(data: bytes) -> None:
    """Refuse sizes that a pickle declares without having them, for which the unpickler would allocate memory.

    It does so for byte arrays, and for its memo as soon as an entry with a large number is stored. Entries are numbered
    from 0 or 1 in their order, and each takes a byte of the file, so that the memo takes at most 16 times the file.

    Raises:
        ValueError: such a size, or no end.
    """
    position, end = 0, len(data)
    while position < end:
        code, begin = data[position], position + 1
        size = _ARGUMENTS[code]
        if size == pickletools.UP_TO_NEWLINE:
            position = data.index(b"\n", begin) + 1
            if code in _TWO_LINES:
                position = data.index(b"\n", position) + 1
        elif size < 0:
            after = begin + _LENGTHS[size]
            position = after + int.from_bytes(data[begin:after], "little")
        else:
            position = begin + size
        if position > end:
            raise ValueError(f"byte {begin} declares {position - begin} bytes, {end - begin} are left")
        if code in _STORING and not 0 <= (entry := _STORING[code](data[begin:position])) < begin:
            raise ValueError(f"byte {begin} declares {entry} entries of the memo")
        if code == pickle.STOP[0]:
            return
    raise ValueError("no end")


class _RefusedError(pickle.UnpicklingError):
    """The pickle asks for a name that is not on the list."""

    def __init__(self, module: str, name: str) -> None:
        self.name = f"{module}.{name}"[:_LONGEST_NAME]
        super().__init__(self.name)


class _Unpickler(pickle.Unpickler):
    """Resolves names from a table only: nothing is imported, and dotted names have no special meaning."""

    def __init__(self, data: bytes, allowed: Allowed) -> None:
        super().__init__(io.BytesIO(data))
        self._allowed = allowed

    def find_class(self, module: str, name: str, /) -> Any:
        if (module, name) not in self._allowed:
            raise _RefusedError(module, name)
        return self._allowed[module, name]


class _Dtype:
    """Stand-in for ``numpy.dtype``: a plain number's code and byte order, and nothing else."""

    __slots__ = ("code", "order")

    def __init__(self, code: str, *_flags: object) -> None:
        if code not in _NUMBERS:
            raise pickle.UnpicklingError(f"numpy type {code!r} is no plain number")
        self.code = code
        self.order = "="

    def __setstate__(self, state: tuple[object, ...]) -> None:
        # numpy writes (version, byte order, ...); what follows describes arrays and records.
        order = state[1]
        if order not in ("<", ">", "|"):
            raise pickle.UnpicklingError(f"byte order {order!r} is none of <, >, |")
        self.order = "=" if order == "|" else str(order)


def _scalar(dtype: object, data: object) -> float:
    """Stand-in for numpy's ``scalar``: return the number that the bytes hold."""
    if not isinstance(dtype, _Dtype) or not isinstance(data, bytes):
        raise pickle.UnpicklingError("a numpy scalar is not made of a type and bytes")
    number: float = struct.unpack(dtype.order + _NUMBERS[dtype.code], data)[0]
    return number


_PLAIN: Allowed = {
    ("collections", "OrderedDict"): OrderedDict,
    ("builtins", "set"): set,
    ("builtins", "frozenset"): frozenset,
    ("numpy", "dtype"): _Dtype,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy._core.multiarray", "scalar"): _scalar,  # its name from numpy 2 on
}


class NatsBenchPatch:
    """Makes the package ``nats_bench`` read its files with :func:`load_pickle`, inside a ``with`` block.

    Safe because all reading in ``nats_bench`` (1.5 to 1.8) goes through one function, ``pickle_load``,
    which its modules copied by name: each copy is replaced, and put back by :meth:`undo`.

    Raises:
        InputError: the package is not installed, or has no such function where it is called.
    """

    MODULES = ("nats_bench.api_utils", "nats_bench.api_topology", "nats_bench.api_size")

    def __init__(self) -> None:
        self._saved: list[tuple[ModuleType, object]] = []

    def __enter__(self) -> NatsBenchPatch:
        try:
            modules = [import_module(name) for name in self.MODULES]
        except ImportError:
            raise InputError(
                "source 'nats-bench' needs the package nats-bench: pip install 'freerea-seval[benchmarks]'"
            ) from None
        for module in modules:
            if not callable(getattr(module, "pickle_load", None)):
                raise InputError(
                    f"{module.__name__} has no pickle_load, so its files cannot be read safely;"
                    " install a version that is known: pip install 'nats-bench>=1.5,<=1.8'"
                )
        for module in modules:
            self._saved.append((module, vars(module)["pickle_load"]))
            vars(module)["pickle_load"] = _nats_bench_load
        return self

    def undo(self) -> None:
        """Put the package's own function back; a second call does nothing."""
        while self._saved:
            module, original = self._saved.pop()
            vars(module)["pickle_load"] = original

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.undo()


def _nats_bench_load(file_path: object, ext: str = ".pbz2") -> Any:
    """Stand-in for ``nats_bench``'s ``pickle_load``, which adds the extension if there is no such file."""
    path = Path(str(file_path))
    return load_pickle(path if path.is_file() else Path(f"{path}{ext}"), {}, "NATS-Bench file")
