"""The assay recipe: every setting that changes a result, validated, comparable, with a fingerprint.

Settings come from defaults < recipe file (YAML) < ``HCS_NUCLEI_*`` < options. What does not change a result
(cluster, number of workers, overwrite) is not a setting and never part of the fingerprint.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from hcs_nuclei.errors import SettingsError

ENV_PREFIX = "HCS_NUCLEI_"
#: Variables with the prefix that are not settings of an assay.
_ENV_OTHER = {"HCS_NUCLEI_HOME", "HCS_NUCLEI_ALLOW_PLAIN_TCP"}


#: Settings that say what things are called and not how a nucleus is found or measured.
NO_RESULT = {"model", "plate_name", "layout", "barcodes"}


class _Group(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class SegmentationSettings(_Group):
    """How pixels become label images."""

    diameter_px: float | None = Field(
        default=None,
        gt=2,
        le=500,
        title="Nucleus diameter (px)",
        description="Median nucleus diameter in pixels of the input; left out, it is estimated once per plate.",
    )
    minimum_area_px: int = Field(
        default=20, ge=1, title="Smallest nucleus (px²)", description="Objects with a smaller area are debris."
    )


class IlluminationSettings(_Group):
    """How uneven light is taken out before anything is measured."""

    method: Literal["auto", "vendor", "estimate", "file", "off"] = Field(
        default="auto",
        title="Illumination",
        description=(
            "auto: the vendor's own profiles where there are any, else off; vendor: those, or it is refused; estimate: "
            "from a sample of the plate's fields (16 or more); file: flat-field images that are given; off."
        ),
    )
    flat_field: dict[str, str] = Field(
        default={},
        title="Flat-field images",
        description="For file: channel (name or token) and its image (TIFF, PNG, .npy), as seen from the recipe.",
    )
    dark: dict[str, float | str] = Field(
        default={},
        title="Dark images",
        description="For file: channel and its image without light, or the counts that the camera gives then.",
    )

    @field_validator("method", mode="before")
    @classmethod
    def _off(cls, value: Any) -> Any:
        return "off" if value is False else value  # as YAML reads the word

    @model_validator(mode="after")
    def _files(self) -> IlluminationSettings:
        if (self.method == "file") != bool(self.flat_field) or (self.dark and not self.flat_field):
            raise ValueError("the method file and the images in flat_field (and dark) go together; give both or none")
        return self


class OutputSettings(_Group):
    """What is written beside the tables."""

    image: bool = Field(
        default=True,
        title="Write the nuclear channel",
        description="Copy the nuclear channel (lossless) beside its labels; off leaves a valid store without pixels.",
    )


class Settings(_Group):
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
    segmentation: SegmentationSettings = SegmentationSettings()
    illumination: IlluminationSettings = IlluminationSettings()
    output: OutputSettings = OutputSettings()

    def fingerprint(self) -> str:
        """sha256 (hex) of the settings that change results; equal settings give equal text on every machine.

        The model is left out: a run resolves it to its sha256, which stands beside this. So are names: what a plate is
        called stands in every fingerprint of a well, and a layout is joined when the wells are done. Of an illumination
        image the content counts, which is in the calibration, and not where it lies.
        """
        files = {"illumination": {"flat_field", "dark"}}
        plain = self.model_dump(mode="json", exclude={**dict.fromkeys(NO_RESULT, True), **files})
        return hashlib.sha256(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def to_yaml(self) -> str:
        """The recipe as YAML, as ``--assay`` reads it."""
        return str(yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False))


def load_settings(
    recipe: Path | None = None,
    options: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """Settings from defaults < `recipe` < environment < `options`.

    Args:
        recipe: a YAML file with any of the settings, None for none.
        options: nested mapping of what was asked for on the command line; None values are "not asked".
        environ: ``HCS_NUCLEI_CHANNEL=DAPI``, ``HCS_NUCLEI_SEGMENTATION__DIAMETER_PX=20``; None for the process's own.

    Raises:
        SettingsError: the recipe cannot be read, or a value is not valid; says which and what is expected.
    """
    merged: dict[str, Any] = {}
    if recipe is not None:
        _merge(merged, _seen_from(recipe.parent, _read_recipe(recipe)))
    _merge(merged, _seen_from(Path(), _from_environ(os.environ if environ is None else environ)))
    _merge(merged, _seen_from(Path(), _drop_none(options or {})))
    try:
        return Settings.model_validate(merged)
    except ValidationError as error:
        where = f" (recipe {recipe})" if recipe else ""
        raise SettingsError(f"The settings are not valid{where}:\n" + _faults(error)) from None


def _read_recipe(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"The recipe {path} cannot be read: {error.strerror}.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"The recipe {path} is not YAML: {error}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise SettingsError(f"The recipe {path} holds a {type(content).__name__}; expected names with values.")
    return content


def _seen_from(folder: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings whose files are named from `folder`, with absolute names: a run may go on from anywhere."""
    files = {name: settings[name] for name in ("layout", "barcodes") if isinstance(settings.get(name), str)}
    absolute = {name: os.path.abspath(folder / os.path.expanduser(file)) for name, file in files.items()}
    seen = {**settings, **{name: path for name, path in absolute.items() if files[name] not in {"", "auto", "none"}}}
    if isinstance(group := settings.get("illumination"), Mapping):
        images = {name: _absolute(folder, group[name]) for name in ("flat_field", "dark") if name in group}
        seen["illumination"] = {**group, **images}
    return seen


def _absolute(folder: Path, files: Any) -> Any:
    """Each channel's file with an absolute name; what is no file (the counts of a dark image) stays."""
    if not isinstance(files, Mapping):
        return files
    return {
        channel: os.path.abspath(folder / os.path.expanduser(file)) if isinstance(file, str) and file else file
        for channel, file in files.items()
    }


def _from_environ(environ: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, text in sorted(environ.items()):
        if not name.startswith(ENV_PREFIX) or name in _ENV_OTHER:
            continue
        *groups, last = name.removeprefix(ENV_PREFIX).lower().split("__")
        if (groups[0] if groups else last) not in Settings.model_fields:
            raise SettingsError(
                f"{name} names no setting; expected {ENV_PREFIX} and one of "
                f"{', '.join(n.upper() for n in Settings.model_fields)}. Unset it or correct its name."
            )
        inner = found
        for group in groups:
            if not isinstance(inner.setdefault(group, {}), dict):
                raise SettingsError(f"{name} sets a part of {group}, but another variable sets all of it. Unset one.")
            inner = inner[group]
        inner[last] = _read_variable(name, last, text)
    return found


def _read_variable(name: str, setting: str, text: str) -> Any:
    """The value of a variable: YAML's, so that it reads as the same words in a recipe would; texts stay texts."""
    if setting in {"channel", "model", "plate_name", "pattern", "layout", "barcodes"}:
        return text
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise SettingsError(f"{name} is {text!r}, which is no value; write it as in a recipe.") from None


def _merge(into: dict[str, Any], other: Mapping[str, Any]) -> None:
    for key, value in other.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = dict(value) if isinstance(value, Mapping) else value


def _drop_none(options: Mapping[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for key, value in options.items():
        if isinstance(value, Mapping):
            inner = _drop_none(value)
            if inner:
                kept[key] = inner
        elif value is not None:
            kept[key] = value
    return kept


def _faults(error: ValidationError) -> str:
    lines = []
    for fault in error.errors():
        place = ".".join(str(part) for part in fault["loc"])
        given = "" if fault["type"] == "extra_forbidden" else f" (found {fault['input']!r})"
        message = "no such setting" if fault["type"] == "extra_forbidden" else fault["msg"]
        lines.append(f"  {place}: {message}{given}")
    return "\n".join(dict.fromkeys(lines))
