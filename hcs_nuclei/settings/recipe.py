"""The assay recipe: every setting that changes a result, validated, comparable, with a fingerprint."""

from __future__ import annotations

import hashlib
import json
from typing import Literal

import yaml
from pydantic import Field, field_validator

from hcs_nuclei.settings.aggregation import AggregationSettings, CallSettings, GateSettings, check_gate_names
from hcs_nuclei.settings.export import ExportSettings
from hcs_nuclei.settings.groups import (
    Group,
    IlluminationSettings,
    OutputSettings,
    SegmentationSettings,
    StagingSettings,
)
from hcs_nuclei.settings.measurement import MeasurementSettings
from hcs_nuclei.settings.qc import QcSettings
from hcs_nuclei.settings.statistics import StatisticsSettings

#: Settings that are applied when the wells are done: with others, tables and report are made again, and no well.
WHEN_FINISHED = {"layout", "exclusions", "qc", "aggregation", "gates", "calls", "statistics", "export"}
#: Settings that say what things are called and what is made of the wells, not how a nucleus is found or measured.
NO_RESULT = {"model", "plate_name", "barcodes", "staging", *WHEN_FINISHED}


class Settings(Group):
    """One assay recipe; also the parameter form in the Prefect UI."""

    channel: str | None = Field(
        default=None,
        title="Nuclear channel",
        description=(
            "Name or vendor token (DAPI, w1, ch1, C01, d0); left out: a DAPI/Hoechst-like name, or the only one."
        ),
    )
    z: Literal["auto", "max"] | int = Field(
        default="auto",
        title="Z planes",
        description=(
            "auto: the instrument's projection, else the maximum; max: maximum of all planes; a number: that plane."
        ),
    )
    model: str = Field(
        default="default",
        title="Model",
        description="Identifier in the model store, or a directory with a model card; 'default' is the promoted one.",
    )
    plate_name: str | None = Field(
        default=None, min_length=1, title="Plate name", description="Instead of the vendor's barcode or plate name."
    )
    pattern: str | None = Field(
        default=None,
        title="File name pattern",
        description=(
            "Regular expression with named groups well (or row and column), field, channel, z, t, for plates of no "
            "known vendor."
        ),
    )
    pixel_size_um: float | None = Field(
        default=None,
        gt=0,
        le=50,
        title="Pixel size (µm)",
        description=(
            "Edge of a pixel in the sample, for plates whose vendor gives none: without it there is no density, and "
            "nothing in µm. A plate that gives another, by more than 1 %, is refused."
        ),
    )
    layout: str = Field(
        default="auto",
        min_length=1,
        title="Plate layout",
        description=(
            "File (CSV, TSV, XLSX, Harmony XML) or cytomining folder with the wells' treatments, as seen from the "
            "recipe; auto: the run's own, else one that lies in the plate's directory; none: no treatments."
        ),
    )
    barcodes: str | None = Field(
        default=None,
        min_length=1,
        title="List of barcodes",
        description="File with the screen's barcodes, as seen from the recipe; a plate that is not on it is held.",
    )
    exclusions: str = Field(
        default="auto",
        min_length=1,
        title="Exclusions",
        description=(
            "File (CSV, TSV, XLSX) with wells and fields that do not count, and why, as seen from the recipe; auto: "
            "those that the run has; none."
        ),
    )
    segmentation: SegmentationSettings = Field(default=SegmentationSettings(), title="Segmentation")
    illumination: IlluminationSettings = Field(default=IlluminationSettings(), title="Illumination")
    measurement: MeasurementSettings = Field(default=MeasurementSettings(), title="Measurement")
    qc: QcSettings = Field(default=QcSettings(), title="Quality flags")
    output: OutputSettings = Field(default=OutputSettings(), title="Output")
    staging: StagingSettings = Field(default=StagingSettings(), title="Plates at URLs")
    aggregation: AggregationSettings = Field(default=AggregationSettings(), title="Aggregation")
    gates: dict[str, GateSettings] = Field(
        default={},
        title="Gates",
        description=(
            "By name: a feature, and one of above, below (a value), above_quantile, below_quantile (of the plate's "
            "negative controls)."
        ),
    )
    calls: CallSettings = Field(default=CallSettings(), title="Calls of nuclei")
    statistics: StatisticsSettings = Field(default=StatisticsSettings(), title="Statistics")
    export: ExportSettings = Field(default=ExportSettings(), title="Export")

    @field_validator("gates")
    @classmethod
    def _gates(cls, gates: dict[str, GateSettings]) -> dict[str, GateSettings]:
        return check_gate_names(gates)

    def fingerprint(self) -> str:
        """sha256 (hex) of the settings that change results; equal settings give equal text on every machine.

        The model is left out: a run resolves it to its sha256, which stands beside this. So are names: what a plate is
        called stands in every fingerprint of a well. A layout and the limits of quality are applied when the wells are
        done. Of an illumination image the content counts, which is in the calibration, and not where it lies. A pixel
        size that is left out is left out here too, so that runs from before there was one have their fingerprint.
        """
        files = {"illumination": {"flat_field", "dark"}}
        plain = self.model_dump(mode="json", exclude={**dict.fromkeys(NO_RESULT, True), **files})
        if self.pixel_size_um is None:
            del plain["pixel_size_um"]
        return hashlib.sha256(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def to_yaml(self) -> str:
        """The recipe as YAML, as ``--assay`` reads it."""
        return str(yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False))
