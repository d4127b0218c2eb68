"""What training images look like, as a table of the card: others of their kind are familiar, other kinds are not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from quality_fields import defocused, field_of

from hcs_nuclei.models.store import resolve_model
from hcs_nuclei.segmentation.familiarity import FieldStatistics
from hcs_nuclei.training.annotations import AnnotatedImage, read_annotations
from hcs_nuclei.training.field_statistics import FEWEST_IMAGES, described, field_statistics


def pair(seed: int, *, modality: str = "fluorescence", blur_px: float = 0.0) -> AnnotatedImage:
    field = field_of(seed, nuclei=14, size=200)
    image = defocused(field.images["DAPI"], blur_px, seed)
    return AnnotatedImage(f"{seed}", image, field.labels.astype(np.int32), "train", modality)


@pytest.fixture(scope="module")
def pairs() -> list[AnnotatedImage]:
    return [pair(seed) for seed in range(FEWEST_IMAGES + 10)]


def distances(table: FieldStatistics, images: Sequence[AnnotatedImage]) -> npt.NDArray[Any]:
    return table.distance(np.concatenate([described(image) for image in images]))


def test_others_of_their_kind_are_familiar_and_blurred_ones_are_not(pairs: list[AnnotatedImage]) -> None:
    table = field_statistics(pairs)
    assert table is not None
    assert table.images == len(pairs)
    assert np.mean(distances(table, [pair(seed) for seed in range(100, 120)]) > table.limit) <= 0.1
    assert (distances(table, [pair(seed, blur_px=6) for seed in range(100, 110)]) > table.limit).all()


def test_too_few_images_say_nothing(pairs: list[AnnotatedImage]) -> None:
    assert field_statistics(pairs[: FEWEST_IMAGES - 1]) is None
    assert field_statistics([]) is None


def test_the_images_that_plates_are_like_count_where_there_are_any(pairs: list[AnnotatedImage]) -> None:
    others = [pair(seed, modality="histology", blur_px=6) for seed in range(200, 210)]
    assert field_statistics([*pairs, *others]) == field_statistics(pairs)


def test_the_shipped_model_knows_held_out_images_of_its_kind(shared_data: Path) -> None:
    _, card = resolve_model()
    assert card.field_statistics is not None
    assert card.field_statistics.images > 300
    held_out = read_annotations(shared_data / "dsb2018" / "stage1_train.zip", split="val")
    far = {
        kind: distances(
            card.field_statistics, [image for image in held_out if (image.modality == "fluorescence") == kind]
        )
        > card.field_statistics.limit
        for kind in (True, False)
    }
    assert far[True].mean() < 0.05
    assert far[False].mean() > 0.3
