"""A scanR acquisition (Olympus, Evident), written as the instrument's software writes it.

::

    <name>/experiment_descriptor.xml                                   wells, positions, channels
    <name>/data/B2--W00014--P00001--Z00000--T00000--DAPI.tif           wells are numbered row by row
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from xml.sax.saxutils import escape

import tifffile

from hcs_nuclei.plate import row_name
from hcs_nuclei.simulate.acquisition import Acquisition, Picture
from hcs_nuclei.simulate.design import WellDesign


def write_scanr(out: Path, plate: Acquisition, pictures: Iterable[Picture]) -> Path:
    """Write `pictures` as a scanR acquisition under `out`; returns its directory."""
    root = out / plate.name
    images = root / "data"
    images.mkdir(parents=True)
    for picture in pictures:
        well = f"{_label(picture.well)}--W{_number(plate, picture.well):05d}"
        name = f"{well}--P{picture.field + 1:05d}--Z00000--T00000--{plate.channels[picture.channel]}.tif"
        tifffile.imwrite(images / name, picture.pixels, photometric="minisblack", rowsperstrip=16, metadata=None)
    with (root / "experiment_descriptor.xml").open("w", encoding="latin-1", newline="\r\n") as file:
        file.writelines(f"{line}\n" for line in _descriptor(plate))
    return root


def _label(well: WellDesign) -> str:
    return f"{row_name(well.row)}{well.column}"


def _number(plate: Acquisition, well: WellDesign) -> int:
    return (well.row - 1) * plate.columns + well.column


def _descriptor(plate: Acquisition) -> Iterator[str]:
    """The lines of the descriptor: LabVIEW's values, one after another."""
    yield "<LVData>\n<Cluster>\n<Name>experiment descriptor</Name>"
    yield _value("String", "plate name", plate.name)
    yield "<Cluster>\n<Name>format typedef</Name>"
    yield _value("I32", "Rows", plate.rows)
    yield _value("I32", "Columns", plate.columns)
    yield "</Cluster>\n<Cluster>\n<Name>acquisition</Name>"
    yield _value("DBL", "conversion factor um/pixel", f"{plate.pixel_size_um:g}")
    yield _value("I32", "# slices", 1)
    yield _value("I32", "timeloop real", 1)
    yield f"</Cluster>\n<Array>\n<Name>channels</Name>\n<Dimsize>{len(plate.channels)}</Dimsize>"
    for name in plate.channels:
        yield "<Cluster>\n<Name></Name>"
        yield _value("String", "name", name)
        yield _value("DBL", "exposure time", 100)
        yield _value("Boolean", "idle", 0)
        yield "</Cluster>"
    yield f"</Array>\n<Array>\n<Name>well selection table + cDNA</Name>\n<Dimsize>{len(plate.wells)}</Dimsize>"
    yield "<Dimsize>2</Dimsize>"
    for well in plate.wells:
        yield _value("String", "", _number(plate, well))
        yield _value("String", "", _label(well))
    yield f"</Array>\n<Array>\n<Name>subposition list</Name>\n<Dimsize>{plate.fields}</Dimsize>"
    for field in range(plate.fields):
        yield "<Cluster>\n<Name></Name>"
        for distance in plate.offset_um(field):
            yield _value("DBL", "", f"{distance:g}")
        yield "</Cluster>"
    yield "</Array>\n</Cluster>\n</LVData>"


def _value(kind: str, name: str, value: object) -> str:
    return f"<{kind}>\n<Name>{escape(name)}</Name>\n<Val>{escape(str(value))}</Val>\n</{kind}>"
