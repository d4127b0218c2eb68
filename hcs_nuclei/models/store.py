"""A model's name in, its directory and card out: the shipped model, the user's store, or any directory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hcs_nuclei.errors import ModelError
from hcs_nuclei.models.card import CARD_FILE, ModelCard, read_card

DEFAULT = "default"
SHIPPED = Path(__file__).parent / "shipped"


@dataclass(frozen=True, slots=True)
class ModelReference:
    """What crosses to workers: where the model is and what it must be."""

    directory: Path
    sha256: str


def store_directory() -> Path:
    """``$HCS_NUCLEI_HOME/models``, else ``hcs-nuclei/models`` under the user's data directory."""
    home = os.environ.get("HCS_NUCLEI_HOME")
    if home:
        return Path(home) / "models"
    data = os.environ.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local" / "share") / "hcs-nuclei" / "models"


def resolve_model(wanted: str = DEFAULT) -> tuple[Path, ModelCard]:
    """Directory and verified card of a model.

    Args:
        wanted: ``default`` (the shipped model), an identifier or name in the store, or a directory with a card.

    Raises:
        ModelError: no such model, or its weights do not match its card.
    """
    if wanted == DEFAULT:
        return SHIPPED, read_card(SHIPPED)
    as_path = Path(os.path.expanduser(wanted))  # unlike Path's own it leaves an unknown user as it is
    if as_path.is_dir():
        return as_path.resolve(), read_card(as_path)
    for directory, card in list_models():
        if wanted in (card.name, card.identifier, card.sha256):
            return directory, card
    known = ", ".join(f"{card.name} ({card.identifier})" for _, card in list_models())
    raise ModelError(
        f"There is no model {wanted!r}: it is no directory and not among {known}. See: hcs-nuclei models list"
    )


def list_models() -> Iterator[tuple[Path, ModelCard]]:
    """The shipped model, then every model in the user's store by name of its directory.

    Raises:
        ModelError: a model in the store is damaged; says which.
    """
    yield SHIPPED, read_card(SHIPPED)
    store = store_directory()
    if store.is_dir():
        for directory in sorted(store.iterdir()):
            if (directory / CARD_FILE).is_file():
                yield directory, read_card(directory)
