"""What Prefect is told before it is imported, where the user has told it nothing: no telemetry, a home of our own."""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping
from pathlib import Path
from tempfile import TemporaryDirectory

from hcs_nuclei.models.store import store_directory

DEFAULTS = {
    # Scientific data stay put: neither the server nor this process reports to anybody.
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    # Nor does the browser: the newer of Prefect's two pages asks Amplitude for its settings, analytics or not.
    "PREFECT_SERVER_UI_V2_ENABLED": "false",
    # Prefect's own limit of 20 s is too short for a first start on a slow or busy machine.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
}


#: Where this user has no place to write to: kept here, since it is removed with the last reference to it.
_without_home: list[TemporaryDirectory[str]] = []


def set_defaults(environ: MutableMapping[str, str]) -> None:
    """Set what is not set. A home that the user made (a profile in it, or PREFECT_HOME) is left to Prefect."""
    for name, value in DEFAULTS.items():
        environ.setdefault(name, value)
    own = (Path.home() / ".prefect" / "profiles.toml").exists()
    # Prefect reads its home once, when it is imported.
    if not own and "PREFECT_HOME" not in environ and "prefect" not in sys.modules:
        environ["PREFECT_HOME"] = str(_home())


def _home() -> Path:
    """Beside the models, so that past runs can be looked at later; made here: Prefect makes no parents."""
    home = store_directory().parent / "prefect"
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError:
        _without_home.append(TemporaryDirectory(prefix="hcs-nuclei-prefect-"))
        home = Path(_without_home[-1].name)
    return home


set_defaults(os.environ)
