"""The scheduled flow that finds new plates, waits until each is complete, and starts one run for it, never two.

A pass looks once and ends; what it knows is in the ledger. It waits for nothing: neither for a copy nor for a run.
Plates are begun in the order in which they became complete, each when there is room for it.
"""

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast, get_args

from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.logging import get_run_logger
from prefect.states import Completed

from flows.endings import ends_in_words
from flows.heartbeats import patience
from flows.ledger import LAST_PASS, NOT_BEGUN, Entry, Ledger, State, look_from_plain, look_to_plain, open_ledger
from flows.notify_settings import Notify, read_notify
from flows.notifying import Message, Outbox, message_of, message_of_run, none_finished, root_missing
from flows.parameters import ProcessPlateParameters, WatchPlatesParameters
from flows.plate_events import TOLD_BY_WATCHER, emit_message
from flows.recipes import Recipe, read_recipes, recipe_for
from flows.server import web_page
from flows.service_runs import (
    NoDeploymentError,
    ServerAwayError,
    again,
    begin,
    failed_besides,
    follow,
    now,
    room,
)
from flows.status_page import write_status_page
from flows.watching import Decision, decide, find_plates, places_away
from hcs_nuclei.errors import ClusterError, NotAPlateError, SettingsError, listed
from hcs_nuclei.pipeline import note_recipe
from hcs_nuclei.sources.completeness import Completeness, check_completeness

_STATES: dict[str, State] = {"wait": "writing", "hold": "held", "start": "queued"}


#: How far back runs are looked at that are no watched plates; each is told once.
_LOOK_BACK = timedelta(days=1)


@dataclass(frozen=True)
class _Pass:
    """What one pass works with."""

    client: SyncPrefectClient
    ledger: Ledger
    parameters: WatchPlatesParameters
    notify: Notify
    outbox: Outbox
    recipes: list[Recipe]
    #: What is wrong with recipes that could not be read.
    faults: list[str]
    #: Places whose plates cannot be seen for now, and why.
    away: dict[Path, str] = field(default_factory=dict)

    def is_away(self, root: str | Path) -> bool:
        """Whether a plate cannot be seen for now; then what is known of it stays as it is."""
        return any(Path(root).is_relative_to(place) for place in self.away)

    def tell(self, message: Message | None) -> None:
        """Have a message sent at the end of the pass; what no run says itself is an event as well."""
        if message is not None and self.outbox.put(message) and message.kind in TOLD_BY_WATCHER:
            emit_message(message)


@flow(name="watch-plates", flow_run_name="watch", retries=0, persist_result=False)
@ends_in_words
def watch_plates(parameters: WatchPlatesParameters) -> str:
    """Look once at the watched directories: follow the runs that were begun, begin those of new complete plates."""
    parameters.check_places()
    state = Path(parameters.state)
    with open_ledger(state) as ledger, get_client(sync_client=True) as client:
        if ledger is None:
            return _completed("Another pass has not ended yet.")
        recipes, faults = read_recipes(Path(parameters.recipes) if parameters.recipes else None)
        for fault in faults:
            get_run_logger().warning("%s", fault)
        this = _Pass(client, ledger, parameters, _notify(state), Outbox(state), recipes, faults)
        try:
            _follow_all(this)
            _look_at_all(this)
            _begin_next(this)
        finally:  # what happened is told, whether or not more could be begun
            _tell(this)
        (state / LAST_PASS).touch()
        return _completed(_in_words(ledger, this.away))


def _tell(this: _Pass) -> None:
    entries = list(this.ledger.entries.values())
    moment = datetime.now(UTC).astimezone(this.notify.zone)
    write_status_page(Path(this.parameters.state), entries, moment, prefect=web_page(), away=this.away)
    if this.notify.finished_by is not None:
        this.tell(none_finished(entries, this.notify.finished_by, this.outbox.since, moment))
    this.outbox.send(this.notify.to, get_run_logger().warning)


def _notify(state: Path) -> Notify:
    """Who is told; a mistake in that must not stop plates."""
    try:
        return read_notify(state)
    except SettingsError as error:
        get_run_logger().error("%s", error)
        return Notify()


def _follow_all(this: _Pass) -> None:
    """What became of the runs; those that were ended from outside are queued again."""
    silent = patience(this.notify.stale_minutes)
    for entry in list(this.ledger.entries.values()):
        followed = follow(this.client, entry, stale=silent)
        if followed != entry:
            this.tell(message_of(entry, followed))
            this.ledger.write(followed)
        if (repeated := again(followed)) is not None:
            this.ledger.write(repeated)
            get_run_logger().warning("%s: %s", entry.root, repeated.reason)
    since = max(this.outbox.since, datetime.now(UTC) - _LOOK_BACK)
    for run in failed_besides(this.client, since):
        this.tell(message_of_run(run))


def _look_at_all(this: _Pass) -> None:
    """Look at the plates that are not ready for a run; those that are there no more are forgotten."""
    ledger, quiet = this.ledger, this.parameters.quiet
    begun = {Path(root) for root, entry in ledger.entries.items() if entry.state not in NOT_BEGUN}
    roots, unlisted = [Path(root) for root in this.parameters.roots], dict[Path, str]()
    found = find_plates(
        roots, recipes=this.recipes, begun=begun, leave_out=[Path(this.parameters.out)], unlisted=unlisted
    )
    looks: dict[Path, Completeness] = {}
    for plate in found:
        recipe = recipe_for(plate.root, plate.plate, this.recipes, this.faults)
        if isinstance(recipe, str) or plate.fault:
            continue
        former = ledger.entries.get(str(plate.root))
        with suppress(NotAPlateError, SettingsError):  # gone since, or what the pattern cannot read came to it
            last = look_from_plain(former.look if former else None)
            pattern = recipe.settings.pattern
            looks[plate.root] = check_completeness(plate.root, last, quiet=quiet, pattern=pattern)
    # After the looks: a drive may go away in the middle of them.
    this.away.update(places_away(roots, [Path(root) for root in ledger.entries], unlisted))
    _say_away(this)
    there = {str(plate.root) for plate in found}
    for root, entry in list(ledger.entries.items()):
        if entry.state in NOT_BEGUN and root not in there and not this.is_away(root):
            ledger.drop(root)
    for decision in decide(found, looks, this.recipes, ledger.entries, faults=this.faults, quiet=quiet):
        if this.is_away(decision.found.root):
            continue
        former = ledger.entries.get(str(decision.found.root))
        entry = _entry(decision, looks.get(decision.found.root), former, this.parameters)
        this.tell(message_of(former, entry))
        ledger.write(entry)


def _say_away(this: _Pass) -> None:
    since = this.outbox.away_since(this.away)
    for place, why in this.away.items():
        message = root_missing(place, why, since[place])
        get_run_logger().warning("%s. %s", message.title, message.text)
        this.tell(message)


def _entry(
    decision: Decision, look: Completeness | None, former: Entry | None, parameters: WatchPlatesParameters
) -> Entry:
    """What is kept of a plate for which there is no run yet."""
    pausing = decision.action == "wait" and look is not None and look.state == "incomplete"
    ready = datetime.fromtimestamp(look.look.changed_at, UTC) if look and decision.action == "start" else None
    return Entry(
        root=str(decision.found.root),
        plate=decision.found.plate,
        run=decision.found.run,
        state="incomplete" if pausing else _STATES[decision.action],
        reason=decision.reason,
        recipe=decision.recipe.name if decision.recipe else "",
        run_dir=str(Path(parameters.out).absolute() / decision.found.run),
        found=former.found if former else now(),
        ready=ready.isoformat(timespec="milliseconds") if ready else "",
        look=look_to_plain(look) if look else None,
    )


def _begin_next(this: _Pass) -> None:
    """Begin what is queued, the oldest first, as far as there is room."""
    deployment, ledger = this.parameters.deployment, this.ledger
    for entry in list(ledger.entries.values()):
        if entry.state == "starting" and not this.is_away(entry.root):  # a pass that ended too early asked, or did not
            _begin(this, entry, entry.look)
    waiting = [e for e in ledger.entries.values() if e.state == "queued" and not this.is_away(e.root)]
    queued = sorted(waiting, key=lambda e: (e.ready, e.root))
    free = room(this.client, deployment) if queued else 0
    for entry in queued:
        if free < 1:
            break
        if (starting := _starting(this, entry)) is not None and _begin(this, starting, entry.look):
            get_run_logger().info("%s: begun with recipe %s; %s", entry.root, starting.recipe, entry.reason)
            free -= 1


def _begin(this: _Pass, entry: Entry, look: dict[str, Any] | None) -> bool:
    """Ask for the run of `entry`; whether it was made. A plate that the server refuses is held, and holds up no other.

    `look` is the last one at the plate, by which it is looked at again.
    """
    try:
        begin(entry, this.parameters.deployment, this.ledger.write)
    except (ServerAwayError, NoDeploymentError):
        raise
    except ClusterError as error:
        # Asked for anew it is another run, whatever became of those before.
        update = {"state": "held", "reason": str(error), "ready": "", "parameters": {}, "found": now(), "look": look}
        held = entry.model_copy(update=update)
        get_run_logger().error("%s: %s", entry.root, error)
        this.tell(message_of(entry, held))
        this.ledger.write(held)
        return False
    return True


def _starting(this: _Pass, entry: Entry) -> Entry | None:
    """The entry with what its run is to be given; a later attempt is given the same again.

    None where the plate changed or went while it was queued, or its recipe did: that is kept instead.
    """
    begun = {"state": "starting", "begun": now(), "attempt": max(entry.attempt, 1), "look": None}
    if entry.parameters:
        return entry.model_copy(update=begun)
    recipe = recipe_for(Path(entry.root), entry.plate, this.recipes, this.faults)
    if isinstance(recipe, str):
        this.ledger.write(entry.model_copy(update={"state": "held", "reason": recipe, "ready": ""}))
        return None
    try:
        last = look_from_plain(entry.look)
        pattern = recipe.settings.pattern
        look = check_completeness(entry.root, last, quiet=this.parameters.quiet, pattern=pattern)
    except (NotAPlateError, SettingsError):
        if not places_away(map(Path, this.parameters.roots), [Path(entry.root)]):
            this.ledger.drop(entry.root)
        return None
    if look.state != "complete":
        changed = {"state": "writing", "reason": look.reason, "ready": "", "look": look_to_plain(look)}
        this.ledger.write(entry.model_copy(update=changed))
        return None
    if fault := note_recipe(recipe.name, recipe.settings):
        get_run_logger().warning("%s", fault)
    given = ProcessPlateParameters(
        plate=entry.root,
        out=str(Path(this.parameters.out).absolute()),
        settings=recipe.settings,
        recipe=recipe.name,
        cluster=this.parameters.cluster,
        workers=this.parameters.workers,
    )
    plain = given.model_dump(mode="json")
    return entry.model_copy(update={**begun, "recipe": recipe.name, "parameters": plain})


def _in_words(ledger: Ledger, away: Mapping[Path, str]) -> str:
    """One line: how many plates are in which state, which of them are held, and which places are missing."""
    counts = Counter(entry.state for entry in ledger.entries.values())
    line = ", ".join(f"{counts[state]} {state}" for state in get_args(State) if counts[state]) or "no plate yet"
    held = [f"{entry.root}: {entry.reason}" for entry in ledger.entries.values() if entry.state == "held"]
    missing = [f"{place}: {why}" for place, why in away.items()]
    named = {"Held": held, "Missing": missing}
    return ". ".join([line, *(f"{what}: {listed(texts, 3)}" for what, texts in named.items() if texts)])


def _completed(message: str) -> str:
    return cast(str, Completed(message=message, data=message))
