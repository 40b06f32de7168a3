from __future__ import annotations

import bz2
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from freerea_patch import InputError
from freerea_seval import unpickle
from freerea_seval.unpickle import MOST_BYTES, NatsBenchPatch, PlainValue, load_pickle, load_weights

VALUE_CLASS = {("publisher.data", "Value"): PlainValue}
NUMBERS = st.integers(-(2**63), 2**64 - 1)
ATOMS = st.none() | st.booleans() | NUMBERS | st.floats(allow_nan=False) | st.text() | st.binary()
PLAIN = st.recursive(
    ATOMS,
    lambda inner: (
        st.lists(inner)
        | st.tuples(st.lists(inner), st.tuples(ATOMS, ATOMS), ATOMS)
        | st.dictionaries(st.text() | st.tuples(ATOMS, ATOMS), inner)
        | st.dictionaries(NUMBERS, inner).map(OrderedDict)
    ),
    max_leaves=20,
)


def write(folder: Path, data: bytes, name: str = "values.pickle") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def error_of(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_pickle(path, VALUE_CLASS, "some table")
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith("some table: ")
    return text


@given(PLAIN)
def test_plain_values_come_back_as_they_were(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    path = write(tmp_path_factory.getbasetemp(), pickle.dumps(value))
    assert load_pickle(path, {}, "some table") == value


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_sets_and_ordered_dicts_are_read_in_every_protocol(tmp_path: Path, protocol: int) -> None:
    value = {"set": {1, 2}, "frozen": frozenset({3}), "ordered": OrderedDict(b=1, a=2)}
    # fix_imports names the builtins as Python 2 did; files that old are not read.
    path = write(tmp_path, pickle.dumps(value, protocol=protocol, fix_imports=False))
    assert load_pickle(path, {}, "some table") == value


def test_a_compressed_file_is_known_by_its_content(tmp_path: Path) -> None:
    path = write(tmp_path, bz2.compress(pickle.dumps([1, 2])), "no-hint-in-the-name")
    assert load_pickle(path, {}, "some table") == [1, 2]


@pytest.mark.parametrize("module", ["numpy.core.multiarray", "numpy._core.multiarray"])
@pytest.mark.parametrize(
    "number",
    [
        np.float16(0.5),
        np.float32(-1.5),
        np.float64(0.1),
        np.int8(-7),
        np.int64(-(2**60)),
        np.uint8(255),
        np.uint64(2**63),
        np.bool_(True),
    ],
    ids=lambda number: type(number).__name__,
)
def test_numpys_numbers_become_plain_ones(tmp_path: Path, number: np.generic, module: str) -> None:
    data = pickle.dumps([number], protocol=3)
    written = type(number).__reduce__(number)[0].__module__.encode()
    assert written in data
    (found,) = load_pickle(write(tmp_path, data.replace(written, module.encode())), {}, "some table")
    assert found == number.item()
    assert type(found) is type(number.item())


def test_a_big_endian_number_keeps_its_value(tmp_path: Path) -> None:
    big = np.array([1.25], dtype=">f8")[0]
    data = pickle.dumps(np.dtype(">f8"), protocol=3)[:-1]  # all but the final STOP leaves the type on the stack
    data = b"\x80\x03cnumpy.core.multiarray\nscalar\n" + data[2:] + b"C\x08" + struct.pack(">d", big) + b"\x86R."
    assert load_pickle(write(tmp_path, data), {}, "some table") == 1.25


def test_a_value_class_is_replaced_by_the_stand_in(tmp_path: Path) -> None:
    data = b"\x80\x03cpublisher.data\nValue\n)\x81}X\x08\x00\x00\x00accuracyG" + struct.pack(">d", 91.5) + b"sb."
    value = load_pickle(write(tmp_path, data), VALUE_CLASS, "some table")
    assert type(value) is PlainValue
    assert vars(value) == {"accuracy": 91.5}


class Attack:
    """Runs a command when an unguarded loader reads its pickle."""

    def __init__(self, function: Any, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def touch(marker: Path) -> str:
    return f"touch {marker}"


def attacks(marker: Path) -> dict[str, bytes]:
    evil = f"__import__('os').system({touch(marker)!r})"
    command = touch(marker).encode()
    dotted = b"\x80\x04\x8c\x02os\x8c\x0bpath.os.sys\x93."
    return {
        "os.system": pickle.dumps(Attack(os.system, touch(marker))),
        "os.system, protocol 0": b"cos\nsystem\n(S'" + command + b"'\ntR.",
        "os.system, INST": b"(S'" + command + b"'\nios\nsystem\n.",
        "eval": pickle.dumps(Attack(eval, evil)),
        "eval behind plain values": pickle.dumps([1, {"a": Attack(eval, evil)}]),
        "exec of Python 2": b"c__builtin__\nexec\n(S'" + evil.replace("'", '"').encode() + b"'\ntR.",
        "getattr": pickle.dumps(Attack(getattr, OrderedDict, "__init__")),
        "dotted name": dotted,
        "dotted name of an allowed class": b"\x80\x04\x8c\x0bcollections\x8c\x14OrderedDict.__init__\x93.",
        "dotted name of a stand-in": b"\x80\x04\x8c\x0epublisher.data\x8c\x0eValue.__init__\x93.",
        "class of this test": pickle.dumps(Attack),
        "name with a line break": b"\x80\x04\x8c\x02os\x8c\x07sys\ntem\x93.",
        "name of any length": b"\x80\x04\x8c\x02osX\x00\x00\x10\x00" + b"x" * 2**20 + b"\x93.",
    }


@pytest.mark.parametrize("name", list(attacks(Path())))
def test_a_name_outside_the_list_is_refused_before_anything_runs(tmp_path: Path, name: str) -> None:
    marker = tmp_path / "it-ran"
    text = error_of(write(tmp_path, attacks(marker)[name]))
    assert "refused to run code" in text
    assert len(text) < 400 + len(str(tmp_path))
    assert not marker.exists()


def test_the_error_names_what_was_refused(tmp_path: Path) -> None:
    assert f"'{os.system.__module__}.system'" in error_of(write(tmp_path, pickle.dumps(Attack(os.system, "true"))))


def test_the_attacks_of_these_tests_do_run_under_an_unguarded_loader(tmp_path: Path) -> None:
    for name in ("os.system", "os.system, INST", "eval", "eval behind plain values", "exec of Python 2"):
        marker = tmp_path / f"{name} ran"
        marker_free = Path(str(marker).replace(" ", "-"))
        pickle.loads(attacks(marker_free)[name])  # noqa: S301 - written three lines above
        assert marker_free.exists(), name


@pytest.mark.parametrize("code", ["O8", "O", "V8", "U4", "S4", "M8", "c16", "f16"])
def test_a_numpy_scalar_is_read_only_if_it_is_a_plain_number(tmp_path: Path, code: str) -> None:
    marker = tmp_path / "it-ran"
    payload = pickle.dumps(Attack(os.system, touch(marker)))
    name = code.encode()
    data = (
        b"\x80\x03cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\nX"
        + struct.pack("<I", len(name))
        + name
        + b"\x89\x88\x87R"
    )
    data += b"B" + struct.pack("<I", len(payload)) + payload + b"\x86R."
    assert f"numpy type {code!r} is no plain number" in error_of(write(tmp_path, data))
    assert not marker.exists()


def test_a_real_object_scalar_of_numpy_is_refused(tmp_path: Path) -> None:
    marker = tmp_path / "it-ran"
    array = np.empty(1, dtype=object)
    array[0] = Attack(os.system, touch(marker))
    text = error_of(write(tmp_path, pickle.dumps(array)))
    assert "refused to run code" in text
    assert "_reconstruct" in text
    assert not marker.exists()


@pytest.mark.parametrize(
    "body",
    [
        b"cnumpy.core.multiarray\nscalar\nX\x02\x00\x00\x00f8C\x08" + bytes(8) + b"\x86R.",
        b"cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\nX\x02\x00\x00\x00f8\x89\x88\x87RC\x04" + bytes(4) + b"\x86R.",
        b"cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\nX\x02\x00\x00\x00f8\x89\x88\x87RN\x86R.",
        b"cnumpy\ndtype\nX\x02\x00\x00\x00f8\x89\x88\x87R(K\x03X\x01\x00\x00\x00?tb.",
    ],
    ids=["no type", "too few bytes", "no bytes", "byte order"],
)
def test_a_numpy_scalar_that_does_not_fit_together_is_damage(tmp_path: Path, body: bytes) -> None:
    assert "is damaged or not a pickle" in error_of(write(tmp_path, b"\x80\x03" + body))


def test_every_truncation_is_an_error(tmp_path: Path) -> None:
    data = pickle.dumps({"accuracy": [1.5, np.float64(2.5)], "names": ("a", "b")})
    for length in range(1, len(data)):
        assert "is damaged or not a pickle" in error_of(write(tmp_path, data[:length]))


def test_a_truncated_compressed_file_is_an_error(tmp_path: Path) -> None:
    data = bz2.compress(pickle.dumps(list(range(1000))))
    assert "is damaged or not a pickle" in error_of(write(tmp_path, data[: len(data) // 2]))
    assert "is damaged or not a pickle" in error_of(write(tmp_path, data[:10] + b"x" + data[11:]))


def test_a_text_file_an_empty_file_a_folder_and_no_file_are_errors(tmp_path: Path) -> None:
    assert "is damaged or not a pickle" in error_of(write(tmp_path, b"index,accuracy\n0,91.5\n"))
    assert "is empty" in error_of(write(tmp_path, b""))
    assert "cannot read" in error_of(tmp_path)
    assert "No such file or directory" in error_of(tmp_path / "missing.pickle")


def test_the_patch_replaces_the_loader_of_nats_bench_and_puts_it_back() -> None:
    from nats_bench import api_size, api_topology, api_utils

    original = api_utils.pickle_load
    patch = NatsBenchPatch()
    with patch:
        for module in (api_size, api_topology, api_utils):
            assert module.pickle_load is not original
        patch.undo()
        assert api_utils.pickle_load is original
        patch.undo()
    for module in (api_size, api_topology, api_utils):
        assert module.pickle_load is original


def test_the_patch_is_undone_after_an_error() -> None:
    from nats_bench import api_topology

    original = api_topology.pickle_load
    with pytest.raises(KeyError), NatsBenchPatch():
        raise KeyError
    assert api_topology.pickle_load is original


def test_the_patch_refuses_a_package_without_the_function(monkeypatch: pytest.MonkeyPatch) -> None:
    from nats_bench import api_size, api_utils

    original = api_utils.pickle_load
    monkeypatch.delattr(api_size, "pickle_load")
    with pytest.raises(InputError, match=r"^nats_bench.api_size has no pickle_load.*pip install"), NatsBenchPatch():
        pass
    assert api_utils.pickle_load is original


def test_the_patched_loader_adds_the_extension_as_the_package_does(tmp_path: Path) -> None:
    from nats_bench import api_utils

    write(tmp_path, bz2.compress(pickle.dumps("compressed")), "meta.pickle.pbz2")
    with NatsBenchPatch():
        assert api_utils.pickle_load(tmp_path / "meta.pickle") == "compressed"
        assert api_utils.pickle_load(tmp_path / "meta.pickle.pbz2") == "compressed"
        write(tmp_path, pickle.dumps(Attack(os.system, touch(tmp_path / "it-ran"))), "hostile.pickle.pbz2")
        with pytest.raises(InputError, match="refused to run code"):
            api_utils.pickle_load(tmp_path / "hostile.pickle")
    assert not (tmp_path / "it-ran").exists()


def size(number: int, count: int) -> bytes:
    return number.to_bytes(count, "little")


SET = b"\x80\x02cbuiltins\nset\n"
SCALAR = b"\x80\x02cnumpy.core.multiarray\nscalar\n"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\x80\x05\x96" + size(2**60, 8) + b".", "KeyError: 150"),  # a bytearray
        (b"\x80\x05\x8e" + size(2**60, 8) + b".", "EOFError"),  # bytes
        (b"\x80\x05\x8d" + size(2**60, 8) + b".", "EOFError"),  # a string
        (b"\x80\x02\x8b\xff\xff\xff\x7f.", "KeyError: 139"),  # a number
        (b"\x80\x02\x8b\xff\xff\xff\xff.", "KeyError: 139"),  # a number of negative length
        (b"\x80\x04N", "no end"),
        (b"S'text", ""),
        (b"\xffN.", "KeyError: 255"),
        (b"\x82\x01.", "KeyError: 130"),  # an object that another loader has kept
        (b"(" * 100_000 + b".", "more than 1000 containers within each other"),
        (b"(" * 100_000 + b"\x91" * 100_000 + b".", "more than 1000 containers within each other"),
        (pickle.dumps(10**400, 2), "a number of more than 64 bits"),
        (b"I" + b"9" * 20 + b"\n.", "a number of more than 64 bits"),
        (b"L-" + b"9" * 19 + b"L\n.", "a number of more than 64 bits"),
        (b"I" + b"9" * 400_000 + b"\n.", "digits"),
        # Tuples within each other: a key whose hash crashes the interpreter, or takes 2^40 steps.
        (b"}" + b")" + b"\x85" * 200_000 + b"Ns.", "a tuple as a key"),
        (b")" + b"\x85" * 200_000 + b".", "a tuple as a key"),
        (b"\x80\x04)\x94" + b"".join(b"h%ch%c\x86\x94" % (n, n) for n in range(40)) + b".", "a tuple as a key"),
        (b"\x80\x04}(NNNtN(((NNtttNu.", "a tuple as a key"),
        (b"(" + b"N" * 65 + b"tN\x86d.", ""),
        (b"(" + b"(" + b"N" * 65 + b"tNd.", "a tuple as a key"),
        (SET + b"](N" + b"\x85\x85\x85e\x85R.", "a tuple as a key"),
        (b"\x80\x04\x8f((Nttt\x90.", ""),
        # A state that would change the loader for the rest of the process.
        (SCALAR + b"}X\x01\x00\x00\x00xNsb.", "a state of a function"),
        (SCALAR + b"N}X\x01\x00\x00\x00xNs\x86b.", "a state of a function"),
        (b"\x80\x02cpublisher.data\nValue\nN}X\x01\x00\x00\x00xNs\x86b.", "a state of a type"),
        (b"\x80\x02cpublisher.data\nValue\n)\x81N}X\x09\x00\x00\x00__class__Ns\x86b.", "a state of a PlainValue"),
        (b"\x80\x02]}b.", "a state of a list"),
        # A call with a million arguments, again and again.
        (b"\x80\x02cpublisher.data\nValue\nq\x00(" + b"N" * 1000 + b"tq\x01" + b"h\x00h\x01\x81" * 9000 + b".", ""),
    ],
)
@pytest.mark.parametrize("compress", [bytes, bz2.compress])
def test_no_content_costs_memory_time_or_the_interpreter(
    tmp_path: Path, content: bytes, reason: str, compress: Any
) -> None:
    before = dict(vars(PlainValue)), dict(vars(unpickle._scalar))
    error = error_of(write(tmp_path, compress(content)))
    assert "is damaged or not a pickle" in error
    assert reason in error
    assert (dict(vars(PlainValue)), dict(vars(unpickle._scalar))) == before


@pytest.mark.parametrize("content", [b"\x80\x02Nr\xff\xff\xff\x7f.", b"Np2000000000\n."])
def test_a_large_number_in_the_memo_costs_no_memory(tmp_path: Path, content: bytes) -> None:
    assert load_pickle(write(tmp_path, content), {}, "some table") is None


@pytest.mark.parametrize(
    "content",
    [
        b"(" + b"\x8f" * 5 + b"t.",
        b"(" + b"(\x91" * 5 + b"t.",
        b"\x80\x02cpublisher.data\nValue\nq\x00(" + b"h\x00)\x81" * 5 + b"l.",
        b"\x80\x02ccollections\nOrderedDict\nq\x00(" + b"h\x00)R" * 5 + b"l.",
        SET + b"q\x00](K\x01K\x02e\x85q\x01" + b"h\x00h\x01R" * 2 + b".",
    ],
    ids=["sets", "frozen sets", "objects", "calls", "arguments of calls"],
)
def test_calls_and_sets_have_a_bound(tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, content)
    monkeypatch.setattr(unpickle, "MOST_CALLS", 6)
    load_pickle(path, VALUE_CLASS, "some table")
    monkeypatch.setattr(unpickle, "MOST_CALLS", 4)
    assert "more than 4 calls and sets" in error_of(path)


def test_a_file_that_decompresses_to_more_than_the_bound_is_refused(tmp_path: Path) -> None:
    compressor = bz2.BZ2Compressor()
    bomb = compressor.compress(b"]" * (MOST_BYTES + 1)) + compressor.flush()
    assert len(bomb) < MOST_BYTES / 10_000
    assert "more than 12 MiB" in error_of(write(tmp_path, bomb))


def test_a_file_longer_than_the_bound_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, b"(")
    os.truncate(path, 2**40)
    assert "more than 12 MiB" in error_of(path)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_size_that_the_file_has_is_read(tmp_path: Path, protocol: int) -> None:
    words = [f"{number:x}" * 3 for number in range(3000)]
    value = {
        "list": words,
        "again": [words, words[::-1]],
        "text": "x" * 70_000,
        "ints": [2**64 - 1, -1],
        "line": "a\nb",
    }
    path = write(tmp_path, pickle.dumps(value, protocol=protocol))
    assert load_pickle(path, {}, "some table") == value


SHAPES: Mapping[str, tuple[int, ...]] = {"fc.weight": (2, 3), "fc.bias": (2,)}


def saved(folder: Path, state: object = None, **options: Any) -> Path:
    """Write a state with torch, by default that of a linear layer with random weights."""
    path = folder / "weights.pth"
    torch.save(
        torch.nn.ModuleDict({"fc": torch.nn.Linear(3, 2)}).state_dict() if state is None else state, path, **options
    )
    return path


def replaced(path: Path, contents: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    """Replace members of a file of torch by what they are to contain."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, contents.get(name.partition("/")[2], data))
    return path


def error_of_weights(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_weights(path, SHAPES, "some network")
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith("some network: ")
    return text


def test_weights_are_those_that_torch_wrote_whatever_the_name_of_the_file(tmp_path: Path) -> None:
    path = saved(tmp_path)
    state = torch.load(path, weights_only=True)
    weights = load_weights(path.rename(tmp_path / "renamed"), SHAPES, "some network")
    assert list(weights) == list(SHAPES)
    assert all(np.array_equal(weights[name], state[name].numpy()) for name in SHAPES)


@pytest.mark.parametrize("name", list(attacks(Path())))
def test_weights_run_no_code(tmp_path: Path, name: str) -> None:
    marker = tmp_path / "it-ran"
    path = replaced(saved(tmp_path), {"data.pkl": attacks(marker)[name]})
    assert "refused to run code" in error_of_weights(path)
    assert not marker.exists()


def test_weights_of_another_type_or_layout_are_errors(tmp_path: Path) -> None:
    bias = torch.zeros(2)
    states: list[tuple[object, str]] = [
        ({"fc.weight": torch.zeros(2, 3).half(), "fc.bias": bias}, "'torch.HalfStorage'"),
        ({"fc.weight": torch.zeros(3, 2).T, "fc.bias": bias}, "a tensor is not all of its memory, in order"),
        ({"fc.weight": torch.zeros(4, 3)[2:], "fc.bias": bias}, "a tensor is not all of its memory, in order"),
        ({"fc.weight": torch.zeros(2, 3)}, "expected the tensors {'fc.weight': (2, 3), 'fc.bias': (2,)}, got {'fc.we"),
        ({"fc.weight": torch.zeros(3, 2), "fc.bias": bias}, "got {'fc.weight': (3, 2), 'fc.bias': (2,)}"),
        ({"fc.weight": torch.full((2, 3), torch.nan), "fc.bias": bias}, "a value of fc.weight is not a finite number"),
        ({"fc.weight": 3, "fc.bias": bias}, "no state of tensors"),
        ([1, 2], "no state of tensors"),
    ]
    for state, message in states:
        assert message in error_of_weights(saved(tmp_path, state))


def test_damaged_weights_are_errors(tmp_path: Path) -> None:
    path = saved(tmp_path)
    data = path.read_bytes()
    (at,) = (i for i in range(len(data)) if data.startswith(torch.load(path)["fc.bias"].numpy().tobytes(), i))
    for content in (data[:-1], data[: len(data) // 2], data[:at] + b"\0" + data[at + 1 :], b"text", bytes(1000)):
        assert "is damaged or not a file of torch.save" in error_of_weights(write(tmp_path, content))
    assert "is empty" in error_of_weights(write(tmp_path, b""))
    assert "(No such file or directory); check the path" in error_of_weights(tmp_path / "none")
    old = saved(tmp_path, _use_new_zipfile_serialization=False)
    assert "is damaged or not a file of torch.save (BadZipFile: " in error_of_weights(old)


def test_weights_cost_no_memory_that_the_file_does_not_have(tmp_path: Path) -> None:
    with zipfile.ZipFile(saved(tmp_path)) as archive:
        pkl = archive.read("weights/data.pkl")
    large = pkl.replace(b"K\x02K\x03\x86", b"K\x02J\xff\xff\xff\x7f\x86", 1)
    assert large != pkl
    assert "a tensor is not all of its memory" in error_of_weights(replaced(saved(tmp_path), {"data.pkl": large}))
    assert "cannot reshape" in error_of_weights(replaced(saved(tmp_path), {"data/0": bytes(1000)}))
    bomb = replaced(saved(tmp_path), {"data/0": bytes(10**8)}, zipfile.ZIP_DEFLATED)
    assert "a compressed member" in error_of_weights(bomb)
    os.truncate(bomb, 2**40)
    assert "more than 12 MiB" in error_of_weights(bomb)
