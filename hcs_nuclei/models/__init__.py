"""Models: their cards, where they are kept, and how they are loaded."""

from __future__ import annotations

from hcs_nuclei.models.card import ModelCard, read_card
from hcs_nuclei.models.loading import load_model, load_segmenter, segment
from hcs_nuclei.models.store import list_models, resolve_model

__all__ = ["ModelCard", "list_models", "load_model", "load_segmenter", "read_card", "resolve_model", "segment"]
