"""The rooms of strings import each other only downwards."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import freerea_seval.strings

ROOT = Path(freerea_seval.strings.__file__).parent
BELOW = {"graph": (), "text": ("graph",), "trace": ("graph",), "spaces": ("graph", "text", "trace", "views")}


@pytest.mark.parametrize("room", BELOW)
def test_a_room_imports_only_rooms_below_it(room: str) -> None:
    for path in (ROOT / room).glob("*.py"):
        imported = set(re.findall(r"^\s*from freerea_seval\.strings\.(\w+)", path.read_text(), re.MULTILINE))
        assert imported <= {room, *BELOW[room]}, path


def test_every_exported_name_exists() -> None:
    for name in freerea_seval.strings.__all__:
        assert getattr(freerea_seval.strings, name) is not None
