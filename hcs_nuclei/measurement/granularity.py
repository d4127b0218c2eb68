"""The granular spectrum of one channel inside every nucleus: how much of its light lies in grains of which size.

Named and defined as CellProfiler's MeasureGranularity with its own settings: every fourth pixel of the field, less a
background opened with a disk of 10 of its every fourth, is eroded 16 times by a cross and reconstructed after each; a
column is what a nucleus' mean lost in that step, in per cent of its mean before anything was subtracted. Grains are
those of the field, so a nucleus that touches another shares them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from hcs_nuclei.columns.options import GRANULARITY_STEPS
from hcs_nuclei.measurement.insides import Insides

Floats = npt.NDArray[np.float64]
#: Every so many pixels of the field, and again of that for the background.
_EVERY = 4
_BACKGROUND_RADIUS = 10
#: A field with fewer sampled rows or columns has no spectrum.
_FEWEST = 2


def measure_granularity(image: npt.NDArray[Any], insides: Insides, *, channel: str) -> dict[str, Floats]:
    """Every column of :func:`hcs_nuclei.columns.granularity_columns` of `channel`, (n,) float64 in per cent.

    NaN in a field of less than 8 px, or without light.

    Args:
        image: (y, x) integers or finite floats, camera counts.
        insides: the pixels of the field's nuclei.
        channel: how its columns are named.

    Source: Ravkin and Temov 1988, Applied Informatics 14:41; Vincent 2000, Fundamenta Informaticae 41:57.
    """
    spectrum = _spectrum(image, insides)
    return {f"Nuclei_Granularity_{step}_{channel}": lost for step, lost in enumerate(spectrum, start=1)}


def _spectrum(image: npt.NDArray[Any], insides: Insides) -> list[Floats]:
    """(n,) per cent of each step."""
    from skimage.morphology import erosion, reconstruction

    count = insides.areas.size
    rows, columns = (edge // _EVERY for edge in image.shape)
    if min(rows, columns) < _FEWEST or not count:
        return [np.full(count, np.nan)] * GRANULARITY_STEPS
    grains = _without_background(image[::_EVERY, ::_EVERY][:rows, :columns].astype(np.float64))
    nucleus = np.repeat(np.arange(count), insides.areas)
    # The first and the last pixel of the field are the first and the last that were sampled, as CellProfiler has it.
    place = [
        along * ((sampled - 1) / (edge - 1))
        for along, sampled, edge in zip(
            np.divmod(insides.pixels, image.shape[1]), (rows, columns), image.shape, strict=True
        )
    ]
    start = np.bincount(nucleus, image.reshape(-1)[insides.pixels], minlength=count) / insides.areas
    share = np.divide(100, start, out=np.full(count, np.nan), where=start > 0)
    cross = ndimage.generate_binary_structure(2, 1)
    before, eroded, spectrum = start, grains, []
    for _ in range(GRANULARITY_STEPS):
        eroded = erosion(eroded, cross)
        kept = ndimage.map_coordinates(reconstruction(eroded, grains, footprint=cross), place, order=1, mode="nearest")
        after = np.bincount(nucleus, kept, minlength=count) / insides.areas
        spectrum.append((before - after) * share)
        before = after
    return spectrum


def _without_background(pixels: Floats) -> Floats:
    """(y, x) `pixels` above their background, 0 where they are below it."""
    from skimage.morphology import disk, opening

    coarse = opening(pixels[::_EVERY, ::_EVERY], disk(_BACKGROUND_RADIUS))
    place = [np.arange(edge) * ((edge / _EVERY - 1) / (edge - 1)) for edge in pixels.shape]
    background = ndimage.map_coordinates(coarse, np.meshgrid(*place, indexing="ij"), order=1, mode="nearest")
    above: Floats = np.maximum(pixels - background, 0.0)
    return above
