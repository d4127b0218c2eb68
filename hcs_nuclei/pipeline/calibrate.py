"""A fixed sample of a plate's fields in, what the whole plate shares out: nucleus diameter, the camera's limit, light.

The sample depends on the plate alone, so segmentation never depends on the treatment of the well that it is in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt

from hcs_nuclei.errors import PlaneError
from hcs_nuclei.measurement import saturation_level
from hcs_nuclei.models.loading import load_segmenter
from hcs_nuclei.outputs.provenance import Calibration, Illumination
from hcs_nuclei.pipeline.illumination import ESTIMATE_FIELDS, estimated_illumination
from hcs_nuclei.pipeline.plan import Context, Plan
from hcs_nuclei.pipeline.reading import open_images
from hcs_nuclei.plate import Channel, Field, Plane, Plate, RemoteFiles
from hcs_nuclei.segmentation.diameter import estimate_diameter

SAMPLE_FIELDS = 8
_SEED = 20180116  # of the sample alone; any number, but the same for ever

Sample = tuple[tuple[str, Field], ...]


def sample_fields(plate: Plate, channel: str, z: Any, most: int = SAMPLE_FIELDS) -> Sample:
    """At most `most` fields with an image of `channel`, drawn evenly and always the same for a plate."""
    candidates = [
        (well.name, site)
        for well in plate.wells
        for site in well.fields
        if (planes := site.planes_of(channel, 0, z)) and all(p.path for p in planes)
    ]
    if len(candidates) > most:
        chosen = np.random.default_rng(_SEED).choice(len(candidates), most, replace=False)
        candidates = [candidates[i] for i in sorted(chosen)]
    return tuple(candidates)


def lit_sample(plan: Plan) -> Sample:
    """The fields that the illumination is estimated from; none where it is not."""
    if plan.illumination is None or plan.illumination.method != "estimate":
        return ()
    return sample_fields(plan.plate, plan.context.nuclear.token, plan.context.settings.z, ESTIMATE_FIELDS)


def files_of_sample(plate: Plate, sample: Iterable[tuple[str, Field]]) -> RemoteFiles | None:
    """What lies at the plate's URL of these fields; None for a plate on a disk."""
    return plate.remote and plate.remote.only({p.path for _, site in sample for p in site.planes if p.path})


def calibrate_plate(
    context: Context,
    sample: Sample,
    illumination: Illumination | None = None,
    lit: Sample = (),
    remote: RemoteFiles | None = None,
) -> Calibration:
    """Measure the sample; runs on a worker, since the estimate of the diameter needs the network.

    `illumination` is what is known of it; where the fields of `lit` are given, it is estimated from them instead.
    `remote` has the files of both where the plate lies at a URL.
    Fields that cannot be read are left out: they are reported when their well is processed.
    """
    settings = context.settings
    images: list[npt.NDArray[Any]] = []
    names: list[str] = []
    for well, site in sample:
        try:
            images.append(_read(context, site.planes_of(context.nuclear.token, 0, settings.z), remote))
        except PlaneError:
            continue
        names.append(f"{well}/{site.number}")
    given = settings.segmentation.diameter_px
    estimate = None
    if given is None and any(image.min() != image.max() for image in images):
        segmenter = load_segmenter(context.model_directory, context.model_sha256)
        estimate = estimate_diameter(segmenter, images)
    return Calibration(
        diameter_px=given or estimate,
        diameter_from="settings" if given else "estimate" if estimate else "none",
        saturation=saturation_level(images),
        sample=tuple(names),
        illumination=_estimated(context, lit, remote) if lit else illumination,
    )


def _estimated(context: Context, sample: Sample, remote: RemoteFiles | None) -> Illumination:
    def images_of(channel: Channel) -> Iterator[npt.NDArray[Any]]:
        for _, site in sample:
            planes = site.planes_of(channel.token, 0, context.settings.z)
            if planes and all(plane.path for plane in planes):
                with suppress(PlaneError):
                    yield _read(context, planes, remote)

    return estimated_illumination(context.channels, [f"{well}/{site.number}" for well, site in sample], images_of)


def _read(context: Context, planes: Sequence[Plane], remote: RemoteFiles | None) -> npt.NDArray[Any]:
    with open_images(context, remote, planes) as read:
        return read(planes)
