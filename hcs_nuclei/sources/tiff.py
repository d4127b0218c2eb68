"""A TIFF file opened, without what tifffile says about it on the way: readers raise, or do without, in our words."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    import numpy.typing as npt
    from tifffile import TiffFile

#: Where it lies, or what opens it where it lies at a URL.
TiffSource = Path | Callable[[], BinaryIO]


@contextmanager
def opened_tiff(source: TiffSource) -> Iterator[TiffFile]:
    """The TIFF at a path, or the one that a call opens; raises whatever tifffile raises for what the file holds."""
    import tifffile

    def silence(record: logging.LogRecord) -> bool:
        return False

    # A filter of its own for each call, so that threads do not undo one another.
    logger = logging.getLogger("tifffile")
    logger.addFilter(silence)
    try:
        with ExitStack() as stack:
            file = stack.enter_context(source()) if callable(source) else source
            yield stack.enter_context(tifffile.TiffFile(file))
    finally:
        logger.removeFilter(silence)


def page_pixels(page: Any) -> npt.NDArray[Any]:
    """The pixels of a tifffile page: (y, x), or (y, x, c) whichever way its channels are laid out in the file."""
    import numpy as np
    import tifffile

    image: npt.NDArray[Any] = np.asarray(page.asarray())
    apart = page.samplesperpixel > 1 and page.planarconfig == tifffile.PLANARCONFIG.SEPARATE
    return np.moveaxis(image, 0, -1) if apart else image
