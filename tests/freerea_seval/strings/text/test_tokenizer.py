"""Tokens of network strings."""

from __future__ import annotations

import copy
import itertools
import math
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from freerea_patch import InputError, SearchSpace, SizeSpace, TopologySpace
from freerea_seval.strings.graph.simplify import simplify
from freerea_seval.strings.text.serialize import serialize_graph
from freerea_seval.strings.text.tokenizer import DEFAULT, Tokenizer, scaled
from freerea_seval.strings.text.vocabulary import SPECIALS, Vocabulary
from freerea_seval.strings.trace.tracer import trace_module

TAIL = "bn relu mean(dim=2:3,keepdim=1) reshape linear(10,b) output"
BLOCK = "avg_pool2d(k2,s2) conv({0},k1) relu<-3 conv({0},k3,s2) bn relu conv(k3) bn add"
EDGES = {
    "none": "mul(0){0}",
    "skip": "alias{0}",
    "conv1": "relu{0} conv(k1) bn",
    "conv3": "relu{0} conv(k3) bn",
    "pool": "avg_pool2d(k3,count_include_pad=0){0}",
}


def cell(edges: list[str]) -> str:
    """A NAS-Bench-201 cell as its executed string has it; naively, with every operand written."""
    words: list[str] = []
    nodes = [0]  # where every node of the cell is, from the operation before the cell
    kinds = iter(edges)
    for node in (1, 2, 3):
        ends = []
        for source in nodes[:node]:
            words += EDGES[next(kinds)].format(f"<-{len(words) - source + 1}").split()
            ends.append(len(words))
        for more in ends[1:]:
            words.append(f"add<-{len(words) + 1 - ends[0]},{len(words) + 1 - more}")
            ends[0] = len(words)
        nodes.append(ends[0])
    return " ".join(words)


def topology(edges: list[str]) -> str:
    return (
        f"input[1x3x32x32] conv(16,k3) bn 5*{{ {cell(edges)} }} {BLOCK.format(32)} 5*#1 {BLOCK.format(64)} 5*#1 {TAIL}"
    )


def size(*widths: int) -> str:
    fixed = "bn relu<-4 conv({0},k3) bn relu<-4 conv(k3) bn add conv({0},k1)<-11 bn relu<-10 conv(k3) bn add"
    stages = [f"relu conv({width},k3) {fixed.format(width)} relu<-7 conv(k3) bn add" for width in widths[::2]]
    blocks = [BLOCK.format(width) for width in widths[1::2]]
    return (
        f"input[1x3x32x32] conv({widths[0]},k3) bn {stages[0]} {blocks[0]} {stages[1]} {blocks[1]} {stages[2]} {TAIL}"
    )


OTHERS = (
    "input[1x16:int64] embedding(768,num=30522) layer_norm 12*{ linear(b) attention(heads=12)<-9,5,1 clone add<-19,1 }"
    " cat(dim=1)<-1,70 pow(exponent=2)<-24 mul<-^2,w768x3:float16~4 add(1e-06)<-1 masked_fill(value=-inf) output<-4,1",
    "input[1x3x8x8] 3*relu conv(64,k1x7,s2,p0x3,g32,b)[1x64x8x8:float16]<-3.1,w64~100 frob_nic2d(k128,max=0.5) output",
)
SAMPLE = Random(0)
TOPOLOGIES = [topology(SAMPLE.choices(list(EDGES), k=6)) for _ in range(60)]
SIZES = [size(*SAMPLE.choices(range(8, 65, 8), k=5)) for _ in range(20)]
STRINGS = [*TOPOLOGIES, *SIZES, *OTHERS]
FITTED = Tokenizer.fit(STRINGS, 300)
LETTERS = Tokenizer(Vocabulary())
TOKENIZERS = {"default": Tokenizer(), "fitted": FITTED, "letters": LETTERS}

#: Characters that mean something in the grammar, most of all.
texts = st.text(
    st.one_of(st.sampled_from(list("0123456789*#{}()[]<-^~,.:=!@wxkgeb \t\n")), st.characters()), max_size=60
)


@st.composite
def mutated(draw: st.DrawFn) -> str:
    string = draw(st.sampled_from(STRINGS))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(string)))
        end = min(len(string), start + draw(st.integers(0, 8)))
        string = string[:start] + draw(st.one_of(texts, st.sampled_from(STRINGS))) + string[end:]
    return string


@pytest.mark.parametrize("name", TOKENIZERS)
@given(string=st.one_of(texts, mutated(), st.text()))
def test_decoding_gives_back_any_text_but_for_its_blanks(name: str, string: str) -> None:
    tokenizer = TOKENIZERS[name]
    assert tokenizer.decode(*tokenizer.encode(string)) == " ".join(string.split())


@given(st.one_of(st.integers(-(10**20), 10**20).map(float), st.floats()))
def test_any_number_comes_back_exactly(number: float) -> None:
    string = f"add({number!r}) conv({number!r},k3) relu[{number!r}x3] x(a=3:{number!r}) {number!r}"
    assert FITTED.decode(*FITTED.encode(string)) == string


@pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=TOKENIZERS)
@pytest.mark.parametrize(
    "string", ["", " ", "  relu \n relu ", "5*", "5*relu", "5* relu", "05*relu", "<pad>", "@ \0", "\ud800"]
)
def test_awkward_strings_come_back(tokenizer: Tokenizer, string: str) -> None:
    assert tokenizer.decode(*tokenizer.encode(string)) == " ".join(string.split())


def test_numbers_follow_the_phrase_with_their_slots() -> None:
    tokenizer = Tokenizer.fit(["relu conv(24,k3) bn add"] * 9 + ["relu conv(16,k3) bn output", "conv(24,k3)"], 300)
    assert tokenizer.tokens("relu conv(56,k3) bn") == ["relu conv(@,k3) bn", "56"]
    ids, values = tokenizer.encode("relu conv(56,k3) bn relu conv(8,k3) bn")
    assert ids.tolist()[1::2] == [SPECIALS.index("<number>")] * 2
    assert ids[0] == ids[2]
    assert values.tolist() == [0, 56, 0, 8]


def test_a_count_is_a_token_with_a_value_and_its_operation_the_one_it_always_is() -> None:
    tokenizer = TOKENIZERS["default"]
    assert tokenizer.tokens("5*relu relu 15*{ relu }") == ["5*", "relu", "relu", "15*", "{", "relu", "}"]
    ids, values = tokenizer.encode("5*relu relu")
    assert ids.tolist()[1:] == [ids[1]] * 2
    assert values.tolist() == [5, 0, 0]


def test_unseen_widths_change_values_and_no_token() -> None:
    tokenizer = TOKENIZERS["default"]
    seen, unseen = tokenizer.encode(size(8, 16, 24, 32, 40)), tokenizer.encode(size(7, 1000, 333, 77, 9999))
    assert seen.ids.tolist() == unseen.ids.tolist()
    assert (seen.values != unseen.values).sum() == 14


def test_an_operation_never_seen_falls_into_parts_that_were() -> None:
    tokenizer = Tokenizer.fit(["avg_pool2d(k3) max_pool2d(k3) conv(4,k3,s2) conv(9,k1,s2)"] * 2, 300)
    tokens = tokenizer.tokens("avg_unpool2d(12,k3,s2)")
    assert tokens == [" ", *"avg_un", "pool", *"2d", "(@", "12", *",k3", ",s2", ")"]


def test_a_tokenizer_without_pieces_spells() -> None:
    assert LETTERS.tokens("relu<-4 é") == [" ", *"relu<-4", " ", "é"]


def test_a_batch_is_padded_and_says_where() -> None:
    tokenizer = TOKENIZERS["default"]
    batch = tokenizer([STRINGS[0], "conv(31,k3)", ""])
    lengths = [len(tokenizer.encode(string).ids) for string in (STRINGS[0], "conv(31,k3)", "")]
    assert batch.ids.shape == batch.values.shape == batch.attention_mask.shape == (3, max(lengths))
    assert [str(array.dtype) for array in batch] == ["int64", "float32", "int64"]
    assert batch.attention_mask.sum(axis=1).tolist() == lengths
    assert not batch.ids[batch.attention_mask == 0].any()
    assert batch.values[1, : lengths[1]].tolist() == [0, 5]  # log2(1 + 31)
    assert not batch.values[batch.attention_mask == 0].any()


def test_an_empty_batch_has_no_rows() -> None:
    assert TOKENIZERS["default"]([]).ids.shape == (0, 0)


def test_values_are_scaled_by_their_logarithm() -> None:
    assert scaled(np.array([0.0, 1.0, -3.0, 1e38])).tolist() == pytest.approx([0, 1, -2, math.log2(1e38)])


def test_nothing_is_cut_off_unless_asked() -> None:
    tokenizer = TOKENIZERS["default"]
    length = len(tokenizer.encode(STRINGS[0]).ids)
    assert tokenizer(STRINGS[:1], max_length=length).ids.shape == (1, length)
    with pytest.raises(
        InputError, match=rf"^string 1 has {length} tokens, more than max_length=5; allow more, or ask for"
    ):
        tokenizer(["relu", STRINGS[0]], max_length=5)
    batch = tokenizer(["relu", STRINGS[0]], max_length=5, truncate=True)
    assert batch.ids.shape == (2, 5)
    assert batch.ids[1].tolist() == tokenizer.encode(STRINGS[0]).ids[:5].tolist()
    with pytest.raises(InputError, match=r"^max_length must be at least 1, got 0$"):
        tokenizer(["relu"], max_length=0)


def test_without_padding_all_strings_have_one_length() -> None:
    tokenizer = TOKENIZERS["default"]
    assert tokenizer(["relu", "bn"], padding=False).attention_mask.tolist() == [[1], [1]]
    with pytest.raises(InputError, match=r"^the strings have 0 to 1 tokens; one array needs padding=True$"):
        tokenizer(["", "relu"], padding=False)


def test_what_is_no_string_is_named() -> None:
    with pytest.raises(InputError, match=r"^expected several network strings, got str; write \[string\] for one$"):
        FITTED("relu")
    with pytest.raises(InputError, match=r"^expected a network string, got int; write\(graph\) makes one$"):
        FITTED.encode(3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"^expected several network strings, got str"):
        Tokenizer.fit("relu")
    with pytest.raises(InputError, match=r"^a tokenizer needs at least 100 tokens for characters, got size=99$"):
        Tokenizer.fit(["relu"], 99)


def test_tokens_that_make_no_string_are_named() -> None:
    tokenizer = TOKENIZERS["default"]
    ids, values = tokenizer.encode("input[1x3x32x32]")
    with pytest.raises(InputError, match=r"^token ' input\[.*' needs 4 <number> behind it; was it cut off\?$"):
        tokenizer.decode(ids[:-1], values[:-1])
    with pytest.raises(InputError, match=r"^token 99999 is not of this tokenizer, which has 0 to \d+$"):
        tokenizer.decode([99999], [0])
    with pytest.raises(InputError, match=r"^every token has one value, got 5 tokens and 4 values$"):
        tokenizer.decode(ids, values[:-1])
    with pytest.raises(InputError, match=r"^a <char> needs a code point as its value, got -1\.0"):
        tokenizer.decode([2], [-1])


@given(st.lists(st.integers(-3, 330), max_size=20), st.lists(st.floats(), min_size=20, max_size=20))
def test_any_tokens_decode_or_say_why_not(ids: list[int], values: list[float]) -> None:
    try:
        string = FITTED.decode(ids, values[: len(ids)])
    except InputError as error:
        string = str(error)
    assert "\n" not in string


def test_padding_is_not_decoded() -> None:
    assert TOKENIZERS["default"].decode([0, *TOKENIZERS["default"].encode("relu").ids, 0], [0, 0, 0]) == "relu"


def test_a_saved_tokenizer_is_the_same(tmp_path: Path) -> None:
    FITTED.save(tmp_path / "tokenizer.json")
    loaded = Tokenizer.load(tmp_path / "tokenizer.json")
    assert loaded.vocabulary == FITTED.vocabulary == copy.deepcopy(FITTED).vocabulary
    assert [loaded.encode(s).ids.tolist() for s in STRINGS] == [FITTED.encode(s).ids.tolist() for s in STRINGS]


def test_the_shipped_vocabulary_is_one_that_saving_makes(tmp_path: Path) -> None:
    Tokenizer().save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == DEFAULT.read_bytes()
    assert 512 <= len(Tokenizer()) <= 1024


def real_strings(space: SearchSpace, genotypes: Iterable[str]) -> list[str]:
    """The strings of both views."""
    graphs = [trace_module(space.build(genotype), [torch.zeros(1, *space.input_shape)]) for genotype in genotypes]
    return [serialize_graph(view) for graph in graphs for view in (graph, simplify(graph))]


def test_networks_of_the_benchmarks_have_few_tokens_and_come_back() -> None:
    tokenizer = TOKENIZERS["default"]
    cells = TopologySpace().genotypes()
    alike = [
        cell for cell in cells if len({edge.split("~")[0] for edge in cell.strip("|+").split("|") if "~" in edge}) == 1
    ]
    assert len(alike) == 5
    topologies = real_strings(TopologySpace(), [*alike, *Random(0).sample(list(cells), 10)])
    # Which widths are equal decides the tokens, and nothing else does.
    patterns = {tuple(map(five.index, five)) for five in itertools.product(range(5), repeat=5)}
    widths = [":".join(str(8 + 8 * place) for place in pattern) for pattern in sorted(patterns)]
    assert len(widths) == 52
    sizes = real_strings(SizeSpace("ImageNet16-120"), widths)
    for strings, most in ((topologies, 128), (sizes, 64)):
        assert max(len(tokenizer.encode(string).ids) for string in strings) < most
        assert [tokenizer.decode(*tokenizer.encode(string)) for string in strings] == strings


def test_thousands_of_strings_a_second() -> None:
    strings = [topology(Random(seed).choices(list(EDGES), k=6)) for seed in range(500)]
    tokenizer = Tokenizer()
    start = time.perf_counter()
    tokenizer(strings)
    # 2,000 a second are wanted; a busy machine may be four times slower.
    assert len(strings) / (time.perf_counter() - start) > 500


def test_importing_it_takes_no_heavy_library() -> None:
    code = (
        "import sys, freerea_seval.strings.text.tokenizer as t; t.Tokenizer()(['relu']);"
        "print([m for m in ('torch', 'tokenizers', 'transformers', 'pandas', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
