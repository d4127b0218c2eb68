"""A file that a user names in, the flat-field or dark image in it out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hcs_nuclei.errors import SettingsError
from hcs_nuclei.sources.image_files import decode_image

if TYPE_CHECKING:
    import numpy.typing as npt

_EXPECTED = "expected one image (y, x) of numbers as TIFF, PNG or .npy"


def read_reference(path: Path) -> npt.NDArray[Any]:
    """The image at `path`, (y, x), any integer or float dtype: CellProfiler and BaSiC write floats.

    Raises:
        SettingsError: there is no such file, or it holds no single image of finite numbers.
    """
    import numpy as np

    if not path.is_file():
        raise SettingsError(f"The illumination image {path} is not there; check its name in illumination.flat_field.")
    try:
        if path.suffix.lower() == ".npy":
            image = np.load(path, allow_pickle=False)
        else:
            image = decode_image(path.read_bytes(), path.name)
    except Exception as error:  # a damaged array raises whatever the damage led to
        raise SettingsError(f"The illumination image {path} cannot be read ({error}); {_EXPECTED}.") from None
    image = np.squeeze(image)
    if image.ndim != 2 or image.dtype.kind not in "uif" or not np.isfinite(image).all():
        raise SettingsError(
            f"The illumination image {path} has the shape {image.shape} and the type {image.dtype}, or holds what is "
            f"no number; {_EXPECTED}."
        )
    return np.asarray(image)
