"""The forms of the flows in Prefect's UI, and the places that they name."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from flows.roots import check_roots, places_of_settings
from hcs_nuclei.settings import Settings


class RunParameters(BaseModel):
    """How plates are processed, whichever they are."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    out: str = Field(
        min_length=1,
        title="Output directory",
        description="Directory of runs; a plate gets a directory of its own in it, or goes on with the one there.",
    )
    settings: Settings = Field(default=Settings(), title="Assay recipe", description="What changes results.")
    cluster: str = Field(
        default="local",
        title="Dask cluster",
        description="local, local-gpu, tcp://host:port, tls://host:port, or a scheduler file.",
    )
    workers: int | None = Field(
        default=None,
        ge=1,
        title="Worker processes",
        description="On a local cluster; left out, the machine decides.",
    )
    overwrite: bool = Field(
        default=False,
        title="Make everything again",
        description="The former tables, report and provenance are kept under .previous in the run directory.",
    )
    retry_failed: bool = Field(
        default=False, title="Retry wells with faults", description="Without it they count as done."
    )

    def check_places(self) -> None:
        """Refuse what lies outside the allowed roots.

        Raises:
            SettingsError: names the first such place.
        """
        is_file = self.cluster.startswith("file:") or Path(self.cluster).is_file()
        scheduler = [("Scheduler file", self.cluster.removeprefix("file:"))] if is_file else []
        check_roots([("Output directory", self.out), *places_of_settings(self.settings), *scheduler])


class _OnePlate(BaseModel):
    plate: str = Field(
        min_length=1,
        title="Plate directory",
        description="The vendor's directory, as the machine that runs the flow sees it; only ever read.",
    )


class ProcessPlateParameters(RunParameters, _OnePlate):  # in this order the form begins with the plate
    """What to process, where to, and how."""

    @property
    def name(self) -> str:
        """What the plate is called before it is opened."""
        return self.settings.plate_name or Path(self.plate).name

    def check_places(self) -> None:
        """Refuse what lies outside the allowed roots.

        Raises:
            SettingsError: names the first such place.
        """
        check_roots([("Plate directory", self.plate)])
        super().check_places()
