"""The script that compares exported networks with their modules."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.strings import onnx


@pytest.mark.parametrize("exporter", ["ours", "tracing"])
def test_files_are_compared_with_modules(exporter: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(tmp_path / "rows")
    arguments = ["--networks", "1", "--spaces", "nats-sss", "--train", "0", "--exporter", exporter, "-o", folder]
    onnx.main(arguments)
    printed = capsys.readouterr().out.splitlines()[-1]
    executed = "1 / 1" if exporter == "ours" else "0 / 1"  # without the identities
    assert printed.startswith(f"| nats-sss | 1 / 1 | 1 / 1 | 1 / 1 | {executed} |")
    onnx.main(arguments)  # resumes, with nothing to do
    assert capsys.readouterr().out.splitlines()[-1] == printed
