"""Files reach their place whole or not at all, and are not touched without need."""

from __future__ import annotations

from pathlib import Path

import pytest

from hcs_nuclei.files import replace_file, sweep, temporary_path


def test_same_content_leaves_the_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    assert replace_file(path, b"one")
    before = path.stat()
    assert not replace_file(path, b"one")
    after = path.stat()
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)


@pytest.mark.parametrize("content", [b"two", b"", b"longer than before"], ids=["same length", "empty", "longer"])
def test_other_content_replaces_the_file_whole(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "run.json"
    replace_file(path, b"one")
    assert replace_file(path, content)
    assert path.read_bytes() == content
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.json"]


def test_what_cannot_be_replaced_stays_and_nothing_is_left_beside(tmp_path: Path) -> None:
    place = tmp_path / "run.json"
    (place / "inside").mkdir(parents=True)
    with pytest.raises(OSError, match=r"run\.json"):
        replace_file(place, b"new")
    assert [entry.name for entry in place.iterdir()] == ["inside"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.json"]


def test_a_file_gets_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"")
    replace_file(tmp_path / "ours", b"")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_sweep_removes_what_a_killed_run_left_and_nothing_else(tmp_path: Path) -> None:
    temporary_path(tmp_path / "wells.csv").write_bytes(b"half")
    folder = temporary_path(tmp_path / "03")
    (folder / "1").mkdir(parents=True)
    (folder / "1" / "zarr.json").write_bytes(b"{}")
    (tmp_path / ".previous").mkdir()
    (tmp_path / "wells.csv").write_bytes(b"whole")
    sweep(tmp_path, tmp_path / "absent")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [".previous", "wells.csv"]


def test_temporary_names_are_hidden_and_never_meet(tmp_path: Path) -> None:
    names = {temporary_path(tmp_path / "B03.parquet").name for _ in range(100)}
    assert len(names) == 100
    assert all(name.startswith(".") for name in names)
