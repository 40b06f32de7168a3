"""The command ``encode``: on good input, and one line for every mistake."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from freerea_patch import TopologySpace
from freerea_seval.strings.encode import SpaceStrings
from freerea_seval.strings.text.parse import parse_graph as read
from freerea_seval.strings.text.tokenizer import Tokenizer
from tests.freerea_seval.cli.test_mistakes import call, refused

MODULE = """
import torch
from torch import nn
from freerea_patch import TopologySpace

def small():
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Identity(), nn.ReLU(), nn.ReLU())

class Two(nn.Module):
    def forward(self, ids, mask):
        return mask - nn.functional.relu(ids.float())

class Detector(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Conv2d(3, 4, 3, padding=1)
    def forward(self, images, scale=None):
        maps = [self.head(image[None]) for image in images]
        return maps if scale is None else [scale * each for each in maps]

class Meta(nn.Linear):
    def __init__(self):
        super().__init__(4, 100_000_000, device="meta")

ready = nn.Tanh()
several = (nn.ReLU(),)
with_argument = lambda width: nn.Linear(width, width)

def broken():
    raise KeyError("no\\nweights")

def word():
    return "resnet"

class Space(TopologySpace):
    name = "mine"
    def genotypes(self):
        return TopologySpace.genotypes(self)[:5]
    def parts(self, genotype):
        return TopologySpace.parts(self, genotype)

class Failing(Space):
    parts = None
    def build(self, genotype):
        return nn.Linear(7, 7)

class Listless:
    name, input_shape = "listless", (3, 8, 8)
    def check(self, genotype): ...
    def sample(self, rng): return "a"
    def mutate(self, genotype, rng): return genotype
    def crossover(self, first, second, rng): return first
    def build(self, genotype): return nn.ReLU()

class Empty(Listless):
    def genotypes(self): return []
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a module of networks and spaces."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "encode_nets.py").write_text(MODULE)
    return tmp_path


def printed(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[str, dict[str, str]]:
    """Run the command; return the string that it prints, and the facts below."""
    capsys.readouterr()
    assert call("encode", *arguments) == 0
    string, _, facts = capsys.readouterr().out.partition("\n\n")
    return string, dict(line.split(None, 1) for line in facts.splitlines())


IMAGE = ("encode_nets:small", "--input", "1,3,8,8")


def test_a_network_is_shown_as_string_tokens_and_counts(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    string, facts = printed(capsys, *IMAGE)
    assert string == "input[1x3x8x8] conv(8,k3,b) alias 2*relu output"
    assert (facts["view"], facts["operations"]) == ("executed", "4")
    assert (facts["parameters"], facts["multiply-adds"]) == ("224", "13,824")
    tokens = Tokenizer().tokens(string)
    assert facts["tokens"].startswith(f"{len(tokens)} of a vocabulary of {len(Tokenizer())}: {tokens[0]} | ")


def test_the_functional_view_has_fewer_operations_and_the_same_costs(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    string, facts = printed(capsys, *IMAGE, "--view", "functional")
    assert string == "input[1x3x8x8] conv(8,k3,b) relu output"
    assert (facts["view"], facts["operations"], facts["multiply-adds"]) == ("functional", "2", "13,824")


def test_the_published_format_is_shown_instead(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    string, facts = printed(capsys, *IMAGE, "--published")
    assert "Convolution" in string
    assert facts == {"format": "published", "characters": f"{len(string):,}"}


def test_the_string_goes_to_a_file_and_the_facts_are_printed(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    string, _ = printed(capsys, *IMAGE)
    assert call("encode", *IMAGE, "-o", "small.txt") == 0
    shown = capsys.readouterr().out
    assert (place / "small.txt").read_text() == string + "\n"
    assert string not in shown
    assert "multiply-adds  13,824\n" in shown


def test_inputs_may_have_names_and_dtypes(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = "input[1x4:int64] input[1x4] to[:float32]<-2 relu sub<-3,1 output"
    string, _ = printed(capsys, "encode_nets:Two", "--input", "ids=1,4:int64", "--input", "mask=1,4")
    by_place, _ = printed(capsys, "encode_nets:Two", "--input", "1,4:int64", "--input", "1,4:float32")
    assert string == by_place
    assert [node.kind for node in read(string)] == [node.kind for node in read(expected)]
    assert string.startswith("input[1x4:int64] input[1x4] ")
    other, _ = printed(capsys, "encode_nets:Two", "--input", "mask=1,4", "--input", "ids=1,4:int64")
    assert other.startswith("input[1x4] input[1x4:int64] ")


def test_an_input_may_be_a_list_of_tensors(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, facts = printed(capsys, "encode_nets:Detector", "--input", "[3,8,8]")
    assert one == "input[3x8x8] reshape[1x3x8x8] conv(4,k3,b) output"
    assert facts["operations"] == "2"
    two, facts = printed(
        capsys, "encode_nets:Detector", "--input", "images=[3,8,8;3,6,9:float32]", "--input", "scale=1"
    )
    assert two.startswith("input[3x8x8] input[3x6x9] input[1] ")
    assert facts["operations"] == "6"


def test_a_network_need_not_be_built_and_may_have_no_weights(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, "encode_nets:ready", "--input", "7")[0] == "input[7] tanh output"
    string, facts = printed(capsys, "encode_nets:Meta", "--input", "2,4")
    assert string == "input[2x4] linear(100000000,b) output"
    assert (facts["parameters"], facts["multiply-adds"]) == ("500,000,000", "800,000,000")


@pytest.mark.parametrize("view", ["executed", "functional"])
def test_a_space_of_the_users_is_written_as_a_table(place: Path, capsys: pytest.CaptureFixture[str], view: str) -> None:
    assert call("encode", "--space", "encode_nets:Space", "-o", "mine.csv", "--view", view) == 0
    with (place / "mine.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    cells = TopologySpace().genotypes()[:5]
    strings = SpaceStrings(TopologySpace(), view).strings(cells)  # type: ignore[arg-type]
    assert rows == [["genotype", "string"], *map(list, zip(cells, strings, strict=True))]
    shown = capsys.readouterr().out
    median, most = sorted(map(len, strings))[2], max(map(len, strings))
    assert shown == (
        f"mine.csv: 5 networks, {len(set(strings))} different strings, {median} characters in the median, {most} at most\n"
    )


def test_a_space_is_written_in_the_published_format(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("encode", "--space", "encode_nets:Space", "--published", "-o", "mine.csv") == 0
    rows = list(csv.reader((place / "mine.csv").open(newline="")))
    assert len(rows) == 6
    assert all("Convolution" in string for _, string in rows[1:])


MISTAKES: dict[str, tuple[tuple[str, ...], str]] = {
    "nothing to encode": ((), "nothing to encode: give a network as pkg.module:factory and its --input, an ONNX file, or a search space"),
    "no input": (("encode_nets:small",), "encode_nets:small: give the shape of its input, such as --input 1,3,32,32"),
    "a missing module": (("no_such_nets:small", "--input", "1,3"), "cannot import 'no_such_nets' of 'no_such_nets:small'"),
    "a missing factory": (("encode_nets:large", "--input", "1,3"), "'encode_nets' has no 'large'"),
    "no name at all": (("encode_nets", "--input", "1,3"), "expected pkg.module:name, got 'encode_nets'"),
    "a wrong shape": (("encode_nets:small", "--input", "1,4,8,8"), "the network cannot run on inputs of shape 1x4x8x8 ("),
    "too many inputs": (("encode_nets:small", "--input", "1,3,8,8", "--input", "1"), "cannot run on inputs of shape 1x3x8x8, 1 ("),
    "a wrong name": (("encode_nets:Two", "--input", "ids=1,4", "--input", "masks=1,4"), "unexpected keyword argument 'masks'"),
    "a factory that fails": (("encode_nets:broken", "--input", "1"), "network 'encode_nets:broken' failed (KeyError: "),
    "a factory that needs something": (("encode_nets:with_argument", "--input", "1"), "failed (TypeError: "),
    "a factory of something else": (("encode_nets:word", "--input", "1"), "returned str, not a torch.nn.Module"),
    "no factory": (("encode_nets:several", "--input", "1"), "is neither a torch.nn.Module nor a function that returns one"),
    "an input that is no shape": (("encode_nets:small", "--input", "1x3x8x8"), "--input '1x3x8x8': expected sizes such as 1,3,32,32"),
    "an input without sizes": (("encode_nets:small", "--input", "ids="), "--input 'ids=': expected sizes"),
    "a list without an end": (("encode_nets:Detector", "--input", "[3,8,8;3"), "a list of tensors, '[3,64,64;3,32,32]'"),
    "a list of nothing": (("encode_nets:Detector", "--input", "[]"), "--input '[]': expected sizes"),
    "names in a list": (("encode_nets:Detector", "--input", "[a=3,8,8]"), "--input '[a=3,8,8]': expected sizes"),
    "a list larger than memory": (("encode_nets:Detector", "--input", "[3;999999999,999999999]"), "cannot be created ("),
    "a negative size": (("encode_nets:small", "--input", "1,-3"), "--input '1,-3': expected sizes"),
    "an unknown dtype": (("encode_nets:small", "--input", "1,3:int65"), "mask=1,16:int64"),
    "something else of torch as dtype": (("encode_nets:small", "--input", "1,3:nn"), "--input '1,3:nn': expected"),
    "an input larger than memory": (("encode_nets:small", "--input", "999999999,999999999"), "--input '999999999,999999999' cannot be created ("),
    "a wrong shape in the published format": (("encode_nets:small", "--input", "1,4,8,8", "--published"), "cannot run on these inputs in training mode ("),
    "a space whose networks fail in the published format": (("--space", "encode_nets:Failing", "--published", "-o", "a.csv"), "cannot run on these inputs in training mode ("),
    "some inputs named": (("encode_nets:Two", "--input", "ids=1,4", "--input", "1,4"), "--input: name all inputs, each once, or none"),
    "a name twice": (("encode_nets:Two", "--input", "ids=1,4", "--input", "ids=1,4"), "--input: name all inputs, each once, or none"),
    "an unknown view": ((*IMAGE, "--view", "functionl"), "unknown view of a network 'functionl'; did you mean 'functional'?"),
    "an output that cannot be written": ((*IMAGE, "-o", "nowhere/small.txt"), "nowhere"),
    "a space without a file": (("--space", "nats-tss"), "a whole space is written to a file: add -o FILE.csv"),
    "a space and a network": (("encode_nets:small", "--space", "nats-tss", "-o", "a.csv"), "leave out the network and --input"),
    "a space and an input": (("--space", "nats-tss", "--input", "1,3", "-o", "a.csv"), "leave out the network and --input"),
    "a space and an unknown view": (("--space", "nats-tss", "--view", "live", "-o", "a.csv"), "Valid: executed, functional"),
    "an unknown space": (("--space", "nats-tts", "-o", "a.csv"), "unknown space 'nats-tts'; did you mean 'nats-tss'?"),
    "a space without a list": (("--space", "encode_nets:Listless", "-o", "a.csv"), "does not list its networks, so that it cannot be encoded as a whole; encode single"),
    "a built-in space without a list": (("--space", "fbnet", "-o", "a.csv"), "'fbnet' does not list its networks, so that it cannot be encoded as a whole"),
    "a space of nothing": (("--space", "encode_nets:Empty", "-o", "a.csv"), "space 'encode_nets:Empty' lists no networks"),
    "a space whose networks fail": (("--space", "encode_nets:Failing", "-o", "a.csv"), "the network cannot run on inputs of shape 1x3x32x32"),
    "a table that cannot be written": (("--space", "encode_nets:Space", "-o", "nowhere/a.csv"), "nowhere"),
    "an unknown option": ((*IMAGE, "--route", "fx"), "No such option"),
}  # fmt: skip


@pytest.mark.parametrize("kind", MISTAKES)
def test_a_mistake_is_refused_and_nothing_is_written(
    place: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    arguments, expected = MISTAKES[kind]
    refused(capsys, expected, "encode", *arguments)
    assert {path.name for path in place.iterdir()} <= {"encode_nets.py", "__pycache__"}
