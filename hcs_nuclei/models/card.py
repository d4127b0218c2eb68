"""A model on disk: a card in words and numbers, and its weights in a file that cannot hold code.

::

    <model directory>/
      card.json             what it is, how it was trained, what it reaches, sha256 of the weights
      weights.safetensors   one array per variable of the network, kernels as float16
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hcs_nuclei.errors import ModelError
from hcs_nuclei.segmentation.confidence import ConfidenceSettings
from hcs_nuclei.segmentation.familiarity import FieldStatistics
from hcs_nuclei.segmentation.instances import InstanceSettings

CARD_FILE = "card.json"


class Weights(BaseModel):
    """The weights file and what proves that it is the right one."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    file: str = Field(pattern=r"^[A-Za-z0-9._-]+\.safetensors$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size_bytes: int = Field(gt=0)


class ModelCard(BaseModel):
    """All that is needed to rebuild a network, use it as it was evaluated, and judge it."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())
    card_version: int = 1
    name: str
    description: str = ""
    architecture: str
    weights: Weights
    training_diameter_px: float = Field(gt=0, description="Median nucleus diameter that the network saw most, px.")
    instances: InstanceSettings = Field(
        description="Thresholds from network output to label image, tuned on validation."
    )
    confidence: ConfidenceSettings = Field(
        default_factory=ConfidenceSettings, description="How sure each nucleus is; fitted on validation."
    )
    field_statistics: FieldStatistics | None = Field(
        default=None, description="What its training images looked like; without it no field is called unlike them."
    )
    flops_per_pixel: float = Field(gt=0)
    parameters: int = Field(gt=0)
    training: dict[str, Any] = Field(default_factory=dict)
    evaluation: dict[str, Any] = Field(default_factory=dict)

    @property
    def sha256(self) -> str:
        """sha256 (hex) of all that decides a label image: architecture, weights, training diameter, thresholds."""
        decisive = self.model_dump_json(include={"architecture", "training_diameter_px", "instances", "confidence"})
        return hashlib.sha256(f"{self.weights.sha256} {decisive}".encode()).hexdigest()

    @property
    def identifier(self) -> str:
        """Content address: the first 12 digits of the model's sha256."""
        return self.sha256[:12]


def sha256_of(path: Path) -> str:
    """sha256 (hex) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_card(directory: Path) -> ModelCard:
    """The card of the model in `directory`, its weights checked against it.

    Raises:
        ModelError: no card, a card that is not valid, or weights that do not match it.
    """
    card = parse_card(directory)
    weights = directory / card.weights.file
    if not weights.is_file():
        raise ModelError(f"The model in {directory} has no weights: {card.weights.file} is not there.")
    found = sha256_of(weights)
    if found != card.weights.sha256:
        raise ModelError(
            f"The weights {weights} do not match their card: sha256 {found[:12]}… found, "
            f"{card.weights.sha256[:12]}… expected. Take the model again from its source, or choose another "
            "with --model."
        )
    return card


def parse_card(directory: Path) -> ModelCard:
    """The card of the model in `directory`; its weights are not looked at.

    Raises:
        ModelError: no card, or one that is not valid.
    """
    path = directory / CARD_FILE
    try:
        return ModelCard.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise ModelError(f"{directory} is not a model: it has no {CARD_FILE}.") from None
    except OSError as error:
        raise ModelError(f"The model card {path} cannot be read: {error.strerror}.") from None
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, f['loc']))}: {f['msg']}" for f in error.errors())
        raise ModelError(
            f"The model card {path} is not valid: {faults}. Take the model again from its source."
        ) from None


def write_weights(network: Any, path: Path) -> Weights:
    """Store every variable of a Keras network: kernels as float16, all else as float32."""
    from safetensors.numpy import save_file

    arrays = {}
    for variable in network.variables:
        value = np.asarray(variable.value, dtype=np.float32)
        arrays[variable.path] = value.astype(np.float16) if value.ndim > 1 else value
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(arrays, path)
    path.chmod(0o644)  # safetensors makes it private; a shared store must be readable by its users
    return Weights(file=path.name, sha256=sha256_of(path), size_bytes=path.stat().st_size)


def write_card(directory: Path, card: ModelCard) -> None:
    """Write `card` beside the weights that it names."""
    text = json.dumps(card.model_dump(mode="json"), indent=2, sort_keys=False) + "\n"
    (directory / CARD_FILE).write_text(text, encoding="utf-8")


def load_network(directory: Path, card: ModelCard) -> Any:
    """The Keras network that `card` describes, in its form for inference, built from our own code.

    Raises:
        ModelError: an architecture that we do not know, or weights of other names or shapes than it has.
    """
    from hcs_nuclei.segmentation.network import ARCHITECTURES, build_network, fold_normalisation

    if card.architecture not in ARCHITECTURES:
        raise ModelError(
            f"The model {card.name} has architecture {card.architecture!r}; known are {', '.join(ARCHITECTURES)}. "
            "It may be from a newer version of hcs-nuclei."
        )
    network = build_network(card.architecture)
    load_weights(network, directory, card)
    return fold_normalisation(network, build_network(card.architecture, folded=True))


def load_weights(network: Any, directory: Path, card: ModelCard) -> None:
    """Give `network`, built in its form for training, the stored weights of the model in `directory`.

    Raises:
        ModelError: weights that cannot be read, or of other names or shapes than the network has.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        arrays = load_file(directory / card.weights.file)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"The weights of model {card.name} cannot be read: {error}") from None
    expected = {v.path: tuple(v.shape) for v in network.variables}
    found = {name: array.shape for name, array in arrays.items()}
    if expected != found:
        differing = sorted(k for k in expected.keys() | found.keys() if expected.get(k) != found.get(k))
        raise ModelError(
            f"The weights of model {card.name} do not fit architecture {card.architecture}: {len(differing)} variables "
            f"differ, among them {differing[0]}."
        )
    for variable in network.variables:
        variable.assign(arrays[variable.path].astype(np.float32))
