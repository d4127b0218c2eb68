"""A model's directory and hash in, a segmenter out: loaded once per process, its weights checked first."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from hcs_nuclei.errors import ModelError
from hcs_nuclei.models.card import load_network, read_card
from hcs_nuclei.models.store import DEFAULT, resolve_model
from hcs_nuclei.segmentation.diameter import segment_any_size
from hcs_nuclei.segmentation.normalise import to_grey
from hcs_nuclei.segmentation.predict import Segmenter

_LOADED: dict[tuple[Path, str], Segmenter] = {}
_LOCK = threading.Lock()


def load_segmenter(directory: Path, sha256: str | None = None) -> Segmenter:
    """The segmenter of the model in `directory`, ready to use; later calls in this process give the same one.

    Args:
        directory: a model directory with a card.
        sha256: what the model must be, as a run resolved it; None takes the card's word.

    Raises:
        ModelError: no such model here, or not the one that the run began with.
    """
    with _LOCK:
        if sha256 is not None and (directory, sha256) in _LOADED:
            return _LOADED[directory, sha256]
        card = read_card(directory)
        if sha256 is not None and card.sha256 != sha256:
            raise ModelError(
                f"The model in {directory} changed during the run: {card.sha256[:12]}… found, {sha256[:12]}… expected."
            )
        key = (directory, card.sha256)
        if key not in _LOADED:
            network = load_network(directory, card)
            _LOADED[key] = Segmenter(network, card.instances, card.training_diameter_px, card.confidence)
        return _LOADED[key]


def load_model(model: str = DEFAULT) -> Segmenter:
    """The segmenter of a model by identifier, name or directory; ``default`` is the promoted one.

    Raises:
        ModelError: no such model, or its weights do not match its card.
    """
    directory, card = resolve_model(model)
    return load_segmenter(directory, card.sha256)


def segment(
    image: npt.NDArray[Any],
    *,
    model: str = DEFAULT,
    diameter_px: float | None = None,
    minimum_area_px: float = 20,
    nuclei: Literal["bright", "dark"] | None = None,
) -> npt.NDArray[np.uint32]:
    """Label image of one field.

    Args:
        image: (y, x) or colour (y, x, 3), any integer or float dtype; made grey by
            :func:`hcs_nuclei.segmentation.normalise.to_grey`.
        model: see :func:`load_model`.
        diameter_px: median nucleus diameter in px of the image; None estimates it on the image itself, and takes some
            few specks of less than 10 px that are all there is for dust.
        minimum_area_px: smaller objects are debris, px².
        nuclei: whether they are brighter or darker than what surrounds them; None tells it from how light the image is.

    Returns:
        (y, x) uint32, 1 … n without gaps, 0 = background.

    Raises:
        ModelError: the model cannot be used.
        ValueError: the image is neither (y, x) nor colour or has no pixels, or the diameter is not above 0.
    """
    if diameter_px is not None and not diameter_px > 0:
        raise ValueError(f"the diameter is {diameter_px} px; expected more than 0, or None to have it estimated")
    segmenter = load_model(model)
    pixels = to_grey(image, nuclei=nuclei)
    if diameter_px is None:
        return segment_any_size(segmenter, pixels, minimum_area_px=minimum_area_px).labels
    return segmenter(pixels, diameter_px=diameter_px, minimum_area_px=minimum_area_px).labels
