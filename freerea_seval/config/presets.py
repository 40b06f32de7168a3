"""Presets of a search: objectives that guide it without training, and the options of the loop that go with them."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
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


def with_preset(tree: Mapping[str, Any], takes: Callable[[str], Container[str] | None]) -> Mapping[str, Any]:
    """Return the tree of a config with what its preset stands for in the place of ``search.preset``.

    Options that the config's algorithm does not take are left out, and so are objectives whose name one of the config
    has, which thereby replaces that of the preset.

    Args:
        tree: the values of a config by key, with a preset.
        takes: the names of the options of an algorithm, None for one that is not known yet.

    Raises:
        InputError: an unknown preset.
    """
    options, objectives = dict(tree["search"]), tree.get("objectives", [])
    if not isinstance(objectives, list):
        return tree
    name = options.pop("preset")
    if name is None:
        return {**tree, "search": options}
    if not isinstance(name, str) or name not in PRESETS:
        raise unknown_name("preset", name, PRESETS)
    preset = PRESETS[name]
    known = takes(str(options.get("algorithm") or "freerea"))
    own = {_column(section) for section in (*objectives, *(tree.get("report") or ()))}
    return {
        **tree,
        "search": {**{o: v for o, v in preset.options.items() if known is None or o in known}, **options},
        "objectives": [*objectives, *(dict(term) for term in preset.objectives if _column(term) not in own)],
    }


def _column(section: object) -> object:
    return section.get("name") or section.get("metric") if isinstance(section, Mapping) else None
