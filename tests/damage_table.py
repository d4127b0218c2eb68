"""Every damage that is tried on every format, and a process of its own in which one after the other is opened and read.

A case is one file of a small plate and what is done to it. The process says for each what came of it: refused, or
opened with which pixels, what was said, what was read outside the plate, and how much memory it has taken so far.
"""

from __future__ import annotations

import faulthandler
import json
import os
import re
import resource
import shutil
import signal
import struct
import sys
import time
import traceback
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

OFFSETS = 10
_ZARR_DOCUMENTS = {"zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata"}
_HUGE = 100_000


@dataclass(frozen=True)
class Case:
    """A `damage` to a `file` (relative to the plate); `part` of it where there are several.

    `metadata` tells a file that describes images from one that holds them; `fast` cases are tried by default.
    """

    format: str
    file: str
    damage: str
    part: int = 0
    metadata: bool = False
    fast: bool = False

    def __str__(self) -> str:
        return f"{self.format}: {self.file}: {self.damage}" + (f" {self.part}" if self.part else "")


@dataclass
class Outcome:
    """What came of a case. `pixels` are checksums by ``well/field/channel``, `known` what else the plate says.

    `messages` is all that a user is told. `crash` is empty but for an error that is none of ours.
    """

    refused: str = ""
    crash: str = ""
    messages: str = ""
    pixels: dict[str, int] = field(default_factory=dict)
    known: list[Any] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    memory_mb: float = 0.0
    seconds: float = 0.0


# --- the table ---------------------------------------------------------------------------------------------------


def cases_of(format: str, plate: Path) -> list[Case]:
    """Every case of the clean plate in the directory `plate`."""
    files = sorted(p.relative_to(plate).as_posix() for p in plate.rglob("*") if p.is_file())
    images = _image_files(plate, files)
    chosen = _each_kind(plate, images)
    cases: list[Case] = []
    for n, file in enumerate(chosen):
        cases += (Case(format, file, damage, part, fast=n == 0 and part in (0, 3, 8)) for damage, part in _IMAGE_CASES)
    documents = [file for file in files if file not in images and not _alike(file, files)]
    for n, file in enumerate(documents):
        fast = (0, 8) if n < 3 else ()
        cases += (Case(format, file, damage, part, True, fast=part in fast) for damage, part in _METADATA_CASES)
    for file in chosen[:1]:
        if file.lower().endswith((".tif", ".tiff")) and _description(plate / file):
            cases += (Case(format, file, damage, 0, True, fast=True) for damage in _DESCRIPTIONS)
    return cases


def _image_files(plate: Path, files: list[str]) -> dict[str, set[str]]:
    """The files that hold pixels of fields, and of which (``well/field``)."""
    from hcs_nuclei.sources import open_plate

    opened = open_plate(plate)
    fields: dict[str, set[str]] = {}
    for well in opened:
        for site in well.fields:
            for plane in site.planes:
                path = (opened.root / plane.path).relative_to(plate.resolve()).as_posix()
                inside = [path] if (plate / path).is_file() else [f for f in files if f.startswith(f"{path}/")]
                for file in inside:
                    if file.rpartition("/")[2] not in _ZARR_DOCUMENTS:
                        fields.setdefault(file, set()).add(f"{well.name}/{site.number}")
    return fields


def _each_kind(plate: Path, images: dict[str, set[str]]) -> list[str]:
    """Image files of the first field, of one between and of the last, in each channel."""
    by_field: dict[str, list[str]] = {}
    for file, fields in images.items():
        by_field.setdefault(min(fields), []).append(file)
    order = sorted(by_field)
    chosen = [file for which in {order[0], order[len(order) // 2], order[-1]} for file in sorted(by_field[which])[:2]]
    return sorted(set(chosen))


def _alike(file: str, files: list[str]) -> bool:
    """Whether a file of a Zarr store is like another one that is tried: the first of its name and depth is."""
    same = [f for f in files if f.count("/") == file.count("/") and f.rpartition("/")[2] == file.rpartition("/")[2]]
    return any(f.rpartition("/")[2] in _ZARR_DOCUMENTS for f in files) and file != same[0]


def affected(plate: Path, case: Case) -> set[str]:
    """The fields (``well/field``) whose pixels lie in the case's file."""
    files = sorted(p.relative_to(plate).as_posix() for p in plate.rglob("*") if p.is_file())
    return _image_files(plate, files).get(case.file, set())


# --- what is done to a file --------------------------------------------------------------------------------------


def apply(case: Case, plate: Path, outside: Path) -> None:
    """Do it; the file is always replaced, never written into: it is a link to the clean plate's."""
    path = plate / case.file
    content = path.read_bytes()
    names = sorted(p.name for p in plate.rglob("*") if p.suffix.lower() in {".tif", ".tiff", ".png"})
    path.unlink()
    made = _DAMAGES[case.damage](content, case, names, path, outside)
    if made is not None:
        path.write_bytes(made)


def _truncated(content: bytes, case: Case, *_: Any) -> bytes:
    places = [1, 4, 8, 16, *(len(content) * n // 10 for n in (1, 3, 5, 7, 9)), len(content) - 1]
    return content[: max(0, min(places[case.part - 1], len(content) - 1))]


def _huge_image(content: bytes, case: Case, *_: Any) -> bytes:
    """One page, one strip, 100,000 × 100,000 pixels of 8 bits: of a PNG its header, of Zarr a frame of 10 GB."""
    if case.file.lower().endswith(".png"):
        header = b"IHDR" + struct.pack(">IIBBBBB", _HUGE, _HUGE, 8, 0, 0, 0, 0)
        end = b"\0\0\0\0IEND\xaeB`\x82"
        return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header)) + end
    if not case.file.lower().endswith((".tif", ".tiff")):
        return _huge_frame()
    strip = zlib.compress(bytes(10_000_000))
    tags = [(256, 4, _HUGE), (257, 4, _HUGE), (258, 3, 8), (259, 3, 8), (262, 3, 1), (273, 4, 8 + 2 + 9 * 12 + 4)]
    tags += [(277, 3, 1), (278, 4, _HUGE), (279, 4, len(strip))]
    directory = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + directory + struct.pack("<I", 0) + strip


def _huge_frame() -> bytes:
    """A Zstandard frame that says, and is, 10 GB of zeros."""
    block = 128 * 1024
    blocks = _HUGE * _HUGE // block
    middle = struct.pack("<I", block << 3 | 1 << 1)[:3] + b"\0"
    last = struct.pack("<I", block << 3 | 1 << 1 | 1)[:3] + b"\0"
    return b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", block * blocks) + middle * (blocks - 1) + last


def _link_out(content: bytes, case: Case, names: list[str], path: Path, outside: Path) -> None:
    """A link to a file outside that is as good as the one it stands for, but for the pixels."""
    other = outside / path.name
    if not other.exists():
        other.write_bytes(content)
    path.symlink_to(other)


def _two_bytes(content: bytes, *_: Any) -> bytes:
    return content.decode("latin-1").encode("utf-16-le")


def _odd_bytes(content: bytes, *_: Any) -> bytes:
    """0x82 and 0x81, which are no UTF-8, after each fifth of the text."""
    step = max(1, len(content) // 5)
    return b"\x82\x81".join(content[n : n + step] for n in range(0, len(content), step))


def _bomb(content: bytes, case: Case, *_: Any) -> bytes:
    """Entities of entities, 10^9 of them; for JSON brackets in brackets; else a line without an end."""
    start = re.match(rb"(?:\xef\xbb\xbf)?(?:<\?xml[^>]*\?>\s*)?(?=<)", content)
    if start is not None:
        return (
            content[: start.end()]
            + _entities()
            + re.sub(rb"(<[^?!/][^>]*[^/]>)", rb"\1&i;", content[start.end() :], count=1)
        )
    return b"[" * 300_000 if content.lstrip()[:1] in (b"{", b"[") else b'"' + b"a, " * 2_000_000


def _entities() -> bytes:
    lines = ['<!ENTITY a "ha">', *(f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 10}">' for n in range(8))]
    return f"<!DOCTYPE x [{''.join(lines)}<!ENTITY i '&i;'>]>".replace("<!ENTITY i '&i;'>", "").encode()


def _names_outside(content: bytes, case: Case, names: list[str], path: Path, outside: Path) -> bytes:
    """Names of images lead to the same names outside; without any, what the plate is called does."""
    up = os.path.relpath(outside, path.parent) + "/" if case.damage == "../ names" else f"{outside}/"
    changed = content
    for name in dict.fromkeys(names):
        changed = changed.replace(name.encode(), (up + name).encode())
    return changed if changed != content else content.replace(b"SIM-0001", up.encode() + b"SIM-0001")


def _described(content: bytes, case: Case, names: list[str], path: Path, outside: Path) -> None:
    """The description within a TIFF (MetaSeries, OME) damaged as a metadata file is."""
    import tifffile

    path.write_bytes(content)
    text = _description(path).encode()
    damage = {"description bomb": _bomb, "description cut": lambda c, *_: c[: len(c) // 2]}.get(case.damage, _odd_bytes)
    tifffile.tiffcomment(path, damage(text, case, names, path, outside))


def _description(path: Path) -> str:
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        return str(tiff.pages.first.description)


_DESCRIPTIONS = ("description bomb", "description cut", "description of odd bytes")
_DAMAGES: dict[str, Callable[..., bytes | None]] = {
    "deleted": lambda *_: None,
    "emptied": lambda *_: b"",
    "truncated": _truncated,
    "text": lambda *_: b"The image was moved to the archive, ask the core facility for it.\n" * 20,
    "huge": _huge_image,
    "link out": _link_out,
    "two bytes a letter": _two_bytes,
    "odd bytes": _odd_bytes,
    "bomb": _bomb,
    "../ names": _names_outside,
    "absolute names": _names_outside,
    **dict.fromkeys(_DESCRIPTIONS, _described),
}
_CUTS = [("truncated", part) for part in range(1, OFFSETS + 1)]
_IMAGE_CASES = [("deleted", 0), ("emptied", 0), *_CUTS, ("text", 0), ("huge", 0), ("link out", 0)]
_METADATA_CASES = [
    ("deleted", 0),
    ("emptied", 0),
    *_CUTS,
    ("text", 0),
    ("link out", 0),
    ("two bytes a letter", 0),
    ("odd bytes", 0),
    ("bomb", 0),
    ("../ names", 0),
    ("absolute names", 0),
]


# --- the process in which they are tried -------------------------------------------------------------------------


def run(format: str, clean: Path, work: Path, cases: list[Case], limit_s: int = 30) -> Iterator[tuple[Case, Outcome]]:
    """What came of each of `cases`, tried in processes of their own; one that dies or hangs costs its case."""
    import subprocess

    left = list(cases)
    while left:
        (work / "cases.json").write_text(json.dumps([asdict(case) for case in left]))
        arguments = [sys.executable, __file__, str(clean), str(work), str(limit_s)]
        child = subprocess.run(arguments, capture_output=True, text=True, check=False)
        answers = [Outcome(**json.loads(line)) for line in child.stdout.splitlines()]
        yield from zip(left, answers, strict=False)
        if len(answers) < len(left):
            died = f"the process ended with {child.returncode}: {child.stderr[-3000:]}"
            yield left[len(answers)], Outcome(crash=died)
        left = left[len(answers) + 1 :]


def look(plate: Path) -> Outcome:
    """Open the plate, inspect it, read every plane: as a run does, one field after the other."""
    from hcs_nuclei.errors import HcsNucleiError, PlaneError
    from hcs_nuclei.sources import check_files, inspection, open_plate, read_image, render_inspection

    outcome = Outcome()
    try:
        opened = open_plate(plate)
        found = inspection(opened, check_files(opened))
        said = [json.dumps(found, ensure_ascii=False), render_inspection(found)]
        for well in opened:
            for site in well.fields:
                for channel in opened.channels:
                    try:
                        image = read_image(opened.root, site.planes_of(channel.token, 0))
                    except PlaneError as error:
                        said.append(str(error))
                    else:
                        outcome.pixels[f"{well.name}/{site.number}/{channel.token}"] = zlib.crc32(image.tobytes())
        outcome.messages = "\n".join(said)
        outcome.known = [opened.name, [c.name for c in opened.channels], opened.pixel_size_um, opened.expected_from]
        outcome.known += [opened.wells_in_format, found["expected_planes"], opened.acquisition]
    except HcsNucleiError as error:
        outcome.refused = outcome.messages = f"{type(error).__name__}: {error}"
    except Exception:
        outcome.crash = traceback.format_exc()
    return outcome


def _main(clean: Path, work: Path, limit_s: int) -> None:
    """Try the cases that stand in ``cases.json``, one line of output each."""
    faulthandler.enable()
    watched: list[str] = []
    outside = work / "outside"

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        # Opening without following links cannot lead out of the plate by the last name.
        if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & os.O_NOFOLLOW):
            watched.append(str(arguments[0]))

    sys.addaudithook(watch)
    look(clean)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 3 * 2**30, hard))
    for content in json.loads((work / "cases.json").read_text()):
        case = Case(**content)
        shutil.rmtree(work / "try", ignore_errors=True)
        shutil.rmtree(outside, ignore_errors=True)
        outside.mkdir()
        for path in clean.rglob("*"):
            if path.suffix.lower() in {".tif", ".tiff", ".png"}:
                (outside / path.name).write_bytes(path.read_bytes())
        plate = work / "try" / clean.name
        shutil.copytree(clean, plate, copy_function=os.link)
        apply(case, plate, outside)
        watched.clear()
        began = time.perf_counter()
        signal.alarm(limit_s)
        outcome = look(plate)
        signal.alarm(0)
        outcome.seconds = time.perf_counter() - began
        outcome.outside = sorted({p for p in watched if _leads_to(p, outside)})
        outcome.memory_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        print(json.dumps(asdict(outcome)), flush=True)


def _leads_to(path: str, folder: Path) -> bool:
    try:
        return Path(path).resolve().is_relative_to(folder)
    except (OSError, RuntimeError, ValueError):
        return False


if __name__ == "__main__":
    _main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
