"""Networks to strings: one network of any kind, or those of a search space, whose parts are traced once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from freerea_patch import InputError, SearchSpace
from freerea_seval.strings.graph.ir import Spec
from freerea_seval.strings.spaces.chains import Chains
from freerea_seval.strings.spaces.subgraph_cache import NotComposableError
from freerea_seval.strings.text.serialize import serialize_graph as write
from freerea_seval.strings.trace.tracer import Inputs, Route, trace
from freerea_seval.strings.views import View, check_view, view_of

#: So many networks between two reports of progress.
_BATCH = 64


def network_string(network: nn.Module, inputs: Inputs, view: View = "executed", route: Route = "auto") -> str:
    """Return the string of a network; :mod:`freerea_seval.strings.text.grammar` has the grammar.

    Args:
        network: any module; it comes back as it was.
        inputs: its arguments, such as ``[torch.zeros(1, 3, 32, 32)]``, or a mapping of them by name.
        view: ``"executed"`` for latency, energy and memory, ``"functional"`` for accuracy and robustness.
        route: how to get at the operations; see :func:`freerea_seval.strings.trace.tracer.trace`.

    Raises:
        InputError: the network cannot run on these inputs, or an unknown view.
    """
    return write(view_of(trace(network, inputs, route), check_view(view)))


class SpaceStrings:
    """The strings of a space's networks.

    A string stays in memory, and its network is not built again. Where the space gives its networks as parts
    (:class:`~freerea_patch.networks.parts.Part`), no network is built at all: every part is traced once.

    Args:
        space: the search space.
        view: what the strings show.

    Raises:
        InputError: an unknown view.
    """

    def __init__(self, space: SearchSpace, view: View = "executed") -> None:
        self.space = space
        self.view = check_view(view)
        self._remembered: dict[str, str] = {}
        self._given = Spec((1, *space.input_shape))
        self._chains = Chains(self.view)

    def strings(
        self, genotypes: Sequence[str], on_fraction: Callable[[float, str], object] = lambda done, text: None
    ) -> list[str]:
        """Return one string a genotype, in order.

        Args:
            genotypes: networks of the space.
            on_fraction: called with the fraction that is done, and a text.

        Raises:
            InputError: a genotype is not of the space, or its network cannot run.
        """
        for done, genotype in enumerate(genotypes):
            if done % _BATCH == 0:
                on_fraction(done / len(genotypes), f"{done} of {len(genotypes)}")
            if genotype not in self._remembered:
                try:
                    self._remembered[genotype] = self._string(genotype)
                except InputError as error:
                    raise InputError(f"network {genotype!r}: {error}") from error
        return [self._remembered[genotype] for genotype in genotypes]

    def _string(self, genotype: str) -> str:
        parts = getattr(self.space, "parts", None)
        if parts is not None:
            try:
                return self._chains.string(parts(genotype), self._given)
            except NotComposableError:
                pass
        return network_string(self.space.build(genotype), [torch.zeros(self._given.shape)], self.view)
