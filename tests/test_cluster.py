"""Clusters of real processes on loopback: what comes back, what a dying worker costs, what is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cluster_samples as samples
import dask
import distributed
import psutil
import pytest

from hcs_nuclei.cluster import (
    Client,
    call,
    describe,
    emit_event,
    open_cluster,
    opening,
    run_shards,
    shards,
    should_stop,
)
from hcs_nuclei.cluster.local import visible_gpus
from hcs_nuclei.errors import ClusterError, ModelError

TESTS = Path(__file__).parent


class Ends:
    """What a run said of its shards."""

    def __init__(self) -> None:
        self.results: dict[str, Any] = {}
        self.lost: dict[str, str] = {}

    def on_result(self, shard: Any, result: Any) -> None:
        self.results[str(shard)] = result

    def on_lost(self, shard: Any, reason: str) -> None:
        self.lost[str(shard)] = reason


def run(client: Client, function: Callable[[Any], Any], work: Any, **options: Any) -> Ends:
    ends = Ends()
    run_shards(client, function, work, on_result=ends.on_result, on_lost=ends.on_lost, **options)
    return ends


def wait_until(condition: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def alive(child: psutil.Process) -> bool:
    return child.is_running() and child.status() != psutil.STATUS_ZOMBIE  # an orphan's, where process 1 reaps nobody


@contextmanager
def process(*arguments: str, path: str = "", **options: Any) -> Iterator[subprocess.Popen[str]]:
    environ = dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, [path, str(TESTS), str(TESTS.parent)])))
    started = subprocess.Popen([sys.executable, *arguments], text=True, env=environ, **options)
    try:
        yield started
    finally:
        started.terminate()
        try:
            started.wait(10)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


@contextmanager
def scheduler(folder: Path, *options: str) -> Iterator[Path]:
    """A scheduler process on loopback; the path of its scheduler file."""
    file = folder / "scheduler.json"
    with process(
        *("-m", "dask", "scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(file)),
        *("--dashboard-address", "127.0.0.1:0", *options),
        stderr=subprocess.DEVNULL,
    ):
        wait_until(lambda: file.exists() and file.read_text().endswith("}"))
        yield file


@contextmanager
def worker(file: Path, *options: str, path: str = "") -> Iterator[None]:
    address = json.loads(file.read_text())["address"]
    with process(
        *("-m", "dask", "worker", address, "--nthreads", "1", "--no-dashboard", "--host", "127.0.0.1", *options),
        *("--local-directory", str(file.parent)),
        path=path,
        cwd=file.parent,  # `python -m` finds what lies there before everything else
        stderr=subprocess.DEVNULL,
    ):
        yield


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker process that has just been started is waited for, however busy the machine is."""
    monkeypatch.setattr(opening, "_FIRST_WORKER_S", 300.0)


@pytest.fixture(scope="module")
def local() -> Iterator[Client]:
    with open_cluster("local", workers=2) as client:
        yield client


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The scheduler file of a scheduler and a worker that this process did not start as its own cluster."""
    with scheduler(tmp_path_factory.mktemp("elsewhere")) as file, worker(file):
        yield file


def test_every_shard_comes_back_and_no_more_than_the_window_is_under_way(local: Client) -> None:
    given: list[int] = []
    under_way: list[int] = []
    ends = Ends()

    def numbers() -> Iterator[int]:
        for number in range(30):
            given.append(number)
            under_way.append(len(given) - len(ends.results))
            yield number

    run_shards(local, samples.square, numbers(), on_result=ends.on_result, on_lost=ends.on_lost, window=2)
    assert ends.results == {str(number): number * number for number in range(30)}
    assert not ends.lost
    assert max(under_way) == 2 * 2


def test_no_shards_are_no_work(local: Client) -> None:
    assert run(local, samples.square, []).results == {}


def test_workers_share_the_cores_and_leave_no_trace_in_our_environment() -> None:
    before, others = dict(os.environ), set(psutil.Process().children(recursive=True))
    with open_cluster("local", workers=1) as client:
        assert dict(os.environ) == before
        cores = len(os.sched_getaffinity(0))
        assert call(client, samples.environment, "TF_NUM_INTRAOP_THREADS") == str(cores)
        assert call(client, samples.environment, "OMP_NUM_THREADS") == "1"
        facts = describe(client)
        children = set(psutil.Process().children(recursive=True)) - others
        scratch = call(client, scratch_folder)
    assert dict(os.environ) == before
    assert (facts["workers"], facts["threads"], facts["gpus"], facts["tensorflow_threads"]) == (1, 1, 0, [cores])
    assert not scratch.exists()
    wait_until(lambda: not [child for child in children if alive(child)], 10)


def scratch_folder() -> Path:
    return Path(distributed.get_worker().local_directory)


def test_nothing_listens_beyond_this_machine(local: Client) -> None:
    ours = psutil.Process()
    listening = {
        connection.laddr.ip
        for each in [ours, *ours.children(recursive=True)]
        for connection in each.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}


def test_other_users_of_this_machine_cannot_connect(local: Client) -> None:
    address = local.scheduler.address.replace("tls://", "tcp://")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(opening, "_CONNECT_S", 0.5)
        with pytest.raises(ClusterError, match="No Dask scheduler answers"), open_cluster(address):
            pass


def test_an_item_that_kills_its_worker_is_lost_alone(local: Client) -> None:
    work = [[1, 2], [3, 13], [4, 5], [6, 7], [8, 9]]
    ends = run(local, samples.total, work, split=lambda shard: [[number] for number in shard])
    assert list(ends.lost) == ["[13]"]
    assert "worker process died" in ends.lost["[13]"]
    assert sum(ends.results.values()) == sum(range(1, 10))


def test_an_item_that_raises_twice_is_lost_with_its_message(local: Client) -> None:
    ends = run(local, samples.total, [[1, 99, 2]], split=lambda shard: [[number] for number in shard])
    assert ends.lost == {"[99]": "KeyError: 'ninety-nine'"}
    assert ends.results == {"[1]": 1, "[2]": 2}


def test_a_shard_that_raises_once_is_tried_again(local: Client, tmp_path: Path) -> None:
    ends = run(local, samples.write_once, [tmp_path])
    assert ends.results == {str(tmp_path): "written"}
    assert not ends.lost


def test_a_users_mistake_ends_the_run_with_its_own_error(local: Client) -> None:
    with pytest.raises(ModelError, match="not what its card says"):
        run(local, samples.refuse, range(10))


def test_events_arrive_in_our_thread_before_the_result_of_their_shard(local: Client) -> None:
    said: list[object] = []
    threads = set()

    def hear(event: dict[str, Any]) -> None:
        said.append(event)
        threads.add(threading.get_ident())

    run_shards(
        local,
        samples.tell_and_square,
        [5],
        on_result=lambda shard, result: said.append(result),
        on_lost=lambda shard, reason: None,
        on_event=hear,
    )
    assert said == [{"number": 5}, {"from a thread": 5}, 25]
    assert threads == {threading.get_ident()}


def test_outside_of_a_shard_nobody_is_told_and_nothing_stops() -> None:
    emit_event({"number": 1})
    assert not should_stop()


def test_shards_under_way_stop_when_the_run_ends_early(local: Client, tmp_path: Path) -> None:
    def interrupt(event: dict[str, Any]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(local, samples.until_stopped, [tmp_path] * 4, on_event=interrupt)
    # Within the two seconds that a user waits after Ctrl-C, with room for a busy machine.
    wait_until(lambda: list(tmp_path.glob("stopped-*")), 15)
    wait_until(lambda: len(list(tmp_path.glob("stopped-*"))) == len(list(tmp_path.glob("started-*"))), 15)
    assert run(local, samples.square, [3]).results == {"3": 9}


def test_a_dead_worker_comes_back_however_long_that_takes() -> None:
    # 15 s by Dask's default, which a busy machine exceeds; what a user set must not count either.
    impatient = dask.config.set({"distributed.deploy.lost-worker-timeout": "0.01s"})
    with impatient, open_cluster("local", workers=1) as client:
        with pytest.raises(ClusterError, match="worker process died"):
            call(client, samples.total, [13])
        assert call(client, samples.total, [1, 2]) == 3


def test_a_result_that_goes_away_with_its_worker_is_made_again() -> None:
    results: dict[int, int] = {}
    with open_cluster(workers=1) as client:

        def kill(shard: int, result: int) -> None:
            if not results:
                wait_until(lambda: "memory" in _states(client))  # the other one is done, and not yet fetched
                for pid in client.run(os.getpid).values():
                    psutil.Process(pid).kill()
                wait_until(lambda: "memory" not in _states(client))  # the scheduler has heard of it, and said so
            results[shard] = result

        run_shards(client, samples.square, range(2), on_result=kill, on_lost=pytest.fail)
    assert results == {0: 0, 1: 1}


def _states(client: Client) -> list[str]:
    """Of the shards under way, in the scheduler's words."""
    return list(client.sync(client.scheduler.get_task_status, keys=list(client.futures)).values())


def test_a_call_that_kills_its_worker_says_so(local: Client) -> None:
    with pytest.raises(ClusterError, match="total was lost: its worker process died"):
        call(local, samples.total, [13])


def test_a_call_returns_or_raises_what_its_function_does(local: Client) -> None:
    assert call(local, samples.total, [1, 2]) == 3
    with pytest.raises(KeyError, match="ninety-nine"):
        call(local, samples.total, [99])


def test_each_gpu_has_one_worker_that_sees_it_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    with open_cluster("local-gpu") as client:
        assert describe(client)["gpus"] == 2
        ends = run(client, samples.environment, ["CUDA_VISIBLE_DEVICES"])
    assert ends.results["CUDA_VISIBLE_DEVICES"] in {"3", "5"}


LISTED = """GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-2c5d)
  MIG 3g.20gb     Device  0: (UUID: MIG-a1)
  MIG 3g.20gb     Device  1: (UUID: MIG-b2)
GPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-77ab)
"""
LISTINGS = {
    "two, one of them in parts": (f"cat <<'END'\n{LISTED}END", ["MIG-a1", "MIG-b2", "1"]),
    "a driver without a device": ("echo 'No devices were found'; exit 6", []),
    "a tool without a driver": ("echo 'NVIDIA-SMI has failed' >&2; exit 9", []),
}


@pytest.mark.parametrize(("script", "found"), LISTINGS.values(), ids=LISTINGS.keys())
def test_gpus_are_those_that_the_driver_lists(
    script: str, found: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nvidia-smi").write_text(f'#!/bin/bash\n[ "$*" = -L ] || exit 2\n{script}\n')
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible_gpus() == found
    if not found:
        with pytest.raises(ClusterError, match="no GPU is visible"), open_cluster("gpu:local"):
            pass


def test_worker_stays_on_the_cores_next_to_its_gpu_where_dask_cuda_is_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    utils = pytest.importorskip("dask_cuda.utils", reason="needs dask-cuda")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    core = min(os.sched_getaffinity(0))
    monkeypatch.setattr(utils, "get_cpu_affinity", lambda gpu: [core])  # of the driver, which is not here
    with open_cluster("local-gpu") as client:
        assert set(map(tuple, client.run(os.sched_getaffinity, 0).values())) == {(core,)}
        assert set(client.run(samples.environment, "CUDA_VISIBLE_DEVICES").values()) == {"0", "1"}


def program(spec: str, workers: int | None, work: str) -> list[str]:
    code = f"from pathlib import Path; import cluster_samples as s; s.run_in({spec!r}, {workers!r}, {work})"
    return ["-c", code]


def test_a_clean_run_says_nothing_of_its_own() -> None:
    with process(*program("local", 1, "list(range(5))"), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as started:
        out, err = started.communicate(timeout=120)
    assert (out, err, started.returncode) == ("done\n", "", 0)


def test_ctrl_c_at_a_terminal_stops_quietly_and_soon(tmp_path: Path) -> None:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "start_new_session": True}
    with process(*program("local", 2, f"[Path({str(tmp_path)!r})] * 6"), **pipes) as started:
        assert started.stdout is not None
        assert started.stdout.readline() == "running\n"
        children = psutil.Process(started.pid).children(recursive=True)
        began = time.monotonic()
        os.killpg(started.pid, signal.SIGINT)  # a terminal signals the whole group, workers too
        out, err = started.communicate(timeout=120)
        took = time.monotonic() - began
    assert out.splitlines()[-1] == "interrupted"
    assert err == ""
    assert took < 20  # a shard that does not ask runs for a minute; 1 to 3 s where nothing else runs
    assert list(tmp_path.glob("stopped-*"))
    wait_until(lambda: not [child for child in children if alive(child)], 10)


def test_a_running_cluster_is_used_by_its_file_and_its_address(elsewhere: Path) -> None:
    address = json.loads(elsewhere.read_text())["address"]
    for spec in (f"file:{elsewhere}", str(elsewhere), address):
        with open_cluster(spec) as client:
            assert run(client, samples.square, range(4)).results == {str(n): n * n for n in range(4)}
            facts = describe(client)
    assert facts["workers"] == 1
    assert "127.0.0.1" not in json.dumps(facts)
    with pytest.raises(ClusterError, match="brings its own"), open_cluster(address, workers=2):
        pass


def test_shards_stop_when_their_client_is_killed(elsewhere: Path, tmp_path: Path) -> None:
    with process(*program(str(elsewhere), None, f"[Path({str(tmp_path)!r})]"), stdout=subprocess.PIPE) as started:
        assert started.stdout is not None
        assert started.stdout.readline() == "running\n"
        started.kill()
        started.communicate()
    wait_until(lambda: list(tmp_path.glob("stopped-*")), 15)


def test_a_scheduler_without_workers_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "_FIRST_WORKER_S", 0.5)
    monkeypatch.setattr(shards, "_PATIENCE_S", 1.0)
    with scheduler(tmp_path) as file:
        with (
            pytest.raises(ClusterError, match=r"no worker that takes work.*dask worker tcp://"),
            open_cluster(str(file)),
        ):
            pass
        monkeypatch.setattr(opening, "_FIRST_WORKER_S", 60)
        gone = pytest.raises(ClusterError, match="No worker has taken work")
        with worker(file, "--no-nanny"), open_cluster(str(file)) as client, gone:
            run(client, samples.total, [[1], [13]])


def test_a_cluster_behind_certificates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = distributed.Security.temporary()
    for name, content in {"ca": made.tls_ca_file, "cert": made.tls_client_cert, "key": made.tls_client_key}.items():
        (tmp_path / f"{name}.pem").write_text(content)
    ca, cert, key = (str(tmp_path / f"{name}.pem") for name in ("ca", "cert", "key"))
    tls = ("--protocol", "tls", "--tls-ca-file", ca, "--tls-cert", cert, "--tls-key", key)
    with scheduler(tmp_path, *tls) as file, worker(file, *tls):
        with pytest.raises(ClusterError, match="TLS__CA_FILE"), open_cluster(str(file)):
            pass
        where = "distributed.comm.tls."
        certificates = dask.config.set({where + "ca-file": ca, where + "client.cert": cert, where + "client.key": key})
        with certificates, open_cluster(str(file)) as client:
            assert call(client, samples.square, 4) == 16


REFUSED = {
    "no such form": ("cloud", "No such cluster: 'cloud'"),
    "no port": ("tcp://127.0.0.1", "No such cluster"),
    "a port in words": ("tcp://127.0.0.1:many", "No such cluster"),
    "plain tcp by address": ("tcp://10.1.2.3:8786", "neither encrypted nor on this machine.*ALLOW_PLAIN_TCP=1"),
    "plain tcp by name": ("tcp://scheduler:8786", "neither encrypted nor on this machine"),
    "no scheduler file": ("file:/nowhere/scheduler.json", "cannot be read: No such file"),
    "nobody there": ("tcp://127.0.0.1:9", "No Dask scheduler answers"),
    "tls without certificates": ("tls://127.0.0.1:9", "CA_FILE"),
}


@pytest.mark.parametrize(("spec", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_a_cluster_that_cannot_be_used_is_refused(spec: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "_CONNECT_S", 0.5)
    with pytest.raises(ClusterError, match=message), open_cluster(spec):
        pass


def test_a_file_that_no_scheduler_wrote_is_refused(tmp_path: Path) -> None:
    for content in ("", "[1, 2]", '{"id": 3}', "not json"):
        (tmp_path / "file.json").write_text(content)
        with pytest.raises(ClusterError, match="is no scheduler file"), open_cluster(str(tmp_path / "file.json")):
            pass


def test_plain_tcp_elsewhere_is_tried_where_it_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "_CONNECT_S", 0.5)
    monkeypatch.setenv("HCS_NUCLEI_ALLOW_PLAIN_TCP", "1")
    with pytest.raises(ClusterError, match="No Dask scheduler answers"), open_cluster("tcp://192.0.2.1:8786"):
        pass


def test_no_gpu_and_no_worker_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    with pytest.raises(ClusterError, match="no GPU is visible"), open_cluster("local-gpu"):
        pass
    with pytest.raises(ClusterError, match="expected 1 or more"), open_cluster("local", workers=0):
        pass
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with pytest.raises(ClusterError, match="a GPU serves one"), open_cluster("local", workers=2):
        pass
