"""The experiments on strings, each at a tiny size; ceilings against a naive twin."""

from __future__ import annotations

import csv
import math
import pickle
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau

from experiments.strings import speed as string_speed
from experiments.strings import twins, views
from experiments.strings.benchmark import ceiling, ceilings_summary, counter, main, tokens_summary
from freerea_patch import InputError, TopologySpace
from freerea_patch.spaces import OPERATIONS

CELLS = TopologySpace().genotypes()
FORM = "|{}~0|+|{}~0|{}~1|+|{}~0|{}~1|{}~2|"
#: Both are one convolution; the second has a branch that nothing reads.
PLAIN = FORM.format("none", "none", "none", "nor_conv_3x3", "none", "none")
DEAD = FORM.format("nor_conv_1x1", "none", "none", "nor_conv_3x3", "none", "none")
OTHER = FORM.format("none", "none", "none", "nor_conv_1x1", "none", "none")


def table(printed: str) -> list[list[str]]:
    """Return the rows of a printed Markdown table."""
    rows = [line.strip("| ").split(" | ") for line in printed.splitlines() if line.startswith("| ")]
    return rows[2:]


def raw(folder: Path) -> list[dict[str, str]]:
    with (folder / "rows.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@settings(deadline=None)  # the first call imports scipy
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 5).map(float)), min_size=4, max_size=40))
def test_a_ceiling_is_the_tau_of_the_means_by_string(networks: list[tuple[str, float]]) -> None:
    strings, values = zip(*networks, strict=True)
    test = range(0, len(networks), 2)
    means = [np.mean([v for s, v in networks if s == string]) for string, _ in networks]
    expected = kendalltau([values[i] for i in test], [means[i] for i in test]).statistic
    assert ceiling(strings, np.array(values), list(test)) == pytest.approx(expected, nan_ok=True)


def test_a_ceiling_of_strings_that_all_differ_is_one_and_of_equal_ones_undefined() -> None:
    values = np.array([3.0, 1.0, 2.0])
    assert ceiling(["a", "b", "c"], values, [0, 1, 2]) == pytest.approx(1.0)
    assert math.isnan(ceiling(["a", "a", "a"], values, [0, 1, 2]))


def test_a_summary_of_ceilings_counts_only_the_chosen_cells() -> None:
    rows = [
        {"index": index, "view": view, "string": f"{view}{index // step}", "characters": index}
        for view, step in (("executed", 1), ("functional", 2), ("published", 5))
        for index in range(20)
    ]
    printed = ceilings_summary(pd.DataFrame(rows), range(10), {"accuracy": np.arange(20.0)})
    assert [row[:3] for row in table(printed)] == [
        ["executed", "10", "0 / 4 / 9"],
        ["functional", "5", "0 / 4 / 9"],
        ["published", "2", "0 / 4 / 9"],
    ]
    assert "on 2 test cells" in printed


@pytest.mark.data
def test_ceilings_go_on_where_they_stopped(data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with open(data_dir / "hw_nas_bench" / "nasbench201_cifar10.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    metrics = {name: [float(line[name]) for line in lines] for name in lines[0] if name != "index"}
    (tmp_path / "hw.pickle").write_bytes(pickle.dumps({"nasbench201": {"cifar10": metrics}}))
    out = tmp_path / "out"
    arguments = ["ceilings", "--cache", str(data_dir / "freerea_cached_metrics"), "-o", str(out)]
    main([*arguments, "--cells", "10"])
    ten = raw(out)
    capsys.readouterr()
    main([*arguments, "--cells", "30", "--hw-nas-bench", str(tmp_path / "hw.pickle")])
    assert raw(out)[:30] == ten
    assert len(raw(out)) == 90
    rows = table(capsys.readouterr().out)
    assert [row[0] for row in rows] == ["executed", "functional", "published"]
    assert rows[0][1] == "30"
    # Three accuracies and two latencies; where all strings differ nothing is lost.
    assert rows[0][3:] == ["1.0000"] * 5
    assert int(rows[1][1]) < 30
    with pytest.raises(InputError, match="another config"):
        main([*arguments, "--seed", "1"])


def test_tokens_are_counted_for_both_spaces(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["tokens", "--cells", "30", "--published", "3", "-o", str(tmp_path)]
    main(arguments)
    rows = table(capsys.readouterr().out)
    assert [row[:3] for row in rows] == [
        [space, view, count]
        for space in ("nats-tss", "nats-sss")
        for view, count in (("executed", "30"), ("functional", "30"), ("published", "3"))
    ]
    assert all(0 < float(row[3]) <= int(row[4]) < 200 for row in rows if row[1] != "published")
    assert all(row[3:5] == ["", ""] and int(row[6]) > 1000 for row in rows if row[1] == "published")
    before = raw(tmp_path)
    main(arguments)
    assert raw(tmp_path) == before


def test_a_t5_tokenizer_counts_the_published_strings(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"?": 0, "one": 1}, unk_token="?"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(tokenizer_object=words, unk_token="?").save_pretrained(tmp_path / "t5")
    assert counter(views.PUBLISHED, tmp_path / "t5")("one two one") == 3
    assert counter(views.PUBLISHED, None)("one two one") == ""
    with pytest.raises(InputError, match=r"nowhere has no tokenizer; expected a folder with tokenizer\.json"):
        counter(views.PUBLISHED, tmp_path / "nowhere")


def test_a_summary_of_tokens_has_median_and_maximum() -> None:
    rows = [
        {"space": "s", "view": "executed", "index": 0, "tokens": tokens, "characters": 10 * tokens}
        for tokens in (1, 9, 2)
    ]
    assert table(tokens_summary(pd.DataFrame(rows))) == [["s", "executed", "3", "2", "9", "20", "90"]]


@pytest.mark.parametrize("space", ["nats-tss", "fbnet"])
def test_speed_is_timed_in_rounds(tmp_path: Path, capsys: pytest.CaptureFixture[str], space: str) -> None:
    arguments = [
        "speed",
        "--space",
        space,
        "--cells",
        "3",
        "--fresh",
        "1",
        "--batch",
        "2",
        "--threads",
        "1",
        "-o",
        str(tmp_path),
    ]
    main([*arguments, "--rounds", "1"])
    main([*arguments, "--rounds", "2"])
    rows = table(capsys.readouterr().out)[-5:]
    assert [row[:3] for row in rows] == [
        ["published way", "", "2"],
        ["first conversion", "executed", "2"],
        ["first conversion", "functional", "2"],
        ["3 networks", "executed", "2"],
        ["3 networks", "functional", "2"],
    ]
    assert rows[0][-1] == "1.0"
    assert [row["round"] for row in raw(tmp_path)] == ["0"] * 5 + ["1"] * 5


def test_nothing_is_timed_if_the_strings_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    string_speed.agree(TopologySpace(), [PLAIN], views.published_batch(2, 32))

    def wrong(space: views.Space, view: str, genotypes: Sequence[str]) -> Iterator[str]:
        return (string + " " for string in views.strings_of(space, view, genotypes))

    monkeypatch.setattr(string_speed, "strings_of", wrong)
    with pytest.raises(InputError, match=r"has two executed strings, .*; there is nothing to time"):
        string_speed.agree(TopologySpace(), [PLAIN], views.published_batch(2, 32))


def test_the_authors_networks_compute_the_same_features_and_add_to_zero() -> None:
    space, cell = TopologySpace(), FORM.format(*OPERATIONS, "nor_conv_1x1")
    torch.manual_seed(0)
    ours = space.build(cell).eval()
    torch.manual_seed(0)
    theirs = views.authors_network(space, cell).eval()
    images = torch.rand(2, 3, 8, 8)
    with torch.no_grad():
        features = theirs(images)
        linear = next(module for module in ours.modules() if isinstance(module, torch.nn.Linear))
        assert torch.allclose(linear(features), ours(images), atol=1e-5)
    (string,) = views.strings_of(space, views.PUBLISHED, [cell])
    # Six edges are six additions in fifteen cells; two residual blocks have one each.
    assert string.count("_Add") == 6 * 15 + 2
    assert string.endswith("_Relu")


def test_pairs_are_of_different_cells_with_one_string() -> None:
    pairs = twins.twins("abcdef", ["x", "y", "x", "z", "y", "x"], 50, seed=0)
    assert {frozenset(pair) for pair in pairs} == {frozenset(pair) for pair in ("ac", "af", "cf", "be")}
    with pytest.raises(InputError, match="no two of 2 cells have the same string"):
        twins.twins("ab", ["x", "y"], 1, seed=0)


def test_equal_weights_on_corresponding_operations_give_equal_outputs() -> None:
    first, second = twins.outputs(TopologySpace(), PLAIN, DEAD, seed=0)
    assert first.shape == (4, 10)
    assert (first - second).abs().max() < 1e-5
    assert (first[0] - first[1]).abs().max() > 1e-3
    again, _ = twins.outputs(TopologySpace(), PLAIN, DEAD, seed=1)
    assert (first - again).abs().max() > 1e-3


def test_cells_of_two_strings_have_no_corresponding_operations() -> None:
    with pytest.raises(InputError, match="no functional view in common"):
        twins.outputs(TopologySpace(), PLAIN, OTHER, seed=0)


def test_random_twins_compute_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["equality", "--cells", "60", "-o", str(tmp_path)]
    main([*arguments, "--pairs", "2"])
    two = raw(tmp_path)
    main([*arguments, "--pairs", "4"])
    assert raw(tmp_path)[:2] == two
    assert table(capsys.readouterr().out)[-1][:2] == ["4", "4"]
    assert all(row["first"] != row["second"] for row in raw(tmp_path))
