"""Annotations as the Data Science Bowl has them: masks, splits, every fault at once, and the real set."""

from __future__ import annotations

import io
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from annotation_samples import GREY, TRUTH, add_bowl, add_masks, as_pillow_writes, box, names_of, write_png, zipped
from PIL import Image

from hcs_nuclei.errors import DatasetError
from hcs_nuclei.segmentation.normalise import to_grey
from hcs_nuclei.training.annotations import read_annotations, read_dataset


@pytest.fixture
def bowl(tmp_path: Path) -> Path:
    """Three images `a`, `b`, `c` of the Bowl with their splits.csv beside the folder."""
    root = tmp_path / "bowl" / "stage1_train"
    for name in "abc":
        add_bowl(root, name)
    (root.parent / "splits.csv").write_text(
        "image_id,modality,height,width,nuclei,split\n"
        "a,fluorescence,24,32,3,train\nb,histology,24,32,3,train\nc,fluorescence,24,32,3,val\n"
    )
    return root


def _same_nuclei(found: npt.NDArray[Any], truth: npt.NDArray[Any]) -> bool:
    """Whether two label images are one another's renumbering."""
    pairs = np.unique(np.stack([found.ravel(), truth.ravel()]), axis=1)
    return all(np.unique(numbers).size == numbers.size for numbers in pairs)


def _add_every_fault(bowl: Path) -> None:
    add_bowl(bowl, "corrupt")
    file = bowl / "corrupt" / "images" / "corrupt.png"
    file.write_bytes(file.read_bytes()[:60])
    (bowl / "corrupt" / "masks" / "mask2.png").write_bytes(b"no PNG")
    add_bowl(bowl, "maskless", truth=np.zeros_like(TRUTH))
    add_bowl(bowl, "narrow")
    write_png(bowl / "narrow" / "masks" / "wrong1.png", np.zeros((24, 31), np.uint8))
    write_png(bowl / "narrow" / "masks" / "wrong2.png", np.zeros((32, 24), np.uint8))
    add_bowl(bowl, "twice")
    write_png(bowl / "twice" / "images" / "again.png", GREY)
    add_bowl(bowl, "imageless")
    shutil.rmtree(bowl / "imageless" / "images")


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
    for one, other in zip(read_annotations(bowl), read_annotations(zipped(bowl)), strict=True):
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
    assert names_of(read_annotations(bowl, split=split, modality=modality)) == expected


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
    add_bowl(tmp_path / "bowl", "a", image)
    (found,) = read_annotations(tmp_path / "bowl")

    assert found.image.dtype == image.dtype
    np.testing.assert_array_equal(found.image, expected)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA"])
def test_masks_of_any_kind_of_png_are_read(tmp_path: Path, mode: str) -> None:
    root = add_masks(tmp_path / "bowl")
    for number in (1, 2, 3):
        path = root / "a" / "masks" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(as_pillow_writes(mode, ((number == TRUTH) * 255).astype(np.uint8)))

    np.testing.assert_array_equal(read_annotations(root)[0].labels, TRUTH)


def test_an_image_with_a_palette_is_read_in_its_colours(tmp_path: Path) -> None:
    root = add_masks(tmp_path / "bowl", box(slice(4), slice(4)))
    palette = as_pillow_writes("P", GREY)
    (root / "a" / "images" / "a.png").write_bytes(palette)
    coloured = np.asarray(Image.open(io.BytesIO(palette)).convert("RGB"))

    np.testing.assert_array_equal(read_annotations(root)[0].image, to_grey(coloured))


def test_a_nucleus_that_fills_most_of_its_image_is_no_background(tmp_path: Path) -> None:
    mask = box(slice(1, 23), slice(1, 30))

    np.testing.assert_array_equal(read_annotations(add_masks(tmp_path, mask))[0].labels, mask // 255)


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
    found = read_dataset(add_masks(tmp_path, box(slice(2), first), box(slice(2), second)))
    shared = len(set(range(first.start, first.stop)) & set(range(second.start, second.stop)))

    np.testing.assert_array_equal(found.images[0].labels[0, :13], expected)
    assert found.remarks == [f"a: {2 * shared} px lie in several masks and go to the smallest of them"]


def test_of_three_masks_over_one_another_the_smallest_is_on_top(tmp_path: Path) -> None:
    found = read_dataset(add_masks(tmp_path, *(box(slice(1), slice(0, stop)) for stop in (6, 2, 4))))

    np.testing.assert_array_equal(found.images[0].labels[0, :7], [2, 2, 3, 3, 1, 1, 0])
    assert found.remarks == ["a: 4 px lie in several masks and go to the smallest of them"]


def test_empty_masks_and_copies_are_left_out_and_named(tmp_path: Path) -> None:
    one, other = box(slice(4), slice(4)), box(slice(8, 12), slice(4))
    found = read_dataset(add_masks(tmp_path, one, one * 0, other, one))

    assert np.unique(found.images[0].labels).tolist() == [0, 1, 3]
    assert found.remarks == [
        "a: 16 px lie in several masks and go to the smallest of them",
        "a: empty masks are left out: a/masks/2.png",
        "a: masks that others cover wholly are left out: a/masks/4.png",
    ]


def test_an_image_whose_only_mask_is_empty_has_no_nuclei(tmp_path: Path) -> None:
    (found,) = read_annotations(add_masks(tmp_path, np.zeros_like(GREY)))

    assert not found.labels.any()


def test_every_fault_of_a_bowl_is_named_at_once_and_so_is_what_was_settled(bowl: Path) -> None:
    (bowl.parent / "splits.csv").unlink()
    _add_every_fault(bowl)
    write_png(bowl / "b" / "masks" / "mask0.png", np.zeros_like(GREY))
    write_png(bowl / "c" / "masks" / "mask0.png", ((TRUTH == 1) * 255).astype(np.uint8))
    write_png(bowl / "c" / "images" / "c.png", GREY + 1)

    for dataset, top in ((bowl, ""), (zipped(bowl), "stage1_train/")):
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

    assert names_of(found.images) == ["a", "b", "c"]
    assert [remark.split(":")[0] for remark in found.remarks[:7]] == [
        f"left out, {name}" for name in ("corrupt", "corrupt", "imageless", "maskless", "narrow", "narrow", "twice")
    ]

    assert names_of(read_annotations(bowl, skip_faulty=True)) == ["a", "b", "c"]
    assert [record.getMessage() for record in caplog.records] == [f"{bowl}: {remark}" for remark in found.remarks]


def test_a_set_whose_every_image_is_faulty_is_refused_all_the_same(tmp_path: Path) -> None:
    add_bowl(tmp_path / "bowl", "a", truth=np.zeros_like(TRUTH))

    with pytest.raises(DatasetError, match=r"(?s)^1 of 1 images of .*\nMend or remove them\.$"):
        read_annotations(tmp_path / "bowl", skip_faulty=True)


def test_a_set_without_fault_has_no_remarks(bowl: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name, added in (("b", 1), ("c", 2)):
        write_png(bowl / name / "images" / f"{name}.png", GREY + added)

    assert read_dataset(bowl).remarks == []
    read_annotations(bowl)
    assert not caplog.records


def test_what_macos_adds_to_a_zip_is_no_image(bowl: Path) -> None:
    with zipfile.ZipFile(zipped(bowl), "a") as archive:
        archive.writestr("__MACOSX/stage1_train/a/images/._a.png", b"Mac OS X")

    assert names_of(read_annotations(bowl.with_suffix(".zip"))) == ["a", "b", "c"]


def test_an_image_of_two_splits_is_a_fault(bowl: Path) -> None:
    with (bowl.parent / "splits.csv").open("a") as table:
        table.write("a,fluorescence,24,32,3,train\nc,fluorescence,24,32,3,test\n")

    assert names_of(read_annotations(bowl, split="train")) == ["a", "b"]
    with pytest.raises(DatasetError, match=r"c: splits.csv has it as val fluorescence and as test fluorescence"):
        read_annotations(bowl, split="test")


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


@pytest.mark.slow
@pytest.mark.parametrize(("split", "images"), [("train", 319), ("val", 108), ("test", 114)])
def test_the_real_bowl_is_as_described(shared_data: Path, split: str, images: int) -> None:
    found = read_annotations(shared_data / "dsb2018" / "stage1_train.zip", split=split, modality="fluorescence")
    rows = (shared_data / "dsb2018" / "splits.csv").read_text().splitlines()
    nuclei = {row.split(",")[0]: int(row.split(",")[4]) for row in rows[1:]}

    assert len(found) == images
    assert all(p.image.ndim == 2 and p.image.shape == p.labels.shape for p in found)
    assert [np.unique(p.labels).size - 1 for p in found] == [nuclei[p.name] for p in found]
