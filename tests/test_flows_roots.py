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
    (tmp_path / "plates" / "link").symlink_to(tmp_path / "private")
    (tmp_path / "plates" / "loop").symlink_to(tmp_path / "plates" / "loop")
    (tmp_path / "door").symlink_to(tmp_path / "plates")
    monkeypatch.setenv("HCS_NUCLEI_ALLOWED_ROOTS", f"{tmp_path}/plates:{tmp_path}/runs")
    return tmp_path


def check(share: Path, plate: str = "plates/P1", out: str = "runs", **others: Any) -> None:
    """The check of a run's parameters; ``{share}`` in a text stands for the share."""
    from flows.parameters import ProcessPlateParameters

    parameters = {"plate": f"{{share}}/{plate}", "out": f"{{share}}/{out}", **others}
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
        ({"cluster": "file:{share}/private/scheduler.json"}, "Scheduler file"),
        ({"cluster": "{share}/private/scheduler.json"}, "Scheduler file"),
    ],
)
def test_outside_the_roots(share: Path, outside: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=f"^{said} .* lies outside the allowed roots") as refused:
        check(share, **outside)
    assert "\n" not in str(refused.value)
    assert f"{share}/plates, {share}/runs" in str(refused.value)


def test_url_is_outside_every_root(share: Path) -> None:
    from flows.roots import check_roots

    with pytest.raises(SettingsError, match="outside the allowed roots"):
        check_roots([("Plate directory", "s3://bucket/plate")])


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
