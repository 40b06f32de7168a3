"""Networks and spaces to strings: options, what is remembered, and that strings are the same everywhere."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from freerea_patch import InputError, SizeSpace, TopologySpace
from freerea_seval.strings.encode import SpaceStrings, encode_module, shared_strings
from freerea_seval.strings.views import VIEWS
from tests.freerea_seval.strings.example_spaces import Bare
from tests.freerea_seval.strings.trace.tracing import Function

CELLS = TopologySpace().genotypes()


def test_the_view_decides_what_a_string_shows() -> None:
    network = nn.Sequential(nn.Identity(), nn.ReLU(), nn.ReLU())
    image = [torch.zeros(1, 4)]
    assert encode_module(network, image) == "input[1x4] alias 2*relu output"
    assert encode_module(network, image, "executed") == "input[1x4] alias 2*relu output"
    assert encode_module(network, image, view="functional") == "input[1x4] relu output"


def test_inputs_may_have_names() -> None:
    network = Function(lambda first, second: first - torch.relu(second))
    tensors = {"second": torch.zeros(1, 4), "first": torch.ones(1, 4)}
    string = encode_module(network, tensors)
    assert string == "input[1x4] input[1x4] relu<-2 sub output"


def test_an_unknown_view_is_refused() -> None:
    with pytest.raises(InputError, match=r"^unknown view of a network 'live'.* Valid: executed, functional$"):
        SpaceStrings(TopologySpace(), "live")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"did you mean 'functional'\?"):
        encode_module(nn.ReLU(), [torch.zeros(1)], "functionl")  # type: ignore[arg-type]


class Counting(SizeSpace):
    """The size space, which counts what is asked of it."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def parts(self, genotype: str) -> Any:
        self.asked.append(genotype)
        return super().parts(genotype)

    def build(self, genotype: str) -> nn.Module:
        raise AssertionError("no network is built")


def test_a_space_with_parts_builds_no_network_and_remembers_strings() -> None:
    space = Counting()
    strings = SpaceStrings(space)
    small, large = "8:8:8:8:8", "16:8:8:8:8"
    assert strings.strings([]) == []
    first = strings.strings([small, large, small])
    assert first[0] == first[2] != first[1]
    assert strings.strings([large]) == [first[1]]
    assert space.asked == [small, large]


def test_a_space_without_parts_builds_each_network_once() -> None:
    space = Bare({"relu": nn.ReLU, "tanh": nn.Tanh})
    strings = SpaceStrings(space, "functional")
    assert strings.strings(["tanh", "relu", "tanh"]) == [
        f"input[1x3x8x8] {kind} output" for kind in ("tanh", "relu", "tanh")
    ]
    assert strings.strings(["relu"]) == ["input[1x3x8x8] relu output"]
    assert space.built == ["tanh", "relu"]


def test_progress_is_reported_in_batches() -> None:
    reported: list[tuple[float, str]] = []
    space = Bare({str(number): nn.ReLU for number in range(130)})
    SpaceStrings(space).strings(list(space.networks), lambda done, text: reported.append((done, text)))
    assert reported == [(0, "0 of 130"), (64 / 130, "64 of 130"), (128 / 130, "128 of 130")]


def test_an_error_in_a_space_names_the_genotype() -> None:
    class Wrong(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError("no\nmore")

    with pytest.raises(InputError) as caught:
        SpaceStrings(Bare({"wrong": Wrong})).strings(["wrong"])
    assert str(caught.value) == ("network 'wrong': the network cannot run on inputs of shape 1x3x8x8 (no); check both")
    with pytest.raises(InputError, match=r"^network '8:8': '8:8' is not of the size space; expected 5 channel counts"):
        SpaceStrings(SizeSpace()).strings(["8:8"])


def test_what_failed_is_not_remembered_and_spoils_nothing() -> None:
    strings = SpaceStrings(SizeSpace())
    for _ in range(2):
        with pytest.raises(InputError):
            strings.strings(["8:8:8:8:8", "8"])
    assert strings.strings(["8:8:8:8:8"]) == SpaceStrings(SizeSpace()).strings(["8:8:8:8:8"])


@pytest.mark.parametrize("view", VIEWS)
def test_strings_do_not_depend_on_what_was_converted_before(view: Any) -> None:
    cells = CELLS[:12]
    together = SpaceStrings(TopologySpace(), view).strings(cells)
    assert SpaceStrings(TopologySpace(), view).strings(cells[::-1]) == together[::-1]


def test_hash_seed_and_thread_count_do_not_change_the_strings() -> None:
    script = (
        "import hashlib, sys, torch; torch.set_num_threads(int(sys.argv[1]))\n"
        "from freerea_patch import TopologySpace; from freerea_seval.strings.encode import SpaceStrings\n"
        "space = TopologySpace(); cells = space.genotypes()[:20]\n"
        "strings = [s for view in ('executed', 'functional') for s in SpaceStrings(space, view).strings(cells)]\n"
        "print(hashlib.sha256(' '.join(strings).encode()).hexdigest())"
    )
    here = [string for view in VIEWS for string in SpaceStrings(TopologySpace(), view).strings(CELLS[:20])]
    for threads, hash_seed in (("1", "1"), ("2", "99")):
        environment = os.environ | {"PYTHONHASHSEED": hash_seed, "OMP_NUM_THREADS": threads}
        command = [sys.executable, "-c", script, threads]
        ran = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        assert ran.stdout.strip() == hashlib.sha256(" ".join(here).encode()).hexdigest()


def test_readers_of_equal_spaces_share_strings_and_those_of_others_do_not() -> None:
    class Mine(TopologySpace):
        """A space of the user's, whose name may not say everything."""

    strings = shared_strings(TopologySpace("cifar100"))
    assert shared_strings(TopologySpace("cifar100"), "executed") is strings
    assert shared_strings(TopologySpace("cifar100"), "functional") is not strings
    assert shared_strings(TopologySpace("cifar10")) is not strings
    mine = Mine("cifar100")
    assert shared_strings(mine) is not strings
    assert shared_strings(mine) is shared_strings(mine)
    assert shared_strings(mine) is not shared_strings(Mine("cifar100"))
