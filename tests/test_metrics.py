"""What runs count: in a file that outlives them and is never wrong, and on the pages of Dask's workers."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import urllib.request
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
from pipeline_runs import shared_cluster
from prometheus_client.parser import text_string_to_metric_families

from hcs_nuclei import read_fields, read_wells
from hcs_nuclei.audit import read_audit
from hcs_nuclei.cluster import open_cluster
from hcs_nuclei.metrics import METRICS_FILE, MetricsFile, RunMetrics, counts_of_well
from hcs_nuclei.pipeline import process_plate
from hcs_nuclei.settings import load_settings
from hcs_nuclei.simulate import simulate_plate

DIAMETER = load_settings(options={"segmentation": {"diameter_px": 22}}, environ={})
STAGES = {"read", "network", "instances", "measure", "write"}
Samples = dict[tuple[str, tuple[str, ...]], float]


def samples_of(text: str, prefix: str) -> Samples:
    """Each value of a page by name without `prefix` and by its labels, as Prometheus' own parser reads it."""
    return {
        (sample.name.removeprefix(prefix), tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith(prefix) and not sample.name.endswith("_created")
    }


@dataclass(frozen=True)
class Counted:
    """A run on two workers of a plate with faults: its tables, the totals, and the workers' own, added up.

    `later` are the totals after its wells with faults were tried again.
    """

    run: Path
    fields: pd.DataFrame
    wells: pd.DataFrame
    totals: Samples
    later: Samples
    workers: Samples
    pages: int


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> Counted:
    folder = tmp_path_factory.mktemp("counted")
    plate = simulate_plate(folder, wells=8, fields=2, size=192).directory
    images = plate / "TimePoint_1"
    (images / "SIM-0001_B02_s1_w1.TIF").unlink()
    truncated = images / "SIM-0001_B03_s2_w1.TIF"
    truncated.write_bytes(truncated.read_bytes()[:-5000])
    (images / "SIM-0001_C02_s2_w2.TIF").unlink()
    (images / "SIM-0001_C03_s1_w1.TIF").write_bytes(b"")
    (images / "SIM-0001_C03_s2_w1.TIF").write_bytes(b"")
    file = folder / "metrics" / "hcs.prom"
    with pytest.MonkeyPatch.context() as patch, open_cluster("local", workers=2) as client:
        patch.setenv(METRICS_FILE, str(file))
        with shared_cluster(client):
            result = process_plate(plate, folder / "out", DIAMETER)
        found = client.scheduler_info(n_workers=-1)["workers"].values()
        addresses = [f"http://127.0.0.1:{worker['services']['dashboard']}/metrics" for worker in found]
        workers: Counter[tuple[str, tuple[str, ...]]] = Counter()
        for address in addresses:
            with urllib.request.urlopen(address, timeout=60) as page:
                workers.update(samples_of(page.read().decode(), "hcs_nuclei_worker_"))  # type: ignore[arg-type]
        first = file.read_text()
        tables = read_fields(result.run_dir), read_wells(result.run_dir)
        with shared_cluster(client):
            process_plate(plate, folder / "out", DIAMETER, retry_failed=True, reason="copied again")
    return Counted(
        run=result.run_dir,
        fields=tables[0],
        wells=tables[1],
        totals=samples_of(first, "hcs_nuclei_"),
        later=samples_of(file.read_text(), "hcs_nuclei_"),
        workers=dict(workers),
        pages=len(addresses),
    )


@pytest.mark.slow
def test_the_totals_of_a_run_are_what_its_tables_say(counted: Counted) -> None:
    totals, statuses = counted.totals, counted.fields["status"].value_counts().to_dict()

    assert {labels[0]: n for (name, labels), n in totals.items() if name == "fields_total" and n} == statuses
    assert statuses == {"ok": 11, "missing": 1, "unreadable": 3, "incomplete": 1}
    assert totals["wells_total", ()] == len(counted.wells) == 8
    bad = counted.fields[counted.fields["status"].isin(["missing", "unreadable", "failed"])]
    assert totals["wells_quarantined_total", ()] == bad["Metadata_Well"].nunique() == 3
    assert totals["nuclei_total", ()] == counted.fields["Metadata_Object_Count"].sum() > 0
    kinds = {labels[0]: n for (name, labels), n in totals.items() if name == "faults_total"}
    assert kinds == {"missing": 2, "truncated": 1, "zero-byte": 2}
    assert {labels: n for (name, labels), n in totals.items() if name == "runs_total" and n} == {("quarantined",): 1}
    assert totals["runs_started_total", ()] == 1


@pytest.mark.slow
def test_times_are_those_of_the_stages_and_of_the_wait_for_the_device(counted: Counted) -> None:
    stages = {labels[0]: n for (name, labels), n in counted.totals.items() if name == "stage_seconds_total"}

    assert stages.keys() == STAGES
    assert all(0 < seconds < counted.totals["run_seconds_total", ()] * 2 for seconds in stages.values())
    # Of a well's two images the second waits while the first is segmented.
    assert counted.totals["device_wait_seconds_total", ()] > 0
    assert counted.totals["device_idle_seconds_total", ()] > 0
    ended = counted.totals["last_run_end_timestamp_seconds", ("quarantined",)]
    assert abs(ended - (counted.run / "run.json").stat().st_mtime) < 60


@pytest.mark.slow
def test_the_workers_pages_add_up_to_the_same(counted: Counted) -> None:
    assert counted.pages == 2
    of_wells = {"wells_total", "wells_quarantined_total", "fields_total", "nuclei_total", "faults_total"}
    assert {key: n for key, n in counted.workers.items() if key[0] in of_wells} == {
        key: n for key, n in counted.totals.items() if key[0] in of_wells and (n or not key[1])
    }
    times = [key for key in counted.totals if key[0].endswith("seconds_total") and key[0] != "run_seconds_total"]
    assert len(times) == len(STAGES) + 2
    assert {key: counted.workers[key] for key in times} == pytest.approx({key: counted.totals[key] for key in times})


@pytest.mark.slow
def test_wells_that_are_tried_again_count_again_and_are_named_in_the_audit_log(counted: Counted) -> None:
    faulty = sorted(counted.fields.loc[counted.fields["status"] != "ok", "Metadata_Well"].unique())
    assert len(faulty) == 4
    assert counted.later["wells_total", ()] == 8 + 4
    assert counted.later["wells_quarantined_total", ()] == 3 + 3
    assert counted.later["runs_total", ("quarantined",)] == 2
    [retry] = [e for e in read_audit() if e.what == "run.retry" and e.reason == "copied again"]
    assert (retry.subject, retry.new) == (counted.run.name, {"wells": ", ".join(faulty)})


def test_no_label_grows_with_plates_or_wells(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path / "m.prom")
    for number in range(50):
        one = counts_of_well(nuclei=number, statuses=["ok", "missing"], seconds={"read": 1.0, "wait": 2.0}, faults={})
        file.add(one)
    first = file.path.read_text()
    file.add(one)

    assert len(first.splitlines()) == len(file.path.read_text().splitlines())
    assert samples_of(first, "hcs_nuclei_")["nuclei_total", ()] == sum(range(50))


def test_nothing_is_lost_where_several_processes_add_and_die(tmp_path: Path) -> None:
    path = tmp_path / "m.prom"
    program = (
        "import sys; from pathlib import Path; from hcs_nuclei.metrics import MetricsFile\n"
        "file = MetricsFile(Path(sys.argv[1]))\n"
        "while True: file.add({('wells', ()): 1, ('fields', ('ok',)): 2}); print('.', flush=True)"
    )
    command = [sys.executable, "-c", program, str(path)]
    writers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    told = [0, 0, 0]

    def listen(number: int) -> None:
        output = writers[number].stdout
        assert output is not None
        told[number] = sum(1 for _ in output)

    listeners = [threading.Thread(target=listen, args=(number,)) for number in range(3)]
    for listener in listeners:
        listener.start()
    seen: list[float] = []
    while not seen or seen[-1] < 60:  # whoever looks sees a whole file, and a number that never falls
        if path.exists():
            seen.append(samples_of(path.read_text(), "hcs_nuclei_")["wells_total", ()])
    for writer in writers:
        writer.kill()
        writer.wait()
    for listener in listeners:
        listener.join()
    for writer in writers:
        assert writer.stdout is not None
        writer.stdout.close()

    assert seen == sorted(seen)
    totals = samples_of(path.read_text(), "hcs_nuclei_")
    # Each was killed before, while or after it said that its last one was written.
    assert sum(told) <= totals["wells_total", ()] <= sum(told) + 3
    assert totals["fields_total", ("ok",)] == 2 * totals["wells_total", ()]


def test_a_file_that_is_damaged_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "m.prom"
    path.write_bytes(b"hcs_nuclei_wells_total what\xff")
    MetricsFile(path).add({("wells", ()): 3})

    assert samples_of(path.read_text(), "hcs_nuclei_")["wells_total", ()] == 3


def test_a_run_writes_now_and_then_and_all_at_its_end(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path / "m.prom")
    metrics = RunMetrics(file)
    assert [metrics.count({("wells", ()): 1}) for _ in range(5)] == [""] * 5
    assert file.read()["wells", ()] == 1
    assert metrics.flush({("last_run_end_timestamp_seconds", ("failed",)): 7.0}) == ""
    assert file.read()["wells", ()] == 5
    assert file.read()["last_run_end_timestamp_seconds", ("failed",)] == 7.0


def test_what_cannot_be_written_is_said_and_kept_for_the_next_time(tmp_path: Path) -> None:
    path = tmp_path / "taken" / "m.prom"
    path.parent.touch()
    metrics = RunMetrics(MetricsFile(path))
    assert metrics.count({("wells", ()): 2}) == f"The metrics {path} cannot be written: Not a directory."
    os.unlink(path.parent)

    assert metrics.flush() == ""
    assert MetricsFile(path).read()["wells", ()] == 2


def test_nothing_is_kept_where_no_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(METRICS_FILE, raising=False)
    monkeypatch.chdir(tmp_path)

    assert RunMetrics().count({("wells", ()): 1}) == ""
    assert list(tmp_path.iterdir()) == []
