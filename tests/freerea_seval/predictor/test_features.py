"""Features of network strings."""

from __future__ import annotations

import re
import subprocess
import sys
from math import log1p

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from freerea_patch import InputError, TopologySpace
from freerea_seval.predictor.features import TOTALS, StringFeatures, _describe, parse_string
from freerea_seval.strings.trace import network_string

#: One convolution reaches the output; the other is multiplied by zero.
HALF_DEAD = (
    "input[3x4x4] conv(3,2,k1,s1,p0,w6,m96)[2x4x4]<-1 conv(3,2,k3,s1,p1,w54,m864)[2x4x4]<-2"
    " mul(0)[2x4x4]<-1 add[2x4x4]<-3,1 mean[2]<-1 output<-1"
)


def named(strings: list[str], string: str) -> dict[str, float]:
    """Return the features of a string by name, learned from others."""
    features = StringFeatures().fit(strings)
    (row,) = features.transform([string])
    return dict(zip(features.get_feature_names_out(), row.tolist(), strict=True))


def test_totals_tell_what_runs_and_what_reaches_the_output() -> None:
    found = named([HALF_DEAD, HALF_DEAD], HALF_DEAD)
    expected = {
        "total all log multiply-adds": log1p(96 + 864),
        "total all log parameters": log1p(6 + 54),
        "total all log elements": log1p(48 + 4 * 32 + 2),
        "total all operations": 7,
        "total all depth": 6,
        "total live log multiply-adds": log1p(96),
        "total live log parameters": log1p(6),
        "total live log elements": log1p(48 + 2 * 32 + 2),
        "total live operations": 5,
        "total live depth": 5,
    }
    assert set(expected) == set(TOTALS)
    assert {name: found[name] for name in TOTALS} == pytest.approx(expected, rel=1e-6)


def naive(string: str) -> dict[str, float]:
    """Count tokens and pairs with regular expressions: the slow twin."""
    tokens = string.split()
    labels = [token.split("<-")[0] for token in tokens]
    groups = [re.sub(r"\[.*", "", label) for label in labels]
    groups = [re.sub(r"^(conv|linear)\(\d+,\d+,?", r"\1(", group) for group in groups]
    groups = [re.sub(r"(?<=[(,])[wm]\d+(?=[,)])", "", group) for group in groups]
    groups = [re.sub(r",+\)", ")", group).replace("()", "") for group in groups]
    found: dict[str, float] = {}
    for position, token in enumerate(tokens):
        label, group = labels[position], groups[position]
        found[f"count {label}"] = labels.count(label)
        same = [label for label, g in zip(labels, groups, strict=True) if g == group]
        found[f"cost all {group} operations"] = len(same)
        found[f"cost all {group} multiply-adds"] = sum(int(n) for s in same for n in re.findall(r",m(\d+)\)", s))
        for distance in re.findall(r"\d+", token.partition("<-")[2]):
            pair = f"pair {groups[position - int(distance)]} -> {group}"
            found[pair] = found.get(pair, 0) + 1
    return found


def test_counts_equal_those_of_the_naive_twin(strings: list[str]) -> None:
    cell = TopologySpace().genotypes()[0]
    strings = [*strings[:20], network_string(TopologySpace().build(cell), (3, 32, 32)), HALF_DEAD]
    features = StringFeatures().fit(strings)
    matrix = features.transform(strings)
    for row, string in zip(matrix, strings, strict=True):
        twin = naive(string)
        for name, value in zip(features.get_feature_names_out(), row.tolist(), strict=True):
            if name.startswith(("count", "pair", "cost all")) and not name.endswith("elements"):
                assert value == twin.get(name, 0), name
    assert len(features.get_feature_names_out()) > 50


def test_live_chains_leave_out_what_is_multiplied_by_zero() -> None:
    found = _describe(parse_string(HALF_DEAD))
    assert {name: value for name, value in found.items() if name.startswith("live chain")} == {
        "live chain input -> conv(k1,s1,p0) -> add": 1,
        "live chain conv(k1,s1,p0) -> add -> mean": 1,
        "live chain add -> mean -> output": 1,
    }
    assert found["pair conv(k3,s1,p1) -> mul(0)"] == 1
    gated = _describe(parse_string("input[3] mul(0)[3]<-1 add[3]<-2,1 output<-1"))
    assert [name for name in gated if name.startswith("live chain")] == ["live chain input -> add -> output"]


def test_what_training_never_showed_adds_to_the_totals_alone(strings: list[str]) -> None:
    features = StringFeatures().fit(strings)
    plain = "input[3x8x8] relu[3x8x8]<-1 output<-1"
    strange = "input[3x8x8] relu[3x8x8]<-1 warp(k9,w70,m500)[3x8x8]<-1 output<-2"
    one, other = features.transform([plain, strange])
    changed = features.get_feature_names_out()[one != other].tolist()
    assert changed == list(TOTALS[:4])


def test_widths_that_training_never_showed_share_their_group(strings: list[str]) -> None:
    wide = "input[3x8x8] conv(3,999,k3,s1,p1,w26973,m1726272)[999x8x8]<-1 output<-1"
    found = named(strings, wide)
    assert found["cost all conv(k3,s1,p1) operations"] == 1
    assert found["cost all conv(k3,s1,p1) multiply-adds"] == 1726272
    assert found["pair input -> conv(k3,s1,p1)"] == 1


def test_the_vocabulary_is_sorted_without_repetition_and_whatever_the_order(strings: list[str]) -> None:
    features = StringFeatures().fit(strings)
    assert features.vocabulary_ == sorted(set(features.vocabulary_))
    assert StringFeatures().fit(strings[::-1]).vocabulary_ == features.vocabulary_
    columns = features.transform(strings)[:, len(TOTALS) :].T.tolist()
    assert len({tuple(column) for column in columns}) == len(columns)
    names = features.get_feature_names_out()
    assert [name.startswith("cost ") for name in names] == [
        i in range(*features.costs_.indices(len(names))) for i in range(len(names))
    ]


def test_both_ways_to_transform_agree_and_shapes_hold_at_zero_and_one(strings: list[str]) -> None:
    features = StringFeatures()
    at_once = features.fit_transform(strings)
    assert at_once.dtype == np.float32
    assert np.array_equal(at_once, StringFeatures().fit(strings).transform(strings))
    assert features.transform([]).shape == (0, at_once.shape[1])
    assert np.array_equal(features.transform(strings[3:4]), at_once[3:4])
    assert StringFeatures().fit_transform(strings[:1]).shape == (1, len(TOTALS))


def test_the_transformer_keeps_scikit_learns_contract(strings: list[str]) -> None:
    features = StringFeatures()
    assert features.fit(strings) is features
    with pytest.raises(NotFittedError):
        clone(features).transform(strings)
    with pytest.raises(NotFittedError):
        StringFeatures().get_feature_names_out()


@pytest.mark.parametrize(
    ("string", "message"),
    [
        ("", "'' is no network string; expected what freerea_seval.strings.trace writes, such as 'input"),
        ("input[3] output<-2", "'output<-2' is no token of a network string"),
        ("input[3] relu[3]<-0 output<-1", "'relu\\[3\\]<-0' is no token"),
        ("input[3] relu[3]<- output<-1", "'relu\\[3\\]<-' is no token"),
        ("input[3] re-lu[3]<-1 output<-1", "'re-lu\\[3\\]<-1' is no token"),
        ("input[3] relu[3]<-1", "is no network string"),
        ("relu[3] output<-1", "is no network string"),
        ("|none~0|+" + "x" * 90, r"'\|none~0\|\+x{51}\.\.\.' is no token"),
    ],
)
def test_what_is_no_network_string_is_an_error_of_one_line(string: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        parse_string(string)
    assert "\n" not in str(caught.value)


def test_a_single_string_or_none_is_refused() -> None:
    for wrong in ("input[3] output<-1", [3]):
        with pytest.raises(InputError, match="expected a list of network strings, such as SpaceStrings"):
            StringFeatures().fit(wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="need at least one network string"):
        StringFeatures().fit([])


@given(st.one_of(st.text(max_size=40), st.text("inputo<-1(),[]x3 ", max_size=40).map("input[3] {} output<-1".format)))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        nodes = parse_string(text)
    except InputError:
        return
    assert [token.split("<-")[0] for token in text.split()] == [node.operation.label for node in nodes]


sizes = st.lists(st.integers(1, 99), max_size=3)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(("conv", "relu", "mul", "add")),
            st.lists(st.sampled_from(("0", "k3", "s1", "dim=-1:2", "w12", "m345")), unique=True),
            sizes,
            st.lists(st.integers(0, 99), max_size=3),
        ),
        max_size=8,
    )
)
def test_a_string_that_is_written_is_read_back(
    operations: list[tuple[str, list[str], list[int], list[int]]],
) -> None:
    tokens = ["input[3]"]
    expected: list[tuple[str, tuple[int, ...], int, int, int]] = [("input[3]", (), 3, 0, 0)]
    for position, (kind, attributes, shape, sources) in enumerate(operations, start=1):
        inputs = tuple(source % position for source in sources)
        label = kind + (f"({','.join(attributes)})" if attributes else "") + f"[{'x'.join(map(str, shape))}]"
        tokens.append(label + ("<-" + ",".join(str(position - s) for s in inputs) if inputs else ""))
        counted = (int(np.prod(shape)), 12 if "w12" in attributes else 0, 345 if "m345" in attributes else 0)
        expected.append((label, inputs, *counted))
    nodes = parse_string(" ".join([*tokens, "output"]))[:-1]
    found = [(n.operation.label, n.inputs, *n.operation[:1:-1]) for n in nodes]
    assert found == expected


@pytest.mark.parametrize(("module", "package"), [("sklearn", "sklearn"), ("xgboost", "xgboost")])
def test_without_a_package_the_error_says_how_to_install_it(module: str, package: str) -> None:
    script = f"import sys; sys.modules[{module!r}] = None; import freerea_seval.predictor.folder"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ran.stderr.splitlines()[-1].endswith(
        f"predictors need the package {package}: pip install 'freerea-seval[predictor]'"
    )
