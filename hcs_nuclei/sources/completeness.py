"""A plate directory that may still be written in, whether it is complete out; no pixels are read.

A plate is *complete* when every plane that is expected is there, no file of it is empty, cut short or of another size
or kind, and nothing below its directory changed for a while. It is *writing* while things change, and *incomplete*
where it is quiet and something lacks: a copy that stalled, or an acquisition that ended early.

Change is what differs between two looks (names, sizes, modification times). A file's time is compared with the same
file's earlier time only, never with this machine's clock: shares have clocks of their own, and copying programs give
new files old times. So it always takes two looks, `quiet` seconds apart.

Where what is expected is only inferred from the regularity of the plate, a well that has not been begun cannot be
missed; there, and where the instrument has not written the end of the measurement, it has to be quiet
:data:`PATIENCE` times as long.

No vendor writes a file that says that every image has been copied. What is used is what they write last, to our
knowledge: Harmony's index and IN Cell's ``.xdce`` list the images taken, CellVoyager's ``.mrf`` gets the end time.
MetaXpress writes its ``.HTD`` when it begins, which therefore says what to expect, not that it is there.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from hcs_nuclei.errors import NotAPlateError
from hcs_nuclei.plate import Plate
from hcs_nuclei.sources.faults import COSTLY, KINDS, FileCheck, check_files
from hcs_nuclei.sources.opening import open_plate
from hcs_nuclei.sources.remote import address_of
from hcs_nuclei.sources.staging import shared_staging

#: How many times `quiet` is waited where nothing but quiet tells that a plate is complete, or that it stays as it is.
PATIENCE = 5
#: What copying programs call a file that they have not finished (rsync: ``.name.tif.Xy12Zz``).
_UNFINISHED = re.compile(r".+\.(?:part|partial|filepart|tmp|temp|crdownload|download|!ut)|\..+\.[A-Za-z0-9]{6}", re.I)
#: What looking at a folder leaves in it.
_IGNORED = frozenset({"thumbs.db", "desktop.ini", ".ds_store"})
_END_TIME = re.compile(rb'EndTime\s*=\s*"\d{4}-')
#: Vendors whose list of images is written when the images have been.
_LISTED_AT_THE_END = frozenset({"operetta", "incell"})

State = Literal["complete", "writing", "incomplete"]


@dataclass(frozen=True, slots=True)
class Look:
    """What one look saw: `seen` is a digest of every name, size and time; the clock is the looker's own, in seconds.

    `root` is the plate's, or its URL; `unfinished` are names of files that a copying program has not finished.
    """

    root: Path | str
    at: float
    changed_at: float
    seen: str
    files: int
    unfinished: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Completeness:
    """Whether a plate is complete, and how that is known.

    `expected` and `found` count planes, `faulty` those of the found that cannot be used, `absent` those of whole
    channels and time points that are promised and not there. `marker` is the vendor's file that says that the
    acquisition ended, empty where there is none. `look` is handed in with the next look.
    """

    state: State
    reason: str
    plate: str
    expected: int
    found: int
    faulty: int
    absent: int
    expected_from: str
    marker: str
    seconds_since_change: float
    look: Look


def check_completeness(
    directory: Path | str,
    former: Completeness | None = None,
    *,
    quiet: float = 60.0,
    pattern: str | None = None,
    now: float | None = None,
) -> Completeness:
    """Look once at the plate in `directory`; with the `former` look's answer it is known what changed since.

    Without a former look the answer is ``writing``, unless `quiet` is 0. As long as things change, or have not been
    quiet for long enough, only names, sizes and times are read; tags of images are read for the verdict.

    Args:
        directory: the plate's, or one that becomes a plate's; or its URL.
        quiet: seconds without a change before a verdict.
        pattern: as for :func:`~hcs_nuclei.sources.opening.open_plate`.
        now: the looker's clock in seconds, the same clock at every look; else :func:`time.time`.

    Raises:
        NotAPlateError: there is no such directory, or it cannot be read.
    """
    now = time.time() if now is None else now
    place = former.look.root if former else _place(directory, pattern)
    look = _look(place, former.look if former else None, now)
    since = max(0.0, now - look.changed_at)
    if former and look.seen == former.look.seen and not _due(former, since, quiet):
        return replace(former, seconds_since_change=since, look=look)
    try:
        plate = open_plate(directory, pattern=pattern)
    except NotAPlateError as error:
        state: State = "writing" if since < quiet or (former is None and quiet > 0) else "incomplete"
        return Completeness(state, str(error), "", 0, 0, 0, 0, "", "", since, look)
    if _place_of(plate) != place:  # it became a plate, or another one, since the last look
        look, since = _look(_place_of(plate), None, now), 0.0
    if since < quiet or (former is None and quiet > 0):
        planes, lost = _count(plate)
        reason = _progress(former, look, planes, lost, quiet)
        absent = sum(a.planes for a in plate.absent if a.certain)
        return Completeness(
            "writing", reason, plate.name, planes, planes - lost, 0, absent, plate.expected_from, "", since, look
        )
    return _verdict(plate, look, since, quiet)


def wait_until_complete(
    directory: Path | str,
    *,
    quiet: float = 60.0,
    timeout: float | None = None,
    pattern: str | None = None,
    told: Callable[[Completeness], None] | None = None,
) -> Completeness:
    """Look again and again until the plate is complete, stays incomplete, or `timeout` seconds are over.

    What is incomplete may go on: it is waited for :data:`PATIENCE` times `quiet` seconds. `told` hears every look's
    answer. After `timeout` the answer is that of the last look, ``writing`` or ``incomplete``.

    Raises:
        NotAPlateError: there is no such directory, or it cannot be read any more.
    """
    began = time.monotonic()
    found: Completeness | None = None
    while True:
        start = time.monotonic()
        found = check_completeness(directory, found, quiet=quiet, pattern=pattern, now=start)
        if told is not None:
            told(found)
        given_up = found.state == "incomplete" and found.seconds_since_change >= PATIENCE * quiet
        left = None if timeout is None else began + timeout - time.monotonic()
        if found.state == "complete" or given_up or (left is not None and left <= 0):
            return found
        # Never more than half of the time is spent looking, however large the plate and slow its share.
        pause = max(min(quiet / 10, 10.0), 0.05, time.monotonic() - start)
        time.sleep(pause if left is None else min(pause, left))


def _due(former: Completeness, since: float, quiet: float) -> bool:
    """Whether a verdict has to be found, though nothing changed since the `former` look."""
    judged = former.seconds_since_change
    return any(judged < limit <= since for limit in (quiet, PATIENCE * quiet)) and former.state != "complete"


def _place(directory: Path | str, pattern: str | None) -> Path | str:
    """The plate's root or URL, or `directory` itself as long as it is no plate."""
    place = address_of(directory)
    if isinstance(place, Path) and not place.is_dir():
        raise NotAPlateError(f"There is no directory {place}. Check its name, and that its drive is mounted.")
    try:
        return _place_of(open_plate(directory, pattern=pattern))
    except NotAPlateError:
        return place.resolve() if isinstance(place, Path) else place


def _place_of(plate: Plate) -> Path | str:
    return plate.remote.url if plate.remote else plate.root


def _look(place: Path | str, former: Look | None, now: float) -> Look:
    digest = hashlib.sha256()
    files = 0
    unfinished: list[str] = []
    for path, size, modified in _files(place):
        digest.update(f"{path}\0{size}\0{modified}\0".encode(errors="surrogateescape"))
        files += 1
        if len(unfinished) < 3 and _UNFINISHED.fullmatch(path.rpartition("/")[2]):
            unfinished.append(path)
    seen = digest.hexdigest()
    same = former is not None and former.seen == seen and now >= former.at
    changed_at = former.changed_at if former is not None and same else now
    return Look(place, now, changed_at, seen, files, tuple(unfinished))


def _files(root: Path | str) -> Iterator[tuple[str, int, int | str]]:
    """(path relative to `root`, size, modification time in ns) of every file, hidden ones too, always in one order.

    Of a URL's files, the versions that its store tells stand in the place of times.

    Raises:
        NotAPlateError: it cannot be read, or there is nothing at the URL.
    """
    if isinstance(root, str):
        found = shared_staging().remote(root).list_files()
        yield from ((path, file.size, file.version) for path, file in found.files.items())
        return
    pending = [""]
    while pending:
        folder = pending.pop()
        try:
            with os.scandir(os.path.join(root, folder)) as entries:
                inside = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            if not folder:
                raise NotAPlateError(f"The directory {root} cannot be read: {error.strerror}.") from None
            continue
        for entry in inside:
            path = f"{folder}/{entry.name}" if folder else entry.name
            if entry.name.lower() in _IGNORED:
                continue
            try:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(path)
                    continue
                status = entry.stat(follow_symlinks=False)
                yield path, status.st_size, status.st_mtime_ns
            except OSError:  # renamed under our eyes
                yield path, -1, -1


def _count(plate: Plate) -> tuple[int, int]:
    """(expected planes, those of them that are not there)."""
    paths = [plane.path for well in plate for site in well.fields for plane in site.planes]
    return len(paths), sum(not path for path in paths)


def _progress(former: Completeness | None, look: Look, planes: int, lost: int, quiet: float) -> str:
    there = f"{planes - lost:,} of {planes:,} expected planes are there"
    if former is None:
        return f"{there}; whether they are still written shows when nothing changed for {quiet:g} s"
    return f"{there}; {look.files:,} files, {look.files - former.look.files:+,} since the last look"


def _verdict(plate: Plate, look: Look, since: float, quiet: float) -> Completeness:
    checked = check_files(plate)
    planes, _ = _count(plate)
    counts = Counter(fault.kind for fault in checked.faults)
    faulty = sum(counts[kind] for kind in COSTLY - {"missing"})
    absent = sum(absence.planes for absence in plate.absent if absence.certain)
    marker = _marker(plate)
    state: State = "complete"
    lacking = _lacking(plate, checked, look)
    patience = PATIENCE * quiet
    if lacking:
        state, reason = "incomplete", f"nothing changes any more, and {lacking}"
    else:
        reason = f"all {planes:,} expected planes are there, and nothing changed for {since:.0f} s"
        unsure = _unsure(plate, marker)
        if unsure:
            state = "complete" if since >= patience else "writing"
            reason += f"; {unsure}" + ("" if since >= patience else f", so it is waited for {patience:g} s")
    found = planes - counts["missing"]
    return Completeness(
        state, reason, plate.name, planes, found, faulty, absent, plate.expected_from, marker, since, look
    )


def _lacking(plate: Plate, checked: FileCheck, look: Look) -> str:
    """What speaks against a complete plate, in words with an example of each; empty where nothing does."""
    parts = []
    for kind in KINDS:
        of_kind = [fault for fault in checked.faults if fault.kind == kind]
        if kind in COSTLY and of_kind:
            first = of_kind[0]
            name = first.path or f"channel {first.channel}"
            parts.append(f"{len(of_kind):,} planes are {kind} (first {first.well} field {first.field}: {name})")
    for absence in plate.absent:
        if absence.certain:
            what = (
                f"channel {absence.name or absence.channel}" if absence.channel else f"time point {absence.timepoint}"
            )
            parts.append(f"nothing of {what} is there ({absence.planes:,} planes)")
    if look.unfinished:
        parts.append(f"{look.unfinished[0]} is a copy that was not finished")
    return "; ".join(parts)


def _unsure(plate: Plate, marker: str) -> str:
    """Why quiet alone has to tell that the plate is complete; empty where it need not."""
    if plate.expected_from == "regularity":
        return "what is expected is inferred from the regularity of the plate"
    if plate.vendor == "cellvoyager" and not marker:
        return "MeasurementDetail.mrf does not say that the measurement ended"
    return ""


def _marker(plate: Plate) -> str:
    """The vendor's file that says that the acquisition ended."""
    if plate.vendor in _LISTED_AT_THE_END and plate.expected_from == "metadata":
        return plate.metadata_files[0]
    for name in plate.metadata_files:
        if name.lower().endswith("measurementdetail.mrf"):
            with (plate.root / name).open("rb") as file:
                return name if _END_TIME.search(file.read(8192)) else ""
    return ""
