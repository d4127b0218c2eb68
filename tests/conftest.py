"""Shared fixtures: where the real sample data are, one cluster for all, finished runs to look at, a command to run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
from command_line import Run, Said
from pipeline_runs import FinishedRun, make_finished_run, make_treated_run

from hcs_nuclei.cli import main
from hcs_nuclei.simulate import simulate_field

# A busy machine is slow now and then, and that is no fault of the code.
hypothesis.settings.register_profile("unhurried", deadline=None)
hypothesis.settings.load_profile("unhurried")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real plates and annotated images that lies beside some checkouts; skips where it is absent."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real sample data are not beside this checkout (../shared/data)")
    return folder


@pytest.fixture(scope="session", autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test looks at the models, or writes into the audit log, of whoever runs them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HCS_NUCLEI_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(scope="session")
def worker() -> Iterator[Any]:
    """A client of a cluster of one worker process, shared by all: each start costs an import of TensorFlow."""
    from hcs_nuclei.cluster.opening import open_cluster  # also where `opened` has replaced the package's

    with open_cluster("local", workers=1) as client:
        yield client


@pytest.fixture
def opened(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Runs of this process go to `worker` instead of a cluster of their own; the list says how often one was opened."""
    asked: list[str] = []

    @contextmanager
    def open_shared(spec: str = "local", *, workers: int | None = None) -> Iterator[Any]:
        asked.append(spec)
        yield request.getfixturevalue("worker")

    monkeypatch.setattr("hcs_nuclei.cluster.open_cluster", open_shared)
    return asked


@pytest.fixture(scope="session")
def finished(worker: Any, tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """A plate of 4 wells with 2 fields and its finished run; only to be looked at."""
    return make_finished_run(worker, tmp_path_factory.mktemp("finished"))


@pytest.fixture(scope="session")
def treated(worker: Any, tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """A plate of 24 wells with treatments, gates and a column out of focus, and its run; only to be looked at."""
    return make_treated_run(worker, tmp_path_factory.mktemp("treated"))


@pytest.fixture
def plain_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No setting, model store or Prefect server of whoever runs the tests."""
    for name in [name for name in os.environ if name.startswith(("HCS_NUCLEI_", "PREFECT_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HCS_NUCLEI_HOME", str(tmp_path_factory.getbasetemp() / "no-models"))
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path_factory.getbasetemp() / "no-prefect"))


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in this process."""

    def call(*arguments: object) -> Said:
        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        return Said(status, *capsys.readouterr())

    return call


@pytest.fixture
def tiny_architectures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two architectures that are built and trained at once, one of them under the name that has an encoder."""
    from hcs_nuclei.segmentation import network as networks
    from hcs_nuclei.segmentation.mobilenet import mobilenetv2_unet

    monkeypatch.setitem(networks.ARCHITECTURES, "tiny", partial(networks.unet, filters=(4, 8), head_filters=4))
    monkeypatch.setitem(
        networks.ARCHITECTURES, "mobilenetv2-unet", partial(mobilenetv2_unet, filters=(8, 8, 8, 8), alpha=0.35)
    )


@pytest.fixture(scope="session")
def training_images() -> list[Any]:
    """Four simulated fields of 96 × 96 px as `AnnotatedImage`; only to be looked at."""
    from hcs_nuclei.training import AnnotatedImage

    fields = [simulate_field(np.random.default_rng(seed), size=96, nuclei=8, diameter_px=18) for seed in range(4)]
    return [
        AnnotatedImage(f"f{i}", field.images["DAPI"], field.labels.astype(np.int32), "train", "fluorescence")
        for i, field in enumerate(fields)
    ]
