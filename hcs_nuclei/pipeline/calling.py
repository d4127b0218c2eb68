"""Which wells and fields a run leaves out, what its nuclei are called by, and when DNA content cannot be told.

None of it changes a nucleus, so it is no part of any fingerprint: it enters when the wells are done, and other rules or
exclusions make the tables and the report again, and no well.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from hcs_nuclei.columns import Measured, nucleus_columns
from hcs_nuclei.errors import SettingsError, listed
from hcs_nuclei.layouts import Layout
from hcs_nuclei.outputs.anndata_file import anndata_missing
from hcs_nuclei.outputs.calls import CallRules
from hcs_nuclei.outputs.provenance import RunRecord
from hcs_nuclei.pipeline.statistics import readouts_of
from hcs_nuclei.plate import Plate, ZPolicy
from hcs_nuclei.screening.exclusions import Exclusions, read_exclusions
from hcs_nuclei.screening.validity import flags_of
from hcs_nuclei.settings import Settings

#: Vendors whose every instrument has a spinning disk.
_CONFOCAL_VENDORS = frozenset({"cellvoyager"})

NuclearImage = Literal["plane", "maximum", "projection", "unknown"]


def choose_exclusions(plate: Plate, settings: Settings, record: RunRecord | None) -> tuple[Exclusions | None, Settings]:
    """What a run leaves out by hand, and the settings as they then stand: ``auto`` is what the run was told before.

    Raises:
        LayoutError: the file cannot be read, or does not fit the plate.
    """
    told = record.settings.exclusions if record and settings.exclusions == "auto" else settings.exclusions
    said = settings.model_copy(update={"exclusions": told})
    if told in {"auto", "none"}:
        return None, said
    if settings.exclusions == "auto" and record:
        return record.exclusions, said
    return read_exclusions(Path(os.path.expanduser(told)), plate), said


def check_rules(settings: Settings, measured: Measured, layout: Layout | None, plate: Plate) -> None:
    """Refuse what cannot be applied to this plate: a flag, feature or readout that is not there, a quantile without
    controls.

    Raises:
        SettingsError: names each gate, flag and readout that cannot, and why.
    """
    features = {column.name for column in nucleus_columns(measured) if column.name.startswith("Nuclei_")}
    imaged = {well.name for well in plate.wells}
    controls = [well for well in (layout.negative_controls if layout else ()) if well in imaged]
    faults = []
    for name, gate in settings.gates.items():
        if gate.feature not in features:
            alike = sorted(f for f in features if f.casefold().startswith(gate.feature.casefold()[:24]))
            near = f"; there are {listed(alike)}" if alike else ""
            faults.append(f"gate {name}: no nucleus has the feature {gate.feature}{near}")
        if gate.quantile is not None and not controls:
            faults.append(
                f"gate {name}: its cut is a quantile of the negative controls, and no layout names a well that was "
                "imaged as one (negcon); give a layout with --layout, or a fixed cut"
            )
    try:
        flags_of(settings.aggregation.qc)
    except ValueError as error:
        faults.append(f"aggregation.qc: {error}")
    try:
        readouts_of(settings.statistics, measured, settings.gates)
    except SettingsError as error:
        faults.append(str(error))
    if settings.export.anndata and (missing := anndata_missing()):
        faults.append(missing)
    if faults:
        raise SettingsError(f"Plate {plate.name} cannot be judged as asked:\n" + "\n".join(f"  {f}" for f in faults))


def rules_of(record: RunRecord, exclusions: Exclusions | None) -> CallRules:
    """What the fields and nuclei of a run are judged by."""
    settings = record.settings
    return CallRules(
        calls=settings.calls,
        gates=settings.gates,
        flags=flags_of(settings.aggregation.qc),
        exclusions=exclusions,
        minimum_fields=settings.aggregation.minimum_fields,
        no_dna=no_dna_content(record),
    )


def no_dna_content(record: RunRecord) -> str:
    """Why the sum over a nucleus is not its DNA content on this plate; empty where it is."""
    image, optics = record.source.nuclear_image, record.settings.calls.optics
    if image == "unknown":
        return "it is not known whether the nuclear images are projections"
    if image != "plane":
        what = "the instrument's projections" if image == "projection" else "maxima over several z planes"
        return f"the nuclear images are {what}, and a projection of maxima is no sum of stain"
    confocal = record.source.confocal or record.source.vendor in _CONFOCAL_VENDORS
    if optics == "confocal" or (optics == "auto" and confocal):
        return "the images are confocal: one plane holds a slice of a nucleus (calls.optics)"
    nuclear = next(channel.token for channel in record.channels if channel.nuclear)
    light = record.calibration.illumination
    of_nuclear = [channel.source for channel in light.channels if channel.token == nuclear] if light else []
    if of_nuclear in ([], ["none"]):
        return "uneven light was not corrected for in the nuclear channel (illumination.method)"
    return ""


def nuclear_image(plate: Plate, channel: str, z: ZPolicy) -> NuclearImage:
    """What the plate's images of `channel` (a token) are made of, under the recipe's `z`."""
    kinds: set[NuclearImage] = set()
    for well in plate.wells:
        for site in well.fields:
            for timepoint in range(plate.timepoints):
                planes = site.planes_of(channel, timepoint, z)
                if len(planes) > 1:
                    return "maximum"
                kinds |= {"projection" if plane.projection else "plane" for plane in planes}
    return "projection" if "projection" in kinds else "plane" if kinds else "unknown"
