from __future__ import annotations

import csv
import io
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freerea_patch import InputError, Measured, SearchSpace, SizeSpace, TopologySpace
from freerea_seval.sources.registry import Context, MetricInfo
from freerea_seval.sources.table import Table, TableSource, read_table

ErrorOf = Callable[[Callable[[], object]], str]
A, B, C = TopologySpace().genotypes()[:3]


def write(folder: Path, text: str | bytes, name: str = "mine.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def values(context: Context, text: str | bytes, metric: str = "latency_ms", **options: object) -> dict[str, float]:
    """Return a table's column, looked up through the source for A and B."""
    path = write(context.base, text)
    source = TableSource(context, {"path": str(path), **options})
    source.describe(metric)
    rows = list(source.evaluate([A, B], [metric]))
    return {g: row[metric].value for g, row in zip([A, B], rows, strict=True)}


@pytest.mark.parametrize("column", ["genotype", "arch_str", "architecture"])
def test_rows_are_found_by_genotype(topology: Context, column: str) -> None:
    assert values(topology, f"{column},latency_ms\n{B},2.5\n{A},1.5\n") == {A: 1.5, B: 2.5}


def test_rows_are_found_by_index(topology: Context) -> None:
    assert values(topology, "index,latency_ms\n1,2.5\n000000,1.5\n") == {A: 1.5, B: 2.5}


def test_rows_are_found_by_the_key_that_the_user_names(topology: Context) -> None:
    text = f"cell,number,latency_ms\n{A},1,1.5\n{B},0,2.5\n"
    assert values(topology, text, key="cell") == {A: 1.5, B: 2.5}
    assert values(topology, text, key="number") == {A: 2.5, B: 1.5}


def test_the_genotype_goes_before_the_index(topology: Context) -> None:
    assert values(topology, f"index,arch_str,latency_ms\n0,{B},2.5\n1,{A},1.5\n") == {A: 1.5, B: 2.5}


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "byte order mark"])
def test_line_ends_and_a_byte_order_mark_do_not_matter(topology: Context, end: str, mark: bytes) -> None:
    lines = ["genotype,latency_ms", f' "{A}" , 1.5', "", ",", f"{B},+2.5e0", ""]
    text = end.join(lines).replace(' "', '"').replace('" ', '"')
    assert values(topology, mark + text.encode()) == {A: 1.5, B: 2.5}


def test_a_column_of_seconds_is_charged(topology: Context) -> None:
    write(topology.base, f"genotype,latency_ms,latency_ms_seconds,size\n{A},1.5,0.25,7\n{B},2.5,0,8\n")
    found = list(TableSource(topology, "mine.csv").evaluate([B, A], ["latency_ms", "size"]))
    assert found == [
        {"latency_ms": Measured(2.5, 0.0), "size": Measured(8.0)},
        {"latency_ms": Measured(1.5, 0.25), "size": Measured(7.0)},
    ]


def test_the_direction_is_the_users_to_know_and_the_unit_is_in_the_name(topology: Context) -> None:
    write(topology.base, f"genotype,latency_ms\n{A},1.5\n")
    info = TableSource(topology, "mine.csv").describe("latency_ms")
    assert info == MetricInfo("latency_ms", None, "ms", "column of mine.csv")


def test_a_network_may_have_two_rows_that_agree(topology: Context) -> None:
    assert values(topology, f"genotype,latency_ms,note\n{A},1.5,x\n{B},2.5,x\n{A},1.50,y\n") == {A: 1.5, B: 2.5}


def test_two_rows_that_contradict_each_other_are_an_error(topology: Context, error_of: ErrorOf) -> None:
    write(topology.base, f"genotype,latency_ms,size\n{A},1.5,3\n{B},2.5,3\n{A},1.75,3\n")
    source = TableSource(topology, "mine.csv")
    text = error_of(lambda: source.describe("latency_ms"))
    assert f"mine.csv, line 4: latency_ms of {A} is 1.75, but 1.5 in a row above; keep one" in text
    assert source.describe("size").name == "size"


def test_an_index_and_its_repetition_contradict_each_other_too(topology: Context, error_of: ErrorOf) -> None:
    write(topology.base, "index,latency_ms\n0,1.5\n0,2.5\n")
    assert "mine.csv, line 3:" in error_of(lambda: TableSource(topology, "mine.csv").describe("latency_ms"))


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e999", "fast", "1,5", "1_000", "0x10"])
def test_a_value_that_is_not_a_finite_number_is_an_error(topology: Context, error_of: ErrorOf, text: str) -> None:
    write(topology.base, f'genotype,latency_ms,size\n{A},1.5,3\n{B},"{text}",3\n')
    source = TableSource(topology, "mine.csv")
    error = error_of(lambda: list(source.evaluate([A], ["latency_ms"])))
    assert f"mine.csv, line 3: latency_ms is {text!r}, expected a finite number" in error
    assert "leave out the row and search the others alone: 'space: {name: ..., only: FILE}'" in error
    assert source.describe("size").name == "size"


def test_an_empty_cell_is_unsupported_and_contradicts_a_number(topology: Context, error_of: ErrorOf) -> None:
    write(topology.base, f"genotype,latency_ms,size\n{A},1.5,3\n{B}, ,3\n{B},,3\n")
    first, second = TableSource(topology, "mine.csv").evaluate([A, B], ["latency_ms"])
    assert first["latency_ms"].value == 1.5
    assert math.isnan(second["latency_ms"].value)
    write(topology.base, f"genotype,latency_ms,size\n{A},1.5,3\n{B},,3\n{B},2.5,3\n")
    error = error_of(lambda: TableSource(topology, "mine.csv").describe("latency_ms"))
    assert f"mine.csv, line 4: latency_ms of {B} is 2.5, but empty in a row above; keep one" in error


@pytest.mark.parametrize("text", ["", "soon", "nan", "-1"])
def test_seconds_that_are_none_are_an_error(topology: Context, error_of: ErrorOf, text: str) -> None:
    write(topology.base, f"genotype,size,size_seconds\n{A},3,{text}\n")
    error = error_of(lambda: TableSource(topology, "mine.csv").describe("size"))
    assert error.partition(": ")[2].startswith("size_seconds is ")


BROKEN = {
    "missing file": (None, "cannot read the table"),
    "empty file": ("", "is empty; expected a header"),
    "blank file": ("\n\n , \n", "is empty; expected a header"),
    "header only": ("genotype,latency_ms\n", "has no rows"),
    "no key": (
        "cell,latency_ms\nx,1\n",
        "expected one of genotype, arch_str, architecture, index, got cell, latency_ms; rename one, or name it",
    ),
    "repeated column": (f"genotype,a,a\n{A},1,2\n", "has two columns named 'a'"),
    "semicolons": (f"genotype;latency_ms\n{A};1,5\n", "; separate columns by commas"),
    "too few fields": (f"genotype,a,b\n{A},1,2\n{B},1\n", "line 3: expected 3 fields as in the header, got 2"),
    "too many fields": (f"genotype,a,b\n{A},1,2,3\n", "line 2: expected 3 fields as in the header, got 4"),
    "foreign genotype": ("genotype,a\n64:32:8:40:16,1\n", "line 2: '64:32:8:40:16' is not a cell"),
    "index too large": (
        "index,a\n15625,1\n",
        "line 2: '15625' is not an index of nats-tss/cifar10; expected 0 to 15624",
    ),
    "negative index": ("index,a\n-1,1\n", "line 2: '-1' is not an index"),
    "index with a point": ("index,a\n1.0,1\n", "line 2: '1.0' is not an index"),
    "endless index": (f"index,a\n{'9' * 5000},1\n", "is not an index"),
    "a field longer than CSV has": (f'genotype,a\n{A},"{"1" * 131_073}"\n', "line 2: not a row of CSV (field larger"),
    "open quote": (f'genotype,a\n{A},1\n"{B},2\n{C},3\n', "line 3: not a row of CSV"),
    "line break in a name": ('"ce\nll",a\nx,1\n', "got ce ll, a;"),
    "bytes": (f"genotype,a\n{A},1\n".encode() + b"\xff,2\n", "line 3: expected UTF-8 text"),
    "UTF-16": (f"genotype,a\n{A},1\n".encode("utf-16"), "line 1: expected UTF-8 text"),
}


@pytest.mark.parametrize("name", list(BROKEN))
def test_a_broken_file_is_an_error_before_the_search_starts(topology: Context, error_of: ErrorOf, name: str) -> None:
    content, message = BROKEN[name]
    if content is not None:
        write(topology.base, content)
    error = error_of(lambda: TableSource(topology, "mine.csv"))
    assert message in error
    assert "mine.csv" in error


def test_an_unknown_metric_lists_the_columns_of_numbers(topology: Context, error_of: ErrorOf) -> None:
    write(topology.base, f"genotype,latency_ms,note,size\n{A},1.5,good,3\n")
    source = TableSource(topology, "mine.csv")
    error = error_of(lambda: source.describe("latency"))
    assert "unknown metric of table" in error
    assert "did you mean 'latency_ms'? Valid: latency_ms, size" in error
    assert "Valid: latency_ms, size" in error_of(lambda: source.describe("genotype"))


def test_a_genotype_without_a_row_is_an_error_that_says_how_to_allow_it(topology: Context, error_of: ErrorOf) -> None:
    write(topology.base, f"genotype,size\n{A},3\n")
    error = error_of(lambda: list(TableSource(topology, "mine.csv").evaluate([A, B], ["size"])))
    assert error.endswith(
        f"has no row for {B!r}; add the row, or search its rows alone: 'space: {{name: ..., only: mine.csv}}'"
    )


def test_a_genotype_without_a_row_can_be_unsupported(topology: Context) -> None:
    write(topology.base, f"genotype,size\n{A},3\n")
    source = TableSource(topology, {"path": "mine.csv", "missing": "unsupported"})
    first, second = source.evaluate([A, B], ["size"])
    assert first == {"size": Measured(3.0)}
    assert math.isnan(second["size"].value)
    assert second["size"].seconds == 0


def test_a_number_can_stand_for_no_value(topology: Context) -> None:
    write(topology.base, f"genotype,latency_ms,latency_ms_seconds\n{A},-1,2\n{B},7,2\n")
    source = TableSource(topology, {"path": "mine.csv", "unsupported": -1})
    first, second = source.evaluate([A, B], ["latency_ms"])
    assert math.isnan(first["latency_ms"].value)
    assert first["latency_ms"].seconds == 2
    assert second == {"latency_ms": Measured(7.0, 2.0)}


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        (None, "expected a path, got None"),
        ("", "expected a path, got ''"),
        (3, "expected a path, got 3"),
        (["a.csv"], "expected a path, got ['a.csv']"),
        ({}, "expected a path, got None"),
        ({"path": 3}, "expected a path, got 3"),
        ({"path": "mine.csv", "missing": True}, "unknown value of 'missing' in source 'table': True"),
        ({"path": "mine.csv", "missing": ["x"]}, "Valid: error, unsupported"),
        ({"file": "mine.csv"}, "unknown option of source 'table' 'file'"),
        ({3: "mine.csv"}, "Valid: key, missing, path, unsupported"),
        ({"path": "mine.csv", "unsupported": "none"}, "'unsupported' in source 'table' must be a number, not 'none'"),
        ({"path": "mine.csv", "key": "cell"}, "'cell'. Valid: genotype, size"),
        ({"path": "mine.csv", "key": 3}, "Valid: genotype, size"),
    ],
)
def test_an_argument_that_cannot_be_used_is_an_error(
    topology: Context, error_of: ErrorOf, argument: Any, message: str
) -> None:
    write(topology.base, f"genotype,size\n{A},3\n")
    assert message in error_of(lambda: TableSource(topology, argument))


class Letters:
    """A space of three networks that no benchmark numbers."""

    name = "letters"
    input_shape = (1, 1, 1)

    def check(self, genotype: str) -> None:
        if genotype not in ("a", "b", "c"):
            raise InputError(f"{genotype!r} is no letter")

    def sample(self, rng: Any) -> str:
        return "a"

    def mutate(self, genotype: str, rng: Any) -> str:
        return "b"

    def crossover(self, first: str, second: str, rng: Any) -> str:
        return "c"

    def build(self, genotype: str) -> Any:
        return None


def test_a_space_of_ones_own_is_looked_up_by_genotype_only(tmp_path: Path, error_of: ErrorOf) -> None:
    space: SearchSpace = Letters()
    assert read_table(write(tmp_path, "genotype,x\nb,1\na,2\n"), space, "x") == (["b", "a"], [1.0, 2.0])
    path = write(tmp_path, "index,x\n0,1\n")
    assert "space letters numbers none" in error_of(lambda: read_table(path, space, "x"))
    path = write(tmp_path, "genotype,x\nd,1\n")
    assert "line 2: 'd' is no letter" in error_of(lambda: read_table(path, space, "x"))


def test_the_size_space_is_looked_up_as_well(tmp_path: Path) -> None:
    path = write(tmp_path, "genotype,x\n64:32:8:40:16,1\n")
    assert read_table(path, SizeSpace(), "x") == (["64:32:8:40:16"], [1.0])


def test_a_table_is_read_in_the_order_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, f"genotype,x\n{C},3\n{A},1\n{C},3\n{B},2\n")
    assert read_table(path, TopologySpace(), "x") == ([C, A, B], [3.0, 1.0, 2.0])


@given(
    st.dictionaries(st.integers(0, 15624), st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
)
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory,
    rows: dict[int, float],
    by_index: bool,
    mark: bool,
    end: str,
    quoting: Any,
) -> None:
    space = TopologySpace()
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator=end, quoting=quoting)
    writer.writerow(["note", "index" if by_index else "genotype", "x"])
    for index, value in rows.items():
        writer.writerow(["a, b", index if by_index else space.genotypes()[index], value])
    data = text.getvalue().encode("utf-8-sig" if mark else "utf-8")
    path = write(tmp_path_factory.getbasetemp(), data)
    genotypes, found = read_table(path, space, "x")
    assert genotypes == [space.genotypes()[index] for index in rows]
    assert found == list(rows.values())


@pytest.mark.data
def test_a_published_table_reads_as_a_naive_loop_reads_it(data_dir: Path) -> None:
    path = data_dir / "hw_nas_bench" / "nasbench201_cifar100.csv"
    genotypes, found = read_table(path, TopologySpace("cifar100"), "pixel3_latency")
    with path.open() as file:
        header = file.readline().strip().split(",")
        naive = [float(line.split(",")[header.index("pixel3_latency")]) for line in file]
    assert found == naive
    assert genotypes == list(TopologySpace().genotypes())


def test_a_table_of_many_columns_is_read_in_seconds(tmp_path: Path) -> None:
    path = tmp_path / "wide.csv"
    names = [f"metric {number}" for number in range(40_000)]
    path.write_text(",".join(["genotype", *names]) + f"\n{A}{',1' * 40_000}\n")
    began = time.process_time()
    table = Table(path, TopologySpace())
    assert (table.columns, table.column("metric 7")[A].value) == (names, 1)
    assert time.process_time() - began < 5
