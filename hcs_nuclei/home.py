"""Where a user's own things lie: models, the audit log, Prefect's home."""

from __future__ import annotations

import os
from pathlib import Path


def home_directory() -> Path:
    """``$HCS_NUCLEI_HOME``, else ``hcs-nuclei`` under the user's data directory (``$XDG_DATA_HOME``)."""
    home = os.environ.get("HCS_NUCLEI_HOME")
    if home:
        return Path(home)
    data = os.environ.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local" / "share") / "hcs-nuclei"
