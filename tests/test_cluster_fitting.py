"""Which workers are given work: real ones that claim other versions, see other disks, come late, leave, or hang."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import cluster_samples as samples
import psutil
import pytest
from test_cluster import process, scheduler, unhurried, wait_until, worker

from hcs_nuclei.cluster import Client, check_workers, describe, fitting, open_cluster, run_shards
from hcs_nuclei.errors import ClusterError
from hcs_nuclei.pipeline import Progress, prepare_plate, process_plate
from hcs_nuclei.pipeline.access import shared_access
from hcs_nuclei.settings import Settings
from hcs_nuclei.simulate import simulate_plate

__all__ = ["unhurried"]
pytestmark = pytest.mark.timeout(900)


@contextmanager
def elsewhere(file: Path, mounts: str, *options: str) -> Iterator[None]:
    """A worker with mounts of its own, as on a node of a cluster where a share is not there, or otherwise."""
    namespace = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    if subprocess.run([*namespace, "true"], capture_output=True).returncode:
        pytest.skip("nobody may have mounts of their own here")
    address = json.loads(file.read_text())["address"]
    join = ["-m", "dask", "worker", address, "--nthreads", "1", "--no-dashboard", "--host", "127.0.0.1", "--no-nanny"]
    command = [*join, "--local-directory", str(file.parent), *options]
    code = "import os, subprocess, sys; subprocess.run(sys.argv[1], shell=True, check=True)"
    code += "; os.execv(sys.executable, [sys.executable, *sys.argv[2:]])"
    script = [*namespace, sys.executable, "-c", code, mounts, *command]
    with process("-c", "import os, sys; os.execvp(sys.argv[1], sys.argv[1:])", *script, stderr=subprocess.DEVNULL):
        yield


def claiming(folder: Path, version: str = "0.0.1") -> str:
    """A path for a worker on which numpy claims that version."""
    (folder / "numpy-0.dist-info").mkdir(parents=True)
    (folder / "numpy-0.dist-info" / "METADATA").write_text(f"Metadata-Version: 2.1\nName: numpy\nVersion: {version}\n")
    return str(folder)


def joined(file: Path, number: int) -> None:
    with Client(scheduler_file=str(file), set_as_default=False) as client:
        client.wait_for_workers(number, timeout=300)


def workers_of(client: Client) -> dict[str, Any]:
    return {str(known["name"]): known for known in client.scheduler_info(n_workers=-1)["workers"].values()}


@pytest.mark.slow
def test_workers_that_do_not_reach_the_plate_or_the_output_are_left_out_and_named(tmp_path: Path) -> None:
    plate = simulate_plate(tmp_path / "plates", wells=3, fields=1, size=128).directory
    out = tmp_path / "runs"
    out.mkdir()
    mounts = {
        "no-plate": f"mount -t tmpfs none {plate.parent}",
        "no-output": f"mount -t tmpfs none {out}",
        "read-only": f"mount --bind {out} {out} && mount -o remount,bind,ro {out}",
    }
    with scheduler(tmp_path) as file, ExitStack() as stack:
        for name, command in mounts.items():
            stack.enter_context(elsewhere(file, command, "--name", name))
        joined(file, 3)
        with pytest.raises(ClusterError) as refused:
            process_plate(plate, out, cluster=str(file))
        assert not list(out.iterdir()), "a run that is refused leaves nothing"
        lines = str(refused.value).splitlines()
        assert lines[0] == "No worker of this cluster can do this work:"
        assert f"cannot read {plate} of the plate (No such file or directory)" in str(refused.value)
        assert f"does not see what is written here in {out}: that is no shared disk" in str(refused.value)
        assert f"cannot write in {out} (Read-only file system)" in str(refused.value)
        assert "under the paths that they have here" in lines[-1]

        # One that fits does all of the work.
        stack.enter_context(worker(file, "--name", "good", "--no-nanny"))
        joined(file, 4)
        told: list[Progress] = []
        result = process_plate(plate, out, cluster=str(file), on_progress=told.append)
    assert (result.exit_status, result.made) == (0, 3)
    assert not list(out.glob(".*")), "words left beside the runs"
    assert not list(result.run_dir.glob(".*"))
    remarks = [progress.remark for progress in told if progress.remark]
    assert sorted(remark.split()[1] for remark in remarks) == sorted(mounts)
    assert all("gets no work" in remark for remark in remarks)


def test_workers_that_join_late_are_asked_before_they_get_work_and_one_that_is_retired_loses_nothing(
    tmp_path: Path,
) -> None:
    results: dict[int, tuple[int, str]] = {}
    told: list[str] = []
    gone: list[int] = []

    with scheduler(tmp_path) as file, ExitStack() as stack:
        stack.enter_context(worker(file, "--name", "first", "--no-nanny"))
        with open_cluster(str(file)) as client:

            def more() -> Iterator[int]:
                """Shards until all has happened, and some for those who are left."""
                number = 0
                while not gone:
                    yield (number := number + 1)
                yield from range(number + 1, number + 11)

            def watch(shard: int, result: tuple[int, str]) -> None:
                results[shard] = result
                if len(results) == 1:
                    stack.enter_context(worker(file, "--name", "late", "--no-nanny"))
                    other = claiming(tmp_path / "other")
                    stack.enter_context(worker(file, "--name", "other", "--no-nanny", path=other))
                elif told and len({pid for pid, _ in results.values()}) == 2 and not gone:
                    gone.append(results[1][0])
                    client.retire_workers(names=["first"])

            run_shards(
                client, samples.process_and_version, more(), on_result=watch, on_lost=pytest.fail, on_unfit=told.append
            )
            left = set(workers_of(client))
    assert left == {"late", "other"}
    [line] = told
    assert line.startswith("Worker other (tcp://")
    assert "gets no work: numpy is 0.0.1 on a worker" in line
    assert "0.0.1" not in {version for _, version in results.values()}
    assert sorted(results) == list(range(1, len(results) + 1))
    last = [results[number][0] for number in sorted(results)[-8:]]
    assert gone[0] not in last, "the one that was retired went on"


def test_shard_stops_where_its_worker_is_retired_and_is_done_by_another(tmp_path: Path) -> None:
    started: list[str] = []
    with (
        scheduler(tmp_path) as file,
        worker(file, "--name", "first", "--no-nanny"),
        open_cluster(str(file)) as client,
        ExitStack() as stack,
    ):

        def hear(_: dict[str, Any]) -> None:
            started.extend(path.name for path in tmp_path.glob("started-*"))
            if len(set(started)) == 2:
                raise KeyboardInterrupt
            stack.enter_context(worker(file, "--name", "second", "--no-nanny"))
            client.wait_for_workers(2, timeout=300)
            client.retire_workers(names=["first"])

        with pytest.raises(KeyboardInterrupt):
            run_shards(
                client,
                samples.until_stopped,
                [tmp_path],
                on_result=lambda *_: None,
                on_lost=pytest.fail,
                on_event=hear,
            )
        wait_until(lambda: len(list(tmp_path.glob("stopped-*"))) == 2)


def test_shard_whose_workers_are_all_gone_goes_to_the_one_that_comes(tmp_path: Path) -> None:
    results: dict[int, tuple[int, str]] = {}
    with scheduler(tmp_path) as file, ExitStack() as stack:
        first = stack.enter_context(ExitStack())
        first.enter_context(worker(file, "--no-nanny"))
        with open_cluster(str(file)) as client:

            def replace(shard: int, result: tuple[int, str]) -> None:
                results[shard] = result
                if len(results) == 1:
                    psutil.Process(result[0]).kill()  # a worker of this test: nothing is told to the scheduler
                    first.close()
                    wait_until(lambda: not workers_of(client))
                    stack.enter_context(worker(file, "--no-nanny"))

            run_shards(client, samples.process_and_version, range(4), on_result=replace, on_lost=pytest.fail)
    assert sorted(results) == [0, 1, 2, 3]
    assert len({pid for pid, _ in results.values()}) == 2


def test_shards_that_wait_behind_other_work_go_to_a_worker_that_comes(tmp_path: Path) -> None:
    results: list[int] = []
    over = tmp_path / "over"
    with scheduler(tmp_path) as file, ExitStack() as stack:
        stack.enter_context(worker(file, "--no-nanny"))
        other, client = (stack.enter_context(open_cluster(str(file))) for _ in range(2))
        nothing: dict[str, Any] = {"on_result": lambda *_: None, "on_lost": pytest.fail}
        long = Thread(target=run_shards, args=(other, samples.until_there, [over]), kwargs=nothing)
        long.start()
        stack.callback(long.join)
        stack.callback(over.touch)

        def shards() -> Iterator[int]:
            wait_until(lambda: any(client.processing().values()))
            yield 1
            stack.enter_context(worker(file, "--no-nanny"))
            client.wait_for_workers(2, timeout=300)
            yield 2

        run_shards(
            client, samples.square, shards(), on_result=lambda _, found: results.append(found), on_lost=pytest.fail
        )
        assert long.is_alive()
    assert sorted(results) == [1, 4]


def test_gpu_that_is_asked_for_has_to_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hcs_nuclei.cluster.opening._FIRST_WORKER_S", 1.0)
    with scheduler(tmp_path) as file, worker(file, "--no-nanny"):
        joined(file, 1)
        with (
            pytest.raises(ClusterError, match=r'none of the 1 workers .* has one.*--resources "GPU=1"'),
            open_cluster(f"gpu:{file}"),
        ):
            pass
        with worker(file, "--no-nanny", "--name", "gpu", "--resources", "GPU=1"):
            joined(file, 2)
            results: dict[int, int] = {}
            with open_cluster(f"gpu:{file}") as client:
                assert describe(client)["gpus"] == 1
                run_shards(client, samples.process_number, range(6), on_result=results.__setitem__, on_lost=pytest.fail)
    assert len(set(results.values())) == 1


LACKING = {
    "another version": (lambda folder: claiming(folder), r"numpy is 0\.0\.1 on a worker and \d"),
    "another package": (lambda folder: _other_package(folder), r"cannot use this package \(.*an old one"),
}


def _other_package(folder: Path) -> str:
    (folder / "hcs_nuclei").mkdir(parents=True)
    (folder / "hcs_nuclei" / "__init__.py").write_text("raise ImportError('an old one')\n")
    return str(folder)


@pytest.mark.parametrize(("make", "message"), LACKING.values(), ids=LACKING.keys())
def test_cluster_of_workers_with_other_packages_is_refused(
    make: Callable[[Path], str], message: str, tmp_path: Path
) -> None:
    with (
        scheduler(tmp_path) as file,
        worker(file, "--no-nanny", path=make(tmp_path / "packages")),
        pytest.raises(ClusterError, match=message) as refused,
        open_cluster(str(file)),
    ):
        pass
    assert "requirements.lock" in str(refused.value)


def test_share_that_hangs_is_said_and_the_worker_left_alone(
    worker: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A FIFO stands for a file on a share whose server is gone: opening it waits for ever."""
    plate = simulate_plate(tmp_path / "plates", wells=1, fields=1, size=64).directory
    plan, _ = prepare_plate(plate, tmp_path / "out", Settings())
    with shared_access(plan) as access:
        check_workers(worker, access)
        word = access.word.path
        word.unlink()
        os.mkfifo(word)
        with pytest.raises(ClusterError, match="a share hangs"):
            check_workers(worker, _Impatient(access))
        with word.open("w") as end:  # lets the thread on the worker go
            end.write("\n")


class _Impatient:
    """Needs that are given a second, on the worker."""

    def __init__(self, needs: fitting.Needs) -> None:
        self._needs = needs

    def __call__(self) -> list[str]:
        return list(self._needs())

    def __setstate__(self, state: dict[str, Any]) -> None:
        fitting._ANSWER_S = 1.0
        self.__dict__.update(state)
