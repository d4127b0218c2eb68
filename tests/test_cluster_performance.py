"""Dask's performance report of a run: one file that needs no network, written though the run fails."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any

import pytest
from cluster_samples import square

from hcs_nuclei.cluster import Client, performance_report, run_shards
from hcs_nuclei.errors import ClusterError, RunFailedError

pytestmark = pytest.mark.slow


def squares(client: Client) -> list[int]:
    results: list[int] = []
    run_shards(client, square, range(8), on_result=lambda _, result: results.append(result), on_lost=lambda *_: None)
    return sorted(results)


def test_a_report_shows_the_work_and_asks_no_other_machine(worker: Any, tmp_path: Path) -> None:
    path, told = tmp_path / "performance.html", list[str]()
    with performance_report(worker, path, told.append):
        assert squares(worker) == [n * n for n in range(8)]

    page = path.read_text(encoding="utf-8")
    assert "number of tasks: 8" in page
    assert "Task Stream" in page
    # Everything that is drawn with is in it.
    assert '<script src="http' not in page
    assert '<link href="http' not in page
    assert told == []
    assert [found.name for found in tmp_path.iterdir()] == [path.name]


def test_a_run_that_fails_has_its_report_too(worker: Any, tmp_path: Path) -> None:
    path = tmp_path / "performance.html"

    def fail() -> None:
        with performance_report(worker, path, print):
            squares(worker)
            raise RunFailedError("the disk is full")

    with pytest.raises(RunFailedError, match="disk"):
        fail()
    assert "number of tasks: 8" in path.read_text(encoding="utf-8")


def test_where_there_is_no_place_for_it_that_is_said_and_costs_nothing(worker: Any, tmp_path: Path) -> None:
    path, told = tmp_path / "never made" / "performance.html", list[str]()
    with performance_report(worker, path, told.append):
        assert squares(worker)[-1] == 49

    assert told == [f"There is no performance report {path}: there is no run directory."]
    assert list(tmp_path.iterdir()) == []


def test_it_is_refused_before_the_work_where_the_scheduler_has_no_bokeh(
    worker: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The scheduler of a local cluster lives in this process.
    version = importlib.metadata.version

    def without_bokeh(name: str) -> str:
        if name == "bokeh":
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(importlib.metadata, "version", without_bokeh)
    with (
        pytest.raises(ClusterError, match="the Dask scheduler has no bokeh to draw it with"),
        performance_report(worker, tmp_path / "performance.html", print),
    ):
        pytest.fail("the work was begun")
    assert list(tmp_path.iterdir()) == []
