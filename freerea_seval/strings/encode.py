"""From networks to strings: a single module, or the networks of a search space."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from freerea_patch import FBNetSpace, GPTSpace, InputError, SearchSpace, SizeSpace, TopologySpace
from freerea_patch.networks import zero_input
from freerea_patch.spaces import input_dtype
from freerea_seval.strings.graph.ir import Spec
from freerea_seval.strings.spaces import ChainStrings, NotComposableError, StackStrings
from freerea_seval.strings.text.serialize import serialize_graph as write
from freerea_seval.strings.trace.tracer import Inputs, trace_module
from freerea_seval.strings.views import View, check_view, view_of

#: Networks between two reports of progress.
_PROGRESS_INTERVAL = 64
#: Spaces and views whose strings are kept for the next caller, the latest last.
_KEPT: list[SpaceStrings] = []
_MOST_KEPT = 4
_NAMED = (TopologySpace, SizeSpace, FBNetSpace, GPTSpace, *GPTSpace.__subclasses__())


def encode_module(network: nn.Module, inputs: Inputs, view: View = "executed") -> str:
    """Return the string of a network; :mod:`freerea_seval.strings.text.grammar` defines the grammar.

    Args:
        network: any module; its buffers and modes are restored afterwards.
        inputs: its arguments, such as ``[torch.zeros(1, 3, 32, 32)]``, or a mapping of them by name.
        view: ``"executed"`` for latency, energy and memory, ``"functional"`` for accuracy and robustness.

    Raises:
        InputError: the network cannot run on these inputs, or an unknown view.
    """
    check_view(view)
    return write(view_of(trace_module(network, inputs), view))


class SpaceStrings:
    """The strings of a search space's networks.

    Strings are cached, so that a network is encoded once. If the space describes its networks as parts
    (:class:`~freerea_patch.spaces.Part`), no network is built, and every distinct part is traced once. Of a network
    with repeated layers (:class:`~freerea_patch.spaces.Stack`), few layers are traced, without weights.

    Args:
        space: the search space.
        view: of the networks.

    Raises:
        InputError: an unknown view.
    """

    def __init__(self, space: SearchSpace, view: View = "executed") -> None:
        self.space = space
        self.view = check_view(view)
        self._cache: dict[str, str] = {}
        self._input = Spec((1, *space.input_shape), input_dtype(space))
        # Parts of language models are traced without values: one layer of a thousand tokens takes a second to run.
        self._chains = ChainStrings(self.view, on_meta=self._input.dtype != "float32")
        self._stacks = StackStrings(self.view, self._input)

    def strings(
        self, genotypes: Sequence[str], on_fraction: Callable[[float, str], object] = lambda fraction, text: None
    ) -> list[str]:
        """Return one string per genotype, in order.

        Args:
            genotypes: networks of the space.
            on_fraction: called with the fraction that is done, and with a text for a progress bar.

        Raises:
            InputError: a genotype is not in the space, or its network cannot run.
        """
        for count, genotype in enumerate(genotypes):
            if count % _PROGRESS_INTERVAL == 0:
                on_fraction(count / len(genotypes), f"{count} of {len(genotypes)}")
            if genotype not in self._cache:
                try:
                    self._cache[genotype] = self._string(genotype)
                except InputError as error:
                    raise InputError(f"network {genotype!r}: {error}") from error
        return [self._cache[genotype] for genotype in genotypes]

    def _string(self, genotype: str) -> str:
        parts = getattr(self.space, "parts", None)
        if parts is not None:
            try:
                return self._chains.string(parts(genotype), self._input)
            except NotComposableError:
                pass
        stack = getattr(self.space, "stack", None)
        if stack is not None:
            return self._stacks.string(stack(genotype))
        return encode_module(self.space.build(genotype), [zero_input(self.space)], self.view)


def shared_strings(space: SearchSpace, view: View = "executed") -> SpaceStrings:
    """Return the strings of a space that all of its readers share, so that none encodes a network again.

    Raises:
        InputError: an unknown view.
    """
    shared = next((kept for kept in _KEPT if kept.view == view and _equal(kept.space, space)), None)
    if shared is None:
        shared = SpaceStrings(space, view)
    else:
        _KEPT.remove(shared)
    _KEPT.append(shared)
    del _KEPT[:-_MOST_KEPT]
    return shared


def _equal(one: SearchSpace, other: SearchSpace) -> bool:
    """Whether two spaces are the same object, or built-in ones whose name says all."""
    return one is other or (type(one) is type(other) and type(one) in _NAMED and one.name == other.name)
