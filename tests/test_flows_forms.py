"""The forms of the deployments as Prefect's page gets them: every field is named and explained, and has its choices."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from hcs_nuclei.cluster.address import FORMS

FLOWS = ("process_plate", "process_screen", "watch_plates", "train_model")


def form(flow: str) -> dict[str, Any]:
    """The JSON schema that a deployment of the flow keeps on the server."""
    from prefect.utilities.callables import parameter_schema

    made = parameter_schema(getattr(importlib.import_module(f"flows.{flow}"), flow))
    return dict(made.model_dump_for_openapi()["definitions"])


@pytest.mark.parametrize("flow", FLOWS)
def test_every_field_is_named_and_explained(flow: str) -> None:
    for name, group in form(flow).items():
        assert group.get("description"), name
        for field, shown in group.get("properties", {}).items():
            assert shown.get("title"), f"{name}.{field}"
            # What a group of fields is stands with the group.
            assert shown.get("description") or "$ref" in shown, f"{name}.{field}"
            required = field in group.get("required", [])
            assert required or "default" in shown, f"{name}.{field}"


@pytest.mark.parametrize("flow", FLOWS)
def test_every_kind_of_cluster_is_named(flow: str) -> None:
    [cluster] = [group["properties"]["cluster"] for group in form(flow).values() if "cluster" in group["properties"]]
    kinds = [line.split()[0].rstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ:/-.0123456789") for line in FORMS.strip().splitlines()]
    assert {"local", "tls", "slurm", "kubernetes", "gpu"} < set(kinds)
    for kind in kinds:
        assert kind in cluster["description"], kind
    assert cluster["default"] == "local"


def test_choices_are_offered() -> None:
    groups = form("process_plate")
    assert groups["IlluminationSettings"]["properties"]["method"]["enum"] == [
        "auto",
        "vendor",
        "estimate",
        "file",
        "off",
    ]
    assert list(groups["ProcessPlateParameters"]["properties"])[:3] == ["plate", "out", "settings"]
    assert groups["ProcessPlateParameters"]["required"] == ["plate", "out"]
