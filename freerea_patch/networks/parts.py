"""A network as parts that repeat, so that what is known of a part need not be found out again."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Part:
    """A module made of modules.

    Two parts with the same ``identity`` are the same up to their weights. ``make`` may not look into the modules that
    it gets: what it computes around them may depend on the shapes of their results, and on nothing else of them.

    Attributes:
        key: names what ``make`` makes, in its own right: two parts with one key differ in ``parts`` at most.
        make: returns the module, given one for each of ``parts``.
        parts: what it is made of.
    """

    key: Hashable
    make: Callable[..., nn.Module]
    parts: tuple[Part, ...] = ()

    @cached_property
    def identity(self) -> Hashable:
        """Key of the part and of all parts in it."""
        return (self.key, *(part.identity for part in self.parts)) if self.parts else self.key

    def build(self) -> nn.Module:
        """Return the module, with weights of its own."""
        return self.make(*(part.build() for part in self.parts))
