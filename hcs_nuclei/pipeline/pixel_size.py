"""A plate as its vendor tells of it and a recipe in, the plate with the pixel size that its run uses out."""

from __future__ import annotations

from dataclasses import replace

from hcs_nuclei.errors import SettingsError
from hcs_nuclei.plate import Plate
from hcs_nuclei.settings import Settings

#: Vendors and people round: 0.325 and 0.3250 µm are one, 0.325 and 0.65 µm are another objective or binning.
_SAME = 0.01


def with_pixel_size(plate: Plate, settings: Settings) -> Plate:
    """The plate with its vendor's pixel size, else with the recipe's; as it is where neither says.

    Raises:
        SettingsError: the two differ by more than 1 %. Neither is taken silently: an area is off by the square of what
            the wrong one is off by.
    """
    told, asked = plate.pixel_size_um, settings.pixel_size_um
    if asked is None:
        return plate
    if told is None:
        return replace(plate, pixel_size_um=asked)
    if abs(asked / told - 1) > _SAME:
        raise SettingsError(
            f"Plate {plate.name}: pixel_size_um is {asked:g} µm in the settings, and the {plate.vendor} plate says "
            f"{told:g} µm. Leave the setting out where the plate is right; it is for plates that say nothing."
        )
    return plate
