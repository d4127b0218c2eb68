"""A whole plate from image files to tables and report: seconds a field, seconds by stage, memory of driver and workers.

    python tests/benchmarks/bench_process.py [--wells 96] [--size 1080] [--workers N] [--keep DIR]

Simulates the plate first (about 200 nuclei in a field of 1080 × 1080 px, two channels). "After start-up" is the time in
which wells are processed: from the moment that the workers have loaded the network and the plate is calibrated until
the last well is committed. Memory is the largest resident set seen, sampled every 0.2 s.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from pathlib import Path

import psutil

from hcs_nuclei import process_plate
from hcs_nuclei.simulate import simulate_plate


class MemoryWatch(threading.Thread):
    """Largest resident set of this process and of its largest worker, in MB, until stopped."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.driver_mb = 0.0
        self.worker_mb = 0.0
        self._done = threading.Event()

    def run(self) -> None:
        me = psutil.Process()
        while not self._done.wait(0.2):
            self.driver_mb = max(self.driver_mb, me.memory_info().rss / 1e6)
            for child in me.children(recursive=True):
                try:
                    self.worker_mb = max(self.worker_mb, child.memory_info().rss / 1e6)
                except psutil.Error:
                    continue  # it has ended

    def stop(self) -> None:
        self._done.set()
        self.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wells", type=int, default=96)
    parser.add_argument("--size", type=int, default=1080)
    parser.add_argument("--workers", type=int)
    parser.add_argument(
        "--keep", type=Path, help="make the plate here and leave everything; a plate there is used again"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        place = arguments.keep or Path(scratch)
        plates = place / "plates"
        made = [path for path in plates.glob("BENCH*") if not path.name.endswith("-truth")]
        plate = (
            made[0]
            if made
            else simulate_plate(plates, wells=arguments.wells, size=arguments.size, name="BENCH").directory
        )
        watch = MemoryWatch()
        watch.start()
        started = time.perf_counter()
        result = process_plate(plate, place / "runs", workers=arguments.workers, overwrite=True)
        total = time.perf_counter() - started
        watch.stop()
    fields = sum(result.fields_by_status.values())
    wells = result.seconds["wells"]
    print(
        f"{result.made} wells, {fields} fields of {arguments.size} px, {result.nuclei:,} nuclei, "
        f"{psutil.cpu_count()} cores"
    )
    print(f"after start-up   {wells / fields:.3f} s a field  ({wells:.1f} s)")
    print(f"whole run        {total / fields:.3f} s a field  ({total:.1f} s)")
    print(f"memory           driver {watch.driver_mb:.0f} MB, largest worker {watch.worker_mb:.0f} MB")
    print("stage            seconds, of the run")
    for stage in ("prepare", "cluster", "calibrate", "wells", "finish"):
        print(f"  {stage:<14} {result.seconds[stage]:8.1f}")
    print(
        "stage            seconds a field, inside of workers (read, and network; instances, measure, write beside them)"
    )
    for stage, seconds in sorted(result.seconds.items()):
        if stage.startswith("worker "):
            print(f"  {stage.removeprefix('worker '):<14} {seconds / fields:8.3f}")


if __name__ == "__main__":
    main()
