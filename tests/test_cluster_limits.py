"""How much memory a process may have: of the machine, its container, its job or its unit."""

from __future__ import annotations

from pathlib import Path

import pytest
from distributed.system import MEMORY_LIMIT

from hcs_nuclei.cluster.local import memory_limit, visible_gpus


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("0::/system.slice/hcs.service\n", {"system.slice/hcs.service/memory.max": "1000000000\n"}, 1_000_000_000),
        ("0::/slurm/job_7/step_0\n", {"slurm/job_7/memory.max": "2000", "slurm/job_7/step_0/memory.max": "max"}, 2000),
        ("9:cpu,cpuacct:/x\n4:memory:/slurm/job_7\n", {"memory/slurm/job_7/memory.limit_in_bytes": "3000"}, 3000),
        ("0::/\n", {}, MEMORY_LIMIT),
        ("0::/elsewhere\n", {"memory.max": "max"}, MEMORY_LIMIT),
    ],
    ids=["systemd", "a job above its step", "version 1", "a container", "none"],
)
def test_the_least_of_all_limits_holds(own: str, files: dict[str, str], expected: int, tmp_path: Path) -> None:
    (tmp_path / "own").write_text(own)
    for file, text in files.items():
        (tmp_path / "system" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "system" / file).write_text(text)
    assert memory_limit(tmp_path / "system", tmp_path / "own") == expected


def test_here_it_is_no_more_than_the_machine_has() -> None:
    assert 0 < memory_limit() <= MEMORY_LIMIT


def test_a_job_without_a_gpu_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "NoDevFiles")
    assert visible_gpus() == []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0, GPU-1234,MIG-5")
    assert visible_gpus() == ["0", "GPU-1234", "MIG-5"]
