"""Worker processes on this machine: started, kept to loopback and to its cores, stopped without a trace."""

from __future__ import annotations

import importlib
import logging
import multiprocessing.resource_tracker
import os
import re
import shutil
import signal
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

import dask
from dask.system import CPU_COUNT
from distributed import Client, Nanny, Scheduler, Security, SpecCluster
from distributed.system import MEMORY_LIMIT

from hcs_nuclei.errors import ClusterError

#: What a worker with the network loaded should have.
_WORKER_BYTES = 2_500_000_000


@contextmanager
def own_cluster(gpus: Sequence[str], workers: int | None, *, gpu_required: bool) -> Iterator[Client]:
    """Processes on this machine behind loopback and certificates that only they hold."""
    if gpu_required and not gpus:
        raise ClusterError("local-gpu was asked for, but no GPU is visible here (nvidia-smi -L). Use local.")
    if gpus and workers is not None and workers > len(gpus):
        raise ClusterError(
            f"{workers} workers were asked for, but a GPU serves one and {len(gpus)} are visible. Ask for fewer, or "
            "set CUDA_VISIBLE_DEVICES=-1 to work without."
        )
    room = max(1, min(CPU_COUNT, int(memory_limit() * 0.9 / _WORKER_BYTES)))
    count = workers or len(gpus) or room
    with ExitStack() as stack:
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="hcs-nuclei-", ignore_cleanup_errors=True))
        # Dask gives a worker up that is down 15 s after a death; one that loads TensorFlow and dies twice is.
        stack.enter_context(dask.config.set({"distributed.deploy.lost-worker-timeout": "365 days"}))
        restore = _environ_keeper()
        stack.callback(restore)
        try:
            with dask.config.set(_worker_config(max(1, CPU_COUNT // count))), _sigint_blocked():
                cluster = stack.enter_context(_start(count, gpus, scratch))
                client = stack.enter_context(Client(cluster, timeout=60, set_as_default=False))
        except (OSError, RuntimeError) as error:
            raise ClusterError(
                f"The worker processes could not be started ({error}). In a script of your own, the call belongs under "
                '`if __name__ == "__main__":`, since each worker imports that script.'
            ) from error
        restore()
        yield client


def memory_limit(system: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int:
    """Bytes that this process may have, it and its children: of the machine, its container, its job or its unit.

    Dask looks at the machine and at the outermost control group alone, which is a container's; the limit of a SLURM job
    or of a systemd unit is that of a group further in.
    """
    limits = [MEMORY_LIMIT]
    with suppress(OSError):
        for line in own.read_text().splitlines():
            number, controllers, group = line.split(":", 2)
            base, file = (system, "memory.max") if number == "0" else (system / "memory", "memory.limit_in_bytes")
            if number != "0" and "memory" not in controllers.split(","):
                continue
            inner = PurePosixPath(group.lstrip("/"))
            for place in (inner, *inner.parents):
                with suppress(OSError, ValueError):  # ValueError: "max"
                    limits.append(int((base / place / file).read_text()))
    return min(limits)


def _start(count: int, gpus: Sequence[str], scratch: str) -> SpecCluster:
    # Loopback keeps other hosts out, certificates the other users of this one: a scheduler runs what it is sent.
    common = {"host": "127.0.0.1", "protocol": "tls://", "security": Security.temporary()}
    worker = {
        **common,
        "nthreads": 1,
        "memory_limit": int(memory_limit() * 0.9 / count),
        "local_directory": scratch,
        "silence_logs": logging.CRITICAL,
        "dashboard": False,
        "dashboard_address": "127.0.0.1:0",
    }
    pinned = [
        {"env": {"CUDA_VISIBLE_DEVICES": gpu}, "resources": {"GPU": 1}, **_near_cores(gpu)} for gpu in gpus[:count]
    ]
    return SpecCluster(
        # No failures allowed: whatever waited on a dying worker comes back at once and is tried in smaller company.
        scheduler={
            "cls": Scheduler,
            "options": {**common, "dashboard": True, "dashboard_address": "127.0.0.1:0", "allowed_failures": 0},
        },
        workers={
            index: {"cls": Nanny, "options": {**worker, **(pinned[index] if pinned else {})}} for index in range(count)
        },
        security=common["security"],
        silence_logs=logging.CRITICAL,
    )


def _near_cores(gpu: str) -> dict[str, Any]:
    """Options that keep a worker on the cores next to its GPU, as dask-cuda does; none where that is not installed.

    Nothing else of dask-cuda is used: its workers see every GPU, their own first, and TensorFlow takes all it sees.
    """
    try:
        plugins, utils = (importlib.import_module(f"dask_cuda.{name}") for name in ("plugins", "utils"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # where the driver does not tell: every core
            return {"plugins": [plugins.CPUAffinity(utils.get_cpu_affinity(utils.nvml_device_index(0, gpu)))]}
    except Exception:  # of the driver's libraries; a GPU works without its nearest cores
        return {}


def _worker_config(threads: int) -> dict[str, Any]:
    environ = {
        "TF_NUM_INTRAOP_THREADS": threads,  # OMP_NUM_THREADS, 1 by Dask's own default, does not reach TensorFlow
        "TF_NUM_INTEROP_THREADS": 1,
        "TF_CPP_MIN_LOG_LEVEL": 2,
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
        # Dask has freed memory given back at once. A network frees and takes the same tens of MB with every tile, and
        # each time the kernel would have to clear the pages anew.
        "MALLOC_TRIM_THRESHOLD_": 2**30,
        "MALLOC_MMAP_THRESHOLD_": 2**30,
    }
    name = "distributed.nanny.pre-spawn-environ"
    return {
        name: {**dask.config.get(name), **environ},
        "distributed.worker.multiprocessing-method": "spawn",
        # Results are small, so nothing can be spilled, and a paused worker whose memory does not shrink waits for ever.
        "distributed.worker.memory.target": False,
        "distributed.worker.memory.spill": False,
        "distributed.worker.memory.pause": False,
    }


def _environ_keeper() -> Callable[[], None]:
    """A function that undoes what starting workers did to this process's environment, now and after a restart."""
    before = dict(os.environ)
    touched: set[str] = set()

    def restore() -> None:
        if not touched:
            touched.update(name for name, value in os.environ.items() if before.get(name) != value)
        for name in touched:
            if name in before:
                os.environ[name] = before[name]
            else:
                os.environ.pop(name, None)

    return restore


@contextmanager
def _sigint_blocked() -> Iterator[None]:
    """Ctrl-C at a terminal reaches the whole process group; workers that inherit this leave it to us to stop them."""
    # Started now, since starting it later unblocks the signal in the very thread that spawns the first worker.
    multiprocessing.resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def visible_gpus() -> list[str]:
    """What CUDA_VISIBLE_DEVICES may name here, one entry to a GPU; asked of the driver: TensorFlow would take one.

    A GPU that is divided (MIG) is as many as it has parts.
    """
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        # SLURM says NoDevFiles where a job has none.
        return [name for name in (part.strip() for part in chosen.split(",")) if re.match(r"\d+$|GPU-|MIG-", name)]
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    try:
        listed = subprocess.run([tool, "-L"], capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):  # a driver without a device
        return []
    found: list[list[str]] = []
    for line in listed.splitlines():
        if line.startswith("GPU "):
            found.append([])
        elif found and (part := re.search(r"\bUUID: (MIG-[^)\s]+)", line)):
            found[-1].append(part[1])
    return [name for index, parts in enumerate(found) for name in parts or [str(index)]]
