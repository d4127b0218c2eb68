"""Finished runs with small images, for the tests of the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from outputs_samples import CHANNELS, MEASURED, field_row, identity
from scipy import ndimage

from hcs_nuclei.columns import Column
from hcs_nuclei.layouts import Layout
from hcs_nuclei.measurement import measure_nuclei
from hcs_nuclei.outputs import WellWriter, begin_store, finish_store, finish_tables, well_table_path, write_well
from hcs_nuclei.pipeline.statistics import PlateStatistics
from hcs_nuclei.plate import Plate
from hcs_nuclei.settings import Settings

SIZE = 240
Labels = npt.NDArray[np.uint32]
#: What is not of the image alone.
_UNKNOWN = {"Metadata_Confidence": 0.5, "Metadata_Position_Well_X_um": np.nan, "Metadata_Position_Well_Y_um": np.nan}


def blobs(count: int, seed: int, size: int = SIZE) -> tuple[npt.NDArray[np.uint16], Labels]:
    """(t, y, x) image and labels of `count` round nuclei on a grid of 4 × 4 places, in camera counts."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    light, labels = np.zeros((size, size)), np.zeros((size, size), dtype=np.uint32)
    for place in range(count):
        radius = rng.uniform(8, 12)
        row, column = np.array(divmod(place, 4)) * size / 4 + size / 8
        distance = np.hypot(y - row, x - column)
        light += np.exp(-((distance / radius) ** 4))
        labels[distance < radius] = place + 1
    image = rng.poisson(200 + 1500 * ndimage.gaussian_filter(light, 1))
    return image.astype(np.uint16)[None], labels[None]


TREATMENTS = (
    Column("Metadata_control_type", "string", "", "negcon, poscon or trt"),
    Column("Metadata_Compound", "string", "", "compound"),
    Column("Metadata_Concentration", "float64", "", "dose"),
    Column("Metadata_Concentration_unit", "string", "", "its unit"),
)


def layout_of(wells: Mapping[str, tuple[str, str, float]]) -> Layout:
    """A layout from control type, compound and dose in µM by well."""
    names = [column.name for column in TREATMENTS]
    said = {well: dict(zip(names, (*of_well, "µM"), strict=True)) for well, of_well in wells.items()}
    return Layout("layout.csv", "file", TREATMENTS, said)


def write_run(
    run: Path,
    plate: Plate,
    counts: Mapping[str, Sequence[int | None]],
    size: int = SIZE,
    layout: Layout | None = None,
    field_columns: Mapping[str, Mapping[str, Any]] | None = None,
) -> Path:
    """A finished run of one time point with these counts in fields 1, 2, … of its wells, and all of its tables.

    `field_columns` are other values of the field table, by well.
    """
    (run / "nuclei").mkdir(parents=True)
    begin_store(run / "plate.ome.zarr", plate)
    for well in plate.wells:
        rows, tables = [], []
        channel, pixel = plate.channels[0], plate.pixel_size_um
        with WellWriter(run / "plate.ome.zarr", well, channel=channel, pixel_size_um=pixel, timepoints=1) as writer:
            for site, count in enumerate(counts[well.name], start=1):
                rows.append(field_row(plate, well.name, site, count))
                if count is None:
                    continue
                image, labels = blobs(count, seed=100 * well.row + 10 * well.column + site, size=size)
                measured = measure_nuclei(labels[0], {c: image[0] for c in CHANNELS}, nuclear="DAPI", saturation=None)
                tables.append({**identity(plate, well.name, site), **_UNKNOWN, **measured})
                rows[-1] |= {"Metadata_Height": size, "Metadata_Width": size}
                rows[-1] |= (field_columns or {}).get(well.name, {})
                writer.add_field(site, image, labels)
            writer.commit("f")
        write_well(well_table_path(run, well.name), nuclei=tables, fields=rows, fingerprint="f", measured=MEASURED)
    finish_store(run / "plate.ome.zarr", plate)
    statistics = PlateStatistics.of(Settings(), MEASURED, plate.wells_in_format or 24)
    tables = finish_tables(run, plate, MEASURED, layout, normalise=statistics.normalised)
    statistics.write(run, tables.wells)
    return run
