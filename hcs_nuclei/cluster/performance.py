"""A stretch of work on a cluster in, Dask's performance report of it out: one HTML file that needs no network."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import distributed
from distributed import Client

from hcs_nuclei.errors import ClusterError
from hcs_nuclei.files import temporary_path

#: How long the scheduler may take to draw it: it asks every worker for its profile.
_DRAW_S = 120.0


@contextmanager
def performance_report(client: Client, path: Path | None, warn: Callable[[str], object]) -> Iterator[None]:
    """Write a report of what happens within the context, however it ends; nothing where `path` is None.

    Args:
        warn: told why there is no report, where it cannot be made any more: it is never worth a run.

    Raises:
        ClusterError: the scheduler cannot draw one, for want of bokeh; nothing has been done yet.
    """
    if path is None:
        yield
        return
    _check_bokeh(client)
    with client.as_current():
        report = distributed.performance_report(str(temporary_path(path)), mode="inline")
        report.__enter__()
    try:
        yield
    finally:
        try:
            if not path.parent.is_dir():  # else it would be made, though nothing else came to be
                raise FileNotFoundError("there is no run directory")
            with client.as_current():
                client.sync(report.__aexit__, None, None, None, code=path.stem, callback_timeout=_DRAW_S)
            os.replace(report.filename, path)
        except Exception as error:  # a scheduler that is gone, a full disk
            warn(f"There is no performance report {path}: {str(error) or type(error).__name__}.")
        finally:
            Path(report.filename).unlink(missing_ok=True)


def _check_bokeh(client: Client) -> None:
    try:
        client.run_on_scheduler(partial(importlib.metadata.version, "bokeh"))
    except importlib.metadata.PackageNotFoundError:
        raise ClusterError(
            "A performance report was asked for, but the Dask scheduler has no bokeh to draw it with. Install bokeh "
            "there (it is in requirements.lock), or ask for no report."
        ) from None
