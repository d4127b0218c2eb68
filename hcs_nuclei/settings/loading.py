"""Recipe file, environment and options in, settings out; what is not valid is named."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from hcs_nuclei.errors import SettingsError
from hcs_nuclei.settings.recipe import Settings

ENV_PREFIX = "HCS_NUCLEI_"
#: Variables with the prefix that are not settings of an assay.
_ENV_OTHER = {
    "HCS_NUCLEI_HOME",
    "HCS_NUCLEI_CLUSTER",
    "HCS_NUCLEI_ALLOW_PLAIN_TCP",
    "HCS_NUCLEI_ALLOWED_ROOTS",
    "HCS_NUCLEI_LOG_FORMAT",
    "HCS_NUCLEI_METRICS_FILE",
    "HCS_NUCLEI_RUNS_URL",
}
#: Settings that name a file, or hold a word instead.
_FILES = ("layout", "barcodes", "exclusions")


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
    layers: list[dict[str, Any]] = []
    if recipe is not None:
        layers.append(_seen_from(recipe.parent, _read_recipe(recipe)))
    layers.append(_seen_from(Path(), _from_environ(os.environ if environ is None else environ)))
    layers.append(_seen_from(Path(), _drop_none(options or {})))
    merged: dict[str, Any] = {}
    for layer in layers:
        _merge(merged, layer, fold=layer is not layers[0])
        light, asked = merged.get("illumination"), layer.get("illumination")
        if isinstance(light, dict) and isinstance(asked, Mapping) and asked.get("method", "file") != "file":
            # Another method than the recipe's is asked for, whose images are then of no use.
            for images in {"flat_field", "dark"} - asked.keys():
                light.pop(images, None)
    try:
        return Settings.model_validate(merged)
    except ValidationError as error:
        where = f" (recipe {recipe})" if recipe else ""
        raise SettingsError(f"The settings are not valid{where}:\n" + _faults(error)) from None


def read_yaml(text: str) -> Any:
    """What a recipe's text holds, as people read it: a name stands once, numbers are decimal, a date is a text.

    Raises:
        yaml.YAMLError: it is no YAML, or a name stands twice.
    """
    return yaml.load(text, _Loader)


def _read_recipe(path: Path) -> dict[str, Any]:
    try:
        content = read_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"The recipe {path} cannot be read: {error.strerror}.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"The recipe {path} is not YAML: {error}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise SettingsError(f"The recipe {path} holds a {type(content).__name__}; expected names with values.")
    content.pop("match", None)  # which plates the service processes with it
    return content


def _seen_from(folder: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings whose files are named from `folder`, with absolute names: a run may go on from anywhere."""
    files = {name: settings[name] for name in _FILES if isinstance(settings.get(name), str)}
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
    if setting in {"channel", "model", "plate_name", "pattern", *_FILES}:
        return text
    try:
        return read_yaml(text)
    except yaml.YAMLError:
        raise SettingsError(f"{name} is {text!r}, which is no value; write it as in a recipe.") from None


_TAG = "tag:yaml.org,2002:"


class _Loader(yaml.SafeLoader):  # type: ignore[misc]  # it comes without types
    """YAML as people read it: a name stands once, numbers are decimal, a date is a text."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [self.construct_object(key, deep=True) for key, _ in node.value if key.tag != f"{_TAG}merge"]
        if twice := [name for name in names if names.count(name) > 1]:
            raise yaml.constructor.ConstructorError(None, None, f"{twice[0]!r} stands there twice", node.start_mark)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern)
        for tag, pattern in known
        if tag not in {f"{_TAG}{kind}" for kind in ("int", "float", "timestamp")}
    ]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(f"{_TAG}int", re.compile(r"[-+]?(?:0|[1-9]\d*)$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    f"{_TAG}float", re.compile(r"[-+]?(?:\d+\.\d*|\.\d+)(?:[eE][-+]?\d+)?$"), list("-+.0123456789")
)


def _merge(into: dict[str, Any], other: Mapping[str, Any], *, fold: bool) -> None:
    for name, value in other.items():
        # Variables have no lower case: of a gate or channel that the recipe names, the recipe's letters hold.
        alike = (known for known in into if fold and str(known).casefold() == str(name).casefold())
        key = name if name in into else next(alike, name)
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value, fold=fold)
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
