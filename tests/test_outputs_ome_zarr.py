"""The OME-Zarr plate: valid, readable by others, the same bytes every time, whole wells or none."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import zarr
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader
from ome_zarr_models.v05.hcs import HCS
from outputs_samples import make_plate, snapshot

from hcs_nuclei.outputs import WellWriter, begin_store, finish_store, level_count, read_level, well_fingerprint
from hcs_nuclei.plate import Plate

Pixels = npt.NDArray[Any]


def make_field(shape: Sequence[int] = (1, 300, 520), dtype: str = "uint16", seed: int = 0) -> tuple[Pixels, Pixels]:
    """Noise as image, and labels in blocks with large numbers, most of them background."""
    random = np.random.default_rng(seed)
    image = random.integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)
    blocks = random.integers(0, 2**32, (shape[0], -(-shape[1] // 20), -(-shape[2] // 20)), dtype=np.uint32)
    blocks[random.random(blocks.shape) < 0.7] = 0
    return image, np.kron(blocks, np.ones((1, 20, 20), np.uint32))[:, : shape[1], : shape[2]]


def write(
    store: Path,
    plate: Plate,
    well: str,
    fields: dict[int, tuple[Pixels, Pixels]],
    fingerprint: str = "f1",
    image: bool = True,
) -> None:
    with WellWriter(
        store,
        plate.well(well),
        channel=plate.channels[0],
        pixel_size_um=plate.pixel_size_um,
        timepoints=plate.timepoints,
        image=image,
    ) as writer:
        for number, (pixels, labels) in fields.items():
            writer.add_field(number, pixels, labels)
        writer.commit(fingerprint)


def plate_metadata(store: Path) -> dict[str, Any]:
    attributes: dict[str, Any] = json.loads((store / "zarr.json").read_bytes())["attributes"]
    return attributes.get("ome", {}).get("plate", {})


CASES = {
    "larger than a chunk": ((1, 1080, 700), "uint16", 4),
    "odd sides": ((1, 301, 517), "uint16", 3),
    "8 bits": ((1, 300, 520), "uint8", 3),
    "thumbnail": ((1, 64, 48), "uint16", 1),
    "one pixel high": ((1, 1, 400), "uint16", 1),
    "three time points": ((3, 520, 530), "uint16", 3),
}


@pytest.mark.parametrize(("shape", "dtype", "levels"), CASES.values(), ids=CASES.keys())
def test_pixels_and_labels_come_back_and_the_plate_is_valid(
    tmp_path: Path, shape: tuple[int, int, int], dtype: str, levels: int
) -> None:
    store, plate = tmp_path / "plate.ome.zarr", make_plate(timepoints=shape[0], acquisition="3420")
    image, labels = make_field(shape, dtype)
    begin_store(store, plate)
    write(store, plate, "B03", {1: (image, labels)})
    finish_store(store, plate)

    HCS.from_zarr(zarr.open_group(store, mode="r"))
    assert level_count(store, "B03", 1) == levels
    np.testing.assert_array_equal(read_level(store, plate.wells[0], 1), image)
    np.testing.assert_array_equal(read_level(store, plate.wells[0], 1, labels=True), labels)
    for level in range(1, levels):
        height, width = shape[1] >> level, shape[2] >> level
        step = 2**level
        thinned = labels[:, ::step, ::step][:, :height, :width]
        np.testing.assert_array_equal(read_level(store, "B03", 1, level, labels=True), thinned)
        blocks = image[:, : height * step, : width * step].reshape(shape[0], height, step, width, step)
        smaller = read_level(store, "B03", 1, level)
        assert smaller.dtype == image.dtype
        # Each halving rounds, by half a count at most.
        np.testing.assert_allclose(smaller, blocks.mean((2, 4)), atol=0.5 * level)


def test_the_reference_reader_reads_image_and_labels_of_every_field(tmp_path: Path) -> None:
    store, plate = tmp_path / "plate.ome.zarr", make_plate(("B03", "D11"), timepoints=2)
    fields = {(well, n): make_field((2, 300, 280), seed=n) for well in ("B03", "D11") for n in (1, 2)}
    begin_store(store, plate)
    for well in ("B03", "D11"):
        write(store, plate, well, {n: fields[well, n] for n in (1, 2)})
    finish_store(store, plate)

    whole, *_ = Reader(parse_url(store))()
    assert whole.data[0].shape == (2, 1, 2 * 300, 2 * 280)
    for (well, number), (image, labels) in fields.items():
        path = store / well[0] / well[1:] / str(number)
        nodes = list(Reader(parse_url(path))())
        assert [node.zarr.basename() for node in nodes] == [str(number), "labels", "nuclei"]
        np.testing.assert_array_equal(nodes[0].data[0].compute()[:, 0], image)
        np.testing.assert_array_equal(nodes[2].data[0].compute(), labels)
        assert nodes[0].metadata["channel_names"] == ["DAPI"]
        assert nodes[0].metadata["coordinateTransformations"][1][0]["scale"] == [1.0, 1.0, 1.0, 1.0]
        assert [axis.get("unit") for axis in nodes[2].metadata["axes"]] == [None, "micrometer", "micrometer"]


def test_unknown_pixel_size_names_no_unit(tmp_path: Path) -> None:
    store, plate = tmp_path / "plate.ome.zarr", make_plate()
    begin_store(store, plate)
    with WellWriter(
        store, plate.wells[0], channel=plate.channels[0], pixel_size_um=None, timepoints=1, window=(100.0, 900.0)
    ) as writer:
        writer.add_field(1, *make_field())
        writer.commit("f")
    ome = json.loads((store / "B" / "03" / "1" / "zarr.json").read_bytes())["attributes"]["ome"]
    multiscale = ome["multiscales"][0]
    assert multiscale["axes"][1:] == [{"name": "y", "type": "space"}, {"name": "x", "type": "space"}]
    assert multiscale["datasets"][1]["coordinateTransformations"] == [{"type": "scale", "scale": [1.0, 2.0, 2.0]}]
    assert ome["omero"]["channels"][0]["window"] == {"min": 0.0, "max": 65535.0, "start": 100.0, "end": 900.0}


def test_without_pixels_the_store_is_valid_and_holds_labels_alone(tmp_path: Path) -> None:
    store, plate = tmp_path / "plate.ome.zarr", make_plate()
    image, labels = make_field()
    begin_store(store, plate)
    write(store, plate, "B03", {1: (image, labels)}, image=False)
    finish_store(store, plate)
    HCS.from_zarr(zarr.open_group(store, mode="r"))
    assert not list((store / "B" / "03" / "1" / "0").glob("c*"))
    assert not read_level(store, "B03", 1).any()
    np.testing.assert_array_equal(read_level(store, "B03", 1, labels=True), labels)


def test_empty_and_blank_field(tmp_path: Path) -> None:
    store, plate = tmp_path / "plate.ome.zarr", make_plate()
    begin_store(store, plate)
    write(store, plate, "B03", {1: (np.zeros((1, 300, 300), np.uint16), np.zeros((1, 300, 300), np.uint32))})
    finish_store(store, plate)
    HCS.from_zarr(zarr.open_group(store, mode="r"))
    assert read_level(store, "B03", 1, labels=True).shape == (1, 300, 300)
    assert not read_level(store, "B03", 1, labels=True).any()


def test_the_plate_lists_the_wells_that_are_there(tmp_path: Path) -> None:
    store, plate = tmp_path / "plate.ome.zarr", make_plate(("B03", "B11", "AA07", "AF48"), acquisition="3420")
    field = make_field((1, 40, 40))
    begin_store(store, plate)
    assert plate_metadata(store) == {}  # a plate without wells is none
    zarr.open_group(store, mode="r")
    write(store, plate, "AA07", {1: field, 2: field})
    write(store, plate, "B11", {2: field})
    write(store, plate, "AF48", {})
    finish_store(store, plate)
    assert plate_metadata(store) == {
        "version": "0.5",
        "name": "00123",
        "acquisitions": [{"id": 0, "name": "3420", "maximumfieldcount": 2}],
        "field_count": 2,
        "rows": [{"name": "B"}, {"name": "AA"}],
        "columns": [{"name": "07"}, {"name": "11"}],
        "wells": [
            {"path": "B/11", "rowIndex": 0, "columnIndex": 1},
            {"path": "AA/07", "rowIndex": 1, "columnIndex": 0},
        ],
    }
    listed = json.loads((store / "AA" / "07" / "zarr.json").read_bytes())["attributes"]["ome"]["well"]["images"]
    assert [image["path"] for image in listed] == ["1", "2"]
    assert well_fingerprint(store, "AA07") == "f1"
    assert well_fingerprint(store, "AF48") is None


def test_a_second_run_touches_nothing_and_another_gives_the_same_bytes(tmp_path: Path) -> None:
    plate, stores = make_plate(("B03", "C04")), (tmp_path / "one.zarr", tmp_path / "two.zarr")
    for store, wells in zip(stores, (("B03", "C04"), ("C04", "B03")), strict=True):
        begin_store(store, plate)
        for well in wells:
            numbers = (1, 2) if store is stores[0] else (2, 1)
            write(store, plate, well, {n: make_field((1, 600, 600), seed=n) for n in numbers})
        finish_store(store, plate)
    before = snapshot(stores[0])
    assert {name: content for name, (content, _) in before.items()} == {
        name: content for name, (content, _) in snapshot(stores[1]).items()
    }
    begin_store(stores[0], plate)
    finish_store(stores[0], plate)
    assert snapshot(stores[0]) == before


def test_a_well_is_replaced_whole(tmp_path: Path) -> None:
    store, plate = tmp_path / "plate.ome.zarr", make_plate()
    begin_store(store, plate)
    write(store, plate, "B03", {1: make_field(), 2: make_field()}, "f1")
    write(store, plate, "B03", {2: make_field(seed=7)}, "f2")
    finish_store(store, plate)
    assert well_fingerprint(store, "B03") == "f2"
    assert sorted(entry.name for entry in (store / "B" / "03").iterdir()) == ["2", "zarr.json"]
    assert sorted(entry.name for entry in (store / "B").iterdir()) == ["03", "zarr.json"]
    with pytest.raises(FileNotFoundError):
        read_level(store, "B03", 1)
    write(store, plate, "B03", {}, "f3")
    assert not (store / "B" / "03").exists()


def test_a_well_that_fails_half_way_leaves_the_former_one(tmp_path: Path) -> None:
    store, plate = tmp_path / "plate.ome.zarr", make_plate()
    begin_store(store, plate)
    write(store, plate, "B03", {1: make_field()}, "f1")
    before = snapshot(store)

    def break_off() -> None:
        with WellWriter(store, plate.wells[0], channel=plate.channels[0], pixel_size_um=0.5, timepoints=1) as writer:
            writer.add_field(1, *make_field(seed=3))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        break_off()
    assert snapshot(store) == before


def test_what_a_killed_well_left_is_removed_at_the_next_start(tmp_path: Path) -> None:
    store, plate = tmp_path / "plate.ome.zarr", make_plate()
    begin_store(store, plate)
    writer = WellWriter(store, plate.wells[0], channel=plate.channels[0], pixel_size_um=0.5, timepoints=1)
    writer.__enter__().add_field(1, *make_field())
    assert len(list((store / "B").iterdir())) == 2
    finish_store(store, plate)
    assert plate_metadata(store) == {}
    begin_store(store, plate)
    assert [entry.name for entry in (store / "B").iterdir()] == ["zarr.json"]


GOOD = np.zeros((1, 8, 8), np.uint16), np.zeros((1, 8, 8), np.uint32)
WRONG = {
    "two dimensions": (GOOD[0][0], GOOD[1][0], "expected \\(1, y, x\\)"),
    "time points": (np.zeros((2, 8, 8), np.uint16), GOOD[1], "expected \\(1, y, x\\)"),
    "other labels": (GOOD[0], GOOD[1][:, :4], "the labels are"),
    "float image": (GOOD[0].astype(np.float32), GOOD[1], "image float32"),
    "int64 labels": (GOOD[0], GOOD[1].astype(np.int64), "labels int64"),
}


@pytest.mark.parametrize(("image", "labels", "message"), WRONG.values(), ids=WRONG.keys())
def test_wrong_arrays_are_refused(tmp_path: Path, image: Pixels, labels: Pixels, message: str) -> None:
    store, plate = tmp_path / "plate.ome.zarr", make_plate()
    begin_store(store, plate)
    with (
        WellWriter(store, plate.wells[0], channel=plate.channels[0], pixel_size_um=0.5, timepoints=1) as writer,
        pytest.raises(ValueError, match=f"well B03, field 1: .*{message}"),
    ):
        writer.add_field(1, image, labels)


def test_a_field_is_added_once(tmp_path: Path) -> None:
    store, plate = tmp_path / "plate.ome.zarr", make_plate()
    begin_store(store, plate)
    with pytest.raises(ValueError, match="well B03, field 1 was added before"):
        _add_twice(store, plate)


def _add_twice(store: Path, plate: Plate) -> None:
    with WellWriter(store, plate.wells[0], channel=plate.channels[0], pixel_size_um=0.5, timepoints=1) as writer:
        writer.add_field(1, *GOOD)
        writer.add_field(1, *GOOD)
