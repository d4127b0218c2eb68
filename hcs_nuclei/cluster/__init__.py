"""Shards of work in, their small results out, on a Dask cluster here or elsewhere: the only home of ``distributed``."""

from distributed import Client

from hcs_nuclei.cluster.address import file_of
from hcs_nuclei.cluster.fitting import check_workers
from hcs_nuclei.cluster.inside import emit_event, should_stop
from hcs_nuclei.cluster.opening import open_cluster
from hcs_nuclei.cluster.performance import performance_report
from hcs_nuclei.cluster.places import Places, left_word
from hcs_nuclei.cluster.shards import call, run_shards
from hcs_nuclei.cluster.workers import describe

__all__ = [
    "Client",
    "Places",
    "call",
    "check_workers",
    "describe",
    "emit_event",
    "file_of",
    "left_word",
    "open_cluster",
    "performance_report",
    "run_shards",
    "should_stop",
]
