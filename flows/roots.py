"""Places that flow parameters name in, a refusal of those outside the configured roots out.

Whoever reaches a Prefect server can start runs with parameters of their own. What a run may read and write is therefore
said where it runs, in ``HCS_NUCLEI_ALLOWED_ROOTS``, and not by what starts it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from prefect.runtime import deployment

from hcs_nuclei.errors import SettingsError, listed
from hcs_nuclei.settings import Settings

ALLOWED_ROOTS = "HCS_NUCLEI_ALLOWED_ROOTS"
#: What a setting that names a file may hold instead.
_NO_FILE = {"", "auto", "none"}


def allowed_roots(environ: Mapping[str, str] | None = None) -> tuple[Path, ...] | None:
    """The roots that ``HCS_NUCLEI_ALLOWED_ROOTS`` lists (as PATH does), links resolved; None where it is not set."""
    listing = (os.environ if environ is None else environ).get(ALLOWED_ROOTS)
    if listing is None:
        return None
    return tuple(Path(os.path.expanduser(name)).resolve() for name in listing.split(os.pathsep) if name)


def check_roots(places: Iterable[tuple[str, str]]) -> None:
    """Refuse places outside the roots of this process; what a deployment starts needs roots.

    Args:
        places: what each is called in the form, and its path, as it was given.

    Raises:
        SettingsError: one line that names the first place outside, and the roots.
    """
    roots = allowed_roots()
    if roots is None:
        if deployment.id is None:  # called by a program or at a shell: by somebody who may do the same without Prefect
            return
        raise SettingsError(
            f"{ALLOWED_ROOTS} is not set where this run was started, so its parameters may name no place at all. Set "
            "it for the worker to the directories that runs may read and write, as PATH lists them."
        )
    for what, path in places:
        if not _is_inside(path, roots):
            raise SettingsError(
                f"{what} {path!r} lies outside the allowed roots ({listed(roots) or 'there are none'}). Choose a "
                f"place below one of them, or have it added to {ALLOWED_ROOTS} of the service."
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


def _is_inside(path: str, roots: Iterable[Path]) -> bool:
    """Whether `path`, ``..`` and links resolved, lies in or below a root; it need not be there yet."""
    if "://" in path:
        return False
    try:
        place = Path(os.path.expanduser(path)).resolve()
    except (OSError, RuntimeError, ValueError):  # a loop of links, a NUL
        return False
    return any(place.is_relative_to(root) for root in roots)
