"""The files of ``deploy/``: what can be checked of them without an engine, a batch system or Kubernetes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.roots import ALLOWED_ROOTS
from hcs_nuclei.errors import SettingsError
from hcs_nuclei.metrics import METRICS_FILE
from hcs_nuclei.settings.loading import load_settings

DEPLOY = Path(__file__).resolve().parents[1] / "deploy"
ROOT = DEPLOY.parent
COMPOSE = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("script", [*DEPLOY.rglob("*.sh"), *DEPLOY.rglob("*.sbatch")], ids=lambda path: path.name)
def test_scripts_are_bash(script: Path) -> None:
    subprocess.run(["bash", "-n", str(script)], check=True)


def test_job_tells_the_command_itself_before_its_time_is_over(tmp_path: Path) -> None:
    script = DEPLOY / "slurm" / "process.sbatch"
    # Without B: SLURM tells the steps of a job alone, and there is none.
    assert re.search(r"(?m)^#SBATCH --signal=B:INT@\d+$", script.read_text(encoding="utf-8"))
    command = tmp_path / "hcs-nuclei"
    command.write_text('#!/bin/sh\necho "$$ $*"\n')
    command.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    batch = [shutil.which("bash") or "bash", str(script), "a plate", "runs"]
    with subprocess.Popen(batch, env={**os.environ, "PATH": path}, stdout=subprocess.PIPE, text=True) as job:
        said = job.communicate(timeout=60)[0]
    assert said == f"{job.pid} process a plate --out runs --no-prefect\n"


def test_variables_of_compose_are_in_its_example() -> None:
    text = (DEPLOY / "compose" / "compose.yaml").read_text(encoding="utf-8")
    required = set(re.findall(r"\$\{(\w+):\?\}", text))
    example = (DEPLOY / "compose" / ".env.example").read_text(encoding="utf-8")
    assert required == set(re.findall(r"^(\w+)=", example, flags=re.MULTILINE))


def test_compose_publishes_two_pages_and_on_loopback() -> None:
    published = {name: service["ports"] for name, service in COMPOSE["services"].items() if "ports" in service}
    assert published == {"prefect": ["127.0.0.1:4200:4200"], "scheduler": ["127.0.0.1:8787:8787"]}
    assert "PREFECT_SERVER_API_AUTH_STRING" in COMPOSE["services"]["prefect"]["environment"]


@pytest.fixture(scope="module")
def prefect_variables() -> set[str]:
    """Every variable that Prefect reads."""
    from prefect.settings import Settings
    from pydantic import BaseModel

    def names(model: type[BaseModel], above: str) -> Iterator[str]:
        for name, field in model.model_fields.items():
            kind = field.annotation
            inner = isinstance(kind, type) and issubclass(kind, BaseModel)
            yield from names(kind, f"{above}_{name}") if inner else [f"{above}_{name}".upper()]

    return set(names(Settings, "prefect"))


def test_compose_names_settings_that_prefect_and_ours_read(prefect_variables: set[str]) -> None:
    for name, service in COMPOSE["services"].items():
        given = {variable for variable in service.get("environment", ()) if variable.startswith("PREFECT_")}
        assert given <= prefect_variables, name
    assert ALLOWED_ROOTS in COMPOSE["services"]["prefect-worker"]["environment"]


def _manifests(kind: str) -> list[dict[str, Any]]:
    files = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
    every = [one for file in files for one in yaml.safe_load_all(file.read_text(encoding="utf-8"))]
    return [one for one in every if one["kind"] == kind]


def _in_kubernetes() -> dict[str, dict[str, Any]]:
    """What the pods of ``deploy/kubernetes`` are made of, by name."""
    [dask] = _manifests("DaskCluster")
    found = {f"dask {part}": dask["spec"][part]["spec"] for part in ("worker", "scheduler")}
    templates = [*_manifests("Deployment"), *_manifests("Job")]
    return found | {one["metadata"]["name"]: one["spec"]["template"]["spec"] for one in templates}


def test_kubernetes_gives_flows_what_compose_gives_them(prefect_variables: set[str]) -> None:
    pods = _in_kubernetes()
    for pod, service in {"hcs-nuclei-deploy": "deploy", "hcs-nuclei-prefect-worker": "prefect-worker"}.items():
        [container] = pods[pod]["containers"]
        environment = {one["name"]: one.get("value") for one in container["env"]}
        ours = COMPOSE["services"][service]["environment"]
        assert set(environment) == set(ours)
        assert {name for name in environment if name.startswith("PREFECT_")} <= prefect_variables
        for name in (ALLOWED_ROOTS, METRICS_FILE, "DASK_DISTRIBUTED__DASHBOARD__LINK"):
            assert environment.get(name) == ours.get(name)
    [worker], [deploy] = pods["hcs-nuclei-prefect-worker"]["containers"], pods["hcs-nuclei-deploy"]["containers"]
    assert worker["command"] == COMPOSE["services"]["prefect-worker"]["entrypoint"]
    # A pool that is not there yet is waited for: the one that Prefect would make is open to any environment.
    assert "--no-create-pool-if-not-found" in worker["command"]
    [script] = COMPOSE["services"]["deploy"]["command"]
    assert deploy["args"] == [script.replace("tls://scheduler:", "tls://hcs-nuclei-scheduler:")]


def test_pods_that_run_models_see_the_same_directories() -> None:
    def claims(pod: dict[str, Any]) -> dict[str, str]:
        volumes = {one["name"]: one.get("persistentVolumeClaim", {}).get("claimName") for one in pod["volumes"]}
        [container] = pod["containers"]
        mounts = {one["mountPath"]: volumes[one["name"]] for one in container["volumeMounts"]}
        return {path: claim for path, claim in mounts.items() if claim is not None}

    pods = _in_kubernetes()
    flows, dask = claims(pods["hcs-nuclei-prefect-worker"]), claims(pods["dask worker"])
    assert flows == {**dask, "/data/service": "service"}
    for pod in pods.values():
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert all(one["securityContext"]["capabilities"] == {"drop": ["ALL"]} for one in pod["containers"])


def test_flows_in_kubernetes_reach_dask_and_keep_their_settings() -> None:
    [policy], [worker], [dask] = _manifests("NetworkPolicy"), _manifests("Deployment"), _manifests("DaskCluster")
    clients = policy["spec"]["ingress"][1]["from"][0]["podSelector"]["matchLabels"]
    template = worker["spec"]["template"]
    assert clients.items() <= template["metadata"]["labels"].items()
    # Dask's operator names its service after the cluster, and Kubernetes variables of every pod after the service.
    variable = f"{dask['metadata']['name']}-scheduler-port".replace("-", "_").upper()
    with pytest.raises(SettingsError, match=variable):
        load_settings(environ={variable: "tcp://10.0.0.1:8786"})
    assert template["spec"]["enableServiceLinks"] is False


def _named(tree: Any, keys: set[str]) -> set[str]:
    """Every text below `tree` that stands under one of `keys`."""
    if isinstance(tree, list):
        return {name for one in tree for name in _named(one, keys)}
    if not isinstance(tree, dict):
        return set()
    below = {name for value in tree.values() for name in _named(value, keys)}
    return below | {value for key, value in tree.items() if key in keys and isinstance(value, str)}


def test_how_to_makes_the_secrets_and_names_the_claims_of_kubernetes() -> None:
    page = (ROOT / "docs" / "how-to" / "deploy.md").read_text(encoding="utf-8")
    values = yaml.safe_load((DEPLOY / "kubernetes" / "values" / "prefect-server.yaml").read_text(encoding="utf-8"))
    trees = [*_in_kubernetes().values(), values]
    references = [
        one["valueFrom"]["secretKeyRef"]["name"]
        for pod in _in_kubernetes().values()
        for container in pod["containers"]
        for one in container.get("env", ())
        if "valueFrom" in one
    ]
    secrets = _named(trees, {"secretName", "existingSecret"}) | {*references, values["secret"]["name"]}
    made = set(re.findall(r"kubectl create secret generic (\S+)", page))
    made |= {name.replace("$role", role) for name in made for role in ("scheduler", "worker", "client")}
    assert secrets == {name for name in made if "$" not in name}
    section = page.partition("## With Kubernetes")[2].partition("\n## ")[0]
    assert {claim for claim in _named(trees, {"claimName"}) if f"`{claim}`" not in section} == set()


def test_how_to_makes_the_directory_of_recipes_that_the_watcher_reads() -> None:
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]
    [watch] = [one["parameters"]["parameters"] for one in deployments if one["name"] == "watch"]
    page = (ROOT / "docs" / "how-to" / "deploy.md").read_text(encoding="utf-8")
    for heading in ("With compose", "With Kubernetes"):
        section = page.partition(f"## {heading}\n")[2].partition("\n## ")[0]
        assert re.search(rf"mkdir -p {watch['recipes']}\b", section), heading


def test_dask_page_in_kubernetes_is_where_the_link_of_a_run_leads() -> None:
    page = (ROOT / "docs" / "how-to" / "deploy.md").read_text(encoding="utf-8")
    forwarded = re.search(r"kubectl port-forward deployment/(\S+)-scheduler (\d+)", page)
    assert forwarded is not None
    [dask], pods = _manifests("DaskCluster"), _in_kubernetes()
    assert forwarded[1] == dask["metadata"]["name"]
    [scheduler], [worker] = pods["dask scheduler"]["containers"], pods["hcs-nuclei-prefect-worker"]["containers"]
    # A forwarded port comes out on the pod's loopback.
    assert f"127.0.0.1:{forwarded[2]}" in scheduler["args"]
    environment = {one["name"]: one.get("value") for one in worker["env"]}
    assert environment["DASK_DISTRIBUTED__DASHBOARD__LINK"] == f"http://127.0.0.1:{forwarded[2]}/status"


def test_every_dask_worker_has_its_share_of_the_cores_and_is_never_paused() -> None:
    compose = COMPOSE["services"]["worker"]["environment"]
    [pod] = _in_kubernetes()["dask worker"]["containers"]
    unit = (DEPLOY / "systemd" / "hcs-nuclei-worker.service").read_text(encoding="utf-8")
    given = dict(re.findall(r"(?m)^Environment=(\w+)=(.*)$", unit))
    for environment in (compose, given, {one["name"]: one["value"] for one in pod["env"]}):
        assert set(environment) == {"TF_NUM_INTRAOP_THREADS", "DASK_DISTRIBUTED__WORKER__MEMORY__PAUSE"}
        assert environment["DASK_DISTRIBUTED__WORKER__MEMORY__PAUSE"] == "false"


def test_unit_of_the_service_writes_to_its_own_directory_and_ends_well() -> None:
    unit = (DEPLOY / "systemd" / "hcs-nuclei.service").read_text(encoding="utf-8")
    [directory] = re.findall(r"(?m)^StateDirectory=(.+)$", unit)
    # Those of a user are closed to it.
    assert "ProtectHome=true" in unit
    for variable in ("HOME", "HCS_NUCLEI_HOME"):
        assert re.search(rf"(?m)^Environment=(?:\S+ )*{variable}=/var/lib/{directory}(?: |$)", unit), variable
    # `serve` says 130 after SIGINT, as after Ctrl-C.
    assert "KillSignal=SIGINT" in unit
    assert "SuccessExitStatus=130" in unit


def test_values_of_prefects_chart_are_those_of_compose(prefect_variables: set[str]) -> None:
    text = (DEPLOY / "kubernetes" / "values" / "prefect-server.yaml").read_text(encoding="utf-8")
    values = yaml.safe_load(text)
    environment = {one["name"]: one["value"] for one in values["server"]["env"]}
    assert set(environment) <= prefect_variables
    ours = COMPOSE["services"]["prefect"]["environment"]
    # What the chart sets by itself, from secrets and from values of other names; the analytics are off in our image.
    by_the_chart = {name for name in ours if name.endswith(("_CONNECTION_URL", "_AUTH_STRING", "_UI_API_URL"))}
    assert environment == {name: value for name, value in ours.items() if name not in by_the_chart} | {
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false"
    }
    locked = re.search(r"(?m)^prefect==(\S+)", (ROOT / "requirements.lock").read_text(encoding="utf-8"))
    assert locked is not None
    assert values["global"]["prefect"]["image"]["prefectTag"] == f"{locked[1]}-python3.11"


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
