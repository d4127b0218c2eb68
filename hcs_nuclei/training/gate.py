"""Figures of the current model and of a candidate on the same images in, whether it may take its place out, and why.

The rules, each with a default that a caller may change:

1. On every frozen set, which neither was trained on, the candidate's mean pooled AP is at most 0.01 below the other's.
2. There the mean count error of an image is at most 0.02 (2 % of the nuclei) above the current's.
3. On new annotations, which it was not trained on either, its pooled AP in the mean of IoU 0.50 to 0.70 is not below
   the current's: they are corrections of what a model drew, and who drew them meets the outlines that nobody touched
   exactly. A stricter IoU would ask whether the candidate draws as the other does, and not what it finds.
4. There its count error is at most 0.02 above.
5. In fields without nuclei (blank, noise, debris) it finds no more than the current model.
6. The frozen sets hold 100 nuclei at least, and so do the new annotations where there are any: less is no evidence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

#: IoU at which new annotations are held against.
_LENIENT = ("0.50", "0.55", "0.60", "0.65", "0.70")


class GateSettings(BaseModel):
    """How much a candidate may lose, and what it must gain."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    ap_loss: float = Field(default=0.01, ge=0, description="Mean pooled AP may fall by so much on a frozen set.")
    ap_gain: float = Field(
        default=0.0, description="Pooled AP at IoU 0.50 to 0.70 must rise by so much on new annotations."
    )
    count_error_rise: float = Field(default=0.02, ge=0, description="Mean count error may rise by so much, a share.")
    fewest_nuclei: int = Field(default=100, ge=1, description="A set with fewer annotated nuclei is no evidence.")


@dataclass(frozen=True, slots=True)
class ComparedSet:
    """The figures of both models on one set of images, as :func:`hcs_nuclei.training.evaluation.set_figures` has them.

    A `frozen` set is one that no model is ever trained on; a `new` one is the part of new annotations that was held
    back; an `empty` one has fields without nuclei.
    """

    name: str
    kind: Literal["frozen", "new", "empty"]
    current: Mapping[str, Any]
    candidate: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Check:
    """One rule on one set, and how it ended in words."""

    set: str
    rule: str
    passed: bool
    said: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """Every check in order; a candidate passes that passes all of them."""

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether the candidate may take the current model's place."""
        return all(check.passed for check in self.checks)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it may not; empty where it may."""
        return tuple(f"{check.set}: {check.said}" for check in self.checks if not check.passed)


def judge(sets: Sequence[ComparedSet], settings: GateSettings | None = None) -> Verdict:
    """Apply the rules of this module to the figures of both models."""
    limits = settings or GateSettings()
    checks = []
    for one in sets:
        if one.kind == "empty":
            checks.append(_empty(one))
        else:
            allowed = -limits.ap_loss if one.kind == "frozen" else limits.ap_gain
            checks += [_evidence(one, limits.fewest_nuclei), _ap(one, allowed), _count(one, limits.count_error_rise)]
    if not any(one.kind == "frozen" for one in sets):
        said = "there is no frozen set; name annotated images that neither model was trained on"
        checks.append(Check("all sets", "frozen set", False, said))
    return Verdict(tuple(checks))


def _ap(one: ComparedSet, allowed: float) -> Check:
    rule = "mean pooled AP" if one.kind == "frozen" else "pooled AP at IoU 0.50 to 0.70"
    before, now = (_average_precision(figures, one.kind) for figures in (one.current, one.candidate))
    said = f"{rule} {before:.3f} → {now:.3f} ({now - before:+.3f}; at least {allowed:+.3f} is asked for)"
    return Check(one.name, rule, _at_least(now - before, allowed), said)


def _average_precision(figures: Mapping[str, Any], kind: str) -> float:
    if kind == "frozen":
        return float(figures["pooled_ap_mean"])
    return float(np.mean([figures["pooled_ap"][threshold] for threshold in _LENIENT]))


def _count(one: ComparedSet, allowed: float) -> Check:
    before, now = (float(figures["count_error"]) for figures in (one.current, one.candidate))
    said = f"count error {before:.1%} → {now:.1%} ({now - before:+.1%}; at most {allowed:+.1%} is allowed)"
    return Check(one.name, "count error", _at_least(allowed, now - before), said)


def _evidence(one: ComparedSet, fewest: int) -> Check:
    nuclei = int(one.current["nuclei"])
    said = f"{nuclei:,} annotated nuclei; {fewest:,} or more are asked for"
    return Check(one.name, "evidence", nuclei >= fewest, said)


def _empty(one: ComparedSet) -> Check:
    before, now = (int(figures["predicted"]) for figures in (one.current, one.candidate))
    said = f"nuclei found in {one.current['images']} fields without any: {before} → {now}"
    return Check(one.name, "empty fields", now <= before, said)


def _at_least(value: float, limit: float) -> bool:
    return value >= limit - 1e-9  # figures are sums of floats
