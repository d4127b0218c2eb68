"""Opening a plate of 1536 wells × 9 fields × 4 channels (55,296 images) in every format: seconds of CPU, peak memory.

    python tests/benchmarks/bench_opening.py [FORMAT …]

The plates are what the simulator writes, but every image is an empty file (of OME-Zarr, every chunk). Each is opened in
a process of its own; memory is the largest resident set of that process, the interpreter included. CPU time is counted,
not waiting, so that other work on the machine and a slow disk change it little.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

from hcs_nuclei.simulate import PLATE_LAYOUTS, imagexpress, ome_zarr
from hcs_nuclei.simulate.acquisition import Acquisition, Picture
from hcs_nuclei.simulate.design import design_wells
from hcs_nuclei.simulate.optics import Shading

CHANNELS = ("DAPI", "FITC", "TRITC", "Cy5")
PLATE = Acquisition(
    name="BENCH",
    wells=design_wells(1536),
    wells_in_format=1536,
    fields=9,
    size=64,
    channels=CHANNELS,
    shading=tuple(Shading.random(np.random.default_rng(n)) for n in range(len(CHANNELS))),
)


class EmptyFile:
    """Stands in for a TIFF's writer: the file is made, and nothing is written into it."""

    def __init__(self, path: Path, *_: Any, **__: Any) -> None:
        Path(path).touch()

    def __enter__(self) -> EmptyFile:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def write(self, *_: Any, **__: Any) -> None:
        return


#: What :class:`EmptyArrays` stands in for.
WRITE_ARRAY = ome_zarr._write_array


class EmptyArrays:
    """Stands in for the writer of a Zarr array: its documents are the first one's, its chunks are empty."""

    def __init__(self) -> None:
        self._documents: dict[str, bytes] = {}
        self._chunks: list[str] = []

    def __call__(self, path: Path, pixels: npt.NDArray[np.uint16], version: str) -> None:
        if not self._chunks:
            WRITE_ARRAY(path, pixels, version)
            for file in (file for file in path.rglob("*") if file.is_file()):
                name = file.relative_to(path).as_posix()
                if file.name.startswith((".z", "zarr")):
                    self._documents[name] = file.read_bytes()
                else:
                    self._chunks.append(name)
            shutil.rmtree(path)
        for name in (*self._documents, *self._chunks):
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(self._documents.get(name, b""))


def pictures() -> Iterator[Picture]:
    """Every image of the plate, of 16 pixels."""
    pixels = np.zeros((4, 4), np.uint16)
    for well in PLATE.wells:
        for field in range(PLATE.fields):
            for channel in range(len(CHANNELS)):
                yield Picture(well, field, channel, pixels)


def make(name: str, out: Path) -> Path:
    """The plate in the format `name`, of empty files."""
    tifffile.imwrite = EmptyFile  # type: ignore[assignment]
    tifffile.TiffWriter = EmptyFile  # type: ignore[assignment,misc]
    ome_zarr._write_array = EmptyArrays()  # type: ignore[assignment]
    imagexpress._metaseries = lambda *_: ""  # it takes longest, and nobody writes it
    return PLATE_LAYOUTS[name].write(out, PLATE, pictures())


def open_it(directory: str) -> dict[str, float]:
    """What opening the plate in `directory` costs this process."""
    from hcs_nuclei.errors import NotAPlateError
    from hcs_nuclei.sources import open_plate

    began = time.process_time()
    try:
        plate = open_plate(directory)
    except NotAPlateError:
        images = 0
    else:
        images = sum(bool(plane.path) for well in plate for site in well.fields for plane in site.planes)
    seconds = time.process_time() - began
    return {"images": images, "seconds": seconds, "mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("formats", nargs="*", metavar="FORMAT", help=f"of {', '.join(PLATE_LAYOUTS)}; all by default")
    parser.add_argument("--open", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.open:
        print(json.dumps(open_it(arguments.open)))
        return
    print("| format | images | CPU s | peak MB |\n| --- | --- | --- | --- |")
    for name in arguments.formats or PLATE_LAYOUTS:
        with tempfile.TemporaryDirectory() as scratch:
            child = subprocess.run(
                [sys.executable, __file__, "--open", str(make(name, Path(scratch)))],
                check=True,
                capture_output=True,
                text=True,
            )
        found = json.loads(child.stdout)
        print(f"| {name} | {found['images']:,} | {found['seconds']:.1f} | {found['mb']:.0f} |", flush=True)


if __name__ == "__main__":
    main()
