"""A cluster's name, as it is written after ``--cluster``, in; the address of its scheduler, checked, out."""

from __future__ import annotations

import ipaddress
import json
import os
from pathlib import Path
from urllib.parse import urlsplit

from hcs_nuclei.errors import ClusterError

ALLOW_PLAIN_TCP = "HCS_NUCLEI_ALLOW_PLAIN_TCP"
#: Before any cluster's name: refused where no worker has a GPU.
GPU = "gpu:"
FORMS = """
  local                  worker processes on this machine (one to each GPU where there are any)
  local-gpu              the same, refused where there is no GPU
  tls://HOST:PORT        a running Dask scheduler, encrypted
  tcp://127.0.0.1:PORT   a running Dask scheduler on this machine
  file:PATH              the scheduler's JSON file, as `dask scheduler --scheduler-file PATH` writes it
  slurm:FILE             workers as SLURM jobs, as that YAML file describes them
  kubernetes:FILE        the DaskCluster of that manifest, made for the run
  gpu:ANY-OF-THESE       the same, refused where no worker has a GPU"""


def scheduler_address(spec: str) -> str:
    """The scheduler's address that `spec` gives, checked."""
    if spec.startswith("file:") or Path(spec).is_file():
        path = Path(spec.removeprefix("file:"))
        try:
            found = json.loads(path.read_text(encoding="utf-8"))["address"]
        except OSError as error:
            raise ClusterError(
                f"The scheduler file {path} cannot be read: {error.strerror}. Is the scheduler running, with "
                f"--scheduler-file {path}?"
            ) from None
        except (ValueError, KeyError, TypeError):
            raise ClusterError(
                f'{path} is no scheduler file: expected JSON with an "address", as `dask scheduler '
                "--scheduler-file` writes it."
            ) from None
        address = str(found)
    else:
        address = spec
    try:
        parts = urlsplit(address)
        whole = parts.scheme in {"tcp", "tls"} and bool(parts.hostname) and parts.port is not None
    except ValueError:  # a port that is no number
        whole = False
    if not whole:
        raise ClusterError(f"No such cluster: {spec!r}. Expected one of{FORMS}")
    if parts.scheme == "tcp" and not _is_loopback(str(parts.hostname)) and os.environ.get(ALLOW_PLAIN_TCP) != "1":
        raise ClusterError(
            f"{address} is neither encrypted nor on this machine: whoever reaches that port can run programs as its "
            "user. Start scheduler and workers with TLS and use tls://, or set "
            f"{ALLOW_PLAIN_TCP}=1 where the network itself is closed to others."
        )
    return address


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def file_of(spec: str) -> str | None:
    """The path of the file that a cluster's name points to; None where it points to none."""
    spec = spec.removeprefix(GPU)
    kind, _, name = spec.partition(":")
    if kind in {"file", "slurm", "kubernetes"} and name:
        return name
    return spec if Path(spec).is_file() else None
