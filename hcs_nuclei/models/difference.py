"""Two model cards in, every value in which they differ out: figures, thresholds, data, settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hcs_nuclei.models.card import ModelCard

#: Parts of a card in the order in which they are told, and the fields that make them.
SECTIONS = {
    "network": ("architecture", "parameters", "flops_per_pixel", "weights"),
    "thresholds": ("training_diameter_px", "instances", "confidence"),
    "data and settings": ("training", "field_statistics"),
    "figures": ("evaluation",),
}
#: Long, and said by other figures beside them; each with the type that it has where it is long.
_LEFT_OUT: dict[str, type] = {"bins": list, "per_image_ap": dict, "f1": dict, "precision": list}


@dataclass(frozen=True, slots=True)
class Difference:
    """One value that differs; None where a card has no such value."""

    section: str
    name: str
    first: Any
    second: Any


def card_differences(first: ModelCard, second: ModelCard) -> list[Difference]:
    """Values that differ, by section and in the order of the cards. Names are dotted: ``val.pooled_ap.0.50``.

    Figures are those that the cards hold: of the images that each model was evaluated on when it was trained. Where
    ``images`` or ``nuclei`` of a split differ, the others cannot be compared.
    """
    cards = [card.model_dump(mode="json") for card in (first, second)]
    found = []
    for section, fields in SECTIONS.items():
        a, b = (_flat({key: value for field in fields for key, value in _part(card, field)}) for card in cards)
        found += [
            Difference(section, name, a.get(name), b.get(name))
            for name in dict.fromkeys([*a, *b])
            if a.get(name) != b.get(name)
        ]
    return found


def _part(card: Mapping[str, Any], field: str) -> list[tuple[str, Any]]:
    value = card[field]
    return list(value.items()) if field in {"training", "evaluation"} else [(field, value)]


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if key in _LEFT_OUT and isinstance(value, _LEFT_OUT[key]):
            continue
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
