"""Columns of the groups of features that a recipe may ask for: texture, granularity, radial, zernike."""

from __future__ import annotations

from collections.abc import Sequence

from hcs_nuclei.columns.column import Column

TEXTURE_SCALE_PX = 3
TEXTURE_LEVELS = 256
#: Down and right from one pixel of a pair to the other, in CellProfiler's order: _00, _01, _02, _03.
TEXTURE_DIRECTIONS = ((0, 1), (1, 1), (1, 0), (1, -1))
_DIRECTION_WORDS = ("to the right", "down right", "down", "down left")
_TEXTURE = {
    "AngularSecondMoment": "homogeneity: sum of squared shares; 1 = one pair of levels only",
    "Contrast": "mean squared difference of levels",
    "Correlation": "correlation of levels; 1 where there is one level only",
    "Variance": "variance of levels",
    "InverseDifferenceMoment": "mean of 1 / (1 + squared difference)",
    "SumAverage": "mean of the sum of two levels",
    "SumVariance": "variance of the sum of two levels",
    "SumEntropy": "entropy of the sum of two levels, bits",
    "Entropy": "entropy of the pairs of levels, bits",
    "DifferenceVariance": "variance of the shares of the differences",
    "DifferenceEntropy": "entropy of the difference of levels, bits",
    "InfoMeas1": "information measure of correlation 1; 0 = none",
    "InfoMeas2": "information measure of correlation 2; 0 = none",
}

GRANULARITY_STEPS = 16
RADIAL_BINS = 4
_RADIAL = {
    "FracAtD": "share of the nucleus' intensity in the ring",
    "MeanFrac": "mean intensity in the ring / mean over the nucleus",
    "RadialCV": "coefficient of variation of the means of the ring's eight wedges",
}

#: (n, m) of the Zernike polynomials up to the ninth degree.
ZERNIKE_ORDERS = tuple((n, m) for n in range(10) for m in range(n % 2, n + 1, 2))


def texture_columns(channel: str) -> tuple[Column, ...]:
    """Haralick's features of one channel: ``Nuclei_Texture_Contrast_<channel>_3_00_256``."""
    return tuple(
        Column(
            f"Nuclei_Texture_{name}_{channel}_{TEXTURE_SCALE_PX}_{number:02d}_{TEXTURE_LEVELS}",
            "float64",
            "",
            f"{meaning}, {TEXTURE_SCALE_PX} px {_DIRECTION_WORDS[number]}, {channel}",
        )
        for number in range(len(TEXTURE_DIRECTIONS))
        for name, meaning in _TEXTURE.items()
    )


def granularity_columns(channel: str) -> tuple[Column, ...]:
    """The granular spectrum of one channel: ``Nuclei_Granularity_1_<channel>`` to ``_16_``."""
    return tuple(
        Column(
            f"Nuclei_Granularity_{step}_{channel}",
            "float64",
            "%",
            f"of its mean that opening the field {step} times takes away and {step - 1} times did not, {channel}",
        )
        for step in range(1, GRANULARITY_STEPS + 1)
    )


def radial_columns(channel: str) -> tuple[Column, ...]:
    """The radial distribution of one channel: ``Nuclei_RadialDistribution_FracAtD_<channel>_1of4``."""
    return tuple(
        Column(
            f"Nuclei_RadialDistribution_{name}_{channel}_{ring}of{RADIAL_BINS}",
            "float64",
            "",
            f"{meaning}, ring {ring} of {RADIAL_BINS} from its middle, {channel}",
        )
        for ring in range(1, RADIAL_BINS + 1)
        for name, meaning in _RADIAL.items()
    )


ZERNIKE = tuple(
    Column(f"Nuclei_AreaShape_Zernike_{n}_{m}", "float64", "", f"size of the shape's Zernike moment {n}, {m}")
    for n, m in ZERNIKE_ORDERS
)


def option_columns(groups: frozenset[str], channels: Sequence[str]) -> tuple[Column, ...]:
    """The columns of the `groups` that are asked for, in an order that does not depend on theirs."""
    per_channel = {"texture": texture_columns, "granularity": granularity_columns, "radial": radial_columns}
    of_channels = tuple(
        column
        for group, columns in per_channel.items()
        if group in groups
        for channel in channels
        for column in columns(channel)
    )
    return (*(ZERNIKE if "zernike" in groups else ()), *of_channels)
