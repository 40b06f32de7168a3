"""Words of network strings, and which parts and phrases are learned as tokens."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from random import Random

import numpy as np
import pytest

from freerea_patch import InputError
from freerea_seval.strings.text.tokenizer import Tokenizer
from freerea_seval.strings.text.vocabulary import learn, template_of

SAMPLE = Random(0)
WORDS = "relu bn conv(16,k3) conv(24,k3) conv(k1) add<-4,1 add relu<-4 relu<-70 mul(0) mul(0.5)<-2 5*relu 3*{ } #1"
STRINGS = [" ".join(SAMPLE.choices(WORDS.split(), k=30)) for _ in range(50)]
FITTED = Tokenizer.fit(STRINGS, 200)


@pytest.mark.parametrize(
    ("word", "atoms", "numbers"),
    [
        ("conv(24,k3)<-4", (" conv(@,k3)", "<-4"), (24,)),
        ("conv(8,k1x7,s2,g32,b)", (" conv(@,k1x7,s2,g@,b)",), (8, 32)),
        ("conv(8,k128)", (" conv(@,k@)",), (8, 128)),
        ("mul(0)", (" mul(0)",), ()),
        ("mul(0.125)", (" mul(@)",), (0.125,)),
        ("add(-1e-06)", (" add(@)",), (-1e-06,)),
        ("linear(4)", (" linear(@)",), (4,)),
        ("mean(dim=2:3,keepdim=1)", (" mean(dim=2:3,keepdim=1)",), ()),
        ("embedding(768,num=30522)", (" embedding(@,num=@)",), (768, 30522)),
        ("relu[1x3:float16,8]", (" relu[@x@:float16,@]",), (1, 3, 8)),
        ("cat<-1,64,65.1,^2", (" cat", "<-1,64,@.1,^2"), (65,)),
        ("mul<-1,w16x3:float64~7,!", (" mul", "<-1,w@x@:float64~7,!"), (16, 3)),
        ("avg_pool2d(k3)", (" avg_pool2d(k3)",), ()),
        ("#12", (" #12",), ()),
        ("#120", (" #@",), (120,)),
        ("conv(007)", (" conv(007)",), ()),
        ("é7", (" \0" + "7",), (233,)),
    ],
)
def test_a_word_keeps_its_structure_and_gives_away_its_numbers(
    word: str, atoms: tuple[str, ...], numbers: tuple[float, ...]
) -> None:
    template = template_of(word)
    assert (template.count, template.atoms, template.numbers) == (None, atoms, numbers)


@pytest.mark.parametrize("tokenizer", [Tokenizer(), FITTED], ids=["default", "fitted"])
def test_no_token_has_a_width_a_count_or_a_wall_inside(tokenizer: Tokenizer) -> None:
    for left, right in tokenizer.vocabulary.merges:
        words = (left + right).split()
        assert not {"{", "}"} & set(words)
        assert not any(template_of(word).numbers or template_of(word).count for word in words if "@" not in word)


def naive_phrase(texts: list[str], merges: list[tuple[str, str]]) -> list[str]:
    """Byte-pair merging as it is told: every merge in turn, from the left."""
    for left, right in merges:
        place = 0
        while place + 1 < len(texts):
            if (texts[place], texts[place + 1]) == (left, right):
                texts[place : place + 2] = [left + right]
            place += 1
    return texts


def test_phrases_are_what_merging_in_turn_gives() -> None:
    known = set(FITTED.vocabulary.base)
    for string in STRINGS:
        for run in string.replace("}", "{").split("{"):
            words = [template_of(word) for word in run.split()]
            atoms = [atom for word in words for atom in word.atoms]
            if not known.issuperset(atoms) or any(word.count for word in words):
                continue
            phrases = [text.strip() for text in naive_phrase(atoms, list(FITTED.vocabulary.merges))]
            shown = [FITTED.tokens(run), [FITTED.vocabulary.texts[token].strip() for token in FITTED.encode(run).ids]]
            assert [text for text in shown[1] if text != "<number>"] == phrases


def test_learning_is_deterministic_and_keeps_to_its_size() -> None:
    again = Tokenizer.fit(iter(STRINGS), 200)
    assert again.vocabulary == FITTED.vocabulary
    assert len(FITTED) <= 200
    assert len(Tokenizer.fit(STRINGS, 110)) == 110
    code = (
        "import json, sys; from freerea_seval.strings.text.vocabulary import learn;"
        "print(repr(learn(json.load(sys.stdin), 200)))"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed},
            input=json.dumps(STRINGS),
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in "12"
    }
    assert printed == {repr(FITTED.vocabulary)}


def test_the_first_merge_is_of_the_most_frequent_pair() -> None:
    atoms = [
        [atom for word in string.split() for atom in template_of(word).atoms] for string in ["relu bn relu bn cos relu"]
    ]
    pairs = [pair for run in atoms for pair in pairwise(run)]
    assert learn(["relu bn relu bn cos relu"], 300).merges[0] == max(pairs, key=pairs.count) == (" relu", " bn")


GOOD = {"format": "freerea-seval tokenizer 1", "pieces": [" relu", " bn"], "merges": [[" relu", " bn"]]}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"format": "other"}, "it does not say 'format': 'freerea-seval tokenizer 1'"),
        ({"pieces": None}, "'pieces' and 'merges' should be lists"),
        ({"pieces": [" relu", " relu"]}, "'pieces' has ' relu'"),
        ({"pieces": [3]}, "'pieces' has '3'"),
        ({"pieces": ["@"]}, "'pieces' has '@'"),
        ({"merges": [[" relu"]]}, "'merges' has \"[' relu']\""),
        ({"merges": [[" relu", " conv"]]}, "whose parts are no tokens before it"),
        (
            {"merges": [["a" * n] * 2 for n in (1 << np.arange(40)).tolist()[:13]]},
            "whose parts are no tokens before it",
        ),
    ],
)
def test_a_file_that_is_no_tokenizer_is_refused_in_one_line(
    tmp_path: Path, change: dict[str, object], why: str
) -> None:
    path = tmp_path / "t.json"
    path.write_text(json.dumps(GOOD | change))
    with pytest.raises(InputError) as error:
        Tokenizer.load(path)
    assert str(error.value).startswith(f"{path} is no tokenizer of network strings: ")
    assert str(error.value).endswith("; expected a file that Tokenizer.save made")
    assert why in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff\xfe", b"[" * 100_000, b"{", b"3", b'{"format": 1}'])
def test_a_broken_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "t.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match="is no tokenizer of network strings"):
        Tokenizer.load(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^cannot read the tokenizer .*t\.json \(No such file or directory\)"):
        Tokenizer.load(tmp_path / "t.json")
