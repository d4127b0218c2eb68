"""A plate directory, settings and an output directory in, a plan out; everything that can be refused is refused here.

What is in a run directory belongs to one plate, one set of settings and one model. A second start goes on with the
wells that are missing; anything else is said, and nothing is written.
"""

from __future__ import annotations

import os
import shutil
import uuid
from dataclasses import replace
from functools import partial
from pathlib import Path

from hcs_nuclei.errors import ChannelError, HcsNucleiError, OutputError, RunConflictError, listed
from hcs_nuclei.files import TEMPORARY
from hcs_nuclei.models.card import ModelCard
from hcs_nuclei.models.store import resolve_model
from hcs_nuclei.outputs.anndata_file import ANNDATA_FILE
from hcs_nuclei.outputs.calls import CALLS_FILE
from hcs_nuclei.outputs.ome_zarr import well_fingerprint as stored_fingerprint
from hcs_nuclei.outputs.provenance import RUN_FILE, RunRecord, read_record
from hcs_nuclei.outputs.tables import read_commit, well_table_path
from hcs_nuclei.outputs.treatments import LAYOUT_FILE
from hcs_nuclei.pipeline.calling import check_rules, choose_exclusions
from hcs_nuclei.pipeline.illumination import check_same_illumination, known_illumination
from hcs_nuclei.pipeline.pixel_size import with_pixel_size
from hcs_nuclei.pipeline.plan import ALGORITHM_VERSION, PERFORMANCE_FILE, STORE, Context, Plan, WellJob
from hcs_nuclei.pipeline.statistics import STATISTICS_FILES
from hcs_nuclei.pipeline.treatments import check_plate, choose_layout
from hcs_nuclei.plate import Channel, Plate, Well, is_text, safe_name, shown_name
from hcs_nuclei.settings import NO_RESULT, Settings
from hcs_nuclei.sources import open_plate

_NUCLEAR_NAMES = (
    "dapi",
    "hoechst",
    "draq5",
    "h33342",
    "h33258",
    "33342",
    "bfp",
    "syto",
    "h2b",
    "dna",
    "nuclei",
    "nuclear",
)
_PREVIOUS = ".previous"
#: Where former results are gathered until all are there. An interruption leaves it, and the next start goes on with it.
_GATHERED = ".previous-gathered"
_TABLES = (
    "nuclei",
    "fields.parquet",
    "wells.parquet",
    "wells.csv",
    *STATISTICS_FILES,
    ANNDATA_FILE,
    "report.html",
    PERFORMANCE_FILE,
    LAYOUT_FILE,
    CALLS_FILE,
    RUN_FILE,
)
_RETRY_STATUSES = frozenset({"missing", "unreadable", "failed", "incomplete"})


def prepare_plate(
    directory: Path | str, out: Path, settings: Settings, *, overwrite: bool = False, retry_failed: bool = False
) -> tuple[Plan, ModelCard]:
    """Open the plate, choose channel and model, and find what is already done below `out`.

    Nothing is written. With `overwrite` every well is outstanding; :func:`set_aside` then moves the former run away.

    Raises:
        NotAPlateError, ChannelError, LayoutError, ModelError, SettingsError: the call cannot be carried out.
        OutputError: `out` cannot be used.
        RunConflictError: the run directory holds another plate, or other settings, model or input.
    """
    for place in (directory, out):
        _check_text(place)
    plate = open_plate(directory, pattern=settings.pattern, plate_name=settings.plate_name)
    plate = with_pixel_size(plate, settings)
    check_plate(plate, settings)
    nuclear = choose_channel(plate, settings.channel)
    model_directory, card = resolve_model(settings.model)
    run_dir = Path(os.path.abspath(out)) / run_name(plate)  # a worker may have another working directory
    check_output(run_dir, directory, plate)
    record = None if overwrite else read_record(run_dir)
    layout, settings = choose_layout(plate, settings, run_dir, record)
    exclusions, settings = choose_exclusions(plate, settings, record)
    illumination = known_illumination(plate, settings.illumination)
    context = Context(
        root=plate.root,
        place=plate.place,
        run_dir=run_dir,
        plate=plate.name,
        acquisition=plate.acquisition,
        channels=plate.channels,
        nuclear=nuclear,
        timepoints=plate.timepoints,
        pixel_size_um=plate.pixel_size_um,
        settings=settings,
        model_directory=model_directory,
        model_sha256=card.sha256,
    )
    check_rules(settings, context.measured, layout, plate)
    told = partial(Plan, layout=layout, exclusions=exclusions, illumination=illumination)
    if record is None:
        if not overwrite and (context.run_dir / "nuclei").is_dir() and any((context.run_dir / "nuclei").iterdir()):
            raise RunConflictError(
                f"{context.run_dir} holds tables but no {RUN_FILE}, so it cannot be told what they were made from. "
                "Choose another --out, or process the plate again with --overwrite."
            )
        return told(context, plate, tuple(WellJob(w, "") for w in plate.wells), 0, None), card
    check_same(record, context, card)
    check_same_illumination(record.calibration.illumination, illumination, run_dir)
    context = replace(context, calibration=record.calibration)
    outstanding, same = _outstanding(context, plate, record, retry_failed=retry_failed)
    finished = len(plate.wells) - len(outstanding)
    if record.source.directory != context.place and not same:
        # No well is there whose input would tell that it is the same plate, and the calibration may be of another.
        raise RunConflictError(
            f"{run_dir} was begun from {record.source.directory}, and none of its wells was made from what is there "
            "now. Choose another --out, or make the run again with --overwrite."
        )
    return told(context, plate, outstanding, finished, record), card


def _check_text(place: Path | str) -> None:
    """Refuse a place whose name no table, log or provenance could hold.

    Raises:
        OutputError: says so, with what cannot be read in it shown.
    """
    if not is_text(os.path.abspath(place)):
        raise OutputError(f"The name {shown_name(place)} is not UTF-8; give the directory another name.")


def choose_channel(plate: Plate, wanted: str | None) -> Channel:
    """The nuclear channel: the one asked for, else the one named like DAPI or Hoechst, else the only one.

    Raises:
        ChannelError: no such channel, or several would do.
    """
    listing = ", ".join(c.name if c.name == c.token else f"{c.name} ({c.token})" for c in plate.channels) or "none"
    if wanted is not None:
        matching = [c for c in plate.channels if c.matches(wanted)]
        # A token is one channel's alone; a name may be several channels'.
        meant = [c for c in matching if c.token.casefold() == wanted.casefold()] or matching
        if len(meant) == 1:
            return meant[0]
        if meant:
            raise ChannelError(
                f"Plate {plate.name} has {len(meant)} channels {wanted!r}; found {listing}. "
                "Choose one of these by its token with --channel."
            )
        raise ChannelError(
            f"Plate {plate.name} has no channel {wanted!r}; found {listing}. Choose one of these with --channel."
        )
    named = [c for c in plate.channels if any(name in c.name.casefold() for name in _NUCLEAR_NAMES)]
    if len(named) == 1:
        return named[0]
    if len(plate.channels) == 1:
        return plate.channels[0]
    why = "several are named like a nuclear stain" if named else "none is named like a nuclear stain (DAPI, Hoechst)"
    raise ChannelError(
        f"Plate {plate.name} has the channels {listing}; {why}. Say which one shows nuclei with --channel."
    )


def run_name(plate: Plate) -> str:
    """``<plate>__<acquisition>``, or ``<plate>``, safe on any file system."""
    name = f"{plate.name}__{plate.acquisition}" if plate.acquisition else plate.name
    return safe_name(name)


def check_output(run_dir: Path, directory: Path | str, plate: Plate) -> None:
    """Refuse a run directory that is a file, cannot be written, lies inside the plate, or holds something else.

    Raises:
        OutputError: says which, and what to do.
    """
    out = run_dir.parent
    for place in (out, run_dir):
        if place.exists() and not place.is_dir():
            raise OutputError(f"The output {place} is a file; expected a directory. Choose another --out.")
    for source in () if plate.remote else (plate.root, Path(directory)):
        if run_dir.resolve().is_relative_to(source.resolve()):
            raise OutputError(
                f"The output {run_dir} lies inside the plate {source}, which is only ever read. Choose another --out."
            )
    existing = next(p for p in (run_dir, *run_dir.resolve().parents) if p.exists())
    if not existing.is_dir() or not _writable(existing):
        raise OutputError(
            f"The output {out} cannot be written to ({existing} takes no new file). Choose another --out."
        )
    if run_dir.is_dir() and not (run_dir / RUN_FILE).exists():
        visible = [entry.name for entry in run_dir.iterdir() if not entry.name.startswith(".")]
        foreign = sorted(name for name in visible if name not in (*_TABLES, STORE))
        if foreign:
            raise OutputError(
                f"{run_dir} is there and is no run: it holds {listed(foreign)}. Choose another --out or --plate-name."
            )


def check_same(record: RunRecord, context: Context, card: ModelCard) -> None:
    """Refuse to go on with a run that was begun with another plate, other settings or another model.

    Raises:
        RunConflictError: says what differs and what to do.
    """
    differing = []
    if (record.plate, record.acquisition) != (context.plate, context.acquisition):
        differing.append(
            f"the plate was {record.plate} {record.acquisition}, now it is {context.plate} {context.acquisition}"
        )
    if record.settings_fingerprint != context.settings.fingerprint():
        before, now = record.settings.model_dump(mode="json"), context.settings.model_dump(mode="json")
        changed = [
            f"{k}: {before[k]!r} before, {now[k]!r} now" for k in now if before[k] != now[k] and k not in NO_RESULT
        ]
        differing.append("settings differ (" + "; ".join(changed) + ")")
    if record.algorithm_version != ALGORITHM_VERSION:
        differing.append(f"it was made by hcs-nuclei {record.hcs_nuclei_version}, which segments or measures otherwise")
    if record.model.sha256 != context.model_sha256:
        differing.append(
            f"the model was {record.model.name} ({record.model.identifier}), now it is {card.name} ({card.identifier})"
        )
    if [c.token for c in record.channels if c.nuclear] != [context.nuclear.token]:
        differing.append(f"the nuclear channel is now {context.nuclear.name}")
    if [(c.token, c.name) for c in record.channels] != [(c.token, c.name) for c in context.channels]:
        differing.append("the plate's channels are no longer the same")
    if differing:
        raise RunConflictError(
            f"{context.run_dir} was made differently: {'; '.join(differing)}. Choose another --out, go back to what it "
            "was made with, or make it again with --overwrite (the former tables are kept under .previous)."
        )


def set_aside(run_dir: Path) -> None:
    """Move the tables, report and provenance of a former run to ``.previous`` and drop its label images.

    Of a run that was interrupted while it took the place of another, the other is what is kept.
    """
    present = [name for name in _TABLES if (run_dir / name).exists()]
    former, gathered = run_dir / _PREVIOUS, run_dir / _GATHERED
    if former.exists() and not gathered.exists() and not _was_finished(run_dir):
        for name in present:
            _remove(run_dir / name)
    elif present:
        gathered.mkdir(exist_ok=True)
        for name in present:
            _remove(gathered / name)
            os.rename(run_dir / name, gathered / name)
    if gathered.exists():
        # The new copy is complete before the last one goes.
        _remove(former)
        os.rename(gathered, former)
    _remove(run_dir / STORE)


def put_back(run_dir: Path) -> None:
    """Undo a :func:`set_aside` that was interrupted, for a start that goes on with the results."""
    gathered = run_dir / _GATHERED
    if (gathered / RUN_FILE).exists():  # the last that is moved
        _remove(run_dir / _PREVIOUS)
        os.rename(gathered, run_dir / _PREVIOUS)
    elif gathered.exists():
        for place in gathered.iterdir():
            if not (run_dir / place.name).exists():
                os.rename(place, run_dir / place.name)
        _remove(gathered)


def _was_finished(run_dir: Path) -> bool:
    try:
        record = read_record(run_dir)
    except HcsNucleiError:  # by a version of another form, or damaged
        return True
    if record is None:
        return (run_dir / "wells.parquet").exists()
    return record.outcome is not None  # it stays where a finished run is gone on with


def _remove(path: Path) -> None:
    """Whatever `path` is, where it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _outstanding(
    context: Context, plate: Plate, record: RunRecord, *, retry_failed: bool
) -> tuple[tuple[WellJob, ...], bool]:
    """Wells without a whole result, and whether any result is of the wells that are there now.

    Raises:
        RunConflictError: inputs changed under wells that are done.
    """
    outstanding: list[WellJob] = []
    same = False
    changed: list[Well] = []
    expected = {well.name for well in plate.wells}
    gone = sorted(p.stem for p in (context.run_dir / "nuclei").glob("[!.]*.parquet") if p.stem not in expected)
    if gone:
        raise RunConflictError(
            f"Plate {context.plate}: {context.run_dir} has results of wells that {context.place} does not have "
            f"({listed(gone)}); they were made from {record.source.directory}. Choose another --out, or make the run "
            "again with --overwrite."
        )
    for well in plate.wells:
        job = WellJob.of(context, plate, well)
        commit = read_commit(well_table_path(context.run_dir, well.name))
        same |= commit is not None and commit.fingerprint == job.fingerprint
        if commit is None or (retry_failed and any(row["status"] in _RETRY_STATUSES for row in commit.fields)):
            outstanding.append(job)
        elif commit.fingerprint != job.fingerprint:
            changed.append(well)
        elif any(row["Metadata_Object_Count"] is not None for row in commit.fields) and (
            stored_fingerprint(context.store, well) != job.fingerprint
        ):
            outstanding.append(job)
    if changed:
        elsewhere = (
            ""
            if record.source.directory == context.place
            else (
                f" The run was made from {record.source.directory}; a copy of a plate keeps its identity only where "
                "file times are kept as well."
            )
        )
        raise RunConflictError(
            f"Plate {context.plate}: the input of {len(changed)} finished wells changed since they were processed "
            f"({listed(w.name for w in changed)}).{elsewhere} Choose another --out, or make the run again with "
            "--overwrite; --retry-failed does only wells again that had faults."
        )
    return tuple(outstanding), same


def _writable(directory: Path) -> bool:
    """Whether a file can really be made there: on network shares the permission bits do not tell."""
    probe = directory / f"{TEMPORARY}{uuid.uuid4().hex[:12]}"
    try:
        probe.touch()
        probe.unlink()
    except OSError:
        return False
    return True
