"""A calibrated plan in, what ``run.json`` begins with out."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

from hcs_nuclei.measurement import supposed_of_reach
from hcs_nuclei.models.card import ModelCard
from hcs_nuclei.outputs.provenance import Calibration, ChannelRecord, ModelRecord, RunRecord, Source
from hcs_nuclei.pipeline.calling import nuclear_image
from hcs_nuclei.pipeline.plan import ALGORITHM_VERSION, Plan

#: Packages whose versions stand in ``run.json``.
_PACKAGES = (
    "tensorflow",
    "keras",
    "numpy",
    "scipy",
    "scikit-image",
    "dask",
    "zarr",
    "pyarrow",
    "tifffile",
    "imagecodecs",
)


def new_record(plan: Plan, card: ModelCard, calibration: Calibration) -> RunRecord:
    """The record of a run that begins now: where it comes from, and what it is made with."""
    context, plate = plan.context, plan.plate
    supposed = supposed_of_reach(pixel_size_um=plate.pixel_size_um, diameter_px=calibration.diameter_px)
    return RunRecord(
        algorithm_version=ALGORITHM_VERSION,
        hcs_nuclei_version=version("hcs-nuclei"),
        versions={name: _version(name) for name in _PACKAGES},
        plate=context.plate,
        acquisition=context.acquisition,
        source=Source(
            directory=context.place,
            vendor=plate.vendor,
            reason=plate.reason,
            expected_from=plate.expected_from,
            metadata_files=plate.metadata_files,
            wells_in_format=plate.wells_in_format,
            wells=len(plate.wells),
            fields=sum(len(w.fields) for w in plate.wells),
            timepoints=plate.timepoints,
            pixel_size_um=plate.pixel_size_um,
            confocal=plate.confocal,
            nuclear_image=nuclear_image(plate, context.nuclear.token, context.settings.z),
        ),
        channels=tuple(
            ChannelRecord(token=c.token, name=c.name, column=column, nuclear=c == context.nuclear)
            for c, column in zip(context.channels, context.channel_columns, strict=True)
        ),
        settings=context.settings,
        settings_fingerprint=context.settings.fingerprint(),
        model=ModelRecord(
            name=card.name,
            identifier=card.identifier,
            sha256=card.sha256,
            architecture=card.architecture,
            training_diameter_px=card.training_diameter_px,
            field_statistics=card.field_statistics,
        ),
        calibration=calibration,
        warnings=(
            *plate.warnings,
            *(calibration.illumination.warnings if calibration.illumination else ()),
            *((supposed,) if supposed else ()),
        ),
        started=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _version(package: str) -> str:
    """Installed version of a package, or of its build without GPU code."""
    try:
        return version(package)
    except PackageNotFoundError:
        return version(f"{package}-cpu")
