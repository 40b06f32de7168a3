"""The script of the shipped vocabulary."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from experiments.strings import vocabulary
from freerea_patch import InputError
from freerea_seval.strings.text.tokenizer import Tokenizer


def test_the_script_saves_a_tokenizer_and_counts_tokens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "vocabulary.json"
    vocabulary.main(["-o", str(path), "--size", "300", "--networks", "1", "--architectures"])
    assert len(Tokenizer.load(path)) <= 300
    printed = capsys.readouterr().out
    assert "| nats-tss, executed | 3 |" in printed
    assert "| nats-sss, functional | 3 |" in printed
    assert "| layers, executed | 3 |" in printed


def test_without_transformers_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(InputError, match=r"pip install transformers; or name none: --architectures$"):
        next(vocabulary.architectures(["Bert"]))
    assert list(vocabulary.architectures([])) == []
