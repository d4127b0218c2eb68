"""A model retrained on the cluster that processes plates, told by what the processes, the files and the server say.

Annotated are real images (:mod:`reserve_halves`); plates are simulated. Everything is started and stopped in
:func:`topology.started_topology`. A step that does not come true raises.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from reserve_halves import earlier_annotations, frozen_annotations, reserve_halves
from topology import BIN, Topology, patiently

from hcs_nuclei.audit import AUDIT_FILE
from hcs_nuclei.models.card import read_card
from hcs_nuclei.models.store import SHIPPED
from hcs_nuclei.simulate import simulate_plate
from hcs_nuclei.training.fit import HISTORY_FILE, read_history
from hcs_nuclei.training.retraining import LOG_FILE

_ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
_OF_TRAINING = ("epochs", "batches_per_epoch", "batch", "crop_px", "learning_rate", "gate")
#: Longer than that no step takes on a machine that does ten other things.
PATIENCE_S = 3000.0


@dataclass(frozen=True)
class Sizes:
    """How large the story is: of the training, of the plates, and one in how many images of DSB2018 is taken."""

    epochs: int
    batches_per_epoch: int
    batch: int
    crop_px: int
    learning_rate: float
    wells: int
    field_px: int
    every: int
    #: What differs from the rules of the gate, for both trainings.
    gate: Mapping[str, float] = field(default_factory=dict)
    #: What differs in the training on shifted masks.
    shifted: Mapping[str, Any] = field(default_factory=dict)
    #: How many of the 14 images are used, the first ones.
    images: int = 14


@dataclass
class Story:
    """What happened: of plates and trainings by their names; times are those of files, in s since the epoch."""

    killed_after: int = 0
    begun: list[str] = field(default_factory=list)
    wells: dict[str, list[float]] = field(default_factory=dict)
    plates_ended: dict[str, str] = field(default_factory=dict)
    last_epoch: dict[str, float] = field(default_factory=dict)
    ended: dict[str, tuple[str, str]] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)
    artifacts: dict[str, Any] = field(default_factory=dict)
    said: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    audit: list[str] = field(default_factory=list)

    @property
    def wells_during(self) -> list[float]:
        """When the wells of the first plate were finished, of those that were while the training went on."""
        return [when for when in self.wells["during training"] if when < self.last_epoch["reserve"]]


@dataclass(frozen=True)
class Teller:
    """Who tells it: the processes, the real data, the sizes, and where each line goes to."""

    topology: Topology
    shared: Path
    sizes: Sizes
    say: Callable[[str], None]

    def tell(self) -> Story:
        """Train with a worker killed, promote during a plate, refuse shifted masks, go back."""
        story = Story(models={"shipped": read_card(SHIPPED).identifier})
        self._prepare()
        run, began = self.train("reserve"), time.monotonic()
        self._wait(lambda: self._training() is not None)
        self._process("during training", story, meanwhile=lambda: self._kill_in_the_middle(story))
        self._ended(story, "reserve", run, began)
        during = story.wells_during
        self.say(f"{len(during)} wells were finished while it went on, {rate(during):.1f} a minute.")
        self._promote_during_a_plate(story)
        self._process("after promotion", story, wells=2)
        run, began = self.train("shifted", earlier=[], promote=True, **self.sizes.shifted), time.monotonic()
        self._ended(story, "shifted", run, began)
        story.said["list"] = self.command("models", "list")
        story.said["rollback"] = self.command("models", "rollback", "--reason", "the demonstration is over")
        self._process("after rollback", story, wells=2)
        story.audit = (self.topology.folder / "models" / AUDIT_FILE).read_text().splitlines()
        return story

    @property
    def trainings(self) -> Path:
        """Where trainings write to."""
        return self.topology.data / "training" / "models"

    def command(self, *words: str) -> str:
        """What ``hcs-nuclei`` says, given as somebody gives it on the machine of the service."""
        environ = self.topology.environ("prefect-worker")
        done = subprocess.run([str(BIN / "hcs-nuclei"), *words], env=environ, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        self.say(f"$ hcs-nuclei {' '.join(words)}\n{done.stdout.rstrip()}")
        return done.stdout

    def train(self, name: str, **changes: Any) -> str:
        """Ask for a run of the deployment of trainings, as its form does; its id."""
        data = self.topology.data / "training" / "annotations"
        given = {
            "annotations": [str(data / name)],
            "earlier": [str(data / "earlier" / part) for part in ("dsb2018", "s-bsst265")],
            "frozen": [str(data / "frozen")],
            "frozen_split": "val",
            "few_images": True,
            "out": str(self.trainings / name),
            "name": name,
            "cluster": self.topology.scheduler,
            **{size: getattr(self.sizes, size) for size in _OF_TRAINING},
        }
        self.say(f"A training is begun from the annotations {name}.")
        return self._begin("train-model/train", {**given, **changes})

    def _prepare(self) -> None:
        data = self.topology.data / "training" / "annotations"
        reserve_halves(self.shared, data / "reserve", images=self.sizes.images)
        reserve_halves(self.shared, data / "shifted", images=self.sizes.images, shift_px=15)
        earlier_annotations(self.shared, data / "earlier", every=self.sizes.every)
        frozen_annotations(self.shared, data / "frozen", every=self.sizes.every)

    def _kill_in_the_middle(self, story: Story) -> None:
        """Kill the worker that trains once two epochs are done, and wait until the training goes on."""
        history = self.trainings / "reserve" / HISTORY_FILE
        self._wait(lambda: len(read_history(history)) >= 2)
        child = self._training()
        assert child is not None, "the training was over before its worker could be killed"
        worker = child.parent()
        assert worker is not None
        story.killed_after = len(read_history(history))
        worker.kill()
        self.say(f"The worker that trains is killed after {story.killed_after} of {self.sizes.epochs} epochs.")
        self._wait(lambda: (other := self._training()) is not None and other.pid != child.pid)
        self._wait(lambda: len(read_history(history)) > story.killed_after)
        log = (self.trainings / "reserve" / LOG_FILE).read_text(errors="replace").splitlines()
        story.begun = [line for line in log if line.startswith("Epoch ")]
        self.say("Another goes on with it; its log has, in order: " + ", ".join(story.begun))

    def _promote_during_a_plate(self, story: Story) -> None:
        """Promote while a plate is under way that began with the model of before."""
        story.models["candidate"] = read_card(self.trainings / "reserve").identifier

        def promote() -> None:
            self._wait(lambda: any((self.topology.data / "runs").glob("after-training*")))
            words = ("models", "promote", str(self.trainings / "reserve"), "--reason", "the demonstration")
            story.said["promote"] = self.command(*words)

        # So many wells that it is not over when the command has started.
        self._process("after training", story, wells=4 * self.sizes.wells, meanwhile=promote)

    def _process(
        self, name: str, story: Story, *, wells: int | None = None, meanwhile: Callable[[], None] | None = None
    ) -> None:
        """A plate of its own through the deployment; `meanwhile` is called when its run was asked for."""
        data, plate = self.topology.data, name.replace(" ", "-")
        size = {"wells": wells or self.sizes.wells, "fields": 1, "size": self.sizes.field_px}
        made = simulate_plate(data / "service" / "made", name=plate, **size)
        where = {"plate": str(made.directory), "out": str(data / "runs"), "cluster": self.topology.scheduler}
        run = self._begin("process-plate/plates", where)
        if meanwhile is not None:
            meanwhile()
        state, message = self._end_of(run)
        assert state == "Completed", (state, message)
        story.plates_ended[name] = self.topology.run(run)["end_time"]
        [directory] = (data / "runs").glob(f"{plate}*")
        story.models[name] = json.loads((directory / "run.json").read_text())["model"]["sha256"][:12]
        times = sorted(path.stat().st_mtime for path in directory.glob("nuclei/[!.]*.parquet"))
        story.wells[name] = times
        self.say(f"Plate {name}: {message} Model {story.models[name]}, {rate(times):.1f} wells a minute.")

    def _ended(self, story: Story, name: str, run: str, began: float) -> None:
        """Wait for the end of a training, and keep what it said and showed."""
        story.ended[name] = self._end_of(run)
        story.seconds[name] = time.monotonic() - began
        asked = {"artifacts": {"flow_run_id": {"any_": [run]}}, "sort": "CREATED_DESC"}
        newest_first = self.topology.ask("POST", "artifacts/filter", asked)
        story.artifacts |= {one["key"]: one["data"] for one in reversed(newest_first)}
        story.last_epoch[name] = (self.trainings / name / HISTORY_FILE).stat().st_mtime
        self.say(f"Training {name}, {story.seconds[name]:.0f} s: {': '.join(story.ended[name])}")
        self.say(str(story.artifacts[f"{name}-comparison"]))

    def _begin(self, deployment: str, parameters: Mapping[str, Any]) -> str:
        identifier = self.topology.ask("GET", f"deployments/name/{deployment}")["id"]
        asked = {"parameters": {"parameters": dict(parameters)}}
        return str(self.topology.ask("POST", f"deployments/{identifier}/create_flow_run", asked)["id"])

    def _end_of(self, run: str) -> tuple[str, str]:
        """Name and message of the state that a run ended in."""
        found = patiently(lambda: self.topology.run(run), lambda run: run["state_type"] in _ENDED, PATIENCE_S)
        return found["state"]["name"], found["state"]["message"]

    def _training(self) -> psutil.Process | None:
        """The process that trains now."""
        for process in self.topology.family("worker-1", "worker-2"):
            try:
                if "hcs_nuclei.training.child" in process.cmdline():
                    return process
            except psutil.Error:
                continue
        return None

    def _epochs(self, name: str) -> int:
        return len(read_history(self.trainings / name / HISTORY_FILE))

    def _wait(self, until: Callable[[], bool]) -> None:
        patiently(until, bool, PATIENCE_S)


def rate(times: Sequence[float]) -> float:
    """Wells a minute from the first to the last."""
    return 60 * (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else 0.0
