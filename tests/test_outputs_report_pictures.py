"""The pictures of the report: one contrast, the right time point, within the budget."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from outputs_samples import field_row, make_plate
from report_pages import Page, picture_of
from report_samples import blobs, layout_of, write_run
from skimage.segmentation import find_boundaries

from hcs_nuclei.columns import field_flags
from hcs_nuclei.outputs import (
    WellWriter,
    begin_store,
)
from hcs_nuclei.outputs.report import write_report
from hcs_nuclei.outputs.report_gallery import make_gallery, spending
from hcs_nuclei.plate import Plate


def test_all_wells_are_shown_with_one_contrast(tmp_path: Path) -> None:
    plate = make_plate(("A01", "A02"), fields=1)
    store = tmp_path / "plate.ome.zarr"
    begin_store(store, plate)
    image, labels = blobs(16, seed=1)
    for well, factor in zip(plate.wells, (2, 1), strict=True):
        with WellWriter(store, well, channel=plate.channels[0], pixel_size_um=0.5, timepoints=1) as writer:
            writer.add_field(1, (image * factor).astype(np.uint16), labels)
            writer.commit("f")
    gallery = make_gallery(store, field_table(plate), {}, 20.0, 0.5)
    shown = [picture_of(gallery.exposures[well][0].large.image) for well in ("A01", "A02")]  # type: ignore[union-attr]
    for pixels, factor in zip(shown, (2, 1), strict=True):
        wanted = np.clip((image[0] * float(factor) - gallery.black) / (gallery.white - gallery.black), 0, 1) * 255
        assert abs(pixels[labels[0] > 0].mean() - wanted[labels[0] > 0].mean()) < 3


def test_a_lonely_nucleus_is_in_the_picture(tmp_path: Path) -> None:
    plate = make_plate(("A01",), fields=1)
    labels = np.zeros((1, 1600, 1600), dtype=np.uint32)
    labels[0, 1500:1530, 40:70] = 9
    begin_store(tmp_path / "s", plate)
    with WellWriter(
        tmp_path / "s", plate.wells[0], channel=plate.channels[0], pixel_size_um=None, timepoints=1
    ) as writer:
        writer.add_field(1, labels.astype(np.uint16) * 100, labels)
        writer.commit("f")
    exposure = make_gallery(tmp_path / "s", field_table(plate), {}, 30.0, None).exposures["A01"][0]
    assert exposure.large is not None
    assert (picture_of(exposure.large.outlines, "RGBA")[..., 3] > 0).sum() == 4 * 29
    assert (exposure.small.width, exposure.small.reduction) == (224, 2)
    assert exposure.small.bar is None


def test_pictures_are_of_the_time_point_that_was_measured(tmp_path: Path) -> None:
    plate = make_plate(("A01",), fields=1, timepoints=2)
    image, labels = blobs(8, seed=3)
    begin_store(tmp_path / "s", plate)
    with WellWriter(
        tmp_path / "s", plate.wells[0], channel=plate.channels[0], pixel_size_um=0.5, timepoints=2
    ) as writer:
        writer.add_field(1, np.concatenate([image * 0, image]), np.concatenate([labels * 0, labels]))
        writer.commit("f")
    exposure = make_gallery(tmp_path / "s", field_table(plate, first=1), {}, 20.0, 0.5).exposures["A01"][0]
    assert exposure.large is not None
    drawn = picture_of(exposure.large.outlines, "RGBA")[..., 3] > 0
    np.testing.assert_array_equal(drawn, find_boundaries(labels[0], connectivity=1, mode="inner"))


def test_pictures_of_pure_noise_stay_within_the_budget(tmp_path: Path) -> None:
    plate = make_plate(("A01",), fields=1)
    noise = np.random.default_rng(0).integers(0, 4096, (1, 1080, 1080), dtype=np.uint16)
    begin_store(tmp_path / "s", plate)
    with WellWriter(
        tmp_path / "s", plate.wells[0], channel=plate.channels[0], pixel_size_um=0.5, timepoints=1
    ) as writer:
        writer.add_field(1, noise, np.zeros(noise.shape, dtype=np.uint32))
        writer.commit("f")
    exposure = make_gallery(tmp_path / "s", field_table(plate), {}, None, 0.5).exposures["A01"][0]
    assert exposure.large is not None
    # 384 of these are 19 MB.
    assert exposure.small.characters + exposure.large.characters < 50_000


def test_the_budget_buys_fields_and_enlargements_in_a_stated_order() -> None:
    def bought(characters: float) -> dict[int, list[int]]:
        return {
            place: [size.edge for size in sizes]
            for place, sizes in spending(10, 40, fields=3, characters=characters).items()
        }

    # The first picture of a well is there whatever it takes.
    assert bought(0) == {0: [224]}
    assert bought(20) == {0: [224], 1: [224]}
    assert bought(59) == {0: [224], 1: [224]}
    assert bought(60) == {0: [224, 512], 1: [224]}
    assert bought(70) == {0: [224, 512], 1: [224], 2: [224]}
    assert bought(1000) == {0: [224, 512], 1: [224, 512], 2: [224, 512]}


def test_the_gallery_shows_the_worst_the_controls_and_the_same_wells_by_lot(tmp_path: Path) -> None:
    plate = make_plate([f"A{column:02d}" for column in range(1, 13)], fields=2)
    counts = {well.name: (3, 3) for well in plate.wells}
    kinds = {"A01": "negcon", "A12": "poscon"}
    layout = layout_of({well: (kinds.get(well, "trt"), "x", 1.0) for well in counts})
    blurred = {
        "A05": {"Metadata_QC_Saturated": True},
        "A06": {"Metadata_QC_Saturated": True, "Metadata_QC_Blank": True},
    }
    run = write_run(tmp_path / "run", plate, counts, layout=layout, field_columns=blurred)
    first, again = (Page(write_report(run).read_text(encoding="utf-8")).data()["choices"] for _ in range(2))
    assert first == again
    worst, controls, drawn = first
    assert [shot[0] for shot in worst["shots"]] == ["A06", "A06", "A05", "A05"]
    assert worst["shots"][0] == ["A06", 1, "blank, saturated"]
    assert controls["shots"] == [["A01", 1, "negcon"], ["A12", 1, "poscon"]]
    assert len({shot[0] for shot in drawn["shots"]}) == 12


def field_table(plate: Plate, first: int = 0) -> pd.DataFrame:
    """A field table whose fields are measured from time point `first` on."""
    times = [time for time in range(plate.timepoints) if time >= first]
    rows = [field_row(plate, w.name, f.number, 1, time) for w in plate.wells for f in w.fields for time in times]
    flags = {column.name: False for column in field_flags()}
    return pd.DataFrame([{**flags, **row} for row in rows])
