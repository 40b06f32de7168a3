"""Ray Tune: an evaluator as its trainable, on the library itself and by the block of the guide."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pandas.testing import assert_frame_equal

import freerea_seval as fs
from tests.test_documentation import RAY, ROOT, blocks

ray = pytest.importorskip("ray")


@pytest.mark.slow
def test_trials_of_a_tuner_have_the_values_of_our_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("HOME", str(tmp_path))  # where Ray writes its results
    monkeypatch.chdir(tmp_path)
    page = blocks(ROOT / "docs" / "guides" / "engines.md")
    (config,) = (content for _, name, content in page if name == "bounded.yaml")
    (program,) = (content for _, _, content in page if RAY in content)
    Path("bounded.yaml").write_text(config)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    names: dict[str, Any] = {}
    try:
        exec(compile(program, "engines.md", "exec"), names)
    finally:
        ray.shutdown()
    trials = names["tuner"].get_results().get_dataframe()
    expected = fs.Evaluator.from_config("bounded.yaml")(trials["genotype"].tolist())
    assert len(trials) == 4
    assert trials["genotype"].nunique() > 1
    assert_frame_equal(trials[expected.columns], expected, check_dtype=False)
