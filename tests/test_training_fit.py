"""Training from end to end, tiny: history, resumption, a model that can be loaded, evaluated and trained again."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile

from hcs_nuclei.errors import DatasetError
from hcs_nuclei.models import load_model, read_card
from hcs_nuclei.segmentation import network as networks
from hcs_nuclei.segmentation.targets import BORDER, DISTANCE, NUCLEUS, TARGETS, make_targets
from hcs_nuclei.simulate import simulate_field
from hcs_nuclei.training import AnnotatedImage, FitSettings, evaluate, fit, read_annotations, train_model
from hcs_nuclei.training.fit import HISTORY_FILE, loss, nucleus_accuracy, read_history
from hcs_nuclei.training.train import data_hash, training_diameter

# Keras asks TensorFlow's variables for arrays in NumPy 1's way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

#: The module: its name in the package is that of the function.
fit_module = sys.modules["hcs_nuclei.training.fit"]
SETTINGS = FitSettings(
    architecture="tiny",
    epochs=2,
    batches_per_epoch=2,
    batch=2,
    crop_px=64,
    learning_rate=3e-3,
    warmup_batches=1,
    precision="float32",
)


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(networks.ARCHITECTURES, "tiny", partial(networks.unet, filters=(4, 8), head_filters=4))


@pytest.fixture(scope="module")
def images() -> list[AnnotatedImage]:
    """Four simulated fields of 96 × 96 px."""
    fields = [simulate_field(np.random.default_rng(seed), size=96, nuclei=8, diameter_px=18) for seed in range(4)]
    return [
        AnnotatedImage(f"f{i}", field.images["DAPI"], field.labels.astype(np.int32), "train", "fluorescence")
        for i, field in enumerate(fields)
    ]


@pytest.fixture(scope="module")
def annotated_folder(images: list[AnnotatedImage], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same fields as a data set on disk: two to train on, one for validation, one for the test."""
    root = tmp_path_factory.mktemp("annotated")
    for folder in ("images", "labels"):
        (root / folder).mkdir()
    for pair in images:
        tifffile.imwrite(root / "images" / f"{pair.name}.tif", pair.image)
        tifffile.imwrite(root / "labels" / f"{pair.name}.tif", pair.labels.astype(np.uint16))
    (root / "index.csv").write_text("name,split\nf0,train\nf1,train\nf2,val\nf3,test\n")
    return root


def _weights(network: Any) -> list[npt.NDArray[np.float32]]:
    return [np.asarray(variable.value) for variable in network.variables]


@pytest.mark.parametrize("precision", ["float32", pytest.param("mixed_bfloat16", marks=pytest.mark.slow)])
def test_an_epoch_leaves_its_history_and_what_resumes_it(
    images: list[AnnotatedImage], tmp_path: Path, precision: str
) -> None:
    import keras

    settings = SETTINGS.model_copy(update={"epochs": 1, "precision": precision})
    network = fit(images[:3], images[3:], settings, tmp_path)
    (row,) = read_history(tmp_path / HISTORY_FILE)

    assert set(row) == {"epoch", "loss", "nucleus_accuracy", "val_loss", "val_nucleus_accuracy"}
    assert row["epoch"] == 1
    assert all(np.isfinite(value) for value in row.values())
    assert any((tmp_path / "checkpoint").iterdir())
    assert all(np.isfinite(weights).all() for weights in _weights(network))
    assert keras.config.dtype_policy().name == "float32"  # as it was before


def test_an_interrupted_training_ends_where_an_uninterrupted_one_does(
    images: list[AnnotatedImage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = fit(images[:3], images[3:], SETTINGS, tmp_path / "whole")
    add = fit_module._History.add

    def interrupted(history: Any, epoch: int, logs: dict[str, float] | None) -> None:
        if epoch == 1:  # all of the second epoch is lost
            raise KeyboardInterrupt
        add(history, epoch, logs)

    with monkeypatch.context() as patch:
        patch.setattr(fit_module._History, "add", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fit(images[:3], images[3:], SETTINGS, tmp_path / "parts")
    history = tmp_path / "parts" / HISTORY_FILE
    first = read_history(history)
    resumed = fit(images[:3], images[3:], SETTINGS, tmp_path / "parts")

    assert [row["epoch"] for row in first] == [1]
    assert [row["epoch"] for row in read_history(history)] == [1, 2]
    assert read_history(history)[:1] == first
    assert read_history(history)[1]["loss"] == pytest.approx(
        read_history(tmp_path / "whole" / HISTORY_FILE)[1]["loss"], rel=1e-4
    )
    for one, other in zip(_weights(whole), _weights(resumed), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


@pytest.mark.slow
def test_a_finished_training_started_again_trains_no_more(images: list[AnnotatedImage], tmp_path: Path) -> None:
    network = fit(images[:3], images[3:], SETTINGS, tmp_path)
    before = (tmp_path / HISTORY_FILE).read_bytes()
    again = fit(images[:3], images[3:], SETTINGS, tmp_path)

    assert (tmp_path / HISTORY_FILE).read_bytes() == before
    for one, other in zip(_weights(network), _weights(again), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_network(images: list[AnnotatedImage], tmp_path: Path) -> None:
    one, other = (fit(images[:3], images[3:], SETTINGS, tmp_path / name) for name in "ab")

    for a, b in zip(_weights(one), _weights(other), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


def test_a_data_set_becomes_a_model_that_loads_and_can_be_evaluated(annotated_folder: Path, tmp_path: Path) -> None:
    card = train_model([annotated_folder], tmp_path / "model", SETTINGS, name="trial")

    assert read_card(tmp_path / "model") == card
    assert (card.name, card.architecture) == ("trial", "tiny")
    assert card.training["images"] == 2
    assert card.training["epochs"] == 2
    assert card.training["settings"] == SETTINGS.model_dump(mode="json")
    assert card.evaluation["val"]["images"] == 1
    assert card.flops_per_pixel > 0
    assert card.parameters > 0

    segmenter = load_model(str(tmp_path / "model"))
    assert segmenter.instances == card.instances
    held_out = read_annotations(annotated_folder, split="test")
    figures = evaluate(held_out, lambda image: segmenter(image).labels)
    assert figures["nuclei"] == np.unique(held_out[0].labels).size - 1
    assert 0 <= figures["pooled_ap_mean"] <= 1


def test_a_data_set_without_the_splits_is_refused_before_anything_is_written(
    annotated_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "unsplit").mkdir()
    for folder in ("images", "labels"):
        (tmp_path / "unsplit" / folder).symlink_to(annotated_folder / folder)

    with pytest.raises(DatasetError, match="holds no annotated images of split train, modality fluorescence"):
        train_model([tmp_path / "unsplit"], tmp_path / "model", SETTINGS)
    assert not (tmp_path / "model").exists()


@pytest.mark.slow
def test_a_data_set_may_lack_a_split_that_another_has(annotated_folder: Path, tmp_path: Path) -> None:
    more = tmp_path / "more"
    for folder in ("images", "labels"):
        (more / folder).mkdir(parents=True)
        (more / folder / "f3.tif").symlink_to(annotated_folder / folder / "f3.tif")
    (more / "index.csv").write_text("name,split\nf3,train\n")
    settings = SETTINGS.model_copy(update={"epochs": 1})
    card = train_model([annotated_folder, more], tmp_path / "model", settings)

    assert card.training["images"] == 3


def test_the_hash_of_the_data_is_that_of_names_pixels_and_labels(images: list[AnnotatedImage]) -> None:
    other_labels = AnnotatedImage("f0", images[0].image, images[0].labels * 0, "train", "")
    other_name = AnnotatedImage("g0", images[0].image, images[0].labels, "train", "")
    hashes = [data_hash(sets) for sets in (images, images[:3], [other_labels, *images[1:]], [other_name, *images[1:]])]

    assert len(set(hashes)) == 4
    assert data_hash(list(images)) == hashes[0]


def test_the_training_diameter_is_the_median_over_all_nuclei(images: list[AnnotatedImage]) -> None:
    areas = [np.count_nonzero(p.labels == n) for p in images for n in np.unique(p.labels)[1:]]

    assert training_diameter(images) == pytest.approx(float(np.median(2 * np.sqrt(np.array(areas) / np.pi))), abs=0.05)


def test_the_loss_is_least_for_the_truth_and_feels_every_target(images: list[AnnotatedImage]) -> None:
    truth = make_targets(images[0].labels)[None]
    assert truth[..., BORDER].any()
    best = float(loss(truth, truth))
    worse = []
    for channel in range(TARGETS):
        wrong = truth.copy()
        wrong[..., channel] = 1 - wrong[..., channel]
        worse.append(float(loss(truth, wrong)))

    assert {NUCLEUS, BORDER, DISTANCE} == set(range(TARGETS))
    assert best < 0.01
    assert min(worse) > 0.3


def test_the_loss_by_hand_where_nothing_is_known() -> None:
    truth = np.zeros((1, 4, 4, TARGETS), np.float32)
    truth[..., NUCLEUS] = 1
    unsure = np.full_like(truth, 0.5)
    entropy = np.log(2)
    expected = (
        0.5 * entropy  # nucleus
        + 0.3 * (1 - (2 * 8 + 1) / (16 + 8 + 1))
        + 0.5 * entropy  # border, of which there is none
        + 0.2 * (1 - 1 / (8 + 1))
        + 2 * 0.5  # distance
    )

    assert float(loss(truth, unsure)) == pytest.approx(expected, rel=1e-5)


def test_accuracy_is_the_share_of_pixels_called_rightly() -> None:
    truth = np.zeros((1, 2, 4, TARGETS), np.float32)
    truth[0, 0, :, NUCLEUS] = 1
    said = truth.copy()
    said[0, 0, 0, NUCLEUS], said[0, 1, 1, NUCLEUS] = 0.4, 0.6

    assert float(nucleus_accuracy(truth, said)) == pytest.approx(6 / 8)
