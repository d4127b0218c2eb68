"""How far around a nucleus is looked: micrometres of a recipe in, pixels of a plate out."""

from __future__ import annotations

from dataclasses import dataclass

#: How wide a plate's median nucleus is taken to be where its pixel size is not known: a cultured human cell's, spread
#: out flat.
TYPICAL_NUCLEUS_UM = 15.0


@dataclass(frozen=True, slots=True)
class Reach:
    """Lengths in pixels, the same for all fields of a plate.

    Attributes:
        ring_gap: from a nucleus to its ring.
        ring_width: of the ring.
        neighbours: between two centres, at most, of nuclei that are neighbours.
    """

    ring_gap: float
    ring_width: float
    neighbours: float


def reach_in_pixels(
    *,
    ring_gap_um: float,
    ring_width_um: float,
    neighbour_distance_um: float,
    pixel_size_um: float | None,
    diameter_px: float | None,
) -> Reach | None:
    """Lengths in µm as pixels of a plate whose pixel size, or else median nucleus, is known; None without either.

    Without a pixel size the median nucleus, `diameter_px`, is taken to be :data:`TYPICAL_NUCLEUS_UM` wide; what is said
    of that is :func:`supposed_of_reach`.
    """
    size = pixel_size_um or (TYPICAL_NUCLEUS_UM / diameter_px if diameter_px else None)
    return Reach(ring_gap_um / size, ring_width_um / size, neighbour_distance_um / size) if size else None


def supposed_of_reach(*, pixel_size_um: float | None, diameter_px: float | None) -> str:
    """What :func:`reach_in_pixels` had to suppose, in words for the user; empty where nothing."""
    if pixel_size_um:
        return ""
    if not diameter_px:
        return (
            "The pixel size is not known and the sample shows no nucleus: rings around nuclei and neighbours within a "
            "distance are not measured (NaN)."
        )
    return (
        f"The pixel size is not known: rings around nuclei and neighbours within a distance are measured as if the "
        f"plate's median nucleus ({diameter_px:.1f} px) were {TYPICAL_NUCLEUS_UM:g} µm wide, so they compare within "
        "this plate only."
    )
