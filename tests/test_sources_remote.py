"""Files at a URL: listed, copied whole, checked, tried again, and never more of them here than allowed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from hcs_nuclei.errors import NotAPlateError, PlaneError
from hcs_nuclei.sources.remote import RemoteDirectory, RemoteFile, Staging, is_url

pytest.importorskip("moto", reason="needs moto, an S3 server for tests: pip install 'hcs-nuclei[dev]'")

from remote_samples import Endpoint, s3_endpoint, upload

CONTENT = {f"Images/f{n:02}.tif": np.random.default_rng(n).bytes(20_000 + n) for n in range(12)} | {
    "Index.xml": b"<x/>"
}


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Endpoint]:
    with s3_endpoint(monkeypatch) as server:
        source = tmp_path / "source"
        for name, content in CONTENT.items():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes(content)
        upload(server, source, "screen")
        yield server


def _remote(url: str = "s3://screen", attempts: int = 7) -> RemoteDirectory:
    return RemoteDirectory(url, attempts=attempts, first_pause_s=0.01)


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("s3://bucket/plate", True),
        ("https://host/p", True),
        ("/data/plate", False),
        ("C:\\plates", False),
        ("a:b", False),
    ],
)
def test_a_url_is_told_from_a_path(place: str, expected: bool) -> None:
    assert is_url(place) == expected
    assert not is_url(Path(place))


def test_every_file_is_listed_with_its_size_and_checksum(endpoint: Endpoint) -> None:
    found = _remote().list_files()

    assert list(found) == sorted(CONTENT)
    assert {name: file.size for name, file in found.items()} == {n: len(c) for n, c in CONTENT.items()}
    assert all(len(file.md5) == 32 and file.version for file in found.values())
    assert list(_remote("s3://screen/Images/").list_files()) == [f"f{n:02}.tif" for n in range(12)]


def test_files_arrive_whole_though_one_connection_in_ten_breaks(endpoint: Endpoint, tmp_path: Path) -> None:
    remote = _remote()
    files = remote.list_files()
    endpoint.every = 10
    for round_ in range(3):
        for name, file in files.items():
            remote.fetch(name, tmp_path / str(round_) / name, file)
            assert (tmp_path / str(round_) / name).read_bytes() == CONTENT[name]

    assert endpoint.broken >= 3
    assert not list(tmp_path.rglob("*.part"))


def test_a_connection_that_stays_dead_is_said(endpoint: Endpoint, tmp_path: Path) -> None:
    remote = _remote(attempts=2)
    files = remote.list_files()
    endpoint.every = 1

    with pytest.raises(PlaneError, match=r"Images/f03\.tif cannot be copied from s3://screen: "):
        remote.fetch("Images/f03.tif", tmp_path / "f03.tif", files["Images/f03.tif"])
    with pytest.raises(NotAPlateError, match=r"s3://screen cannot be listed: .*Check the address and your credentials"):
        _remote(attempts=2).list_files()
    assert list(tmp_path.iterdir()) == [tmp_path / "source"]


def test_what_is_not_there_is_said(endpoint: Endpoint, tmp_path: Path) -> None:
    with pytest.raises(PlaneError, match=r"gone\.tif is not at s3://screen any more") as caught:
        _remote().fetch("gone.tif", tmp_path / "gone.tif")
    assert caught.value.fault == "missing"
    with pytest.raises(NotAPlateError, match=r"There is nothing at s3://screen/other|cannot be listed"):
        _remote("s3://screen/other").list_files()


@pytest.mark.parametrize(
    ("expected", "words"),
    [(RemoteFile(7, "v"), "20,003 bytes instead of 7"), (RemoteFile(0, "v"), "20,003 bytes instead of 0")],
)
def test_a_copy_of_another_size_is_refused(
    endpoint: Endpoint, tmp_path: Path, expected: RemoteFile, words: str
) -> None:
    with pytest.raises(PlaneError, match=f"arrives damaged from s3://screen: {words}") as caught:
        _remote(attempts=2).fetch("Images/f03.tif", tmp_path / "f03.tif", expected)
    assert caught.value.fault == "truncated"
    assert not (tmp_path / "f03.tif").exists()


def test_an_etag_that_is_no_checksum_is_believed_when_two_copies_agree(endpoint: Endpoint, tmp_path: Path) -> None:
    encrypted = RemoteFile(len(CONTENT["Images/f03.tif"]), "v", md5="0" * 32)

    _remote(attempts=2).fetch("Images/f03.tif", tmp_path / "f03.tif", encrypted)
    assert (tmp_path / "f03.tif").read_bytes() == CONTENT["Images/f03.tif"]
    with pytest.raises(PlaneError, match="checksum"):
        _remote(attempts=1).fetch("Images/f03.tif", tmp_path / "once.tif", encrypted)


def test_the_cache_stays_within_its_limit_and_keeps_what_is_in_use(endpoint: Endpoint, tmp_path: Path) -> None:
    remote = _remote()
    files = list(remote.list_files().items())
    staging = Staging(remote, limit=50_000, parent=tmp_path)
    with staging.hold(files[:2]) as root:
        for one in files[2:]:
            with staging.hold([one]) as same:
                assert same == root
                assert (root / one[0]).read_bytes() == CONTENT[one[0]]
            assert sum(p.stat().st_size for p in root.rglob("*") if p.is_file()) <= 65_000
        assert all((root / name).read_bytes() == CONTENT[name] for name, _ in files[:2])
    assert sum(p.stat().st_size for p in root.rglob("*") if p.is_file()) <= 50_000
    staging.close()
    assert not root.exists()


def test_threads_that_want_one_file_copy_it_once(endpoint: Endpoint, tmp_path: Path) -> None:
    remote = _remote()
    name, file = next(iter(remote.list_files().items()))
    staging = Staging(remote, parent=tmp_path)
    before = endpoint.requests

    def read(_: int) -> bytes:
        with staging.hold([(name, file)]) as root:
            return (root / name).read_bytes()

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(read, range(32))) == {CONTENT[name]}
    assert endpoint.requests - before <= 2  # a HEAD and a GET


def test_what_a_killed_process_left_is_removed(endpoint: Endpoint, tmp_path: Path) -> None:
    process = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    left = tmp_path / f"hcs-nuclei-staged-{process.stdout.decode().strip()}-x"
    own = tmp_path / f"hcs-nuclei-staged-{os.getpid()}-x"
    for directory in (left, own):
        directory.mkdir()
        (directory / "a.tif").write_bytes(b"x")
    Staging(_remote(), parent=tmp_path)

    assert not left.exists()
    assert own.exists()


def test_a_url_of_an_unknown_kind_is_refused_with_advice() -> None:
    with pytest.raises(NotAPlateError, match=r"floppy://a cannot be opened: .*Use s3, gs or https"):
        RemoteDirectory("floppy://a")
    with pytest.raises(NotAPlateError, match=r"Install gcsfs: pip install 'hcs-nuclei\[gs\]'"):
        RemoteDirectory("gs://bucket/plate")
