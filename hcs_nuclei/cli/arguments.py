"""What several commands share: where JSON goes, and paths that must be there."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from hcs_nuclei.errors import OutputError

JsonOption = Annotated[
    str | None,
    typer.Option("--json", metavar="FILE|-", help="Write the answer as JSON to a file, or to stdout with -."),
]


def write_json(target: str, content: Any) -> None:
    """`content` as JSON to a file, or to stdout where `target` is ``-``.

    Raises:
        OutputError: the file cannot be written.
    """
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    if target == "-":
        sys.stdout.write(text)
        return
    try:
        Path(target).write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"The JSON file {target} cannot be written: {error.strerror}.") from None
