"""Integrated DNA stain of a plate's nuclei in, its G1 peak out; the peak in, DNA content and its class out.

After log2 the stain of G1 is one peak and that of G2 a second, one doubling to the right; cells in S lie between. The
peak is looked for in a smoothed histogram and judged by its left flank, which no cell in S reaches.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hcs_nuclei.columns import DNA_CLASSES

Floats = npt.NDArray[np.float64]

#: Cuts lie so many standard deviations of the G1 peak from 2N and 4N: inwards, and outwards, where a tail is expected.
_INWARDS, _OUTWARDS = 2.0, 3.0
#: No peak is taken for sharper: rounding and the histogram add to it.
_SHARPEST = 0.06
_BIN = 0.01
#: A doubling in log2, as measured: background and segmentation make it a little less or more than 1.
_DOUBLING = (0.85, 1.15)
#: Height, relative to the tallest peak, of one a doubling below it that is G1; and of one that makes it doubtful.
_LOWER_PEAK, _RIVAL = 0.4, 0.6


@dataclass(frozen=True, slots=True)
class G1Peak:
    """Where G1 lies on a plate.

    Attributes:
        feature: the column of the nucleus table that was looked at.
        position: integrated stain of a nucleus in G1, counts; None where there is no call, and `reason` says why.
        spread: standard deviation of the peak in log2.
        nuclei: how many were looked at.
        origin: which nuclei these are, in words.
    """

    feature: str
    position: float | None
    spread: float | None
    nuclei: int
    origin: str
    reason: str = ""


def find_g1(feature: str, stain: Floats, origin: str, *, minimum: int, widest: float) -> G1Peak:
    """The G1 peak among nuclei that are whole, in focus, unsaturated and single.

    Args:
        feature: the column that `stain` is of.
        stain: (n,) integrated intensity in counts, background subtracted; values of 0 and less are left out.
        origin: which nuclei these are, in words.
        minimum: fewest nuclei that a peak is looked for in.
        widest: largest standard deviation of the peak in log2.
    """
    known = np.log2(stain[stain > 0])

    def refused(reason: str) -> G1Peak:
        return G1Peak(feature, None, None, int(known.size), origin, reason)

    if known.size < minimum:
        return refused(f"too few nuclei: {known.size} that are whole, single, in focus and unsaturated, of {minimum}")
    bandwidth = float(np.clip(0.05 * (known.size / 2000) ** -0.2, 0.05, 0.1))
    grid, density = _density(known, bandwidth)
    place, doubt = _choose(grid, density)
    if doubt:
        return refused(doubt)
    flank = np.flatnonzero(density[:place] < density[place] / 2)
    half_width = float(grid[place] - grid[flank[-1]]) if flank.size else np.inf
    # The half width at half maximum of a normal peak is 1.1774 standard deviations; smoothing added its own.
    spread = float(np.sqrt(max((half_width / 1.1774) ** 2 - bandwidth**2, _SHARPEST**2)))
    if spread > widest:
        return refused(f"the G1 peak is too broad: standard deviation {spread:.2f} in log2, at most {widest:g}")
    return G1Peak(feature, float(2.0 ** grid[place]), spread, int(known.size), origin)


def dna_content(stain: Floats, peak: G1Peak) -> Floats:
    """(n,) DNA content in N (G1 is 2) of integrated `stain`, (n,) counts; NaN without a peak."""
    return 2 * stain / (np.nan if peak.position is None else peak.position)


def dna_class(content: Floats, peak: G1Peak) -> npt.NDArray[np.object_]:
    """(n,) of :data:`hcs_nuclei.columns.DNA_CLASSES`; None where `content`, (n,) in N, is NaN or there is no peak."""
    classes = np.full(content.shape, None, dtype=object)
    if peak.spread is None:
        return classes
    known = np.flatnonzero(~np.isnan(content))
    names = np.array(list(DNA_CLASSES), dtype=object)
    classes[known] = names[np.searchsorted(dna_cuts(peak.spread), content[known], side="right")]
    return classes


def dna_cuts(spread: float) -> tuple[float, float, float, float]:
    """DNA contents (N) between the five classes, for a G1 peak of `spread` in log2."""
    inwards, outwards = 2.0 ** (_INWARDS * spread), 2.0 ** (_OUTWARDS * spread)
    middle = 8.0**0.5  # where the classes of 2N and 4N meet if the peak is so broad that they would overlap
    return 2 / outwards, min(2 * inwards, middle), max(4 / inwards, middle), 4 * outwards


def _density(known: Floats, bandwidth: float) -> tuple[Floats, Floats]:
    """(k,) centres of bins in log2, and (k,) the histogram of `known` there, smoothed by a normal kernel."""
    from scipy.ndimage import gaussian_filter1d

    low, high = np.quantile(known, [0.002, 0.998])
    edges = np.arange(low - 6 * bandwidth, high + 6 * bandwidth + _BIN, _BIN)
    counts, _ = np.histogram(known, edges)
    return edges[:-1] + _BIN / 2, gaussian_filter1d(counts.astype(np.float64), bandwidth / _BIN, mode="constant")


def _choose(grid: Floats, density: Floats) -> tuple[int, str]:
    """The bin of G1, and a reason not to believe in it."""
    from scipy.signal import find_peaks

    peaks, _ = find_peaks(density, prominence=0.1 * density.max())
    if not peaks.size:
        return 0, "there is no peak"
    tallest = int(peaks[np.argmax(density[peaks])])
    offsets, heights = grid[peaks] - grid[tallest], density[peaks] / density[tallest]
    below = (-offsets >= _DOUBLING[0]) & (-offsets <= _DOUBLING[1]) & (heights >= _LOWER_PEAK)
    if below.any():
        return int(peaks[below][-1]), ""
    strange = (offsets != 0) & (heights >= _RIVAL) & ~((offsets >= _DOUBLING[0]) & (offsets <= _DOUBLING[1]))
    if strange.any():
        factor = 2.0 ** float(offsets[strange][0])
        return tallest, f"there are two peaks of like height, the other at {factor:.2f} times the stain: no doubling"
    return tallest, ""
