"""Presets of a search: objectives that guide it without training, and the options of the loop that go with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from freerea_patch import unknown_name


@dataclass(frozen=True)
class Preset:
    """What a preset adds to a config.

    Attributes:
        options: of the algorithm; those of the config itself come first.
        objectives: sections that are added behind the config's own.
    """

    options: Mapping[str, Any]
    objectives: tuple[Mapping[str, Any], ...]


#: ``guided`` was chosen on half of the cells of NAS-Bench-201 and CIFAR-10 accuracy
#: (``python -m experiments.training_free.guides``).
PRESETS: Mapping[str, Preset] = {
    "published": Preset(
        {},
        tuple({"metric": metric, "source": "training-free"} for metric in ("naswot", "logsynflow", "skip")),
    ),
    "guided": Preset(
        {"aggregation": "log-ranks", "normalisation": "history", "simplify": "auto"},
        (
            {"metric": "independence", "source": "zero-cost"},
            # Under another name, so that a bound on the parameters can have theirs.
            {"metric": "params", "source": "cost", "direction": "max", "name": "size", "weight": 0.75},
            {"metric": "depth", "source": "zero-cost", "weight": 0.25},
            # Decides between networks that are nearly equal by the others.
            {"metric": "skip", "source": "training-free", "weight": 0.2, "optional": True},
        ),
    ),
}


def with_preset(tree: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the tree of a config with what its preset stands for in the place of ``search.preset``.

    Raises:
        InputError: an unknown preset.
    """
    search, objectives = tree.get("search"), tree.get("objectives", [])
    if not (isinstance(search, Mapping) and isinstance(objectives, list) and "preset" in search):
        return tree
    options = dict(search)
    name = options.pop("preset")
    if name is None:
        return {**tree, "search": options}
    if not isinstance(name, str) or name not in PRESETS:
        raise unknown_name("preset", name, PRESETS)
    preset = PRESETS[name]
    return {
        **tree,
        "search": {**preset.options, **options},
        "objectives": [*objectives, *map(dict, preset.objectives)],
    }
