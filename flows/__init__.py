"""Prefect flows over the same pipeline that runs without Prefect; the only home of Prefect."""

# First, since whatever else is imported from here imports Prefect.
from flows.defaults import DEFAULTS
from hcs_nuclei.logs import set_up_logs

# Before Prefect makes its handlers, of which those of runs in processes of their own are told by the environment.
set_up_logs()

__all__ = ["DEFAULTS"]
