"""A cluster of processes behind the certificates of ``deploy/tls``: a plate through it, and who stays outside."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
from pipeline_runs import results_of
from test_cluster import process, wait_until

from hcs_nuclei.cluster import open_cluster
from hcs_nuclei.errors import ClusterError

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "deploy" / "tls" / "make-certificates.sh"


class Topology(NamedTuple):
    """A scheduler and two workers as processes of their own."""

    address: str
    certificates: Path
    processes: list[subprocess.Popen[str]]


def tls_options(folder: Path, role: str) -> list[str]:
    return [
        *("--tls-ca-file", str(folder / "ca.pem")),
        *("--tls-cert", str(folder / f"{role}.pem"), "--tls-key", str(folder / f"{role}.key")),
    ]


def client_environ(folder: Path) -> dict[str, str]:
    where = "DASK_DISTRIBUTED__COMM__TLS__"
    return {
        f"{where}CA_FILE": str(folder / "ca.pem"),
        f"{where}CLIENT__CERT": str(folder / "client.pem"),
        f"{where}CLIENT__KEY": str(folder / "client.key"),
    }


@pytest.fixture(scope="module")
def topology(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Topology]:
    folder = tmp_path_factory.mktemp("tls")
    certificates = folder / "certificates"
    subprocess.run(["bash", str(SCRIPT), str(certificates)], check=True, capture_output=True)
    file = folder / "scheduler.json"
    with ExitStack() as stack:
        started = [
            stack.enter_context(
                process(
                    *("-m", "dask", "scheduler", "--protocol", "tls", "--host", "127.0.0.1", "--port", "0"),
                    *("--dashboard-address", "127.0.0.1:0", "--scheduler-file", str(file)),
                    *tls_options(certificates, "scheduler"),
                    stderr=subprocess.DEVNULL,
                )
            )
        ]
        wait_until(lambda: file.exists() and file.read_text().endswith("}"))
        address = json.loads(file.read_text())["address"]
        for _ in range(2):
            worker = process(
                *(
                    "-m",
                    "dask",
                    "worker",
                    address,
                    "--nthreads",
                    "1",
                    "--host",
                    "127.0.0.1",
                    "--dashboard-address",
                    "127.0.0.1:0",
                ),
                *("--local-directory", str(folder), *tls_options(certificates, "worker")),
                stderr=subprocess.DEVNULL,
            )
            started.append(stack.enter_context(worker))
        yield Topology(address, certificates, started)


def hcs_nuclei(*arguments: str, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(Path(sys.executable).with_name("hcs-nuclei")), *arguments],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=False,
    )


def test_keys_are_for_their_owner_alone_and_signed(topology: Topology) -> None:
    for path in topology.certificates.glob("*.key"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for role in ("scheduler", "worker", "client"):
        checked = ["openssl", "verify", "-CAfile", "ca.pem", f"{role}.pem"]
        subprocess.run(checked, cwd=topology.certificates, check=True, capture_output=True)


def test_a_second_call_makes_new_certificates_with_the_same_authority(tmp_path: Path) -> None:
    subprocess.run(["bash", str(SCRIPT), str(tmp_path)], check=True, capture_output=True)
    authority, client = ((tmp_path / name).read_bytes() for name in ("ca.pem", "client.pem"))
    subprocess.run(["bash", str(SCRIPT), str(tmp_path), "30"], check=True, capture_output=True)
    assert (tmp_path / "ca.pem").read_bytes() == authority
    assert (tmp_path / "client.pem").read_bytes() != client


def test_a_client_without_a_certificate_of_this_authority_stays_outside(
    topology: Topology, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hcs_nuclei.cluster.opening._CONNECT_S", 3.0)
    plain = topology.address.replace("tls://", "tcp://")
    for address in (topology.address, plain):
        with pytest.raises(ClusterError, match="No Dask scheduler answers"), open_cluster(address):
            pass
    subprocess.run(["bash", str(SCRIPT), str(tmp_path)], check=True, capture_output=True)
    code = f"from hcs_nuclei.cluster import open_cluster\nwith open_cluster({topology.address!r}): pass"
    for folder, status in ((tmp_path, 1), (topology.certificates, 0)):
        environ = {**os.environ, **client_environ(folder)}
        tried = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=False)
        assert tried.returncode == status, tried.stderr
        assert ("No Dask scheduler answers" in tried.stderr) == bool(status)


def test_only_loopback_is_listened_on(topology: Topology) -> None:
    def listening() -> set[tuple[str, int]]:
        family = [psutil.Process(each.pid) for each in topology.processes]
        return {
            (connection.laddr.ip, connection.laddr.port)
            for each in [*family, *(child for one in family for child in one.children(recursive=True))]
            for connection in each.net_connections(kind="inet")
            if connection.status == psutil.CONN_LISTEN
        }

    # The scheduler's own port and its page; for each worker its nanny's, its own and its metrics'.
    wait_until(lambda: len(listening()) >= 2 + 2 * 2)
    assert {host for host, _ in listening()} == {"127.0.0.1"}
    assert len(listening()) <= 2 + 2 * 3


@pytest.mark.slow
def test_a_plate_gives_the_same_bytes_here_and_there(topology: Topology, tmp_path: Path) -> None:
    from hcs_nuclei.simulate import simulate_plate

    plate = simulate_plate(tmp_path / "plates", wells=4, fields=2, size=192).directory
    threads = {"TF_NUM_INTRAOP_THREADS": "1", "PREFECT_API_URL": ""}
    runs = {}
    for name, cluster in {"local": "local", "tls": topology.address}.items():
        done = hcs_nuclei(
            *("process", str(plate), "--out", str(tmp_path / name), "--no-prefect", "--cluster", cluster),
            *(("--workers", "2") if name == "local" else ()),
            environ={**client_environ(topology.certificates), **threads},
        )
        assert done.returncode == 0, done.stderr
        runs[name] = results_of(Path(done.stdout.strip().splitlines()[-1]))
    assert runs["tls"] == runs["local"]
