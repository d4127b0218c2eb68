"""Whether a plate is complete yet: looked at while another process copies it, and as it is left behind."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hcs_nuclei.cli import main
from hcs_nuclei.errors import NotAPlateError
from hcs_nuclei.simulate import simulate_plate
from hcs_nuclei.sources import check_completeness, wait_until_complete
from hcs_nuclei.sources.completeness import PATIENCE, Completeness

#: Copies every file in two halves with a rest between, and keeps the old times, as rsync -t and robocopy do.
COPY = """
import shutil, sys, time
from pathlib import Path
source, target, rest = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
for path in sorted(p for p in source.rglob("*") if p.is_file()):
    copy = target / path.relative_to(source)
    copy.parent.mkdir(parents=True, exist_ok=True)
    content = path.read_bytes()
    for part in (content[: len(content) // 2], content[len(content) // 2 :]):
        with copy.open("ab") as file:
            file.write(part)
        time.sleep(rest)
    shutil.copystat(path, copy)
"""


@pytest.fixture(scope="module")
def plates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A plate of 4 wells with 2 fields and 2 channels in formats with and without a list of images."""
    out = tmp_path_factory.mktemp("plates")
    return {
        vendor: simulate_plate(out / vendor, format=vendor, wells=4, fields=2, size=64).directory
        for vendor in ("imagexpress", "operetta", "cellvoyager", "cellomics")
    }


@pytest.fixture
def plate(plates: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(plates["imagexpress"], tmp_path / plates["imagexpress"].name))


def looked(directory: Path, *times: float, quiet: float = 60) -> Completeness:
    """Looks at these times of a clock, one after the other; the last answer."""
    found = None
    for now in times:
        found = check_completeness(directory, found, quiet=quiet, now=now)
    assert found is not None
    return found


@pytest.mark.parametrize("vendor", ["imagexpress", "operetta", "cellvoyager", "cellomics"])
def test_a_plate_that_is_copied_slowly_is_complete_when_the_copy_is(
    vendor: str, plates: dict[str, Path], tmp_path: Path
) -> None:
    target = tmp_path / plates[vendor].name
    target.mkdir()
    copying = subprocess.Popen([sys.executable, "-c", COPY, str(plates[vendor]), str(target), "0.04"])
    states: list[Completeness] = []
    seen_running: list[bool] = []

    def told(found: Completeness) -> None:
        states.append(found)
        seen_running.append(copying.poll() is None)

    try:
        found = wait_until_complete(target, quiet=1.5, timeout=120, told=told)
    finally:
        copying.wait(60)
    assert copying.returncode == 0
    assert (found.state, found.expected, found.found, found.faulty) == ("complete", 16, 16, 0)
    assert any(seen_running)
    assert not seen_running[-1]
    assert {s.state for s, running in zip(states, seen_running, strict=True) if running} <= {"writing"}
    assert found.seconds_since_change >= (1.5 * PATIENCE if vendor == "cellomics" else 1.5)


def test_one_look_never_says_complete(plate: Path) -> None:
    found = looked(plate, 0.0)
    assert found.state == "writing"
    assert "16 of 16 expected planes" in found.reason
    assert looked(plate, 0.0, 59.9).state == "writing"
    assert looked(plate, 0.0, 60.0).state == "complete"
    assert looked(plate, 0.0, quiet=0).state == "complete"


@pytest.mark.parametrize("skew", [-86_400, 0, 86_400])
def test_a_share_whose_clock_is_wrong_makes_no_difference(plate: Path, skew: float) -> None:
    for path in plate.rglob("*"):
        os.utime(path, (time.time() + skew, time.time() + skew))
    assert looked(plate, 1000.0, 1030.0).state == "writing"
    assert looked(plate, 1000.0, 1030.0, 1060.0).state == "complete"


def test_each_change_begins_the_quiet_anew(plate: Path) -> None:
    image = next(plate.rglob("*_w1.TIF"))
    first = looked(plate, 0.0, 50.0)
    os.utime(image, (1, 1))
    touched = check_completeness(plate, first, now=100.0)
    assert (touched.state, touched.seconds_since_change) == ("writing", 0.0)
    (plate / "Thumbs.db").write_bytes(b"what a look at the folder leaves")
    later = check_completeness(plate, touched, now=159.0)
    assert (later.state, later.seconds_since_change) == ("writing", 59.0)
    assert check_completeness(plate, later, now=160.0).state == "complete"


def test_a_clock_that_is_put_back_is_a_change(plate: Path) -> None:
    first = looked(plate, 1000.0, 1059.0)
    back = check_completeness(plate, first, now=10.0)
    assert (back.state, back.seconds_since_change) == ("writing", 0.0)


@pytest.mark.parametrize(
    ("content", "kind"), [(None, "missing"), (b"", "zero-byte"), (b"cut", "truncated"), (b"text", "wrong-type")]
)
def test_a_copy_that_stalled_is_incomplete_and_says_where(plate: Path, content: bytes | None, kind: str) -> None:
    image = plate / "TimePoint_1" / "SIM-0001_B03_s2_w1.TIF"
    whole = image.read_bytes()
    image.unlink()
    if content is not None:
        image.write_bytes(whole[:-3000] if content == b"cut" else content)
    found = looked(plate, 0.0, 60.0)
    assert found.state == "incomplete"
    assert f"1 planes are {kind} (first B03 field 2: TimePoint_1/SIM-0001_B03_s2_w1.TIF)" in found.reason
    assert (found.found, found.faulty) == ((15, 0) if kind == "missing" else (16, 1))
    # It goes on after all.
    image.write_bytes(whole)
    mended = check_completeness(plate, found, now=70.0)
    assert mended.state == "writing"
    assert check_completeness(plate, mended, now=130.0).state == "complete"


@pytest.mark.parametrize("name", ["SIM-0001_B02_s1_w1.TIF.part", ".SIM-0001_B02_s1_w1.TIF.Xy12Zz", "a.filepart"])
def test_a_file_that_a_copying_program_left_unfinished(plate: Path, name: str) -> None:
    (plate / "TimePoint_1" / name).write_bytes(b"II*")
    found = looked(plate, 0.0, 60.0)
    assert found.state == "incomplete"
    assert f"TimePoint_1/{name} is a copy that was not finished" in found.reason


def test_a_promised_channel_of_which_nothing_is_there(plate: Path) -> None:
    for path in plate.rglob("*_w2.TIF"):
        path.unlink()
    found = looked(plate, 0.0, 60.0)
    assert (found.state, found.expected, found.found, found.absent) == ("incomplete", 8, 8, 8)
    assert "nothing of channel FITC is there (8 planes)" in found.reason


def test_what_is_inferred_is_waited_for_longer(plates: dict[str, Path]) -> None:
    found = looked(plates["cellomics"], 0.0, 60.0)
    assert found.state == "writing"
    assert "inferred from the regularity" in found.reason
    assert "waited for 300 s" in found.reason
    assert looked(plates["cellomics"], 0.0, 60.0, 300.0).state == "complete"


def test_the_instruments_own_end(plates: dict[str, Path], tmp_path: Path) -> None:
    assert looked(plates["operetta"], 0.0, 60.0).marker == "Images/Index.idx.xml"
    found = looked(plates["cellvoyager"], 0.0, 60.0)
    assert (found.state, found.marker) == ("complete", "MeasurementDetail.mrf")
    running = Path(shutil.copytree(plates["cellvoyager"], tmp_path / plates["cellvoyager"].name))
    detail = next(running.rglob("MeasurementDetail.mrf"))
    detail.write_text(detail.read_text(encoding="utf-8").replace("EndTime", "ExpectedTime"), encoding="utf-8")
    found = looked(running, 0.0, 60.0)
    assert (found.state, found.marker) == ("writing", "")
    assert "does not say that the measurement ended" in found.reason


def test_a_directory_that_is_no_plate_yet(tmp_path: Path, plate: Path) -> None:
    (tmp_path / "coming").mkdir()
    coming = tmp_path / "coming"
    found = looked(coming, 0.0, 30.0)
    assert found.state == "writing"
    assert "is empty" in found.reason
    shutil.copytree(plate / "TimePoint_1", coming / "P_Plate_1" / "TimePoint_1")
    begun = check_completeness(coming, found, now=40.0)
    assert (begun.state, begun.found) == ("writing", 16)
    assert check_completeness(coming, begun, now=99.0).state == "writing"
    assert check_completeness(coming, begun, now=100.0).state == "complete"
    assert looked(tmp_path / "coming" / "P_Plate_1" / "TimePoint_1", 0.0, 60.0).state == "complete"
    with pytest.raises(NotAPlateError, match="no directory"):
        check_completeness(tmp_path / "never")


def test_the_answer_is_a_value(plate: Path) -> None:
    found = looked(plate, 0.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.state = "complete"  # type: ignore[misc]
    assert found == looked(plate, 0.0)


def test_waiting_ends_by_its_timeout_and_gives_up_what_stays_incomplete(plate: Path) -> None:
    assert wait_until_complete(plate, quiet=60, timeout=0.2).state == "writing"
    next(plate.rglob("*_w1.TIF")).unlink()
    found = wait_until_complete(plate, quiet=0.2)
    assert found.state == "incomplete"
    assert found.seconds_since_change >= PATIENCE * 0.2


def test_the_command_waits_and_says_how_it_ended(plate: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(plate), "--wait", "--quiet", "0.2", "--json", "-"]) == 0
    out, err = capsys.readouterr()
    assert '"state": "complete"' in out
    assert "complete: all 16 expected planes are there" in err
    next(plate.rglob("*B02_s1_w1.TIF")).unlink()
    assert main(["inspect", str(plate), "--wait", "--quiet", "0.1"]) == 3
    out, err = capsys.readouterr()
    assert "B02  field 1 DAPI (SIM-0001_B02_s1_w1.TIF)" in out
    assert "incomplete: nothing changes any more, and 1 planes are missing" in err
    assert main(["inspect", str(plate)]) == 0
