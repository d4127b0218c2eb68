"""Watched directories, the service that looks at them, and what its server has of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

from hcs_nuclei.simulate import simulate_plate


class Service:
    """Watched directories, their service directory, and the runs that the server has of the deployment."""

    def __init__(self, folder: Path, deployment: str) -> None:
        self.watched, self.out, self.state = (folder / name for name in ("watched", "runs", "state"))
        for place in (self.watched, self.out, self.state):
            place.mkdir()
        self.deployment = deployment

    def plate(self, name: str, **shape: int) -> Path:
        return simulate_plate(self.watched, **{"wells": 2, "size": 64, **shape}, name=name).directory

    def look(self, **others: Any) -> str:
        from flows.parameters import WatchPlatesParameters
        from flows.watch_plates import watch_plates

        places = {"roots": [self.watched], "out": self.out, "state": self.state}
        given = {**{k: list(map(str, v)) if isinstance(v, list) else str(v) for k, v in places.items()}, **others}
        given = {"quiet": 0, "deployment": f"process-plate/{self.deployment}", **given}
        return watch_plates(WatchPlatesParameters.model_validate(given))

    @property
    def entries(self) -> dict[str, Any]:
        from flows.ledger import open_ledger

        with open_ledger(self.state) as ledger:
            assert ledger is not None
            return {entry.plate: entry for entry in ledger.entries.values()}

    @property
    def runs(self) -> list[Any]:
        from prefect.client.orchestration import get_client
        from prefect.client.schemas.filters import DeploymentFilter

        with get_client(sync_client=True) as client:
            this = DeploymentFilter.model_validate({"name": {"any_": [self.deployment]}})
            return sorted(client.read_flow_runs(deployment_filter=this), key=lambda run: run.created)

    def end(self, entry: Any, state: Any) -> None:
        from prefect.client.orchestration import get_client

        with get_client(sync_client=True) as client:
            client.set_flow_run_state(UUID(entry.flow_run), state, force=True)


def make_service(folder: Path, test: str) -> Service:
    from flows.process_plate import process_plate

    name = test.replace("_", "-")
    process_plate.to_deployment(name).apply()
    return Service(folder, name)
