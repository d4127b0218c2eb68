"""What Prometheus is told agrees: the page, the documentation and the alerts of ``deploy/prometheus``."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from hcs_nuclei.metrics import MetricsFile, as_text

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "deploy" / "prometheus"


@pytest.fixture
def page(tmp_path: Path) -> bytes:
    """The page of a service that has done something of everything."""
    from flows.ledger import LAST_PASS
    from flows.metrics_page import service_families

    totals = MetricsFile(tmp_path / "metrics.prom")
    labelled = {("faults", ("truncated",)): 1.0, ("stage_seconds", ("read",)): 0.5}
    totals.add(labelled, {("last_run_end_timestamp_seconds", ("completed",)): 1.0})
    (tmp_path / LAST_PASS).touch()
    return as_text(service_families(tmp_path, totals, 0.0))


def test_the_documentation_names_each_metric_with_its_labels(page: bytes) -> None:
    shown = set(re.findall(r"^(hcs_nuclei_\w+)(?:\{(\w+)=)?", page.decode(), re.MULTILINE))
    text = (ROOT / "docs" / "how-to" / "monitor.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| `(hcs_nuclei_\w+)(?:\{(\w+)\})?` \|", text, re.MULTILINE))

    assert documented == shown


def test_alerts_ask_for_metrics_and_labels_that_there_are(page: bytes) -> None:
    series = set(re.findall(r"^(hcs_nuclei_\w+)", page.decode(), re.MULTILINE))
    rules = yaml.safe_load((DEPLOY / "rules.yaml").read_text(encoding="utf-8"))["groups"][0]["rules"]

    for rule in rules:
        assert set(re.findall(r"hcs_nuclei_\w+", rule["expr"])) <= series
        for name, state in re.findall(r'(hcs_nuclei_\w+)\{state="(\w+)"\}', rule["expr"]):
            assert f'{name}{{state="{state}"}}' in page.decode()
    tested = (DEPLOY / "rules-test.yaml").read_text(encoding="utf-8")
    assert all(f"alertname: {rule['alert']}" in tested for rule in rules)
    assert len(rules) == 6


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool (of Prometheus) is not installed")
def test_prometheus_own_tool_finds_nothing_to_say(page: bytes) -> None:
    done = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    for command in (["check", "config", "prometheus.yaml"], ["test", "rules", "rules-test.yaml"]):
        checked = subprocess.run(["promtool", *command], cwd=DEPLOY, capture_output=True, text=True)
        assert checked.returncode == 0, checked.stdout + checked.stderr
