"""Annotations: every layout that is accepted, every fault at once, and the real sets as they are described."""

from __future__ import annotations

import io
import shutil
import zipfile
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from PIL import Image
from segmentation_samples import disks

from hcs_nuclei.errors import DatasetError
from hcs_nuclei.segmentation.normalise import to_grey
from hcs_nuclei.training.annotations import AnnotatedImage, read_annotations, read_dataset
from hcs_nuclei.training.label_images import Findings, checked_label_image

TRUTH = disks((24, 32), [(8, 8, 5), (8, 19, 5), (18, 25, 4)])
GREY = (TRUTH * 20 + 30).astype(np.uint8)
LABELS = TRUTH.astype(np.uint16)


def _png(path: Path, pixels: npt.NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(imagecodecs.png_encode(np.ascontiguousarray(pixels)))


def _add_bowl(root: Path, name: str, image: npt.NDArray[Any] = GREY, truth: npt.NDArray[np.int32] = TRUTH) -> None:
    """One image in the layout of the Data Science Bowl, one mask per nucleus."""
    _png(root / name / "images" / f"{name}.png", image)
    for number in np.unique(truth)[1:]:
        _png(root / name / "masks" / f"mask{number}.png", ((truth == number) * 255).astype(np.uint8))


def _add_pair(root: Path, name: str, image: npt.NDArray[Any] = GREY, labels: npt.NDArray[Any] = LABELS) -> None:
    """One image and its label image, both TIFF."""
    for folder, pixels in (("images", image), ("labels", labels)):
        (root / folder).mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(root / folder / f"{name}.tif", pixels)


@pytest.fixture
def bowl(tmp_path: Path) -> Path:
    """Three images `a`, `b`, `c` of the Bowl with their splits.csv beside the folder."""
    root = tmp_path / "bowl" / "stage1_train"
    for name in "abc":
        _add_bowl(root, name)
    (root.parent / "splits.csv").write_text(
        "image_id,modality,height,width,nuclei,split\n"
        "a,fluorescence,24,32,3,train\nb,histology,24,32,3,train\nc,fluorescence,24,32,3,val\n"
    )
    return root


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Two images `p`, `q` with label images, and an index.csv of name and split only."""
    for name in "pq":
        _add_pair(tmp_path / "pairs", name)
    (tmp_path / "pairs" / "index.csv").write_text("name,split\np,train\nq,val\n")
    return tmp_path / "pairs"


def _box(rows: slice, columns: slice) -> npt.NDArray[np.uint8]:
    """A mask of one rectangle, as large as GREY."""
    mask = np.zeros(GREY.shape, np.uint8)
    mask[rows, columns] = 255
    return mask


def _add_masks(root: Path, *masks: npt.NDArray[np.uint8]) -> Path:
    """A bowl of one image `a` with these masks, named 1.png, 2.png …"""
    _png(root / "a" / "images" / "a.png", GREY)
    for number, mask in enumerate(masks, start=1):
        _png(root / "a" / "masks" / f"{number}.png", mask)
    return root


def _as_pillow_writes(mode: str, pixels: npt.NDArray[np.uint8]) -> bytes:
    """A PNG of `mode`; of mode P the pixels are numbers in a palette whose colours say nothing of them."""
    image = Image.fromarray(pixels)
    if mode == "P":
        image = image.convert("P")
        image.putpalette([value for i in range(256) for value in (255 - i, (i * 7) % 256, (i * 53) % 256)])
    else:
        image = image.convert(mode)
    data = io.BytesIO()
    image.save(data, "PNG")
    return data.getvalue()


def _zipped(folder: Path) -> Path:
    return Path(shutil.make_archive(str(folder), "zip", folder.parent, folder.name))


def _names(found: list[AnnotatedImage]) -> list[str]:
    return [pair.name for pair in found]


def _same_nuclei(found: npt.NDArray[Any], truth: npt.NDArray[Any]) -> bool:
    """Whether two label images are one another's renumbering."""
    pairs = np.unique(np.stack([found.ravel(), truth.ravel()]), axis=1)
    return all(np.unique(numbers).size == numbers.size for numbers in pairs)


def test_a_bowl_folder_is_read_with_its_splits_and_modalities(bowl: Path) -> None:
    found = read_annotations(bowl)

    assert [(p.name, p.split, p.modality) for p in found] == [
        ("a", "train", "fluorescence"),
        ("b", "train", "histology"),
        ("c", "val", "fluorescence"),
    ]
    np.testing.assert_array_equal(found[0].image, GREY)
    assert found[0].labels.dtype == np.int32
    assert _same_nuclei(found[0].labels, TRUTH)


def test_the_same_as_a_zip_gives_the_same(bowl: Path) -> None:
    for one, other in zip(read_annotations(bowl), read_annotations(_zipped(bowl)), strict=True):
        assert (one.name, one.split, one.modality) == (other.name, other.split, other.modality)
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.labels, other.labels)


@pytest.mark.parametrize(
    ("split", "modality", "expected"),
    [
        ("train", None, ["a", "b"]),
        ("train", "fluorescence", ["a"]),
        (None, "fluorescence", ["a", "c"]),
        (None, "histology", ["b"]),
    ],
)
def test_a_split_and_a_modality_can_be_asked_for(
    bowl: Path, split: str | None, modality: str | None, expected: list[str]
) -> None:
    assert _names(read_annotations(bowl, split=split, modality=modality)) == expected


@pytest.mark.parametrize("suffix", [".tif", ".tiff", ".png", ".TIF"])
def test_images_and_labels_of_the_same_stems_are_read(tmp_path: Path, suffix: str) -> None:
    for folder, pixels in (("images", GREY), ("labels", TRUTH.astype(np.uint16))):
        path = tmp_path / folder / f"p{suffix}"
        if suffix == ".png":
            _png(path, pixels)
        else:
            path.parent.mkdir()
            tifffile.imwrite(path, pixels)
    (found,) = read_annotations(tmp_path)

    assert (found.name, found.split, found.modality) == ("p", "", "")
    np.testing.assert_array_equal(found.image, GREY)
    np.testing.assert_array_equal(found.labels, TRUTH)


def test_an_index_of_name_and_split_alone_is_enough_whatever_modality_is_asked(pairs: Path) -> None:
    assert _names(read_annotations(pairs, split="train")) == ["p"]
    assert _names(read_annotations(pairs, split="val", modality="fluorescence")) == ["q"]


def test_fm_is_fluorescence(pairs: Path) -> None:
    (pairs / "index.csv").write_text("name,modality,split\np,FM,train\nq,histology,train\n")

    assert _names(read_annotations(pairs, modality="fluorescence")) == ["p"]


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        pytest.param(np.dstack([GREY, GREY, GREY, np.full_like(GREY, 255)]), GREY, id="rgba-of-grey"),
        pytest.param(np.dstack([GREY, np.full_like(GREY, 255)]), GREY, id="grey-and-opacity"),
        pytest.param(np.dstack([GREY * 0, GREY * 0, GREY]), GREY, id="blue"),
        pytest.param(GREY.astype(np.uint16) * 250, GREY.astype(np.uint16) * 250, id="16-bit"),
        pytest.param(np.dstack([GREY.astype(np.uint16) * 250] * 3), GREY.astype(np.uint16) * 250, id="16-bit-rgb"),
    ],
)
def test_of_colour_the_brightest_is_taken_and_16_bit_kept(
    tmp_path: Path, image: npt.NDArray[Any], expected: npt.NDArray[Any]
) -> None:
    _add_bowl(tmp_path / "bowl", "a", image)
    (found,) = read_annotations(tmp_path / "bowl")

    assert found.image.dtype == image.dtype
    np.testing.assert_array_equal(found.image, expected)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA"])
def test_masks_of_any_kind_of_png_are_read(tmp_path: Path, mode: str) -> None:
    root = _add_masks(tmp_path / "bowl")
    for number in (1, 2, 3):
        path = root / "a" / "masks" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(_as_pillow_writes(mode, ((number == TRUTH) * 255).astype(np.uint8)))

    np.testing.assert_array_equal(read_annotations(root)[0].labels, TRUTH)


def test_an_image_with_a_palette_is_read_in_its_colours(tmp_path: Path) -> None:
    root = _add_masks(tmp_path / "bowl", _box(slice(4), slice(4)))
    palette = _as_pillow_writes("P", GREY)
    (root / "a" / "images" / "a.png").write_bytes(palette)
    coloured = np.asarray(Image.open(io.BytesIO(palette)).convert("RGB"))

    np.testing.assert_array_equal(read_annotations(root)[0].image, to_grey(coloured))


def test_a_nucleus_that_fills_most_of_its_image_is_no_background(tmp_path: Path) -> None:
    mask = _box(slice(1, 23), slice(1, 30))

    np.testing.assert_array_equal(read_annotations(_add_masks(tmp_path, mask))[0].labels, mask // 255)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        pytest.param(slice(0, 8), slice(6, 12), [1] * 6 + [2] * 6 + [0], id="smaller-comes-second"),
        pytest.param(slice(6, 12), slice(0, 8), [2] * 6 + [1] * 6 + [0], id="smaller-comes-first"),
        pytest.param(slice(0, 8), slice(4, 12), [1] * 8 + [2] * 4 + [0], id="equals-keep-the-order"),
        pytest.param(slice(0, 12), slice(4, 6), [1] * 4 + [2] * 2 + [1] * 6 + [0], id="one-within-the-other"),
    ],
)
def test_where_masks_overlap_the_smaller_nucleus_is_on_top(
    tmp_path: Path, first: slice, second: slice, expected: list[int]
) -> None:
    found = read_dataset(_add_masks(tmp_path, _box(slice(2), first), _box(slice(2), second)))
    shared = len(set(range(first.start, first.stop)) & set(range(second.start, second.stop)))

    np.testing.assert_array_equal(found.images[0].labels[0, :13], expected)
    assert found.remarks == [f"a: {2 * shared} px lie in several masks and go to the smallest of them"]


def test_of_three_masks_over_one_another_the_smallest_is_on_top(tmp_path: Path) -> None:
    found = read_dataset(_add_masks(tmp_path, *(_box(slice(1), slice(0, stop)) for stop in (6, 2, 4))))

    np.testing.assert_array_equal(found.images[0].labels[0, :7], [2, 2, 3, 3, 1, 1, 0])
    assert found.remarks == ["a: 4 px lie in several masks and go to the smallest of them"]


def test_empty_masks_and_copies_are_left_out_and_named(tmp_path: Path) -> None:
    one, other = _box(slice(4), slice(4)), _box(slice(8, 12), slice(4))
    found = read_dataset(_add_masks(tmp_path, one, one * 0, other, one))

    assert np.unique(found.images[0].labels).tolist() == [0, 1, 3]
    assert found.remarks == [
        "a: 16 px lie in several masks and go to the smallest of them",
        "a: empty masks are left out: a/masks/2.png",
        "a: masks that others cover wholly are left out: a/masks/4.png",
    ]


def test_an_image_whose_only_mask_is_empty_has_no_nuclei(tmp_path: Path) -> None:
    (found,) = read_annotations(_add_masks(tmp_path, np.zeros_like(GREY)))

    assert not found.labels.any()


def _add_every_fault(bowl: Path) -> None:
    _add_bowl(bowl, "corrupt")
    file = bowl / "corrupt" / "images" / "corrupt.png"
    file.write_bytes(file.read_bytes()[:60])
    (bowl / "corrupt" / "masks" / "mask2.png").write_bytes(b"no PNG")
    _add_bowl(bowl, "maskless", truth=np.zeros_like(TRUTH))
    _add_bowl(bowl, "narrow")
    _png(bowl / "narrow" / "masks" / "wrong1.png", np.zeros((24, 31), np.uint8))
    _png(bowl / "narrow" / "masks" / "wrong2.png", np.zeros((32, 24), np.uint8))
    _add_bowl(bowl, "twice")
    _png(bowl / "twice" / "images" / "again.png", GREY)
    _add_bowl(bowl, "imageless")
    shutil.rmtree(bowl / "imageless" / "images")


def test_every_fault_of_a_bowl_is_named_at_once_and_so_is_what_was_settled(bowl: Path) -> None:
    (bowl.parent / "splits.csv").unlink()
    _add_every_fault(bowl)
    _png(bowl / "b" / "masks" / "mask0.png", np.zeros_like(GREY))
    _png(bowl / "c" / "masks" / "mask0.png", ((TRUTH == 1) * 255).astype(np.uint8))
    _png(bowl / "c" / "images" / "c.png", GREY + 1)

    for dataset, top in ((bowl, ""), (_zipped(bowl), "stage1_train/")):
        with pytest.raises(DatasetError) as caught:
            read_annotations(dataset)
        lines = str(caught.value).splitlines()
        assert lines[0] == f"5 of 8 images of {dataset} cannot be used:"
        assert lines[1].startswith(f"  corrupt: {top}corrupt/images/corrupt.png is truncated: ")
        assert lines[2].startswith(f"  corrupt: {top}corrupt/masks/mask2.png is neither TIFF nor PNG; ")
        assert lines[3:] == [
            "  imageless: no image",
            "  maskless: no masks (an image without nuclei has an empty one)",
            f"  narrow: {top}narrow/masks/wrong1.png is (24, 31), the image is (24, 32)",
            f"  narrow: {top}narrow/masks/wrong2.png is (32, 24), the image is (24, 32)",
            f"  twice: 2 images, expected one: {top}twice/images/again.png, {top}twice/images/twice.png",
            "No obstacle, but worth a look:",
            f"  b: empty masks are left out: {top}b/masks/mask0.png",
            f"  c: {np.count_nonzero(TRUTH == 1)} px lie in several masks and go to the smallest of them",
            f"  c: masks that others cover wholly are left out: {top}c/masks/mask1.png",
            "  the same image under 2 names, all kept: a, b",
            "Mend or remove them, or go on without them with --skip-faulty.",
        ]


def test_faulty_images_can_be_skipped_and_are_named(bowl: Path, caplog: pytest.LogCaptureFixture) -> None:
    (bowl.parent / "splits.csv").unlink()
    _add_every_fault(bowl)
    found = read_dataset(bowl, skip_faulty=True)

    assert _names(found.images) == ["a", "b", "c"]
    assert [remark.split(":")[0] for remark in found.remarks[:7]] == [
        f"left out, {name}" for name in ("corrupt", "corrupt", "imageless", "maskless", "narrow", "narrow", "twice")
    ]

    assert _names(read_annotations(bowl, skip_faulty=True)) == ["a", "b", "c"]
    assert [record.getMessage() for record in caplog.records] == [f"{bowl}: {remark}" for remark in found.remarks]


def test_a_set_whose_every_image_is_faulty_is_refused_all_the_same(tmp_path: Path) -> None:
    _add_bowl(tmp_path / "bowl", "a", truth=np.zeros_like(TRUTH))

    with pytest.raises(DatasetError, match=r"(?s)^1 of 1 images of .*\nMend or remove them\.$"):
        read_annotations(tmp_path / "bowl", skip_faulty=True)


def test_a_set_without_fault_has_no_remarks(bowl: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name, added in (("b", 1), ("c", 2)):
        _png(bowl / name / "images" / f"{name}.png", GREY + added)

    assert read_dataset(bowl).remarks == []
    read_annotations(bowl)
    assert not caplog.records


def test_every_fault_of_images_and_labels_is_named_at_once(pairs: Path) -> None:
    (pairs / "index.csv").unlink()
    _add_pair(pairs, "a-corrupt")
    (pairs / "images" / "a-corrupt.tif").write_bytes(b"II*\0 and nothing else")
    _add_pair(pairs, "b-cut-short")
    file = pairs / "labels" / "b-cut-short.tif"
    file.write_bytes(file.read_bytes()[:-100])
    _add_pair(pairs, "c-stack", image=np.stack([GREY] * 5))
    _add_pair(pairs, "colour", labels=np.dstack([TRUTH, TRUTH * 2, TRUTH]).astype(np.uint8))
    _add_pair(pairs, "float", labels=TRUTH.astype(np.float32))
    _add_pair(pairs, "lonely")
    (pairs / "labels" / "lonely.tif").unlink()
    _add_pair(pairs, "mask", labels=TRUTH > 0)
    _add_pair(pairs, "narrow", labels=TRUTH[:, :-1].astype(np.uint16))
    _add_pair(pairs, "negative", labels=(TRUTH - 1).astype(np.int16))
    _add_pair(pairs, "orphan")
    (pairs / "images" / "orphan.tif").unlink()
    _add_pair(pairs, "twice")
    _png(pairs / "labels" / "twice.png", TRUTH.astype(np.uint8))

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
    _add_pair(tmp_path, "p", labels=np.dstack([TRUTH] * 3 + [np.full_like(TRUTH, 255)]).astype(np.uint8))

    np.testing.assert_array_equal(read_annotations(tmp_path)[0].labels, TRUTH)


def test_of_a_label_image_with_a_palette_the_numbers_are_the_nuclei(tmp_path: Path) -> None:
    _add_pair(tmp_path, "p")
    (tmp_path / "labels" / "p.tif").unlink()
    (tmp_path / "labels" / "p.png").write_bytes(_as_pillow_writes("P", TRUTH.astype(np.uint8)))

    np.testing.assert_array_equal(read_annotations(tmp_path)[0].labels, TRUTH)


def test_numbers_far_beyond_the_nuclei_are_replaced_in_their_order(tmp_path: Path) -> None:
    huge = np.array([0, 2**32 - 1, 7, 2**31], np.uint32)[TRUTH]
    _add_pair(tmp_path, "p", labels=huge)
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
    _add_pair(tmp_path, "p", labels=np.zeros(GREY.shape, np.uint16))
    found = read_dataset(tmp_path)

    assert not found.images[0].labels.any()
    assert found.remarks == []


def test_one_number_for_regions_apart_is_one_nucleus_but_for_all_of_many_it_is_asked_about(tmp_path: Path) -> None:
    apart = disks(GREY.shape, [(4, x, 2) for x in range(4, 32, 6)])
    _add_pair(tmp_path, "nuclei", labels=np.minimum(apart, 2).astype(np.uint8))
    _add_pair(tmp_path, "mask", image=GREY + 1, labels=((apart > 0) * 255).astype(np.uint8))
    found = read_dataset(tmp_path)

    assert [np.unique(pair.labels).tolist() for pair in found.images] == [[0, 255], [0, 1, 2]]
    assert found.remarks == [
        "mask: all 5 regions of labels/mask.tif have one number and count as one nucleus: is it a mask?"
    ]


def test_what_macos_adds_to_a_zip_is_no_image(bowl: Path) -> None:
    with zipfile.ZipFile(_zipped(bowl), "a") as archive:
        archive.writestr("__MACOSX/stage1_train/a/images/._a.png", b"Mac OS X")

    assert _names(read_annotations(bowl.with_suffix(".zip"))) == ["a", "b", "c"]


def test_an_image_of_two_splits_is_a_fault(bowl: Path) -> None:
    with (bowl.parent / "splits.csv").open("a") as table:
        table.write("a,fluorescence,24,32,3,train\nc,fluorescence,24,32,3,test\n")

    assert _names(read_annotations(bowl, split="train")) == ["a", "b"]
    with pytest.raises(DatasetError, match=r"c: splits.csv has it as val fluorescence and as test fluorescence"):
        read_annotations(bowl, split="test")


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

    assert _names(read_annotations(pairs)) == ["p", "q"]
    (pairs / "images" / "p.tif").unlink()
    with pytest.raises(DatasetError, match=r"p: images/p.jpg is a JPEG image; expected an image as TIFF or PNG"):
        read_annotations(pairs)


def test_a_tiff_with_a_palette_is_read_in_its_colours_and_as_labels_by_its_numbers(tmp_path: Path) -> None:
    ramp = np.array([np.linspace(65535, 0, 256), np.linspace(0, 30000, 256), np.zeros(256)]).astype(np.uint16)
    _add_pair(tmp_path, "p")
    tifffile.imwrite(tmp_path / "images" / "p.tif", GREY, photometric="palette", colormap=ramp)
    tifffile.imwrite(tmp_path / "labels" / "p.tif", TRUTH.astype(np.uint8), photometric="palette", colormap=ramp)
    (found,) = read_annotations(tmp_path)

    np.testing.assert_array_equal(found.image, to_grey((np.moveaxis(ramp[:, GREY], 0, -1) >> 8).astype(np.uint8)))
    np.testing.assert_array_equal(found.labels, TRUTH)


def test_a_zip_of_images_and_labels_is_to_be_unpacked(pairs: Path) -> None:
    with pytest.raises(DatasetError, match=r"holds images/ and labels/, .* Unpack it, and give the folder"):
        read_annotations(_zipped(pairs))


def test_images_without_labels_are_refused(pairs: Path) -> None:
    shutil.rmtree(pairs / "labels")

    with pytest.raises(DatasetError, match="has images/ and no labels/; expected label images of the same names"):
        read_annotations(pairs)


def test_faults_of_another_split_cost_nothing(pairs: Path) -> None:
    (pairs / "labels" / "q.tif").unlink()

    assert _names(read_annotations(pairs, split="train")) == ["p"]


def test_what_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="does not exist; expected a DSB2018 folder or zip, or a folder with images"):
        read_annotations(tmp_path / "nowhere")


def test_a_file_that_is_no_zip_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data.zip").write_text("no")

    with pytest.raises(DatasetError, match="is not a zip file"):
        read_annotations(tmp_path / "data.zip")


def test_an_empty_folder_and_an_empty_zip_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    zipfile.ZipFile(tmp_path / "empty.zip", "w").close()

    for dataset in (tmp_path / "empty", tmp_path / "empty.zip"):
        with pytest.raises(DatasetError, match="holds no annotated images"):
            read_annotations(dataset)


def test_a_split_that_no_image_has_is_refused_with_those_that_there_are(bowl: Path) -> None:
    message = (
        r"holds no annotated images of split test, modality fluorescence; by .*splits.csv it has "
        r"1 train fluorescence, 1 train histology, 1 val fluorescence\.$"
    )
    with pytest.raises(DatasetError, match=message):
        read_annotations(bowl, split="test", modality="fluorescence")


def test_a_split_without_a_table_is_refused_with_the_table_that_is_wanted(pairs: Path) -> None:
    (pairs / "index.csv").unlink()

    with pytest.raises(DatasetError, match=r"of split test: which of its 2 images are, a .*index.csv is to say"):
        read_annotations(pairs, split="test")


@pytest.mark.slow
@pytest.mark.parametrize(("split", "images"), [("train", 319), ("val", 108), ("test", 114)])
def test_the_real_bowl_is_as_described(shared_data: Path, split: str, images: int) -> None:
    found = read_annotations(shared_data / "dsb2018" / "stage1_train.zip", split=split, modality="fluorescence")
    rows = (shared_data / "dsb2018" / "splits.csv").read_text().splitlines()
    nuclei = {row.split(",")[0]: int(row.split(",")[4]) for row in rows[1:]}

    assert len(found) == images
    assert all(p.image.ndim == 2 and p.image.shape == p.labels.shape for p in found)
    assert [np.unique(p.labels).size - 1 for p in found] == [nuclei[p.name] for p in found]


@pytest.mark.parametrize(("split", "images"), [("train", 28), ("reserve", 14)])
def test_the_real_s_bsst265_is_as_described(shared_data: Path, split: str, images: int) -> None:
    found = read_annotations(shared_data / "s-bsst265", split=split, modality="fluorescence")

    assert len(found) == images
    assert all(p.labels.max() > 0 for p in found)
