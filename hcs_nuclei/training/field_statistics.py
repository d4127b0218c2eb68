"""Annotated images in, the table of what they look like out, against which a plate's fields are later held."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hcs_nuclei.measurement import FieldNuclei, measure_field, measure_nuclei
from hcs_nuclei.segmentation.diameter import median_diameter
from hcs_nuclei.segmentation.familiarity import FieldStatistics, describe_field
from hcs_nuclei.segmentation.scale import TRAINING_DIAMETER_PX, viewing_scale
from hcs_nuclei.training.annotations import AnnotatedImage

#: Fewer images than this say nothing of what others of their kind look like.
FEWEST_IMAGES = 50


def field_statistics(pairs: Sequence[AnnotatedImage]) -> FieldStatistics | None:
    """What the images of `pairs` that plates are like (fluorescence, or all where there is none) look like.

    Each is measured as a field of a plate is, with the annotated nuclei in place of found ones and a confidence of 1.
    None where fewer than 50 images have at least three nuclei whose outlines can be measured.
    """
    main = [pair for pair in pairs if pair.modality == "fluorescence"] or list(pairs)
    table = np.concatenate([described(pair) for pair in main]) if main else np.empty((0, 4))
    if np.count_nonzero(~np.isnan(table).any(axis=1)) < FEWEST_IMAGES:
        return None
    return FieldStatistics.of_training(table)


def described(pair: AnnotatedImage) -> npt.NDArray[np.float64]:
    """(1, 4) the statistics of one image, seen at the scale that its own nuclei ask for."""
    labels = np.ascontiguousarray(pair.labels, dtype=np.uint32)
    table = measure_nuclei(labels, {"": pair.image}, nuclear="", saturation=None)
    diameter, count = median_diameter(labels)
    quality = measure_field(
        pair.image,
        labels,
        FieldNuclei(
            area=table["Nuclei_AreaShape_Area"],
            x=table["Metadata_Center_X"],
            y=table["Metadata_Center_Y"],
            mean=table["Nuclei_Intensity_MeanIntensity_"],
            confidence=np.ones(count, np.float32),
        ),
        saturation=None,
        diameter_px=diameter or None,
    )
    names = ("MedianLevel", "Contrast", "Noise", "EdgeWidth", "MedianDiameter")
    level, contrast, noise, width, seen = (np.array([quality[f"Metadata_QC_{name}"]], np.float64) for name in names)
    scale = viewing_scale(diameter, TRAINING_DIAMETER_PX) if count else 1.0
    return describe_field(level, contrast, noise, width, seen, scale)
