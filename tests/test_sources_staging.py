"""Copies of files at URLs: never more of them here than allowed, never an old one for a new one, none left behind."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import numpy as np
import pytest

from hcs_nuclei.errors import NotAPlateError
from hcs_nuclei.sources.remote import RemoteDirectory
from hcs_nuclei.sources.staging import Staging

pytest.importorskip("moto", reason="needs moto, an S3 server for tests: pip install 'hcs-nuclei[dev]'")

from remote_samples import Endpoint, s3_endpoint, upload

CONTENT = {f"Images/f{n:02}.tif": np.random.default_rng(n).bytes(20_000 + n) for n in range(12)}


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Endpoint]:
    with s3_endpoint(monkeypatch) as server:
        for name, content in CONTENT.items():
            (tmp_path / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "source" / name).write_bytes(content)
        upload(server, tmp_path / "source", "screen")
        yield server


def _held(staging: Staging) -> int:
    return sum(path.stat().st_size for path in staging.root.rglob("*") if path.is_file())


def test_the_cache_stays_within_its_limit_and_keeps_what_is_in_use(endpoint: Endpoint, tmp_path: Path) -> None:
    remote = RemoteDirectory("s3://screen").list_files()
    names = list(remote.files)
    staging = Staging(limit=50_000, parent=tmp_path)
    place = staging.place_of("s3://screen")
    with staging.hold(remote, names[:2]) as lost:
        assert not lost
        for name in names[2:]:
            with staging.hold(remote, [name]):
                assert (place / name).read_bytes() == CONTENT[name]
            assert _held(staging) <= 65_000
        assert all((place / name).read_bytes() == CONTENT[name] for name in names[:2])
    assert _held(staging) <= 50_000
    staging.close()
    assert not staging.root.exists()


def test_threads_that_want_one_file_copy_it_once(endpoint: Endpoint, tmp_path: Path) -> None:
    remote = RemoteDirectory("s3://screen").list_files()
    name = next(iter(remote.files))
    staging = Staging(parent=tmp_path)
    staging.remote("s3://screen")
    before = endpoint.requests

    def read(_: int) -> bytes:
        with staging.hold(remote, [name]):
            return (staging.place_of("s3://screen") / name).read_bytes()

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(read, range(32))) == {CONTENT[name]}
    assert endpoint.requests - before <= 2  # a HEAD and a GET


def test_a_file_that_cannot_be_had_costs_no_other(endpoint: Endpoint, tmp_path: Path) -> None:
    remote = RemoteDirectory("s3://screen").list_files()
    first, second = list(remote.files)[:2]
    boto3.client("s3", endpoint_url=endpoint.url).delete_object(Bucket="screen", Key=first)
    staging = Staging(parent=tmp_path)

    with staging.hold(remote, [first, second]) as lost:
        assert list(lost) == [first]
        assert "is not at s3://screen any more" in str(lost[first])
        assert (staging.place_of("s3://screen") / second).read_bytes() == CONTENT[second]
    with pytest.raises(NotAPlateError, match="not at s3://screen any more"):
        staging.bring(remote, [first])


def test_a_file_that_changed_is_copied_anew(endpoint: Endpoint, tmp_path: Path) -> None:
    directory = RemoteDirectory("s3://screen")
    before = directory.list_files()
    name = next(iter(before.files))
    staging = Staging(parent=tmp_path)
    with staging.hold(before, [name]):
        pass
    boto3.client("s3", endpoint_url=endpoint.url).put_object(Bucket="screen", Key=name, Body=b"other")
    after = directory.list_files()

    assert after.files[name] != before.files[name]
    with staging.hold(after, [name]):
        assert (staging.place_of("s3://screen") / name).read_bytes() == b"other"


def test_places_and_urls_lead_to_each_other(tmp_path: Path) -> None:
    staging = Staging(parent=tmp_path)
    place = staging.place_of("https://host:8080/a/plate 1")

    assert place.name == "plate 1"
    assert staging.url_of(place) == "https://host:8080/a/plate 1"
    assert staging.url_of(place.parent) == "https://host:8080/a"
    assert staging.url_of(tmp_path) == ""
    assert staging.in_words(f"{place}/Index.xml is damaged") == "https://host:8080/a/plate 1/Index.xml is damaged"


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    words = (
        "import os, signal, sys; from pathlib import Path; from hcs_nuclei.sources.staging import Staging;"
        "print(Staging(parent=Path(sys.argv[1])).root, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    process = subprocess.run([sys.executable, "-c", words, str(tmp_path)], capture_output=True, text=True, check=False)
    left = Path(process.stdout.strip())
    assert left.is_dir()
    elsewhere = tmp_path / "hcs-nuclei-staged-anothermachine-1-x"
    elsewhere.mkdir()
    own = Staging(parent=tmp_path)
    other = Staging(parent=tmp_path)

    assert not left.exists()
    assert own.root.exists()
    assert elsewhere.exists()
    own.close()
    other.close()


def test_a_copy_that_somebody_removed_is_fetched_again(tmp_path: Path) -> None:
    (tmp_path / "plate").mkdir()
    (tmp_path / "plate" / "a.tif").write_bytes(b"x")
    staging = Staging(parent=tmp_path)
    remote = staging.remote(f"file://{tmp_path}/plate").list_files()
    staging.bring(remote, ["a.tif"])
    copy = staging.place_of(remote.url) / "a.tif"
    copy.unlink()
    staging.bring(remote, ["a.tif"])
    assert copy.read_bytes() == b"x"
    staging.close()


def test_a_process_takes_its_copies_with_it(tmp_path: Path) -> None:
    words = "from hcs_nuclei.sources.staging import shared_staging; print(shared_staging().root)"
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    run = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, env=environment, check=True)

    assert run.stdout.startswith(str(tmp_path))
    assert not list(tmp_path.iterdir())
