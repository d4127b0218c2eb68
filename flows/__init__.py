"""Prefect flows over the same pipeline that runs without Prefect; the only home of Prefect."""

# First, since whatever else is imported from here imports Prefect.
from flows.defaults import DEFAULTS

__all__ = ["DEFAULTS"]
