"""Normalised wells of one plate or several in, one summary a treatment out; n is wells and plates, never nuclei.

Each plate is held against its own negative control before, so what is summarised has no plate in it any more.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hcs_nuclei.screening.replicates import summarise
from hcs_nuclei.screening.treated_wells import TreatedWells

Values = npt.NDArray[np.float64]


def treatment_rows(
    wells: TreatedWells, plates: Sequence[str], scales: Mapping[str, Values], count: Values | None
) -> Iterator[dict[str, Any]]:
    """One row for each treatment, controls first, with the names of :data:`hcs_nuclei.columns.statistics.TREATMENTS`.

    A well that is there several times, since its plate was imaged several times, counts once with the median of its
    values: another look at the same cells is no replicate. Wells whose treatment is not known are left out.

    Args:
        wells: n wells of all plates, at one time point.
        plates: (n,) the plate of each.
        scales: by what begins their columns the normalised values (n,) of one readout; NaN is a well without one.
        count: (n,) nuclei in per cent of the plate's negative control, to be shown beside; None where that is not
            known.
    """
    numbers, treatments = wells.treatments
    plate_numbers = np.unique(np.asarray(plates, dtype=object).astype(str), return_inverse=True)[1]
    # One well a row of `places`: its treatment, its plate, its place there.
    places, of_well = np.unique(
        np.column_stack([numbers, plate_numbers, wells.rows, wells.columns]), axis=0, return_inverse=True
    )
    of_well = of_well.ravel()
    merged = {kind: _merged(values, of_well, len(places)) for kind, values in scales.items()}
    counted = None if count is None else _merged(count, of_well, len(places))
    any_value = np.isfinite(np.array([*merged.values()])).any(axis=0) if merged else np.zeros(len(places), dtype=bool)
    starts = np.searchsorted(places[:, 0], np.arange(len(treatments) + 1))
    for number, treatment in enumerate(treatments):
        here = slice(starts[number], starts[number + 1])
        there, of_plate = any_value[here], places[here, 1]
        row: dict[str, Any] = {
            "Metadata_control_type": treatment.control_type,
            "Metadata_Compound": treatment.compound,
            "Metadata_Concentration": treatment.concentration,
            "Metadata_Concentration_unit": treatment.unit,
            "Plates": len(np.unique(of_plate[there])),
            "Wells": int(there.sum()),
            "Wells_WithoutValue": int((~there).sum()),
            "Count_PercentOfControl_Median": None if counted is None else summarise(counted[here]).median,
        }
        for kind, values in merged.items():
            found = summarise(values[here])
            row |= {
                f"{kind}_Wells": found.wells,
                f"{kind}_Median": found.median,
                f"{kind}_MAD": found.mad,
                f"{kind}_Mean": found.mean,
                f"{kind}_Std": found.spread,
                f"{kind}_StdOfPlates": summarise(_medians(values[here], of_plate)).spread,
            }
        yield row


def _merged(values: Values, of_well: npt.NDArray[np.intp], wells: int) -> Values:
    """The values (n,) with those of one well, by its number (n,), put together to their median, (wells,)."""
    if len(values) == wells:
        out = np.empty(wells)
        out[of_well] = values
        return out
    return _grouped(values, of_well, wells)


def _medians(values: Values, groups: npt.NDArray[np.intp]) -> Values:
    """The median of the values (n,) of each group; NaN where it has none."""
    numbers = np.unique(groups, return_inverse=True)[1]
    return _grouped(values, numbers, int(numbers.max(initial=-1)) + 1)


def _grouped(values: Values, numbers: npt.NDArray[np.intp], groups: int) -> Values:
    order = np.argsort(numbers, kind="stable")
    parts = np.split(values[order], np.searchsorted(numbers[order], np.arange(1, groups)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a group without a value is NaN, as it should be
        return np.array([np.nanmedian(part) if part.size else np.nan for part in parts[:groups]])
