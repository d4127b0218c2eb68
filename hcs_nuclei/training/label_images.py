"""Mask images, or a label image from anywhere, in; one label image of an annotated image out, or what is wrong."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

#: A label image of one number and this many regions is taken for a mask.
_REGIONS_OF_A_MASK = 5


@dataclass(frozen=True, slots=True)
class Findings:
    """In words: `faults`, for which an image cannot be used, and `remarks` on what was settled."""

    faults: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def merge_masks(
    masks: Iterable[tuple[str, npt.NDArray[Any]]], shape: tuple[int, ...], findings: Findings
) -> npt.NDArray[np.int32]:
    """One label image of one mask for each nucleus; the first has number 1, whether or not others are empty.

    A pixel of several masks goes to the smallest of them (the first of equals): so a nucleus that lies on another
    stays whole, and none but a copy disappears.

    Args:
        masks: name and pixels, (y, x) or colour (y, x, c) of any integer dtype; not 0 in a nucleus. A fourth channel,
            or a second of two, is opacity and left out.
        shape: (y, x) of the image.
        findings: takes what is found.

    Returns:
        (y, x) int32, 0 = background; of no use where faults were found.
    """
    labels = np.zeros(shape, np.int32).ravel()
    shared = np.zeros(labels.shape, bool)
    names, areas = [""], [0]
    for number, (name, pixels) in enumerate(masks, start=1):
        mask = pixels if pixels.ndim == 2 else pixels[..., : 3 if pixels.shape[-1] >= 3 else 1].max(axis=-1)
        if mask.shape != shape:
            findings.faults.append(f"{name} is {mask.shape}, the image is {shape}")
            mask = mask[:0]
        at = np.flatnonzero(mask > 0)
        names.append(name)
        areas.append(at.size)
        under = labels[at]
        rivals = under > 0
        if rivals.any():
            shared[at[rivals]] = True
            at = at[~rivals | (np.array(areas)[under] > at.size)]
        labels[at] = number
    if findings.faults:
        return labels.reshape(shape)
    if shared.any():
        findings.remarks.append(f"{shared.sum()} px lie in several masks and go to the smallest of them")
    kept = np.bincount(labels, minlength=len(areas))
    empty = [name for name, area in zip(names[1:], areas[1:], strict=True) if area == 0]
    hidden = [name for name, area, count in zip(names, areas, kept, strict=True) if area > count == 0]
    if empty:
        findings.remarks.append(f"empty masks are left out: {', '.join(empty)}")
    if hidden:
        findings.remarks.append(f"masks that others cover wholly are left out: {', '.join(hidden)}")
    return labels.reshape(shape)


def checked_label_image(
    name: str, pixels: npt.NDArray[Any], shape: tuple[int, ...], findings: Findings
) -> npt.NDArray[np.int32]:
    """A label image as it was stored, brought to int32; numbers stay unless they are greater than its pixels are many.

    Args:
        name: for what is said of it.
        pixels: (y, x) or grey stored as colour (y, x, c), integer, not negative, 0 = background.
        shape: (y, x) of the image.
        findings: takes what is found.

    Returns:
        (y, x) int32, 0 = background; of no use where faults were found.
    """
    labels = pixels
    if pixels.ndim == 3 and pixels.shape[-1] <= 4:
        colours = pixels[..., : 3 if pixels.shape[-1] >= 3 else 1]
        labels = colours[..., 0]
        if (colours != labels[..., None]).any():
            findings.faults.append(f"{name} is in colour; expected one number for each nucleus, 0 = background")
    if labels.shape != shape:
        findings.faults.append(f"{name} is {labels.shape}, the image is {shape}")
    if labels.dtype.kind not in "iu":
        findings.faults.append(f"{name} holds {labels.dtype} numbers; expected integers, 0 = background")
    elif labels.size and labels.min() < 0:
        findings.faults.append(f"{name} holds numbers down to {labels.min()}; expected none below 0, the background")
    if findings.faults:
        return np.zeros(shape, np.int32)
    if labels.max() > labels.size:
        # Numbers are but names, and what counts by number makes arrays as long as the greatest of them.
        order = np.unique(np.append(labels.ravel(), labels.dtype.type(0)), return_inverse=True)[1]
        labels = order[:-1].reshape(shape)
    labels = labels.astype(np.int32)
    present = np.flatnonzero(np.bincount(labels.ravel()))
    if present[present > 0].size == 1:
        regions = ndimage.label(labels)[1]
        if regions >= _REGIONS_OF_A_MASK:
            findings.remarks.append(
                f"all {regions} regions of {name} have one number and count as one nucleus: is it a mask?"
            )
    return np.ascontiguousarray(labels)
