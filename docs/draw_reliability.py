"""Draws the reliability diagram of the model page from what ``hcs-nuclei evaluate --json`` wrote.

::

    hcs-nuclei evaluate --data stage1_train.zip --split test --modality fluorescence --json test.json
    python docs/draw_reliability.py test.json
"""

from __future__ import annotations

import json
import re
import sys
from importlib import resources
from pathlib import Path

from hcs_nuclei.training.report_charts import reliability_diagram

TARGET = Path(__file__).resolve().parent / "explanation" / "images" / "reliability.svg"
#: The report's colours, which a page that only shows the picture does not have.
COLOURS = {"var(--quiet)": "#566171", "var(--ink)": "#1a2230"}


def main() -> None:
    """Write the picture."""
    figures = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    sheet = (resources.files("hcs_nuclei.training") / "report.css").read_text(encoding="utf-8")
    rules = [line for line in sheet.splitlines() if line.startswith((".chart ", ".bin ", ".ideal "))]
    style = "\n".join(rules)
    for name, colour in COLOURS.items():
        style = style.replace(name, colour)
    svg = reliability_diagram(figures["confidence"]).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    svg = re.sub(r">", f"><style>text {{ font-family: sans-serif; }}\n{style}</style>", svg, count=1)
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(svg + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
