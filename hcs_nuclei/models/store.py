"""A model's name in, its directory and card out: the shipped model, the user's store, or any directory.

::

    $HCS_NUCLEI_HOME/models/
      current.json          which of them is the default, and which were before it (promotion.py)
      <identifier>/         a model, never changed: its name is the beginning of the sha256 of what it is
        card.json  weights.safetensors
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hcs_nuclei.errors import ModelError
from hcs_nuclei.home import home_directory
from hcs_nuclei.models.card import CARD_FILE, ModelCard, parse_card, read_card

DEFAULT = "default"
SHIPPED = Path(__file__).parent / "shipped"
CURRENT_FILE = "current.json"


@dataclass(frozen=True, slots=True)
class ModelReference:
    """What crosses to workers: where the model is and what it must be."""

    directory: Path
    sha256: str


class Promotion(BaseModel):
    """A model that was made the default, by content."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    name: str
    when: str = Field(description="UTC, ISO 8601")
    who: str
    reason: str = ""

    @property
    def identifier(self) -> str:
        """As :attr:`ModelCard.identifier`; its directory in the store."""
        return self.sha256[:12]

    def __str__(self) -> str:
        return f"{self.name} ({self.identifier})"


class Current(BaseModel):
    """The content of ``current.json``: the last promotion is the default, without any it is the shipped model."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    version: int = Field(default=1, ge=1, le=1)
    promotions: tuple[Promotion, ...] = ()


def store_directory() -> Path:
    """``$HCS_NUCLEI_HOME/models``, else ``hcs-nuclei/models`` under the user's data directory."""
    return home_directory() / "models"


def read_current() -> Current:
    """Which model is the default, and which were before it.

    Raises:
        ModelError: the pointer is there and cannot be read.
    """
    path = store_directory() / CURRENT_FILE
    try:
        return Current.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return Current()
    except (OSError, ValidationError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is damaged, or from a newer version"
        raise ModelError(
            f"Which model is the default cannot be told: {path} cannot be read ({why}). Choose a model with --model, "
            "or remove that file and promote a model again (hcs-nuclei models promote ID)."
        ) from None


def resolve_model(wanted: str = DEFAULT) -> tuple[Path, ModelCard]:
    """Directory and verified card of a model.

    Args:
        wanted: ``default`` (the promoted model, the shipped one where none was promoted), an identifier or name of a
            model that is shipped or in the store, or a directory with a card.

    Raises:
        ModelError: no such model, several of that name, or its weights do not match its card. A promoted model that is
            missing or damaged is never replaced by another.
    """
    if wanted == DEFAULT:
        promotions = read_current().promotions
        if not promotions:
            return SHIPPED, read_card(SHIPPED)
        try:
            return promoted_model(promotions[-1])
        except ModelError as error:
            raise ModelError(
                f"{error} Put it back, promote another (hcs-nuclei models promote ID) or go back a step (hcs-nuclei "
                "models rollback); a single run takes another with --model."
            ) from None
    as_path = Path(os.path.expanduser(wanted))  # unlike Path's own it leaves an unknown user as it is
    if as_path.is_dir():
        return as_path.resolve(), read_card(as_path)
    known = list(_known_models())
    found = [one for one in known if wanted in (one[1].identifier, one[1].sha256)]
    found = found or [one for one in known if wanted == one[1].name]
    if len({card.sha256 for _, card in found}) > 1:
        identifiers = ", ".join(card.identifier for _, card in found)
        raise ModelError(f"Several models are named {wanted!r}: {identifiers}. Give the identifier of one of them.")
    if found:
        return found[0][0], read_card(found[0][0])
    names = ", ".join(f"{card.name} ({card.identifier})" for _, card in known)
    raise ModelError(
        f"There is no model {wanted!r}: it is no directory and not among {names}. See: hcs-nuclei models list"
    )


def promoted_model(promotion: Promotion) -> tuple[Path, ModelCard]:
    """Directory and verified card of a model that was promoted.

    Raises:
        ModelError: it is not in the store, or is not what was promoted.
    """
    directory = store_directory() / promotion.identifier
    try:
        card = read_card(directory)
    except ModelError as error:
        raise ModelError(f"The promoted model {promotion} cannot be used. {error}") from None
    if card.sha256 != promotion.sha256:
        found = f"{card.name} ({card.identifier})"
        raise ModelError(f"The promoted model {promotion} cannot be used: {directory} holds {found}.")
    return directory, card


def list_models() -> Iterator[tuple[Path, ModelCard]]:
    """The shipped model, then every other model in the user's store by name of its directory.

    Raises:
        ModelError: a model in the store is damaged; says which.
    """
    shipped = read_card(SHIPPED)
    yield SHIPPED, shipped
    for directory in _stored():
        card = read_card(directory)
        if card.sha256 != shipped.sha256:
            yield directory, card


def _known_models() -> Iterator[tuple[Path, ModelCard]]:
    """What there is to choose from. A damaged card in the store is no obstacle to another model."""
    yield SHIPPED, parse_card(SHIPPED)
    for directory in _stored():
        try:
            yield directory, parse_card(directory)
        except ModelError:
            continue


def _stored() -> list[Path]:
    store = store_directory()
    found = store.iterdir() if store.is_dir() else ()
    return sorted(d for d in found if not d.name.startswith(".") and (d / CARD_FILE).is_file())
