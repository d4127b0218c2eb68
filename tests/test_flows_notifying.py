"""Who is told what, once, and the page that shows the night; a real webhook on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from flow_server import Webhook

from hcs_nuclei.errors import SettingsError


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with Webhook() as made:
        yield made


def entry(**others: Any) -> Any:
    from flows.ledger import Entry

    given = {"root": "/w/P1", "plate": "P1", "run": "P1", "state": "begun", "flow_run": "1", "attempt": 1}
    return Entry.model_validate({**given, **others})


def test_each_place_is_told_once_in_its_own_form(webhook: Webhook, tmp_path: Path) -> None:
    from flows.notify_settings import read_notify
    from flows.notifying import Outbox, message_of

    (tmp_path / "notify.yaml").write_text(
        f"to:\n- webhook: {webhook.url}/hook\n- slack: {webhook.url}/slack\n- teams: {webhook.url}/teams\n"
    )
    notify, warned = read_notify(tmp_path), []
    failed = entry(state="failed", reason="no channel 'Cy5'", ended=datetime.now(UTC).isoformat())
    webhook.status = 503
    for _ in range(3):  # each pass finds the same, and may be another process
        outbox = Outbox(tmp_path)
        outbox.put(message_of(entry(), failed))
        outbox.send(notify.to, warned.append)
    assert len(warned) == 9
    assert warned[1] == "The slack number 2 of notify.yaml was not reached: status 503"
    webhook.status = 200
    for _ in range(3):
        Outbox(tmp_path).put(message_of(entry(), failed))
        Outbox(tmp_path).send(notify.to, warned.append)
    assert len(warned) == 9
    bodies = dict(webhook.got)
    assert len(webhook.got) == len(bodies) == 3
    assert {k: bodies["/hook"][k] for k in ("kind", "title", "text", "plate", "root", "flow_run")} == {
        "kind": "failed",
        "title": "Plate P1 failed",
        "text": "no channel 'Cy5'",
        "plate": "P1",
        "root": "/w/P1",
        "flow_run": "1",
    }
    assert bodies["/slack"] == {"text": "Plate P1 failed\nno channel 'Cy5'"}
    card = bodies["/teams"]["attachments"][0]["content"]
    assert [block["text"] for block in card["body"]] == ["Plate P1 failed", "no channel 'Cy5'"]


def test_what_is_told_and_what_is_not() -> None:
    from flows.notifying import message_of

    def told(before: str, after: str, reason: str = "") -> str | None:
        message = message_of(entry(state=before), entry(state=after, reason=reason))
        return message.kind if message else None

    assert told("begun", "quarantined") == "quarantined"
    assert told("begun", "crashed", "The run's heartbeat stopped at 03:12 UTC") == "heartbeat"
    assert told("begun", "crashed", "killed") == "crashed"
    assert told("begun", "crashed", "the service was stopped") is None
    assert told("writing", "held", "no recipe is for it") == "held"
    assert [told("begun", state) for state in ("completed", "cancelled", "begun")] == [None] * 3
    assert told("failed", "failed") is None
    second = message_of(entry(flow_run="2", attempt=2), entry(flow_run="2", attempt=2, state="failed"))
    first = message_of(entry(), entry(state="failed"))
    assert first
    assert second
    assert first.key != second.key


LOCAL = timezone(timedelta(hours=2))


@pytest.mark.parametrize(
    ("now", "ended", "since", "told"),
    [
        pytest.param("2026-03-02T07:00", "", "2026-02-01", "2026-03-02 06:00", id="nothing in the night"),
        pytest.param("2026-03-02T05:00", "", "2026-02-01", "2026-03-01 06:00", id="before the hour: the day before"),
        pytest.param("2026-03-02T07:00", "2026-03-02T02:30", "2026-02-01", "", id="finished in the night, 04:30 here"),
        pytest.param("2026-03-02T07:00", "2026-03-02T04:30", "2026-02-01", "2026-03-02 06:00", id="06:30 is too late"),
        pytest.param("2026-03-02T07:00", "2026-03-01T02:30", "2026-02-01", "2026-03-02 06:00", id="the night before"),
        pytest.param("2026-03-02T07:00", "", "2026-03-02T05:00", "", id="the service is newer than the hour"),
    ],
)
def test_night_without_a_plate(now: str, ended: str, since: str, told: str) -> None:
    from flows.notifying import none_finished

    entries = [entry(state="failed", ended="2026-03-02T03:00+00:00"), entry(state="queued")]
    entries += [entry(state="completed", ended=f"{ended}+00:00")] if ended else []
    began = datetime.fromisoformat(since).replace(tzinfo=UTC)
    message = none_finished(entries, "06:00", began, datetime.fromisoformat(now).replace(tzinfo=LOCAL))
    title = f"No plate was finished by {told[-5:]} UTC+02:00 on {told[:10]}" if told else ""
    assert (message.title if message else "") == title
    if message:
        assert message.text.endswith("There are: 1 failed, 1 queued.")


@pytest.mark.parametrize(
    "text",
    [
        "to: [{webhook: 'https://secret', slack: 'https://secret'}]",
        "to: [{mail: 'secret'}]",
        "to: [{}]",
        "finished_by: '25:00'",
        "secret",
        "to: [",
    ],
)
def test_wrong_configuration_is_said_without_its_secrets(text: str, tmp_path: Path) -> None:
    from flows.notify_settings import read_notify

    (tmp_path / "notify.yaml").write_text(text)
    with pytest.raises(SettingsError, match="Nobody is told until it is") as wrong:
        read_notify(tmp_path)
    assert "secret" not in str(wrong.value)


def test_address_may_stand_in_a_variable(webhook: Webhook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.notify_settings import read_notify
    from flows.notifying import Outbox, message_of

    (tmp_path / "notify.yaml").write_text("to: [{slack: $SLACK_URL}]")
    notify, warned = read_notify(tmp_path), []
    outbox = Outbox(tmp_path)
    outbox.put(message_of(entry(), entry(state="failed")))
    outbox.send(notify.to, warned.append)
    assert warned == ["The slack number 1 of notify.yaml was not reached: UnsupportedProtocol"]
    monkeypatch.setenv("SLACK_URL", webhook.url)
    outbox.send(notify.to, warned.append)
    assert len(webhook.got) == 1


def test_status_page_has_a_line_a_plate_and_last_night_first(tmp_path: Path) -> None:
    from flows.status_page import render_status, write_status_page

    now = datetime(2026, 3, 2, 8, 0, tzinfo=LOCAL)
    run = tmp_path / "P 2"
    (run / "nuclei").mkdir(parents=True)
    for name in ("report.html", "nuclei/B02.parquet", "nuclei/B03.parquet", "nuclei/.B04.parquet"):
        (run / name).touch()
    night, before = "2026-03-01T20:00:00+00:00", "2026-02-27T20:00:00+00:00"
    late = "2026-03-02T04:06:00+00:00"
    entries = [
        entry(root="1", plate="Old", state="completed", found=before, begun=before, ended=before),
        entry(root="2", plate="Next", state="queued", attempt=0, found=night, ready=late),
        entry(root="3", plate="Soon", state="queued", attempt=0, found=night, ready=night),
        entry(root="4", plate="Now", state="begun", reason="running", found=night, run_dir=str(run), flow_run="f-1"),
        entry(root="8", plate="Then", state="begun", reason="waits its turn", found=night),
        entry(
            root="5",
            plate="P2",
            state="quarantined",
            reason="Plate P2: 2 in B03",
            found=before,
            begun=night,
            ended=late,
        ),
        entry(root="6", plate="P3", state="held", reason="no recipe <for> it", found=before),
        entry(root="7", plate="Part", state="incomplete", reason="2 of 96 planes are missing", found=before),
    ]
    page = render_status(entries, now, prefect="http://127.0.0.1:4200")
    assert "<h1>Since Sunday 18:00</h1>" in page
    assert (
        "1 held, 1 incomplete, 1 quarantined wells, 1 running, 1 next, 2 queued. Looked at 2026-03-02 08:00 UTC" in page
    )
    recent, earlier = page.split("<h2>Earlier</h2>")
    # What waits for somebody is first, and the queue is in its order.
    names = ("P3", "Part", "P2", "Now", "Then", "Soon", "Next")
    assert sorted(names, key=lambda name: recent.index(f">{name}</td>")) == list(names)
    assert ">Old</td>" in earlier
    assert ">Old</td>" not in recent
    for text in (
        "no recipe &lt;for&gt; it",
        "2 of 96 planes are missing",
        "<td>2 wells done</td>",
        "<td>2 in B03</td>",
        "<td>number 2 in the queue</td>",
        "<td>03-01 22:00</td>",
        "<td>8 h 06 min</td>",
        f'href="{(run / "report.html").as_uri()}"',
        'href="http://127.0.0.1:4200/runs/flow-run/f-1"',
    ):
        assert text in recent
    assert page.count("<tr>") == 2 + 8
    assert write_status_page(tmp_path, [], now).read_text().count("None.") == 2
    # In the evening itself the page does not begin anew.
    assert "<h1>Since Sunday 18:00</h1>" in render_status([], now.replace(hour=23))
    assert "<h1>Since Monday 18:00</h1>" in render_status([], now.replace(day=3, hour=0, minute=30))


def test_run_that_is_begun_again_in_the_web_page_and_fails_again_is_told_again(tmp_path: Path) -> None:
    from flows.notifying import Outbox, message_of

    outbox = Outbox(tmp_path)
    once, twice = (entry(state="failed", run_count=count) for count in (1, 2))
    assert outbox.put(message_of(entry(), once))
    assert not outbox.put(message_of(entry(), once))
    assert outbox.put(message_of(entry(run_count=1), twice))
    # Between two passes it failed, was begun again, and failed again.
    assert message_of(once, twice) is not None
    assert message_of(twice, twice) is None
