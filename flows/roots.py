"""Places that flow parameters name in, a refusal of those outside the configured roots out.

Whoever reaches a Prefect server can start runs with parameters of their own. What a run may read and write is therefore
said where it runs, in ``HCS_NUCLEI_ALLOWED_ROOTS``, and not by what starts it: directories, as PATH lists them, and
URLs below which plates may be read, such as ``/data:s3://screens/hoechst``.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from prefect.runtime import deployment

from hcs_nuclei.cluster import file_of
from hcs_nuclei.errors import NotAPlateError, SettingsError, listed
from hcs_nuclei.settings import Settings
from hcs_nuclei.sources.remote import address_of, is_url

ALLOWED_ROOTS = "HCS_NUCLEI_ALLOWED_ROOTS"
#: What a setting that names a file may hold instead.
_NO_FILE = {"", "auto", "none"}
#: A URL with its port, or what stands between colons.
_ROOT = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://[^/:]*(?::\d+(?=[/:]|$))?[^:]*|[^:]+")


@dataclass(frozen=True, slots=True)
class Roots:
    """What runs may read and write: directories, links resolved; and URLs below which plates may lie."""

    directories: tuple[Path, ...]
    urls: tuple[str, ...] = ()

    def __str__(self) -> str:
        return listed((*self.directories, *self.urls)) or "there are none"

    def hold_path(self, path: str) -> bool:
        """Whether `path`, ``..`` and links resolved, lies in or below a directory; it need not be there yet."""
        if "://" in path:
            return False
        try:
            place = Path(os.path.expanduser(path)).resolve()
        except (OSError, RuntimeError, ValueError):  # a loop of links, a NUL
            return False
        return any(place.is_relative_to(root) for root in self.directories)

    def hold_plate(self, place: str) -> bool:
        """The same, or whether a URL is that of a root, or of what lies below one."""
        try:
            address = address_of(place)
        except (NotAPlateError, ValueError):
            return False
        if not isinstance(address, str):
            return self.hold_path(str(address) if is_url(place) else place)
        parts = _parts_of(address)
        return parts is not None and any(parts[: len(root)] == root for root in map(_parts_of, self.urls) if root)


def allowed_roots(environ: Mapping[str, str] | None = None) -> Roots | None:
    """What ``HCS_NUCLEI_ALLOWED_ROOTS`` lists; None where it is not set."""
    listing = (os.environ if environ is None else environ).get(ALLOWED_ROOTS)
    if listing is None:
        return None
    names = _ROOT.findall(listing)
    return Roots(
        tuple(Path(os.path.expanduser(name)).resolve() for name in names if not is_url(name)),
        tuple(name.rstrip("/") for name in names if is_url(name)),
    )


def check_roots(places: Iterable[tuple[str, str]], plates: Iterable[tuple[str, str]] = ()) -> None:
    """Refuse places outside the roots of this process; what a deployment starts needs roots.

    Args:
        places: what each is called in the form, and its path, as it was given.
        plates: the same of plates, which alone may lie at a URL.

    Raises:
        SettingsError: one line that names the first place outside, and the roots.
    """
    roots = _roots()
    if roots is None:
        return
    for what, place in plates:
        if not roots.hold_plate(place):
            raise _outside(what, place, roots)
    for what, place in places:
        if not roots.hold_path(place):
            raise _outside(what, place, roots)


def check_cluster(cluster: str) -> None:
    """Refuse a cluster whose file lies outside the roots, or could have been written by anybody but us.

    A description of SLURM jobs has commands in it, and a scheduler is sent programs and sends them back.

    Raises:
        SettingsError: one line that names the file.
    """
    name, roots = file_of(cluster), _roots()
    if name is None or roots is None:
        return
    if not roots.hold_path(name):
        raise _outside("Cluster file", name, roots)
    try:
        status = Path(os.path.expanduser(name)).stat()
    except OSError:
        return  # said where it is opened
    if status.st_uid not in {0, os.geteuid()} or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise SettingsError(
            f"Cluster file {name!r} can be changed by others than the user who runs this service, and what it says is "
            "carried out. Make it this user's own, without permission for others to write (chmod go-w)."
        )


def places_of_settings(settings: Settings) -> list[tuple[str, str]]:
    """Each file or directory that a recipe names, and what it is called."""
    named = {"Plate layout": settings.layout, "List of barcodes": settings.barcodes, "Exclusions": settings.exclusions}
    found = [(what, path) for what, path in named.items() if path is not None and path not in _NO_FILE]
    images = {**settings.illumination.flat_field, **settings.illumination.dark}
    found += [("Illumination image", path) for path in images.values() if isinstance(path, str)]
    if os.sep in settings.model or Path(os.path.expanduser(settings.model)).is_dir():
        found.append(("Model", settings.model))
    return found


def _roots() -> Roots | None:
    """The roots of this process; None where there is no need of any."""
    roots = allowed_roots()
    if roots is None and deployment.id is not None:  # else called by a program or at a shell, by somebody who may
        raise SettingsError(
            f"{ALLOWED_ROOTS} is not set where this run was started, so its parameters may name no place at all. Set "
            "it for the worker to the directories that runs may read and write, as PATH lists them."
        )
    return roots


def _outside(what: str, place: str, roots: Roots) -> SettingsError:
    return SettingsError(
        f"{what} {place!r} lies outside the allowed roots ({roots}). Choose a place below one of them, or have it "
        f"added to {ALLOWED_ROOTS} of the service."
    )


def _parts_of(url: str) -> tuple[str, ...] | None:
    """Kind, host and path of a URL, part for part; None of one that could mean another place than it says."""
    kind, _, rest = url.partition("://")
    host, *names = rest.split("/")
    web = kind.lower() in {"http", "https"}
    plain = rest
    while (
        decoded := unquote(plain)
    ) != plain:  # what a server decodes may go upwards; a key of a bucket stays as it is
        plain = decoded
    if {"", ".", ".."} & set(plain.split("/")) or re.search(r"::|[\\\x00-\x1f]", plain):  # fsspec's chains have ::
        return None
    return (kind.lower(), *((host.lower(), *plain.split("/")[1:]) if web else (host, *names)))
