"""What a store lists below a URL in, listings out, the same as of a directory on a disk with the same files."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from hcs_nuclei.errors import NotAPlateError
from hcs_nuclei.plate import RemoteFiles
from hcs_nuclei.sources.listing import BESIDE, MAX_DEPTH, MAX_FOLDERS, Listing, plate_folder


def survey_remote(root: Path, remote: RemoteFiles) -> list[Listing]:
    """The listings at and below a URL; copies of its files have their places below `root`.

    Raises:
        NotAPlateError: far too many directories lie below it.
    """
    files: dict[str, list[str]] = defaultdict(list)
    groups: dict[str, str | None] = {}
    for path in remote.files:
        folder, _, name = path.rpartition("/")
        if folder not in groups:
            groups[folder] = _group(folder, remote)
            if len(groups) > MAX_FOLDERS:
                raise NotAPlateError(
                    f"More than {MAX_FOLDERS:,} directories lie below {remote.url}; name the directory of one plate."
                )
        group = groups[folder]
        if group is not None and not name.startswith("."):
            files[group].append(path)
    return [_listing(root, group, files[group], remote) for group in sorted(files)]


def _group(folder: str, remote: RemoteFiles) -> str | None:
    """The plate's folder that the files in `folder` belong to; None where no plate of names alone is looked for."""
    parts = folder.split("/") if folder else []
    if len(parts) > MAX_DEPTH or any(part.startswith(".") or part.lower().endswith(".zarr") for part in parts):
        return None
    outer, cut, name = folder.rpartition("/")
    beside = any(f"{outer}{cut}{n}" in remote.files for n in BESIDE.get(name.lower(), ()))
    return plate_folder(outer if beside else folder)


def _listing(root: Path, group: str, files: list[str], remote: RemoteFiles) -> Listing:
    cut = len(group) + 1 if group else 0
    url = f"{remote.url}/{group}" if group else remote.url
    below = RemoteFiles(url, {name[cut:]: remote.files[name] for name in files})
    return Listing(root / group, tuple(below.files), remote=below)
