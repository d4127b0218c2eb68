"""Annotations: every layout that is accepted, every fault at once, and the real sets as they are described."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from segmentation_samples import disks

from hcs_nuclei.errors import DatasetError
from hcs_nuclei.training.annotations import AnnotatedImage, read_annotations

TRUTH = disks((24, 32), [(8, 8, 5), (8, 19, 5), (18, 25, 4)])
GREY = (TRUTH * 20 + 30).astype(np.uint8)


def _png(path: Path, pixels: npt.NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(imagecodecs.png_encode(np.ascontiguousarray(pixels)))


def _add_bowl(root: Path, name: str, image: npt.NDArray[Any] = GREY, truth: npt.NDArray[np.int32] = TRUTH) -> None:
    """One image in the layout of the Data Science Bowl, one mask per nucleus."""
    _png(root / name / "images" / f"{name}.png", image)
    for number in np.unique(truth)[1:]:
        _png(root / name / "masks" / f"mask{number}.png", ((truth == number) * 255).astype(np.uint8))


def _add_pair(root: Path, name: str, image: npt.NDArray[Any] = GREY, labels: npt.NDArray[Any] = TRUTH) -> None:
    """One image and its label image, both TIFF."""
    for folder, pixels in (("images", image), ("labels", labels.astype(np.uint16))):
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
        pytest.param(np.dstack([GREY * 0, GREY * 0, GREY // 3 * 3]), GREY // 3, id="blue"),
        pytest.param(GREY.astype(np.uint16) * 250, GREY.astype(np.uint16) * 250, id="16-bit"),
    ],
)
def test_colour_is_averaged_and_16_bit_kept(
    tmp_path: Path, image: npt.NDArray[Any], expected: npt.NDArray[Any]
) -> None:
    _add_bowl(tmp_path / "bowl", "a", image)
    (found,) = read_annotations(tmp_path / "bowl")

    assert found.image.dtype == image.dtype
    np.testing.assert_array_equal(found.image, expected)


def test_where_masks_overlap_the_first_holds(tmp_path: Path) -> None:
    _add_bowl(tmp_path / "bowl", "a", truth=np.zeros_like(TRUTH))
    for number, columns in enumerate((slice(0, 8), slice(6, 12)), start=1):
        mask = np.zeros(TRUTH.shape, np.uint8)
        mask[:4, columns] = 255
        _png(tmp_path / "bowl" / "a" / "masks" / f"{number}.png", mask)
    (found,) = read_annotations(tmp_path / "bowl")

    np.testing.assert_array_equal(found.labels[0, :13], [1] * 8 + [2] * 4 + [0])


def test_every_fault_of_a_bowl_is_named_at_once(bowl: Path) -> None:
    _add_bowl(bowl, "corrupt")
    file = bowl / "corrupt" / "images" / "corrupt.png"
    file.write_bytes(file.read_bytes()[:40])
    _add_bowl(bowl, "maskless", truth=np.zeros_like(TRUTH))
    _add_bowl(bowl, "narrow")
    _png(bowl / "narrow" / "masks" / "wrong.png", np.zeros((24, 31), np.uint8))
    _add_bowl(bowl, "twice")
    _png(bowl / "twice" / "images" / "again.png", GREY)

    for dataset in (bowl, _zipped(bowl)):
        with pytest.raises(DatasetError) as caught:
            read_annotations(dataset)
        lines = str(caught.value).splitlines()
        assert lines[0] == f"4 images of {dataset} cannot be used:"
        assert lines[1].startswith("  corrupt: ")
        assert lines[2:] == [
            "  maskless: no masks",
            "  narrow: mask wrong.png is (24, 31), the image is (24, 32)",
            "  twice: 2 images in its folder; expected one",
        ]


def test_every_fault_of_images_and_labels_is_named_at_once(pairs: Path) -> None:
    _add_pair(pairs, "corrupt")
    (pairs / "images" / "corrupt.tif").write_bytes(b"II*\0 and nothing else")
    _add_pair(pairs, "lonely")
    (pairs / "labels" / "lonely.tif").unlink()
    _add_pair(pairs, "narrow", labels=TRUTH[:, :-1])
    _add_pair(pairs, "stack", image=np.stack([GREY] * 5))

    with pytest.raises(DatasetError) as caught:
        read_annotations(pairs)
    lines = str(caught.value).splitlines()
    assert lines[0] == f"4 images of {pairs} cannot be used:"
    assert [line.split(":")[0].strip() for line in lines[1:]] == ["corrupt", "lonely", "narrow", "stack"]
    assert "no label image of that stem" in lines[2]
    assert lines[3].endswith("its labels are (24, 31), the image is (24, 32)")
    assert "expected (y, x) or colour" in lines[4]


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


def test_a_split_that_no_image_has_is_refused_by_its_name(bowl: Path) -> None:
    with pytest.raises(DatasetError, match="holds no annotated images of split test, modality fluorescence"):
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


@pytest.mark.parametrize(("split", "images"), [("train", 28), ("reserve", 14)])
def test_the_real_s_bsst265_is_as_described(shared_data: Path, split: str, images: int) -> None:
    found = read_annotations(shared_data / "s-bsst265", split=split, modality="fluorescence")

    assert len(found) == images
    assert all(p.labels.max() > 0 for p in found)
