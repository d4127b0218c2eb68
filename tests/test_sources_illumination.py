"""What vendors keep beside the images about uneven light, and flat-field images that a user names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import tifffile

from hcs_nuclei.errors import ProfileError, SettingsError
from hcs_nuclei.plate import Plate
from hcs_nuclei.simulate import simulate_plate
from hcs_nuclei.sources import HarmonyFlatField, open_plate, read_flat_fields, read_reference, reference_names

NAMESPACE = "http://www.perkinelmer.com/PEHH/Harmony"
ROWS = "[[1.1], [0.2, -0.3], [-0.4, 0.05, -0.6]]"
PLACE = "Dims: [100, 100], Origin: [49.5, 49.5], Scale: [0.01, 0.01], Type: Polynomial"


def section(rows: str = ROWS, place: str = PLACE, more: str = "") -> str:
    return f"{{Character: NonFlat, {more}Profile: {{Coefficients: {rows}, {place}}}, Quality: 1.0}}"


def acapella(foreground: str, background: str = section(more="Mean: 350.5, ")) -> str:
    return (
        f"{{Background: {background}, Channel: 1, ChannelName: Alexa (488), Foreground: {foreground}, "
        "Version: Acapella:2013}"
    )


def write_index(folder: Path, profile: str, version: str = "V5") -> Path:
    path = folder / "Index.idx.xml"
    path.write_text(
        f'<EvaluationInputData xmlns="{NAMESPACE}{version}"><Wells><Well><Image id="a"/></Well></Wells><Maps><Map>'
        f'<Entry ChannelID="1"><FlatfieldProfile>{profile}</FlatfieldProfile></Entry><Entry ChannelID="2"/>'
        "</Map></Maps><Images><Image><URL>a.tiff</URL></Image></Images></EvaluationInputData>",
        encoding="utf-8-sig",
    )
    return path


def value(
    coefficients: tuple[float, ...], u: npt.NDArray[np.float64], v: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    powers = [(n - j, j) for n in range(11) for j in range(n + 1)]
    return np.sum([c * u**a * v**b for c, (a, b) in zip(coefficients, powers, strict=False)], axis=0)


def test_a_profile_in_acapellas_notation_is_read(tmp_path: Path) -> None:
    found = read_flat_fields(write_index(tmp_path, acapella(section())))
    assert list(found) == [1]
    field = found[1]
    assert isinstance(field, HarmonyFlatField)
    assert field.foreground == pytest.approx((1.1, 0.2, -0.3, -0.4, 0.05, -0.6))
    assert field.background == pytest.approx(field.foreground)
    assert field.background_counts == 350.5


def test_a_profile_in_elements_is_the_same(tmp_path: Path) -> None:
    place = "".join(
        f"<{name}>{text}</{name}>"
        for name, text in (
            ("Coefficients", ROWS),
            ("Dims", "[100, 100]"),
            ("Origin", "[49.5, 49.5]"),
            ("Scale", "[0.01, 0.01]"),
            ("Type", "Polynomial"),
        )
    )
    nested = (
        f"<Background><Mean>350.5</Mean><Profile>{place}</Profile></Background><Channel>1</Channel>"
        f"<Foreground><Profile>{place}</Profile></Foreground>"
    )
    written = read_flat_fields(write_index(tmp_path, nested, "V6"))
    assert written == read_flat_fields(write_index(tmp_path, acapella(section())))


def test_another_origin_and_scale_are_carried_to_the_field(tmp_path: Path) -> None:
    place = "Dims: [80, 100], Origin: [30.0, 55.0], Scale: [0.02, 0.015], Type: Polynomial"
    field = read_flat_fields(write_index(tmp_path, acapella(section(place=place))))[1]
    assert isinstance(field, HarmonyFlatField)
    x, y = np.array([0.0, 13.0, 79.0]), np.array([99.0, 40.0, 5.0])
    as_written = value((1.1, 0.2, -0.3, -0.4, 0.05, -0.6), (x - 30) * 0.02, (y - 55) * 0.015)
    over_field = value(field.foreground, (x + 0.5) / 80 - 0.5, (y + 0.5) / 100 - 0.5)
    np.testing.assert_allclose(over_field, as_written, rtol=1e-12)


def test_a_background_without_its_counts_is_left_out(tmp_path: Path) -> None:
    field = read_flat_fields(write_index(tmp_path, acapella(section(), section())))[1]
    assert field == HarmonyFlatField(field.foreground, (1.0,), 0.0)  # type: ignore[union-attr]


def test_an_even_field_has_no_profile(tmp_path: Path) -> None:
    assert read_flat_fields(write_index(tmp_path, acapella("{Character: Flat}"))) == {}
    assert read_flat_fields(write_index(tmp_path, "{}")) == {}


@dataclass(frozen=True)
class Odd:
    """A profile that cannot be understood, and a word of what is said."""

    profile: str
    message: str


ODD = {
    "another type": Odd(acapella(section(place=PLACE.replace("Polynomial", "Spline"))), "type Spline"),
    "rows of other lengths": Odd(acapella(section(rows="[[1], [2]]")), "rows of coefficients"),
    "a degree of eleven": Odd(acapella(section(rows=str([[0.0] * n for n in range(1, 13)]))), "rows of coefficients"),
    "no coefficients": Odd(acapella("{Profile: {Type: Polynomial}}"), "without coefficients"),
    "no origin": Odd(acapella(section(place="Dims: [1, 1], Scale: [1, 1], Type: Polynomial")), "no Origin"),
    "an open brace": Odd("{Foreground: {Profile: {Coefficients: [[1]]", "does not end"),
    "no list": Odd(acapella(section(rows="[[1.0.0]]")), "cannot be understood"),
    "endless brackets": Odd(acapella(section(rows="[" * 3000 + "]" * 3000)), "cannot be understood"),
    "a book": Odd(acapella(section(more="A" * 60_000)), "letters"),
}


@pytest.mark.parametrize("name", ODD)
def test_a_profile_that_cannot_be_understood_is_an_error_of_its_channel(name: str, tmp_path: Path) -> None:
    found = read_flat_fields(write_index(tmp_path, ODD[name].profile))
    assert isinstance(found[1], ProfileError)
    assert ODD[name].message in str(found[1])


def test_the_real_index_is_read(shared_data: Path) -> None:
    index = shared_data / "plates" / "operetta" / "operetta_plate" / "Images" / "Index.idx.xml"
    field = read_flat_fields(index)[1]
    assert isinstance(field, HarmonyFlatField)
    assert field.foreground[:6] == pytest.approx((1.0698, -0.0261, -0.1196, 0.2485, -0.071, 0.2161), abs=1e-6)
    assert (len(field.foreground), len(field.background), field.background_counts) == (15, 15, 373.69866)


def references(plate: Plate) -> dict[str, tuple[str, str]]:
    detail = next(name for name in plate.metadata_files if name.endswith(".mrf"))
    return reference_names(plate.root / detail, plate.metadata_files)


def test_cellvoyagers_references_are_found_by_channel_and_camera(tmp_path: Path) -> None:
    plate = open_plate(simulate_plate(tmp_path, format="cellvoyager", wells=1, size=64).directory)
    names = references(plate)
    assert sorted(names) == ["C01", "C02"]
    for flat, dark in names.values():
        assert "SC_" in flat
        assert "DC_DCAM#1_CAM3" in dark
        assert (plate.root / flat).is_file()
        assert (plate.root / dark).is_file()


def test_a_reference_outside_the_plate_is_none(tmp_path: Path) -> None:
    directory = simulate_plate(tmp_path, format="cellvoyager", wells=1, size=64).directory
    plate = open_plate(directory)
    names = references(plate)
    secret = tmp_path / "elsewhere.tif"
    (plate.root / names["C01"][0]).rename(secret)
    (plate.root / names["C01"][0]).symlink_to(secret)
    assert sorted(references(open_plate(directory))) == ["C02"]
    detail = plate.root / next(name for name in plate.metadata_files if name.endswith(".mrf"))
    detail.write_text(detail.read_text("utf-8-sig").replace("SC_BP525", "../../SC_BP525"), "utf-8")
    assert references(open_plate(directory)) == {"C02": names["C02"]}


@pytest.mark.parametrize("name", ["flat.tif", "flat.npy", "flat.png"])
def test_a_given_image_is_read_with_its_numbers(name: str, tmp_path: Path) -> None:
    flat = np.arange(12, dtype=np.float32).reshape(3, 4) / (1 if name.endswith("png") else 7)
    if name.endswith("npy"):
        np.save(tmp_path / name, flat)
    elif name.endswith("png"):
        import imagecodecs

        (tmp_path / name).write_bytes(imagecodecs.png_encode(flat.astype(np.uint16)))
    else:
        tifffile.imwrite(tmp_path / name, flat)
    assert read_reference(tmp_path / name).tolist() == flat.tolist()


def test_a_given_image_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"gone\.tif is not there"):
        read_reference(tmp_path / "gone.tif")
    (tmp_path / "text.tif").write_text("no image")
    with pytest.raises(SettingsError, match=r"text\.tif cannot be read"):
        read_reference(tmp_path / "text.tif")
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(SettingsError, match=r"objects\.npy cannot be read"):
        read_reference(tmp_path / "objects.npy")
    np.save(tmp_path / "holes.npy", np.full((3, 3), np.nan))
    with pytest.raises(SettingsError, match=r"holes\.npy has the shape \(3, 3\)"):
        read_reference(tmp_path / "holes.npy")
    tifffile.imwrite(tmp_path / "stack.tif", np.ones((3, 4, 5), np.float32), photometric="minisblack")
    with pytest.raises(SettingsError, match=r"stack\.tif has 3 pages"):
        read_reference(tmp_path / "stack.tif")
