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
from pydantic import ValidationError

from hcs_nuclei.cli import main
from hcs_nuclei.errors import DatasetError, ModelError, RunConflictError
from hcs_nuclei.models import ModelCard, load_model, read_card
from hcs_nuclei.models.card import write_card, write_weights
from hcs_nuclei.segmentation import network as networks
from hcs_nuclei.segmentation.instances import InstanceSettings
from hcs_nuclei.segmentation.mobilenet import encoder_layers, mobilenetv2_unet
from hcs_nuclei.segmentation.targets import BORDER, DISTANCE, NUCLEUS, OFFSET_X, OFFSET_Y, TARGETS, make_targets
from hcs_nuclei.simulate import simulate_field
from hcs_nuclei.training import AnnotatedImage, FitSettings, evaluate, fit, read_annotations, train_model
from hcs_nuclei.training import checkpoint as checkpoints
from hcs_nuclei.training.annotations import data_hash
from hcs_nuclei.training.dataset import fixed_crops
from hcs_nuclei.training.fit import (
    CHECKPOINT,
    HISTORY_FILE,
    WEIGHTS_FILE,
    loss,
    nucleus_accuracy,
    read_history,
    start_from,
)

# Keras asks TensorFlow's variables for arrays in NumPy 1's way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

#: The module: its name in the package is that of the function.
fit_module = sys.modules["hcs_nuclei.training.fit"]
SETTINGS = FitSettings(
    architecture="tiny",
    epochs=2,
    batches_per_epoch=5,  # enough for their order to be another wherever it is not fixed
    batch=2,
    crop_px=64,
    learning_rate=3e-3,
    warmup_batches=1,
    decay_epochs=1,
    precision="float32",
)


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two architectures that are built and trained at once, one of them under the name that has an encoder."""
    monkeypatch.setitem(networks.ARCHITECTURES, "tiny", partial(networks.unet, filters=(4, 8), head_filters=4))
    monkeypatch.setitem(
        networks.ARCHITECTURES, "mobilenetv2-unet", partial(mobilenetv2_unet, filters=(8, 8, 8, 8), alpha=0.35)
    )


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


@pytest.mark.parametrize(
    "precision",
    ["float32", *(pytest.param(mixed, marks=pytest.mark.slow) for mixed in ("mixed_bfloat16", "mixed_float16"))],
)
def test_an_epoch_leaves_its_history_and_what_resumes_it(
    images: list[AnnotatedImage], tmp_path: Path, precision: str
) -> None:
    import keras

    settings = SETTINGS.model_copy(update={"epochs": 1, "precision": precision})
    network = fit(images[:3], images[3:], settings, tmp_path)
    (row,) = read_history(tmp_path / HISTORY_FILE)

    assert set(row) == {"epoch", "loss", "nucleus_accuracy", "val_loss", "val_nucleus_accuracy", "seconds"}
    assert row["epoch"] == 1
    assert all(np.isfinite(value) for value in row.values())
    assert [path.name for path in (tmp_path / CHECKPOINT).iterdir() if path.suffix == ".h5"] == [
        "epoch-00001.weights.h5"
    ]
    assert all(np.isfinite(weights).all() for weights in _weights(network))
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


def test_a_training_may_go_on_in_another_precision(images: list[AnnotatedImage], tmp_path: Path) -> None:
    first = SETTINGS.model_copy(update={"epochs": 1, "precision": "mixed_bfloat16"})
    fit(images[:3], images[3:], first, tmp_path)
    fit(images[:3], images[3:], SETTINGS.model_copy(update={"epochs": 2}), tmp_path)

    assert [row["epoch"] for row in read_history(tmp_path / HISTORY_FILE)] == [1, 2]


@pytest.mark.parametrize("precisions", [("float32", "mixed_float16"), ("mixed_float16", "float32")])
def test_nothing_leads_to_or_from_a_scaled_loss(
    precisions: tuple[str, str], images: list[AnnotatedImage], tmp_path: Path
) -> None:
    """The optimizer around the optimizer has a state of its own."""
    first, second = (SETTINGS.model_copy(update={"epochs": 1, "precision": p}) for p in precisions)
    fit(images[:3], images[3:], first, tmp_path)
    with pytest.raises(RunConflictError, match="loss_is_scaled"):
        fit(images[:3], images[3:], second, tmp_path)


def test_epochs_that_no_checkpoint_knows_are_forgotten(
    images: list[AnnotatedImage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _killed(monkeypatch, images, SETTINGS, tmp_path)
    assert len(read_history(tmp_path / HISTORY_FILE)) == 2
    fit(images[:3], images[3:], SETTINGS.model_copy(update={"epochs": 1}), tmp_path)

    assert [row["epoch"] for row in read_history(tmp_path / HISTORY_FILE)] == [1]


def _killed(monkeypatch: pytest.MonkeyPatch, images: list[AnnotatedImage], settings: FitSettings, out: Path) -> None:
    """A training that stops while it stores the checkpoint of its last epoch, before this has its name."""
    save = checkpoints.save

    def interrupted(network: Any, directory: Path, epochs: int) -> None:
        if epochs == settings.epochs:
            (directory / ".tmp-epoch-half.weights.h5").write_bytes(b"half")
            raise KeyboardInterrupt
        save(network, directory, epochs)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fit(images[:3], images[3:], settings, out)


def _assert_same_path(whole: Any, parts: Any, whole_out: Path, parts_out: Path) -> None:
    """Histories and final weights are the same."""
    one, other = (read_history(out / HISTORY_FILE) for out in (whole_out, parts_out))
    assert len(one) == len(other)
    for expected, row in zip(one, other, strict=True):
        assert min(row.pop("seconds"), expected.pop("seconds")) > 0
        assert row == pytest.approx(expected, rel=1e-4)
    for weights, resumed in zip(_weights(whole), _weights(parts), strict=True):
        np.testing.assert_allclose(resumed, weights, atol=1e-4)


def test_an_interrupted_training_ends_where_an_uninterrupted_one_does(
    images: list[AnnotatedImage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = fit(images[:3], images[3:], SETTINGS, tmp_path / "whole")
    _killed(monkeypatch, images, SETTINGS, tmp_path / "parts")
    first = read_history(tmp_path / "parts" / HISTORY_FILE)[:1]
    resumed = fit(images[:3], images[3:], SETTINGS, tmp_path / "parts")

    assert read_history(tmp_path / "parts" / HISTORY_FILE)[:1] == first
    _assert_same_path(whole, resumed, tmp_path / "whole", tmp_path / "parts")
    assert sorted(path.name for path in (tmp_path / "parts" / CHECKPOINT).iterdir()) == [
        "epoch-00002.weights.h5",
        "settings.json",
    ]


@pytest.mark.slow
def test_a_training_can_be_given_more_epochs_before_its_rate_falls(
    images: list[AnnotatedImage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    longer = SETTINGS.model_copy(update={"epochs": 3})
    whole = fit(images[:3], images[3:], longer, tmp_path / "whole")
    _killed(monkeypatch, images, SETTINGS, tmp_path / "parts")
    resumed = fit(images[:3], images[3:], longer, tmp_path / "parts")

    _assert_same_path(whole, resumed, tmp_path / "whole", tmp_path / "parts")


def test_what_is_returned_and_stored_are_the_averaged_weights_that_were_validated(
    images: list[AnnotatedImage], tmp_path: Path
) -> None:
    network = fit(images[:3], images[3:], SETTINGS, tmp_path)
    averaged = _weights(network)
    history = read_history(tmp_path / HISTORY_FILE)
    crops = fixed_crops(images[3:], size=SETTINGS.crop_px)
    validated = network.evaluate(*crops, batch_size=SETTINGS.batch, return_dict=True, verbose=0)
    checkpoints.restore(network, tmp_path / CHECKPOINT)
    trained = _weights(network)
    kept = [np.asarray(average) for average in network.optimizer._model_variables_moving_average]

    assert validated == pytest.approx(
        {name: history[-1][f"val_{name}"] for name in ("loss", "nucleus_accuracy")}, rel=1e-4
    )
    assert max(float(np.abs(a - t).max()) for a, t in zip(averaged, trained, strict=True)) > 1e-3
    network.optimizer.finalize_variable_values(network.trainable_variables)
    for variable, average in zip(network.trainable_variables, kept, strict=True):
        np.testing.assert_array_equal(variable.value, average)
    for ours, kept_there in zip(_weights(network), averaged, strict=True):
        np.testing.assert_allclose(ours, kept_there, atol=1e-6)
    write_weights(network, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / WEIGHTS_FILE).read_bytes()


def test_a_checkpoint_of_another_training_is_refused_and_kept(images: list[AnnotatedImage], tmp_path: Path) -> None:
    fit(images[:3], images[3:], SETTINGS, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    other = SETTINGS.model_copy(update={"seed": 1, "batch": 1})

    with pytest.raises(RunConflictError, match="batch 2 there, 1 asked for, seed 0 there, 1 asked for"):
        fit(images[:3], images[3:], other, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    with pytest.raises(RunConflictError, match="data_sha256"):
        fit(images[:2], images[3:], SETTINGS, tmp_path)
    with pytest.raises(RunConflictError, match="2 epochs long already, and 1 are asked for"):
        fit(images[:3], images[3:], SETTINGS.model_copy(update={"epochs": 1}), tmp_path)


def test_a_checkpoint_that_cannot_be_read_is_said(images: list[AnnotatedImage], tmp_path: Path) -> None:
    (tmp_path / CHECKPOINT).mkdir()
    (tmp_path / CHECKPOINT / "epoch-00001.weights.h5").write_bytes(b"damaged")

    with pytest.raises(ModelError, match=r"epoch-00001\.weights\.h5 cannot be read.* Remove it"):
        fit(images[:3], images[3:], SETTINGS, tmp_path)


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


def test_the_hash_of_the_data_is_that_of_names_pixels_and_labels(images: list[AnnotatedImage]) -> None:
    other_labels = AnnotatedImage("f0", images[0].image, images[0].labels * 0, "train", "")
    other_name = AnnotatedImage("g0", images[0].image, images[0].labels, "train", "")
    hashes = [data_hash(sets) for sets in (images, images[:3], [other_labels, *images[1:]], [other_name, *images[1:]])]

    assert len(set(hashes)) == 4
    assert data_hash(list(images)) == hashes[0]


def test_the_loss_is_least_for_the_truth_and_feels_every_target(images: list[AnnotatedImage]) -> None:
    truth = make_targets(images[0].labels)[None]
    assert truth[..., BORDER].any()
    best = float(loss(truth, truth))
    worse = []
    for channel in range(TARGETS):
        wrong = truth.copy()
        wrong[..., channel] = 1 - wrong[..., channel]
        worse.append(float(loss(truth, wrong)))

    assert {NUCLEUS, BORDER, DISTANCE, OFFSET_Y, OFFSET_X} == set(range(TARGETS))
    assert best < 0.01
    assert min(worse) > 0.3


def test_the_loss_by_hand_where_nothing_is_known() -> None:
    truth = np.zeros((1, 4, 4, TARGETS), np.float32)
    truth[0, :2, :, NUCLEUS] = 1
    truth[0, :2, :, OFFSET_Y] = 0.9
    truth[0, 2:, :, OFFSET_Y] = 0.1  # outside of nuclei, where it does not count
    unsure = np.full_like(truth, 0.5)
    entropy = np.log(2)
    expected = (
        0.5 * entropy  # nucleus
        + 0.3 * (1 - (2 * 4 + 1) / (8 + 8 + 1))
        + 0.5 * entropy  # border, of which there is none
        + 0.2 * (1 - 1 / (8 + 1))
        + 2 * 0.5  # distance
        + 2 * (8 * 0.4 / (8 + 1) + 8 * 0.5 / (8 + 1))  # offsets, over the 8 pixels of nuclei
    )

    assert float(loss(truth, unsure)) == pytest.approx(expected, rel=1e-5)


def test_a_missed_border_costs_five_times_an_invented_one() -> None:
    none = np.zeros((1, 4, 4, TARGETS), np.float32)
    border = none.copy()
    border[..., BORDER] = 1
    unsure = none.copy()
    unsure[..., BORDER] = 0.5
    dice = 0.2 * (1 - (2 * 8 + 1) / (16 + 8 + 1)), 0.2 * (1 - 1 / (8 + 1))

    assert float(loss(border, unsure)) - dice[0] == pytest.approx(0.5 * 5 * np.log(2), rel=1e-3)
    assert float(loss(none, unsure)) - dice[1] == pytest.approx(0.5 * np.log(2), rel=1e-3)


def test_accuracy_is_the_share_of_pixels_called_rightly() -> None:
    truth = np.zeros((1, 2, 4, TARGETS), np.float32)
    truth[0, 0, :, NUCLEUS] = 1
    said = truth.copy()
    said[0, 0, 0, NUCLEUS], said[0, 1, 1, NUCLEUS] = 0.4, 0.6

    assert float(nucleus_accuracy(truth, said)) == pytest.approx(6 / 8)


def _parent(directory: Path, architecture: str = "tiny") -> ModelCard:
    """A model on disk whose weights no seed of ours gives."""
    import keras

    keras.utils.set_random_seed(77)
    directory.mkdir()
    card = ModelCard(
        name="parent",
        architecture=architecture,
        weights=write_weights(networks.build_network(architecture), directory / WEIGHTS_FILE),
        training_diameter_px=20,
        instances=InstanceSettings(),
        flops_per_pixel=1,
        parameters=1,
    )
    write_card(directory, card)
    return card


STANDING = {"epochs": 1, "batches_per_epoch": 1, "learning_rate": 1e-12, "precision": "float32"}


def test_a_training_starts_from_the_weights_of_another_model(images: list[AnnotatedImage], tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    card = _parent(tmp_path / "parent")
    settings = start_from(str(tmp_path / "parent"), **STANDING, batch=1, crop_px=64)
    network = fit(images[:1], images[3:], settings, tmp_path / "child")
    stored = load_file(tmp_path / "parent" / WEIGHTS_FILE)

    assert (settings.architecture, settings.parent) == ("tiny", card.identifier)
    assert settings.model_dump(mode="json")["parent"] == card.identifier
    assert str(tmp_path) not in settings.model_dump_json()
    for variable in network.trainable_variables:
        np.testing.assert_allclose(variable.value, stored[variable.path].astype(np.float32), atol=1e-6)


def test_a_parent_of_another_architecture_or_changed_since_is_said(
    images: list[AnnotatedImage], tmp_path: Path
) -> None:
    card = _parent(tmp_path / "parent")

    with pytest.raises(ModelError, match=r"parent \(.{12}\) has architecture 'tiny', and 'unet' is asked for"):
        start_from(str(tmp_path / "parent"), architecture="unet")
    changed = FitSettings(architecture="tiny", parent="0123456789ab", parent_directory=tmp_path / "parent")
    with pytest.raises(ModelError, match=f"is {card.identifier}; the training is to start from 0123456789ab"):
        fit(images[:1], images[3:], changed, tmp_path / "child")
    assert not (tmp_path / "child").exists()


def test_a_frozen_encoder_stays_as_it_began(images: list[AnnotatedImage], tmp_path: Path) -> None:
    _parent(tmp_path / "parent", "mobilenetv2-unet")
    settings = start_from(
        str(tmp_path / "parent"), **STANDING | {"learning_rate": 1e-2}, batch=2, crop_px=64, freeze_encoder=True
    )
    network = fit(images[:3], images[3:], settings, tmp_path / "child")
    began = fit_module._starting_network(settings)
    changed = {
        one.path.split("/")[0]
        for one, other in zip(network.variables, began.variables, strict=True)
        if not np.allclose(one.value, other.value, atol=1e-6)
    }

    encoder = {layer.name for layer in encoder_layers(network)}
    assert len(encoder) > 90
    assert not changed & encoder
    assert {"up0_conv", "up0_BN", "targets"} <= changed


def test_normalisations_may_stay_those_of_the_parent(images: list[AnnotatedImage], tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    _parent(tmp_path / "parent")
    few = STANDING | {"learning_rate": 1e-2, "batches_per_epoch": 3, "warmup_batches": 1}
    settings = start_from(str(tmp_path / "parent"), **few, batch=2, crop_px=64, keep_normalisation=True)
    network = fit(images[:3], images[3:], settings, tmp_path / "child")
    stored = load_file(tmp_path / "parent" / WEIGHTS_FILE)
    moved = {
        variable.path
        for variable in network.variables
        if "seed" not in variable.path
        and not np.allclose(variable.value, stored[variable.path].astype(np.float32), atol=1e-6)
    }
    assert any("_conv/kernel" in path for path in moved)
    assert [path for path in moved if "_norm/" in path] == []
    with pytest.raises(ValidationError, match="has no normalisations to keep"):
        FitSettings(keep_normalisation=True)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--encoder-weights", "imagenet"], "are for mobilenetv2-unet; architecture 'unet' has no such encoder"),
        (["--freeze-encoder"], "are for mobilenetv2-unet; architecture 'unet' has no such encoder"),
        (["--architecture", "resnet"], "known are unet, mobilenetv2-unet"),
        (["--from", "PARENT", "--architecture", "unet"], "has architecture 'mobilenetv2-unet', and 'unet' is asked"),
        (["--from", "PARENT", "--encoder-weights", "imagenet"], "has that model's encoder. Leave out either"),
        (["--from", "nobody"], "There is no model 'nobody'"),
        (["--architecture", "mobilenetv2-unet", "--freeze-encoder"], "begins at random and is frozen learns nothing"),
        (["--learning-rate", "-1"], "--learning-rate -1.0: input should be greater than 0"),
        (["--precision", "double"], "--precision double: input should be 'auto', 'float32', "),
    ],
)
def test_calls_that_do_not_fit_are_refused_before_anything_is_read(
    options: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _parent(tmp_path / "PARENT", "mobilenetv2-unet")
    given = [str(tmp_path / option) if option == "PARENT" else option for option in options]
    status = main(["train", "--data", str(tmp_path / "nowhere"), "--out", str(tmp_path / "out"), *given])

    assert status == 2
    assert said in " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert not (tmp_path / "out").exists()
