"""Two models and annotated images in, the figures of both side by side and the gate's verdict out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hcs_nuclei.errors import DatasetError, listed
from hcs_nuclei.models.card import ModelCard
from hcs_nuclei.models.loading import load_segmenter
from hcs_nuclei.models.store import ModelReference
from hcs_nuclei.segmentation.diameter import segment_any_size
from hcs_nuclei.simulate import simulate_field
from hcs_nuclei.training.annotations import AnnotatedImage, data_hash, inspect_dataset, read_annotations
from hcs_nuclei.training.evaluation import ComparedImage, compare_image, image_figures, set_figures
from hcs_nuclei.training.gate import ComparedSet, GateSettings, Verdict, judge

Kind = Literal["frozen", "new", "empty"]

#: Simulated fields without nuclei, so that every comparison has some; their edge in px.
EMPTY_FIELDS, EMPTY_PX = 4, 384
EMPTY = "fields without nuclei"


@dataclass(frozen=True, slots=True)
class SetSource:
    """Where a set of images is read from, on whatever machine; without `data` it is the simulated empty fields."""

    data: Path | None
    kind: Kind
    split: str | None = None
    modality: str | None = None


@dataclass(frozen=True, slots=True)
class ImageSet:
    """Images that both models are to be judged by; of which kind, see :class:`ComparedSet`."""

    name: str
    kind: Kind
    images: Sequence[AnnotatedImage]


@dataclass(frozen=True, slots=True)
class ImageChange:
    """One image's mean AP and count with both models."""

    set: str
    name: str
    nuclei: int
    ap_current: float
    ap_candidate: float
    found_current: int
    found_candidate: int

    @property
    def change(self) -> float:
        """Of the mean AP."""
        return self.ap_candidate - self.ap_current


@dataclass(frozen=True, slots=True)
class Comparison:
    """Both models on every set; `images` from the one that got most worse to the one that got most better."""

    current: ModelCard
    candidate: ModelCard
    sets: tuple[ComparedSet, ...]
    data_sha256: tuple[str, ...]
    images: tuple[ImageChange, ...]
    gate: GateSettings
    verdict: Verdict

    def as_lines(self) -> list[str]:
        """The verdict and what it rests on, for people."""
        models = (f"{card.name} ({card.identifier})" for card in (self.current, self.candidate))
        lines = [" → ".join(models), ""]
        lines += [f"{'ok' if c.passed else 'NO':3} {c.set}: {c.said}" for c in self.verdict.checks]
        return [*lines, "", f"The candidate {'may take its place' if self.verdict.passed else 'is refused'}."]

    def as_json(self) -> dict[str, Any]:
        """All of it in plain values."""
        models = {"current": self.current, "candidate": self.candidate}
        return {
            "models": {
                role: {"id": card.identifier, "sha256": card.sha256, "name": card.name} for role, card in models.items()
            },
            "passed": self.verdict.passed,
            "reasons": list(self.verdict.reasons),
            "gate": self.gate.model_dump(mode="json"),
            "checks": [asdict(check) for check in self.verdict.checks],
            "sets": [
                {**asdict(one), "data_sha256": sha256} for one, sha256 in zip(self.sets, self.data_sha256, strict=True)
            ],
            "images": [asdict(image) for image in self.images],
        }


def read_set(source: SetSource) -> ImageSet:
    """The images of a set.

    Raises:
        DatasetError: the data set cannot be used, or has no such images.
    """
    data = source.data
    if data is None:
        return empty_set()
    parts = (data.stem if data.is_file() else data.resolve().name, source.split, source.modality)
    images = read_annotations(data, split=source.split, modality=source.modality)
    return ImageSet(" ".join(part for part in parts if part), source.kind, images)


def read_sets(sources: Sequence[SetSource]) -> list[ImageSet]:
    """The images of several sets, in their order.

    Raises:
        DatasetError: the faults of every set that cannot be used.
    """
    sets: list[ImageSet] = []
    faults: list[str] = []
    for source in sources:
        try:
            sets.append(read_set(source))
        except DatasetError as error:
            faults.append(str(error))
    if faults:
        raise DatasetError("\n".join(dict.fromkeys(faults)))
    return sets


def read_part(source: SetSource, names: Collection[str]) -> list[AnnotatedImage]:
    """Those images of a set that have such names, in the order in which :func:`read_set` has them.

    Raises:
        DatasetError: not all of them are there and can be used, though the whole set was read before.
    """
    if source.data is None:
        found = [image for image in empty_set().images if image.name in names]
    else:
        of_set = inspect_dataset(source.data, split=source.split, modality=source.modality, names=names)
        found = of_set.images
    if len(found) != len(names):
        absent = sorted(set(names) - {image.name for image in found})
        raise DatasetError(
            f"{len(absent)} images of {source.data} cannot be read here ({listed(absent)}) though they could be where "
            "the run was begun. Every worker must see the same files, and nothing may change them meanwhile."
        )
    return found


def empty_set() -> ImageSet:
    """The same simulated fields each time: a blank one, noise, and background with debris."""
    shape = (EMPTY_PX, EMPTY_PX)
    pixels = [np.full(shape, 200, np.uint16)]
    pixels.append(np.random.default_rng(1).normal(400, 12, shape).astype(np.uint16))
    for seed in range(2, EMPTY_FIELDS):
        field = simulate_field(np.random.default_rng(seed), size=EMPTY_PX, nuclei=0, debris_per_megapixel=12)
        pixels.append(field.images["DAPI"])
    none = np.zeros(shape, np.int32)
    images = [AnnotatedImage(f"empty{i}", image, none, "", "fluorescence") for i, image in enumerate(pixels)]
    return ImageSet(EMPTY, "empty", images)


def compare_images(
    model: ModelReference, images: Sequence[AnnotatedImage], *, done: Callable[[], None] = lambda: None
) -> list[ComparedImage]:
    """What a model finds in images as ``evaluate`` has it segment them, against their truth; `done` after each."""
    segmenter = load_segmenter(model.directory, model.sha256)
    compared = []
    for pair in images:
        compared.append(compare_image(pair, segment_any_size(segmenter, pair.image)))
        done()
    return compared


def compare_models(
    current: tuple[Path, ModelCard],
    candidate: tuple[Path, ModelCard],
    sets: Sequence[ImageSet],
    *,
    gate: GateSettings | None = None,
    done: Callable[[int], None] = lambda images: None,
) -> Comparison:
    """Segment every image with both models, and judge the candidate by the gate's rules.

    Args:
        current, candidate: directory and card of each.
        sets: at least one of them frozen, or the verdict is no.
        gate: limits of the rules.
        done: told after each image how many there were, of twice the number of all images.
    """
    count = 0

    def one_more() -> None:
        nonlocal count
        count += 1
        done(count)

    found = []
    for directory, card in (current, candidate):
        model = ModelReference(directory, card.sha256)
        found.append([compare_images(model, one.images, done=one_more) for one in sets])
    return assemble(current[1], candidate[1], sets, found[0], found[1], gate=gate)


def assemble(
    current: ModelCard,
    candidate: ModelCard,
    sets: Sequence[ImageSet],
    found_current: Sequence[Sequence[ComparedImage]],
    found_candidate: Sequence[Sequence[ComparedImage]],
    *,
    gate: GateSettings | None = None,
) -> Comparison:
    """The comparison from what each model found in the images of each set, in the order of the sets and images."""
    limits = gate or GateSettings()
    compared = []
    changes = []
    for one, before, now in zip(sets, found_current, found_candidate, strict=True):
        compared.append(ComparedSet(one.name, one.kind, set_figures(before), set_figures(now)))
        for a, b in zip(map(image_figures, before), map(image_figures, now), strict=True):
            changes.append(ImageChange(one.name, a.name, a.nuclei, a.ap_mean, b.ap_mean, a.predicted, b.predicted))
    changes.sort(key=lambda image: (image.change, image.set, image.name))
    hashes = tuple(data_hash(one.images) for one in sets)
    verdict = judge(compared, limits)
    return Comparison(current, candidate, tuple(compared), hashes, tuple(changes), limits, verdict)
