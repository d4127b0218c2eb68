"""A plate's field rows in, the quality flags that need the whole plate out; nothing is dropped.

Relative limits are against the plate's own fields that are measured and neither empty nor blank: an assay's own optics,
cells and shading are then no fault. A field stands out where it is far beyond their spread (a robust z-score) *and* the
difference matters (a ratio or a share), since on an even plate a trifle is many MADs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from hcs_nuclei.columns import FIELD_FLAGS
from hcs_nuclei.segmentation.familiarity import FieldStatistics, describe_field
from hcs_nuclei.segmentation.scale import viewing_scale
from hcs_nuclei.settings import QcSettings

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

#: Fewer fields than this make no plate to be compared with: relative limits then flag nothing.
FEWEST_FIELDS = 8
_MAD_TO_SD = 1.4826
#: By how much the power spectrum of a field out of focus is steeper than those of the plate.
_STEEPER = 0.65


@dataclass(frozen=True, slots=True)
class FieldLimits:
    """What a plate's fields are judged by.

    Attributes:
        settings: the recipe's limits.
        familiar: what the model's training images looked like; None where its card does not say: how far a field is
            from them is then not known.
        diameter_px: the plate's typical nucleus, which set the scale that the network saw the fields at.
        training_diameter_px: that of the model.
    """

    settings: QcSettings = field(default_factory=QcSettings)
    familiar: FieldStatistics | None = None
    diameter_px: float | None = None
    training_diameter_px: float | None = None


def flag_fields(rows: Sequence[Mapping[str, Any]], limits: FieldLimits) -> list[dict[str, Any]]:
    """`rows` with every column of :data:`hcs_nuclei.columns.FIELD_FLAGS`, in the same order.

    Args:
        rows: one a field and time point, as committed; a field is measured where its ``Metadata_Object_Count`` is not
            None.
        limits: what they are judged by.
    """
    if not rows:
        return []
    settings, familiar = limits.settings, limits.familiar
    counts = _column(rows, "Metadata_Object_Count")
    measured = ~np.isnan(counts)
    empty = counts < settings.fewest_nuclei
    blank = _column(rows, "Metadata_QC_Blank") > 0
    plate = measured & ~empty & ~blank
    distance = _training_distance(rows, limits)
    limit = settings.training_distance or (familiar.limit if familiar else np.inf)
    covered = _column(rows, "Metadata_NuclearAreaFraction")
    known: dict[str, tuple[Flags, Flags]] = {
        "Empty": (empty, measured),
        "OutOfFocus": (_out_of_focus(rows, plate, settings), measured & ~blank),
        "Uneven": _beyond(rows, "Metadata_QC_Unevenness", plate, settings.robust_z, settings.unevenness),
        "Debris": _beyond(rows, "Metadata_QC_DebrisFraction", plate, settings.robust_z, settings.debris_fraction),
        "Unsure": _beyond(rows, "Metadata_QC_LowConfidenceFraction", plate, settings.robust_z, settings.low_confidence),
        "Confluent": (covered > settings.confluent_fraction, ~np.isnan(covered)),
        "OutOfDistribution": (distance > limit, ~np.isnan(distance)),
    }
    flags = {f"Metadata_QC_{name}": _or_none(flag, of) for name, (flag, of) in known.items()}
    flags["Metadata_QC_TrainingDistance"] = _or_none(distance, ~np.isnan(distance))
    return [{**row, **{c.name: flags[c.name][i] for c in FIELD_FLAGS}} for i, row in enumerate(rows)]


def _out_of_focus(rows: Sequence[Mapping[str, Any]], plate: Flags, settings: QcSettings) -> Flags:
    """By the width of outlines; where a field has none that can be looked at, by its power spectrum.

    The width sees sharpness alone, the spectrum cells as well: it is asked only where a field has too few nuclei for
    the width, as one has that is so far out of focus that none was found. A field with one or two nuclei in focus is a
    little steeper than others, too, so it has to be much steeper.
    """
    width, slope = _column(rows, "Metadata_QC_EdgeWidth"), _column(rows, "Metadata_QC_PowerLogLogSlope")
    widest = np.inf if settings.edge_width_px is None else settings.edge_width_px
    steepest = -np.inf if settings.power_slope is None else settings.power_slope
    out = (width > widest) | (slope < steepest)
    z, middle = _robust_z(np.log(width), plate)
    out |= (z > settings.robust_z) & (width >= settings.edge_width_ratio * np.exp(middle))
    z, middle = _robust_z(slope, plate)
    out |= np.isnan(width) & (z < -settings.robust_z) & (slope < middle - _STEEPER)
    return out


def _beyond(
    rows: Sequence[Mapping[str, Any]], name: str, plate: Flags, z_limit: float, difference: float
) -> tuple[Flags, Flags]:
    """Where a column lies above the plate's median by the robust z-score and by the difference; and where it is known.

    Where the plate's fields hardly differ (most have no debris at all), the difference alone decides.
    """
    values = _column(rows, name)
    z, middle = _robust_z(values, plate)
    return (z > z_limit) & (values > middle + difference), ~np.isnan(values)


def _robust_z(values: Floats, plate: Flags) -> tuple[Floats, float]:
    """(n,) distance from the median of the plate's fields over 1.4826 × their MAD, and that median.

    Without 8 fields that have a value all are NaN. Where the MAD is 0, what differs at all is infinitely far.
    """
    reference = values[plate & ~np.isnan(values)]
    if reference.size < FEWEST_FIELDS:
        return np.full(values.shape, np.nan), float("nan")
    middle = float(np.median(reference))
    spread = _MAD_TO_SD * float(np.median(np.abs(reference - middle)))
    away = values - middle
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(away == 0, 0.0, away / spread), middle


def _training_distance(rows: Sequence[Mapping[str, Any]], limits: FieldLimits) -> Floats:
    """(n,) distance from the model's training images; NaN where the card, or the field, does not say."""
    familiar, diameter, trained = limits.familiar, limits.diameter_px, limits.training_diameter_px
    if familiar is None or trained is None:
        return np.full(len(rows), np.nan)
    scale = 1.0 if diameter is None else viewing_scale(diameter, trained)
    columns = ("MedianLevel", "Contrast", "Noise", "EdgeWidth", "MedianDiameter")
    level, contrast, noise, width, seen = (_column(rows, f"Metadata_QC_{name}") for name in columns)
    return familiar.distance(describe_field(level, contrast, noise, width, seen, scale))


def _or_none(values: npt.NDArray[Any], known: Flags) -> list[Any]:
    return [value if is_known else None for value, is_known in zip(values.tolist(), known.tolist(), strict=True)]


def _column(rows: Sequence[Mapping[str, Any]], name: str) -> Floats:
    return np.array([np.nan if row[name] is None else row[name] for row in rows], dtype=np.float64)
