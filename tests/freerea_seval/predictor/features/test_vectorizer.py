"""Features of network strings."""

from __future__ import annotations

import subprocess
import sys
from math import log1p
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from freerea_patch import InputError, TopologySpace
from freerea_seval.predictor.features.segment_features import TOTALS, describe
from freerea_seval.predictor.features.vectorizer import StringFeatures, share_features
from freerea_seval.strings.encode import SpaceStrings
from freerea_seval.strings.views import VIEWS
from tests.freerea_seval.predictor.features.test_segment_features import HALF_DEAD, window


def named(strings: list[str], string: str) -> dict[str, float]:
    """Return the features of a string by name, learned from others."""
    features = StringFeatures().fit(strings)
    (row,) = features.transform([string])
    return dict(zip(features.get_feature_names_out(), row.tolist(), strict=True))


def test_totals_are_in_logarithms() -> None:
    found = named([HALF_DEAD, HALF_DEAD], HALF_DEAD)
    expected = {
        "total multiply-adds": log1p(96 + 864),
        "total parameters": log1p(6 + 54),
        "total elements": log1p(48 + 4 * 32 + 2),
        "total operations": log1p(7),
        "total depth": log1p(5),
    }
    assert tuple(expected) == TOTALS
    assert {name: found[name] for name in TOTALS} == pytest.approx(expected, rel=1e-6)


def test_a_matrix_holds_what_describes_each_string(strings: list[str]) -> None:
    space = TopologySpace()
    strings = [*strings[:20], *(s for view in VIEWS for s in SpaceStrings(space, view).strings(space.genotypes()[:2]))]
    features = StringFeatures().fit(strings)
    names = features.get_feature_names_out()
    for row, string in zip(features.transform(strings), strings, strict=True):
        found = describe(string)
        expected = [log1p(found.get(name, 0)) if name in TOTALS else found.get(name, 0) for name in names]
        assert row == pytest.approx(expected, rel=1e-6)
    assert len(names) > 50


@pytest.mark.parametrize(("strange", "changed"), [("linear(70)", TOTALS), ("warp(9)[1x3x8x8]<-1,w70", TOTALS[1:])])
def test_what_training_never_showed_adds_to_the_totals_and_the_lengths_of_paths_alone(
    strange: str, changed: tuple[str, ...], strings: list[str]
) -> None:
    features = StringFeatures().fit(strings)
    one, other = features.transform([f"input[1x3x8x8] relu{more} output" for more in ("", f" {strange}")])
    # Everything else stands elsewhere in a longer network.
    kept = [not name.startswith("place") for name in features.get_feature_names_out()]
    one, other = one[kept], other[kept]
    names = features.get_feature_names_out()[kept][one != other].tolist()
    between = ("next", "order", "walk")  # what stood side by side and does not any more
    assert [name for name in names if not name.startswith(between)] == [*changed, "longest path"]
    assert (other[one != other] < one[one != other]).tolist() == [name.startswith(between) for name in names]


def test_widths_that_training_never_showed_share_their_group(strings: list[str]) -> None:
    found = named(strings, "input[1x3x8x8] conv(999,k3) output")
    assert found[f"cost {window(3)} operations"] == 1
    assert found[f"cost {window(3)} multiply-adds"] == 1726272


def test_the_widest_network_has_finite_features() -> None:
    wide = "input[" + "x".join(["999999999999999999"] * 30) + "] 100*relu linear output"
    assert np.isfinite(StringFeatures().fit_transform([wide, wide, HALF_DEAD])).all()


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
    assert StringFeatures().fit_transform(strings[:1]).shape == (1, len(TOTALS))


def test_a_row_has_the_same_bits_alone_and_in_any_batch(strings: list[str]) -> None:
    features = StringFeatures().fit(strings)
    together = features.transform(strings)
    assert np.array_equal(np.concatenate([features.transform([string]) for string in strings]), together)
    assert np.array_equal(features.transform([*strings[::-1], *strings]), np.concatenate([together[::-1], together]))


def test_the_last_matrix_is_remembered_and_nothing_else_can_change_it(strings: list[str]) -> None:
    features = StringFeatures().fit(strings)
    matrix = features.matrix(strings[:3])
    assert features.matrix(tuple(strings[:3])) is matrix
    features.transform(strings[:3])[:] = 0
    with pytest.raises(ValueError, match="read-only"):
        matrix[:] = 0
    fresh = StringFeatures.of(features.vocabulary_)
    assert np.array_equal(fresh.transform(strings[:3]), matrix)
    assert np.array_equal(features.transform(strings[2::-1]), matrix[::-1])
    features.vocabulary_ = features.vocabulary_[:-1]
    assert np.array_equal(features.transform(strings[2::-1]), matrix[::-1, :-1])
    assert "_last" not in features.__getstate__()


def test_models_with_equal_features_share_them(strings: list[str]) -> None:
    names = [["a"], ["b"], ["a"]]
    models = [*(SimpleNamespace(features_=StringFeatures.of(its)) for its in names), None]
    first, second, *_ = kept = [model.features_ for model in models if model]
    share_features(models)
    assert [model.features_ for model in models if model] == [first, second, first] != kept


def test_the_transformer_keeps_scikit_learns_contract(strings: list[str]) -> None:
    features = StringFeatures()
    assert features.fit(strings) is features
    with pytest.raises(NotFittedError):
        clone(features).transform(strings)
    with pytest.raises(NotFittedError):
        StringFeatures().get_feature_names_out()


def test_what_is_no_network_string_is_named(strings: list[str]) -> None:
    for call in (StringFeatures().fit, StringFeatures().fit_transform, StringFeatures().fit(strings).transform):
        with pytest.raises(InputError, match="'re-lu'"):
            call([strings[0], "input[1x3] re-lu output"])


def test_a_single_string_or_none_is_refused() -> None:
    for wrong in ("input[1x3] output", [3]):
        with pytest.raises(InputError, match="expected a list of network strings, such as SpaceStrings"):
            StringFeatures().fit(wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="need at least one network string"):
        StringFeatures().fit([])


@pytest.mark.parametrize(("module", "package"), [("sklearn", "sklearn"), ("xgboost", "xgboost")])
def test_without_a_package_the_error_says_how_to_install_it(module: str, package: str) -> None:
    script = f"import sys; sys.modules[{module!r}] = None; import freerea_seval.predictor.folder"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ran.stderr.splitlines()[-1].endswith(
        f"predictors need the package {package}: pip install 'freerea-seval[predictor]'"
    )
