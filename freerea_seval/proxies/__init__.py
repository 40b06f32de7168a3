"""The thirteen zero-cost proxies of NAS-Bench-Suite-Zero (Krishnakumar 2022), computed together.

Importing the names does not need torch.
"""

#: All proxies, in the order of the published tables.
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
