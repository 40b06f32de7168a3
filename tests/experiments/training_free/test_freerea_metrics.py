"""The experiment on proxies, at a tiny size, and its rank correlation against scipy's."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from experiments.training_free.freerea_metrics import main, read_published, spearman, summary
from freerea_patch import InputError

VALUES = st.one_of(st.integers(-5, 5).map(float), st.just(-math.inf))


@given(st.lists(st.tuples(VALUES, VALUES), min_size=3, max_size=30))
def test_the_rank_correlation_equals_scipys(pairs: list[tuple[float, float]]) -> None:
    first, second = np.array(pairs).T
    if len(set(first)) > 1 and len(set(second)) > 1:
        assert spearman(first, second) == pytest.approx(spearmanr(first, second).statistic, abs=1e-12)


def test_minus_infinity_is_the_lowest_rank() -> None:
    assert spearman(np.array([-math.inf, 1.0, 2.0]), np.array([5.0, 6.0, 7.0])) == pytest.approx(1.0)


def test_a_summary_counts_the_infinite_on_either_side() -> None:
    published = {"naswot": [1.0, -math.inf, -math.inf, 4.0], "logsynflow": [1.0, 2.0, 3.0, 4.0]}
    ours = [5.0, -math.inf, 6.0, 7.0]
    rows = [
        {
            "index": str(i),
            "naswot": str(v),
            "logsynflow": str(i),
            "network_s": "1",
            "naswot_s": "2",
            "logsynflow_s": "3",
        }
        for i, v in enumerate(ours)
    ]
    lines = summary(rows, published).splitlines()
    # Ranks 2, 1, 3, 4 and 3, 1.5, 1.5, 4: the correlation is 3 / sqrt(5 * 4.5).
    assert lines[2] == "| naswot | 4 | 0.6325 | 1 / 2 / 1 | 2.000 |"
    assert lines[3] == "| logsynflow | 4 | 1.0000 | 0 / 0 / 0 | 3.000 |"
    assert lines[-1] == "Building and initialising: 1.000 seconds a cell besides."


def test_a_folder_without_the_published_values_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"naswot\.csv cannot be used .*; expected the folder cached_metrics"):
        read_published(tmp_path, "naswot")


@pytest.mark.data
def test_an_experiment_goes_on_where_it_stopped(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    batch = str(data_dir / "cifar10_batch" / "batch64_0.npz")
    arguments = ["--cache", str(data_dir / "freerea_cached_metrics"), "--batch", batch, "--batch-size", "8"]
    arguments += ["--initialisations", "1", "-o", str(tmp_path / "out")]
    rows = tmp_path / "out" / "rows.csv"
    main([*arguments, "--cells", "2"])
    two = rows.read_text()
    main([*arguments, "--cells", "4"])
    assert rows.read_text().startswith(two)
    assert len(rows.read_text().splitlines()) == 5
    assert "| naswot | 4 | " in capsys.readouterr().out
    with pytest.raises(InputError, match="another config"):
        main([*arguments, "--seed", "1", "--cells", "2"])
