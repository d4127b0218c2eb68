"""Two runs of one plate at once: the second is refused with who is at work, and nothing of the first is lost."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest
from pipeline_runs import FinishedRun, files_of, hidden_in, results_of

from hcs_nuclei.errors import RunConflictError
from hcs_nuclei.pipeline import Progress, alone_in, process_plate
from hcs_nuclei.pipeline.alone import LOCK_FILE
from hcs_nuclei.pipeline.finish import remake_plates
from hcs_nuclei.settings import Settings

#: Another process that holds the lock until its stdin closes, or until it is killed.
_HOLD = """
import sys
from pathlib import Path
from hcs_nuclei.pipeline import alone_in
with alone_in(Path(sys.argv[1])) as lock:
    lock.take()
    print("taken", flush=True)
    sys.stdin.read()
"""


def _holder(run_dir: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _HOLD, str(run_dir)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "taken\n"
    return process


def test_another_process_is_refused_until_the_first_is_done(tmp_path: Path) -> None:
    holder = _holder(tmp_path)
    with pytest.raises(RunConflictError, match=rf"process {holder.pid} on .*, since .*goes on"), alone_in(tmp_path):
        pass
    holder.communicate("")
    assert list(tmp_path.iterdir()) == []
    with alone_in(tmp_path) as lock:
        lock.take()
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_was_killed_locks_nobody_out(tmp_path: Path) -> None:
    holder = _holder(tmp_path)
    holder.kill()
    holder.communicate()
    assert [path.name for path in tmp_path.iterdir()] == [LOCK_FILE]
    with alone_in(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_where_nobody_is_at_work_nothing_is_written_before_it_is_taken(tmp_path: Path) -> None:
    with alone_in(tmp_path / "absent"), alone_in(tmp_path) as lock:
        assert list(tmp_path.iterdir()) == []
        lock.take()
        lock.take()
        assert [path.name for path in tmp_path.iterdir()] == [LOCK_FILE]
    assert list(tmp_path.iterdir()) == []


def test_of_many_that_begin_at_once_one_holds_it_at_a_time(tmp_path: Path) -> None:
    inside: list[int] = []
    most, refused, taken = [0], [0], [0]
    guard = threading.Lock()

    def work() -> None:
        for _ in range(150):
            try:
                with alone_in(tmp_path) as lock:
                    lock.take()
                    with guard:
                        inside.append(1)
                        most[0] = max(most[0], len(inside))
                        taken[0] += 1
                    with guard:
                        inside.pop()
            except RunConflictError:
                with guard:
                    refused[0] += 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]
    assert taken[0] > 0
    assert taken[0] + refused[0] == 600
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_second_run_of_a_plate_is_refused_and_the_first_loses_nothing(finished: FinishedRun, tmp_path: Path) -> None:
    said: list[str] = []

    def begin_another(progress: Progress) -> None:
        if progress.stage == "wells" and not said:
            before = files_of(tmp_path)
            with pytest.raises(RunConflictError) as refused:
                process_plate(finished.plate, tmp_path, Settings(), overwrite=True)
            said.append(str(refused.value))
            with pytest.raises(RunConflictError, match="Another run is writing into"):
                remake_plates([next(tmp_path.iterdir())])
            assert set(before) <= set(files_of(tmp_path))

    result = process_plate(finished.plate, tmp_path, Settings(), workers=1, on_progress=begin_another)

    assert "Another run is writing into" in said[0]
    assert hidden_in(result.run_dir) == []
    assert results_of(result.run_dir) == results_of(finished.run)
