"""hcs-nuclei as a process of its own, and how a command ended."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

PROGRAM = Path(sys.executable).with_name("hcs-nuclei")


@dataclass(frozen=True)
class Said:
    """How a command ended."""

    status: int
    out: str
    err: str


Run = Callable[..., Said]


def in_shell(*arguments: object, timeout: float = 280, **environ: str) -> Said:
    """Run a command as its own process, as a shell does."""
    command = [str(PROGRAM), *(str(argument) for argument in arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **environ}, timeout=timeout, check=False
    )
    return Said(done.returncode, done.stdout, done.stderr)
