"""A plate that lies at a URL, processed: the same tables and label images as from a disk, whatever the line does."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import boto3
import numpy as np
import pandas as pd
import pytest

from hcs_nuclei import read_fields, read_nuclei, read_wells
from hcs_nuclei.outputs import read_level
from hcs_nuclei.pipeline import process_plate
from hcs_nuclei.settings import Settings
from hcs_nuclei.simulate import simulate_plate

pytest.importorskip("moto", reason="needs moto, an S3 server for tests: pip install 'hcs-nuclei[dev]'")

from remote_samples import Endpoint, s3_endpoint, upload

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
FORMATS = ("imagexpress", "ome-zarr")
#: The copies of a worker may take no more than this: less than two of the plate's wells.
SMALL = {"staging": {"limit_gib": 400_000 / 1024**3}}


@dataclass(frozen=True)
class Both:
    """The same plate processed from a disk and from a bucket; `broken` connections were cut in `requests`."""

    here: Path
    there: Path
    url: str
    requests: int
    broken: int
    staged: tuple[str, ...]


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Endpoint]:
    with pytest.MonkeyPatch.context() as patch, s3_endpoint(patch) as server:
        yield server


@pytest.fixture(scope="module", params=FORMATS)
def both(request: pytest.FixtureRequest, endpoint: Endpoint, tmp_path_factory: pytest.TempPathFactory) -> Both:
    """Worker processes of their own read the bucket, and one connection in ten is cut before it is answered."""
    folder = tmp_path_factory.mktemp(request.param)
    plate = simulate_plate(folder / "plates", format=request.param, wells=3, fields=2, size=192, seed=4).directory
    upload(endpoint, plate, request.param, f"screen/{plate.name}/")
    url = f"s3://{request.param}/screen/{plate.name}"
    settings = Settings.model_validate(SMALL)
    here = process_plate(plate, folder / "here", settings, workers=1)
    first = endpoint.requests
    copies = folder / "copies"
    copies.mkdir()
    endpoint.every, endpoint.broken = 10, 0
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TMPDIR", str(copies))  # of the workers: this process knows its own already
            there = process_plate(url, folder / "there", settings, workers=2)
    finally:
        endpoint.every = 0
    assert (here.exit_status, there.exit_status) == (0, 0)
    return Both(
        here.run_dir,
        there.run_dir,
        url,
        endpoint.requests - first,
        endpoint.broken,
        tuple(path.name for path in copies.glob("hcs-nuclei-staged-*")),
    )


def test_connections_were_cut(both: Both) -> None:
    assert both.broken >= 3
    assert both.requests // 10 - 1 <= both.broken <= both.requests // 10 + 1


def test_the_tables_are_those_from_a_disk(both: Both) -> None:
    for read in (read_nuclei, read_fields, read_wells):
        pd.testing.assert_frame_equal(read(both.there), read(both.here), check_exact=True)
    assert len(read_nuclei(both.there)) > 10
    assert (both.there / "wells.csv").read_bytes() == (both.here / "wells.csv").read_bytes()


def test_the_label_images_are_those_from_a_disk(both: Both) -> None:
    for row in read_fields(both.here).itertuples():
        where = row.Metadata_Well, row.Metadata_Field
        here, there = (read_level(run / "plate.ome.zarr", *where, labels=True) for run in (both.here, both.there))
        np.testing.assert_array_equal(there, here)


def test_a_run_says_where_its_plate_lies(both: Both) -> None:
    source = json.loads((both.there / "run.json").read_text())["source"]
    assert source["directory"].startswith(both.url)
    for text in (both.there / "run.json", both.there / "report.html"):
        assert "hcs-nuclei-staged" not in text.read_text(encoding="utf-8")


def test_workers_leave_no_copies(both: Both) -> None:
    assert both.staged == ()


def test_a_second_start_does_nothing_and_a_changed_image_is_said(both: Both, endpoint: Endpoint) -> None:
    if "ome-zarr" in both.url:
        pytest.skip("the same code; a chunk is as good as an image")
    again = process_plate(both.url, both.there.parent, Settings.model_validate(SMALL))
    assert (again.made, again.kept) == (0, 3)
    client = boto3.client("s3", endpoint_url=endpoint.url)
    bucket = both.url.split("/")[2]
    keys = [e["Key"] for e in client.list_objects_v2(Bucket=bucket)["Contents"] if e["Key"].endswith(".TIF")]
    former = client.get_object(Bucket=bucket, Key=keys[0])["Body"].read()
    client.put_object(Bucket=bucket, Key=keys[0], Body=former[:-1] + bytes([former[-1] ^ 1]))
    ended = _command("process", both.url, "--out", str(both.there.parent), "--no-prefect")
    client.put_object(Bucket=bucket, Key=keys[0], Body=former)
    assert ended.returncode == 2, ended.stderr
    assert "changed since they were processed" in ended.stderr


def test_a_truncated_object_costs_its_field(endpoint: Endpoint, tmp_path: Path) -> None:
    plate = simulate_plate(tmp_path / "plates", wells=2, fields=2, size=128, seed=9).directory
    image = sorted(p for p in plate.rglob("*_w1.TIF"))[0]
    image.write_bytes(image.read_bytes()[:-200])
    upload(endpoint, plate, "truncated", "p/")

    ended = _command("process", "s3://truncated/p", "--out", str(tmp_path / "out"), "--no-prefect", "--workers", "1")

    assert ended.returncode == 3, ended.stderr
    assert image.name in ended.stderr
    assert "hcs-nuclei-staged" not in ended.stderr
    fields = read_fields(tmp_path / "out")
    assert sorted(fields.status) == ["ok", "ok", "ok", "unreadable"]


@pytest.mark.parametrize("command", [("inspect",), ("process", "--out", "out")])
def test_a_bucket_that_is_not_there_is_said(command: tuple[str, ...], endpoint: Endpoint, tmp_path: Path) -> None:
    name, *rest = command
    ended = _command(name, "s3://no-such-bucket/plate", *rest, cwd=tmp_path)
    assert ended.returncode in (1, 2)
    assert "s3://no-such-bucket/plate" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "out").exists()


def _command(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-c", "import sys; from hcs_nuclei.cli import main; sys.exit(main())"]
    return subprocess.run([*program, *arguments], capture_output=True, text=True, cwd=cwd, timeout=300, check=False)
