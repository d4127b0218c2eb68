"""A file that a user names in, the flat-field or dark image in it out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hcs_nuclei.errors import SettingsError
from hcs_nuclei.sources.planes import MAX_SAMPLES
from hcs_nuclei.sources.tiff import opened_tiff

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
        image = np.squeeze(_read(path))
    except SettingsError:
        raise
    except Exception as error:  # decoders raise whatever the damage led them to
        raise SettingsError(f"The illumination image {path} cannot be read ({error}); {_EXPECTED}.") from None
    if image.ndim != 2 or image.dtype.kind not in "uif" or not np.isfinite(image).all():
        raise SettingsError(
            f"The illumination image {path} has the shape {image.shape} and the type {image.dtype}, or holds what is "
            f"no number; {_EXPECTED}."
        )
    return image


def _read(path: Path) -> npt.NDArray[Any]:
    import numpy as np

    if path.suffix.lower() == ".npy":
        return np.asarray(np.load(path, allow_pickle=False))
    if path.suffix.lower() == ".png":
        import imagecodecs

        return np.asarray(imagecodecs.png_decode(path.read_bytes()))
    with opened_tiff(path) as tiff:
        page = tiff.pages[0]
        if page.size > MAX_SAMPLES:
            raise SettingsError(f"The illumination image {path} says that it is {page.shape} pixels; it is damaged.")
        return np.asarray(tiff.asarray(key=0))
