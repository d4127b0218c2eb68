"""What a model's training images looked like, as a small table of its card in; how unlike them a field is out."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

Floats = npt.NDArray[np.float64]

#: What is looked at, in the order of :func:`describe_field`'s columns.
STATISTICS = ("level", "signal_to_noise", "softness", "size")
#: Above it a better image is no more familiar and no less, so it counts as this.
_ENOUGH_SIGNAL = 100.0
#: Share of the training images that a new field must be farther from their mean than, to be called unlike them.
_LIMIT_SHARE = 0.99


class FieldStatistics(BaseModel):
    """Mean and inverse covariance of the statistics of a model's training images, and how far out is far.

    `limit` is the distance that 99 % of the training images keep.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    statistics: tuple[str, ...] = STATISTICS
    images: int = Field(ge=1, description="Training images that it was made from.")
    means: tuple[float, ...]
    precision: tuple[tuple[float, ...], ...] = Field(description="Inverse of their covariance.")
    limit: float = Field(gt=0)

    @model_validator(mode="after")
    def _known(self) -> FieldStatistics:
        size = len(STATISTICS)
        shapes = {len(self.means), len(self.precision), *map(len, self.precision)}
        if self.statistics != STATISTICS or shapes != {size}:
            raise ValueError(f"field statistics are {', '.join(self.statistics)}; expected {', '.join(STATISTICS)}")
        return self

    @classmethod
    def of_training(cls, described: Floats) -> FieldStatistics:
        """From (n, 4) statistics of training images; rows with NaN (images with too few nuclei) are left out.

        Raises:
            ValueError: fewer than 20 images are left.
        """
        known = described[~np.isnan(described).any(axis=1)]
        if len(known) < 20:
            raise ValueError(f"{len(known)} training images have all field statistics; expected 20 or more")
        precision = np.linalg.inv(np.cov(known, rowvar=False) + 1e-6 * np.eye(len(STATISTICS)))
        # Rounded: a card is read by people, and equal training gives equal cards on every machine.
        table = cls(
            images=len(known),
            means=tuple(round(float(v), 4) for v in known.mean(axis=0)),
            precision=tuple(tuple(round(float(v), 4) for v in row) for row in precision),
            limit=1.0,
        )
        limit = round(float(np.quantile(table.distance(known), _LIMIT_SHARE)), 3)
        return table.model_copy(update={"limit": limit})

    def distance(self, described: Floats) -> Floats:
        """(n,) Mahalanobis distance of (n, 4) statistics from the training images' mean; NaN where one is missing."""
        away = described - np.array(self.means)
        # Products and sums of single elements only: a matrix product's rounding may depend on the number of threads.
        squared = (away[:, :, None] * np.array(self.precision)[None] * away[:, None, :]).sum(axis=(1, 2))
        return np.asarray(np.sqrt(np.maximum(squared, 0.0)))


def describe_field(
    level: Floats, contrast: Floats, noise: Floats, edge_width_px: Floats, diameter_px: Floats, scale: Floats | float
) -> Floats:
    """(n, 4) float64 what n fields look like to a network: NaN where one of the arrays (n,) has no value.

    Args:
        level: where the field's median lies between its 1st percentile (0) and its 99.8th (1).
        contrast: typical nucleus above background, counts.
        noise: standard deviation of the pixel noise, counts; taken as that of rounding where it is less.
        edge_width_px: how wide the nuclei's outlines are.
        diameter_px: median diameter of the nuclei.
        scale: pixels of the network for one of the field.

    Returns:
        `level`; log10 of contrast over noise, at most 2; log2 of the outline's width and of the diameter, both in
        pixels of the network.
    """
    rounding = 1 / np.sqrt(12)
    with np.errstate(invalid="ignore", divide="ignore"):
        signal = np.minimum(contrast / np.maximum(noise, rounding), _ENOUGH_SIGNAL)
        columns = (
            level,
            np.log10(np.where(signal > 0, signal, np.nan)),
            np.log2(edge_width_px * scale),
            np.log2(diameter_px * scale),
        )
    return np.stack([np.asarray(column, dtype=np.float64) for column in columns], axis=1)
