"""The gate's rules, one by one, and what a comparison of two models says and writes."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from pipeline_runs import FinishedRun, other_model
from segmentation_samples import crowded_scene

from hcs_nuclei.cli import main
from hcs_nuclei.models.card import read_card
from hcs_nuclei.models.store import SHIPPED, resolve_model
from hcs_nuclei.segmentation.predict import Segmentation
from hcs_nuclei.simulate import simulate_field
from hcs_nuclei.training import train_model
from hcs_nuclei.training.annotations import AnnotatedImage
from hcs_nuclei.training.comparison import (
    EMPTY,
    Comparison,
    ImageSet,
    SetSource,
    assemble,
    compare_models,
    empty_set,
    read_set,
)
from hcs_nuclei.training.comparison_report import write_comparison
from hcs_nuclei.training.evaluation import ComparedImage, compare_image
from hcs_nuclei.training.fit import start_from
from hcs_nuclei.training.gate import ComparedSet, GateSettings, judge

Labels = npt.NDArray[np.int32]
Finds = Callable[[Labels], Labels]


def _set(
    before: dict[str, Any], now: dict[str, Any], kind: Literal["frozen", "new", "empty"] = "frozen", name: str = "old"
) -> ComparedSet:
    plain = {"images": 5, "nuclei": 500, "predicted": 0, "pooled_ap_mean": 0.7, "count_error": 0.1}

    def figures(others: dict[str, Any]) -> dict[str, Any]:
        lenient = others.get("lenient", 0.9)
        by_iou = {"0.50": lenient + 0.02, "0.55": lenient + 0.01, "0.60": lenient, "0.65": lenient - 0.01}
        return {**plain, "pooled_ap": {**by_iou, "0.70": lenient - 0.02, "0.75": 0.1}, **others}

    return ComparedSet(name, kind, figures(before), figures(now))


@pytest.mark.parametrize(
    ("kind", "figure", "before", "now", "passes"),
    [
        ("frozen", "pooled_ap_mean", 0.70, 0.69, True),
        ("frozen", "pooled_ap_mean", 0.70, 0.689, False),
        ("frozen", "count_error", 0.10, 0.12, True),
        ("frozen", "count_error", 0.10, 0.121, False),
        ("new", "lenient", 0.90, 0.90, True),
        ("new", "lenient", 0.90, 0.899, False),
        ("new", "pooled_ap_mean", 0.98, 0.78, True),
        ("new", "count_error", 0.10, 0.12, True),
        ("new", "count_error", 0.10, 0.121, False),
        ("empty", "predicted", 0, 0, True),
        ("empty", "predicted", 0, 1, False),
        ("empty", "predicted", 3, 2, True),
    ],
)
def test_each_rule_at_its_limit(
    kind: Literal["frozen", "new", "empty"], figure: str, before: float, now: float, passes: bool
) -> None:
    verdict = judge([_set({}, {}, name="same"), _set({figure: before}, {figure: now}, kind)])

    assert verdict.passed is passes
    assert len(verdict.reasons) == (not passes)
    assert all(reason.startswith("old: ") for reason in verdict.reasons)


def test_limits_can_be_others() -> None:
    gate = GateSettings(ap_loss=0.05, ap_gain=0.02, count_error_rise=0.0, fewest_nuclei=501)
    sets = [
        _set({"nuclei": 501}, {"pooled_ap_mean": 0.66, "count_error": 0.11}),
        _set({}, {"lenient": 0.915}, "new", name="mine"),
    ]

    assert judge(sets, gate).reasons == (
        "old: count error 10.0% → 11.0% (+1.0%; at most +0.0% is allowed)",
        "mine: 500 annotated nuclei; 501 or more are asked for",
        "mine: pooled AP at IoU 0.50 to 0.70 0.900 → 0.915 (+0.015; at least +0.020 is asked for)",
    )


def test_without_a_frozen_set_nothing_passes() -> None:
    verdict = judge([_set({}, {"lenient": 0.95}, "new")])
    assert not verdict.passed
    assert "there is no frozen set" in verdict.reasons[0]


def _images(name: str, count: int = 3) -> list[AnnotatedImage]:
    truths = [crowded_scene(np.random.default_rng(seed), (220, 220), (9, 11), 45) for seed in range(count)]
    return [AnnotatedImage(f"{name}{i}", truth, truth, "test", "fluorescence") for i, truth in enumerate(truths)]


def _found(images: ImageSet, finds: Finds) -> list[ComparedImage]:
    compared = []
    for pair in images.images:
        labels = np.unique(finds(pair.labels), return_inverse=True)[1].reshape(pair.labels.shape)
        confidence = np.full(int(labels.max()), 0.9, np.float32)
        compared.append(compare_image(pair, Segmentation(labels.astype(np.uint32), confidence)))
    return compared


def _eroded(labels: Labels) -> Labels:
    """Outlines one pixel too far inside, as a model's that is good and no more."""
    same = np.ones(labels.shape, bool)
    for axis in (0, 1):
        for by in (-1, 1):
            same &= np.roll(labels, by, axis) == labels
    return labels * same


def _shifted(labels: Labels) -> Labels:
    """What a network finds that was trained on masks 15 px below and right of their nuclei."""
    moved = np.zeros_like(labels)
    moved[15:, 15:] = labels[:-15, :-15]
    return moved


def _compared(frozen: Finds, new: Finds) -> Comparison:
    sets = [ImageSet("old", "frozen", _images("a")), ImageSet("mine", "new", _images("b")), empty_set()]
    before = [_found(one, _eroded) for one in sets]
    now = [_found(one, finds) for one, finds in zip(sets, (frozen, new, _eroded), strict=True)]
    card = read_card(SHIPPED)
    return assemble(card, card.model_copy(update={"name": "candidate"}), sets, before, now)


def test_a_model_that_is_better_passes() -> None:
    comparison = _compared(lambda labels: labels, lambda labels: labels)

    assert comparison.verdict.passed
    assert [image.change > 0 for image in comparison.images] == [False] * 4 + [True] * 6
    assert comparison.as_lines()[-1] == "The candidate may take its place."


def test_a_model_of_shifted_masks_is_refused_though_it_is_better_on_what_it_was_taught() -> None:
    comparison = _compared(_shifted, lambda labels: labels)

    assert not comparison.verdict.passed
    (reason,) = (reason for reason in comparison.verdict.reasons if "AP" in reason)
    assert reason.startswith("old: mean pooled AP 0.")
    assert [image.set for image in comparison.images[:3]] == ["old"] * 3


def test_the_empty_fields_are_the_same_each_time_and_without_nuclei() -> None:
    first, second = empty_set(), empty_set()

    for a, b in zip(first.images, second.images, strict=True):
        np.testing.assert_array_equal(a.image, b.image)
        assert not a.labels.any()
    assert len({pair.image.tobytes() for pair in first.images}) == len(first.images)


def test_a_report_says_what_got_better_and_worse(tmp_path: Path) -> None:
    comparison = _compared(_shifted, lambda labels: labels)
    write_comparison(tmp_path / "comparison.html", comparison)
    page = (tmp_path / "comparison.html").read_text(encoding="utf-8")

    assert "The candidate is refused" in page
    worse, better = page.split('id="worse"')[1].split('id="better"')
    assert all(f">a{i}<" in worse for i in range(3))
    assert all(f">b{i}<" in better for i in range(3))
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")
    told = json.loads(json.dumps(comparison.as_json()))
    assert (told["passed"], [one["kind"] for one in told["sets"]]) == (False, ["frozen", "new", "empty"])
    assert told["reasons"] == list(comparison.verdict.reasons)


def test_the_command_compares_and_its_status_is_the_verdict(
    finished: FinishedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HCS_NUCLEI_HOME", str(tmp_path / "home"))
    data = tmp_path / "frozen"
    (data / "images").mkdir(parents=True)
    (data / "labels").mkdir()
    for well in ("B02", "C02"):
        shutil.copy2(finished.plate / "TimePoint_1" / f"SIM-0001_{well}_s1_w1.TIF", data / "images" / f"{well}.tif")
        shutil.copy2(finished.truth / "labels" / f"{well}_f1.tif", data / "labels" / f"{well}.tif")
    nearly = other_model(tmp_path / "nearly")
    command = ["models", "compare", "default", str(nearly), "--data", str(data), "--split", "all"]

    assert main([*command, "--fewest-nuclei", "5", "--report", str(tmp_path / "r.html")]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == "The candidate may take its place."
    assert re.search(rf"ok +{EMPTY}: nuclei found in 4 fields without any: (\d+) → \1\n", out)
    assert (tmp_path / "r.html").is_file()
    assert main([*command, "--json", "-"]) == 2  # so few nuclei are no evidence
    told = json.loads(capsys.readouterr().out)
    assert told["models"]["candidate"]["id"] == read_card(nearly).identifier
    assert [reason.split(":")[0] for reason in told["reasons"]] == ["frozen"]
    assert main([*command, "--data", str(tmp_path / "absent")]) == 2


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
def test_a_training_on_masks_shifted_by_15_px_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HCS_NUCLEI_HOME", str(tmp_path / "home"))
    splits = ["train"] * 4 + ["val"] * 2 + ["test"] * 4
    for folder, shift in (("right", False), ("shifted", True)):
        for kind in ("images", "labels"):
            (tmp_path / folder / kind).mkdir(parents=True)
        for i in range(len(splits)):
            field = simulate_field(np.random.default_rng(i), size=256, nuclei=32, diameter_px=20)
            labels = field.labels.astype(np.int32)
            tifffile.imwrite(tmp_path / folder / "images" / f"f{i}.tif", field.images["DAPI"])
            tifffile.imwrite(tmp_path / folder / "labels" / f"f{i}.tif", _shifted(labels) if shift else labels)
        rows = "".join(f"f{i},{split}\n" for i, split in enumerate(splits))
        (tmp_path / folder / "index.csv").write_text(f"name,split\n{rows}")
    settings = start_from(
        "default", epochs=2, batches_per_epoch=30, batch=2, crop_px=128, warmup_batches=5, decay_epochs=1
    )
    card = train_model([tmp_path / "shifted"], tmp_path / "model", settings)

    sources = [SetSource(tmp_path / "right", "frozen", "test"), SetSource(tmp_path / "shifted", "new", "test")]
    sets = [read_set(source) for source in [*sources, SetSource(None, "empty")]]
    comparison = compare_models(resolve_model(), (tmp_path / "model", card), sets)
    assert any(reason.startswith("right test: mean pooled AP") for reason in comparison.verdict.reasons)
    assert not comparison.verdict.passed
