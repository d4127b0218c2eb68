"""The commands: arguments in, exit status out."""

from __future__ import annotations

from hcs_nuclei.cli.app import main

__all__ = ["main"]
