"""What the well table is made from and which nuclei are called what: settings that need no pixel again."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from hcs_nuclei.settings.groups import Group

#: How a name of a gate may look, since it ends columns.
_GATE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


class AggregationSettings(Group):
    """Which fields and nuclei a well's figures are made from."""

    qc: Literal["default", "none"] | tuple[str, ...] = Field(
        default="default",
        title="Quality flags that count",
        description=(
            "Which flags keep a field or nucleus out of density, aggregates and fractions: default (Blank, "
            "OutOfFocus), none, or a list of flags of fields (OutOfFocus) and of nuclei (nucleus:Saturated)."
        ),
    )
    minimum_fields: float = Field(
        default=0.25,
        ge=0,
        le=1,
        title="Fewest valid fields",
        description=(
            "Share of a well's expected fields that must be valid; with fewer, its density, aggregates and fractions "
            "are null and Metadata_QC_TooFewFields is set."
        ),
    )

    @field_validator("qc", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        if value is None or value is False or value == []:  # as YAML reads the words
            return "none"
        if isinstance(value, str) and value not in {"default", "none"}:
            value = [part.strip() for part in value.split(",") if part.strip()]
        if isinstance(value, list | tuple):
            return tuple(name.replace("Metadata_QC_", "") if isinstance(name, str) else name for name in value)
        return value


class GateSettings(Group):
    """A nucleus is positive where a feature lies above, or below, a cut: fixed, or a quantile of negative controls."""

    feature: str = Field(
        title="Feature", description="Column of the nucleus table, Nuclei_Intensity_MeanIntensity_FITC for instance."
    )
    above: float | None = Field(default=None, title="Above", description="Positive above this value.")
    below: float | None = Field(default=None, title="Below", description="Positive below this value.")
    above_quantile: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        title="Above quantile",
        description="Positive above this quantile of the plate's negative controls (0.95: of them 5 % are).",
    )
    below_quantile: float | None = Field(
        default=None, gt=0, lt=1, title="Below quantile", description="Positive below this quantile of them."
    )

    @model_validator(mode="after")
    def _one_cut(self) -> GateSettings:
        cuts = (self.above, self.below, self.above_quantile, self.below_quantile)
        if sum(cut is not None for cut in cuts) != 1:
            raise ValueError("give exactly one of above, below, above_quantile and below_quantile")
        return self

    @property
    def side(self) -> Literal["above", "below"]:
        """Where the positive nuclei lie."""
        return "above" if self.above is not None or self.above_quantile is not None else "below"

    @property
    def cut(self) -> float | None:
        """The fixed cut; None where it is a quantile."""
        return self.above if self.above is not None else self.below

    @property
    def quantile(self) -> float | None:
        """The quantile of the negative controls; None where the cut is fixed."""
        return self.above_quantile if self.above_quantile is not None else self.below_quantile


class CallSettings(Group):
    """How nuclei are called by their DNA content and chromatin; sizes and intensities are relative to the plate's
    negative controls.
    """

    optics: Literal["auto", "widefield", "confocal"] = Field(
        default="auto",
        title="Optics",
        description=(
            "DNA content is not called of confocal images; auto goes by Harmony's index (AcquisitionType), takes "
            "CellVoyager plates for confocal, and all others for wide field."
        ),
    )
    minimum_confidence: float = Field(
        default=0.5, ge=0, le=1, title="Lowest confidence", description="Of a nucleus whose DNA content is called."
    )
    minimum_solidity: float = Field(
        default=0.9,
        ge=0,
        le=1,
        title="Lowest solidity",
        description="Of a nucleus whose DNA content is called: less solid ones are merged, or several.",
    )
    minimum_nuclei: int = Field(
        default=200, ge=50, title="Fewest nuclei", description="That the G1 peak is looked for in."
    )
    widest_peak: float = Field(
        default=0.2, gt=0, le=0.4, title="Broadest G1 peak", description="Its standard deviation in log2; 0.2 is 14 %."
    )
    condensed_intensity: float = Field(
        default=1.7,
        gt=1,
        title="Condensed: intensity",
        description="Mean intensity above background from which a small nucleus is condensed, times the controls'.",
    )
    condensed_area: float = Field(
        default=0.8, gt=0, title="Condensed: area", description="Largest area of a condensed nucleus, times theirs."
    )
    apoptotic_area: float = Field(
        default=0.5,
        gt=0,
        title="Apoptotic-like: area",
        description="Largest area of a condensed nucleus that is shrunken, not in mitosis, times theirs.",
    )
    apoptotic_eccentricity: float = Field(
        default=0.8,
        ge=0,
        le=1,
        title="Apoptotic-like: eccentricity",
        description="Largest eccentricity of one: plates of metaphase and anaphase are longer.",
    )
    debris_area: float = Field(
        default=0.3, gt=0, title="Debris: area", description="Largest area of a micronucleus or debris, times theirs."
    )
    debris_intensity: float = Field(
        default=0.3,
        gt=0,
        title="Debris: integrated intensity",
        description="Largest integrated intensity above background of a micronucleus or debris, times theirs.",
    )


def check_gate_names(gates: dict[str, GateSettings]) -> dict[str, GateSettings]:
    """The gates, if their names can end columns.

    Raises:
        ValueError: a name has other characters than letters, digits and underscores, or two differ in case alone.
    """
    odd = [name for name in gates if not _GATE_NAME.fullmatch(name)]
    if odd:
        raise ValueError(f"{', '.join(odd)}: a gate is named by a letter, then letters, digits and underscores")
    if len({name.casefold() for name in gates}) < len(gates):
        raise ValueError("two gates have the same name but for its case")
    return gates
