from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from freerea_patch import TopologySpace
from freerea_seval.sources.python_metric import PythonSource
from freerea_seval.sources.registry import Context, MetricInfo

ErrorOf = Callable[[Callable[[], object]], str]
A, B = TopologySpace().genotypes()[:2]
MODULE = "metrics_of_a_user"
CODE = """
import numpy, time, torch
from helper_of_a_user import length

def convolutions(genotype): return genotype.count("conv")
def slow(genotype): time.sleep(0.05); return length(genotype)
def parameters(network): return sum(p.numel() for p in network.parameters())
def none(genotype): return None
def word(genotype): return "3"
def truth(genotype): return True
def nan(genotype): return float("nan")
def tensor(genotype): return torch.tensor(2.5)
def array(genotype): return numpy.float32(0.5)
def many(genotype): return torch.zeros(3)
def fails(genotype): raise RuntimeError("no such\\ndevice")
def two(first, second): return 0
def nothing(): return 0
def lazy(genotype):
    import late_helper_of_a_user
    return late_helper_of_a_user.answer
def huge(genotype): return 10**400
def optional(genotype, scale=2): return scale
class Meter:
    factor = 3
    @classmethod
    def read(cls, genotype): return cls.factor
limit = 3
"""


@pytest.fixture(autouse=True)
def user_module(tmp_path: Path) -> Iterator[None]:
    (tmp_path / f"{MODULE}.py").write_text(CODE)
    (tmp_path / "helper_of_a_user.py").write_text("length = len\n")
    (tmp_path / "late_helper_of_a_user.py").write_text("answer = 42\n")
    yield
    for name in (MODULE, "helper_of_a_user", "late_helper_of_a_user"):
        sys.modules.pop(name, None)


def value(context: Context, name: str, genotype: str = A) -> float:
    (row,) = PythonSource(context, f"{MODULE}:{name}").evaluate([genotype], ["mine"])
    return row["mine"].value


@pytest.mark.parametrize(
    ("name", "expected"),
    [("convolutions", 2), ("tensor", 2.5), ("array", 0.5), ("optional", 2), ("Meter.read", 3), ("lazy", 42)],
)
def test_the_callable_gets_the_genotype(topology: Context, name: str, expected: float) -> None:
    found = value(topology, name)
    assert found == expected
    assert type(found) is float


def test_a_first_parameter_named_network_gets_the_built_network(topology: Context) -> None:
    assert value(topology, "parameters", A) == 129_306
    assert value(topology, "parameters", B) == 802_426


def test_a_callable_of_c_gets_the_genotype(topology: Context) -> None:
    (row,) = PythonSource(topology, "builtins:len").evaluate([A], ["length"])
    assert row["length"].value == len(A)


def test_nan_means_unsupported(topology: Context) -> None:
    assert math.isnan(value(topology, "nan"))


def test_wall_clock_seconds_are_charged_once(topology: Context) -> None:
    source = PythonSource(topology, f"{MODULE}:slow")
    began = time.perf_counter()
    rows = list(source.evaluate([A, B], ["one", "two"]))
    spent = time.perf_counter() - began
    charged = sum(measured.seconds for row in rows for measured in row.values())
    assert 0.1 <= charged <= spent
    assert [row["one"].value for row in rows] == [len(A), len(B)]
    assert [row["two"].value for row in rows] == [len(A), len(B)]


def test_networks_are_evaluated_one_at_a_time(topology: Context) -> None:
    rows = PythonSource(topology, f"{MODULE}:convolutions").evaluate([A, "broken"], ["mine"])
    assert next(iter(rows))["mine"].value == 2


def test_any_name_will_do_and_only_the_user_knows_the_direction(topology: Context) -> None:
    info = PythonSource(topology, f"{MODULE}:convolutions").describe("whatever")
    assert info == MetricInfo("whatever", None, "", f"returned by {MODULE}:convolutions")


def test_the_search_path_is_left_as_it_was(topology: Context) -> None:
    before = list(sys.path)
    PythonSource(topology, f"{MODULE}:convolutions")
    assert sys.path == before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none", "none returned a NoneType for"),
        ("word", "word returned a str for"),
        ("truth", "truth returned a bool for"),
        ("many", "many returned a Tensor for"),
        ("huge", "huge returned a int for"),
        ("fails", "fails failed for"),
    ],
)
def test_a_failure_names_the_callable_and_the_network(
    topology: Context, error_of: ErrorOf, name: str, message: str
) -> None:
    error = error_of(lambda: value(topology, name))
    assert f"{MODULE}:{message}" in error
    assert repr(A) in error
    assert "float('nan')" in error


def test_the_first_line_of_an_exception_is_told(topology: Context, error_of: ErrorOf) -> None:
    assert "(RuntimeError: no such)" in error_of(lambda: value(topology, "fails"))


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        (None, "expected pkg.module:callable, got None"),
        (3, "expected pkg.module:callable, got 3"),
        ({"call": "x"}, "expected pkg.module:callable, got {'call': 'x'}"),
        ("", "expected pkg.module:name, got ''"),
        (MODULE, "expected pkg.module:name"),
        ("no_such_module:x", "cannot import 'no_such_module'"),
        (f"{MODULE}:missing", f"{MODULE!r} has no 'missing'"),
        (f"{MODULE}:limit", "is not callable, but a int"),
        (f"{MODULE}:two", "must take one argument, a genotype or a network"),
        (f"{MODULE}:nothing", "must take one argument, a genotype or a network"),
    ],
)
def test_an_argument_that_cannot_be_used_is_an_error_before_the_search(
    topology: Context, error_of: ErrorOf, argument: Any, message: str
) -> None:
    assert message in error_of(lambda: PythonSource(topology, argument))
