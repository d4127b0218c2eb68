"""Training from end to end, tiny: history, rate, seeds, and a model that can be loaded and evaluated."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from tiny_training import SETTINGS, weights_of

from hcs_nuclei.errors import DatasetError
from hcs_nuclei.models import load_model, read_card
from hcs_nuclei.models.card import write_weights
from hcs_nuclei.training import AnnotatedImage, FitSettings, evaluate, fit, read_annotations, train_model
from hcs_nuclei.training import checkpoint as checkpoints
from hcs_nuclei.training.annotations import data_hash
from hcs_nuclei.training.dataset import fixed_crops
from hcs_nuclei.training.fit import CHECKPOINT, HISTORY_FILE, WEIGHTS_FILE, read_history

# Keras asks TensorFlow's variables for arrays in NumPy 1's way.
pytestmark = [
    pytest.mark.usefixtures("tiny_architectures"),
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]
#: The module: its name in the package is that of the function.
fit_module = sys.modules["hcs_nuclei.training.fit"]


@pytest.fixture(scope="module")
def annotated_folder(training_images: list[AnnotatedImage], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same fields as a data set on disk: two to train on, one for validation, one for the test."""
    root = tmp_path_factory.mktemp("annotated")
    for folder in ("images", "labels"):
        (root / folder).mkdir()
    for pair in training_images:
        tifffile.imwrite(root / "images" / f"{pair.name}.tif", pair.image)
        tifffile.imwrite(root / "labels" / f"{pair.name}.tif", pair.labels.astype(np.uint16))
    (root / "index.csv").write_text("name,split\nf0,train\nf1,train\nf2,val\nf3,test\n")
    return root


@pytest.mark.parametrize(
    "precision",
    ["float32", *(pytest.param(mixed, marks=pytest.mark.slow) for mixed in ("mixed_bfloat16", "mixed_float16"))],
)
def test_an_epoch_leaves_its_history_and_what_resumes_it(
    training_images: list[AnnotatedImage], tmp_path: Path, precision: str
) -> None:
    import keras

    settings = SETTINGS.model_copy(update={"epochs": 1, "precision": precision})
    network = fit(training_images[:3], training_images[3:], settings, tmp_path)
    (row,) = read_history(tmp_path / HISTORY_FILE)

    assert set(row) == {"epoch", "loss", "nucleus_accuracy", "val_loss", "val_nucleus_accuracy", "seconds"}
    assert row["epoch"] == 1
    assert all(np.isfinite(value) for value in row.values())
    assert [path.name for path in (tmp_path / CHECKPOINT).iterdir() if path.suffix == ".h5"] == [
        "epoch-00001.weights.h5"
    ]
    assert all(np.isfinite(weights).all() for weights in weights_of(network))
    assert keras.config.dtype_policy().name == "float32"  # as it was before


@pytest.mark.parametrize(
    ("processor", "precision"),
    [
        ("avx512f avx512_bf16 avx_vnni", "float32"),
        ("avx512_bf16 amx_bf16 amx_tile", "mixed_bfloat16"),
        (None, "float32"),
    ],
    ids=["avx-512", "amx", "not linux"],
)
def test_bfloat16_is_used_where_the_processor_has_units_for_it(
    processor: str | None, precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    if processor is not None:
        cpuinfo.write_text(f"processor\t: 0\nflags\t\t: fpu {processor}\nbugs\t\t:\n")
    monkeypatch.setattr("hcs_nuclei.segmentation.backend.gpu_visible", lambda: False)
    monkeypatch.setattr("hcs_nuclei.segmentation.backend.CPUINFO", cpuinfo)

    assert FitSettings().for_this_machine().precision == precision
    assert FitSettings(precision="mixed_float16").for_this_machine().precision == "mixed_float16"


def test_on_a_gpu_bfloat16_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hcs_nuclei.segmentation.backend.gpu_visible", lambda: True)
    assert FitSettings().for_this_machine().precision == "mixed_bfloat16"


def test_what_is_returned_and_stored_are_the_averaged_weights_that_were_validated(
    training_images: list[AnnotatedImage], tmp_path: Path
) -> None:
    network = fit(training_images[:3], training_images[3:], SETTINGS, tmp_path)
    averaged = weights_of(network)
    history = read_history(tmp_path / HISTORY_FILE)
    crops = fixed_crops(training_images[3:], size=SETTINGS.crop_px)
    validated = network.evaluate(*crops, batch_size=SETTINGS.batch, return_dict=True, verbose=0)
    checkpoints.restore(network, tmp_path / CHECKPOINT)
    trained = weights_of(network)
    kept = [np.asarray(average) for average in network.optimizer._model_variables_moving_average]

    assert validated == pytest.approx(
        {name: history[-1][f"val_{name}"] for name in ("loss", "nucleus_accuracy")}, rel=1e-4
    )
    assert max(float(np.abs(a - t).max()) for a, t in zip(averaged, trained, strict=True)) > 1e-3
    network.optimizer.finalize_variable_values(network.trainable_variables)
    for variable, average in zip(network.trainable_variables, kept, strict=True):
        np.testing.assert_array_equal(variable.value, average)
    for ours, kept_there in zip(weights_of(network), averaged, strict=True):
        np.testing.assert_allclose(ours, kept_there, atol=1e-6)
    write_weights(network, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / WEIGHTS_FILE).read_bytes()


@pytest.mark.parametrize(
    ("epochs", "decay_epochs", "step", "share"),
    [
        (10, 2, 0, 0.25),  # four batches of warm-up
        (10, 2, 2, 0.75),
        (10, 2, 3, 1.0),
        (10, 2, 4, 1.0),
        (10, 2, 79, 1.0),
        (10, 2, 80, 1.0),  # 20 batches from the end the fall begins
        (10, 2, 85, 0.75),
        (10, 2, 99, 0.05),
        (12, 2, 85, 1.0),  # given two epochs more it has not begun
        (10, 0, 99, 1.0),
        (2, 8, 10, 0.5),  # all of a short training
    ],
)
def test_the_rate_rises_stays_and_falls(epochs: int, decay_epochs: int, step: int, share: float) -> None:
    settings = FitSettings(
        epochs=epochs, decay_epochs=decay_epochs, batches_per_epoch=10, warmup_batches=4, learning_rate=2e-3
    )

    assert float(fit_module._schedule(settings)(step)) == pytest.approx(2e-3 * share, rel=1e-5)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_network(training_images: list[AnnotatedImage], tmp_path: Path) -> None:
    one, other = (fit(training_images[:3], training_images[3:], SETTINGS, tmp_path / name) for name in "ab")

    for a, b in zip(weights_of(one), weights_of(other), strict=True):
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
    figures = evaluate(held_out, segmenter).figures
    assert figures["nuclei"] == np.unique(held_out[0].labels).size - 1
    assert 0 <= figures["pooled_ap_mean"] <= 1


def test_a_data_set_without_the_splits_is_refused_before_anything_is_written(
    annotated_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "unsplit").mkdir()
    for folder in ("images", "labels"):
        (tmp_path / "unsplit" / folder).symlink_to(annotated_folder / folder)

    with pytest.raises(DatasetError, match="holds no annotated images of split train"):
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


def test_the_hash_of_the_data_is_that_of_names_pixels_and_labels(training_images: list[AnnotatedImage]) -> None:
    other_labels = AnnotatedImage("f0", training_images[0].image, training_images[0].labels * 0, "train", "")
    other_name = AnnotatedImage("g0", training_images[0].image, training_images[0].labels, "train", "")
    hashes = [
        data_hash(sets)
        for sets in (
            training_images,
            training_images[:3],
            [other_labels, *training_images[1:]],
            [other_name, *training_images[1:]],
        )
    ]

    assert len(set(hashes)) == 4
    assert data_hash(list(training_images)) == hashes[0]
