"""What a cluster's workers are: how many take work, with which resources, memory and versions."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import warnings
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from distributed import Client
from distributed.versions import VersionMismatchWarning

from hcs_nuclei.errors import ClusterError

#: Whose versions change results, or the pickles between client and workers.
_PACKAGES = (
    "hcs-nuclei", "dask", "distributed", "cloudpickle", "numpy", "scipy", "scikit-image", "tensorflow", "keras",
    "pandas", "pyarrow", "zarr", "tifffile", "imagecodecs",
)  # fmt: skip


def connect(scheduler: Any, seconds: float) -> Client:
    """A client of a scheduler's address or of a cluster, without Dask's word on versions: each worker is asked ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VersionMismatchWarning)
        return Client(scheduler, timeout=seconds, set_as_default=False)


def known_workers(client: Client) -> dict[str, dict[str, Any]]:
    """All workers that the scheduler knows, by address, whatever their state.

    Raises:
        ClusterError: the connection to the scheduler was lost.
    """
    try:
        return dict(client.scheduler_info(n_workers=-1)["workers"])
    except (OSError, TimeoutError, RuntimeError) as error:
        raise ClusterError(
            f"The connection to the Dask scheduler was lost ({error}). Run again once it is back."
        ) from None


def takes_work(worker: Mapping[str, Any], resources: Mapping[str, float] | None = None) -> bool:
    """Whether a worker, as `known_workers` has it, takes work now and has `resources`."""
    has = worker["resources"]
    return worker["status"] == "running" and all(has.get(name, 0) >= n for name, n in (resources or {}).items())


def facts() -> dict[str, Any]:
    """What this process is, so far as results depend on it."""
    versions = {"python": ".".join(platform.python_version_tuple()[:2])}
    for name in _PACKAGES:
        for wheel in (name, f"{name}-cpu"):
            with suppress(importlib.metadata.PackageNotFoundError):
                versions.setdefault(name, importlib.metadata.version(wheel))
    return {"versions": versions, "tensorflow_threads": int(os.environ.get("TF_NUM_INTRAOP_THREADS", "0"))}


def describe(client: Client) -> dict[str, Any]:
    """What the cluster is, for a run's provenance; no host names, addresses or paths.

    Returns:
        workers, gpus, threads (of all workers) and memory_bytes (of all workers) as integers; tensorflow_threads, the
        different numbers of intra-op threads to a worker (0: TensorFlow's own choice); versions, one text to a package.
    """
    workers = [worker for worker in known_workers(client).values() if takes_work(worker)]
    found = client.run(facts, on_error="ignore").values()
    return {
        "workers": len(workers),
        "gpus": int(sum(worker["resources"].get("GPU", 0) for worker in workers)),
        "threads": sum(worker["nthreads"] for worker in workers),
        "memory_bytes": sum(worker["memory_limit"] or 0 for worker in workers),
        "tensorflow_threads": sorted({fact["tensorflow_threads"] for fact in found}),
        "versions": facts()["versions"],
    }
