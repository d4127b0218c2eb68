"""Annotated images in, a model directory out: fit, tune the thresholds on validation, evaluate, write the card."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hcs_nuclei.errors import DatasetError
from hcs_nuclei.models.card import ModelCard, load_network, write_card, write_weights
from hcs_nuclei.segmentation.backend import import_keras
from hcs_nuclei.segmentation.diameter import estimate_diameter
from hcs_nuclei.segmentation.instances import InstanceSettings
from hcs_nuclei.segmentation.network import flops_per_pixel
from hcs_nuclei.segmentation.predict import Segmentation, Segmenter
from hcs_nuclei.training.annotations import AnnotatedImage, read_annotations
from hcs_nuclei.training.evaluation import evaluate, field_seconds
from hcs_nuclei.training.fit import HISTORY_FILE, WEIGHTS_FILE, FitSettings, fit, read_history
from hcs_nuclei.training.report import REPORT_FILE, write_report
from hcs_nuclei.training.tuning import tune

#: A model trained on smaller objects than this counts them as debris, px².
MINIMUM_AREA_PX = 20


def train_model(
    datasets: Sequence[Path],
    out: Path,
    settings: FitSettings,
    *,
    modality: str | None = "fluorescence",
    name: str = "",
    verbose: int = 0,
) -> ModelCard:
    """Train on the `train` split of `datasets`, choose thresholds on `val`, and write the model into `out`.

    Called again with the same arguments after an interruption it goes on from the last finished epoch.

    Raises:
        DatasetError: a data set cannot be used, or has no such splits.
    """
    started = time.time()
    training = _split(datasets, "train", modality)
    validation = _split(datasets, "val", modality)
    network = fit(training, validation, settings, out, verbose=verbose)
    return finish_model(network, training, validation, out, settings, name=name, started=started)


def finish_model(
    network: Any,
    training: Sequence[AnnotatedImage],
    validation: Sequence[AnnotatedImage],
    out: Path,
    settings: FitSettings,
    *,
    name: str = "",
    started: float,
) -> ModelCard:
    """Weights, thresholds, evaluation on validation, card and report of a network that :func:`fit` trained."""
    keras = import_keras()
    weights = write_weights(network, out / WEIGHTS_FILE)
    card = ModelCard(
        name=name or f"{settings.architecture}-{weights.sha256[:8]}",
        description=f"{settings.architecture} trained on {len(training)} annotated images",
        architecture=settings.architecture,
        weights=weights,
        training_diameter_px=training_diameter(training),
        instances=InstanceSettings(),
        flops_per_pixel=flops_per_pixel(network),
        parameters=network.count_params(),
        training={
            "images": len(training),
            "nuclei": int(sum(np.unique(pair.labels).size - 1 for pair in training)),
            "data_sha256": data_hash(training),
            "settings": settings.model_dump(mode="json"),
            "epochs": len(read_history(out / HISTORY_FILE)),
            "seconds_in_the_last_sitting": round(time.time() - started),
            "keras": keras.__version__,
            "backend": keras.backend.backend(),
        },
    )
    # What is tuned and evaluated is what will be used: the stored weights, not those in memory.
    segmenter = Segmenter(load_network(out, card), card.instances, card.training_diameter_px)
    # Thresholds are for the images that plates are made of, where there are any of them.
    main = [pair for pair in validation if pair.modality == "fluorescence"] or list(validation)
    predictions = [segmenter.prediction_for(p.image, estimate_diameter(segmenter, [p.image])) for p in main]
    instances, confidence = tune(segmenter, predictions, [p.labels for p in main], minimum_area_px=MINIMUM_AREA_PX)

    def segment(image: npt.NDArray[Any]) -> Segmentation:
        diameter = estimate_diameter(segmenter, [image])
        return segmenter(image, diameter_px=diameter, minimum_area_px=MINIMUM_AREA_PX)

    evaluation = evaluate(validation, segment)
    found = {"instances": instances, "confidence": confidence, "evaluation": {"val": evaluation.figures}}
    card = card.model_copy(update=found)
    write_card(out, card)
    write_report(
        out / REPORT_FILE,
        card,
        evaluation,
        network=network,
        data={"Split": "val", "SHA-256": data_hash(validation)},
        seconds_per_field=field_seconds(segmenter, validation[0].image),
        history=read_history(out / HISTORY_FILE),
    )
    return card


def training_diameter(annotated: Sequence[AnnotatedImage]) -> float:
    """Median equivalent diameter (px) of all nuclei of `annotated`, rounded to 0.1."""
    areas = np.concatenate([np.bincount(pair.labels.ravel())[1:] for pair in annotated])
    return round(float(np.median(2 * np.sqrt(areas[areas > 0] / np.pi))), 1)


def data_hash(annotated: Sequence[AnnotatedImage]) -> str:
    """sha256 (hex) over names, pixels and labels, in order."""
    digest = hashlib.sha256()
    for pair in annotated:
        digest.update(pair.name.encode())
        digest.update(np.ascontiguousarray(pair.image).tobytes())
        digest.update(pair.labels.tobytes())
    return digest.hexdigest()


def _split(datasets: Sequence[Path], split: str, modality: str | None) -> list[AnnotatedImage]:
    pairs: list[AnnotatedImage] = []
    lacking: list[str] = []
    for dataset in datasets:
        try:
            pairs += read_annotations(dataset, split=split, modality=modality)
        except DatasetError as error:
            if "holds no annotated images" not in str(error):
                raise
            lacking.append(str(error))
    if not pairs:
        raise DatasetError("\n".join(lacking))
    return pairs
