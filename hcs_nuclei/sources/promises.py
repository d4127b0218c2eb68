"""What metadata promise beside what is there, in, the words for the difference out: the same from every reader."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from hcs_nuclei.errors import listed
from hcs_nuclei.plate import Absence
from hcs_nuclei.sources.assembly import natural, ranges


def absent_channels(promised: Mapping[str, str], tokens: Iterable[str], source: str) -> tuple[str, ...]:
    """The warnings for channels that `source` promises and of which nothing is there.

    `promised` are their names by token, empty where there is none; of `tokens` there is at least one image.
    """
    absent = sorted(set(promised) - set(tokens), key=natural)
    names = {token: f"{promised[token]} ({token})" if promised[token] not in {"", token} else token for token in absent}
    return tuple(f"Channel {names[token]}: promised by {source}, but no image of it is there." for token in absent)


def absent_times(promised: Iterable[int], times: Sequence[int], source: str) -> tuple[str, ...]:
    """The warning for time points (vendor's numbers) that `source` promises and of which nothing is there."""
    absent = sorted(set(promised) - set(times))
    if not absent:
        return ()
    renumbered = " The time axis counts those that are there." if times and absent[0] < times[-1] else ""
    return (f"Time point {ranges(absent)}: promised by {source}, but no image of it is there.{renumbered}",)


def unnamed_images(paths: Sequence[str], source: str) -> tuple[str, ...]:
    """The warning for images that are there and that `source`, which lists what was taken, does not name."""
    if not paths:
        return ()
    return (f"{len(paths):,} images are not named by {source} and are not used: {listed(paths, 2)}.",)


def nameless_images(images: Iterable[str], used: Iterable[str]) -> tuple[str, ...]:
    """The warning for `images` that are there and that are not `used`, since their names do not say of what they are.

    Small copies (``_thumb``), drawn overlays and reference images are none that anybody misses.
    """
    known = set(used)
    others = [path for path in images if path not in known and not _BESIDE.search(path.rpartition("/")[2])]
    if not others:
        return ()
    return (
        f"{len(others):,} images are not used, for their names do not say which well and field they are of: "
        f"{listed(others, 2)}.",
    )


#: Thumbnails of MetaXpress, overlays of Cellomics, shading and dark images of CellVoyager.
_BESIDE = re.compile(r"_thumb|(?<=\d)o\d{1,2}\.|^(?:SC|DC)_", re.IGNORECASE)


def named_absences(absences: Iterable[Absence], names: Mapping[str, str]) -> tuple[Absence, ...]:
    """`absences` with the names of their channels (token → name)."""
    return tuple(replace(absence, name=names.get(absence.channel, "")) for absence in absences)
