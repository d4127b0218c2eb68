"""Workers asked of SLURM or of Kubernetes for one run, as many as are to be had, and given back at its end."""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import dask
import yaml
from distributed import Client, Security
from tornado.ioloop import PeriodicCallback

from hcs_nuclei.cluster.address import scheduler_address
from hcs_nuclei.cluster.workers import connect
from hcs_nuclei.errors import ClusterError

#: What stands before the path of a YAML file in a cluster's name, and the package (an extra of ours) that it needs.
_PACKAGES = {"slurm": "dask_jobqueue", "kubernetes": "dask_kubernetes.operator"}
#: How long a job may wait in a queue before its run gives up, in minutes.
_WAIT_MINUTES = 60.0
_AGAIN_S = 2.0
_CONNECT_S = 60.0


def is_elastic(spec: str) -> bool:
    """Whether `spec` is ``slurm:FILE`` or ``kubernetes:FILE``."""
    kind, _, name = spec.partition(":")
    return kind in _PACKAGES and bool(name)


@contextmanager
def elastic_cluster(spec: str) -> Iterator[tuple[Client, float]]:
    """A client of a cluster that `spec` describes, and for how many seconds its first worker may be waited for.

    Raises:
        ClusterError: the file is not what it should be, the package is not installed, or nobody answers.
    """
    kind, _, name = spec.partition(":")
    path = Path(name)
    options = _read(kind, path)
    wait_s = 60 * _number(options.pop("wait_minutes", _WAIT_MINUTES), "wait_minutes", path)
    workers = _workers(options, path)
    package = _package(kind)
    start = _slurm if kind == "slurm" else _kubernetes
    # A worker that went away with its node is asked for anew as soon as it is missed.
    with dask.config.set({"distributed.deploy.lost-worker-timeout": "1s"}), ExitStack() as stack:
        try:
            cluster = start(package, options, path, stack)
        except Exception as error:  # of any of three libraries
            raise ClusterError(
                f"No cluster could be made as {path} describes ({type(error).__name__}: {error}). Its options are "
                f"those of {'dask_jobqueue.SLURMCluster' if kind == 'slurm' else 'a DaskCluster manifest'}; see "
                "docs/how-to/scale-to-a-cluster.md."
            ) from error
        stack.enter_context(cluster)
        scheduler_address(cluster.scheduler_address)  # an open door is refused, whoever opened it
        # All at once: each begins as there is room for it. Dask's own adapting sees our small window of shards alone.
        cluster.scale(workers)
        yield stack.enter_context(connect(cluster, _CONNECT_S)), wait_s


@contextmanager
def _certificates(folder: Path | str) -> Iterator[Security]:
    """Certificates for one run, which its jobs find in `folder`; for this user alone, and removed at the end."""
    made = Security.temporary()
    with TemporaryDirectory(prefix=".hcs-nuclei-", dir=folder) as private:
        ca, certificate, key = (Path(private) / name for name in ("ca.pem", "cert.pem", "key.pem"))
        ca.write_text(made.tls_ca_file, encoding="ascii")
        certificate.write_text(made.tls_worker_cert, encoding="ascii")
        key.write_text(made.tls_worker_key, encoding="ascii")
        # One pair serves all three: distributed makes the same one for each.
        pairs = {
            f"tls_{role}_{what}": str(file)
            for role in ("scheduler", "worker", "client")
            for what, file in (("cert", certificate), ("key", key))
        }
        yield Security(tls_ca_file=str(ca), require_encryption=True, **pairs)


def _slurm(package: Any, options: dict[str, Any], path: Path, stack: ExitStack) -> Any:
    cpus = int(_number(options.pop("cpus", 1), "cpus", path))
    environ = {
        "TF_NUM_INTRAOP_THREADS": cpus,
        "TF_NUM_INTEROP_THREADS": 1,
        # As for workers of this machine: results are small, and a paused worker waits for ever.
        "DASK_DISTRIBUTED__WORKER__MEMORY__TARGET": False,
        "DASK_DISTRIBUTED__WORKER__MEMORY__SPILL": False,
        "DASK_DISTRIBUTED__WORKER__MEMORY__PAUSE": False,
    }
    prologue = [f"export {name}={value}" for name, value in environ.items()]
    given = {
        "python": sys.executable,
        # Beside the description of the cluster, which lies where nodes can read it.
        "security": stack.enter_context(_certificates(options.pop("shared_temp_directory", path.absolute().parent))),
        "silence_logs": logging.CRITICAL,
        **options,
        # One shard at a time in a process: it runs threads of its own.
        "cores": 1,
        "processes": 1,
        "job_cpu": cpus,
        "protocol": "tls://",
        "job_script_prologue": [*prologue, *options.get("job_script_prologue", [])],
        "scheduler_options": {"dashboard_address": "127.0.0.1:0", **options.get("scheduler_options", {})},
    }
    cluster = package.SLURMCluster(**given)
    # A job that ended stays in the cluster's plan, which is looked at only when it is scaled.
    again = PeriodicCallback(lambda: cluster.scale(len(cluster.worker_spec)), 1000 * _AGAIN_S)
    cluster.loop.add_callback(again.start)
    stack.callback(cluster.loop.add_callback, again.stop)
    return cluster


def _kubernetes(package: Any, options: dict[str, Any], path: Path, _: ExitStack) -> Any:
    if options.get("kind") != "DaskCluster":
        raise ValueError(f"expected `kind: DaskCluster`, found {options.get('kind')!r}")
    namespace = options.get("metadata", {}).get("namespace")
    return package.KubeCluster(custom_cluster_spec=options, namespace=namespace, quiet=True)


def _workers(options: dict[str, Any], path: Path) -> int:
    """How many are asked for: `workers`, else what a manifest of a DaskCluster says itself, else one."""
    if "workers" in options:
        return int(_number(options.pop("workers"), "workers", path))
    found: Any = options
    for name in ("spec", "worker", "replicas"):
        if not isinstance(found, dict) or name not in found:
            return 1
        found = found[name]
    return int(_number(found, "spec.worker.replicas", path))


def _package(kind: str) -> Any:
    try:
        return importlib.import_module(_PACKAGES[kind])
    except ImportError as error:
        raise ClusterError(
            f"{kind}: clusters need a package that is not installed here ({error}). Install hcs-nuclei[{kind}]."
        ) from None


def _read(kind: str, path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ClusterError(f"{path}, which {kind}: names, cannot be read: {error.strerror}.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ClusterError(f"{path} is not YAML: {error}") from None
    if not isinstance(content, dict):
        raise ClusterError(f"{path} holds {type(content).__name__}; expected names with values.")
    return content


def _number(value: object, name: str, path: Path) -> float:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not (whole or (name == "wait_minutes" and isinstance(value, float))) or value <= 0:  # type: ignore[operator]
        raise ClusterError(f"{path}: {name} is {value!r}; expected a number above 0.")
    return float(value)  # type: ignore[arg-type]
