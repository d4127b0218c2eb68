"""Where :mod:`hcs_nuclei.files` was."""

from hcs_nuclei.files import TEMPORARY, replace_file, sweep, temporary_path, write_synced

__all__ = ["TEMPORARY", "replace_file", "sweep", "temporary_path", "write_synced"]
