"""Spaces by name, with a data set, and of the user's own."""

from __future__ import annotations

import sys
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from freerea_patch import InputError
from freerea_patch.errors import UserCodeError
from freerea_seval.config import make_space


@pytest.mark.parametrize("spec", ["nats-tss/cifar100", {"name": "nats-tss", "dataset": "cifar100"}])
def test_a_data_set_is_given_either_way(spec: str | dict[str, object]) -> None:
    space = make_space(spec)
    assert space.name == "nats-tss/cifar100"
    assert make_space(space.name).name == space.name


def test_the_size_space_has_small_images_on_imagenet16() -> None:
    assert make_space("nats-sss/ImageNet16-120").input_shape == (3, 16, 16)


def test_a_space_of_the_users_is_found_beside_the_config(tmp_path: Path) -> None:
    (tmp_path / "my_space_beside.py").write_text(
        "from freerea_patch import TopologySpace\n"
        "class Mine(TopologySpace):\n"
        "    def __init__(self, width=1):\n"
        "        super().__init__()\n"
        "        self.name = f'mine/{width}'\n"
    )
    assert make_space({"name": "my_space_beside:Mine", "width": 3}, tmp_path).name == "mine/3"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nats-ts", "unknown space 'nats-ts'; did you mean 'nats-tss'?"),
        ("nats-tss/cifar", "unknown data set 'cifar'; did you mean 'cifar10'?"),
        ({"dataset": "cifar10"}, "expected a name"),
        ({"name": "nats-tss", "width": 3}, "unknown option of space 'nats-tss': 'width'. Valid: dataset"),
        ("no_such_module:Space", "cannot import 'no_such_module'"),
        ("random:Random", "lacks: name, input_shape, check"),
    ],
)
def test_a_wrong_space_is_named(spec: str | dict[str, object], message: str) -> None:
    with pytest.raises(InputError) as error:
        make_space(spec)
    assert message in str(error.value)


def test_a_member_that_is_none_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="lacks: build; see"):
        space_of(monkeypatch, build=None)


GENOTYPE = "a genotype, a text that UTF-8 can encode"
#: By member: arguments, a result that is wrong besides None, and what was expected.
MEMBERS: dict[str, tuple[tuple[Any, ...], Any, str]] = {
    "sample": ((Random(0),), 3, GENOTYPE),
    "mutate": (("g", Random(0)), b"g", GENOTYPE),
    "crossover": (("g", "h", Random(0)), "\ud800", GENOTYPE),
    "simplified": (("g",), ["g"], GENOTYPE),
    "check": (("g",), False, "None, or InputError to be raised for a genotype of another space"),
    "build": (("g",), "network", "a torch.nn.Module"),
    "skip": (("g",), "1.0", "a number"),
    "genotypes": ((), "gh", "a list of genotypes, texts that UTF-8 can encode"),
    "parts": (("g",), "part", "a freerea_patch.Part"),
}


def space_of(monkeypatch: pytest.MonkeyPatch, **members: Any) -> Any:
    """Make a space of the user's from its members, on top of a built-in one."""
    space = SimpleNamespace(**{"name": "mine", "input_shape": (3, 4, 4), **dict.fromkeys(MEMBERS, print), **members})
    monkeypatch.setitem(sys.modules, "space_of_members", SimpleNamespace(make=lambda: space))
    return make_space("space_of_members:make")


@pytest.mark.parametrize("member", MEMBERS)
def test_a_member_that_returns_something_else_is_named_with_the_genotype(
    monkeypatch: pytest.MonkeyPatch, member: str
) -> None:
    arguments, wrong, expected = MEMBERS[member]
    texts = ", ".join(repr(a) for a in arguments if isinstance(a, str))
    for value in (wrong, *([] if member == "check" else [None])):
        space = space_of(monkeypatch, **{member: lambda *_, value=value: value})
        with pytest.raises(UserCodeError) as error:
            getattr(space, member)(*arguments)
        assert str(error.value) == f"space 'mine': {member}({texts}) returned {value!r}; expected {expected}"


@pytest.mark.parametrize("member", MEMBERS)
def test_a_member_that_ends_the_program_is_named_with_the_genotype(
    monkeypatch: pytest.MonkeyPatch, member: str
) -> None:
    def leave(*arguments: object) -> None:
        sys.exit(0)

    arguments = MEMBERS[member][0]
    with pytest.raises(UserCodeError) as error:
        getattr(space_of(monkeypatch, **{member: leave}), member)(*arguments)
    texts = ", ".join(repr(a) for a in arguments if isinstance(a, str))
    assert str(error.value) == f"space 'mine': {member}({texts}) ended the program with SystemExit(0)"


@pytest.mark.parametrize("member", MEMBERS)
def test_what_a_member_raises_passes(monkeypatch: pytest.MonkeyPatch, member: str) -> None:
    def fail(*arguments: object) -> None:
        raise LookupError("none")

    with pytest.raises(LookupError, match="none"):
        getattr(space_of(monkeypatch, **{member: fail}), member)(*MEMBERS[member][0])


@pytest.mark.parametrize("name", [None, 3, "\ud800"])
def test_a_name_that_is_no_text_is_refused(monkeypatch: pytest.MonkeyPatch, name: object) -> None:
    with pytest.raises(InputError, match="expected a name, a text that UTF-8 can encode, got "):
        space_of(monkeypatch, name=name)


def test_a_space_with_slots_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    from freerea_patch import TopologySpace

    class Slots(TopologySpace):
        __slots__ = ()

    monkeypatch.setitem(sys.modules, "space_with_slots", SimpleNamespace(Slots=Slots))
    assert make_space("space_with_slots:Slots").name == "nats-tss/cifar10"
