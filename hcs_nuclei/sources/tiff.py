"""A TIFF file opened, without what tifffile says about it on the way: readers raise, or do without, in our words."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tifffile import TiffFile


@contextmanager
def opened_tiff(path: Path) -> Iterator[TiffFile]:
    """The TIFF at `path`; raises whatever tifffile raises for what the file holds."""
    import tifffile

    def silence(record: logging.LogRecord) -> bool:
        return False

    # A filter of its own for each call, so that threads do not undo one another.
    logger = logging.getLogger("tifffile")
    logger.addFilter(silence)
    try:
        with tifffile.TiffFile(path) as tiff:
            yield tiff
    finally:
        logger.removeFilter(silence)
