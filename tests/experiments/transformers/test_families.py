"""The experiment on strings and costs of families, on small ones."""

from __future__ import annotations

import pytest

from experiments.transformers import families
from freerea_patch import InputError
from tests.freerea_patch.transformers_families import FAMILIES


def test_the_table_has_a_line_a_family(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    config, vary = FAMILIES["llama"]
    monkeypatch.setattr(families, "FAMILIES", {"small": {"transformers": config, "vary": vary, "context": 4}})
    families.main(["--families", "small", "--networks", "3"])
    *_, line = capsys.readouterr().out.strip().splitlines()
    assert line.startswith("| small | 3 | 0 M | ")
    assert line.endswith(" ms |")
    with pytest.raises(InputError, match="unknown family 'smal'; did you mean 'small'"):
        families.main(["--families", "smal"])
