"""The files of ``deploy/``: what can be checked of them without an engine, a batch system or Kubernetes."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

DEPLOY = Path(__file__).resolve().parents[1] / "deploy"
ROOT = DEPLOY.parent
COMPOSE = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("script", [*DEPLOY.rglob("*.sh"), *DEPLOY.rglob("*.sbatch")], ids=lambda path: path.name)
def test_scripts_are_bash(script: Path) -> None:
    subprocess.run(["bash", "-n", str(script)], check=True)


def test_variables_of_compose_are_in_its_example() -> None:
    text = (DEPLOY / "compose" / "compose.yaml").read_text(encoding="utf-8")
    required = set(re.findall(r"\$\{(\w+):\?\}", text))
    example = (DEPLOY / "compose" / ".env.example").read_text(encoding="utf-8")
    assert required == set(re.findall(r"^(\w+)=", example, flags=re.MULTILINE))


def test_compose_publishes_two_pages_and_on_loopback() -> None:
    published = {name: service["ports"] for name, service in COMPOSE["services"].items() if "ports" in service}
    assert published == {"prefect": ["127.0.0.1:4200:4200"], "scheduler": ["127.0.0.1:8787:8787"]}
    assert "PREFECT_SERVER_API_AUTH_STRING" in COMPOSE["services"]["prefect"]["environment"]


def test_compose_names_settings_that_prefect_and_ours_read() -> None:
    from prefect.settings import Settings
    from pydantic import BaseModel

    from flows.roots import ALLOWED_ROOTS

    def names(model: type[BaseModel], above: str) -> Iterator[str]:
        for name, field in model.model_fields.items():
            kind = field.annotation
            inner = isinstance(kind, type) and issubclass(kind, BaseModel)
            yield from names(kind, f"{above}_{name}") if inner else [f"{above}_{name}".upper()]

    known = set(names(Settings, "prefect"))
    for name, service in COMPOSE["services"].items():
        given = {variable for variable in service.get("environment", ()) if variable.startswith("PREFECT_")}
        assert given <= known, name
    assert ALLOWED_ROOTS in COMPOSE["services"]["prefect-worker"]["environment"]


def test_compose_is_understood_by_its_own_program(tmp_path: Path) -> None:
    program = shutil.which("docker-compose")
    if program is None:
        pytest.skip("needs docker-compose (Debian's package docker-compose; no engine)")
    example = (DEPLOY / "compose" / ".env.example").read_text(encoding="utf-8")
    (tmp_path / "env").write_text(re.sub(r"(?m)=$", "=given", example))
    command = [program, "--env-file", str(tmp_path / "env"), "-f", str(DEPLOY / "compose" / "compose.yaml"), "config"]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (said.returncode, said.stderr) == (0, "")
    services = yaml.safe_load(said.stdout)["services"]
    assert set(services) == set(COMPOSE["services"])
    files = [volume.partition(":")[0] for volume in services["deploy"]["volumes"]]
    assert [Path(file).name for file in files] == ["prefect.yaml", "work-pool.json"]
    assert all(Path(file).is_file() for file in files)


def test_every_service_and_volume_that_compose_names_exists() -> None:
    for service in COMPOSE["services"].values():
        assert set(service.get("depends_on", ())) <= set(COMPOSE["services"])
        named = {volume.partition(":")[0] for volume in service.get("volumes", ()) if volume[0] not in "./$"}
        assert named <= set(COMPOSE["volumes"])


@pytest.mark.parametrize("dockerfile", sorted(DEPLOY.rglob("*.Dockerfile")), ids=lambda path: path.name)
def test_images_are_locked_and_have_no_root(dockerfile: Path) -> None:
    text = dockerfile.read_text(encoding="utf-8")
    assert "--no-deps -r requirements.lock" in text
    assert re.search(r"^USER [1-9]\d*$", text, flags=re.MULTILINE)
    copied = [name for line in re.findall(r"^COPY (.+)$", text, flags=re.MULTILINE) for name in line.split()[:-1]]
    assert copied
    assert not [name for name in copied if not (ROOT / name).exists()]


@pytest.mark.parametrize("unit", sorted(DEPLOY.rglob("*.service")), ids=lambda path: path.name)
def test_units_are_understood(unit: Path, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze")
    # What it starts is installed elsewhere.
    text = re.sub(r"(?m)^ExecStart=\S+", "ExecStart=/bin/true", unit.read_text(encoding="utf-8"))
    (tmp_path / unit.name).write_text(text)
    said = subprocess.run(
        ["systemd-analyze", "verify", str(tmp_path / unit.name)], capture_output=True, text=True, check=False
    )
    assert (said.returncode, said.stderr) == (0, "")


def test_dask_settings_demand_encryption() -> None:
    comm = yaml.safe_load((DEPLOY / "dask" / "distributed.yaml").read_text(encoding="utf-8"))["distributed"]["comm"]
    assert comm["require-encryption"] is True
    assert set(comm["tls"]) == {"ca-file", "scheduler", "worker", "client"}


def test_slurm_file_gives_a_job_script() -> None:
    jobqueue = pytest.importorskip("dask_jobqueue.slurm")
    options = yaml.safe_load((DEPLOY / "slurm" / "gpu.yaml").read_text(encoding="utf-8"))
    del options["workers"]
    job = jobqueue.SLURMJob("tls://x:1", name="w", job_cpu=options.pop("cpus"), cores=1, processes=1, **options)
    assert "#SBATCH --gres=gpu:1" in job.job_script()
    assert "--resources GPU=1" in job.job_script()
