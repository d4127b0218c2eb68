"""What is refused before anything is written, what a run is called, and what makes a well's result stale."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from pipeline_runs import FinishedRun, changed, copied, mounted, other_model, read_only, snapshot

from hcs_nuclei.errors import ChannelError, ModelError, OutputError, RunConflictError
from hcs_nuclei.pipeline import prepare_plate
from hcs_nuclei.pipeline.calibrate import sample_fields
from hcs_nuclei.pipeline.finish import remake_plates
from hcs_nuclei.pipeline.plan import WellJob, make_shards, well_fingerprint
from hcs_nuclei.pipeline.prepare import choose_channel, run_name
from hcs_nuclei.plate import Channel, Field, Plane, Plate, Well
from hcs_nuclei.settings import Settings, load_settings
from hcs_nuclei.simulate import simulate_plate
from hcs_nuclei.sources import open_plate


def plate_of(*channels: tuple[str, str], **about: str) -> Plate:
    names = {"name": "P1", "acquisition": "", **about}
    return Plate(
        Path("/plates/P1"), "pattern", "", wells=(), channels=tuple(Channel(*channel) for channel in channels), **names
    )


CHOSEN = {
    "named like DAPI": ([("w1", "FITC"), ("w2", "DAPI")], None, "w2"),
    "named like Hoechst, in other words": ([("ch1", "HOECHST 33342"), ("ch2", "Alexa 488")], None, "ch1"),
    "the only one, whatever its name": ([("ch1", "Fluorescein (FITC)")], None, "ch1"),
    "asked for by name": ([("w1", "DAPI"), ("w2", "FITC")], "FITC", "w2"),
    "asked for by name, in other case": ([("w1", "DAPI"), ("w2", "FITC")], "fitc", "w2"),
    "asked for by token": ([("C01", "DAPI"), ("C02", "FITC")], "c02", "C02"),
    "asked for by the end of its columns": ([("w1", "Texas Red"), ("w2", "FITC")], "TexasRed", "w1"),
    "a token that is another channel's name": ([("w1", "w2"), ("w2", "w1")], "w1", "w1"),
}


@pytest.mark.parametrize(("channels", "wanted", "token"), CHOSEN.values(), ids=CHOSEN.keys())
def test_the_nuclear_channel(channels: list[tuple[str, str]], wanted: str | None, token: str) -> None:
    assert choose_channel(plate_of(*channels), wanted).token == token


NOT_CHOSEN = {
    "no such name": (
        [("w1", "DAPI"), ("w2", "FITC")],
        "Cy5",
        r"P1 has no channel 'Cy5'; found DAPI \(w1\), FITC \(w2\)",
    ),
    "none named like it": ([("d0", "d0"), ("d1", "d1")], None, "channels d0, d1; none is named like a nuclear stain"),
    "two named like it": ([("w1", "DAPI"), ("w2", "DAPI-2")], None, "several are named like a nuclear stain"),
    "a name of two": ([("w1", "DAPI"), ("w2", "DAPI")], "DAPI", r"2 channels 'DAPI'; found DAPI \(w1\), DAPI \(w2\)"),
}


@pytest.mark.parametrize(("channels", "wanted", "message"), NOT_CHOSEN.values(), ids=NOT_CHOSEN.keys())
def test_a_channel_that_is_not_clear_is_asked_for(
    channels: list[tuple[str, str]], wanted: str | None, message: str
) -> None:
    with pytest.raises(ChannelError, match=message) as refused:
        choose_channel(plate_of(*channels), wanted)
    assert "--channel" in str(refused.value)


NAMES = {
    "plate and acquisition": ("9987", "3434", "9987__3434"),
    "no acquisition": ("AS_09125", "", "AS_09125"),
    "a slash would be a directory": ("A/B", "2024\\1", "A_B__2024_1"),
    "parent directory": ("..", "", "plate"),
    "a device of Windows": ("con", "", "_con"),
}


@pytest.mark.parametrize(("name", "acquisition", "expected"), NAMES.values(), ids=NAMES.keys())
def test_the_name_of_a_run(name: str, acquisition: str, expected: str) -> None:
    assert run_name(plate_of(("w1", "DAPI"), name=name, acquisition=acquisition)) == expected


def test_channels_of_one_name_have_columns_of_their_own(finished: FinishedRun, tmp_path: Path) -> None:
    plan, _ = prepare_plate(finished.plate, tmp_path / "out", Settings())
    context = replace(plan.context, channels=(Channel("w1", "DAPI"), Channel("w2", "GFP"), Channel("w3", "GFP")))
    assert context.channel_columns == ("DAPI", "GFPw2", "GFPw3")


def refused(plate: Path, out: Path, settings: Settings, error: type[Exception], message: str) -> None:
    """`prepare_plate` refuses, and nothing on disk is another than before."""
    folder = out.parent
    before = snapshot(folder)
    with pytest.raises(error, match=message):
        prepare_plate(plate, out, settings)
    after = snapshot(folder)
    # A directory's own time may change: whether it takes files is tried with one that comes and goes.
    assert {name for name in changed(before, after) if not (folder / name).is_dir()} == set()


def test_an_output_that_is_a_file_is_refused(finished: FinishedRun, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("results of mine")
    refused(finished.plate, tmp_path / "out", Settings(), OutputError, "out is a file; expected a directory")
    refused(finished.plate, tmp_path / "out" / "runs", Settings(), OutputError, "cannot be written to")


@pytest.mark.parametrize("layout", ["imagexpress", "operetta", "cellvoyager", "cellomics"])
def test_an_output_inside_the_plate_is_refused(layout: str, tmp_path: Path) -> None:
    plate = simulate_plate(tmp_path, format=layout, wells=1, size=64, channels=("DAPI",)).directory
    refused(plate, plate / "results", Settings(), OutputError, "lies inside the plate")
    refused(plate, plate, Settings(), OutputError, "lies inside the plate")


def test_a_run_that_would_take_the_plates_own_place_is_refused(tmp_path: Path) -> None:
    plate = simulate_plate(tmp_path, format="cellomics", wells=1, size=64, channels=("DAPI",)).directory
    refused(plate, tmp_path, Settings(), OutputError, "SIM-0001 lies inside the plate")


def test_a_directory_that_is_no_run_is_refused(finished: FinishedRun, tmp_path: Path) -> None:
    mine = tmp_path / "out" / "SIM-0001__1001"
    mine.mkdir(parents=True)
    (mine / "thesis.tex").write_text("a chapter")
    refused(finished.plate, tmp_path / "out", Settings(), OutputError, r"is no run: it holds thesis\.tex")


def test_an_output_that_takes_no_files_is_refused(finished: FinishedRun, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with read_only(tmp_path / "out") as locked:
        if not locked:
            pytest.skip("neither permissions nor mounts can make a directory read-only here")
        refused(finished.plate, tmp_path / "out" / "runs", Settings(), OutputError, "out takes no new file")


def test_a_full_disk_is_refused_where_it_shows_at_once(finished: FinishedRun, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with mounted("-t", "tmpfs", "-o", "size=1m,nr_inodes=2", "tmpfs", at=tmp_path / "out") as small:
        if not small:
            pytest.skip("only root can mount a small file system")
        (tmp_path / "out" / "filler").touch()
        refused(finished.plate, tmp_path / "out", Settings(), OutputError, "takes no new file")


def another_diameter(_: Path) -> Settings:
    return load_settings(options={"segmentation": {"diameter_px": 30}}, environ={})


def another_channel(_: Path) -> Settings:
    return Settings(channel="FITC")


def another_model(folder: Path) -> Settings:
    return Settings(model=str(other_model(folder / "model")))


CHANGES = {
    "diameter": (another_diameter, r"settings differ \(segmentation: .*30"),
    "channel": (another_channel, "settings differ .*the nuclear channel is now FITC"),
    "model": (another_model, r"the model was .*, now it is other \("),
}


@pytest.mark.parametrize(("change", "message"), CHANGES.values(), ids=CHANGES.keys())
def test_a_finished_run_is_not_gone_on_with_differently(
    change: Callable[[Path], Settings], message: str, finished: FinishedRun, tmp_path: Path
) -> None:
    out, _ = copied(finished, tmp_path)
    settings = change(tmp_path)
    refused(finished.plate, out, settings, RunConflictError, f"was made differently: .*{message}.*--overwrite")
    plan, _ = prepare_plate(finished.plate, out, settings, overwrite=True)
    assert (len(plan.outstanding), plan.finished, plan.record) == (4, 0, None)


def test_images_that_changed_under_a_finished_well_are_said(finished: FinishedRun, tmp_path: Path) -> None:
    out, _ = copied(finished, tmp_path)
    plate = Path(shutil.copytree(finished.plate, tmp_path / finished.plate.name))
    plan, _ = prepare_plate(plate, out, Settings())
    assert (len(plan.outstanding), plan.finished) == (0, 4), "a copy that keeps times is the same plate"
    os.utime(next(plate.rglob("*_C02_s1_w2.TIF")))
    message = r"input of 1 finished wells changed since they were processed \(C02\).*The run was made from"
    refused(plate, out, Settings(), RunConflictError, message)


def test_a_plate_of_the_same_name_with_other_wells_is_refused(finished: FinishedRun, tmp_path: Path) -> None:
    out, _ = copied(finished, tmp_path)
    other = simulate_plate(tmp_path, wells=2, fields=2, size=192, seed=7).directory
    for htd in other.rglob("*.HTD"):
        text = htd.read_text(encoding="latin-1").replace('"WellsSelection5"', '"WellsSelection0"')
        htd.write_text(text.replace('"WellsSelection2"', '"WellsSelection5"'), encoding="latin-1")
    for image in other.rglob("*_B0*.TIF"):
        image.rename(image.with_name(image.name.replace("_B0", "_E0")))
    refused(other, out, Settings(), RunConflictError, "has results of wells that .* does not have .*B02, B03, C02, C03")


def test_an_output_named_from_here_is_the_same_on_every_worker(
    finished: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plan, _ = prepare_plate(finished.plate, Path("out"), Settings())
    assert plan.context.run_dir == tmp_path / "out" / finished.run.name


def test_a_run_that_was_begun_from_another_plate_of_the_name_is_refused_before_it_has_a_well(
    finished: FinishedRun, tmp_path: Path
) -> None:
    out, run = copied(finished, tmp_path)
    for table in (run / "nuclei").iterdir():
        table.unlink()
    prepare_plate(finished.plate, out, Settings())
    other = Path(shutil.copytree(finished.plate, tmp_path / "elsewhere" / finished.plate.name))
    refused(
        other,
        out,
        Settings(),
        RunConflictError,
        "was begun from .* and none of its wells was made from what is there now",
    )


def test_a_damaged_run_json_is_said(finished: FinishedRun, tmp_path: Path) -> None:
    out, run = copied(finished, tmp_path)
    (run / "run.json").write_text('{"schema_version": "1"')
    refused(finished.plate, out, Settings(), RunConflictError, r"run\.json was not written by this version")


def test_a_run_whose_tables_have_other_columns_is_said(finished: FinishedRun, tmp_path: Path) -> None:
    out, run = copied(finished, tmp_path)
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "schema_version": "1"}))
    refused(finished.plate, out, Settings(), RunConflictError, r"run\.json was not written by this version")
    with pytest.raises(RunConflictError, match="process it again with --overwrite"):
        remake_plates([run])


def test_a_model_that_is_not_there_or_damaged_is_said(finished: FinishedRun, tmp_path: Path) -> None:
    refused(finished.plate, tmp_path / "out", Settings(model="best"), ModelError, "no model 'best'.*models list")
    model = other_model(tmp_path / "model")
    weights = model / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    refused(finished.plate, tmp_path / "out", Settings(model=str(model)), ModelError, "do not match their card")


def test_a_fingerprint_knows_what_a_well_depends_on_and_no_more(finished: FinishedRun, tmp_path: Path) -> None:
    context = prepare_plate(finished.plate, tmp_path / "out", Settings())[0].context
    well = open_plate(finished.plate).well("B02")
    same = well_fingerprint(context, well)
    elsewhere = Path(shutil.copytree(finished.plate, tmp_path / "copy"))
    assert well_fingerprint(replace(context, root=elsewhere, run_dir=Path("/elsewhere")), well) == same
    others = {
        "settings": well_fingerprint(replace(context, settings=another_diameter(tmp_path)), well),
        "model": well_fingerprint(replace(context, model_sha256="0" * 64), well),
        "channel": well_fingerprint(replace(context, nuclear=context.channels[1]), well),
        "pixel size": well_fingerprint(replace(context, pixel_size_um=0.3), well),
        "plate": well_fingerprint(replace(context, plate="P2"), well),
        "well": well_fingerprint(context, open_plate(finished.plate).well("B03")),
        "a missing plane": well_fingerprint(context, replace(well, fields=well.fields[:1])),
    }
    (elsewhere / well.fields[0].planes[0].path).unlink()
    others["a file that went"] = well_fingerprint(replace(context, root=elsewhere), well)
    assert len({same, *others.values()}) == len(others) + 1


def test_a_fingerprint_knows_every_chunk_of_a_stored_array(finished: FinishedRun, tmp_path: Path) -> None:
    root = simulate_plate(tmp_path / "plates", format="ome-zarr", wells=1, size=64).directory
    context = replace(prepare_plate(finished.plate, tmp_path / "out", Settings())[0].context, root=root)
    well = open_plate(root).wells[0]
    same = well_fingerprint(context, well)
    assert well_fingerprint(context, well) == same
    for channel in (0, 1):
        chunk = root / f"B/02/0/0/c/{channel}/0/0"
        os.utime(chunk, ns=(0, chunk.stat().st_mtime_ns + 10**9 * (channel + 1)))
        assert well_fingerprint(context, well) != same
        same = well_fingerprint(context, well)


def wells_of(count: int, fields: int) -> list[WellJob]:
    sites = tuple(Field(number, ()) for number in range(1, fields + 1))
    return [WellJob(Well(1 + index // 24, 1 + index % 24, sites), "") for index in range(count)]


SHARDS = {"a 384-well plate": (384, 1, 4), "many fields": (96, 40, 4), "few wells": (3, 2, 8), "one": (1, 1, 1)}


@pytest.mark.parametrize(("wells", "fields", "workers"), SHARDS.values(), ids=SHARDS.keys())
def test_shards_hold_each_well_once_and_end_small(
    wells: int, fields: int, workers: int, finished: FinishedRun, tmp_path: Path
) -> None:
    context = prepare_plate(finished.plate, tmp_path / "out", Settings())[0].context
    jobs = wells_of(wells, fields)
    shards = list(make_shards(context, jobs, workers))
    assert [job for shard in shards for job in shard.jobs] == jobs
    sizes = [len(shard.jobs) for shard in shards]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == 1
    assert max(sizes) * fields <= max(32, fields)
    assert [part.jobs for part in shards[0].split()] == [(job,) for job in shards[0].jobs]


def test_the_sample_is_even_bounded_and_always_the_same() -> None:
    wells = tuple(
        Well(row, column, tuple(Field(n, (Plane("w1", f"{row}-{column}-{n}.tif"),)) for n in (1, 2)))
        for row in range(1, 9)
        for column in range(1, 13)
    )
    lost = replace(wells[0].fields[0], planes=(Plane("w1", ""),))
    plate = replace(plate_of(("w1", "DAPI")), wells=(replace(wells[0], fields=(lost,)), *wells[1:]))
    sample = sample_fields(plate, "w1", "auto")
    assert sample == sample_fields(plate, "w1", "auto")
    assert len(sample) == len(set(sample)) == 8
    assert len({well[0] for well, _ in sample}) > 3, "not all from one corner"
    assert sample_fields(replace(plate, wells=(replace(wells[0], fields=(lost,)),)), "w1", "auto") == ()


def test_an_output_whose_name_is_no_text_is_refused(finished: FinishedRun, tmp_path: Path) -> None:
    refused(
        finished.plate, Path(os.fsdecode(os.fsencode(tmp_path) + b"/M\xfcller")), Settings(), OutputError, "not UTF-8"
    )
