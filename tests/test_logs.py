"""Log lines: one JSON object each with what is known of the place, in every kind of process, and never a secret."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hcs_nuclei.audit import read_audit, write_audit
from hcs_nuclei.cli import main
from hcs_nuclei.logs import HIDDEN, JsonFormatter, log_places, scrub

PLANTED = "planted-5up3r-s3cret"


def as_json(message: str, *arguments: object, **extra: Any) -> dict[str, Any]:
    """A record of that message, formatted and read again."""
    made = logging.getLogger("hcs_nuclei.test").makeRecord(
        "hcs_nuclei.test", logging.WARNING, __file__, 1, message, arguments, None, extra=extra
    )
    line = JsonFormatter().format(made)
    assert "\n" not in line
    return dict(json.loads(line))


def lines_of(program: str, **environ: str) -> list[dict[str, Any]]:
    """What a Python process of its own logs to stderr, each line of which has to be an object."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "HCS_NUCLEI_"))}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**kept, "HCS_NUCLEI_LOG_FORMAT": "json", **environ},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.stdout == ""
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_a_line_is_an_object_with_time_level_logger_and_message() -> None:
    line = as_json("%d nuclei\nin two lines", 7)

    assert line.pop("time").endswith("Z")
    assert line == {"level": "WARNING", "logger": "hcs_nuclei.test", "message": "7 nuclei\nin two lines"}


def test_places_are_the_records_own_or_those_of_the_context() -> None:
    with log_places(plate="P1") as here:
        here.update(run="P1__7")
        line = as_json("x", well="B03", field=4, plate="P2", flow_run_id="abc")
        assert (line["plate"], line["run"], line["well"], line["field"]) == ("P2", "P1__7", "B03", 4)
        assert line["flow_run"] == "abc"
        assert as_json("x")["plate"] == "P1"
    assert "plate" not in as_json("x")


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        (f"opening https://mia:{PLANTED}@host/plate", f"opening https://{HIDDEN}@host/plate"),
        (f"postgresql+asyncpg://u:{PLANTED}@db:5432/x", f"postgresql+asyncpg://{HIDDEN}@db:5432/x"),
        (f"GET /p?X-Amz-Signature={PLANTED}&list=2", f"GET /p?X-Amz-Signature={HIDDEN}&list=2"),
        (f"GET /p?sv=2&sig={PLANTED}", f"GET /p?sv=2&sig={HIDDEN}"),
        (f"Authorization: Bearer {PLANTED}", f"Authorization: Bearer {HIDDEN}"),
        (f"{{'api_key': '{PLANTED}', 'n': 1}}", f"{{'api_key': '{HIDDEN}', 'n': 1}}"),
        (f"PREFECT_API_AUTH_STRING={PLANTED}", f"PREFECT_API_AUTH_STRING={HIDDEN}"),
        (f"https://hooks.slack.com/services/T0/B0/{PLANTED}", f"https://hooks.slack.com/{HIDDEN}"),
    ],
)
def test_what_looks_like_a_secret_is_hidden(text: str, clean: str) -> None:
    assert scrub(text) == clean


@pytest.mark.parametrize(
    "text",
    [
        "Plate P1 has the channels DAPI (w1), FITC (w2). Choose one of these by its token with --channel.",
        "basic segmentation of /data/screens/2026-11-28/P1 at s3://bucket/plates/P1 took 3.2 s (B03 field 4)",
        "http://127.0.0.1:4200/runs/flow-run/02a2d63a-a3c3-4339-9859-74dd32dc4771",
        "token: w1",
    ],
)
def test_what_is_none_stays(text: str) -> None:
    assert scrub(text) == text


def test_what_the_environment_keeps_as_a_secret_is_hidden_wherever_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "aKeyOf/Some+Length")
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "mia:long-password")
    monkeypatch.setenv("CI_TOKEN", "short")

    assert scrub("boto said aKeyOf/Some+Length") == f"boto said {HIDDEN}"
    assert scrub("401 for long-password") == f"401 for {HIDDEN}"
    assert scrub("a short well") == "a short well"


def test_any_logger_of_a_process_writes_json_without_secrets_and_tracebacks_too() -> None:
    program = f"""
import logging, sys, warnings
from hcs_nuclei.logs import set_up_logs
set_up_logs(); set_up_logs()
logging.getLogger("hcs_nuclei.x").info("ours", extra={{"well": "B03"}})
logging.getLogger("botocore").warning("asked %s", "https://a:{PLANTED}@b/c")
logging.getLogger("botocore").info("not told")
warnings.warn("careful", UserWarning)
try:
    raise ValueError("https://a:{PLANTED}@b/c")
except ValueError:
    logging.getLogger("other").exception("failed")
raise KeyError("token={PLANTED}")
"""
    lines = lines_of(program)

    assert [line["logger"] for line in lines] == ["hcs_nuclei.x", "botocore", "py.warnings", "other", "hcs_nuclei"]
    assert [line["level"] for line in lines] == ["INFO", "WARNING", "WARNING", "ERROR", "CRITICAL"]
    assert lines[0]["well"] == "B03"
    assert "Traceback" in lines[3]["exception"]
    assert "Traceback" in lines[4]["exception"]
    assert PLANTED not in json.dumps(lines)
    assert json.dumps(lines).count(HIDDEN) >= 3


def test_prefects_lines_are_json_as_well_in_the_process_and_in_those_that_it_starts(tmp_path: Path) -> None:
    inner = f"""
from prefect import flow
from prefect.logging import get_logger
get_logger("inner").warning("see https://a:{PLANTED}@b")
"""
    program = f"""
import subprocess, sys
import flows
from prefect.logging import get_logger
get_logger("outer").warning("see https://a:{PLANTED}@b", extra={{"plate": "P1"}})
subprocess.run([sys.executable, "-c", {inner!r}], check=True)
"""
    lines = lines_of(program, PREFECT_HOME=str(tmp_path))

    clean = f"see https://{HIDDEN}@b"
    assert [(line["logger"], line["message"]) for line in lines] == [("prefect.outer", clean), ("prefect.inner", clean)]
    assert lines[0]["plate"] == "P1"


def test_prefects_lines_hold_no_secret_in_text_either(tmp_path: Path) -> None:
    program = f"""
import flows
from prefect import flow
from prefect.logging import get_logger
get_logger("outer").warning("see %s", "https://a:{PLANTED}@b")
"""
    environ = {**os.environ, "HCS_NUCLEI_LOG_FORMAT": "text", "PREFECT_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True, timeout=280)
    assert f"see https://{HIDDEN}@b" in done.stderr.replace("\n", "")
    assert PLANTED not in done.stderr


def test_a_dask_worker_logs_so_from_its_beginning_where_it_is_preloaded() -> None:
    program = """
import logging, distributed
from hcs_nuclei.logs import dask_setup
dask_setup(None)
logging.getLogger("distributed.worker").warning("Connection lost")
"""
    [line] = lines_of(program)
    assert (line["logger"], line["message"]) == ("distributed.worker", "Connection lost")


def test_a_format_that_is_not_there_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HCS_NUCLEI_LOG_FORMAT", "xml")

    assert main(["models", "list"]) == 2
    assert capsys.readouterr().err == "hcs-nuclei: HCS_NUCLEI_LOG_FORMAT is 'xml'; expected json or text.\n"


def test_no_secret_reaches_the_audit_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HCS_NUCLEI_HOME", str(tmp_path))
    write_audit("run.begin", "P1", new={"source": [f"https://a:{PLANTED}@b"]}, reason=f"token={PLANTED}")

    assert PLANTED not in (tmp_path / "audit.jsonl").read_text()
    [entry] = read_audit()
    assert (entry.new, entry.reason) == ({"source": [f"https://{HIDDEN}@b"]}, f"token={HIDDEN}")


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("postgresql+asyncpg://prefect:p/a+b=@db/x", "p/a+b="),
        ("https://foo.webhook.office.com:443/webhookb2/abc", "abc"),
        ("Authorization: Token abcdefghijkl", "abcdefghijkl"),
    ],
)
def test_secrets_of_any_form_are_hidden(text: str, secret: str) -> None:
    from hcs_nuclei.logs import scrub

    assert secret not in scrub(text)
    assert "***" in scrub(text)


@pytest.mark.parametrize(
    "text", ["https://minio:9000/bucket/P1@10x/file.tif", "http://host:4200/api/x?mail=a@b.org", "s3://bucket/P1@20x"]
)
def test_addresses_without_a_secret_stay_as_they_are(text: str) -> None:
    from hcs_nuclei.logs import scrub

    assert scrub(text) == text
