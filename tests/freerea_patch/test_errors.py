"""Errors whose message a user reads."""

from __future__ import annotations

from copy import copy

import pytest

from freerea_patch import InputError, NothingFeasible


@pytest.mark.parametrize("kind", [InputError, NothingFeasible])
def test_the_message_is_one_line_whatever_another_error_in_it_says(kind: type[InputError]) -> None:
    error = kind("the cache x cannot be used (malformed schema (a\n  b\r\nc\u2028d)); delete it\n")
    assert str(error) == "the cache x cannot be used (malformed schema (a b c d)); delete it"
    assert str(copy(error)) == str(error)
    assert str(kind("  two  spaces ")) == "two  spaces"
