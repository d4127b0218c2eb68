"""Every format with every file damaged in every way: a damage costs its field, is said with the file, and no more."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
import tifffile
from damage_table import Case, Outcome, affected, cases_of, look, run
from PIL import Image

from hcs_nuclei.pipeline.plan import Context
from hcs_nuclei.pipeline.reading import read_view
from hcs_nuclei.settings import Settings
from hcs_nuclei.simulate import PLATE_LAYOUTS, simulate_plate
from hcs_nuclei.sources import open_plate, read_image

PNG = "cellvoyager as PNG"
FORMATS = [*sorted(PLATE_LAYOUTS), PNG]
GROWTH_MB = 500


@pytest.fixture(scope="module")
def plate_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The same 3 wells with 2 fields and 2 channels in the format asked for."""
    out = tmp_path_factory.mktemp("plates").resolve()

    @cache
    def make(name: str) -> Path:
        vendor = "cellvoyager" if name == PNG else name
        plate = simulate_plate(out / name, format=vendor, wells=3, fields=2, size=64).directory
        for path in plate.rglob("*_T0001F*.tif") if name == PNG else ():
            Image.fromarray(tifffile.imread(path)).save(path.with_suffix(".png"))
            path.unlink()
        return plate

    return make


def faults_of(case: Case, outcome: Outcome, clean: Outcome, fields: set[str]) -> list[str]:
    """What is wrong with how a damage was taken."""
    faults = []
    if outcome.crash:
        return [outcome.crash]
    if outcome.outside:
        faults.append(f"it read outside the plate: {outcome.outside}")
    if outcome.memory_mb > GROWTH_MB:
        faults.append(f"it took {outcome.memory_mb:.0f} MB")
    if outcome.refused and not case.metadata:
        faults.append(f"one image costs the plate: {outcome.refused}")
    for plane, checksum in outcome.pixels.items():
        field = plane.rsplit("/", 1)[0]
        own = {other for key, other in clean.pixels.items() if key.rsplit("/", 1)[0] == field}
        if checksum not in own:
            faults.append(f"{plane} has pixels that it did not have before")
    if not case.metadata:
        lost = [p for p in clean.pixels if p not in outcome.pixels and p.rsplit("/", 1)[0] not in fields]
        if lost:
            faults.append(f"other fields lost {lost}")
    name = case.file.rpartition("/")[2]
    # Of a file that is not there, a reader that does not need it knows the kind alone (.HTD).
    named = name in outcome.messages or (
        case.damage == "deleted" and (f"no .{name.rpartition('.')[2]}" in outcome.messages or _placed(name, outcome))
    )
    unharmed = (outcome.pixels, outcome.known) == (clean.pixels, clean.known)
    if not named and not unharmed:
        faults.append(f"no message names {name}: {outcome.messages[:1500]}")
    return faults


def _placed(name: str, outcome: Outcome) -> bool:
    """Whether a raw ImageXpress image that is gone is named by its place: its own name ends in random digits."""
    found = re.search(r"_([A-Z]\d\d)_s(\d)_(w\d)[0-9A-F]{8}-[0-9A-F-]{27}\.tif", name)
    if found is None:
        return False
    well, field, channel = found.groups()
    return f'"kind": "missing", "well": "{well}", "field": {field}, "channel": "{channel}"' in outcome.messages


def tried(format: str, plate: Path, work: Path, cases: list[Case]) -> list[str]:
    """The faults found in trying `cases`, in words."""
    clean = look(plate)
    assert not clean.refused, clean.refused
    assert not clean.crash, clean.crash
    assert len(clean.pixels) == 12
    results = list(run(format, plate, work, cases))
    assert [case for case, _ in results] == cases
    return [
        f"{case}: {fault}"
        for case, outcome in results
        for fault in faults_of(case, outcome, clean, affected(plate, case))
    ]


@pytest.mark.parametrize("format", FORMATS)
def test_some_damages_of_every_kind(format: str, plate_of: Callable[[str], Path], tmp_path: Path) -> None:
    cases = [case for case in cases_of(format, plate_of(format)) if case.fast]
    assert len(cases) >= 7
    faults = tried(format, plate_of(format), tmp_path.resolve(), cases)
    assert not faults, "\n\n".join(faults[:20])


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("format", FORMATS)
def test_every_damage(format: str, plate_of: Callable[[str], Path], tmp_path: Path) -> None:
    faults = tried(format, plate_of(format), tmp_path.resolve(), cases_of(format, plate_of(format)))
    assert not faults, "\n\n".join(faults[:20])


def test_the_table_is_long_enough(plate_of: Callable[[str], Path]) -> None:
    cases = [case for format in FORMATS for case in cases_of(format, plate_of(format))]
    assert len(cases) >= 500
    assert len(set(cases)) == len(cases)


# --- the words that a run leaves in its table of fields ----------------------------------------------------------


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3000])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def write_text(path: Path) -> None:
    path.write_text("no image")


def shrink(path: Path) -> None:
    tifffile.imwrite(path, np.zeros((60, 64), np.uint16))


def double(path: Path) -> None:
    shutil.copy(path, path.with_name(f"{path.stem}AEA5F7A4-0D36-4A29-9F5A-BE62B6F7F73F.TIF"))


@pytest.mark.parametrize(
    ("damage", "wave", "status", "words"),
    [
        (Path.unlink, 1, "missing", "DAPI plane is not there"),
        (Path.unlink, 2, "incomplete", "FITC plane is not there"),
        (empty, 1, "unreadable", "DAPI (zero-byte): TimePoint_1/SIM-0001_B03_s2_w1.TIF is empty (0 bytes)"),
        (cut, 1, "unreadable", "DAPI (truncated): TimePoint_1/SIM-0001_B03_s2_w1.TIF is truncated"),
        (cut, 2, "incomplete", "FITC (truncated): TimePoint_1/SIM-0001_B03_s2_w2.TIF is truncated"),
        (write_text, 1, "unreadable", "DAPI (wrong-type): TimePoint_1/SIM-0001_B03_s2_w1.TIF cannot be read"),
        (shrink, 2, "incomplete", "FITC (wrong-size): TimePoint_1/SIM-0001_B03_s2_w2.TIF is 64 × 60 pixels"),
        (double, 1, "ok", "DAPI (duplicate): TimePoint_1/SIM-0001_B03_s2_w1.TIF is used, not"),
    ],
)
def test_a_field_says_what_befell_it(
    damage: Callable[[Path], None],
    wave: int,
    status: str,
    words: str,
    plate_of: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    clean = plate_of("imagexpress")
    copy = Path(shutil.copytree(clean, tmp_path / clean.name))
    damage(copy / "TimePoint_1" / f"SIM-0001_B03_s2_w{wave}.TIF")
    plate = open_plate(copy)
    context = Context(
        root=plate.root,
        place=plate.place,
        run_dir=tmp_path,
        plate=plate.name,
        acquisition=plate.acquisition,
        channels=plate.channels,
        nuclear=plate.channels[0],
        timepoints=1,
        pixel_size_um=None,
        settings=Settings(),
        model_directory=tmp_path,
        model_sha256="",
    )
    well = plate.well("B03")
    read = read_view(context, partial(read_image, plate.root), well.fields[1], 0)
    assert read.status == status
    assert words in read.error
    other = read_view(context, partial(read_image, plate.root), well.fields[0], 0)
    assert (other.status, other.error) == ("ok", "")
