"""A model's card and an evaluation of it in, a report out: one HTML file that needs no other and asks for nothing.

The look is that of a run's report, whose style sheet it takes; it holds no script.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata, resources
from pathlib import Path
from typing import Any

from hcs_nuclei.errors import OutputError
from hcs_nuclei.files import replace_file
from hcs_nuclei.models.card import ModelCard
from hcs_nuclei.outputs.page import render_page
from hcs_nuclei.training.evaluation import Evaluation
from hcs_nuclei.training.matching import THRESHOLDS
from hcs_nuclei.training.report_architecture import draw, read_architecture
from hcs_nuclei.training.report_charts import Line, line_chart, reliability_diagram, training_curves
from hcs_nuclei.training.report_pictures import make_picture

REPORT_FILE = "report.html"
#: What figures depend on; the versions stand in every report.
_PACKAGES = ("hcs-nuclei", "keras", "tensorflow", "tensorflow-cpu", "numpy", "scipy", "scikit-image")


def check_report(path: Path) -> None:
    """Refuse a place that :func:`write_report` could not write to, before the work that it reports.

    Raises:
        OutputError: `path` is a directory, or lies in none that can be written to.
    """
    if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise OutputError(f"The report {path} cannot be written. Choose a file in a directory that is there.")


def write_report(
    path: Path,
    card: ModelCard,
    evaluation: Evaluation,
    *,
    network: Any,
    data: Mapping[str, str],
    seconds_per_field: float,
    history: Sequence[Mapping[str, float]] = (),
) -> None:
    """Write the report of a trained model, or of any model on any data set.

    Args:
        path: the HTML file; its directory must be there.
        card: of the model.
        evaluation: of the model on the images that the report is about.
        network: the Keras network, for its picture; weights do not matter.
        data: what the images are, in words by name.
        seconds_per_field: of 1080 × 1080 px, on this machine.
        history: the epochs, for the curves of a training; without any the report is one of an evaluation.

    Raises:
        OSError: the report cannot be written; a former one is then as it was.
    """
    figures = evaluation.figures
    architecture = read_architecture(network)
    page = _render(
        card=card,
        trained=bool(history),
        figures=figures,
        sets={"all": figures, **figures["modalities"]} if "modalities" in figures else {},
        thresholds=[f"{t:.2f}" for t in THRESHOLDS],
        ap_chart=_ap_chart(figures),
        reliability=reliability_diagram(figures["confidence"]),
        curves=training_curves(history),
        best=[make_picture(shown) for shown in evaluation.best],
        worst=[make_picture(shown) for shown in evaluation.worst],
        images=evaluation.images,
        architecture=architecture,
        drawing=draw(architecture),
        seconds=seconds_per_field,
        data=data,
        facts=_facts(card.training),
        machine=f"{platform.machine()}, {_threads()}",
        versions={"python": platform.python_version(), **{name: metadata.version(name) for name in _installed()}},
    )
    replace_file(path, page.encode())


def _ap_chart(figures: Mapping[str, Any]) -> str:
    lines = [
        Line(name, [(float(t), value) for t, value in figures[key].items()])
        for name, key in (("pooled AP", "pooled_ap"), ("per-image AP", "per_image_ap"), ("F1", "f1"))
    ]
    return line_chart(lines, title="Accuracy by IoU threshold", x_label="least IoU of a match", y_range=(0, 1))


def _facts(training: Mapping[str, Any]) -> list[tuple[str, str, bool]]:
    """What the card says of the training, in its order: (name, words, whether they are a block of several lines)."""
    facts = []
    for key, value in training.items():
        name = key.replace("_", " ")
        name = name[:1].upper() + name[1:]
        if isinstance(value, Mapping):
            facts.append((name, "\n".join(f"{k}: {_words(v)}" for k, v in value.items()), True))
        else:
            facts.append((name, _words(value), False))
    return facts


def _words(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return json.dumps(value)


def _installed() -> list[str]:
    there = {distribution.name.lower() for distribution in metadata.distributions()}
    return [name for name in _PACKAGES if name in there]


def _threads() -> str:
    count = len(os.sched_getaffinity(0))
    return f"{count} core{'s' if count != 1 else ''}"


def _render(**values: Any) -> str:
    sheets = (resources.files(f"hcs_nuclei.{room}") / "report.css" for room in ("outputs", "training"))
    css = "".join(sheet.read_text(encoding="utf-8") for sheet in sheets)
    return render_page("training", "report.html", css=css, **values)
