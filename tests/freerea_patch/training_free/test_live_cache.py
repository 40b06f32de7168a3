"""The cache of metric values: what it keeps, and what happens to a file that it cannot use."""

from __future__ import annotations

import math
import multiprocessing
import os
import pickle
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freerea_patch import InputError, Measured, MetricCache
from freerea_patch.training_free import cache_key


def test_what_was_never_stored_is_none(tmp_path: Path) -> None:
    assert MetricCache(tmp_path / "cache.sqlite").get("key") is None


@pytest.mark.parametrize("value", [0.1 + 0.2, -1e308, 5e-324, 0.0, math.inf, -math.inf])
def test_a_stored_value_comes_back_to_the_last_bit(tmp_path: Path, value: float) -> None:
    cache = MetricCache(tmp_path / "cache.sqlite")
    cache.put({"key": Measured(value, 1.25)})
    assert cache.get("key") == Measured(value, 1.25)


def test_nan_comes_back_as_nan(tmp_path: Path) -> None:
    cache = MetricCache(tmp_path / "cache.sqlite")
    cache.put({"key": Measured(math.nan, 1.25)})
    found = cache.get("key")
    assert found is not None
    assert math.isnan(found.value)
    assert found.seconds == 1.25


def test_the_first_value_stays(tmp_path: Path) -> None:
    cache = MetricCache(tmp_path / "cache.sqlite")
    cache.put({"key": Measured(1.0, 1.0)})
    cache.put({"key": Measured(2.0, 2.0)})
    assert cache.get("key") == Measured(1.0, 1.0)


def test_values_outlive_the_process_that_stored_them(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folders" / "cache.sqlite"
    first = MetricCache(path)
    first.put({"key": Measured(1.0, 2.0)})
    first.close()
    assert MetricCache(path).get("key") == Measured(1.0, 2.0)


WRITER = """
import sys
from collections.abc import Callable
from pathlib import Path
from freerea_patch import Measured, MetricCache

cache = MetricCache(Path(sys.argv[1]))
for number in range(30):
    cache.put({f"key {number}": Measured(float(number), float(sys.argv[2]))})
"""


def test_two_processes_may_write_the_same_keys_at_once(tmp_path: Path) -> None:
    path = tmp_path / "cache.sqlite"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(name)]) for name in (1, 2)]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0]
    cache = MetricCache(path)
    found = [cache.get(f"key {number}") for number in range(30)]
    assert [m.value for m in found if m is not None] == [float(number) for number in range(30)]
    assert {m.seconds for m in found if m is not None} <= {1.0, 2.0}


def check_message(error: pytest.ExceptionInfo[InputError], path: Path, damaged: bool = False) -> None:
    message = str(error.value)
    assert message.startswith(f"the cache of metric values {path} cannot be used (")
    assert message.endswith("choose another with 'cache: FILE', or set 'cache: off'")
    assert ("; delete the file, " in message) == damaged  # a file that is only locked or another's must not go
    assert "\n" not in message


def test_threads_share_a_cache(tmp_path: Path) -> None:
    cache = MetricCache(tmp_path / "cache.sqlite")

    def use(who: int) -> list[Measured | None]:
        for number in range(40):
            cache.put({f"{who} {number}": Measured(float(number), 1.0), f"all {number}": Measured(float(number), 1.0)})
        return [cache.get(f"{kind} {number}") for kind in (who, "all") for number in range(40)]

    with ThreadPoolExecutor(8) as pool:
        for values in pool.map(use, range(8)):
            assert values == [Measured(float(number), 1.0) for number in range(40)] * 2


def test_a_cache_can_be_pickled_whatever_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cache = MetricCache(Path("cache.sqlite"))
    cache.put({"key": Measured(1.0, 2.0)})
    pickled = pickle.dumps(cache)
    monkeypatch.chdir(tmp_path.parent)
    assert pickle.loads(pickled).get("key") == Measured(1.0, 2.0)  # noqa: S301


def _put_in_fork(cache: MetricCache) -> None:
    cache.put({"child": Measured(1.0, 2.0)})
    os._exit(0 if len(cache._connections) == 2 else 1)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_has_a_connection_and_a_lock_of_its_own(tmp_path: Path) -> None:
    cache = MetricCache(tmp_path / "cache.sqlite")
    with cache._locks[os.getpid()]:  # as another thread would have it at the moment of the fork
        child = multiprocessing.get_context("fork").Process(target=_put_in_fork, args=(cache,))
        child.start()
        child.join(30)
    assert child.exitcode == 0
    assert cache.get("child") == Measured(1.0, 2.0)


def test_a_file_that_others_write_is_used_with_a_log_and_without_where_machines_share_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mode(path: Path) -> str:
        with MetricCache(path)._connected() as connection:
            return str(connection.execute("PRAGMA journal_mode").fetchone()[0])

    assert mode(tmp_path / "local.sqlite") == "wal"
    mounts = f"/dev/a / ext4 rw 0 0\nhost:/home {tmp_path} nfs4 rw 0 0\nb {tmp_path}/scratch xfs rw 0 0\n"
    monkeypatch.setattr(Path, "read_text", lambda self: mounts)
    assert mode(tmp_path / "shared.sqlite") == "delete"
    assert mode(tmp_path / "scratch" / "mine.sqlite") == "wal"
    (tmp_path / "link").symlink_to(tmp_path / "scratch")
    assert mode(tmp_path / "link" / "mine.sqlite") == "wal"


def test_a_failed_put_stores_nothing_and_the_cache_goes_on(tmp_path: Path) -> None:
    cache = MetricCache(tmp_path / "cache.sqlite")
    with pytest.raises(InputError):
        cache.put({"first": Measured(1.0, 2.0), "second": Measured(1.0, object())})  # type: ignore[arg-type]
    cache.put({"third": Measured(1.0, 2.0)})
    assert [cache.get(key) is None for key in ("first", "second", "third")] == [True, True, False]


def test_a_locked_file_is_not_said_to_be_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("freerea_patch.training_free.live._BUSY_S", 0.01)
    path = tmp_path / "cache.sqlite"
    cache = MetricCache(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(InputError, match="database is locked") as error:
            cache.put({"key": Measured(1.0, 2.0)})
    check_message(error, path)


def test_a_file_with_a_log_is_read_where_nothing_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a cache?.sqlite"
    first = MetricCache(path)
    first.put({"key": Measured(1.0, 2.0)})
    first.close()
    connect: Callable[..., sqlite3.Connection] = sqlite3.connect

    class Refusing(sqlite3.Connection):
        def execute(self, *arguments: Any) -> Any:
            raise sqlite3.OperationalError("attempt to write a readonly database")

    def read_only(name: Any, **options: Any) -> sqlite3.Connection:
        # What SQLite does for an ordinary user in a folder without write permission; the superuser has it always.
        return connect(name, **options, factory=sqlite3.Connection if "immutable" in str(name) else Refusing)

    monkeypatch.setattr("freerea_patch.training_free.live.sqlite3.connect", read_only)
    with pytest.raises(InputError, match="readonly"):
        MetricCache(path)
    monkeypatch.setattr("freerea_patch.training_free.live.os.access", lambda path, mode: False)
    cache = MetricCache(path)
    assert cache.get("key") == Measured(1.0, 2.0)
    with pytest.raises(InputError, match="readonly"):
        cache.put({"other": Measured(1.0, 2.0)})


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cache.sqlite"
    path.write_text("not a database, however long it may be " * 100)
    with pytest.raises(InputError) as error:
        MetricCache(path)
    check_message(error, path, damaged=True)


def test_a_damaged_file_is_refused_when_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "cache.sqlite"
    cache = MetricCache(path)
    for number in range(20):
        cache.put({f"key {number}" * 400: Measured(1.0, 1.0)})
    cache.close()
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)  # all pages but the first, which holds the schema
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        MetricCache(path).get("key 7" * 400)
    check_message(error, path, damaged=True)


@pytest.mark.parametrize(
    ("value", "seconds"), [("'text'", "1.0"), ("x'00'", "1.0"), ("1.0", "'text'"), ("1.0", "-1.0")]
)
def test_a_value_that_is_no_number_is_damage(tmp_path: Path, value: str, seconds: str) -> None:
    path = tmp_path / "cache.sqlite"
    MetricCache(path).close()
    with sqlite3.connect(path) as other:
        other.execute(f"INSERT INTO metric VALUES ('key', {value}, {seconds})")
    other.close()
    with pytest.raises(InputError) as error:
        MetricCache(path).get("key")
    check_message(error, path, damaged=True)


def test_a_damaged_name_that_is_no_text_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "cache.sqlite"
    MetricCache(path).close()
    path.write_bytes(path.read_bytes().replace(b"metric", b"metr\xffc").replace(b"CREATE TABLE", b"CREATE TABLX"))
    with pytest.raises(InputError) as error:
        MetricCache(path)
    check_message(error, path, damaged=True)


def test_another_database_with_a_table_of_that_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cache.sqlite"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE metric (name TEXT)")
    other.close()
    with pytest.raises(InputError) as error:
        MetricCache(path).get("key")
    check_message(error, path)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    path = tmp_path / "file" / "cache.sqlite"
    with pytest.raises(InputError) as error:
        MetricCache(path)
    check_message(error, path)


def test_a_folder_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        MetricCache(tmp_path)
    check_message(error, tmp_path)


def test_a_read_only_file_is_read_and_refused_for_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "cache.sqlite"
    first = MetricCache(path)
    first.put({"key": Measured(1.0, 2.0)})
    first.close()
    connect: Callable[..., sqlite3.Connection] = sqlite3.connect

    def read_only(name: Path, **options: Any) -> sqlite3.Connection:
        # File modes do not hold back the superuser, who may run the tests; SQLite's own read-only mode does.
        return connect(f"file:{name}?mode=ro", uri=True, **options)

    monkeypatch.setattr("freerea_patch.training_free.live.sqlite3.connect", read_only)
    cache = MetricCache(path)
    assert cache.get("key") == Measured(1.0, 2.0)
    with pytest.raises(InputError) as error:
        cache.put({"other": Measured(1.0, 2.0)})
    check_message(error, path)


PARTS = st.dictionaries(st.text(max_size=8), st.one_of(st.text(max_size=8), st.integers(), st.lists(st.integers())))


@given(PARTS, PARTS)
def test_keys_differ_where_their_parts_do(first: dict[str, object], second: dict[str, object]) -> None:
    assert (cache_key(first) == cache_key(second)) == (first == second)


@given(PARTS)
def test_a_key_does_not_follow_the_order_of_its_parts(parts: dict[str, object]) -> None:
    assert cache_key(dict(reversed(parts.items()))) == cache_key(parts)


def test_a_cache_to_read_stores_nothing_and_makes_no_file(tmp_path: Path) -> None:
    path = tmp_path / "cache.sqlite"
    cache = MetricCache(path)
    cache.put({"a": Measured(1.5, 0.25)})
    cache.close()
    before = path.read_bytes()
    reader = pickle.loads(pickle.dumps(MetricCache(path, read_only=True)))  # noqa: S301 - our own
    assert reader.get("a") == Measured(1.5, 0.25)
    reader.put({"b": Measured(2.0)})
    assert reader.get("b") is None
    reader.close()
    assert path.read_bytes() == before
    (tmp_path / "no-cache.sqlite").write_text("text")
    for name in ("no-cache.sqlite", "nowhere.sqlite"):
        with pytest.raises(InputError, match=f"{name} cannot be used"):
            MetricCache(tmp_path / name, read_only=True)
    assert {file.name for file in tmp_path.iterdir()} == {"cache.sqlite", "no-cache.sqlite"}
