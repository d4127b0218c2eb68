"""The commands for loose images, segment and evaluate."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from command_line import Run, in_shell
from pipeline_runs import FinishedRun, snapshot

pytestmark = pytest.mark.usefixtures("plain_surroundings")


def test_segment_never_writes_over_an_image_or_a_label_image_of_another(
    finished: FinishedRun, tmp_path: Path, run: Run
) -> None:
    image = shutil.copy2(next(finished.plate.rglob("*_w1.TIF")), tmp_path / "a.tif")
    twin = shutil.copy2(image, tmp_path / "a.TIF")
    before = snapshot(tmp_path)
    said = run("segment", image, "--out", tmp_path)
    assert (said.status, said.out) == (2, "")
    assert "would take its place" in said.err
    said = run("segment", image, twin, "--out", tmp_path / "labels")
    assert (said.status, said.out) == (2, "")
    assert "Several images are named a" in said.err
    assert snapshot(tmp_path) == before


def test_segment_writes_again_what_it_wrote_and_nothing_else(finished: FinishedRun, tmp_path: Path, run: Run) -> None:
    field = finished.plate / "TimePoint_1" / "SIM-0001_B02_s1_w1.TIF"
    (tmp_path / "out").mkdir()
    raw = Path(shutil.copy2(field, tmp_path / "out" / "a.tif"))
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(tifffile.imread(field)))
    before = raw.read_bytes()
    said = run("segment", tmp_path / "a.png", "--out", tmp_path / "out")
    assert (said.status, said.out) == (2, "")
    assert "a.tif: there already, and not written by hcs-nuclei segment. Choose another --out" in said.err
    assert raw.read_bytes() == before

    raw.unlink()
    for _ in range(2):
        assert run("segment", tmp_path / "a.png", "--out", tmp_path / "out").status == 0
    assert tifffile.imread(raw).max() > 0


def test_segment_of_a_file_with_several_pages_asks_which(finished: FinishedRun, tmp_path: Path, run: Run) -> None:
    field = tifffile.imread(finished.plate / "TimePoint_1" / "SIM-0001_B02_s1_w1.TIF")
    tifffile.imwrite(tmp_path / "stack.tif", np.stack([field * 0, field]), photometric="minisblack")
    said = run("segment", tmp_path / "stack.tif", tmp_path, "--out", tmp_path / "out")
    assert said.status == 3
    assert (
        "stack.tif has 2 pages (channels, planes or time points); expected one image. Say which with --page" in said.err
    )
    assert "is a directory; expected a TIFF or PNG image" in said.err
    counts = []
    for page in (1, 2):
        said = run("segment", tmp_path / "stack.tif", "--out", tmp_path / "out", "--page", page)
        counts.append(int(next(csv.DictReader(io.StringIO(said.out)))["nuclei"]))
    assert counts[0] == 0 < counts[1]


def test_segment_takes_grey_and_colour_and_names_what_is_damaged(finished: FinishedRun, tmp_path: Path) -> None:
    source = finished.plate / "TimePoint_1" / "SIM-0001_B02_s1_w1.TIF"
    pixels: Any = tifffile.imread(source)
    small = (pixels.astype(float) * 255 / pixels.max()).astype(np.uint8)
    images = tmp_path / "images"
    images.mkdir()
    colour = np.stack([small, small // 2, small], axis=2)
    (images / "grey.png").write_bytes(imagecodecs.png_encode(small))
    (images / "rgb.png").write_bytes(imagecodecs.png_encode(colour))
    tifffile.imwrite(images / "colour.tif", colour, photometric="rgb")
    shutil.copy2(source, images / "field.TIF")
    (images / "damaged.tif").write_bytes(source.read_bytes()[:3000])
    tifffile.imwrite(images / "blank.tif", np.zeros((100, 120), np.uint16))
    names = ["grey.png", "rgb.png", "colour.tif", "field.TIF", "damaged.tif", "absent.tif", "blank.tif"]

    said = in_shell("segment", *(images / name for name in names), "--out", tmp_path / "labels")

    assert said.status == 3
    rows = list(csv.DictReader(io.StringIO(said.out)))
    assert [Path(row["image"]).name for row in rows] == names
    for row in rows:
        label_file = tmp_path / "labels" / f"{Path(row['image']).stem}.tif"
        if Path(row["image"]).stem in {"damaged", "absent"}:
            assert row["error"]
            assert not label_file.exists()
            continue
        labels: Any = tifffile.imread(label_file)
        assert labels.dtype == np.uint32
        assert labels.shape == (int(row["height"]), int(row["width"]))
        assert np.unique(labels[labels > 0]).size == int(row["nuclei"]) == labels.max()
        assert (row["error"], int(row["nuclei"]) > 0) == ("", Path(row["image"]).stem != "blank")
    lines = said.err.splitlines()
    assert [line.split(": ")[0] for line in lines] == ["hcs-nuclei", "hcs-nuclei"], said.err
    assert "damaged.tif" in lines[0]
    assert "absent.tif" in lines[1]


def test_evaluate_a_folder_of_images_and_labels(finished: FinishedRun, tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "images").mkdir(parents=True)
    (data / "labels").mkdir()
    rows = ["name,split"]
    for well, split in (("B02", "test"), ("C02", "test"), ("C03", "train")):
        shutil.copy2(finished.plate / "TimePoint_1" / f"SIM-0001_{well}_s1_w1.TIF", data / "images" / f"{well}.tif")
        shutil.copy2(finished.truth / "labels" / f"{well}_f1.tif", data / "labels" / f"{well}.tif")
        rows.append(f"{well},{split}")
    (data / "index.csv").write_text("\n".join(rows) + "\n")
    said = in_shell("evaluate", "--data", data, "--json", "-")
    assert (said.status, said.err) == (0, "")
    figures = json.loads(said.out)
    truth = [tifffile.imread(data / "labels" / f"{well}.tif") for well in ("B02", "C02")]
    assert (figures["images"], figures["nuclei"]) == (2, sum(np.unique(labels[labels > 0]).size for labels in truth))
    assert figures["pooled_ap"]["0.50"] > 0.5


def test_evaluate_names_what_it_cannot_use(tmp_path: Path, run: Run) -> None:
    said = run("evaluate", "--data", tmp_path / "absent")
    assert said.status == 2
    assert "does not exist" in said.err
    (tmp_path / "data" / "images").mkdir(parents=True)
    (tmp_path / "data" / "labels").mkdir()
    tifffile.imwrite(tmp_path / "data" / "images" / "a.tif", np.zeros((9, 9), np.uint8))
    (tmp_path / "data" / "index.csv").write_text("name,split\na,test\n")
    said = run("evaluate", "--data", tmp_path / "data")
    assert said.status == 2
    assert "a: no label image" in said.err
