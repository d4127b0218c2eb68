"""Compares our features with cp_measure's, CellProfiler's measurement code as a library, on our own label images.

::

    .venv/bin/python tests/independent/compare_cp_measure.py IMAGE.tif

cp_measure is needed for this alone, and its centrosome asks for a Pillow older than the locked one (what is compared
never imports it). So ``make setup`` puts what ``requirements.lock`` in this directory names into ``.venv/cp-measure``,
beside the locked environment and not into it; NumPy, SciPy and scikit-image are the locked ones. All four are free to
use (BSD, MIT, Apache 2.0) and no part of what is shipped. ``tests/test_measurement_cellprofiler.py`` asks the same of
the real sample.

IMAGE.tif is a nuclear channel; it is segmented with the default model. The table is printed as Markdown; exit status 0
where the median relative difference of every feature is within 1 %, or its reason is among the EXCEPTIONS.
"""

from __future__ import annotations

import argparse
import re
import sys
import warnings
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
from tifffile import imread

from hcs_nuclei.measurement import measure_nuclei
from hcs_nuclei.settings import FeatureGroup

# Behind the environment's own, so that nothing there is taken for something here.
sys.path.append(str(Path(sys.prefix) / "cp-measure"))

Floats = npt.NDArray[np.float64]
TOLERANCE = 0.01
CHANNEL = "DNA"
GROUPS = frozenset(get_args(FeatureGroup))
#: Below this share of its largest value over all nuclei, a value is no more than rounding.
_ROUNDING = 1e-9

#: Features that differ by definition: what their name matches, and why.
EXCEPTIONS = {
    r"CentralMoment_(0_1|1_0)$": "0 by definition; cp_measure's is what rounding leaves",
    r"Zernike_": "cp_measure drops pixels on the circle itself where rounding puts them outside",
    r"RadialDistribution_": "for cp_measure the field's edge is no outline: nuclei that touch it differ",
    r"Granularity_": "shares of 1e-15 % are rounding",
}


@dataclass(frozen=True, slots=True)
class Difference:
    """How far apart two measurements of all nuclei are, as shares of cp_measure's."""

    feature: str
    median: float
    largest: float
    beyond: int
    unknown: int

    @property
    def family(self) -> str:
        """Its group, as CellProfiler's modules have them."""
        _, family, kind, *_ = self.feature.split("_")
        return f"{family}, {kind}" if family == "AreaShape" and kind.endswith(("Zernike", "Moment")) else family

    @property
    def reason(self) -> str:
        """Why it may differ; empty where nothing explains it."""
        return next((why for name, why in EXCEPTIONS.items() if re.search(name, self.feature)), "")


def measured_by_cp_measure(labels: npt.NDArray[np.uint32], image: npt.NDArray[np.uint8]) -> dict[str, Floats]:
    """What cp_measure says, by our names of columns; labels are 1 … n without gaps, the image has 8 bits."""
    from cp_measure.bulk import get_core_measurements
    from cp_measure.multimask.measureobjectneighbors import measureobjectneighbors

    masks = labels.astype(np.int32)
    families = get_core_measurements()
    found: dict[str, Floats] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for family in ("sizeshape", "feret", "zernike"):
            for name, values in families[family](masks, image / 255).items():
                found[f"Nuclei_AreaShape_{name}"] = values
        for name, values in families["intensity"](masks, image.astype(np.float64)).items():
            found[f"Nuclei_{name}_{CHANNEL}"] = values
        for name, values in families["radial_distribution"](masks, image.astype(np.float64)).items():
            kind, ring = name.rsplit("_", 1)
            found[f"Nuclei_{kind}_{CHANNEL}_{ring}"] = values
        for name, values in families["granularity"](masks, image.astype(np.float64)).items():
            found[f"Nuclei_{name}_{CHANNEL}"] = values
        for name, values in families["texture"](masks, image).items():
            kind, rest = name.split("_", 1)
            found[f"Nuclei_Texture_{kind}_{CHANNEL}_{rest}"] = values
        for name, values in measureobjectneighbors(masks, masks, "Adjacent").items():
            found[f"Nuclei_{name if name.startswith('Neighbors') else 'Neighbors_' + name}"] = np.asarray(values)
    return {name: np.asarray(values, dtype=np.float64) for name, values in found.items()}


def measured_by_us(labels: npt.NDArray[np.uint32], image: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[Any]]:
    """Every feature that we have."""
    return measure_nuclei(labels, {CHANNEL: image}, nuclear=CHANNEL, saturation=None, groups=GROUPS)


def differences(ours: dict[str, npt.NDArray[Any]], theirs: dict[str, Floats]) -> list[Difference]:
    """One for each feature that both have."""
    both = {name: values.astype(np.float64) for name, values in ours.items() if name in theirs}
    # Of a nucleus too small for a pair of pixels in one direction cp_measure says nothing of the others either.
    textures = [values for name, values in both.items() if "_Texture_" in name]
    if textures:
        small = ~np.isfinite(textures).all(axis=0)
        both |= {name: np.where(small, np.nan, v) for name, v in both.items() if "_Texture_" in name}
    return [_difference(name, values, theirs[name]) for name, values in both.items()]


def _difference(name: str, ours: Floats, theirs: Floats) -> Difference:
    known = np.isfinite(ours) & np.isfinite(theirs)
    apart, size = np.abs(ours - theirs)[known], np.abs(theirs)[known]
    if name.endswith("_Orientation"):  # 90° and -90° are the same
        apart = np.minimum(apart, 180 - apart)
    rounding = _ROUNDING * size.max(initial=0.0)
    share = np.divide(apart, size, out=np.where(apart <= rounding, 0.0, np.inf), where=size > rounding)
    unknown = int(np.count_nonzero(np.isfinite(ours) != np.isfinite(theirs)))
    beyond = int(np.count_nonzero(share > TOLERANCE))
    return Difference(name, float(np.median(share)), float(share.max()), beyond, unknown)


def main() -> int:
    """Segment, measure twice, print the table."""
    from hcs_nuclei import segment

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", type=Path)
    image = imread(parser.parse_args().image)
    labels = segment(image)
    ours, theirs = measured_by_us(labels, image), measured_by_cp_measure(labels, image)
    found = differences(ours, theirs)
    print(f"cp_measure {version('cp_measure')}, {labels.max()} nuclei, {len(found)} features that both have\n")
    print("| features | how many | largest median difference | nuclei beyond 1 % | why |\n" + "| --- " * 5 + "|")
    for family in dict.fromkeys(d.family for d in found):
        of_it = [d for d in found if d.family == family]
        worst, beyond = max(d.median for d in of_it), max(d.beyond for d in of_it)
        why = "; ".join(dict.fromkeys(d.reason for d in of_it if d.beyond))
        print(f"| {family} | {len(of_it)} | {worst:.1g} | {beyond} | {why} |")
    print("\n| feature | median difference | largest | beyond 1 % | known to one alone |\n" + "| --- " * 5 + "|")
    for d in sorted(found, key=lambda d: -d.median):
        print(f"| `{d.feature}` | {d.median:.2g} | {d.largest:.2g} | {d.beyond} | {d.unknown} |")
    print("\nOnly ours:", ", ".join(sorted(n for n in ours if n.startswith("Nuclei_") and n not in theirs)))
    print("\nOnly cp_measure's:", ", ".join(sorted(n for n in theirs if n not in ours)))
    return int(any(d.median > TOLERANCE and not d.reason for d in found))


if __name__ == "__main__":
    sys.exit(main())
