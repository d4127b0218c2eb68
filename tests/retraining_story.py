"""A model retrained on the cluster that processes plates, told by what the processes, the files and the server say.

Annotated are real images (:mod:`reserve_halves`); plates are simulated. Everything is started and stopped in
:func:`topology.started_topology`. A step that does not come true raises.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Mapping
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
_OF_TRAINING = ("epochs", "batches_per_epoch", "batch", "crop_px", "learning_rate")
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
    #: Of the training that is to be promoted; left out, the default rules.
    gate: Mapping[str, float] = field(default_factory=dict)


@dataclass
class Story:
    """What happened; the rates are wells a minute, `seconds` how long each training took."""

    killed_after: int = 0
    begun: list[str] = field(default_factory=list)
    epochs_during: int = 0
    rates: dict[str, float] = field(default_factory=dict)
    ended: dict[str, tuple[str, str]] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)
    artifacts: dict[str, Any] = field(default_factory=dict)
    said: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    audit: list[str] = field(default_factory=list)


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
        run, began = self.train("reserve", gate=dict(self.sizes.gate)), time.monotonic()
        self._kill_in_the_middle(story)
        self._plate_during(story, run)
        self._ended(story, "reserve", run, began)
        self._promote_during_a_plate(story)
        self._process("after promotion", story, wells=2)
        run, began = self.train("shifted", earlier=[], promote=True), time.monotonic()
        self._ended(story, "shifted", run, began)
        story.said["list"] = self.command("models", "list")
        story.said["rollback"] = self.command("models", "rollback", "--reason", "the demonstration is over")
        self._process("after rollback", story, wells=2)
        story.audit = (self.topology.folder / "models" / AUDIT_FILE).read_text().splitlines()
        return story

    @property
    def trainings(self) -> Path:
        """Where trainings write to."""
        return self.topology.data / "service" / "trainings"

    def command(self, *words: str) -> str:
        """What ``hcs-nuclei`` says, given as somebody gives it on the machine of the service."""
        environ = self.topology.environ("prefect-worker")
        done = subprocess.run([str(BIN / "hcs-nuclei"), *words], env=environ, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        self.say(f"$ hcs-nuclei {' '.join(words)}\n{done.stdout.rstrip()}")
        return done.stdout

    def train(self, name: str, **changes: Any) -> str:
        """Ask for a run of the deployment of trainings, as its form does; its id."""
        data = self.topology.data / "service" / "annotations"
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
        data = self.topology.data / "service" / "annotations"
        reserve_halves(self.shared, data / "reserve")
        reserve_halves(self.shared, data / "shifted", shift_px=15)
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

    def _plate_during(self, story: Story, training: str) -> None:
        """A plate from its start to its end, while the training holds a worker."""
        before = self._epochs("reserve")
        self._process("during training", story)
        assert self._training() is not None, "the training was over before the plate was"
        story.epochs_during = self._epochs("reserve") - before
        self.say(f"The training goes on, and did {story.epochs_during} epochs meanwhile.")
        assert self.topology.run(training)["state_type"] == "RUNNING"

    def _promote_during_a_plate(self, story: Story) -> None:
        """Promote while a plate is under way that began with the model of before."""
        story.models["candidate"] = read_card(self.trainings / "reserve").identifier

        def promote() -> None:
            story.said["promote"] = self.command(
                "models", "promote", str(self.trainings / "reserve"), "--reason", "the demonstration"
            )

        self._process("after training", story, meanwhile=promote)

    def _process(
        self, name: str, story: Story, *, wells: int | None = None, meanwhile: Callable[[], None] | None = None
    ) -> None:
        """A plate of its own through the deployment; `meanwhile` is called when its second well is finished."""
        data = self.topology.data
        made = simulate_plate(
            data / "service" / "made",
            wells=wells or self.sizes.wells,
            fields=1,
            size=self.sizes.field_px,
            name=name.replace(" ", "-"),
        )
        run = self._begin(
            "process-plate/plates",
            {"plate": str(made.directory), "out": str(data / "runs"), "cluster": self.topology.scheduler},
        )
        if meanwhile is not None:
            self._wait(lambda: len(self._wells(name)) >= 2)
            meanwhile()
            assert self.topology.run(run)["state_type"] == "RUNNING", "the plate was over before its time"
        state, message = self._end_of(run)
        assert state == "Completed", (state, message)
        [directory] = (data / "runs").glob(f"{name.replace(' ', '-')}*")
        story.models[name] = json.loads((directory / "run.json").read_text())["model"]["sha256"][:12]
        times = sorted(self._wells(name).values())
        rate = 60 * (len(times) - 1) / (times[-1] - times[0])
        story.rates[name] = rate
        self.say(f"Plate {name}: {message} Model {story.models[name]}, {rate:.1f} wells a minute.")

    def _ended(self, story: Story, name: str, run: str, began: float) -> None:
        """Wait for the end of a training, and keep what it said and showed."""
        story.ended[name] = self._end_of(run)
        story.seconds[name] = time.monotonic() - began
        asked = {"artifacts": {"flow_run_id": {"any_": [run]}}}
        story.artifacts |= {one["key"]: one["data"] for one in self.topology.ask("POST", "artifacts/filter", asked)}
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

    def _wells(self, name: str) -> dict[str, float]:
        """The finished wells of a plate, and when each was."""
        paths = (self.topology.data / "runs").glob(f"{name.replace(' ', '-')}*/nuclei/[!.]*.parquet")
        return {path.stem: path.stat().st_mtime for path in paths}

    def _wait(self, until: Callable[[], bool]) -> None:
        patiently(until, bool, PATIENCE_S)
