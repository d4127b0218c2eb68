"""A comparison of two models in, a report out: one HTML file that needs no other and asks for nothing."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from hcs_nuclei.files import replace_file
from hcs_nuclei.models.difference import Difference, card_differences
from hcs_nuclei.outputs.page import render_page
from hcs_nuclei.training.comparison import Comparison
from hcs_nuclei.training.gate import ComparedSet
from hcs_nuclei.training.report_charts import Line, line_chart

REPORT_FILE = "comparison.html"
#: Images that are listed, of those that got worse and of those that got better.
LISTED = 12
#: Figures of a set: words, how to find it, whether more is better (None: neither), whether it is a share.
_FIGURES = (
    ("mean pooled AP", ("pooled_ap_mean",), True),
    ("pooled AP at 0.50", ("pooled_ap", "0.50"), True),
    ("pooled AP at 0.75", ("pooled_ap", "0.75"), True),
    ("pooled AP at 0.90", ("pooled_ap", "0.90"), True),
    ("Kaggle mAP", ("kaggle_map",), True),
    ("F1 at 0.70", ("f1_70",), True),
    ("count error", ("count_error",), False),
    ("merges", ("merges",), False),
    ("splits", ("splits",), False),
    ("pixel IoU", ("pixels", "iou"), True),
    ("calibration error", ("confidence", "ece"), False),
)


def write_comparison(path: Path, comparison: Comparison) -> None:
    """Write the report of a comparison.

    Args:
        path: the HTML file; its directory must be there.
        comparison: what it is about.

    Raises:
        OSError: the report cannot be written; a former one is then as it was.
    """
    sheets = (resources.files(f"hcs_nuclei.{room}") / "report.css" for room in ("outputs", "training"))
    css = "".join(sheet.read_text(encoding="utf-8") for sheet in sheets)
    judged = [one for one in comparison.sets if one.kind != "empty"]
    changed = [image for image in comparison.images if abs(image.change) > 5e-4]
    page = render_page(
        "training",
        "comparison.html",
        css=css,
        comparison=comparison,
        sets=[
            (one, sha256, _rows(one), _chart(one))
            for one, sha256 in zip(comparison.sets, comparison.data_sha256, strict=True)
            if one in judged
        ],
        worse=[image for image in changed if image.change < 0][:LISTED],
        better=[image for image in reversed(changed) if image.change > 0][:LISTED],
        differences=[
            one
            for one in card_differences(comparison.current, comparison.candidate)
            if one.section in {"thresholds", "data and settings"} and not _is_long(one)
        ],
    )
    replace_file(path, page.encode())


def _is_long(one: Difference) -> bool:
    """Vectors and hashes, which nobody compares by eye."""
    return one.name.endswith("sha256") or isinstance(one.first, list) or isinstance(one.second, list)


def _rows(one: ComparedSet) -> list[tuple[str, str, str, str, str]]:
    """Words, both values, the change, and whether that is better, worse or neither."""
    rows = []
    for words, keys, more_is_better in _FIGURES:
        before, now = (_value(figures, keys) for figures in (one.current, one.candidate))
        if before is None or now is None:
            continue
        change = now - before
        judged = "" if abs(change) < 5e-4 else "better" if (change > 0) is more_is_better else "worse"
        whole = isinstance(before, int)
        form, signed = ("{:,}", "{:+,}") if whole else ("{:.3f}", "{:+.3f}")
        rows.append((words, form.format(before), form.format(now), signed.format(change), judged))
    return rows


def _value(figures: Mapping[str, Any], keys: tuple[str, ...]) -> Any:
    value: Any = figures
    for key in keys:
        value = value[key]
    return value


def _chart(one: ComparedSet) -> str:
    lines = [
        Line(role, [(float(t), value) for t, value in figures["pooled_ap"].items()])
        for role, figures in (("current", one.current), ("candidate", one.candidate))
    ]
    return line_chart(
        lines, title=f"Pooled AP by IoU threshold, {one.name}", x_label="least IoU of a match", y_range=(0, 1)
    )
