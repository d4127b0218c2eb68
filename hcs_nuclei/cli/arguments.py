"""What several commands share: where JSON goes, and paths that must be there."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from hcs_nuclei.errors import OutputError

JsonOption = Annotated[
    str | None,
    typer.Option("--json", metavar="FILE|-", help="Write the answer as JSON to a file, or to stdout with -."),
]
ReasonOption = Annotated[str, typer.Option(help="Why; stands in the audit log.")]
ClusterOption = Annotated[
    str,
    typer.Option(
        metavar="SPEC",
        envvar="HCS_NUCLEI_CLUSTER",
        help="local, local-gpu, tls://..., tcp://..., file:, slurm:, kubernetes:FILE; gpu: before any wants a GPU.",
    ),
]
ReportOption = Annotated[Path | None, typer.Option("--report", metavar="FILE", help="Write a report as one HTML file.")]


def check_json(target: str | None) -> None:
    """Refuse a place that :func:`write_json` could not write to, before the work whose answer it is.

    Raises:
        OutputError: `target` is a directory, or lies in none that can be written to.
    """
    if target is None or target == "-":
        return
    path = Path(target)
    if path.is_dir() or not path.parent.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise OutputError(f"The JSON file {target} cannot be written. Choose a file in a directory that is there.")


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
