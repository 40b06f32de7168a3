"""The experiment on exported networks, on one of each space."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.devices import exports


def test_the_table_has_the_largest_differences_and_resumes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "SPACES", {"nats-sss": ("nats-sss", (".py", ".onnx"))})
    arguments = ["--networks", "1", "-o", str(tmp_path)]
    exports.main(arguments)
    printed = capsys.readouterr().out
    assert "| nats-sss | .py | 1 | 0.0e+00 | 0.0e+00 |" in printed
    assert printed.count("| nats-sss | ") == 2
    monkeypatch.delattr(exports, "export_network")
    exports.main(arguments)
    assert capsys.readouterr().out == printed
