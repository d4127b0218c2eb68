"""The forms of the flows in Prefect's UI, and the places that they name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from flows.roots import check_cluster, check_roots, places_of_settings
from hcs_nuclei.settings import Settings

ClusterSpec = Annotated[
    str,
    Field(
        min_length=1,
        title="Dask cluster",
        description=(
            "local: worker processes on the machine that runs the flow; local-gpu: one to each of its GPUs, refused "
            "without; tls://HOST:PORT or tcp://127.0.0.1:PORT: a running Dask scheduler; file:PATH: its scheduler "
            "file; slurm:FILE: SLURM jobs as that YAML file describes them; kubernetes:FILE: the DaskCluster of that "
            "manifest. With gpu: before any of these it is refused where no worker has a GPU."
        ),
        examples=["local", "local-gpu", "tls://scheduler:8786", "file:/data/scheduler.json", "slurm:/data/gpu.yaml"],
    ),
]
WorkerCount = Annotated[
    int | None,
    Field(ge=1, title="Worker processes", description="On a local cluster; left out, the machine decides."),
]
RunBy = Annotated[
    str,
    Field(
        max_length=100,
        title="Your name",
        description="For the audit log; Prefect's own server knows no users, so left out it says who runs the service.",
    ),
]


class RunParameters(BaseModel):
    """How plates are processed, whichever they are."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    out: str = Field(
        min_length=1,
        title="Output directory",
        description="Directory of runs; a plate gets a directory of its own in it, or goes on with the one there.",
    )
    settings: Settings = Field(default=Settings(), title="Assay recipe", description="What changes results.")
    cluster: ClusterSpec = "local"
    workers: WorkerCount = None
    overwrite: bool = Field(
        default=False,
        title="Make everything again",
        description="The former tables, report and provenance are kept under .previous in the run directory.",
    )
    retry_failed: bool = Field(
        default=False, title="Retry wells with faults", description="Without it they count as done."
    )
    performance_report: bool = Field(
        default=False, title="Dask performance report", description="Write performance.html into the run directory."
    )
    recipe: str = Field(
        default="", title="Name of the recipe", description="What the settings are called, for the audit log."
    )
    reason: str = Field(default="", title="Reason", description="Why, for the audit log.")
    by: RunBy = ""

    def check_places(self) -> None:
        """Refuse what lies outside the allowed roots.

        Raises:
            SettingsError: names the first such place.
        """
        check_roots([("Output directory", self.out), *places_of_settings(self.settings)])
        check_cluster(self.cluster)


class _OnePlate(BaseModel):
    plate: str = Field(
        min_length=1,
        title="Plate directory",
        description="The vendor's directory, as the machine that runs the flow sees it, or its URL; only ever read.",
        examples=["/data/plates/HT0001", "s3://screens/plates/HT0001"],
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
        check_roots([], [("Plate directory", self.plate)])
        super().check_places()


class _ManyPlates(BaseModel):
    plates: tuple[str, ...] = Field(
        min_length=1,
        title="Plate directories",
        description="As the machine that runs the flow sees them, or their URLs; only ever read, in this order.",
    )
    deployment: str = Field(
        default="",
        title="Deployment of a plate",
        description="Each plate is a run of it, side by side as far as its concurrency limit lets them, and in turn "
        "with those of the watcher; left out, the plates are processed one after another within this run.",
        examples=["process-plate/plates"],
    )
    at_once: int | None = Field(
        default=None,
        ge=1,
        title="Plates at a time",
        description="At most so many of this screen; left out, as many as the deployment has room for.",
    )

    @model_validator(mode="after")
    def _side_by_side(self) -> Self:
        if (self.at_once or 1) > 1 and not self.deployment:
            raise ValueError("plates are processed side by side as runs of a deployment. Name that, or leave out both")
        return self


class ProcessScreenParameters(RunParameters, _ManyPlates):
    """What to process, where to, and how."""

    @property
    def name(self) -> str:
        """What the run is called: the first plate, and how many there are."""
        more = f"-and-{len(self.plates) - 1}-more" if len(self.plates) > 1 else ""
        return f"{Path(self.plates[0]).name}{more}"

    def each(self) -> list[ProcessPlateParameters]:
        """The parameters of each plate; one that is named twice is processed once."""
        common = {name: getattr(self, name) for name in RunParameters.model_fields}
        return [ProcessPlateParameters(plate=plate, **common) for plate in dict.fromkeys(self.plates)]

    def check_places(self) -> None:
        """Refuse what lies outside the allowed roots.

        Raises:
            SettingsError: names the first such place.
        """
        check_roots([], [("Plate directory", plate) for plate in self.plates])
        super().check_places()


class WatchPlatesParameters(BaseModel):
    """Where plates appear, and how each is processed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    roots: tuple[str, ...] = Field(
        min_length=1, title="Watched directories", description="Plates are found in them and below; only ever read."
    )
    out: str = Field(
        min_length=1, title="Output directory", description="Directory of runs; each plate gets one in it."
    )
    state: str = Field(
        min_length=1,
        title="Service directory",
        description="What is known of each plate (ledger/), status.html, and notify.yaml, which says who is told.",
    )
    recipes: str | None = Field(
        default=None,
        title="Directory of recipes",
        description="One YAML an assay, with match: saying for which plates; left out, the default settings for all.",
    )
    quiet: float = Field(
        default=60.0,
        ge=0,
        title="Quiet time (s)",
        description="A plate is complete when all is there and nothing changed for so long.",
    )
    deployment: str = Field(
        default="process-plate/plates", title="Deployment", description="Flow and deployment that process a plate."
    )
    cluster: ClusterSpec = "local"
    workers: WorkerCount = None

    def check_places(self) -> None:
        """Refuse what lies outside the allowed roots.

        Raises:
            SettingsError: names the first such place.
        """
        watched = [("Watched directory", root) for root in self.roots]
        recipes = [("Directory of recipes", self.recipes)] if self.recipes is not None else []
        check_roots([*watched, ("Output directory", self.out), ("Service directory", self.state), *recipes])
        check_cluster(self.cluster)
