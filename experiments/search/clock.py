"""The clock of the plugin: elapsed time and CPU time of calls."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any


class Clock:
    """The time that calls of functions took."""

    def __init__(self) -> None:
        self.wall_s = self.cpu_s = 0.0
        self.calls = 0

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function with its calls timed."""

        @wraps(function)
        def call(*arguments: Any) -> Any:
            began, began_cpu = time.perf_counter(), time.process_time()
            result = function(*arguments)
            self.wall_s += time.perf_counter() - began
            self.cpu_s += time.process_time() - began_cpu
            self.calls += 1
            return result

        return call


@contextmanager
def clocked(owner: type, name: str) -> Iterator[Clock]:
    """Time the calls of a method of a class."""
    clock, function = Clock(), getattr(owner, name)
    setattr(owner, name, clock.timed(function))
    try:
        yield clock
    finally:
        setattr(owner, name, function)
