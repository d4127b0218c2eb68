"""A directory in, names out: every file below it, grouped by the plate that it belongs to.

::

    root/                    what a Listing is rooted in
        *                    its own files
        Images/ Assaylayout/ timepoint0/ TimePoint_1/ TimePoint_1/ZStep_2/ …   belong to the same plate
        data/                                                      too, beside scanR's descriptor of the experiment
        Image/ Projection/                                         too, beside the CQ1's MeasurementData.mlf
        anything-else/       a Listing of its own

Only names are read (one ``scandir`` a directory, no ``stat`` of a file), and nothing is ever written.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections import defaultdict
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

from hcs_nuclei.errors import NotAPlateError
from hcs_nuclei.plate import RemoteFiles, is_text, shown_name
from hcs_nuclei.sources.staging import shared_staging
from hcs_nuclei.sources.tiff import TiffSource

IMAGE_SUFFIXES = (".tif", ".tiff", ".png")
_INNER = re.compile(r"(?:ZStep|TimePoint)_\d+|timepoint\d+|Images|Assaylayout", re.IGNORECASE)
MAX_DEPTH = 8
#: Shading and dark images of CellVoyager, which stay TIFFs where the others become PNGs.
_REFERENCE = re.compile("(?:SC|DC)_", re.IGNORECASE)
SCANR_DESCRIPTORS = ("experiment_descriptor.xml", "experiment_descriptor.dat")
_YOKOGAWA_RECORDS = ("MeasurementData.mlf",)
#: Anybody may call a folder so: only beside one of these files is it the vendor's, and belongs to the plate.
BESIDE = {"data": SCANR_DESCRIPTORS, "image": _YOKOGAWA_RECORDS, "projection": _YOKOGAWA_RECORDS}
#: 200 time points × 50 z steps of an ImageXpress plate fit; somebody's home directory does not.
MAX_FOLDERS = 20_000


@dataclass(frozen=True)
class Listing:
    """The names of one plate's files.

    `files` are sorted, relative to `root`, with ``/``; `links` are those of them that are symbolic links;
    `problems` are sentences about directories that were not entered. Of a plate at a URL, `remote` is what lies there,
    and `root` is where :meth:`local` puts copies.
    """

    root: Path
    files: tuple[str, ...]
    links: frozenset[str] = frozenset()
    problems: tuple[str, ...] = ()
    remote: RemoteFiles | None = None

    def local(self, name: str) -> Path:
        """Where the file `name` can be read, whole: in the plate's directory, or a copy of it here.

        Raises:
            NotAPlateError: it cannot be copied here.
        """
        if self.remote is not None:
            shared_staging().bring(self.remote, [name])
        return self.root / name

    def opened(self, name: str) -> TiffSource:
        """What a few tags of the image `name` are read from: its path, or what opens it without copying it here."""
        if self.remote is None:
            return self.root / name
        return partial(shared_staging().open, self.remote, name)

    @cached_property
    def images(self) -> tuple[str, ...]:
        """Files whose names end as images' do."""
        return tuple(name for name in self.files if name.lower().endswith(IMAGE_SUFFIXES))

    @cached_property
    def tiffs(self) -> tuple[str, ...]:
        """Files whose names end as TIFFs' do."""
        return tuple(name for name in self.images if not name.lower().endswith(".png"))

    @cached_property
    def _present(self) -> frozenset[str]:
        return frozenset(self.files)

    @cached_property
    def _by_stem(self) -> dict[tuple[str, bool], str]:
        """Image of each lower-case path without its suffix, and whether it is a PNG: .TIFF may be called .tif."""
        return {(_stem(name), _is_png(name)): name for name in reversed(self.images)}

    @cached_property
    def _usual(self) -> bool | None:
        """Whether nearly all images are PNGs (True) or TIFFs (False); None where some are previews of the others."""
        pngs = [_is_png(name) for name in self.images if _is_png(name) or not _REFERENCE.match(name.rpartition("/")[2])]
        often = {png: pngs.count(png) for png in (True, False)}
        return next((png for png in often if often[png] > 2 * often[not png]), None)

    def named(self, *suffixes: str) -> tuple[str, ...]:
        """Files that end in one of `suffixes` (lower case), the outermost first."""
        return tuple(sorted((n for n in self.files if n.lower().endswith(suffixes)), key=lambda n: (n.count("/"), n)))

    def admit(self, path: str) -> tuple[str, str]:
        """(`path`, "") where it may be read, ("", why not) where it is a link that leaves the plate."""
        if path not in self.links:
            return path, ""
        try:
            target = (self.root / path).resolve(strict=True)
        except (OSError, RuntimeError):
            return "", f"{path} is a link to nothing"
        if not target.is_relative_to(self.root):
            return "", f"{path} is a link that leaves the plate directory, and is not followed"
        return path, ""

    def locate(self, folder: str, name: str) -> tuple[str, str]:
        """The file that metadata in `folder` call `name`: (path, ""), ("", "") if missing, ("", why) if refused."""
        plain = name.strip().replace("\\", "/")
        path = posixpath.normpath(posixpath.join(folder, plain))
        if path.startswith(("/", "../")) or path == ".." or re.match(r"[A-Za-z]:|[a-z]+://", plain):
            return "", f"the metadata name {name!r}, which is outside the plate directory; it is not read"
        if path not in self._present:
            png = _is_png(path)
            instead = self._by_stem.get((_stem(path), not png), "")
            path = self._by_stem.get((_stem(path), png), "") or (instead if self._usual is (not png) else "")
        return self.admit(path) if path else ("", "")


def survey(start: Path) -> list[Listing]:
    """The listings at and below `start` (absolute, resolved), the one rooted in `start` first where it has files.

    One without files is of directories that were not entered.

    Raises:
        NotAPlateError: `start` cannot be read, or far too many directories lie below it.
    """
    files: dict[str, list[str]] = defaultdict(list)
    links: dict[str, set[str]] = defaultdict(set)
    problems: dict[str, list[str]] = defaultdict(list)
    pending = [""]
    for visited, folder in enumerate(pending):
        if visited > MAX_FOLDERS:
            raise NotAPlateError(
                f"More than {MAX_FOLDERS:,} directories lie below {start}; name the directory of one plate."
            )
        group = plate_folder(folder)
        outer, _, name = folder.rpartition("/")
        if any(_beside(outer, n) in files[plate_folder(outer)] for n in BESIDE.get(name.lower(), ())):
            group = plate_folder(outer)
        try:
            entries = _scan(start / folder)
        except OSError as error:
            if not folder:
                raise NotAPlateError(f"The directory {start} cannot be read: {error.strerror}.") from None
            problems[group].append(
                f"The directory {folder} cannot be read ({error.strerror}); its images are not seen."
            )
            continue
        unnamable = [name for name, _, _ in entries if not is_text(name)]
        if unnamable:
            problems[group].append(
                f"{len(unnamable):,} names are not UTF-8 and are passed over, such as {shown_name(min(unnamable))}; "
                "give them other names."
            )
        for name, is_folder, is_link in entries:
            if not is_text(name):
                continue
            path = f"{folder}/{name}" if folder else name
            if not is_folder:
                files[group].append(path)
                if is_link:
                    links[group].add(path)
            elif is_link:
                problems[group].append(f"The directory {path} is a link and is not entered.")
            elif path.count("/") < MAX_DEPTH and not name.lower().endswith(".zarr"):
                pending.append(path)
    groups = sorted({*files, *problems})
    return [_listing(start, group, files[group], links[group], problems[group]) for group in groups]


def _stem(name: str) -> str:
    return posixpath.splitext(name)[0].lower()


def _is_png(name: str) -> bool:
    return name.lower().endswith(".png")


def _beside(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def plate_folder(folder: str) -> str:
    """`folder` without the inner directories that vendors make: ``a/TimePoint_1/ZStep_2`` → ``a``."""
    parts = folder.split("/") if folder else []
    while parts and _INNER.fullmatch(parts[-1]):
        parts.pop()
    return "/".join(parts)


def _scan(folder: Path) -> list[tuple[str, bool, bool]]:
    with os.scandir(folder) as entries:
        # Hidden names are markers and thumbnails' caches, never a vendor's images.
        return [(e.name, _is_folder(e), e.is_symlink()) for e in entries if not e.name.startswith(".")]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to what may not be looked at, or to itself
        return False


def _listing(start: Path, group: str, files: list[str], links: set[str], problems: list[str]) -> Listing:
    cut = len(group) + 1 if group else 0
    names = tuple(sorted(name[cut:] for name in files))
    listing = Listing(start / group, names, frozenset(name[cut:] for name in links), tuple(problems))
    # A link in an image's place is its plane's fault; of any other it is said here.
    others = [listing.admit(name)[1] for name in sorted(listing.links) if not name.lower().endswith(IMAGE_SUFFIXES)]
    return replace(listing, problems=(*problems, *(f"{why}." for why in others if why)))
