"""The cache of metric values: what it keeps, and what happens to a file that it cannot use."""

from __future__ import annotations

import math
import sqlite3
import subprocess
import sys
from collections.abc import Callable
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


def check_message(error: pytest.ExceptionInfo[InputError], path: Path) -> None:
    message = str(error.value)
    assert message.startswith(f"the cache of metric values {path} cannot be used (")
    assert message.endswith("; delete the file, choose another with 'cache: FILE', or set 'cache: off'")
    assert "\n" not in message


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cache.sqlite"
    path.write_text("not a database, however long it may be " * 100)
    with pytest.raises(InputError) as error:
        MetricCache(path)
    check_message(error, path)


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
    check_message(error, path)


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
