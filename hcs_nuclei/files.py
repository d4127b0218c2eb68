"""Bytes or a directory in, a file that is whole or absent out: the only way in which results reach their place.

What is being written carries :data:`TEMPORARY` and lies beside its final place, so that the last step is a rename
within one file system. An interruption leaves such a name behind, never half a result; :func:`sweep` removes it.
"""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path

#: How every temporary name begins; the dot keeps table and Zarr readers from seeing it.
TEMPORARY = ".tmp-"


def temporary_path(path: Path) -> Path:
    """A new name beside `path` for what will be renamed to it; unique, so that a task run twice meets no other."""
    return path.with_name(f"{TEMPORARY}{path.name}-{uuid.uuid4().hex[:12]}")


def write_synced(path: Path, content: bytes) -> None:
    """Write a new file and wait until it is on the disk, so that a later rename cannot overtake its content."""
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def replace_file(path: Path, content: bytes) -> bool:
    """Make `path` hold `content`, whole or not at all; a file that holds it already is not touched.

    Returns:
        Whether the file was written.

    Raises:
        OSError: the directory is not there or not writable, or the disk is full; `path` is then as before.
    """
    if path.is_file() and path.stat().st_size == len(content) and path.read_bytes() == content:
        return False
    temporary = temporary_path(path)
    try:
        write_synced(temporary, content)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return True


def sweep(*directories: Path) -> None:
    """Remove what a killed run left in these directories (not below them): files and directories.

    Only for a time when nobody writes there; a directory that is not there has nothing to sweep.
    """
    for directory in directories:
        if not directory.is_dir():
            continue
        for leftover in directory.glob(f"{TEMPORARY}*"):
            if leftover.is_dir() and not leftover.is_symlink():
                shutil.rmtree(leftover)
            else:
                leftover.unlink(missing_ok=True)
