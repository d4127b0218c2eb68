r"""Any directory of TIFF or PNG files, read by a regular expression of the user.

::

    <any directory>/
        [<any folders>/]<any names>.tif          .tiff, .png

The expression is searched in each path relative to the directory (with ``/``). Its named groups say what an image
is: ``well`` (``B03``), or ``row`` (letters or a number) and ``column``; and, where there are any, ``field``, ``z``
and ``t`` (numbers) and ``channel`` (any text). For example
``(?P<well>[A-P]\d{2})_f(?P<field>\d+)_(?P<channel>DAPI|GFP)\.tif$``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from hcs_nuclei.errors import NotAPlateError, SettingsError
from hcs_nuclei.plate import Channel, Plate, parse_well, row_number
from hcs_nuclei.sources.assembly import Position, Record, assemble_regularly, plate_format, usual_fields
from hcs_nuclei.sources.listing import Listing, survey

GROUPS = frozenset({"well", "row", "column", "field", "channel", "z", "t"})


def read_by_pattern(directory: Path, pattern: str, listings: Sequence[Listing] | None = None) -> Plate:
    """The plate whose image files at and below `directory`, or in `listings` of it, match `pattern`.

    Raises:
        SettingsError: `pattern` is no regular expression, lacks its groups or has others, or a group holds no number.
        NotAPlateError: there is no image, none matches, or two match as the same plane.
    """
    expression = compile_pattern(pattern)
    listing = _everything(directory, survey(directory) if listings is None else listings)
    records = []
    by_plane: dict[Record, str] = {}
    for path in listing.images:
        match = expression.search(path)
        if match is None:
            continue
        record = _record(match, path)
        former = by_plane.setdefault(record, path)
        if former != path:
            raise NotAPlateError(
                f"{former} and {path} are the same plane by the pattern. "
                "Add the group in which they differ (field, channel, z or t), or make the pattern stricter."
            )
        there, error = listing.admit(path)
        records.append(record._replace(path=there, error=error))
    if not records:
        example = listing.images[0] if listing.images else ""
        found = f"an example is {example}" if example else "there is no .tif, .tiff or .png file"
        raise NotAPlateError(f"No image below {directory} matches the pattern {pattern!r}; {found}.")
    assembly = assemble_regularly(records, usual_fields(records))
    ignored = len(listing.images) - len(records)
    return Plate(
        root=directory,
        vendor="pattern",
        reason=f"{len(records):,} images match the pattern {pattern!r}",
        name=directory.name,
        acquisition="",
        wells=assembly.wells,
        channels=tuple(Channel(token, token or "channel 1") for token in assembly.tokens),
        timepoints=len(assembly.times),
        wells_in_format=plate_format(assembly.wells),
        warnings=(
            *assembly.warnings,
            *listing.problems,
            *((f"{ignored:,} images do not match the pattern and are not used.",) if ignored else ()),
        ),
    )


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """`pattern` compiled, having the groups that are needed and no others.

    Raises:
        SettingsError: it does not.
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise SettingsError(f"The pattern {pattern!r} is not a regular expression: {error}.") from None
    groups = set(expression.groupindex)
    if groups - GROUPS:
        raise SettingsError(
            f"The pattern has the group {', '.join(sorted(groups - GROUPS))}; "
            f"known are {', '.join(sorted(GROUPS))}. Rename it, or write (?:…) for a group without a name."
        )
    if "well" not in groups and not {"row", "column"} <= groups:
        raise SettingsError(f"The pattern {pattern!r} needs a group (?P<well>…), or both (?P<row>…) and (?P<column>…).")
    return expression


def _everything(directory: Path, listings: Sequence[Listing]) -> Listing:
    """One listing of all of them: here a folder has no meaning but what the pattern gives it."""
    parts = [(part, f"{part.root.relative_to(directory).as_posix()}/".removeprefix("./")) for part in listings]
    return Listing(
        directory,
        tuple(sorted(before + name for part, before in parts for name in part.files)),
        frozenset(before + name for part, before in parts for name in part.links),
        tuple(problem for part, _ in parts for problem in part.problems),
    )


def _record(match: re.Match[str], path: str) -> Record:
    groups = {name: text for name, text in match.groupdict().items() if text is not None}
    row, column = _well(groups, path)
    return Record(
        row,
        column,
        _number(groups, "field", 1, path),
        groups.get("channel", ""),
        _number(groups, "t", 1, path),
        _number(groups, "z", 0, path),
        False,
        "",
    )


def _well(groups: dict[str, str], path: str) -> Position:
    try:
        if "well" in groups:
            return parse_well(groups["well"])
        row = groups.get("row", "")
        name = (int(row) if row.isdigit() else row_number(row)), int(groups.get("column", ""))
    except ValueError as error:
        raise SettingsError(f"The pattern finds no well in {path}: {error}.") from None
    if not (1 <= name[0] <= 32 and 1 <= name[1] <= 48):
        raise SettingsError(f"The pattern finds row {name[0]}, column {name[1]} in {path}, which is on no plate.")
    return name


def _number(groups: dict[str, str], name: str, absent: int, path: str) -> int:
    text = groups.get(name)
    if text is None:
        return absent
    if not text.isdecimal() or len(text) > 9:
        raise SettingsError(rf"The pattern's group {name} finds {text!r} in {path}; expected a number: use \d+.")
    return int(text)
