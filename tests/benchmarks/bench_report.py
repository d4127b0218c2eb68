"""Size, making and opening of the report of a 384-well and of a 1536-well plate.

    python tests/benchmarks/bench_report.py [--wells 384 1536] [--fields 4] [--size 1080] [--keep DIR]

A plate of 24 wells is simulated and its true outlines are taken for label images; the wells of the large plate are
copies of them by treatment, so that nothing is segmented. Opening is measured in headless Chromium, from the start of
the navigation to the load event, and until the page's script has drawn everything; the middle of five.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

sys.path.insert(0, str(Path(__file__).parents[1]))

from chromium import PROGRAM, chromium
from outputs_samples import CHANNELS, MEASURED, field_row, identity, make_plate
from report_samples import TREATMENTS

from hcs_nuclei.columns import nucleus_columns
from hcs_nuclei.layouts import Layout, read_layout
from hcs_nuclei.measurement import measure_nuclei
from hcs_nuclei.outputs import WellWriter, begin_store, finish_store, finish_tables, well_table_path, write_well
from hcs_nuclei.outputs.report import write_report
from hcs_nuclei.pipeline.statistics import PlateStatistics
from hcs_nuclei.plate import PLATE_FORMATS, Plate, parse_well, row_name, well_name
from hcs_nuclei.settings import Settings
from hcs_nuclei.simulate import simulate_plate
from hcs_nuclei.sources import open_plate, read_image

Field = tuple[npt.NDArray[Any], npt.NDArray[np.uint32], dict[str, Any]]


def simulated(folder: Path, fields: int, size: int) -> tuple[Layout, dict[str, list[Field]]]:
    """Treatments, and of each well its fields: image, labels and what is measured."""
    made = simulate_plate(folder, wells=24, fields=fields, size=size, name="SIM-BENCH")
    plate = open_plate(made.directory)
    layout = read_layout(made.truth / "layout.csv", plate)
    found: dict[str, list[Field]] = {}
    for well in plate.wells:
        for field in well.fields:
            image = read_image(plate.root, field.planes_of(plate.channels[0].token, 0))
            labels = tifffile.imread(made.truth / "labels" / f"{well.name}_f{field.number}.tif").astype(np.uint32)
            measured = measure_nuclei(labels, dict.fromkeys(CHANNELS, image), nuclear="DAPI", saturation=None)
            found.setdefault(well.name, []).append((image, labels, measured))
    return layout, found


def treatments(small: Layout, rows: int, columns: int) -> tuple[Layout, dict[str, str]]:
    """A layout of the large plate, and which simulated well each of its wells is a copy of."""
    kinds: dict[str, list[str]] = {}
    for well, of_well in small.wells.items():
        kinds.setdefault(str(of_well["Metadata_control_type"]), []).append(well)
    wells, copies = {}, {}
    for row in range(1, rows + 1):
        for column in range(1, columns + 1):
            kind = ("negcon", "poscon")[row % 2] if column in (1, columns) else "trt"
            # Four doses of a compound stand side by side, and its replicates in the next row.
            place = (column - 2) % 4 if kind == "trt" else 0
            like = kinds[kind][place + 4 * (row % 4) if kind == "trt" else row // 2 % len(kinds[kind])]
            said = dict(small.wells[like])
            if kind == "trt":
                said["Metadata_Compound"] = f"compound-{(row - 1) // 4 * (columns // 4) + (column - 2) // 4:03d}"
            name = well_name(row, column)
            wells[name] = {c.name: said[c.name] for c in TREATMENTS if c.name in said}
            copies[name] = like
    return Layout("layout.csv", "file", TREATMENTS, wells), copies


def write_large(
    run: Path, plate: Plate, layout: Layout, copies: dict[str, str], source: dict[str, list[Field]]
) -> None:
    """A finished run of the large plate, whose images are links to those of the first copies."""
    (run / "nuclei").mkdir(parents=True)
    store = run / "plate.ome.zarr"
    begin_store(store, plate)
    written: dict[str, Path] = {}
    for well in plate.wells:
        like = copies[well.name]
        place = store / row_name(well.row) / f"{well.column:02d}"
        if like in written:
            shutil.copytree(written[like], place, copy_function=os.link)
        else:
            with WellWriter(store, well, channel=plate.channels[0], pixel_size_um=0.65, timepoints=1) as writer:
                for number, (image, labels, _) in enumerate(source[like], start=1):
                    writer.add_field(number, image[None], labels[None])
                writer.commit("f")
            written[like] = place
        rows, tables = [], []
        for number, (image, _, measured) in enumerate(source[like], start=1):
            count = len(measured["Metadata_ObjectNumber"])
            sizes = {"Metadata_Height": image.shape[0], "Metadata_Width": image.shape[1]}
            rows.append({**field_row(plate, well.name, number, count), **sizes})
            unknown = {c.name: np.nan for c in nucleus_columns(MEASURED) if c.name not in measured}
            named = identity(plate, well.name, number)
            tables.append({**unknown, **measured, **named, "Metadata_Confidence": 0.9})
        write_well(well_table_path(run, well.name), nuclei=tables, fields=rows, fingerprint="f", measured=MEASURED)
    finish_store(store, plate)
    told = PlateStatistics.of(Settings(), MEASURED, len(plate.wells))
    tables_of_plate = finish_tables(run, plate, MEASURED, layout, normalise=told.normalised)
    told.write(run, tables_of_plate.wells)


def opened(report: Path, folder: Path, times: int = 5) -> tuple[float, float]:
    """Seconds until the load event, and until everything is drawn."""
    loaded, drawn = [], []
    for turn in range(times):
        with chromium(folder / f"profile-{report.parent.name}-{turn}") as tab:
            tab.look(1440, 900)
            loaded.append(tab.open(report.as_uri()))
            drawn.append(tab.run("performance.getEntriesByName('drawn')[0].startTime") / 1000)
    return statistics.median(loaded), statistics.median(drawn)


def main() -> None:
    """Print a line for each plate."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--wells", type=int, nargs="+", default=[384, 1536])
    options.add_argument("--fields", type=int, default=4)
    options.add_argument("--size", type=int, default=1080)
    options.add_argument("--keep", type=Path)
    asked = options.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.keep or Path(temporary)
        small, source = simulated(folder / "plates", asked.fields, asked.size)
        for wells in asked.wells:
            rows, columns = PLATE_FORMATS[wells]
            layout, copies = treatments(small, rows, columns)
            names = sorted(copies, key=parse_well)
            plate = make_plate(names, fields=asked.fields, name=f"BENCH-{wells}")
            run = folder / f"BENCH-{wells}"
            write_large(run, plate, layout, copies, source)
            start = time.perf_counter()
            report = write_report(run)
            made = time.perf_counter() - start
            print(f"{wells} wells × {asked.fields} fields: {report.stat().st_size / 1e6:.1f} MB, made in {made:.0f} s")
            if PROGRAM:
                loaded, drawn = opened(report, folder)
                print(f"  load event after {loaded:.2f} s, everything drawn after {drawn:.2f} s")


if __name__ == "__main__":
    main()
