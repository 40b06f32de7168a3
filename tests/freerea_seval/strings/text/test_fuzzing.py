"""Whatever is read is a graph or a clear error, and soon.

The mutants are read in ``tests/test_damaged_inputs.py``.
"""

from __future__ import annotations

import re
import time
from random import Random

import pytest

from freerea_patch import InputError
from freerea_seval.strings.graph.ir import Graph
from freerea_seval.strings.text.parse import LONGEST, parse_graph
from freerea_seval.strings.text.serialize import serialize_graph

LAYER = (
    "layer_norm reshape[8x16] linear(b) reshape[1x8x16] reshape[1x8x2x8] permute(dims=0:2:1:3) linear(b)<-5"
    " reshape[1x8x16] reshape[1x8x2x8] permute(dims=0:2:1:3) linear(b)<-9 reshape[1x8x16] reshape[1x8x2x8]"
    " permute(dims=0:2:1:3) attention(heads=2)<-9,5,1,^3 permute(dims=0:2:1:3) clone reshape[1x8x16] linear(b)"
    " add<-19,1 layer_norm linear(32,b) gelu linear(16,b) add<-4,1"
)
STRINGS = (
    "input[1x3x32x32] conv(16,k3) bn 5*{ relu conv(k3) bn relu<-4 conv(k3) bn mul(0)<-4 add"
    " avg_pool2d(k3,count_include_pad=0)<-9 relu<-7 conv(k1) bn add relu<-6 conv(k3) bn add } avg_pool2d(k2,s2)"
    " conv(32,k1) relu<-3 conv(32,k3,s2) bn relu conv(k3) bn add 5*#1 bn relu mean(dim=2:3,keepdim=1) reshape"
    " linear(10,b) output",
    "input[1x3x64x64] conv(8,k7,s2) bn relu max_pool2d(k3,s2) 3*{ conv(2,k1) bn relu conv(k3) bn relu conv(8,k1) bn"
    " alias alias<-10 add relu } conv(4,k1x3,p0x1) bn relu conv(k3,s2,dw) bn deconv(16,k2,s2,o1,b) output",
    f"input[1x8:int64] input[1x8:int64] to[1x1x8x8:bool]<-1 embedding(16,num=50)<-3 12*{{ {LAYER} }} layer_norm"
    " select(dim=1,index=0) linear(b) tanh output<-4,1",
    "input[1x8:int64] embedding(16,num=50) arange(end=8)[8:int64]<- embedding(16,num=32) add 12*{ layer_norm"
    " linear(48,b) split(dim=2,sizes=16) reshape[1x8x2x8]<-1.1 permute(dims=0:2:1:3) reshape[1x8x2x8]<-3.2"
    " permute(dims=0:2:1:3) reshape[1x8x2x8]<-5 permute(dims=0:2:1:3) attention(causal=1,heads=2)<-1,5,3"
    " permute(dims=0:2:1:3) clone reshape[1x8x16] linear(b) add<-15,1 }"
    " linear(50)<-1,w50x16~184 unused<-w3,w4:float16 output<-3,2.0",
)


@pytest.mark.parametrize("string", STRINGS)
def test_the_strings_of_real_networks_come_back(string: str) -> None:
    graph = parse_graph(string)
    assert parse_graph(serialize_graph(graph)) == graph
    assert graph.parameters > 0


BITS = (
    "}", "{", "3*{", "#1", "2*#2", "^1", "^", "999999999*{", "99999*{", "1000*relu", "!", "[!]", "[", "]", "(", ")",
    "<-", "~1", "w", "w3x3", ":int64", "k3", "dw", "g2", "b", "-1", "0", "1e400", "nan", "-0.0",
    "99999999999999999999999", "x", "split(sizes=1)", "unbind", "cat<-1,1", "add", "input[4x4]", "output",
    "unused<-w3", "embedding(2,num=2)", "reshape", "conv(3,k1)", "linear", "max_pool2d", "slice(step=0)", "sizes=",
    "dim=",
)  # fmt: skip
ODD = ("0", "1", "2", "7", "1000000", str(10**18 - 1), str(10**18), str(10**30))


def mutant(string: str, random: Random) -> str:
    """Return a string with some characters or words deleted, swapped, doubled, inserted or made huge."""
    for _ in range(random.choice((1, 1, 2, 3, 6))):
        words, place = string.split(" "), random.randrange(len(string) or 1)
        one, other = random.randrange(len(words)), random.randrange(len(words))
        how = random.randrange(9)
        if how == 0:
            string = string[:place] + string[place + 1 :]
        elif how == 1:
            string = string[:place] + random.choice(BITS) + string[place:]
        elif how == 2:
            string = (
                string[:place]
                + chr(random.choice((32, random.randrange(33, 127), random.randrange(12288))))
                + string[place + 1 :]
            )
        elif how == 3:
            digits = [match.start() for match in re.finditer(r"\d", string)] or [0]
            place = random.choice(digits)
            string = string[:place] + random.choice(ODD) + string[place + 1 :]
        elif how == 4:
            string = random.choice((string[:place], string[place:]))
        else:
            if how == 5:
                del words[one]
            elif how == 6:
                words[one], words[other] = words[other], words[one]
            else:
                words.insert(other, words[one] if how == 7 else random.choice(BITS))
            string = " ".join(words)
    return string


def outcome(text: str) -> Graph | str:
    """Return what is read, or the error's message; not for long."""
    began = time.process_time()
    try:
        return parse_graph(text)
    except InputError as error:
        return str(error)
    finally:
        assert time.process_time() - began < 5, text[:1000]


@pytest.mark.parametrize(
    "string",
    [
        "input[3] " + "1*{ " * 1000 + "relu " + "} " * 1000 + "output",
        "input[3] " + "2*{ " * 1000 + "relu " + "} " * 1000 + "output",
        "input[3] " + "999999999*{ " * 1000 + "relu",
        "{ " * 100_000,
        "input[3] { relu relu } " + " ".join(f"{{ #{i} #{i} }}" for i in range(1, 60)) + " output",
        "input[3] " + "{ " * 1000 + "200000*relu " + "} " * 1000 + "1*#1 " * 1000 + "output",
        "input[3] 100000*cat<-" + ",".join(["1"] * 5000) + " output",
        "input[3] 100000*cat<-1,1 output",
        "input[3] 50000*relu<- output",
        "input[3] 50000*own[3]<- 50000*add output",
        "input[3:int64] 100000*embedding(2,num=2) output",
        "input[1x3x4x4] 1000*deconv(3,k3,s1000000) output",
        "input[999999999999999999] split(sizes=1) output",
        "input[999999999999999999x3] unbind output",
        "input[" + "x".join(["1"] * 100_000) + "] 90000*relu output",
        "input[3] relu(" + "9" * 1_000_000 + ") output",
        "9" * 1_000_000 + "*relu",
        "#" + "9" * 1_000_000,
        "x" * 3_000_000,
        "a." * 500_000,
        " " * 3_000_000,
        "input[3] relu<-" + "1," * 100_000,
        "input[3x3] 60*{ reshape[1x999999999999999999] } matmul<-1,1 output",
        "input[3] 20000*add<-^1,1 output",
    ],
    ids=range(24),
)
def test_strings_that_ask_for_too_much_are_soon_done_with(string: str) -> None:
    found = outcome(string)
    assert isinstance(found, Graph) or len(found) < 500


def test_a_string_may_have_very_many_operations() -> None:
    assert len(parse_graph(f"input[3] {LONGEST - 2}*relu output")) == LONGEST
    with pytest.raises(InputError, match="repeats too much"):
        parse_graph(f"input[3] {LONGEST}*relu output")
