"""Treatment names and texts as a file has them in, ``Metadata_*`` columns with types, units and controls out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from hcs_nuclei.columns import (
    NUCLEUS_CALLS,
    Column,
    Dtype,
    Measured,
    field_columns,
    nucleus_columns,
    well_columns,
)
from hcs_nuclei.errors import listed
from hcs_nuclei.layouts.layout import Position, Value
from hcs_nuclei.layouts.lists import plain
from hcs_nuclei.plate import well_name

#: Columns that what comes after a run looks for, by the names that people give them (as :func:`plain` has them).
_KNOWN = {
    "compound": "Compound",
    "compound_name": "Compound",
    "drug": "Compound",
    "drug_name": "Compound",
    "concentration": "Concentration",
    "conc": "Concentration",
    "dose": "Concentration",
    "concentration_unit": "Concentration_unit",
    "concentration_units": "Concentration_unit",
    "conc_unit": "Concentration_unit",
    "dose_unit": "Concentration_unit",
    "unit": "Concentration_unit",
    "units": "Concentration_unit",
    "control_type": "control_type",
    "controltype": "control_type",
    "pert_type": "pert_type",
    "replicate": "Replicate",
    "rep": "Replicate",
    "broad_sample": "broad_sample",
    "plate_map_name": "plate_map_name",
}
_MEANINGS = {
    "Metadata_Compound": "compound",
    "Metadata_Concentration": "concentration",
    "Metadata_Concentration_unit": "unit of the concentration",
    "Metadata_control_type": "negcon, poscon (or poscon_…), trt, empty",
    "Metadata_Replicate": "number of the replicate",
}
#: Names, kinds and units, never numbers, even where all of them are digits.
_TEXT = {
    f"Metadata_{name}"
    for name in ("Compound", "Concentration_unit", "control_type", "pert_type", "broad_sample", "plate_map_name")
}
_DOSE, _UNIT, _CONTROL, _PERT = (
    f"Metadata_{name}" for name in ("Concentration", "Concentration_unit", "control_type", "pert_type")
)
#: A concentration's unit at the end of its column's name.
_DOSE_NAME = re.compile(
    r"(?:metadata_)?(?:concentration|conc|dose)[\s_]*[(\[]?\s*"
    r"(?P<unit>[munpfµμ]?M|[mnuµμ]mol[/_]l|[munpµμ]?g[/_]m?l|%)\s*[)\]]?",
    re.IGNORECASE,
)
_BRACKETED = re.compile(r"(?P<name>.*\S)\s*[(\[](?P<unit>[^)\]]+)[)\]]")
_INTEGER = re.compile(r"[+-]?(0|[1-9]\d{0,17})")
_NUMBER = re.compile(r"[+-]?((0|[1-9]\d*)(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?")
#: What people, R and Excel write where something is missing.
_MISSING = {"na", "n/a", "#n/a", "nan", "null"}
#: The same, and what may as well be a word, where a number is missing.
_NO_NUMBER = _MISSING | {"none", "-"}
_CONTROLS = {
    "negcon": "neg negative negcontrol negativecontrol negctrl negctl vehicle vehiclecontrol ctlvehicle untreated "
    "ctluntrt negcon dmso",
    "poscon": "pos positive poscontrol positivecontrol posctrl posctl ctlpositive poscon",
    "trt": "trt treated treatment sample test compound trtcp",
    "empty": "empty blank",
}
_CONTROL_WORDS = {word: kind for kind, words in _CONTROLS.items() for word in words.split()}

Texts = Mapping[Position, Mapping[str, str]]


@dataclass(frozen=True)
class Treatments:
    """Typed treatments: the columns in order, the values of each well by column, and what is wrong or odd."""

    columns: tuple[Column, ...]
    wells: dict[Position, dict[str, Value]]
    faults: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def name_treatments(
    names: Sequence[str], wells: Texts, units: Mapping[str, str] | None = None, *, decimal_comma: bool = False
) -> Treatments:
    """The treatment columns of texts by the file's names; a column that is empty in every well is left out.

    A column of which every value is a number has numbers; ``00123`` is text, and so are names, kinds and units. ``NA``
    is nothing in such a column, and in all others of a file that has it there. With `decimal_comma` a column may have
    it. `units` are those that the file gives a column beside its name.
    """
    wells = _without_missing(wells, decimal_comma)
    used = [name for name in names if any(name in values for values in wells.values())]
    targets = _targets(used)
    reserved = _reserved()
    faults = [
        f"the column {name!r} would be {target}, which is one of the tables' own; give it another name"
        for name, target in targets.items()
        if target.casefold() in reserved
    ]
    columns: list[Column] = []
    typed: dict[Position, dict[str, Value]] = {position: {} for position in wells}
    warnings: list[str] = []
    for name, target in targets.items():
        texts = {position: values[name] for position, values in wells.items() if name in values}
        if target in {_CONTROL, _PERT}:
            texts = texts if target == _PERT else _controls(texts, warnings)
        dtype, values = _typed(texts, text=target in _TEXT, decimal_comma=decimal_comma)
        if target == _DOSE and dtype == "string":
            position, text = next((p, t) for p, t in texts.items() if not _NUMBER.fullmatch(t))
            warnings.append(f"{target} is text, since {well_name(*position)} has {text!r}; no dose can be read from it")
        unit = (units or {}).get(name) or _unit_of(name)
        columns.append(Column(target, dtype, unit, _MEANINGS.get(target, f"{name!r} of the plate layout")))
        for position, value in values.items():
            typed[position][target] = value
    columns = [*_with_unit(columns, typed)]
    columns = [*_with_control_type(columns, typed, warnings)]
    return Treatments(tuple(columns), typed, tuple(faults), tuple(warnings))


def _without_missing(wells: Texts, decimal_comma: bool) -> Texts:
    """Texts without the words for what is missing, where a column of numbers shows that the file has such words."""
    names = dict.fromkeys(name for values in wells.values() for name in values)
    words: set[str] = set()
    for name in names:
        texts = {position: values[name] for position, values in wells.items() if name in values}
        if _typed(texts, text=False, decimal_comma=decimal_comma)[0] != "string":
            words |= {text for text in texts.values() if text.casefold() in _MISSING}
    return {place: {n: text for n, text in values.items() if text not in words} for place, values in wells.items()}


def _targets(names: Sequence[str]) -> dict[str, str]:
    """The table's name of each of the file's; the first that may be the well-known one is, others keep their own."""
    targets: dict[str, str] = {}
    for exact in (True, False):
        for name in names:
            known = "Concentration" if _DOSE_NAME.fullmatch(name.strip()) else _KNOWN.get(plain(name))
            if name in targets or known is None or (exact and plain(name) != known.casefold()):
                continue
            if f"Metadata_{known}" not in targets.values():
                targets[name] = f"Metadata_{known}"
    for name in names:
        if name not in targets:
            own = "Metadata_" + (re.sub(r"[^\w%]+", "_", re.sub(r"(?i)^metadata_", "", name.strip())).strip("_") or "X")
            while own.casefold() in {target.casefold() for target in targets.values()}:
                own += "_2"
            targets[name] = own
    return {name: targets[name] for name in names}


def _reserved() -> set[str]:
    nothing = Measured((), "")
    own = (*nucleus_columns(nothing), *NUCLEUS_CALLS, *field_columns(nothing), *well_columns(nothing))
    return {column.name.casefold() for column in own}


def _unit_of(name: str) -> str:
    match = _DOSE_NAME.fullmatch(name.strip()) or _BRACKETED.fullmatch(name.strip())
    return match["unit"].strip() if match else ""


def _typed(texts: Mapping[Position, str], *, text: bool, decimal_comma: bool) -> tuple[Dtype, dict[Position, Value]]:
    """(dtype, values): int64, float64 or string, whichever holds every value as it was written."""
    present = {p: t for p, t in texts.items() if t.casefold() not in _NO_NUMBER}
    numbers = _with_points(present) if decimal_comma else present
    if text or not numbers or not all(_NUMBER.fullmatch(t) for t in numbers.values()):
        return "string", dict(texts)
    if all(_INTEGER.fullmatch(t) for t in numbers.values()):
        return "int64", {p: int(t) for p, t in numbers.items()}
    return "float64", {p: float(t) for p, t in numbers.items()}


def _with_points(texts: dict[Position, str]) -> dict[Position, str]:
    """Decimal commas as points, where one of the values can only be read so: ``1,250`` alone may be 1250."""
    with_comma = [t for t in texts.values() if re.fullmatch(r"[+-]?\d*,\d+([eE][+-]?\d+)?", t)]
    if not any(not re.fullmatch(r"[+-]?[1-9]\d{0,2},\d{3}", t) for t in with_comma):
        return texts
    if any("." in t for t in texts.values()):  # 1.000 beside 2,5 is a thousand, or a slip: no number is guessed
        return texts
    return {p: t.replace(",", ".") if t in with_comma else t for p, t in texts.items()}


def _with_unit(columns: Sequence[Column], wells: dict[Position, dict[str, Value]]) -> Iterable[Column]:
    """The unit of a concentration that stood in its column's name, in a column of its own as well."""
    there = {column.name for column in columns}
    for column in columns:
        yield column
        if column.name == _DOSE and column.unit and _UNIT not in there:
            for values in wells.values():
                if _DOSE in values:
                    values[_UNIT] = column.unit
            yield Column(_UNIT, "string", "", _MEANINGS[_UNIT])


def _with_control_type(
    columns: Sequence[Column], wells: dict[Position, dict[str, Value]], warnings: list[str]
) -> Iterable[Column]:
    """``Metadata_control_type`` from ``Metadata_pert_type`` where a well has none."""
    there = {column.name for column in columns}
    yield from columns
    if _PERT not in there:
        return
    filled = False
    for values in wells.values():
        kind = _control_kind(str(values.get(_PERT, "")))
        if _CONTROL not in values and kind is not None:
            values[_CONTROL] = kind
            filled = True
    if filled and _CONTROL not in there:
        yield Column(_CONTROL, "string", "", _MEANINGS[_CONTROL])


def _controls(texts: Mapping[Position, str], warnings: list[str]) -> dict[Position, str]:
    """Controls by their kind: ``Negative control`` → ``negcon``; words that are not known stay, and are named."""
    unknown = dict.fromkeys(text for text in texts.values() if _control_kind(text) is None)
    if unknown:
        warnings.append(
            f"{_CONTROL} has {listed(map(repr, unknown))}, which is no kind of control that is known (negcon, poscon, "
            "poscon_…, trt, empty); it is left as it is"
        )
    return {position: _control_kind(text) or text for position, text in texts.items()}


def _control_kind(text: str) -> str | None:
    if re.fullmatch(r"(?i)(neg|pos)con_\w+", text):
        return text[:6].lower() + text[6:]
    return _CONTROL_WORDS.get(re.sub(r"[\W_]+", "", text.casefold()))
