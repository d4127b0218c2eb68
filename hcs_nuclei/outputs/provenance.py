"""What a run was made from and with, and how it ended: ``run.json``, with a JSON schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hcs_nuclei.columns import READABLE_VERSIONS, SCHEMA_VERSION, Measured
from hcs_nuclei.errors import RunConflictError
from hcs_nuclei.files import replace_file
from hcs_nuclei.screening.exclusions import Exclusions
from hcs_nuclei.segmentation.familiarity import FieldStatistics
from hcs_nuclei.settings import Settings

RUN_FILE = "run.json"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class Source(_Part):
    """Where the images came from."""

    directory: str
    vendor: str
    reason: str
    expected_from: Literal["metadata", "regularity"]
    metadata_files: tuple[str, ...]
    wells_in_format: int
    wells: int
    fields: int
    timepoints: int
    pixel_size_um: float | None
    confocal: bool | None = Field(
        default=None, description="whether the images are optical sections; null where the vendor does not say"
    )
    nuclear_image: Literal["plane", "maximum", "projection", "unknown"] = Field(
        default="unknown", description="what an image of the nuclear channel is made of: one z plane, or several"
    )


class ChannelRecord(_Part):
    """One channel: the vendor's token, its name, and how its columns end."""

    token: str
    name: str
    column: str
    nuclear: bool


class ModelRecord(_Part):
    """The model that segmented, by content."""

    name: str
    identifier: str
    sha256: str
    architecture: str
    training_diameter_px: float | None = None
    field_statistics: FieldStatistics | None = Field(
        default=None, description="what its training images looked like; None where its card does not say"
    )


class ChannelIllumination(_Part):
    """How the light falls over the field in one channel, and where that is known from.

    `gain` (1 on average) and `dark` (counts) are polynomials in x and y from -0.5 to 0.5 across the field: coefficients
    of 1, x, y, x², xy, y² …; measured are (counts - dark) / gain + the average of dark. Empty where nothing is done.
    """

    token: str
    source: Literal["vendor", "file", "estimate", "none"]
    origin: str = Field(description="what it was made from, or why there is none")
    gain: tuple[float, ...] = ()
    dark: tuple[float, ...] = ()
    lowest_gain: float | None = None
    highest_gain: float | None = None
    sha256: str = Field(default="", description="of gain and dark")
    refused: bool = Field(default=False, description="there was something to correct with, and it was not believed")


class Illumination(_Part):
    """What was done about uneven light."""

    method: Literal["auto", "vendor", "estimate", "file", "off"]
    sample: tuple[str, ...] = Field(default=(), description="the fields that an estimate was made from, as B03/1")
    channels: tuple[ChannelIllumination, ...] = ()
    warnings: tuple[str, ...] = ()


class Calibration(_Part):
    """What was found once for the whole plate, on a fixed sample of its fields, before any well was processed."""

    diameter_px: float | None = Field(description="median nucleus diameter; None where the sample shows no nucleus")
    diameter_from: Literal["settings", "estimate", "none"]
    saturation: int | None = Field(
        description="the nuclear channel's limit in counts; None where the sample shows none: each field is looked at"
    )
    sample: tuple[str, ...] = Field(default=(), description="the sampled fields, as B03/1")
    illumination: Illumination | None = None


class TreatmentRecord(_Part):
    """One treatment column of the well table."""

    name: str
    dtype: str
    unit: str


class LayoutRecord(_Part):
    """Where the treatments came from; their values are ``layout.parquet``."""

    source: str
    origin: Literal["file", "vendor"] = Field(description="named by the user, or found in the plate's directory")
    sha256: str = Field(description="of columns and values, whatever the file looked like")
    columns: tuple[TreatmentRecord, ...]
    wells: int = Field(description="wells with a treatment, whether they were imaged or not")
    warnings: tuple[str, ...] = ()


class Outcome(_Part):
    """How the run ended; counts agree with the tables."""

    wells_by_status: dict[str, int]
    fields_by_status: dict[str, int]
    nuclei: int
    faults: tuple[str, ...] = Field(description="one line for each field that is not ok")
    warnings: tuple[str, ...] = Field(
        default=(), description="gates that could not be applied, controls that are not told apart, plate effects"
    )


class RunRecord(_Part):
    """The content of ``run.json``."""

    schema_version: str = SCHEMA_VERSION
    algorithm_version: int
    hcs_nuclei_version: str
    versions: dict[str, str]
    plate: str
    acquisition: str
    source: Source
    channels: tuple[ChannelRecord, ...]
    settings: Settings
    settings_fingerprint: str
    model: ModelRecord
    calibration: Calibration
    layout: LayoutRecord | None = Field(default=None, description="None without treatments")
    exclusions: Exclusions | None = Field(default=None, description="wells and fields that were left out by hand")
    warnings: tuple[str, ...]
    started: str = Field(description="UTC, ISO 8601")
    finished: str | None = Field(default=None, description="UTC, ISO 8601; None while wells are outstanding")
    outcome: Outcome | None = None

    @property
    def measured(self) -> Measured:
        """What was measured of every nucleus, as the tables' columns need it."""
        return Measured(
            tuple(c.column for c in self.channels),
            next(c.column for c in self.channels if c.nuclear),
            frozenset(self.settings.measurement.features),
        )


def write_record(run_dir: Path, record: RunRecord) -> None:
    """Write ``run.json`` atomically; a file with the same content is not touched."""
    text = json.dumps(record.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"
    replace_file(run_dir / RUN_FILE, text.encode())


def read_record(run_dir: Path) -> RunRecord | None:
    """The record of a run; None where there is none.

    Raises:
        RunConflictError: the file is there and is no record that this version can read.
    """
    try:
        record = RunRecord.model_validate_json((run_dir / RUN_FILE).read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError:
        record = None
    if record is None or record.schema_version not in READABLE_VERSIONS:
        raise RunConflictError(
            f"{run_dir / RUN_FILE} was not written by this version of hcs-nuclei, or is damaged. Choose another --out, "
            "or process it again with --overwrite (the former tables are kept under .previous)."
        )
    return record


def run_schema() -> dict[str, Any]:
    """JSON schema of ``run.json``."""
    return RunRecord.model_json_schema()
