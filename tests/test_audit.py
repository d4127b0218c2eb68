"""The audit log: what stands in it, that it only grows, and that several writers do not disturb each other."""

from __future__ import annotations

import getpass
import json
import socket
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hcs_nuclei.audit import audit_path, read_audit, write_audit
from hcs_nuclei.errors import OutputError
from hcs_nuclei.home import home_directory


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HCS_NUCLEI_HOME", str(tmp_path / "home"))


def test_the_home_is_where_the_variables_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    assert home_directory() == tmp_path / "home"
    monkeypatch.delenv("HCS_NUCLEI_HOME")
    assert home_directory() == tmp_path / "data" / "hcs-nuclei"
    monkeypatch.delenv("XDG_DATA_HOME")
    assert home_directory() == tmp_path / "user" / ".local" / "share" / "hcs-nuclei"


def test_an_entry_says_when_who_what_and_why() -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    entry = write_audit("run.overwrite", "P1", old={"wells": 4}, new=None, reason="neue Färbung")

    assert before <= datetime.fromisoformat(entry.when) <= datetime.now(UTC)
    assert (entry.who, entry.host) == (getpass.getuser(), socket.gethostname())
    (line,) = audit_path().read_text(encoding="utf-8").splitlines()
    assert json.loads(line) == entry.model_dump()
    assert (entry.old, entry.new, entry.reason) == ({"wells": 4}, None, "neue Färbung")
    assert write_audit("run.overwrite", "P1", by="mia").who == f"mia via {getpass.getuser()}"


def test_nothing_was_done_where_there_is_no_log() -> None:
    assert list(read_audit()) == []
    assert not audit_path().exists()


def test_a_line_that_was_cut_off_hides_no_other() -> None:
    write_audit("a.b", "first")
    with audit_path().open("ab") as log:
        log.write(b'{"when": "2026-')
    write_audit("a.b", "second, with\na line break")

    assert [entry.subject for entry in read_audit()] == ["first", "second, with\na line break"]
    assert len(audit_path().read_bytes().splitlines()) == 3


def test_several_processes_write_whole_lines() -> None:
    code = (
        "import sys; from hcs_nuclei.audit import write_audit\n"
        "for i in range(100): write_audit('test.write', sys.argv[1], new=i, reason=sys.argv[1] * 3000)"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, name]) for name in "abc"]
    assert [writer.wait(timeout=120) for writer in writers] == [0, 0, 0]

    entries = list(read_audit())
    for name in "abc":
        mine = [entry for entry in entries if entry.subject == name]
        assert [entry.new for entry in mine] == list(range(100))
        assert {entry.reason for entry in mine} == {name * 3000}


def test_a_log_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file")

    with pytest.raises(OutputError, match=r"The audit log .*audit\.jsonl cannot be written"):
        write_audit("a.b", "c")
