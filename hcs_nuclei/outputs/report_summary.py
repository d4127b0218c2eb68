"""A run's field and well tables in, what its report says in words and totals out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hcs_nuclei.columns import field_flags
from hcs_nuclei.outputs.report_columns import FEW_NUCLEI
from hcs_nuclei.outputs.report_heatmap import flag_words
from hcs_nuclei.plate import smallest_format
from hcs_nuclei.screening.exclusions import Exclusion

if TYPE_CHECKING:
    import pandas as pd

    from hcs_nuclei.outputs.provenance import ChannelIllumination, RunRecord

#: How a channel's illumination was corrected, by where its profile came from; `none` is not corrected.
_CORRECTED = {
    "vendor": "corrected by the instrument's own profile",
    "file": "corrected by the given image",
    "estimate": "corrected as the plate's own fields show it",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One field, at one time point, that is not ``ok``, with its error in words."""

    well: str
    field: int
    timepoint: int
    status: str
    error: str


@dataclass(frozen=True, slots=True)
class Flag:
    """One finding of quality control: in words, on how many measured fields, and in which wells."""

    words: str
    fields: int
    wells: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run amounts to.

    Fields are counted once a time point. `illumination` says for each channel what was done about uneven light.
    `pixel_size_um` is None where it is unknown or differs between fields. `sound` says whether every expected field is
    ``ok``. `exclusions` are what somebody left out by hand, of which the file `excluded_by` tells. `few_nuclei` are the
    wells with so few nuclei, at some time point, that readouts of nuclei enter no statistics; `minimum_nuclei` is how
    many they need, None where it is not known.
    """

    plate: str
    acquisition: str
    sound: bool
    verdict: str
    wells_expected: int
    wells_measured: int
    fields_expected: int
    fields_measured: int
    nuclei: int
    nuclei_per_field: float | None
    timepoints: tuple[int, ...]
    pixel_size_um: float | None
    wells_in_format: int
    faults: tuple[Fault, ...]
    flags: tuple[Flag, ...]
    flagged_fields: int
    warnings: tuple[str, ...]
    illumination: tuple[str, ...] = ()
    exclusions: tuple[Exclusion, ...] = ()
    excluded_by: str = ""
    few_nuclei: tuple[str, ...] = ()
    minimum_nuclei: int | None = None


def summarise(wells: pd.DataFrame, fields: pd.DataFrame, record: RunRecord | None) -> Summary:
    """The summary of one run from its well table, its field table and, where there is one, its record."""
    status = wells.groupby("Metadata_Well", sort=False)["status"]
    failed = [name for name, of_well in status if (of_well == "failed").all()]
    faulty = [name for name, of_well in status if (of_well != "ok").any()]
    counts = fields["Metadata_Object_Count"].dropna()
    largest = int(fields["Metadata_Row"].max()), int(fields["Metadata_Column"].max())
    return Summary(
        plate=str(fields["Metadata_Plate"].iloc[0]),
        acquisition=str(fields["Metadata_Acquisition"].iloc[0]),
        sound=not faulty,
        verdict=_verdict(status.ngroups, len(failed), len(faulty)),
        wells_expected=status.ngroups,
        wells_measured=status.ngroups - len(failed),
        fields_expected=len(fields),
        fields_measured=len(counts),
        nuclei=int(counts.sum()),
        nuclei_per_field=float(counts.mean()) if len(counts) else None,
        timepoints=tuple(int(t) for t in sorted(fields["Metadata_Timepoint"].unique())),
        pixel_size_um=_one_value(fields["Metadata_PixelSize_um"]),
        wells_in_format=record.source.wells_in_format if record else smallest_format(*largest),
        faults=_faults(fields[fields["status"] != "ok"]),
        flags=tuple(_flags(fields)),
        flagged_fields=int(
            fields[[column.name for column in field_flags()]].fillna(False).astype(bool).any(axis=1).sum()
        ),
        warnings=_warnings(record) if record else (),
        illumination=tuple(_illumination(record)) if record else (),
        exclusions=record.exclusions.entries if record and record.exclusions else (),
        excluded_by=record.exclusions.source if record and record.exclusions else "",
        few_nuclei=_few_nuclei(wells),
        minimum_nuclei=record.settings.statistics.minimum_nuclei if record else None,
    )


def _few_nuclei(wells: pd.DataFrame) -> tuple[str, ...]:
    if FEW_NUCLEI not in wells:
        return ()
    return tuple(dict.fromkeys(wells["Metadata_Well"][wells[FEW_NUCLEI].fillna(False).astype(bool)]))


def _warnings(record: RunRecord) -> tuple[str, ...]:
    """What was said when the run began, of its layout, and of its finished wells."""
    layout = record.layout.warnings if record.layout else ()
    return (*record.warnings, *layout, *(record.outcome.warnings if record.outcome else ()))


def _illumination(record: RunRecord) -> Sequence[str]:
    """One line a channel: by what it was corrected and how much that changes, or why it was not."""
    made = record.calibration.illumination
    if made is None or made.method == "off":
        return ["no channel is corrected: illumination is off"]
    names = {channel.token: channel.name for channel in record.channels}
    return [f"{names.get(channel.token, channel.token)}: {_correction(channel)}" for channel in made.channels]


def _correction(channel: ChannelIllumination) -> str:
    how = _CORRECTED.get(channel.source)
    if how is None:
        return f"not corrected: {channel.origin}"
    span = f"; light from {channel.lowest_gain:.0%} to {channel.highest_gain:.0%} of its mean" if channel.gain else ""
    return f"{how} ({channel.origin}){span}"


def _verdict(wells: int, failed: int, faulty: int) -> str:
    if not faulty:
        return f"All {wells} wells measured" if wells > 1 else "The well was measured"
    if failed == wells:
        return f"None of the {wells} wells could be measured" if wells > 1 else "The well could not be measured"
    parts = []
    if failed:
        parts.append(f"{failed} not measured at all")
    if faulty > failed:
        parts.append(f"{faulty - failed} incomplete")
    return f"{faulty} of {wells} wells with faults: {', '.join(parts)}"


def _faults(rows: pd.DataFrame) -> tuple[Fault, ...]:
    columns = ("Metadata_Well", "Metadata_Field", "Metadata_Timepoint", "status", "error")
    return tuple(
        Fault(str(well), int(field), int(timepoint), str(status), str(error))
        for well, field, timepoint, status, error in zip(*(rows[name] for name in columns), strict=True)
    )


def _flags(fields: pd.DataFrame) -> Sequence[Flag]:
    flags = []
    for column in field_flags():
        # A field that was not measured has null here: neither flagged nor cleared.
        flagged = fields[fields[column.name].fillna(False).astype(bool)]
        if len(flagged):
            words = f"{flag_words(column.name)}: {column.meaning.partition('; null')[0]}"
            flags.append(Flag(words, len(flagged), tuple(dict.fromkeys(flagged["Metadata_Well"]))))
    return flags


def _one_value(sizes: pd.Series[float]) -> float | None:
    known = sizes.unique()
    return float(known[0]) if len(known) == 1 and known[0] == known[0] else None
