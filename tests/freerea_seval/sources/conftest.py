"""What the tests of the data sources share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from freerea_patch import InputError, SizeSpace, TopologySpace
from freerea_seval.sources.registry import Context


@pytest.fixture
def topology(tmp_path: Path) -> Context:
    """A search in the topology space on CIFAR-10 whose config is in ``tmp_path``."""
    return Context(TopologySpace(), base=tmp_path)


@pytest.fixture
def size(tmp_path: Path) -> Context:
    """A search in the size space on CIFAR-10 whose config is in ``tmp_path``."""
    return Context(SizeSpace(), base=tmp_path)


@pytest.fixture
def error_of() -> Callable[[Callable[[], object]], str]:
    """The function that returns the text of a call's error, which has to be one line for the user."""

    def error(call: Callable[[], object]) -> str:
        with pytest.raises(InputError) as caught:
            call()
        text = str(caught.value)
        assert text
        assert "\n" not in text
        return text

    return error
