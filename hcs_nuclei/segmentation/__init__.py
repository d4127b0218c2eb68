"""Pixels in, label image out: normalise, tiles, network, instances."""

from __future__ import annotations

from hcs_nuclei.segmentation.diameter import estimate_diameter, median_diameter
from hcs_nuclei.segmentation.instances import InstanceSettings
from hcs_nuclei.segmentation.normalise import normalise, to_grey
from hcs_nuclei.segmentation.predict import Segmentation, Segmenter
from hcs_nuclei.segmentation.targets import make_targets

__all__ = [
    "InstanceSettings",
    "Segmentation",
    "Segmenter",
    "estimate_diameter",
    "make_targets",
    "median_diameter",
    "normalise",
    "to_grey",
]
