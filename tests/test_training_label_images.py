"""Annotations as images and label images: formats, numbers, tables, every fault at once, and the real set."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from annotation_samples import GREY, TRUTH, add_pair, as_pillow_writes, names_of, write_png, zipped
from segmentation_samples import disks

from hcs_nuclei.errors import DatasetError
from hcs_nuclei.segmentation.normalise import to_grey
from hcs_nuclei.training.annotations import read_annotations, read_dataset
from hcs_nuclei.training.label_images import Findings, checked_label_image


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Two images `p`, `q` with label images, and an index.csv of name and split only."""
    for name in "pq":
        add_pair(tmp_path / "pairs", name)
    (tmp_path / "pairs" / "index.csv").write_text("name,split\np,train\nq,val\n")
    return tmp_path / "pairs"


@pytest.mark.parametrize("suffix", [".tif", ".tiff", ".png", ".TIF"])
def test_images_and_labels_of_the_same_stems_are_read(tmp_path: Path, suffix: str) -> None:
    for folder, pixels in (("images", GREY), ("labels", TRUTH.astype(np.uint16))):
        path = tmp_path / folder / f"p{suffix}"
        if suffix == ".png":
            write_png(path, pixels)
        else:
            path.parent.mkdir()
            tifffile.imwrite(path, pixels)
    (found,) = read_annotations(tmp_path)

    assert (found.name, found.split, found.modality) == ("p", "", "")
    np.testing.assert_array_equal(found.image, GREY)
    np.testing.assert_array_equal(found.labels, TRUTH)


def test_an_index_of_name_and_split_alone_is_enough_whatever_modality_is_asked(pairs: Path) -> None:
    assert names_of(read_annotations(pairs, split="train")) == ["p"]
    assert names_of(read_annotations(pairs, split="val", modality="fluorescence")) == ["q"]


def test_fm_is_fluorescence(pairs: Path) -> None:
    (pairs / "index.csv").write_text("name,modality,split\np,FM,train\nq,histology,train\n")

    assert names_of(read_annotations(pairs, modality="fluorescence")) == ["p"]


def test_every_fault_of_images_and_labels_is_named_at_once(pairs: Path) -> None:
    (pairs / "index.csv").unlink()
    add_pair(pairs, "a-corrupt")
    (pairs / "images" / "a-corrupt.tif").write_bytes(b"II*\0 and nothing else")
    add_pair(pairs, "b-cut-short")
    file = pairs / "labels" / "b-cut-short.tif"
    file.write_bytes(file.read_bytes()[:-100])
    add_pair(pairs, "c-stack", image=np.stack([GREY] * 5))
    add_pair(pairs, "colour", labels=np.dstack([TRUTH, TRUTH * 2, TRUTH]).astype(np.uint8))
    add_pair(pairs, "float", labels=TRUTH.astype(np.float32))
    add_pair(pairs, "lonely")
    (pairs / "labels" / "lonely.tif").unlink()
    add_pair(pairs, "mask", labels=TRUTH > 0)
    add_pair(pairs, "narrow", labels=TRUTH[:, :-1].astype(np.uint16))
    add_pair(pairs, "negative", labels=(TRUTH - 1).astype(np.int16))
    add_pair(pairs, "orphan")
    (pairs / "images" / "orphan.tif").unlink()
    add_pair(pairs, "twice")
    write_png(pairs / "labels" / "twice.png", TRUTH.astype(np.uint8))

    with pytest.raises(DatasetError) as caught:
        read_annotations(pairs)
    lines = str(caught.value).splitlines()
    assert lines[0] == f"11 of 13 images of {pairs} cannot be used:"
    assert lines[1].startswith("  a-corrupt: images/a-corrupt.tif cannot be read: ")
    assert lines[2].startswith("  b-cut-short: labels/b-cut-short.tif is truncated: ")
    assert lines[3].startswith("  c-stack: images/c-stack.tif has 5 pages (channels, planes or time points); expected")
    assert lines[4:12] == [
        "  colour: labels/colour.tif is in colour; expected one number for each nucleus, 0 = background",
        "  float: labels/float.tif holds float32 numbers; expected integers, 0 = background",
        "  lonely: no label image",
        "  mask: labels/mask.tif holds bool numbers; expected integers, 0 = background",
        "  narrow: labels/narrow.tif is (24, 31), the image is (24, 32)",
        "  negative: labels/negative.tif holds numbers down to -1; expected none below 0, the background",
        "  orphan: no image",
        "  twice: 2 label images, expected one: labels/twice.png, labels/twice.tif",
    ]


def test_grey_label_images_stored_in_colour_are_read(tmp_path: Path) -> None:
    add_pair(tmp_path, "p", labels=np.dstack([TRUTH] * 3 + [np.full_like(TRUTH, 255)]).astype(np.uint8))

    np.testing.assert_array_equal(read_annotations(tmp_path)[0].labels, TRUTH)


def test_of_a_label_image_with_a_palette_the_numbers_are_the_nuclei(tmp_path: Path) -> None:
    add_pair(tmp_path, "p")
    (tmp_path / "labels" / "p.tif").unlink()
    (tmp_path / "labels" / "p.png").write_bytes(as_pillow_writes("P", TRUTH.astype(np.uint8)))

    np.testing.assert_array_equal(read_annotations(tmp_path)[0].labels, TRUTH)


def test_numbers_far_beyond_the_nuclei_are_replaced_in_their_order(tmp_path: Path) -> None:
    huge = np.array([0, 2**32 - 1, 7, 2**31], np.uint32)[TRUTH]
    add_pair(tmp_path, "p", labels=huge)
    labels = read_annotations(tmp_path)[0].labels

    np.testing.assert_array_equal(labels, np.array([0, 3, 1, 2])[TRUTH])
    assert labels.dtype == np.int32


def test_numbers_beyond_what_a_float_can_tell_apart_stay_apart() -> None:
    numbers = np.array([0, 2**60 + 1, 2**60 + 2], np.uint64)
    findings = Findings()
    labels = checked_label_image("a.tif", numbers[TRUTH % 3], TRUTH.shape, findings)

    np.testing.assert_array_equal(labels, TRUTH % 3)
    assert not findings.faults


def test_a_field_of_fluorescence_that_is_nearly_all_nuclei_is_not_inverted(pairs: Path) -> None:
    (image,) = (pairs / "images").glob("p.*")
    light = np.where(np.arange(GREY.size).reshape(GREY.shape) % 10 > 0, 1000, 100).astype(np.uint16)
    image.unlink()
    tifffile.imwrite(image.with_suffix(".tif"), light)

    def read(modality: str) -> npt.NDArray[Any]:
        (pairs / "index.csv").write_text(f"name,split,modality\np,train,{modality}\n")
        return read_annotations(pairs, split="train")[0].image

    np.testing.assert_array_equal(read("fluorescence"), light)
    np.testing.assert_array_equal(read(""), 1000 - light)


def test_an_empty_label_image_is_an_image_without_nuclei(tmp_path: Path) -> None:
    add_pair(tmp_path, "p", labels=np.zeros(GREY.shape, np.uint16))
    found = read_dataset(tmp_path)

    assert not found.images[0].labels.any()
    assert found.remarks == []


def test_one_number_for_regions_apart_is_one_nucleus_but_for_all_of_many_it_is_asked_about(tmp_path: Path) -> None:
    apart = disks(GREY.shape, [(4, x, 2) for x in range(4, 32, 6)])
    add_pair(tmp_path, "nuclei", labels=np.minimum(apart, 2).astype(np.uint8))
    add_pair(tmp_path, "mask", image=GREY + 1, labels=((apart > 0) * 255).astype(np.uint8))
    found = read_dataset(tmp_path)

    assert [np.unique(pair.labels).tolist() for pair in found.images] == [[0, 255], [0, 1, 2]]
    assert found.remarks == [
        "mask: all 5 regions of labels/mask.tif have one number and count as one nucleus: is it a mask?"
    ]


def test_images_that_only_the_table_or_only_the_disk_has_are_named(pairs: Path) -> None:
    (pairs / "index.csv").write_text("name,split\np,train\ngone,train\nother,val\n")

    assert read_dataset(pairs, split="train").remarks == [
        "index.csv names 1 images that are not there: gone",
        "index.csv has no row for 1 images, which are left out: q",
    ]
    assert read_dataset(pairs).remarks[0] == "index.csv names 2 images that are not there: gone, other"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"image,split\np,train\n", "index.csv has no column name; it has image, split"),
        (b"", "index.csv has no column name; it has none"),
        ("name,split\np,tráin\n".encode("latin-1"), "index.csv cannot be read as a table"),
    ],
)
def test_a_table_that_is_none_is_refused(pairs: Path, content: bytes, message: str) -> None:
    (pairs / "index.csv").write_bytes(content)

    with pytest.raises(DatasetError, match=message):
        read_annotations(pairs)


def test_a_row_without_a_name_is_refused_with_its_line(pairs: Path) -> None:
    (pairs / "index.csv").write_text("split,name\nval,q\ntrain\n")

    with pytest.raises(DatasetError, match=r"index.csv has no name in line 3; expected one in every line"):
        read_annotations(pairs)


def test_images_of_other_formats_are_named_where_there_is_no_other(pairs: Path) -> None:
    (pairs / "images" / "p.jpg").write_bytes(b"\xff\xd8\xff\xe0" + bytes(40))  # a preview of p.tif

    assert names_of(read_annotations(pairs)) == ["p", "q"]
    (pairs / "images" / "p.tif").unlink()
    with pytest.raises(DatasetError, match=r"p: images/p.jpg is a JPEG image; expected an image as TIFF or PNG"):
        read_annotations(pairs)


def test_a_tiff_with_a_palette_is_read_in_its_colours_and_as_labels_by_its_numbers(tmp_path: Path) -> None:
    ramp = np.array([np.linspace(65535, 0, 256), np.linspace(0, 30000, 256), np.zeros(256)]).astype(np.uint16)
    add_pair(tmp_path, "p")
    tifffile.imwrite(tmp_path / "images" / "p.tif", GREY, photometric="palette", colormap=ramp)
    tifffile.imwrite(tmp_path / "labels" / "p.tif", TRUTH.astype(np.uint8), photometric="palette", colormap=ramp)
    (found,) = read_annotations(tmp_path)

    np.testing.assert_array_equal(found.image, to_grey((np.moveaxis(ramp[:, GREY], 0, -1) >> 8).astype(np.uint8)))
    np.testing.assert_array_equal(found.labels, TRUTH)


def test_a_zip_of_images_and_labels_is_to_be_unpacked(pairs: Path) -> None:
    with pytest.raises(DatasetError, match=r"holds images/ and labels/, .* Unpack it, and give the folder"):
        read_annotations(zipped(pairs))


def test_images_without_labels_are_refused(pairs: Path) -> None:
    shutil.rmtree(pairs / "labels")

    with pytest.raises(DatasetError, match="has images/ and no labels/; expected label images of the same names"):
        read_annotations(pairs)


def test_faults_of_another_split_cost_nothing(pairs: Path) -> None:
    (pairs / "labels" / "q.tif").unlink()

    assert names_of(read_annotations(pairs, split="train")) == ["p"]


def test_a_split_without_a_table_is_refused_with_the_table_that_is_wanted(pairs: Path) -> None:
    (pairs / "index.csv").unlink()

    with pytest.raises(DatasetError, match=r"of split test: which of its 2 images are, a .*index.csv is to say"):
        read_annotations(pairs, split="test")


@pytest.mark.parametrize(("split", "images"), [("train", 28), ("reserve", 14)])
def test_the_real_s_bsst265_is_as_described(shared_data: Path, split: str, images: int) -> None:
    found = read_annotations(shared_data / "s-bsst265", split=split, modality="fluorescence")

    assert len(found) == images
    assert all(p.labels.max() > 0 for p in found)
