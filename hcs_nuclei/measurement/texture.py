"""Haralick's texture of one channel inside every nucleus, from co-occurrence matrices of all of them at once.

Named and defined as CellProfiler's MeasureTexture: 256 levels of the camera's range, pixels at level 0 left out,
symmetric matrices of pixel pairs 3 px apart in four directions, each direction a column of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hcs_nuclei.columns.options import TEXTURE_DIRECTIONS, TEXTURE_LEVELS, TEXTURE_SCALE_PX
from hcs_nuclei.measurement.insides import Insides
from hcs_nuclei.measurement.runs import Indices

Floats = npt.NDArray[np.float64]


def measure_texture(
    image: npt.NDArray[Any], labels: npt.NDArray[np.uint32], insides: Insides, *, channel: str, full_scale: float
) -> dict[str, Floats]:
    """Every column of :func:`hcs_nuclei.columns.texture_columns` of `channel`, (n,) float64.

    NaN where a nucleus has no two pixels above level 0 that far apart in that direction.

    Args:
        image: (y, x) integers or finite floats, camera counts.
        labels: (y, x) uint32 label image, 0 = background.
        insides: its nuclei's pixels.
        channel: how its columns are named.
        full_scale: counts of the topmost level; brighter ones are that too.

    Source: Haralick, Shanmugam and Dinstein 1973, IEEE Transactions SMC-3:610; as mahotas computes it.
    """
    level = np.rint(image.reshape(-1)[insides.pixels] * ((TEXTURE_LEVELS - 1) / full_scale))
    level = np.clip(level, 0, TEXTURE_LEVELS - 1).astype(np.int64)
    count = insides.areas.size
    nucleus = np.repeat(np.arange(count), insides.areas)
    brightest = np.maximum.reduceat(level, insides.starts) if count else level
    height, width = labels.shape
    stride = width + 2 * TEXTURE_SCALE_PX
    at = (insides.pixels // max(width, 1) + TEXTURE_SCALE_PX) * stride + insides.pixels % max(width, 1)
    at += TEXTURE_SCALE_PX
    # 0 outside nuclei and for pixels that are left out: a pair needs both.
    owner = np.zeros((height + 2 * TEXTURE_SCALE_PX) * stride, dtype=np.int64)
    levels = np.zeros(owner.shape, dtype=np.int64)
    owner[at], levels[at] = np.where(level > 0, nucleus + 1, 0), level
    measured: dict[str, Floats] = {}
    for number, (down, right) in enumerate(TEXTURE_DIRECTIONS):
        other = at + TEXTURE_SCALE_PX * (down * stride + right)
        pairs = (owner[at] > 0) & (owner[other] == owner[at])
        found = _Pairs.of(nucleus[pairs], level[pairs], levels[other[pairs]], count)
        end = f"{channel}_{TEXTURE_SCALE_PX}_{number:02d}_{TEXTURE_LEVELS}"
        measured |= {f"Nuclei_Texture_{name}_{end}": values for name, values in found.features(brightest).items()}
    return measured


@dataclass(frozen=True, slots=True)
class _Pairs:
    """The co-occurrence matrices of n nuclei, each entry once for both of its orders.

    Attributes:
        count: n.
        nucleus, low, high: (e,) whose entry it is, and its two levels.
        times: (e,) how many pairs have these levels.
        total: (n,) entries of the symmetric matrix: twice the nucleus' pairs.
    """

    count: int
    nucleus: Indices
    low: Indices
    high: Indices
    times: Indices
    total: Floats

    @classmethod
    def of(cls, nucleus: Indices, one: Indices, other: Indices, count: int) -> _Pairs:
        low, high = np.minimum(one, other), np.maximum(one, other)
        code, times = np.unique((nucleus * TEXTURE_LEVELS + low) * TEXTURE_LEVELS + high, return_counts=True)
        rest, high = np.divmod(code, TEXTURE_LEVELS)
        owner, low = np.divmod(rest, TEXTURE_LEVELS)
        total = 2 * np.bincount(nucleus, minlength=count).astype(np.float64)
        return cls(count, owner, low, high, times, total)

    def features(self, brightest: Indices) -> dict[str, Floats]:
        """The thirteen features, (n,) each; `brightest` is each nucleus' topmost level.

        Moments are exact: sums of integers, divided last.
        """
        total = np.maximum(self.total, 1.0)
        apart = self.high - self.low
        single = (self._table(self.low, TEXTURE_LEVELS) + self._table(self.high, TEXTURE_LEVELS)) / 2
        sums = self._table(self.low + self.high, 2 * TEXTURE_LEVELS)
        differences = self._table(apart, TEXTURE_LEVELS)
        ladder = np.arange(2.0 * TEXTURE_LEVELS)
        first, square = (single @ ladder[:TEXTURE_LEVELS] ** power for power in (1, 2))
        spread = total * square - first**2
        together = total * self._sum(2 * self.times * self.low * self.high) - first**2
        # An entry off the diagonal stands for two of half its share.
        share = 2 * self.times / total[self.nucleus]
        each = np.where(apart > 0, share / 2, share)
        joint, alone = -self._sum(share * np.log2(each)), _entropy(single / total[:, None])
        mutual = 2 * alone - joint
        steps = brightest + 1
        features = {
            "AngularSecondMoment": self._sum(share * each),
            "Contrast": differences @ ladder[:TEXTURE_LEVELS] ** 2 / total,
            "Correlation": np.divide(together, spread, out=np.ones(self.count), where=spread > 0),
            "Variance": spread / total**2,
            "InverseDifferenceMoment": self._sum(share / (1 + apart**2)),
            "SumAverage": 2 * first / total,
            "SumVariance": (total * (sums @ ladder**2) - 4 * first**2) / total**2,
            "SumEntropy": _entropy(sums / total[:, None]),
            "Entropy": joint,
            "DifferenceVariance": ((differences / total[:, None]) ** 2).sum(axis=1) / steps - 1 / steps**2,
            "DifferenceEntropy": _entropy(differences / total[:, None]),
            "InfoMeas1": np.divide(-mutual, alone, out=np.zeros(self.count), where=alone > 0),
            "InfoMeas2": np.sqrt(np.maximum(1 - np.exp(-2 * mutual), 0.0)),
        }
        return {name: np.where(self.total > 0, values, np.nan) for name, values in features.items()}

    def _table(self, column: Indices, width: int) -> Floats:
        """(n, width) entries of each nucleus' matrix by `column`, (e,) numbers below `width`; both orders counted."""
        counts = np.bincount(self.nucleus * width + column, 2 * self.times, minlength=self.count * width)
        return counts.reshape(self.count, width).astype(np.float64)

    def _sum(self, values: npt.NDArray[Any]) -> Floats:
        """(n,) sum of (e,) `values` over each nucleus' entries."""
        return np.bincount(self.nucleus, values, minlength=self.count).astype(np.float64)


def _entropy(shares: Floats) -> Floats:
    """(n,) entropy in bits of each row of (n, k) `shares`."""
    logarithms = np.zeros(shares.shape)
    np.log2(shares, out=logarithms, where=shares > 0)
    entropy: Floats = -(shares * logarithms).sum(axis=1)
    return entropy
