"""The rooms of strings import each other only downwards."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3] / "freerea_seval" / "strings"
BELOW = {"graph": (), "text": ("graph",), "trace": ("graph",), "spaces": ("graph", "text", "trace", "views")}


@pytest.mark.parametrize("room", BELOW)
def test_a_room_imports_only_rooms_below_it(room: str) -> None:
    for path in (ROOT / room).glob("*.py"):
        imported = set(re.findall(r"^\s*from freerea_seval\.strings\.(\w+)", path.read_text(), re.MULTILINE))
        assert imported <= {room, *BELOW[room]}, path
