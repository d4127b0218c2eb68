"""Wells of a MetaXpress plate in, the same wells with the places of their sites out, from the tags of two wells.

MetaXpress images the same sites in every well and notes in each file how far its site lies from the well's centre.
So one image a site says where that site lies in all wells, whatever the number of wells; the same site of the last
well that has it is read too, to see that it is so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from hcs_nuclei.plate import Well
from hcs_nuclei.sources.listing import Listing
from hcs_nuclei.sources.metaseries import read_tags

#: The stage returns to within 0.1 µm (seen); a site that was set elsewhere is some pixels off at least.
_TOLERANCE_UM = 1.0


def with_positions(listing: Listing, wells: tuple[Well, ...]) -> tuple[tuple[Well, ...], tuple[str, ...]]:
    """`wells` whose fields have positions (from the well's centre, µm, y pointing down), and warnings.

    A site whose tags do not tell has no position; none has where the first and the last well differ.
    """
    first, last = _images(wells), _images(reversed(wells))
    positions: dict[int, tuple[float, float]] = {}
    for number, (well, path) in first.items():
        there = read_tags(listing.opened(path)).offset_um
        if there is None:
            continue
        other_well, other_path = last[number]
        again = there if other_path == path else read_tags(listing.opened(other_path)).offset_um
        if again is not None and max(abs(a - b) for a, b in zip(there, again, strict=True)) > _TOLERANCE_UM:
            return wells, (
                f"Field {number} lies elsewhere in well {other_well} than in {well}: where the fields of this plate "
                "lie is not known, and nuclei in overlapping fields cannot be told.",
            )
        positions[number] = there
    return tuple(_placed(well, positions) for well in wells) if positions else wells, ()


def _images(wells: Iterable[Well]) -> dict[int, tuple[str, str]]:
    """(well, path of an image) for each field number, of the first of `wells` that has one."""
    found: dict[int, tuple[str, str]] = {}
    for well in wells:
        for site in well.fields:
            if site.number not in found:
                path = next((plane.path for plane in site.planes if plane.path), "")
                if path:
                    found[site.number] = well.name, path
    return found


def _placed(well: Well, positions: Mapping[int, tuple[float, float]]) -> Well:
    return replace(well, fields=tuple(replace(f, position_um=positions.get(f.number)) for f in well.fields))
