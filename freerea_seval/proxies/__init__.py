"""The thirteen zero-cost proxies of NAS-Bench-Suite-Zero (Krishnakumar 2022), and later ones, computed together.

:class:`ZeroCost` builds and initialises the networks of a space; :func:`zero_cost_proxies` computes the proxies of one
network, from shared passes and the formulas of :mod:`~freerea_seval.proxies.per_network`,
:mod:`~freerea_seval.proxies.az_nas` and :mod:`~freerea_seval.proxies.vkdnw`. Importing the names does not need torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from freerea_patch.imports import lazy_exports

if TYPE_CHECKING:
    from freerea_seval.proxies.compute import zero_cost_proxies
    from freerea_seval.proxies.live import ZeroCost
else:
    __getattr__, __dir__ = lazy_exports(__name__, __file__)

#: The thirteen, in the order of the published tables.
PROXIES = (
    "epe_nas",
    "fisher",
    "flops",
    "grad_norm",
    "grasp",
    "jacov",
    "l2_norm",
    "nwot",
    "params",
    "plain",
    "snip",
    "synflow",
    "zen",
)

#: Those published later, the effective depth, and the independence of the last features.
LATER_PROXIES = (
    "depth",
    "expressivity",
    "independence",
    "meco",
    "progressivity",
    "swap",
    "trainability",
    "vkdnw",
    "vkdnw_dim",
    "zico",
)
ALL_PROXIES = (*PROXIES, *LATER_PROXIES)
#: Proxies that language models do not have: why, and what to take instead.
NOT_OF_TOKENS = {
    "epe_nas": "compares inputs of one class, and sequences of tokens have none; take jacov",
    "vkdnw": "takes a backward pass for each output, and a language model has one a token of the vocabulary;"
    " take vkdnw_dim, zico or grad_norm",
}
