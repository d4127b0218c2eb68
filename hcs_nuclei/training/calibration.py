"""Segmented validation images in, the model of their confidence out: how often such a nucleus was right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from hcs_nuclei.segmentation.confidence import FEATURES, ConfidenceSettings


def fit_confidence(
    features: Sequence[npt.NDArray[np.float64]], right: Sequence[npt.NDArray[np.bool_]], *, ridge: float = 1.0
) -> ConfidenceSettings:
    """Logistic regression of being right on what describes a nucleus.

    Args:
        features: (n, 8) of each image, from :func:`hcs_nuclei.segmentation.confidence.describe`.
        right: (n,) whether each matched an annotated nucleus at IoU 0.5.
        ridge: penalty on the squared weights, so that a handful of nuclei cannot make them endless.

    Source: Platt scaling (Platt 1999) on several features.
    """
    if not sum(map(len, right)):
        return ConfidenceSettings()
    x, y = np.concatenate(features), np.concatenate(right).astype(float)
    means, scales = x.mean(axis=0), x.std(axis=0)
    scales[scales < 1e-3] = 1.0  # what is the same for all nuclei says nothing of any
    x = (x - means) / scales

    def cost(parameters: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        score = x @ parameters[1:] + parameters[0]
        gradient = 1 / (1 + np.exp(-score)) - y
        weights = parameters[1:]
        value = np.logaddexp(0, score).sum() - (y * score).sum() + ridge / 2 * (weights**2).sum()
        return float(value), np.concatenate([[gradient.sum()], x.T @ gradient + ridge * weights])

    found: Any = minimize(cost, np.zeros(len(FEATURES) + 1), jac=True, method="L-BFGS-B")
    # Rounded: a card is read by people, and the fifth digit is noise.
    return ConfidenceSettings(
        intercept=round(float(found.x[0]), 4),
        weights=tuple(round(float(v), 4) for v in found.x[1:]),
        means=tuple(round(float(v), 4) for v in means),
        scales=tuple(round(float(v), 4) for v in scales),
    )
