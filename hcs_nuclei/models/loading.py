"""A model's directory and hash in, a segmenter out: loaded once per process, its weights checked first."""

from __future__ import annotations

import threading
from pathlib import Path

from hcs_nuclei.errors import ModelError
from hcs_nuclei.models.card import load_network, read_card
from hcs_nuclei.segmentation.predict import Segmenter

_LOADED: dict[str, Segmenter] = {}
_LOCK = threading.Lock()


def load_segmenter(directory: Path, sha256: str | None = None) -> Segmenter:
    """The segmenter of the model in `directory`, ready to use; later calls in this process give the same one.

    Args:
        directory: a model directory with a card.
        sha256: what the weights must be, as a run resolved them; None takes the card's word.

    Raises:
        ModelError: no such model here, or not the one that the run began with.
    """
    with _LOCK:
        if sha256 in _LOADED:
            return _LOADED[sha256]
        card = read_card(directory)
        if sha256 is not None and card.weights.sha256 != sha256:
            raise ModelError(
                f"The model in {directory} changed during the run: weights {card.weights.sha256[:12]}… found, "
                f"{sha256[:12]}… expected."
            )
        if card.weights.sha256 not in _LOADED:
            network = load_network(directory, card)
            _LOADED[card.weights.sha256] = Segmenter(network, card.instances, card.training_diameter_px)
        return _LOADED[card.weights.sha256]
