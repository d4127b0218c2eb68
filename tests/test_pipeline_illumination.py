"""Illumination in a run: which profile is taken, what is refused, what it does to labels, features and flags."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from pipeline_runs import results_of

from hcs_nuclei import read_nuclei
from hcs_nuclei.errors import RunConflictError, SettingsError
from hcs_nuclei.measurement import Profile, correct
from hcs_nuclei.measurement.illumination import surface
from hcs_nuclei.outputs import read_level
from hcs_nuclei.outputs.provenance import Calibration, Illumination, read_record
from hcs_nuclei.pipeline import process_plate
from hcs_nuclei.pipeline.calibrate import calibrate_plate, lit_sample
from hcs_nuclei.pipeline.illumination import check_same_illumination, known_illumination, profiles_of
from hcs_nuclei.pipeline.plan import well_fingerprint
from hcs_nuclei.pipeline.prepare import prepare_plate
from hcs_nuclei.settings import IlluminationSettings, Settings, load_settings
from hcs_nuclei.simulate import simulate_plate
from hcs_nuclei.simulate.optics import CAMERA_OFFSET, Shading
from hcs_nuclei.sources import open_plate, read_image

SEED = 0


def lamps(channels: int = 2, seed: int = SEED) -> list[Shading]:
    """The illumination that the simulator gives a plate."""
    return [Shading.random(rng) for rng in np.random.default_rng(seed).spawn(channels)]


def simulated(folder: Path, layout: str, wells: int = 1, fields: int = 1, size: int = 128) -> Path:
    return simulate_plate(folder, format=layout, wells=wells, fields=fields, size=size, seed=SEED).directory


def unevenness(light: Any) -> float:
    return float(light.std() / light.mean())


@pytest.mark.parametrize("layout", ["operetta", "cellvoyager"])
def test_the_vendors_profile_is_the_lamps(layout: str, tmp_path: Path) -> None:
    plate = open_plate(simulated(tmp_path, layout))
    known = known_illumination(plate, IlluminationSettings())
    assert (known.method, known.warnings) == ("auto", ())
    assert [c.source for c in known.channels] == ["vendor", "vendor"]
    for profile, lamp in zip(profiles_of(known).values(), lamps(), strict=True):
        left = lamp.over((64, 64)) / surface(profile.gain, (64, 64))
        assert left.max() / left.min() < 1.01
    assert len({c.sha256 for c in known.channels}) == 2


@pytest.mark.parametrize("layout", ["operetta", "cellvoyager"])
def test_what_is_corrected_is_even(layout: str, tmp_path: Path) -> None:
    plate = open_plate(simulated(tmp_path, layout))
    profile = next(iter(profiles_of(known_illumination(plate, IlluminationSettings())).values()))
    camera = CAMERA_OFFSET + lamps()[0].over((256, 256)) * 500
    corrected = correct(camera, profile)
    assert unevenness(camera) > 0.03
    assert unevenness(corrected) < 0.004


def test_a_plate_without_a_vendors_profile_is_left_as_it_is(tmp_path: Path) -> None:
    plate = open_plate(simulated(tmp_path, "imagexpress"))
    known = known_illumination(plate, IlluminationSettings())
    assert profiles_of(known) == {}
    assert [c.source for c in known.channels] == ["none", "none"]
    assert known.warnings == ()
    with pytest.raises(SettingsError, match="no illumination profile of its vendor"):
        known_illumination(plate, IlluminationSettings(method="vendor"))
    assert known_illumination(plate, IlluminationSettings(method="off")) == Illumination(method="off")


def test_a_vendors_profile_that_is_not_believed_is_said(tmp_path: Path) -> None:
    directory = simulated(tmp_path, "cellvoyager")
    for path in directory.rglob("SC_*CH02.tif"):
        tifffile.imwrite(path, np.zeros((64, 64), np.uint16))
    known = known_illumination(open_plate(directory), IlluminationSettings())
    assert [c.source for c in known.channels] == ["vendor", "none"]
    assert known.channels[1].refused
    assert len(known.warnings) == 1
    assert known.warnings[0].startswith("Channel FITC is not corrected for its illumination: its shading image")
    assert "holds no light" in known.warnings[0]


def test_too_few_fields_for_an_estimate_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    directory = simulated(tmp_path / "plate", "imagexpress", wells=5, fields=3)
    with pytest.raises(SettingsError, match="has 15 fields; the illumination is estimated from 16 or more"):
        prepare_plate(directory, tmp_path / "out", estimate())
    assert not (tmp_path / "out").exists()


def test_given_images_are_used_for_the_channels_that_they_are_of(tmp_path: Path) -> None:
    plate = open_plate(simulated(tmp_path, "imagexpress"))
    tifffile.imwrite(tmp_path / "flat.tif", lamps()[0].over((200, 200)) * 3 + 0.5)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("illumination: {method: file, flat_field: {dapi: flat.tif}, dark: {dapi: 0.5}}", "utf-8")
    settings = load_settings(recipe, environ={})
    known = known_illumination(plate, settings.illumination)
    assert [(c.token, c.source, c.origin) for c in known.channels] == [
        ("w1", "file", "flat.tif, dark 0.5"),
        ("w2", "none", "no flat-field image is given"),
    ]
    left = lamps()[0].over((64, 64)) / surface(known.channels[0].gain, (64, 64))
    assert left.max() / left.min() < 1.01
    elsewhere = settings.model_copy(
        update={"illumination": IlluminationSettings(method="file", flat_field={"w1": "x"})}
    )
    assert settings.fingerprint() == elsewhere.fingerprint()


@dataclass(frozen=True)
class Wrong:
    """What a recipe says about given images, and what is said of that."""

    flat_field: dict[str, str]
    message: str
    dark: Sequence[str] = ()


WRONG = {
    "an unknown channel": Wrong({"Cy5": "flat.npy"}, "image of channel 'Cy5'; plate SIM-0001 has DAPI, FITC"),
    "no such file": Wrong({"DAPI": "gone.npy"}, r"gone\.npy is not there"),
    "a black image": Wrong({"DAPI": "black.npy"}, r"black\.npy is not believed: it holds no light"),
    "a dark without a flat": Wrong({"DAPI": "flat.npy"}, "dark names the channel w2", ("FITC",)),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_images_are_refused(name: str, tmp_path: Path) -> None:
    plate = open_plate(simulated(tmp_path, "imagexpress"))
    np.save(tmp_path / "flat.npy", np.ones((64, 64)))
    np.save(tmp_path / "black.npy", np.zeros((64, 64)))
    wrong = WRONG[name]
    files = {channel: str(tmp_path / file) for channel, file in wrong.flat_field.items()}
    settings = IlluminationSettings(method="file", flat_field=files, dark=dict.fromkeys(wrong.dark, 3.0))
    with pytest.raises(SettingsError, match=wrong.message):
        known_illumination(plate, settings)


def test_the_method_and_its_images_go_together() -> None:
    for group in ({"method": "file"}, {"flat_field": {"DAPI": "a.tif"}}, {"method": "estimate", "dark": {"DAPI": 3}}):
        with pytest.raises(SettingsError, match="go together"):
            load_settings(options={"illumination": group}, environ={})
    assert load_settings(environ={"HCS_NUCLEI_ILLUMINATION__METHOD": "off"}).illumination.method == "off"


def estimate() -> Settings:
    return load_settings(
        options={"illumination": {"method": "estimate"}, "segmentation": {"diameter_px": 22}}, environ={}
    )


def test_an_estimate_is_of_the_plates_fields_and_part_of_every_fingerprint(tmp_path: Path) -> None:
    directory = simulated(tmp_path / "plate", "imagexpress", wells=24, fields=1, size=384)
    plan, _ = prepare_plate(directory, tmp_path / "out", estimate())
    assert plan.illumination == Illumination(method="estimate")
    sample = lit_sample(plan)
    assert sample == lit_sample(plan)
    calibration = calibrate_plate(plan.context, sample[:2], plan.illumination, sample)
    found = calibration.illumination
    assert found is not None
    assert found.channels[0].source == "estimate"
    assert len(found.sample) == 24
    truth = lamps()[0].over((64, 64))
    left = truth / surface(found.channels[0].gain, (64, 64))
    assert unevenness(left) < 0.7 * unevenness(truth)
    off = calibrate_plate(plan.context, sample[:2], Illumination(method="off"))
    prints = {
        well_fingerprint(replace(plan.context, calibration=each), plan.plate.wells[0]) for each in (calibration, off)
    }
    assert len(prints) == 2


def test_a_channel_that_cannot_be_estimated_is_left_as_it_is_and_named(tmp_path: Path) -> None:
    directory = simulated(tmp_path / "plate", "imagexpress", wells=16, fields=1, size=128)
    for path in directory.rglob("*_w2*"):
        tifffile.imwrite(path, np.zeros((128, 128), np.uint16))
    plan, _ = prepare_plate(directory, tmp_path / "out", estimate())
    calibration = calibrate_plate(plan.context, (), plan.illumination, lit_sample(plan))
    assert isinstance(calibration, Calibration)
    assert calibration.illumination is not None
    assert calibration.illumination.channels[1].source == "none"
    assert any("FITC is not corrected" in warning for warning in calibration.illumination.warnings)


def test_a_run_is_not_gone_on_with_under_another_light(tmp_path: Path) -> None:
    plate = open_plate(simulated(tmp_path, "operetta"))
    now = known_illumination(plate, IlluminationSettings())
    check_same_illumination(now, now, tmp_path)
    other = now.channels[1].model_copy(update={"sha256": "0"})
    with pytest.raises(RunConflictError, match="another illumination profile of channel ch2"):
        check_same_illumination(now.model_copy(update={"channels": (now.channels[0], other)}), now, tmp_path)


def test_light_changes_intensities_and_neither_labels_nor_saturation(
    tmp_path: Path, worker: Any, opened: list[str]
) -> None:
    directory = simulated(tmp_path / "plate", "cellvoyager", wells=2, fields=1, size=192)
    runs = {}
    for method in ("auto", "off"):
        settings = load_settings(options={"illumination": {"method": method}}, environ={})
        runs[method] = process_plate(directory, tmp_path / method, settings).run_dir
    stores = [{k: v for k, v in results_of(run).items() if "zarr" in k and "/c/" in k} for run in runs.values()]
    assert stores[0] == stores[1] != {}
    lit, raw = (read_nuclei(run) for run in runs.values())
    differing = {c for c in raw.columns if not lit[c].equals(raw[c])}
    assert differing
    assert all("Intensity" in c or "NuclearRatio" in c for c in differing)

    record = read_record(runs["auto"])
    assert record is not None
    assert record.calibration.illumination is not None
    token = record.channels[0].token
    profile = profiles_of(record.calibration.illumination)[token]
    assert isinstance(profile, Profile)
    plate = open_plate(directory)
    for well in plate:
        labels = read_level(runs["auto"] / "plate.ome.zarr", well.name, 1, labels=True)[0]
        image = correct(read_image(plate.root, well.fields[0].planes_of(token, 0)), profile).astype(np.float64)
        rows = lit[lit.Metadata_Well == well.name]
        expected = [image[labels == number].mean() for number in rows.Metadata_ObjectNumber]
        np.testing.assert_allclose(rows.Nuclei_Intensity_MeanIntensity_DAPI, expected, rtol=1e-6)
    assert not np.allclose(lit.Nuclei_Intensity_MeanIntensity_DAPI, raw.Nuclei_Intensity_MeanIntensity_DAPI, rtol=0.01)
