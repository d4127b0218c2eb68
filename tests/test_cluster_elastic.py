"""Clusters that are made for a run: a SLURM of two shell scripts that start real workers, and what is refused."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cluster_samples as samples
import pytest
import yaml
from distributed import LocalCluster
from test_cluster_fitting import claiming

from hcs_nuclei.cluster import open_cluster, run_shards
from hcs_nuclei.cluster.elastic import elastic_cluster
from hcs_nuclei.errors import ClusterError

SBATCH = """#!/bin/bash
cp "$1" "{folder}/job.$$"  # as SLURM does: who asked removes the script at once
setsid bash "{folder}/job.$$" > "{folder}/log" 2>&1 &
echo "$!" >> "{folder}/jobs"
echo "Submitted batch job $!"
"""
# Only what sbatch started here is ever ended.
SCANCEL = """#!/bin/bash
if grep -qx "$1" "{folder}/jobs"; then kill -TERM -- "-$1" 2> /dev/null; fi
echo "$1" >> "{folder}/cancelled"
"""


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with `sbatch` and `scancel`, which start and end the job's script here; `jobs` lists its process ids."""
    pytest.importorskip("dask_jobqueue", reason="needs hcs-nuclei[slurm]")
    for name, script in {"sbatch": SBATCH, "scancel": SCANCEL}.items():
        (tmp_path / name).write_text(script.format(folder=tmp_path))
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    tests = Path(__file__).parent
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tests), str(tests.parent)]))
    return tmp_path


def cluster_file(folder: Path, **options: Any) -> str:
    described = {
        "workers": 1,
        "memory": "1GB",
        "walltime": "01:00:00",
        "worker_extra_args": ["--host", "127.0.0.1", "--no-dashboard"],
        "scheduler_options": {"host": "127.0.0.1"},
        "local_directory": str(folder),
        **options,
    }
    (folder / "slurm.yaml").write_text(yaml.safe_dump(described))
    return f"slurm:{folder / 'slurm.yaml'}"


def lines(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


def test_jobs_of_slurm_work_and_are_cancelled(slurm: Path) -> None:
    results: dict[int, int] = {}
    with open_cluster(cluster_file(slurm, cpus=2)) as client:
        assert client.scheduler.address.startswith("tls://127.0.0.1:")
        run_shards(client, samples.square, range(6), on_result=results.__setitem__, on_lost=pytest.fail)
        [threads] = client.run(samples.environment, "TF_NUM_INTRAOP_THREADS").values()
    assert results == {number: number * number for number in range(6)}
    assert threads == "2"
    assert lines(slurm / "jobs") == lines(slurm / "cancelled")
    assert not list(slurm.glob(".hcs-nuclei-*")), "certificates were left behind"


def test_a_job_that_ends_is_asked_for_again_and_its_shards_are_done(slurm: Path) -> None:
    results: dict[int, int] = {}

    def preempt(shard: int, result: int) -> None:
        results[shard] = result
        if len(results) == 2:
            job = int(lines(slurm / "jobs")[0])
            assert os.getpgid(job) == job
            os.killpg(job, signal.SIGKILL)

    with open_cluster(cluster_file(slurm)) as client:
        run_shards(client, samples.slow_square, range(8), on_result=preempt, on_lost=pytest.fail)
    assert results == {number: number * number for number in range(8)}
    assert len(lines(slurm / "jobs")) > 1


def test_every_job_that_comes_is_given_work(slurm: Path) -> None:
    with open_cluster(cluster_file(slurm, workers=2)) as client:
        seen: set[int] = set()
        end = time.monotonic() + 60

        def shards() -> Iterator[int]:
            while len(seen) < 2 and time.monotonic() < end:
                yield 0

        run_shards(
            client, samples.process_number, shards(), on_result=lambda _, pid: seen.add(pid), on_lost=pytest.fail
        )
    assert len(seen) == 2


def test_the_next_job_is_waited_for_where_the_first_does_not_fit(slurm: Path) -> None:
    other = claiming(slurm / "other")
    script = (slurm / "sbatch").read_text()
    # The first node has another environment, and the second comes a little later.
    node = f'if mkdir "{slurm}/node"; then export PYTHONPATH="{other}:$PYTHONPATH"; else sleep 5; fi 2> /dev/null'
    (slurm / "sbatch").write_text(script.replace("#!/bin/bash\n", f"#!/bin/bash\n{node}\n"))
    seen: dict[int, tuple[int, str]] = {}
    told: list[str] = []
    with open_cluster(cluster_file(slurm, workers=2)) as client:
        run_shards(
            client,
            samples.process_and_version,
            range(4),
            on_result=seen.__setitem__,
            on_lost=pytest.fail,
            on_unfit=told.append,
        )
    assert len(lines(slurm / "jobs")) >= 2
    assert len({pid for pid, _ in seen.values()}) == 1
    assert "0.0.1" not in {version for _, version in seen.values()}


def test_a_queue_that_gives_nothing_is_told(slurm: Path) -> None:
    (slurm / "sbatch").write_text("#!/bin/bash\necho 'Submitted batch job 999999999'\n")
    spec = cluster_file(slurm, wait_minutes=0.02)
    with pytest.raises(ClusterError, match="raise wait_minutes"), open_cluster(spec):
        pass


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # dask's, of the half-made cluster
def test_options_that_slurm_does_not_know_are_refused(slurm: Path) -> None:
    with (
        pytest.raises(ClusterError, match=r"slurm\.yaml describes .*quota"),
        open_cluster(cluster_file(slurm, quota=1)),
    ):
        pass


MANIFEST = {"kind": "DaskCluster", "metadata": {"name": "hcs"}, "spec": {"worker": {"replicas": 8}}}


@pytest.mark.parametrize(
    ("described", "workers"),
    [
        (MANIFEST, 8),
        ({**MANIFEST, "workers": 3}, 3),
        ({**MANIFEST, "spec": {"worker": {}}}, 1),
        ({"kind": "DaskCluster"}, 1),
    ],
    ids=["its replicas", "ours before them", "no replicas", "nothing at all"],
)
def test_a_manifest_has_as_many_workers_as_it_says(
    described: dict[str, Any], workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    made: list[dict[str, Any]] = []

    class KubeCluster(LocalCluster):
        """A scheduler of this process in the place of Kubernetes'; a worker is only asked for."""

        def __init__(self, custom_cluster_spec: dict[str, Any], **_: Any) -> None:
            made.append(custom_cluster_spec)
            super().__init__(n_workers=0, host="127.0.0.1", dashboard_address=None, processes=False, protocol="tcp://")

        def scale(self, n: int) -> None:
            asked.append(n)

    package = SimpleNamespace(KubeCluster=KubeCluster)
    monkeypatch.setitem(sys.modules, "dask_kubernetes.operator", package)  # type: ignore[arg-type]
    (tmp_path / "cluster.yaml").write_text(yaml.safe_dump(described))
    with elastic_cluster(f"kubernetes:{tmp_path / 'cluster.yaml'}"):
        assert asked == [workers]
    # What is ours is not Kubernetes'.
    assert made == [{name: value for name, value in described.items() if name != "workers"}]


@pytest.mark.parametrize("replicas", [0, "many", None])
def test_replicas_that_are_no_number_are_refused(replicas: object, tmp_path: Path) -> None:
    (tmp_path / "cluster.yaml").write_text(yaml.safe_dump({**MANIFEST, "spec": {"worker": {"replicas": replicas}}}))
    with (
        pytest.raises(ClusterError, match=rf"spec\.worker\.replicas is {replicas!r}"),
        open_cluster(f"kubernetes:{tmp_path / 'cluster.yaml'}"),
    ):
        pass


WRONG = {
    "not there": (None, "cannot be read"),
    "not YAML": ("a: [", "is not YAML"),
    "a list": ("[1, 2]", "holds list"),
    "no workers": ("workers: 0", "workers is 0"),
    "words for workers": ("workers: many", "workers is 'many'"),
    "no time to wait": ("wait_minutes: 0", "wait_minutes is 0"),
}


@pytest.mark.parametrize("kind", ["slurm", "kubernetes"])
@pytest.mark.parametrize(("content", "message"), WRONG.values(), ids=WRONG.keys())
def test_a_file_that_describes_no_cluster_is_refused(
    content: str | None, message: str, kind: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / "cluster.yaml").write_text(content)
    with pytest.raises(ClusterError, match=message), open_cluster(f"{kind}:{tmp_path / 'cluster.yaml'}"):
        pass


@pytest.mark.parametrize(("kind", "package"), [("slurm", "dask_jobqueue"), ("kubernetes", "dask_kubernetes.operator")])
def test_a_missing_package_is_named_with_its_extra(
    kind: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    (tmp_path / "cluster.yaml").write_text(json.dumps({"workers": 1}))
    with (
        pytest.raises(ClusterError, match=rf"Install hcs-nuclei\[{kind}\]"),
        open_cluster(f"{kind}:{tmp_path / 'cluster.yaml'}"),
    ):
        pass
