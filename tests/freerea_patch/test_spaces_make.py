"""Spaces by name, with a data set, and of the user's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from freerea_patch import InputError
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
        ({"name": "nats-tss", "width": 3}, "unexpected keyword argument 'width'"),
        ("no_such_module:Space", "cannot import 'no_such_module'"),
        ("random:Random", "lacks: name, input_shape, check"),
    ],
)
def test_a_wrong_space_is_named(spec: str | dict[str, object], message: str) -> None:
    with pytest.raises(InputError) as error:
        make_space(spec)
    assert message in str(error.value)
