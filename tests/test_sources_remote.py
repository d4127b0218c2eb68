"""Files at a URL: listed, copied whole or read in parts, checked, tried again; what is wrong is said in words."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest

from hcs_nuclei.errors import NotAPlateError, OutputError, PlaneError
from hcs_nuclei.plate import RemoteFile, RemoteFiles
from hcs_nuclei.sources.remote import RemoteDirectory, address_of, is_url

pytest.importorskip("moto", reason="needs moto, an S3 server for tests: pip install 'hcs-nuclei[dev]'")

from remote_samples import Endpoint, s3_endpoint, upload, web_server

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
    found = _remote().list_files().files

    assert list(found) == sorted(CONTENT)
    assert {name: file.size for name, file in found.items()} == {n: len(c) for n, c in CONTENT.items()}
    assert all(len(file.md5) == 32 and file.version for file in found.values())
    assert list(_remote("s3://screen/Images/").list_files().files) == [f"f{n:02}.tif" for n in range(12)]


def test_files_arrive_whole_though_one_connection_in_ten_breaks(endpoint: Endpoint, tmp_path: Path) -> None:
    remote = _remote()
    files = remote.list_files().files
    endpoint.every = 10
    for round_ in range(3):
        for name, file in files.items():
            remote.fetch(name, tmp_path / str(round_) / name, file)
            assert (tmp_path / str(round_) / name).read_bytes() == CONTENT[name]

    assert endpoint.broken >= 3
    assert not list(tmp_path.rglob("*.part"))


def test_a_connection_that_stays_dead_is_said(endpoint: Endpoint, tmp_path: Path) -> None:
    remote = _remote(attempts=2)
    files = remote.list_files().files
    endpoint.every = 1

    with pytest.raises(PlaneError, match=r"Images/f03\.tif cannot be copied from s3://screen: ") as caught:
        remote.fetch("Images/f03.tif", tmp_path / "f03.tif", files["Images/f03.tif"])
    assert caught.value.fault == "unreachable"
    with pytest.raises(NotAPlateError, match=r"s3://screen cannot be listed: .*Check the address and your credentials"):
        _remote(attempts=2).list_files()
    assert list(tmp_path.iterdir()) == [tmp_path / "source"]


def test_what_is_not_there_is_said(endpoint: Endpoint, tmp_path: Path) -> None:
    with pytest.raises(PlaneError, match=r"gone\.tif is not at s3://screen any more") as caught:
        _remote().fetch("gone.tif", tmp_path / "gone.tif")
    assert caught.value.fault == "missing"
    for url in ("s3://screen/other", "s3://screen/Image", "s3://no-such-bucket/plate"):
        before = endpoint.requests
        with pytest.raises(NotAPlateError, match=rf"There is nothing at {url}\. Check the address, the bucket's name"):
            _remote(url).list_files()
        assert endpoint.requests - before < 5, "what is not there is asked for once"


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


def test_a_url_of_an_unknown_kind_is_refused_with_advice() -> None:
    with pytest.raises(NotAPlateError, match=r"floppy://a cannot be opened: .*Use s3, gs or https"):
        RemoteDirectory("floppy://a")
    with pytest.raises(NotAPlateError, match=r"Install gcsfs: pip install 'hcs-nuclei\[gs\]'"):
        RemoteDirectory("gs://bucket/plate")


@pytest.mark.parametrize(
    "address", ["https://me:secret@host/plate", "https://host/plate?X-Amz-Signature=secret", "s3://key:secret@bucket/p"]
)
def test_an_address_with_a_secret_in_it_is_refused_without_repeating_it(address: str) -> None:
    with pytest.raises(NotAPlateError, match=r"would stand in run\.json") as caught:
        address_of(address)
    assert "secret" not in str(caught.value)


def test_addresses_are_told_from_paths_and_go_nowhere_else() -> None:
    assert address_of("s3://bucket/plate 1/") == "s3://bucket/plate 1"
    assert address_of("plates/one") == Path("plates/one")
    assert address_of("file:///data/plate%201") == Path("/data/plate 1")
    with pytest.raises(NotAPlateError, match="goes upwards"):
        address_of("s3://bucket/../../etc")


def test_names_that_would_leave_the_place_of_copies_are_not_taken(endpoint: Endpoint) -> None:
    client = boto3.client("s3", endpoint_url=endpoint.url)
    for name in ("plate/good.tif", "plate/../../../etc/evil.tif", "plate//twice.tif", "plate/back\\slash.tif"):
        client.put_object(Bucket="screen", Key=name, Body=b"x")

    assert list(_remote("s3://screen/plate").list_files().files) == ["good.tif"]


def test_parts_of_a_file_are_read_where_they_are(endpoint: Endpoint) -> None:
    remote = _remote()
    content = CONTENT["Images/f03.tif"]
    endpoint.every = 3
    with remote.open("Images/f03.tif", len(content)) as file:
        file.seek(-3, 2)
        assert file.read() == content[-3:]
        file.seek(5)
        assert file.read(7) == content[5:12]
        file.seek(0)
        assert file.read() == content
    assert endpoint.broken >= 1
    endpoint.every = 1
    with (
        _remote(attempts=2).open("Images/f03.tif", len(content)) as file,
        pytest.raises(PlaneError, match="cannot be read from s3://screen"),
    ):
        file.read(1)


def test_without_credentials_or_permission_it_is_said_at_once(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError("Access Denied")

    remote = _remote()
    monkeypatch.setattr(remote._files, "find", refuse)
    with pytest.raises(NotAPlateError, match=r"there is no permission to list it \(Access Denied\)"):
        remote.list_files()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    remote._files.clear_instance_cache()
    with pytest.raises(NotAPlateError, match="no credentials are found"):
        _remote().list_files()


def test_a_full_disk_ends_the_run_and_not_one_field(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fill(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    remote = _remote()
    monkeypatch.setattr(remote._files, "get_file", fill)
    with pytest.raises(OutputError, match=r"No space left on device\)\. Name a larger disk with TMPDIR"):
        remote.fetch("Index.xml", tmp_path / "Index.xml")


def test_a_web_server_that_lists_its_files_is_enough(tmp_path: Path) -> None:
    (tmp_path / "plate one" / "Images").mkdir(parents=True)
    (tmp_path / "plate one" / "Images" / "A - 01(fld 1 #2).tif").write_bytes(b"0123456789")
    (tmp_path / "plate one" / "index.xml").write_bytes(b"<x/>")
    with web_server(tmp_path) as url:
        remote = _remote(f"{url}/plate one")
        files = remote.list_files()
        assert {name: file.size for name, file in files.files.items()} == {
            "Images/A - 01(fld 1 #2).tif": 10,
            "index.xml": 4,
        }
        assert all(file.version for file in files.files.values())
        name = "Images/A - 01(fld 1 #2).tif"
        remote.fetch(name, tmp_path / "copy.tif", files.files[name])
        assert (tmp_path / "copy.tif").read_bytes() == b"0123456789"
        with remote.open(name, 10) as file:
            file.seek(4)
            assert file.read(3) == b"456"
        with pytest.raises(NotAPlateError, match=r"There is nothing at .* a page that lists the files"):
            _remote(f"{url}/nowhere").list_files()


def test_files_below_a_directory_are_found_by_their_names() -> None:
    file = RemoteFile(1, "v")
    names = ["a-b", "a/1", "a/2/3", "a0", "ab/1"]
    files = RemoteFiles("s3://b", dict.fromkeys(names, file))

    assert files.below("a") == ("a/1", "a/2/3")
    assert files.below("a0") == ("a0",)
    assert files.below("c") == ()
    assert list(files.only(["ab", "a-b"]).files) == ["a-b", "ab/1"]
