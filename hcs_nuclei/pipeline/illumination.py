"""A plate and the recipe in, each channel's illumination profile out: the vendor's, a given one, or the sample's own.

Profiles that are known (the vendor's, given files) are read where the plate is prepared, so that what cannot be done is
refused before anything is written; an estimate is made by a worker. What crosses to the workers is some twenty numbers
a channel, and they are part of every well's fingerprint.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt

from hcs_nuclei.errors import PlaneError, ProfileError, RunConflictError, SettingsError
from hcs_nuclei.measurement import FEWEST_FIELDS, Profile, estimate_profile, plausible, profile_of_reference
from hcs_nuclei.outputs.provenance import ChannelIllumination, Illumination
from hcs_nuclei.plate import Channel, Plane, Plate
from hcs_nuclei.settings import IlluminationSettings
from hcs_nuclei.sources import (
    HARMONY_INDICES,
    HarmonyFlatField,
    image_reader,
    read_flat_fields,
    read_reference,
    reference_names,
)

#: From so many fields, of as many wells as there are, an estimate is made: more change it by less than a per cent.
ESTIMATE_FIELDS = 64


def known_illumination(plate: Plate, settings: IlluminationSettings) -> Illumination:
    """The illumination of `plate` as far as it is known without its fields.

    For ``estimate`` no channel is named: :func:`estimated_illumination` adds them.

    Raises:
        SettingsError: the recipe asks for the vendor's profiles and there are none, for an estimate of a plate with
            too few fields, or for files that are no profile of a channel.
        NotAPlateError: the vendor's metadata are damaged.
    """
    method = settings.method
    if method == "estimate":
        fields = sum(len(well.fields) for well in plate)
        if fields < FEWEST_FIELDS:
            raise SettingsError(
                f"Plate {plate.name} has {fields} fields; the illumination is estimated from {FEWEST_FIELDS} or more, "
                "since with fewer the cells are taken for the lamp. Set illumination to auto, or give flat-field "
                "images of the instrument (illumination.flat_field in the recipe)."
            )
        return Illumination(method=method)
    if method == "off":
        return Illumination(method=method)
    if method == "file":
        return Illumination(method=method, channels=_given(plate, settings))
    channels = _of_vendor(plate)
    if method == "vendor" and not any(channel.gain for channel in channels):
        raise SettingsError(
            f"Plate {plate.name} ({plate.vendor}) has no illumination profile of its vendor that could be used: "
            + " ".join(f"{c.token}: {c.origin}." for c in channels)
            + " Set illumination to estimate, file or off."
        )
    warnings = tuple(
        f"Channel {_name(plate, c.token)} is not corrected for its illumination: {c.origin}."
        for c in channels
        if not c.gain and (method == "vendor" or c.refused)
    )
    return Illumination(method=method, channels=channels, warnings=warnings)


def estimated_illumination(
    channels: Iterable[Channel], sample: Iterable[str], images_of: Callable[[Channel], Iterable[npt.NDArray[Any]]]
) -> Illumination:
    """Each channel's illumination as the sample's fields show it; a channel that cannot be told is left as it is.

    Args:
        channels: the plate's channels.
        sample: names of the fields, as B03/1.
        images_of: reads the sample's images of a channel, one at a time; those that cannot be read are left out.
    """
    names = tuple(sample)
    found: list[ChannelIllumination] = []
    warnings: list[str] = []
    for channel in channels:
        try:
            profile = estimate_profile(images_of(channel))
        except ProfileError as error:
            found.append(_none(channel.token, str(error), refused=True))
            warnings.append(f"Channel {channel.name} is not corrected for its illumination: {error}.")
        else:
            found.append(_record(channel.token, "estimate", f"{len(names)} fields of the plate", profile))
    return Illumination(method="estimate", sample=names, channels=tuple(found), warnings=tuple(warnings))


def profiles_of(illumination: Illumination | None) -> Mapping[str, Profile]:
    """The profile of each channel that has one, by token."""
    channels = illumination.channels if illumination is not None else ()
    return {c.token: Profile(c.gain, c.dark) for c in channels if c.gain}


def check_same_illumination(before: Illumination | None, now: Illumination, run_dir: Path) -> None:
    """Refuse to go on where the vendor's or the given profiles are no longer those that the run was begun with.

    Raises:
        RunConflictError: says which channel's.
    """
    if before is None or now.method in {"estimate", "off"}:
        return
    former = {c.token: c.sha256 for c in before.channels}
    changed = [c.token for c in now.channels if former.get(c.token, "") != c.sha256]
    if changed:
        raise RunConflictError(
            f"{run_dir} was made with another illumination profile of channel {', '.join(changed)}: the vendor's "
            "metadata or the flat-field images changed. Choose another --out, go back to what it was made with, or "
            "make it again with --overwrite (the former tables are kept under .previous)."
        )


def _given(plate: Plate, settings: IlluminationSettings) -> tuple[ChannelIllumination, ...]:
    flats = {_meant(plate, name).token: Path(path) for name, path in settings.flat_field.items()}
    darks = {_meant(plate, name).token: dark for name, dark in settings.dark.items()}
    if lonely := sorted(darks.keys() - flats.keys()):
        raise SettingsError(
            f"illumination.dark names the channel {', '.join(lonely)}, of which illumination.flat_field has no image; "
            "name one, or leave the dark out."
        )
    found = []
    for channel in plate.channels:
        if channel.token not in flats:
            found.append(_none(channel.token, "no flat-field image is given"))
            continue
        path, dark = flats[channel.token], darks.get(channel.token, 0.0)
        try:
            profile = profile_of_reference(
                read_reference(path), read_reference(Path(dark)) if isinstance(dark, str) else dark
            )
        except ProfileError as error:
            raise SettingsError(f"The flat-field image {path} is not believed: {error}. Give another one.") from None
        # Names without their places: the same files elsewhere give the same fingerprints.
        without = f", dark {Path(dark).name if isinstance(dark, str) else dark}" if channel.token in darks else ""
        found.append(_record(channel.token, "file", f"{path.name}{without}", profile))
    return tuple(found)


def _meant(plate: Plate, name: str) -> Channel:
    meant = [c for c in plate.channels if c.matches(name)]
    if len(meant) != 1:
        listing = ", ".join(c.name for c in plate.channels)
        raise SettingsError(
            f"The recipe has an illumination image of channel {name!r}; plate {plate.name} has {listing}. Name it by "
            "one of these."
        )
    return meant[0]


def _of_vendor(plate: Plate) -> tuple[ChannelIllumination, ...]:
    metadata = plate.metadata_files
    index = next((n for n in metadata if n.rpartition("/")[2].lower() in HARMONY_INDICES), "")
    detail = next((n for n in metadata if n.lower().endswith("measurementdetail.mrf")), "")
    if plate.vendor == "operetta" and index:
        return _of_harmony(plate, index)
    if plate.vendor == "cellvoyager" and detail:
        return _of_yokogawa(plate, detail)
    return tuple(_none(c.token, f"{plate.vendor} plates bring no profile that is known") for c in plate.channels)


def _of_harmony(plate: Plate, index: str) -> tuple[ChannelIllumination, ...]:
    fields = {f"ch{number}": field for number, field in read_flat_fields(plate.root / index).items()}
    found = []
    for channel in plate.channels:
        field = fields.get(channel.token)
        if field is None:
            found.append(_none(channel.token, f"{index} has no flat-field profile of it"))
            continue
        try:
            if not isinstance(field, HarmonyFlatField):
                raise field
            dark = tuple(c * field.background_counts for c in field.background)
            profile = plausible(Profile(field.foreground, dark))
        except ProfileError as error:
            found.append(_none(channel.token, f"its profile in {index} is not used: {error}", refused=True))
        else:
            found.append(_record(channel.token, "vendor", index, profile))
    return tuple(found)


def _of_yokogawa(plate: Plate, detail: str) -> tuple[ChannelIllumination, ...]:
    names = reference_names(plate.root / detail, plate.metadata_files)
    found = []
    for channel in plate.channels:
        flat, dark = names.get(channel.token, ("", ""))
        if not flat:
            found.append(_none(channel.token, f"{detail} names no shading image of it that is there"))
            continue
        try:
            without_light: Any = _reference(plate, dark) if dark else 0.0
            profile = profile_of_reference(_reference(plate, flat), without_light)
        except (ProfileError, PlaneError) as error:
            found.append(_none(channel.token, f"its shading image {flat} is not used: {error}", refused=True))
        else:
            found.append(_record(channel.token, "vendor", f"{flat}, dark {dark}" if dark else flat, profile))
    return tuple(found)


def _reference(plate: Plate, name: str) -> npt.NDArray[Any]:
    planes = [Plane("", name)]
    with image_reader(plate.root, plate.remote and plate.remote.only([name]), planes) as read:
        return read(planes)


def _record(token: str, source: Any, origin: str, profile: Profile) -> ChannelIllumination:
    content = json.dumps([profile.gain, profile.dark]).encode()
    low, high = profile.gain_range
    return ChannelIllumination(
        token=token,
        source=source,
        origin=origin,
        gain=profile.gain,
        dark=profile.dark,
        lowest_gain=round(low, 4),
        highest_gain=round(high, 4),
        sha256=hashlib.sha256(content).hexdigest(),
    )


def _none(token: str, why: str, *, refused: bool = False) -> ChannelIllumination:
    return ChannelIllumination(token=token, source="none", origin=why, refused=refused)


def _name(plate: Plate, token: str) -> str:
    return next(c.name for c in plate.channels if c.token == token)
