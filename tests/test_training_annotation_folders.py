"""Fields of a run to annotators and back: what they are given, what is refused, what a data set then says."""

from __future__ import annotations

import csv
import errno
import getpass
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from pipeline_runs import FinishedRun, copied, snapshot

from hcs_nuclei.audit import read_audit
from hcs_nuclei.cli import main
from hcs_nuclei.errors import DatasetError, OutputError
from hcs_nuclei.models import read_card
from hcs_nuclei.models.store import SHIPPED
from hcs_nuclei.outputs.ome_zarr import read_level
from hcs_nuclei.training.annotation_export import dense, export_fields, pixels_sha256
from hcs_nuclei.training.annotation_import import SPLITS, import_corrections
from hcs_nuclei.training.annotations import read_annotations, read_dataset

Labels = npt.NDArray[Any]


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HCS_NUCLEI_HOME", str(tmp_path / "home"))


@pytest.fixture
def handed_out(finished: FinishedRun, tmp_path: Path) -> Path:
    """Five of the run's eight fields, as an annotator gets them."""
    export_fields(finished.run, tmp_path / "handed-out", number=5)
    return tmp_path / "handed-out"


def _rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "index.csv").open(newline="") as lines:
        return list(csv.DictReader(lines))


def _confirm(folder: Path, *names: str) -> None:
    """Write yes for these images, for all without names."""
    rows = _rows(folder)
    with (folder / "index.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows({**row, "confirmed": "yes" if not names or row["name"] in names else ""} for row in rows)


def _edit(folder: Path, name: str, edit: Any) -> Labels:
    """Change a label image in place, and store it as napari does: int64, not compressed."""
    path = folder / "labels" / f"{name}.tif"
    labels = tifffile.imread(path).astype(np.int64)
    edit(labels)
    tifffile.imwrite(path, labels)
    return labels


def _erase(labels: Labels) -> None:
    labels[labels == 1] = 0


def test_fields_are_handed_out_as_they_were_imaged_and_segmented(finished: FinishedRun, handed_out: Path) -> None:
    rows = _rows(handed_out)
    card = read_card(SHIPPED)

    assert sorted(path.name for path in handed_out.iterdir()) == ["README.txt", "images", "index.csv", "labels"]
    assert len(rows) == 5
    assert len({row["well"] for row in rows[:4]}) == 4
    assert {row["model_sha256"] for row in rows} == {card.sha256}
    for row in rows:
        image = tifffile.imread(handed_out / "images" / f"{row['name']}.tif")
        labels = tifffile.imread(handed_out / "labels" / f"{row['name']}.tif")
        stored = [
            read_level(finished.run / "plate.ome.zarr", row["well"], int(row["field"]), labels=kind)[0]
            for kind in (False, True)
        ]
        assert row["name"] == f"{finished.run.name}_{row['well']}_f{row['field']}"
        assert image.dtype == stored[0].dtype
        np.testing.assert_array_equal(image, stored[0])
        np.testing.assert_array_equal(labels > 0, stored[1] > 0)
        assert np.unique(labels[labels > 0]).tolist() == list(range(1, int(row["nuclei"]) + 1))
        assert (row["image_sha256"], row["labels_sha256"]) == (pixels_sha256(image), pixels_sha256(labels))
        assert (row["plate"], row["modality"], row["confirmed"]) == ("SIM-0001", "fluorescence", "")
        assert row["reason"]
    assert read_dataset(handed_out).remarks == []  # it is a data set as it stands


def test_the_same_run_gives_the_same_folder(finished: FinishedRun, handed_out: Path, tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()  # an empty one is as good as none
    export_fields([finished.out], tmp_path / "again", number=5)

    for path in handed_out.rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "again" / path.relative_to(handed_out)).read_bytes()


def test_fields_of_runs_of_one_name_are_files_of_their_own(finished: FinishedRun, tmp_path: Path) -> None:
    _, other = copied(finished, tmp_path)
    assert other.name == finished.run.name
    chosen = export_fields([finished.run, other], tmp_path / "handed-out", number=16)

    names = [row["name"] for row in _rows(tmp_path / "handed-out")]
    assert len(chosen) == len(set(names)) == len(list((tmp_path / "handed-out" / "images").iterdir())) == 16


def test_a_field_that_is_nearly_all_nuclei_comes_back(handed_out: Path, tmp_path: Path) -> None:
    rows = _rows(handed_out)
    name = rows[0]["name"]
    image = tifffile.imread(handed_out / "images" / f"{name}.tif")
    full = np.where(np.arange(image.size).reshape(image.shape) % 10 > 0, 1000, 100).astype(image.dtype)
    tifffile.imwrite(handed_out / "images" / f"{name}.tif", full)
    rows[0]["image_sha256"] = pixels_sha256(full)
    with (handed_out / "index.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    _confirm(handed_out)
    import_corrections(handed_out, tmp_path / "set")

    np.testing.assert_array_equal(tifffile.imread(tmp_path / "set" / "images" / f"{name}.tif"), full)


def test_treatments_are_named_and_spread_over(finished: FinishedRun, tmp_path: Path) -> None:
    _, run = copied(finished, tmp_path)
    layout = tmp_path / "layout.csv"
    layout.write_text("well,compound\nB02,DMSO\nB03,DMSO\nC02,taxol\nC03,DMSO\n")
    assert main(["report", str(run), "--layout", str(layout)]) == 0

    chosen = export_fields(run, tmp_path / "handed-out", number=4)
    assert [one.candidate.treatment for one in chosen].count(("Compound=taxol",)) == 2
    assert {row["treatment"] for row in _rows(tmp_path / "handed-out")} == {"Compound=DMSO", "Compound=taxol"}


def test_nothing_is_handed_out_over_something_or_of_nothing(finished: FinishedRun, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "x").touch()
    with pytest.raises(OutputError, match="not an empty directory"):
        export_fields(finished.run, tmp_path / "there", number=2)
    with pytest.raises(OutputError, match="holds no run"):
        export_fields(finished.plate, tmp_path / "out", number=2)
    _, run = copied(finished, tmp_path / "copy")
    record = (run / "run.json").read_text()
    (run / "run.json").write_text(record.replace('"image": true', '"image": false'))
    with pytest.raises(OutputError, match=r"holds no images of its fields, for its recipe says output\.image: false"):
        export_fields(run, tmp_path / "out", number=2)
    assert not list(tmp_path.glob(".tmp-*"))
    assert not (tmp_path / "out").exists()


def test_corrections_come_back_with_where_they_are_from(handed_out: Path, tmp_path: Path) -> None:
    names = [row["name"] for row in sorted(_rows(handed_out), key=lambda row: -int(row["nuclei"]))]
    corrected = _edit(handed_out, names[0], _erase)
    _confirm(handed_out, *names[1:])

    done = import_corrections(handed_out, tmp_path / "set")
    assert (done.changed, sorted(done.confirmed), done.kept) == ((names[0],), sorted(names[1:]), ())
    pairs = {pair.name: pair for pair in read_annotations(tmp_path / "set")}
    assert sorted(pairs) == sorted(names)
    np.testing.assert_array_equal(pairs[names[0]].labels, np.maximum(corrected - 1, 0))  # 1 … n again
    np.testing.assert_array_equal(pairs[names[0]].image, tifffile.imread(handed_out / "images" / f"{names[0]}.tif"))
    rows = {row["name"]: row for row in _rows(tmp_path / "set")}
    before = {row["name"]: row for row in _rows(handed_out)}
    for name in names:
        same = ("plate", "acquisition", "well", "field", "timepoint", "reason", "model", "model_sha256", "run")
        assert all(rows[name][key] == before[name][key] for key in same)
        assert rows[name]["labels"] == ("changed" if name == names[0] else "confirmed")
        assert rows[name]["imported_by"] == getpass.getuser()
        assert int(rows[name]["nuclei"]) == pairs[name].labels.max()
    assert not list((tmp_path / "set").glob(".*"))
    (entry,) = read_audit()
    assert (entry.what, entry.new["changed"], entry.new["confirmed"]) == ("annotations.import", 1, 4)


def test_all_fields_of_a_well_go_to_one_split(finished: FinishedRun, tmp_path: Path) -> None:
    for number, folder in ((4, "first"), (8, "second")):
        export_fields(finished.run, tmp_path / folder, number=number)
        _confirm(tmp_path / folder)
        import_corrections(tmp_path / folder, tmp_path / "set")
        rows = _rows(tmp_path / "set")
        assert len(rows) == number
        assert len({(row["well"], row["split"]) for row in rows}) == len({row["well"] for row in rows}) == 4
        assert sorted({row["split"] for row in rows}) == sorted(set(SPLITS))
    import_corrections(tmp_path / "second", tmp_path / "other", split="test")
    assert {row["split"] for row in _rows(tmp_path / "other")} == {"test"}


def test_every_fault_is_named_by_its_file_and_nothing_is_taken(handed_out: Path, tmp_path: Path) -> None:
    a, b, c, d, e = [row["name"] for row in _rows(handed_out)]
    tifffile.imwrite(handed_out / "labels" / f"{a}.tif", np.zeros((10, 10), np.uint8))
    tifffile.imwrite(handed_out / "labels" / f"{b}.tif", np.zeros((192, 192), np.float32))

    def scatter(labels: Labels) -> None:
        labels[:] = 0
        labels[10:20, 10:20] = labels[50:60, 50:60] = labels[100:102, 100:102] = 3

    _edit(handed_out, c, scatter)
    image = tifffile.imread(handed_out / "images" / f"{d}.tif")
    tifffile.imwrite(handed_out / "images" / f"{d}.tif", image + 1)
    for kind in ("images", "labels"):
        shutil.copy2(handed_out / kind / f"{e}.tif", handed_out / kind / "extra.tif")

    with pytest.raises(DatasetError, match=r"Nothing of .* was taken, for it has 7 faults") as caught:
        import_corrections(handed_out, tmp_path / "set")
    said = str(caught.value)
    for line in (
        rf"{a}.tif is (10, 10), the image is (192, 192)",
        rf"{b}.tif holds float32 numbers; expected integers",
        rf"labels/{c}.tif: 3 is the number of 2 pieces that lie apart",
        rf"images/{d}.tif is not the image that was exported",
        rf"labels/{d}.tif is neither changed nor confirmed",
        rf"labels/{e}.tif is neither changed nor confirmed",
        r"labels/extra.tif: index.csv has no row for it",
    ):
        assert line in said
    assert not (tmp_path / "set").exists()
    assert list(read_audit()) == []


def test_what_was_deleted_is_no_fault_and_what_is_there_is_kept(handed_out: Path, tmp_path: Path) -> None:
    gone, *others, changed = [row["name"] for row in sorted(_rows(handed_out), key=lambda row: int(row["nuclei"]))]
    for kind in ("images", "labels"):
        (handed_out / kind / f"{gone}.tif").unlink()
    _confirm(handed_out)
    done = import_corrections(handed_out, tmp_path / "set")
    assert sorted(done.confirmed) == sorted([changed, *others])
    assert [remark for remark in done.remarks if gone in remark]
    before = snapshot(tmp_path / "set")
    assert import_corrections(handed_out, tmp_path / "set").kept == tuple(sorted(done.confirmed))
    assert snapshot(tmp_path / "set") == before

    _edit(handed_out, changed, _erase)
    with pytest.raises(DatasetError, match=rf"labels/{changed}.tif: .* has other labels of this image \(--replace"):
        import_corrections(handed_out, tmp_path / "set")
    assert snapshot(tmp_path / "set") == before
    assert import_corrections(handed_out, tmp_path / "set", replace=True).changed == (changed,)
    assert len(_rows(tmp_path / "set")) == 4


def test_another_image_of_the_same_name_is_kept_beside_the_one_that_is_there(handed_out: Path, tmp_path: Path) -> None:
    """Without nuclei its labels are the same; the plate may have been imaged again, or be another of its name."""
    name = _rows(handed_out)[0]["name"]
    _edit(handed_out, name, lambda labels: labels.fill(0))
    _confirm(handed_out)
    import_corrections(handed_out, tmp_path / "set")
    again = tmp_path / "set" / "index.csv"
    row = next(row for row in _rows(tmp_path / "set") if row["name"] == name)
    again.write_text(again.read_text().replace(row["image_sha256"], "0" * 64))

    done = import_corrections(handed_out, tmp_path / "set")
    other = f"{name}_{row['image_sha256'][:8]}"
    assert (done.changed, len(done.kept)) == ((other,), 4)
    assert any("has another image of this name" in remark for remark in done.remarks)
    assert {name, other} <= {path.stem for path in (tmp_path / "set" / "labels").iterdir()}
    assert len(_rows(tmp_path / "set")) == 6
    assert len(import_corrections(handed_out, tmp_path / "set").kept) == 5


def test_other_numbers_for_the_same_nuclei_are_no_correction(handed_out: Path, tmp_path: Path) -> None:
    names = [row["name"] for row in _rows(handed_out)]
    for name in names:
        _edit(handed_out, name, lambda labels: np.copyto(labels, np.where(labels > 0, labels.max() + 1 - labels, 0)))
    with pytest.raises(DatasetError, match=r"5 faults(.|\n)*neither changed nor confirmed"):
        import_corrections(handed_out, tmp_path / "set")


def test_an_import_that_was_interrupted_can_be_begun_again(
    handed_out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _confirm(handed_out)
    replace, left = os.replace, [5]

    def full(source: Path, target: Path) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", full)
        with pytest.raises(OutputError, match="cannot be written: No space left"):
            import_corrections(handed_out, tmp_path / "set")
    assert len(import_corrections(handed_out, tmp_path / "set").confirmed) == 5
    assert len(read_annotations(tmp_path / "set")) == 5


def test_imports_at_the_same_time_keep_both(handed_out: Path, tmp_path: Path) -> None:
    _confirm(handed_out)
    names = [row["name"] for row in _rows(handed_out)]
    folders = []
    for place in range(3):
        folders.append(Path(shutil.copytree(handed_out, tmp_path / f"from{place}")))
        for name in {*names} - {names[place]}:
            for kind in ("images", "labels"):
                (folders[-1] / kind / f"{name}.tif").unlink()
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda folder: import_corrections(folder, tmp_path / "set"), folders))
    assert {row["name"] for row in _rows(tmp_path / "set")} == set(names[:3])


def test_a_table_as_spreadsheets_with_decimal_commas_write_it_is_read(handed_out: Path, tmp_path: Path) -> None:
    _confirm(handed_out)
    rows = _rows(handed_out)
    with (handed_out / "index.csv").open("w", newline="", encoding="utf-8-sig") as file:
        table = csv.DictWriter(file, list(rows[0]), delimiter=";")
        table.writeheader()
        table.writerows(rows)
    assert len(import_corrections(handed_out, tmp_path / "set").confirmed) == 5


def test_fields_of_a_well_do_not_go_to_two_splits(finished: FinishedRun, tmp_path: Path) -> None:
    export_fields(finished.run, tmp_path / "all", number=8)
    _confirm(tmp_path / "all")
    rows = _rows(tmp_path / "all")
    of_well = [row["name"] for row in rows if row["well"] == rows[0]["well"]]
    parts = []
    for name in of_well:
        parts.append(Path(shutil.copytree(tmp_path / "all", tmp_path / name)))
        for other in {row["name"] for row in rows} - {name}:
            for kind in ("images", "labels"):
                (parts[-1] / kind / f"{other}.tif").unlink()
    import_corrections(parts[0], tmp_path / "set", split="test")
    with pytest.raises(DatasetError, match=r"other fields of its well, .* are in test; expected all of a well in one"):
        import_corrections(parts[1], tmp_path / "set", split="train")
    import_corrections(parts[1], tmp_path / "set", split="test")


def test_a_user_without_a_name_can_import(handed_out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 4242")

    monkeypatch.setattr("getpass.getuser", nobody)
    _confirm(handed_out)
    import_corrections(handed_out, tmp_path / "set")
    assert {row["imported_by"] for row in _rows(tmp_path / "set")} == {f"uid {os.getuid()}"}


def test_a_table_that_is_not_utf_8_is_said(handed_out: Path, tmp_path: Path) -> None:
    _confirm(handed_out)
    import_corrections(handed_out, tmp_path / "set")
    index = tmp_path / "set" / "index.csv"
    index.write_bytes(index.read_text().replace("name,", "Größe,name,", 1).encode("latin-1"))

    with pytest.raises(OutputError, match=r"index.csv cannot be read as a table \(CSV, UTF-8\)"):
        import_corrections(handed_out, tmp_path / "set")


def test_corrections_join_a_set_of_other_images_and_no_other_kind_of_folder(handed_out: Path, tmp_path: Path) -> None:
    _confirm(handed_out)
    mine = tmp_path / "mine"
    for kind in ("images", "labels"):
        (mine / kind).mkdir(parents=True)
        tifffile.imwrite(mine / kind / "a.tif", np.ones((20, 20), np.uint8))
    with pytest.raises(OutputError, match=r"expected images/, labels/ and index\.csv"):
        import_corrections(handed_out, mine)
    (mine / "index.csv").write_text("name,split,stain\na,val,DAPI\n")
    import_corrections(handed_out, mine)
    rows = _rows(mine)
    assert (rows[0]["name"], rows[0]["split"], rows[0]["stain"], rows[0]["plate"]) == ("a", "val", "DAPI", "")
    assert len(rows) == 6
    assert len(read_annotations(mine)) == 6


def test_numbers_are_made_dense_in_the_order_of_the_pixels() -> None:
    np.testing.assert_array_equal(dense(np.array([[0, 70, 5], [5, 9, 0]])), [[0, 1, 2], [2, 3, 0]])
    np.testing.assert_array_equal(dense(np.array([[4, 4]])), [[1, 1]])
    np.testing.assert_array_equal(dense(np.zeros((2, 2), np.uint32)), np.zeros((2, 2)))


def test_the_commands_go_there_and_back(
    finished: FinishedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, into = str(tmp_path / "out"), str(tmp_path / "set")
    assert main(["annotate", "export", str(finished.run), "--out", folder, "--fields", "2"]) == 0
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()] == [finished.run.name] * 2
    assert "README.txt says how" in err
    assert main(["annotate", "import", folder, "--into", into]) == 2
    assert "neither changed nor confirmed" in capsys.readouterr().err
    _confirm(tmp_path / "out")
    assert main(["annotate", "import", folder, "--into", into]) == 0
    assert capsys.readouterr().out == f"{into}: 0 corrected and 2 confirmed label images taken, 0 were there already\n"
    assert main(["annotate", "import", str(finished.plate), "--into", into]) == 2
