"""CPU time of measuring one channel of a field, beside `regionprops_table` and a matrix product on the same core.

    python tests/benchmarks/bench_measurement.py

The matrix product (2000 × 2000 × 2000, float32, one thread) says how fast the machine is, so that ratios can be
compared between machines where milliseconds cannot. The aim: all default features (shape, intensity, local background,
ring, neighbours) of a field of 400 nuclei in less than one matrix product.
"""

from __future__ import annotations

import os

os.environ |= {f"{name}_NUM_THREADS": "1" for name in ("OPENBLAS", "OMP", "MKL")}  # read when NumPy is imported

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
from skimage.measure import regionprops_table

from hcs_nuclei.measurement import measure_nuclei, reach_in_pixels
from hcs_nuclei.settings import FeatureGroup

SIZE = 1080
RADIUS = 12.6
#: The recipe's defaults, where a nucleus of this size is taken to be 15 µm wide as for a plate without pixel size.
REACH = reach_in_pixels(
    ring_gap_um=1, ring_width_um=4, neighbour_distance_um=50, pixel_size_um=None, diameter_px=2 * RADIUS
)
SAME_FEATURES = (
    *("label", "centroid", "bbox", "area", "perimeter", "eccentricity", "solidity", "extent", "orientation"),
    *("axis_major_length", "axis_minor_length", "equivalent_diameter_area", "area_convex", "area_bbox"),
    *("feret_diameter_max", "intensity_mean", "intensity_std", "intensity_min", "intensity_max"),
)


def field(nuclei: int) -> npt.NDArray[np.uint32]:
    """A SIZE × SIZE label image of lobed nuclei of some 500 px on a jittered grid."""
    rng = np.random.default_rng(nuclei)
    side = int(np.ceil(np.sqrt(nuclei)))
    half = int(RADIUS * 1.4)
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    angle, distance = np.arctan2(y, x), np.hypot(y, x)
    labels = np.zeros((SIZE + 2 * half, SIZE + 2 * half), dtype=np.uint32)
    for n in range(nuclei):
        top, left = ((np.array(divmod(n, side)) + 0.5) * SIZE / side + rng.uniform(-3, 3, size=2)).astype(int)
        long, lobes = rng.uniform(0, 2 * np.pi, size=2)
        outline = RADIUS * (1 + 0.15 * np.cos(2 * (angle - long)) + 0.06 * np.cos(3 * (angle - lobes)))
        labels[top : top + 2 * half + 1, left : left + 2 * half + 1][distance < outline] = n + 1
    return np.ascontiguousarray(labels[half:-half, half:-half])


def quantiles(mask: npt.NDArray[np.bool_], image: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Median and quartiles, as an extra property of `regionprops_table`."""
    return np.percentile(image[mask], [25, 50, 75])


def cpu_ms(work: Callable[[], object], repeats: int) -> float:
    """Median CPU time in milliseconds, after one run that does not count."""
    work()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return 1000 * statistics.median(times)


def compare(nuclei: int, matmul: float) -> str:
    """A few words on a field of so many nuclei; `matmul` is the matrix product's time in milliseconds."""
    labels = field(nuclei)
    image = np.random.default_rng(1).poisson(500 + 2000 * (labels > 0)).astype(np.uint16)

    def measure(groups: frozenset[str] = frozenset()) -> object:
        return measure_nuclei(labels, {"DNA": image}, nuclear="DNA", saturation=None, groups=groups, reach=REACH)

    ours = cpu_ms(measure, repeats=15)
    theirs = cpu_ms(
        lambda: regionprops_table(labels, image, properties=SAME_FEATURES, extra_properties=[quantiles]), repeats=1
    )
    more = {group: cpu_ms(partial(measure, frozenset({group})), repeats=3) - ours for group in get_args(FeatureGroup)}
    return (
        f"{nuclei} nuclei of {np.count_nonzero(labels) / nuclei:.0f} px: {ours:.1f} ms = {ours / matmul:.2f} matrix "
        f"products; regionprops_table {theirs:.0f} ms, {theirs / ours:.0f} times as long\n"
        f"  more on request: {', '.join(f'{group} {time:.0f} ms' for group, time in more.items())}"
    )


def main() -> None:
    """Print the matrix product's time, then a few words per number of nuclei."""
    a = np.random.default_rng(0).normal(size=(2000, 2000)).astype(np.float32)
    matmul = cpu_ms(lambda: a @ a, repeats=5)
    print(f"matrix product: {matmul:.0f} ms")
    for nuclei in (400, 1600):
        print(compare(nuclei, matmul))


if __name__ == "__main__":
    main()
