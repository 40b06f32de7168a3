"""Loading pickles and weights of third parties without running code from them.

A pickle is a program that calls whatever its author chose. The benchmarks of this field are published as pickles, also
inside files of torch; this loader resolves a short list of names and refuses every other one.
"""

from __future__ import annotations

import bz2
import io
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from math import prod
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

from freerea_patch import InputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

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
#: A file has at most this length, also decompressed, and this number of calls and sets; that of HW-NAS-Bench has 7 MB.
MOST_BYTES = 12 * 2**20
MOST_CALLS = 2**20
#: Containers that are open at the same time while their items are read, and arguments of a call.
MOST_DEPTH = 1000
MOST_ARGUMENTS = 8
#: Types of a key of a dictionary and of an item of a set, or of the items of a tuple there, at most this number.
_KEYS = frozenset((str, bytes, int, float, bool, type(None)))
_LONGEST_KEY = 64


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
    data = _read(path, what)
    try:
        if data.startswith(_BZ2_MAGIC):
            with bz2.open(io.BytesIO(data)) as file:
                data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise ValueError(f"more than {MOST_BYTES >> 20} MiB")
        _demand(data.endswith(pickle.STOP), "no end")  # a text file, whose first line could be one of names
        return _Unpickler(data, {**_PLAIN, **allowed}).load()
    except Exception as error:  # damaged bytes fail in pickle, bz2 or struct, each with types of its own
        raise _unreadable(error, path, what, "a pickle") from None


def load_weights(path: Path, shapes: Mapping[str, tuple[int, ...]], what: str) -> dict[str, npt.NDArray[np.float32]]:
    """Return the tensors in a file that ``torch.save`` wrote of the state of a module.

    It does not use ``torch.load``, which up to torch 2.5 runs code from files in spite of ``weights_only``
    (CVE-2025-32434), and takes seconds to import.

    Args:
        path: the file, in torch's format since 1.6: a zip archive with a pickle, and a member a tensor.
        shapes: the names that the state is to have, with their shapes. All are float32.
        what: what the file is, for the error.

    Raises:
        InputError: the file cannot be read, is damaged or in another format, or asks to run code.
        InputError: its tensors have other names or shapes, or a value that is not finite.
    """
    import numpy as np

    data = _read(path, what)
    try:
        if len(data) > MOST_BYTES:
            raise ValueError(f"more than {MOST_BYTES >> 20} MiB")
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            (root,) = (n.removesuffix("data.pkl") for n in archive.namelist() if n.endswith("/data.pkl"))
            state = _WeightsUnpickler(_stored(archive, f"{root}data.pkl"), {**_PLAIN, **_TENSORS}).load()
            _demand(isinstance(state, dict) and all(type(v) is _Tensor for v in state.values()), "no state of tensors")
            got = {name: tensor.shape for name, tensor in state.items()}
            if got != shapes:
                raise InputError(f"{what}: {path}: expected the tensors {dict(shapes)}, got {got!r:.400}")
            weights = {name: np.frombuffer(_stored(archive, root + t.member), "<f4") for name, t in state.items()}
        for name, values in weights.items():
            if not np.isfinite(values).all():
                raise InputError(f"{what}: {path}: a value of {name} is not a finite number; download it again")
            weights[name] = values.reshape(shapes[name])
        return weights
    except InputError:
        raise
    except Exception as error:  # as above, and in zipfile
        raise _unreadable(error, path, what, "a file of torch.save") from None


def _read(path: Path, what: str) -> bytes:
    """Return the content of a file, at most a byte more than :data:`MOST_BYTES`."""
    try:
        with open(path, "rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise InputError(f"{what}: cannot read {path} ({error.strerror}); check the path") from None
    if not data:
        raise InputError(f"{what}: {path} is empty; download it again")
    return data


def _stored(archive: zipfile.ZipFile, member: str) -> bytes:
    """Return a member of an archive, uncompressed as torch writes it: what it says and what it takes are the same."""
    info = archive.getinfo(member)
    _demand(info.compress_type == zipfile.ZIP_STORED, "a compressed member")
    return archive.read(info)


def _unreadable(error: Exception, path: Path, what: str, kind: str) -> InputError:
    """Return the error for a file whose reading failed."""
    if isinstance(error, _RefusedError):
        return InputError(
            f"{what}: refused to run code from {path}: it asks for {error.name!r}, which is not a plain value;"
            " take the file from its publisher"
        )
    message = next(iter(str(error).splitlines()), "")[:_LONGEST_NAME]
    return InputError(f"{what}: {path} is damaged or not {kind} ({type(error).__name__}: {message}); download it again")


class _RefusedError(pickle.UnpicklingError):
    """The pickle asks for a name that is not on the list."""

    def __init__(self, module: str, name: str) -> None:
        self.name = f"{module}.{name}"[:_LONGEST_NAME]
        super().__init__(self.name)


def _demand(holds: bool, what: str) -> None:
    if not holds:
        raise pickle.UnpicklingError(what)


def _check_keys(values: Sequence[object]) -> None:
    """Refuse values whose hash takes long, or deep recursion, which crashes the interpreter."""
    if not _KEYS.issuperset(map(type, values)):
        for value in values:
            items = value if type(value) is tuple and len(value) <= _LONGEST_KEY else (value,)
            _demand(_KEYS.issuperset(map(type, items)), f"a {type(value).__name__} as a key")


class _Unpickler(pickle._Unpickler):
    """Resolves names from a table only: nothing is imported, and dotted names have no special meaning.

    It is the Python implementation of the standard library, because that in C can be neither interrupted nor bounded.
    Operations that could take memory, time or the interpreter, or change this module, have a bounded form below. Those
    that allocate a declared size, or reach objects outside of the file, are left out.

    Attributes:
        stack: values since the last mark.
        metastack: for each mark, the values before it.
        calls: number of calls that are left.
    """

    stack: list[Any]
    metastack: list[list[Any]]
    pop_mark: Callable[[], list[Any]]

    def __init__(self, data: bytes, allowed: Allowed) -> None:
        super().__init__(io.BytesIO(data))
        self._allowed = allowed
        self.calls = MOST_CALLS

    def find_class(self, module: str, name: str, /) -> Any:
        if (module, name) not in self._allowed:
            raise _RefusedError(module, name)
        return self._allowed[module, name]

    def _mark(self) -> None:
        _demand(len(self.metastack) < MOST_DEPTH, f"more than {MOST_DEPTH} containers within each other")
        _STANDARD[pickle.MARK[0]](self)

    def _count(self, calls: int = 1) -> None:
        self.calls -= calls
        _demand(self.calls >= 0, f"more than {MOST_CALLS} calls and sets")

    def _empty_set(self) -> None:
        self._count()
        self.stack.append(set())

    def _frozenset(self) -> None:
        self._count()
        _check_keys(self.stack)
        _STANDARD[pickle.FROZENSET[0]](self)

    def _additems(self) -> None:
        _check_keys(self.stack)
        _STANDARD[pickle.ADDITEMS[0]](self)

    def _dict(self) -> None:
        _check_keys(self.stack[::2])
        _STANDARD[pickle.DICT[0]](self)

    def _setitem(self) -> None:
        _check_keys(self.stack[-2:-1])
        _STANDARD[pickle.SETITEM[0]](self)

    def _setitems(self) -> None:
        _check_keys(self.stack[::2])
        items = self.pop_mark()
        self.stack[-1].update(zip(items[::2], items[1::2], strict=True))

    def _tuple(self, count: int | None = None) -> None:
        """Make a tuple of the last values, in which a tuple may be a key, but have no tuples: something may hash it."""
        items = self.pop_mark() if count is None else self.stack[-count:]
        _check_keys([item for item in items if type(item) is tuple])
        if count is not None:
            del self.stack[-count:]
        self.stack.append(tuple(items))

    def _reduce(self) -> None:
        arguments = self.stack[-1]
        _demand(len(arguments) <= MOST_ARGUMENTS, f"more than {MOST_ARGUMENTS} arguments")
        self._count(1 + sum(len(argument) for argument in arguments if type(argument) is list))
        _STANDARD[pickle.REDUCE[0]](self)

    def _newobj(self) -> None:
        self._count()
        _demand(self.stack.pop() == (), "a new object with arguments")
        kind = self.stack[-1]
        self.stack[-1] = kind.__new__(kind)

    def _build(self) -> None:
        state, instance = self.stack.pop(), self.stack[-1]
        if type(instance) is PlainValue and type(state) is dict:
            instance.__dict__ = state
        elif type(instance) is _Dtype and type(state) is tuple:
            instance.__setstate__(state)
        elif type(instance) is OrderedDict:
            pass  # attributes, as of the version of a module's state, are not needed
        else:  # it could change a class or function of this module for the rest of the process
            raise pickle.UnpicklingError(f"a state of a {type(instance).__name__}")

    def _number(self, code: bytes) -> None:
        _STANDARD[code[0]](self)
        _demand(-(2**63) <= self.stack[-1] < 2**64, "a number of more than 64 bits")


_STANDARD: Mapping[int, Callable[[Any], None]] = pickle._Unpickler.dispatch
_REFUSED = (pickle.BYTEARRAY8, pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.OBJ, pickle.NEWOBJ_EX, pickle.LONG4)
_BOUNDED: Mapping[bytes, Callable[[_Unpickler], None]] = {
    pickle.MARK: _Unpickler._mark,
    pickle.EMPTY_SET: _Unpickler._empty_set,
    pickle.FROZENSET: _Unpickler._frozenset,
    pickle.ADDITEMS: _Unpickler._additems,
    pickle.DICT: _Unpickler._dict,
    pickle.SETITEM: _Unpickler._setitem,
    pickle.SETITEMS: _Unpickler._setitems,
    pickle.TUPLE: _Unpickler._tuple,
    pickle.TUPLE1: lambda unpickler: unpickler._tuple(1),
    pickle.TUPLE2: lambda unpickler: unpickler._tuple(2),
    pickle.TUPLE3: lambda unpickler: unpickler._tuple(3),
    pickle.REDUCE: _Unpickler._reduce,
    pickle.NEWOBJ: _Unpickler._newobj,
    pickle.BUILD: _Unpickler._build,
    pickle.INT: lambda unpickler: unpickler._number(pickle.INT),
    pickle.LONG: lambda unpickler: unpickler._number(pickle.LONG),
    pickle.LONG1: lambda unpickler: unpickler._number(pickle.LONG1),
}
_OPERATIONS: dict[int, Callable[[Any], None]] = {
    **{code: operation for code, operation in _STANDARD.items() if bytes([code]) not in _REFUSED},
    **{code[0]: operation for code, operation in _BOUNDED.items()},
}
_Unpickler.dispatch = _OPERATIONS


def _ordered_dict() -> OrderedDict[Any, Any]:
    """Stand-in for ``OrderedDict``, which pickles call without arguments."""
    return OrderedDict()


def _set(kind: type[set[Any]] | type[frozenset[Any]], items: list[Any]) -> set[Any] | frozenset[Any]:
    """Stand-in for sets."""
    _check_keys(items)
    return kind(items)


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
    ("collections", "OrderedDict"): _ordered_dict,
    ("builtins", "set"): partial(_set, set),
    ("builtins", "frozenset"): partial(_set, frozenset),
    ("numpy", "dtype"): _Dtype,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy._core.multiarray", "scalar"): _scalar,  # its name from numpy 2 on
}


class _Storage(NamedTuple):
    """Stand-in for a tensor's memory: a member of the archive."""

    member: str
    numbers: int


class _Tensor(NamedTuple):
    """Stand-in for a tensor, which is all of its memory."""

    member: str
    shape: tuple[int, ...]


def _float_storage() -> None:
    """Stand-in for ``torch.FloatStorage``, which pickles name and do not call."""


def _rebuild_tensor(storage: object, offset: object, shape: object, stride: object, *_flags: object) -> _Tensor:
    """Stand-in for torch's ``_rebuild_tensor_v2``."""
    if type(storage) is not _Storage or type(shape) is not tuple or len(shape) > MOST_ARGUMENTS:
        raise pickle.UnpicklingError("a tensor is not made of memory and a shape")
    _demand(all(type(size) is int for size in shape), "a shape is not of whole numbers")
    whole = offset == 0 and stride == tuple(prod(shape[i + 1 :]) for i in range(len(shape)))
    _demand(whole and prod(shape) == storage.numbers, "a tensor is not all of its memory, in order")
    return _Tensor(storage.member, shape)


_TENSORS: Allowed = {("torch", "FloatStorage"): _float_storage, ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor}


class _WeightsUnpickler(_Unpickler):
    """Reads the pickle in a file of torch, which refers to memory by the names of members."""

    def persistent_load(self, pid: Any) -> _Storage:
        kind, storage_type, key, _device, numbers = pid
        plain = kind == "storage" and storage_type is _float_storage and type(key) is str and type(numbers) is int
        _demand(plain, "memory that is not of float32 numbers")
        return _Storage(f"data/{key}", numbers)


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
