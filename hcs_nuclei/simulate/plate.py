"""Settings in, a plate directory in a vendor's layout out, with the truth about every nucleus beside it.

::

    <out>/<vendor's own directory>/…        the plate; nothing in it tells the truth
    <out>/<name>-truth/labels/B02_f1.tif    uint32 label images
    <out>/<name>-truth/nuclei.csv           well, field, label, y, x, area, class, dna_content, positive
    <out>/<name>-truth/wells.csv            treatment and true number of nuclei of every well
    <out>/<name>-truth/layout.csv           the plate layout, as a user would hand it in

Everything is written under a name that begins with a dot, and renamed when it is whole: what an interruption leaves
behind is no plate, and the next call sweeps it.
"""

from __future__ import annotations

import csv
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile

from hcs_nuclei.errors import OutputError, SettingsError
from hcs_nuclei.simulate.acquisition import Acquisition, Picture, Writer
from hcs_nuclei.simulate.cellomics import write_cellomics
from hcs_nuclei.simulate.cellvoyager import write_cellvoyager, write_cq1
from hcs_nuclei.simulate.design import Harm, WellDesign, design_wells, plate_region
from hcs_nuclei.simulate.fields import SimulatedField, simulate_field
from hcs_nuclei.simulate.imagexpress import write_imagexpress, write_imagexpress_raw
from hcs_nuclei.simulate.imagexpress_hcsai import write_imagexpress_hcsai
from hcs_nuclei.simulate.incell import write_incell
from hcs_nuclei.simulate.ome_tiff import write_ome_tiff
from hcs_nuclei.simulate.ome_zarr import write_ome_zarr, write_ome_zarr_04
from hcs_nuclei.simulate.operetta import (
    write_columbus,
    write_harmony_4,
    write_harmony_6,
    write_harmony_7,
    write_operetta,
)
from hcs_nuclei.simulate.optics import Shading
from hcs_nuclei.simulate.scanr import write_scanr

#: Diameter of a typical G1 nucleus in an untreated well, in pixels (14 µm).
DIAMETER_PX = 22.0
#: Nuclei per pixel of an untreated well; a whole plate then has about 200 in a field of 1080 × 1080 on average.
_FULL_DENSITY = 2.8e-4


@dataclass(frozen=True, slots=True)
class PlateFormat:
    """A vendor's layout: its writer, and the number of the first field in its file names."""

    write: Writer
    first_field: int = 1


PLATE_LAYOUTS: Mapping[str, PlateFormat] = {
    "imagexpress": PlateFormat(write_imagexpress),
    "imagexpress-raw": PlateFormat(write_imagexpress_raw),
    "imagexpress-hcsai": PlateFormat(write_imagexpress_hcsai, first_field=0),
    "operetta": PlateFormat(write_operetta),
    "operetta-4": PlateFormat(write_harmony_4),
    "operetta-6": PlateFormat(write_harmony_6),
    "operetta-7": PlateFormat(write_harmony_7),
    "columbus": PlateFormat(write_columbus),
    "cellvoyager": PlateFormat(write_cellvoyager),
    "cq1": PlateFormat(write_cq1),
    "cellomics": PlateFormat(write_cellomics, first_field=0),
    "incell": PlateFormat(write_incell),
    "scanr": PlateFormat(write_scanr),
    "ome-tiff": PlateFormat(write_ome_tiff),
    "ome-zarr": PlateFormat(write_ome_zarr, first_field=0),
    "ome-zarr-0.4": PlateFormat(write_ome_zarr_04, first_field=0),
}


@dataclass(frozen=True, slots=True)
class SimulatedPlate:
    """Where a simulated plate is: its outermost directory, the folder with the truth, and the layout file in that."""

    directory: Path
    truth: Path
    layout: Path


def simulate_plate(
    out: Path,
    *,
    format: str = "imagexpress",
    wells: int = 24,
    fields: int = 1,
    size: int = 512,
    seed: int = 0,
    channels: Sequence[str] = ("DAPI", "FITC"),
    name: str = "SIM-0001",
    harm: Harm | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> SimulatedPlate:
    """Write a plate of `wells` wells × `fields` fields of `size` × `size` pixels, and the truth about it, under `out`.

    The first channel is the nuclear stain. The pixels depend on `seed`, `wells`, `size` and `harm` (all that goes
    wrong with the plate) alone: the same plate in another format has the same. Field numbers in the truth are those in
    the format's file names. `progress` is told the number of fields done and of all fields. One field is in memory at
    a time.

    Raises:
        SettingsError: an unknown format, or numbers, names or channels that make no plate.
        OutputError: there is such a plate in `out` already, or `out` cannot be written to.
    """
    layout = _checked_layout(format, fields, size, seed, channels, name)
    acquisition = Acquisition(
        name=name,
        wells=design_wells(wells),
        wells_in_format=plate_region(wells)[0],
        fields=fields,
        size=size,
        channels=tuple(channels),
        shading=tuple(Shading.random(rng) for rng in np.random.default_rng(seed).spawn(len(channels))),
    )
    stage = out / f".{name}.simulating"
    truth = out / f"{name}-truth"
    _refuse_existing(truth)
    try:
        shutil.rmtree(stage, ignore_errors=True)
        (stage / "truth" / "labels").mkdir(parents=True)
        staged = layout.write(
            stage / "plate",
            acquisition,
            _pictures(acquisition, layout, seed, stage / "truth", harm or Harm(), progress),
        )
        directory = out / staged.name
        _refuse_existing(directory)
        # The truth first: where there is a plate, its truth is there too.
        (stage / "truth").rename(truth)
        staged.rename(directory)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(f"cannot write the simulated plate {name} to {out}: {error}; choose another --out") from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    return SimulatedPlate(directory, truth, truth / "layout.csv")


def _checked_layout(format: str, fields: int, size: int, seed: int, channels: Sequence[str], name: str) -> PlateFormat:
    """The layout of that name, if all settings make a plate; every fault is named at once."""
    faults = []
    if format not in PLATE_LAYOUTS:
        faults.append(f"format {format!r} is not known; choose one of {', '.join(PLATE_LAYOUTS)}")
    if not 1 <= fields <= 99:
        faults.append(f"{fields} fields; expected 1 to 99")
    if not 64 <= size <= 8192:
        faults.append(f"size {size} px; expected 64 to 8192")
    if seed < 0:
        faults.append(f"seed {seed}; expected 0 or more")
    if not 1 <= len(channels) <= 9 or len(set(channels)) != len(channels):
        faults.append(f"channels {', '.join(channels) or 'none'}; expected 1 to 9 different names")
    if odd := [channel for channel in channels if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 ._+()-]{0,31}", channel)]:
        faults.append(f"channels {odd}; expected names of letters, digits, space and . _ + ( ) -")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
        faults.append(f"name {name!r}; expected up to 64 letters, digits, and . _ - after the first")
    if faults:
        raise SettingsError("cannot simulate a plate: " + "; ".join(faults))
    return PLATE_LAYOUTS[format]


def _refuse_existing(path: Path) -> None:
    if path.exists():
        raise OutputError(f"{path} is there already; delete it, or choose another --out")


def _pictures(
    plate: Acquisition,
    layout: PlateFormat,
    seed: int,
    truth: Path,
    harm: Harm,
    progress: Callable[[int, int], None] | None,
) -> Iterator[Picture]:
    """Simulate field after field, state its truth in the folder `truth`, and yield its pictures."""
    total = len(plate.wells) * plate.fields
    with (
        (truth / "nuclei.csv").open("w", newline="", encoding="utf-8") as nuclei_file,
        (truth / "wells.csv").open("w", newline="", encoding="utf-8") as wells_file,
        (truth / "layout.csv").open("w", newline="", encoding="utf-8") as layout_file,
    ):
        nuclei, wells, layouts = (csv.writer(f, lineterminator="\n") for f in (nuclei_file, wells_file, layout_file))
        nuclei.writerow(["well", "field", "label", "y", "x", "area", "class", "dna_content", "positive"])
        wells.writerow(
            ["well", "row", "column", "compound", "concentration_um", "control_type", "replicate", "nuclei_count"]
        )
        layouts.writerow(
            ["well_position", "compound", "concentration", "concentration_unit", "control_type", "replicate"]
        )
        for number, well in enumerate(plate.wells):
            treatment = [well.compound, f"{well.concentration_um:g}"]
            layouts.writerow([well.name, *treatment, "uM", well.control_type, well.replicate])
            count = 0
            for index in range(plate.fields):
                field = _simulate(plate, well, index, seed, harm)
                named = layout.first_field + index
                tifffile.imwrite(truth / "labels" / f"{well.name}_f{named}.tif", field.labels, compression="zlib")
                for n in field.nuclei:
                    what = [n.kind, f"{n.dna_content:.3f}", int(n.positive)]
                    nuclei.writerow([well.name, named, n.label, f"{n.y:.3f}", f"{n.x:.3f}", n.area, *what])
                count += len(field.nuclei)
                for channel, name in enumerate(plate.channels):
                    yield Picture(well, index, channel, field.images[name])
                if progress is not None:
                    progress(number * plate.fields + index + 1, total)
            wells.writerow([well.name, well.row, well.column, *treatment, well.control_type, well.replicate, count])


def _simulate(plate: Acquisition, well: WellDesign, field: int, seed: int, harm: Harm) -> SimulatedField:
    """One field (counted from 0) of a well: its generator depends on the plate's seed and its own place alone."""
    of_well = np.random.default_rng(np.random.SeedSequence([seed, well.row, well.column]))
    of_field = np.random.default_rng(np.random.SeedSequence([seed, well.row, well.column, field + 1]))
    density = harm.density(well, (plate.rows, plate.columns))
    seeded = _FULL_DENSITY * plate.size**2 * density * of_well.lognormal(0, 0.06)
    return simulate_field(
        of_field,
        size=plate.size,
        nuclei=int(of_field.poisson(seeded)),
        diameter_px=DIAMETER_PX,
        channels=plate.channels,
        phenotype=well.phenotype,
        shading=dict(zip(plate.channels, plate.shading, strict=True)),
        defocus=harm.defocus(well),
    )
