"""The mail of last night, to a mail server that listens on loopback, with and without TLS and a password."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from flow_server import server
from smtp_server import MailServer, make_certificate

from hcs_nuclei.errors import RunFailedError, SettingsError

__all__ = ["server"]
#: A server that starts: seconds on an idle machine, minutes on a busy one.
pytestmark = [pytest.mark.timeout(900), pytest.mark.usefixtures("server")]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A service's directory after a night with three plates."""
    from flows.ledger import Entry, open_ledger

    run = tmp_path / "runs" / "P1"
    run.mkdir(parents=True)
    (run / "report.html").touch()
    hours_ago = [(datetime.now(UTC) - timedelta(hours=h)).isoformat(timespec="seconds") for h in (3, 2, 1)]
    found, begun, ended = hours_ago
    plates: list[dict[str, Any]] = [
        {"plate": "P1", "state": "quarantined", "reason": "2 fields with a fault in B03 <b>", "run_dir": str(run)},
        {"plate": "P2", "state": "failed", "reason": "no channel Cy5"},
        {"plate": "P3", "state": "completed", "reason": "96 ok wells"},
    ]
    home = tmp_path / "state"
    with open_ledger(home) as ledger:
        assert ledger is not None
        for plate in plates:
            common = {"root": plate["plate"], "run": plate["plate"], "flow_run": f"id-{plate['plate']}"}
            ledger.write(Entry.model_validate({**common, "found": found, "begun": begun, "ended": ended, **plate}))
    return home


def configure(state: Path, mail: MailServer, **others: Any) -> None:
    given = {"host": "127.0.0.1", "port": mail.port, "tls": "none", "from": "hcs@example.org", "to": ["a@example.org"]}
    (state / "notify.yaml").write_text(yaml.safe_dump({"mail": {**given, **others}, "time_zone": "Europe/Berlin"}))


def digest(state: Path, **others: Any) -> str:
    from flows.mail_digest import MailDigestParameters, mail_digest

    return mail_digest(MailDigestParameters(state=str(state), **others))


def test_night_is_mailed_once_with_a_line_a_plate_faults_and_links(state: Path) -> None:
    with MailServer() as mail:
        configure(state, mail, to=["a@example.org", "b@example.org"])
        said = digest(state)
        assert said.startswith("Mailed to a@example.org, b@example.org: 1 failed, 1 quarantined wells, 1 completed")
        assert digest(state).endswith("was mailed before.")
        assert len(mail.messages) == 1
        digest(state, again=True)
        assert len(mail.messages) == 2
    assert mail.envelopes[0] == ("hcs@example.org", ("a@example.org", "b@example.org"))
    message = mail.messages[0]
    subject = message["Subject"].strip()  # on days with a long name it begins in a line of its own
    assert subject.startswith("Plates since ")
    assert subject.endswith(": 1 failed, 1 quarantined wells, 1 completed")
    text, page = (part.get_content() for part in message.iter_parts())
    lines = text.splitlines()
    assert lines[0].endswith(("CET.", "CEST."))
    # What waits for somebody stands first.
    assert lines[2].startswith("failed: P2 - no channel Cy5  run http://127.0.0.1:")
    assert lines[2].endswith("/runs/flow-run/id-P2")
    report = (state.parent / "runs" / "P1" / "report.html").as_uri()
    assert lines[3].startswith(f"quarantined wells: P1 - 2 fields with a fault in B03 <b>  report {report}  run http")
    assert lines[4].startswith("completed: P3 - 96 ok wells")
    assert f'<a href="{report}">report</a>' in page
    assert "2 fields with a fault in B03 &lt;b&gt;" in page
    assert page.count("<tr>") == 4


@pytest.mark.parametrize("tls", ["starttls", "tls"])
@pytest.mark.parametrize("kept", ["variable", "secret"])
def test_password_goes_over_tls_only_and_into_no_log(
    tls: str,
    kept: str,
    state: Path,
    certificate: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    from prefect.blocks.system import Secret

    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    monkeypatch.setenv("SMTP_PASSWORD", "correct horse")
    Secret(value="correct horse").save("smtp", overwrite=True)
    password = {"variable": "$SMTP_PASSWORD", "secret": "secret/smtp"}[kept]
    with MailServer(certificate, wrapped=tls == "tls", login="hcs:correct horse") as mail:
        configure(state, mail, host="localhost", tls=tls, user="hcs", password=password)
        digest(state)
        monkeypatch.setenv("SMTP_PASSWORD", "wrong battery")
        Secret(value="wrong battery").save("smtp", overwrite=True)
        with pytest.raises(SettingsError, match=r"does not take the user and password \(535\)"):
            digest(state, again=True)
    assert mail.over_tls == [True]
    assert "correct horse" not in caplog.text
    assert "wrong battery" not in caplog.text


def test_server_that_is_not_trusted_gets_nothing(
    state: Path, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.mail_digest.RETRY_AFTER_S", ())
    monkeypatch.setenv("SMTP_PASSWORD", "correct horse")
    with MailServer(certificate, login="hcs:correct horse") as mail:
        configure(state, mail, host="localhost", tls="starttls", user="hcs", password="$SMTP_PASSWORD")
        with pytest.raises(RunFailedError, match="certificate verify failed"):
            digest(state)
    with MailServer() as mail:  # nor one that offers no TLS
        configure(state, mail, tls="starttls", user="hcs", password="$SMTP_PASSWORD")
        with pytest.raises(RunFailedError, match="STARTTLS"):
            digest(state)
    assert mail.messages == []


def test_mail_that_was_not_taken_is_said_and_tried_again(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr("flows.mail_digest.sleep", waited.append)
    with MailServer() as mail:
        configure(state, mail)
        mail.status = "451 later"
        with pytest.raises(RunFailedError, match="451"):
            digest(state)
        assert waited == [60, 300]
        mail.refused = "a@example.org"
        with pytest.raises(SettingsError, match=r"takes no mail to a@example\.org"):
            digest(state)
        mail.refused = ""
        # A server that is back meanwhile gets it.
        mail.status = "451 later"
        monkeypatch.setattr("flows.mail_digest.sleep", lambda _: setattr(mail, "status", "250 taken"))
        digest(state)
        assert len(mail.messages) == 1
    configure(state, mail)
    with pytest.raises(RunFailedError, match=rf"127\.0\.0\.1:{mail.port}"):
        digest(state, again=True)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"password": "correct horse", "user": "hcs"}, "name a variable"),
        ({"password": "$SMTP_PASSWORD"}, "give user and password"),
        ({"password": "$SMTP_PASSWORD", "user": "hcs", "host": "mail.example.org"}, "by starttls or tls only"),
        ({"from": "hcs"}, "mail.from"),
        ({"to": []}, "mail.to"),
        ({"at": "7"}, "mail.at"),
    ],
)
def test_wrong_settings_are_refused_without_repeating_a_password(
    given: dict[str, Any], message: str, state: Path
) -> None:
    with MailServer() as mail:
        configure(state, mail, **given)
        with pytest.raises(SettingsError, match=message) as wrong:
            digest(state)
    assert "correct horse" not in str(wrong.value)


def test_what_is_not_there_is_named(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (state / "notify.yaml").write_text("finished_by: '06:00'\n")
    with pytest.raises(SettingsError, match="says nothing under mail"):
        digest(state)
    with MailServer() as mail:
        configure(state, mail, user="hcs", password="$NOT_SET")
        with pytest.raises(SettingsError, match=r"variable \$NOT_SET is not set"):
            digest(state)
        configure(state, mail, user="hcs", password="secret/none")
        with pytest.raises(SettingsError, match="no secret/none"):
            digest(state)
    monkeypatch.setenv("HCS_NUCLEI_ALLOWED_ROOTS", str(state / "elsewhere"))
    with pytest.raises(SettingsError, match="Service directory"):
        digest(state)


def test_digest_is_served_at_its_time_where_it_is_asked_for(state: Path) -> None:
    from flows.parameters import WatchPlatesParameters
    from flows.service_worker import deployments

    watch = WatchPlatesParameters(roots=("/data",), out="/data/runs", state=str(state))
    assert "digest" not in [one.name for one in deployments(watch, timedelta(seconds=60), 1)]
    with MailServer() as mail:
        configure(state, mail, at="06:30")
    [digest_of_night] = [one for one in deployments(watch, timedelta(seconds=60), 1) if one.name == "digest"]
    [schedule] = digest_of_night.schedules or []
    assert (schedule.schedule.cron, schedule.schedule.timezone) == ("30 6 * * *", "Europe/Berlin")
    (state / "notify.yaml").write_text("mail: wrong\n")
    assert "digest" not in [one.name for one in deployments(watch, timedelta(seconds=60), 1)]
