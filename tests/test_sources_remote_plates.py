"""Plates at URLs: every vendor's is seen there as it is on a disk, and nothing of it is copied but metadata."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest

from hcs_nuclei.errors import NotAPlateError
from hcs_nuclei.plate import Plate
from hcs_nuclei.simulate import simulate_plate
from hcs_nuclei.sources import check_completeness, check_files, inspection, open_plate
from hcs_nuclei.sources.listing import IMAGE_SUFFIXES
from hcs_nuclei.sources.planes import read_image
from hcs_nuclei.sources.remote_planes import image_reader

pytest.importorskip("moto", reason="needs moto, an S3 server for tests: pip install 'hcs-nuclei[dev]'")

from remote_samples import Endpoint, s3_endpoint, upload, web_server

FORMATS = (
    "imagexpress",
    "imagexpress-raw",
    "imagexpress-hcsai",
    "operetta",
    "operetta-4",
    "columbus",
    "cellvoyager",
    "cq1",
    "cellomics",
    "incell",
    "scanr",
    "ome-tiff",
    "ome-zarr",
    "ome-zarr-0.4",
)


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Endpoint]:
    with pytest.MonkeyPatch.context() as patch, s3_endpoint(patch) as server:
        yield server


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Any:
    made: dict[str, Path] = {}

    def directory(format_name: str) -> Path:
        if format_name not in made:
            folder = tmp_path_factory.mktemp(format_name)
            made[format_name] = simulate_plate(folder, format=format_name, wells=2, fields=2, size=64).directory
        return made[format_name]

    return directory


def _found(plate: Plate) -> dict[str, Any]:
    return {name: value for name, value in inspection(plate, check_files(plate)).items() if name != "root"}


def _bucket(endpoint: Endpoint, directory: Path, bucket: str) -> str:
    """The URL of `directory`, which is put into a new bucket under its own name."""
    upload(endpoint, directory, bucket, f"plates/{directory.name}/")
    return f"s3://{bucket}/plates/{directory.name}"


@pytest.mark.parametrize("format_name", FORMATS)
def test_a_plate_in_a_bucket_is_seen_as_on_the_disk(format_name: str, endpoint: Endpoint, simulated: Any) -> None:
    directory = simulated(format_name)
    url = _bucket(endpoint, directory, format_name)
    here, there = open_plate(directory), open_plate(url)

    assert (there.wells, there.channels, there.name) == (here.wells, here.channels, here.name)
    assert _found(there) == _found(here)
    below = here.root.relative_to(directory.resolve()).as_posix()  # vendors put the plate into folders of their own
    assert inspection(there)["root"] == there.place == (url if below == "." else f"{url}/{below}")
    assert there.remote is not None
    copies = [path for path in there.root.rglob("*") if path.is_file()]
    assert not [path for path in copies if path.name.lower().endswith(IMAGE_SUFFIXES)]
    site, channel = there.wells[1].fields[1], there.channels[0]
    planes = site.planes_of(channel.token, 0)
    with image_reader(there.root, there.remote.only(p.path for p in planes), planes) as read:
        assert np.array_equal(read(planes), read_image(here.root, planes))


def test_a_damaged_plate_in_a_bucket_is_judged_as_on_the_disk(
    endpoint: Endpoint, simulated: Any, tmp_path: Path
) -> None:
    directory = tmp_path / "plate"
    shutil.copytree(simulated("imagexpress"), directory)
    images = sorted(p for p in directory.rglob("*") if p.suffix.lower() == ".tif")
    images[0].write_bytes(b"")
    images[1].write_bytes(images[1].read_bytes()[:-100])
    images[2].write_bytes(b"no image at all" * 100)
    images[3].unlink()
    url = _bucket(endpoint, directory, "damaged")
    there = _found(open_plate(url))

    assert there == _found(open_plate(directory))
    assert {kind for kind, count in there["fault_counts"].items() if count} == {
        "zero-byte",
        "truncated",
        "wrong-type",
        "missing",
    }


@pytest.mark.parametrize(
    ("format_name", "inner"),
    [("operetta", "Images"), ("scanr", "data"), ("ome-zarr", "B"), ("ome-zarr-0.4", "B/02/0")],
)
def test_an_inner_directory_is_as_good_as_the_plate(
    format_name: str, inner: str, endpoint: Endpoint, simulated: Any
) -> None:
    directory = simulated(format_name)
    url = _bucket(endpoint, directory, f"inner-{format_name.replace('.', '-')}")
    inner = (
        inner
        if (directory / inner).is_dir()
        else "/".join(open_plate(directory).wells[0].fields[0].planes[0].path.split("/")[:2])
    )

    assert open_plate(f"{url}/{inner}").place == url


def test_a_directory_of_several_plates_names_them_by_their_urls(endpoint: Endpoint, simulated: Any) -> None:
    for format_name in ("imagexpress", "cellomics"):
        upload(endpoint, simulated(format_name), "several", f"day/{format_name}/")

    with pytest.raises(NotAPlateError, match=r"^s3://several/day holds 2 plates: .*Name one of them"):
        open_plate("s3://several/day")
    assert open_plate("s3://several/day/cellomics").vendor == "cellomics"


def test_damaged_metadata_are_named_by_their_url(endpoint: Endpoint, simulated: Any) -> None:
    url = _bucket(endpoint, simulated("operetta"), "index")
    client = boto3.client("s3", endpoint_url=endpoint.url)
    keys = [entry["Key"] for entry in client.list_objects_v2(Bucket="index")["Contents"]]
    index = next(key for key in keys if key.endswith(".xml") and "ndex" in key)
    client.put_object(Bucket="index", Key=index, Body=b"<Evalu")

    with pytest.raises(NotAPlateError, match=rf"^s3://index/{index} is not complete XML"):
        open_plate(url)


def test_what_is_no_plate_is_said_with_its_url(endpoint: Endpoint, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "readme.txt").write_text("nothing")
    url = _bucket(endpoint, tmp_path / "notes", "notes")

    with pytest.raises(NotAPlateError, match=rf"^{url} is not recognised as a plate") as caught:
        open_plate(url)
    assert "staged" not in str(caught.value)


def test_a_pattern_reads_a_bucket_as_a_directory(endpoint: Endpoint, simulated: Any) -> None:
    directory = simulated("cellomics")
    url = _bucket(endpoint, directory, "pattern")
    pattern = r"_(?P<well>[A-P]\d{2})f(?P<field>\d+)d(?P<channel>\d)\.tif"

    assert _found(open_plate(url, pattern=pattern)) == _found(open_plate(directory, pattern=pattern))


@pytest.mark.parametrize("format_name", ["imagexpress", "incell", "ome-zarr"])
def test_a_plate_on_a_web_server_is_seen_as_on_the_disk(format_name: str, simulated: Any) -> None:
    directory = simulated(format_name)
    with web_server(directory.parent) as url:
        there = open_plate(f"{url}/{directory.name}")
        assert _found(there) == _found(open_plate(directory))


def test_a_plate_still_being_copied_into_a_bucket_is_told_from_a_whole_one(endpoint: Endpoint, simulated: Any) -> None:
    directory = simulated("operetta")
    url = _bucket(endpoint, directory, "growing")
    client = boto3.client("s3", endpoint_url=endpoint.url)
    keys = [entry["Key"] for entry in client.list_objects_v2(Bucket="growing")["Contents"]]
    last = next(key for key in reversed(keys) if key.endswith(".tiff"))
    content = client.get_object(Bucket="growing", Key=last)["Body"].read()
    client.delete_object(Bucket="growing", Key=last)

    first = check_completeness(url, quiet=60, now=0)
    assert (first.state, first.found) == ("writing", first.expected - 1)
    second = check_completeness(url, first, quiet=60, now=61)
    assert second.state == "incomplete"
    assert Path(last).name in second.reason or "missing" in second.reason
    client.put_object(Bucket="growing", Key=last, Body=content)
    third = check_completeness(url, second, quiet=60, now=62)
    assert (third.state, third.found) == ("writing", third.expected)
    assert check_completeness(url, third, quiet=60, now=123).state == "complete"


def test_a_dead_endpoint_is_no_fault_of_the_images(
    endpoint: Endpoint, simulated: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plate = open_plate(_bucket(endpoint, simulated("cellomics"), "dead"))
    monkeypatch.setattr("hcs_nuclei.sources.remote.time.sleep", lambda _: None)
    monkeypatch.setattr(endpoint, "every", 1)
    with pytest.raises(NotAPlateError, match=r"The plate cannot be looked at: .* cannot be read from s3://dead"):
        check_files(plate)
