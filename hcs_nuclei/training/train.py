"""Annotated images in, a model directory out: fit, tune the thresholds on validation, evaluate, write the card."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hcs_nuclei.errors import DatasetError, NothingAnnotatedError
from hcs_nuclei.models.card import ModelCard, load_network, write_card, write_weights
from hcs_nuclei.models.store import resolve_model
from hcs_nuclei.segmentation.backend import import_keras
from hcs_nuclei.segmentation.confidence import ConfidenceSettings
from hcs_nuclei.segmentation.diameter import estimate_diameter, segment_any_size
from hcs_nuclei.segmentation.instances import InstanceSettings
from hcs_nuclei.segmentation.network import flops_per_pixel
from hcs_nuclei.segmentation.normalise import normalise
from hcs_nuclei.segmentation.predict import Segmenter
from hcs_nuclei.segmentation.scale import TRAINING_DIAMETER_PX
from hcs_nuclei.training.annotations import AnnotatedImage, data_hash, pixels_of, read_annotations
from hcs_nuclei.training.dataset import spoil
from hcs_nuclei.training.evaluation import evaluate, field_seconds
from hcs_nuclei.training.field_statistics import field_statistics
from hcs_nuclei.training.fit import HISTORY_FILE, WEIGHTS_FILE, FitSettings, fit, read_history
from hcs_nuclei.training.place import alone_in, check_place
from hcs_nuclei.training.report import REPORT_FILE, write_report
from hcs_nuclei.training.tuning import tune

logger = logging.getLogger("hcs_nuclei.training")

#: A model trained on smaller objects than this counts them as debris, px².
MINIMUM_AREA_PX = 20
#: One validation image in so many is looked at spoilt as well, for the confidence.
SPOILT_EVERY = 3


def train_model(
    datasets: Sequence[Path],
    out: Path,
    settings: FitSettings,
    *,
    modality: str | None = None,
    name: str = "",
    skip_faulty: bool = False,
    thresholds_of: str | None = None,
    verbose: int = 0,
) -> ModelCard:
    """Train on the `train` split of `datasets`, choose thresholds on `val`, and write the model into `out`.

    Called again with the same arguments after an interruption it goes on from the last finished epoch.

    Args:
        modality: leave out images of any other.
        name: of the model, in its card.
        skip_faulty: go on without images that cannot be used.
        thresholds_of: take thresholds and confidence from this model, which was trained on `train` alone in the same
            way, and train on `val` too. What is then evaluated on `val` says nothing, and is called so.

    Raises:
        DatasetError: data sets cannot be used, or have no such splits; the message holds every fault of all of them.
        ModelError: there is no such model to take thresholds from.
        OutputError: `out` cannot be made.
        RunConflictError: another training writes there, or it holds the checkpoint of another one.
    """
    check_place(out)
    settings = settings.for_this_machine()
    chosen = resolve_model(thresholds_of)[1] if thresholds_of is not None else None
    training, validation = _splits(datasets, ("train", "val"), modality, skip_faulty)
    if chosen is not None:
        training += validation
    with alone_in(out):
        network = fit(training, validation, settings, out, verbose=verbose)
        return finish_model(network, training, validation, out, settings, name=name, chosen=chosen)


def finish_model(
    network: Any,
    training: Sequence[AnnotatedImage],
    validation: Sequence[AnnotatedImage],
    out: Path,
    settings: FitSettings,
    *,
    name: str = "",
    chosen: ModelCard | None = None,
) -> ModelCard:
    """Weights, thresholds (those of `chosen`, or the best), evaluation, card and report of a fitted network."""
    keras = import_keras()
    history = read_history(out / HISTORY_FILE)
    weights = write_weights(network, out / WEIGHTS_FILE)
    card = ModelCard(
        name=name or f"{settings.architecture}-{weights.sha256[:8]}",
        description=f"{settings.architecture} trained on {len(training)} annotated images",
        architecture=settings.architecture,
        weights=weights,
        training_diameter_px=TRAINING_DIAMETER_PX,
        instances=chosen.instances if chosen else InstanceSettings(),
        confidence=chosen.confidence if chosen else ConfidenceSettings(),
        field_statistics=field_statistics(training),
        flops_per_pixel=flops_per_pixel(network),
        parameters=network.count_params(),
        training={
            "images": len(training),
            "nuclei": int(sum(np.count_nonzero(np.unique(pair.labels)) for pair in training)),
            "data_sha256": data_hash(training),
            "settings": settings.model_dump(mode="json"),
            "epochs": len(history),
            "seconds": round(sum(epoch.get("seconds", 0.0) for epoch in history)),
            "cpus": os.cpu_count(),
            "hcs_nuclei": version("hcs-nuclei"),
            "keras": keras.__version__,
            "backend": f"{keras.backend.backend()} {import_module(keras.backend.backend()).__version__}",
            **({"thresholds_of": chosen.identifier} if chosen else {}),
        },
    )
    # What is tuned and evaluated is what will be used: the stored weights, not those in memory.
    segmenter = Segmenter(load_network(out, card), card.instances, card.training_diameter_px, card.confidence)
    if chosen is None:
        # Thresholds are for the images that plates are made of, where there are any of them.
        main = [pair for pair in validation if pair.modality == "fluorescence"] or list(validation)
        sized = [(pair, estimate_diameter(segmenter, [pair.image])) for pair in main]
        tune(
            segmenter,
            [segmenter.prediction_for(pair.image, diameter) for pair, diameter in sized],
            [pair.labels for pair in main],
            spoilt=[
                (segmenter.prediction_for(_spoilt(pair, seed), diameter), pair.labels)
                for seed, (pair, diameter) in enumerate(sized[::SPOILT_EVERY])
            ],
            minimum_area_px=MINIMUM_AREA_PX,
        )

    segment = partial(segment_any_size, segmenter, minimum_area_px=MINIMUM_AREA_PX)
    evaluation = evaluate(validation, segment)
    split = "val, which it was trained on" if chosen else "val"
    found = {"instances": segmenter.instances, "confidence": segmenter.confidence}
    card = card.model_copy(update={**found, "evaluation": {split: evaluation.figures}})
    write_card(out, card)
    write_report(
        out / REPORT_FILE,
        card,
        evaluation,
        network=network,
        data={"Split": split, "SHA-256": data_hash(validation)},
        seconds_per_field=field_seconds(segmenter, validation[0].image),
        history=history,
    )
    return card


def _spoilt(pair: AnnotatedImage, seed: int) -> npt.NDArray[np.float64]:
    return spoil(normalise(pair.image).astype(np.float64), np.random.default_rng(seed))


def _splits(
    datasets: Sequence[Path], splits: Sequence[str], modality: str | None, skip_faulty: bool
) -> list[list[AnnotatedImage]]:
    """The images of each split of all data sets; every fault of all of them is in the one error."""
    found: list[list[AnnotatedImage]] = [[] for _ in splits]
    lacking: list[list[str]] = [[] for _ in splits]
    faults: dict[str, None] = {}  # a set that is none says so for each split
    for dataset, (number, split) in product(datasets, enumerate(splits)):
        try:
            found[number] += read_annotations(dataset, split=split, modality=modality, skip_faulty=skip_faulty)
        except NothingAnnotatedError as error:
            lacking[number].append(str(error))
        except DatasetError as error:
            faults[str(error)] = None
    for pairs, said in zip(found, lacking, strict=True):
        if not pairs and len(said) == len(datasets):
            faults |= dict.fromkeys(said)
    if faults:
        raise DatasetError("\n".join(faults))
    taught = {pixels_of(pair): pair.name for pair in found[0]}
    for pair in (pair for pairs in found[1:] for pair in pairs):
        if (twin := taught.get(pixels_of(pair))) is not None:
            logger.warning("%s has the pixels of %s, which is trained on: figures on it say little", pair.name, twin)
    return found
