"""Cellomics directories made for the purpose."""

from __future__ import annotations

from pathlib import Path

import pytest

from hcs_nuclei.errors import NotAPlateError
from hcs_nuclei.sources import open_plate


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).touch()
    return folder


def test_fields_begin_at_zero_and_a_missing_plane_is_seen(tmp_path: Path) -> None:
    names = [f"MFGTMP_1_{well}f{f:02d}d{d}.TIF" for well in ("B02", "AB03") for f in (0, 1) for d in (0, 1)]
    names.remove("MFGTMP_1_AB03f00d0.TIF")
    plate = open_plate(touch(tmp_path, *names))
    assert (plate.vendor, plate.name, plate.acquisition) == ("cellomics", "MFGTMP_1", "")
    assert [[s.number for s in w.fields] for w in plate] == [[0, 1], [0, 1]]
    assert [(w.name, s.number, p.channel) for w, s, p in plate.missing_planes()] == [("AB03", 0, "d0")]


def test_overlays_are_no_channels(tmp_path: Path) -> None:
    plate = open_plate(touch(tmp_path, "P_B02f00d0.tif", "P_B02f00o1.tif"))
    assert [c.token for c in plate.channels] == ["d0"]


@pytest.mark.parametrize("suffix", ["C01", "DIB"])
def test_the_instruments_own_format_is_refused_with_advice(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(NotAPlateError, match=rf"P_B02f00d0\.{suffix}.*Export them .* as TIFF"):
        open_plate(touch(tmp_path, f"P_B02f00d0.{suffix}"))


def test_the_instruments_own_format_beside_tiffs_is_said(tmp_path: Path) -> None:
    plate = open_plate(touch(tmp_path, "P_B02f00d0.C01", "P_B02f00d0.tif"))
    assert [p.path for p in plate.wells[0].fields[0].planes] == ["P_B02f00d0.tif"]
    assert "1 .C01 or .DIB files are not read" in plate.warnings[0]


def test_two_plates_in_one_directory_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotAPlateError, match="2 plates: P, Q"):
        open_plate(touch(tmp_path, "P_B02f00d0.tif", "Q_B02f00d0.tif"))
