"""Flow parameters are untrusted: what they name outside the configured roots is refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hcs_nuclei.errors import SettingsError


@pytest.fixture
def share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A share with plates and runs, which are the allowed roots, beside a private directory."""
    for name in ("plates/P1", "runs", "private", "plates-old"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "private" / "layout.csv").touch()
    (tmp_path / "private" / "scheduler.json").touch()
    for name, mode in {"slurm.yaml": 0o644, "shared.yaml": 0o664, "anybody.yaml": 0o646}.items():
        (tmp_path / "runs" / name).touch()
        (tmp_path / "runs" / name).chmod(mode)
    (tmp_path / "plates" / "link").symlink_to(tmp_path / "private")
    (tmp_path / "plates" / "loop").symlink_to(tmp_path / "plates" / "loop")
    (tmp_path / "door").symlink_to(tmp_path / "plates")
    urls = "s3://screens/plates/:https://host:8443/open"
    monkeypatch.setenv("HCS_NUCLEI_ALLOWED_ROOTS", f"{tmp_path}/plates:{urls}:{tmp_path}/runs")
    return tmp_path


def check(share: Path, plate: str = "plates/P1", out: str = "runs", **others: Any) -> None:
    """The check of a run's parameters; ``{share}`` in a text stands for the share."""
    from flows.parameters import ProcessPlateParameters

    at = plate if "://" in plate else f"{{share}}/{plate}"
    parameters = {"plate": at, "out": f"{{share}}/{out}", **others}
    text = ProcessPlateParameters.model_validate(parameters).model_dump_json().replace("{share}", str(share))
    ProcessPlateParameters.model_validate_json(text).check_places()


@pytest.mark.parametrize(
    "inside",
    [
        {},
        {"plate": "plates"},
        {"plate": "door/P1"},
        {"plate": "plates/../plates/P1"},
        {"out": "runs/2026/of a campaign that is to come"},
        {"settings": {"layout": "{share}/plates/layout.csv", "exclusions": "none", "model": "some-model"}},
        {"cluster": "tls://scheduler:8786"},
        {"cluster": "slurm:{share}/runs/slurm.yaml"},
        {"cluster": "gpu:{share}/runs/slurm.yaml"},
        {"plate": "s3://screens/plates"},
        {"plate": "s3://screens/plates/2026/HT0001/"},
        {"plate": "https://HOST:8443/open/HT 1"},
        {"plate": "https://host:8443/%6fpen/HT0001"},
        {"plate": "file://{share}/plates/P1"},
    ],
)
def test_inside_the_roots(share: Path, inside: dict[str, Any]) -> None:
    check(share, **inside)


@pytest.mark.parametrize(
    ("outside", "said"),
    [
        ({"plate": "private"}, "Plate directory"),
        ({"plate": "plates/../private"}, "Plate directory"),
        ({"plate": "plates/link/P2"}, "Plate directory"),
        ({"plate": "plates/loop/P2"}, "Plate directory"),
        ({"plate": "plates-old"}, "Plate directory"),
        ({"plate": "plates/\0"}, "Plate directory"),
        ({"out": "private"}, "Output directory"),
        ({"out": "runs/../../etc"}, "Output directory"),
        ({"settings": {"layout": "{share}/private/layout.csv"}}, "Plate layout"),
        ({"settings": {"barcodes": "~/barcodes.csv"}}, "List of barcodes"),
        ({"settings": {"exclusions": "exclusions.csv"}}, "Exclusions"),
        ({"settings": {"model": "{share}/private"}}, "Model"),
        ({"settings": {"illumination": {"method": "file", "flat_field": {"w1": "/etc/passwd"}}}}, "Illumination image"),
        ({"cluster": "file:{share}/private/scheduler.json"}, "Cluster file"),
        ({"cluster": "{share}/private/scheduler.json"}, "Cluster file"),
        ({"cluster": "slurm:{share}/private/scheduler.json"}, "Cluster file"),
        ({"cluster": "gpu:kubernetes:{share}/runs/../private/scheduler.json"}, "Cluster file"),
        ({"plate": "s3://screens/plates-old/P1"}, "Plate directory"),
        ({"plate": "s3://screens"}, "Plate directory"),
        ({"plate": "s3://other/plates/P1"}, "Plate directory"),
        ({"plate": "s3://screens//plates/P1"}, "Plate directory"),
        ({"plate": "s3://screens/pl%61tes/P1"}, "Plate directory"),
        ({"plate": "s3://screens/plates?/P1"}, "Plate directory"),
        ({"plate": "s3://screens/plates/../private"}, "Plate directory"),
        ({"plate": "s3://screens/plates/x::file:///etc"}, "Plate directory"),
        ({"plate": "gs://screens/plates/P1"}, "Plate directory"),
        ({"plate": "http://host:8443/open/P1"}, "Plate directory"),
        ({"plate": "https://host/open/P1"}, "Plate directory"),
        ({"plate": "https://host:8443/open/%252e%252e/private"}, "Plate directory"),
        ({"plate": "https://host:8443/open/..%2fprivate"}, "Plate directory"),
        ({"plate": "https://host:8443@elsewhere/open/P1"}, "Plate directory"),
        ({"plate": "file://{share}/private"}, "Plate directory"),
        ({"plate": "simplecache::s3://screens/plates/P1"}, "Plate directory"),
        ({"settings": {"layout": "s3://screens/plates/layout.csv"}}, "Plate layout"),
    ],
)
def test_outside_the_roots(share: Path, outside: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=f"^{said} .* lies outside the allowed roots") as refused:
        check(share, **outside)
    assert "\n" not in str(refused.value)
    roots = f"({share}/plates, {share}/runs, s3://screens/plates, https://host:8443/open)"
    assert roots in str(refused.value)


def test_results_are_written_to_no_url(share: Path) -> None:
    from flows.parameters import ProcessPlateParameters

    parameters = ProcessPlateParameters(plate=f"{share}/plates/P1", out="s3://screens/plates/runs")
    with pytest.raises(SettingsError, match=r"^Output directory 's3://screens/plates/runs' lies outside"):
        parameters.check_places()


@pytest.mark.parametrize("kind", ["slurm:", "kubernetes:", "file:", ""])
def test_cluster_that_others_can_describe_is_refused(share: Path, kind: str) -> None:
    for name in ("shared.yaml", "anybody.yaml"):
        with pytest.raises(SettingsError, match="can be changed by others than the user who runs this service"):
            check(share, cluster=f"{kind}{{share}}/runs/{name}")


def test_without_roots_a_deployment_may_name_nothing_and_a_program_everything(
    share: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HCS_NUCLEI_ALLOWED_ROOTS")
    check(share, plate="private")
    monkeypatch.setenv("PREFECT__RUNTIME__DEPLOYMENT__ID", "11111111-1111-1111-1111-111111111111")
    with pytest.raises(SettingsError, match="HCS_NUCLEI_ALLOWED_ROOTS is not set where this run was started"):
        check(share)
    monkeypatch.setenv("HCS_NUCLEI_ALLOWED_ROOTS", "")
    with pytest.raises(SettingsError, match="there are none"):
        check(share)
