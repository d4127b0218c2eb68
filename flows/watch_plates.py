"""The scheduled flow that finds new plates, waits until each is complete, and starts one run for it, never two.

A pass looks once and ends; what it knows is in the ledger. It waits for nothing: neither for a copy nor for a run.
"""

from collections import Counter
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import cast, get_args

from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.logging import get_run_logger
from prefect.states import Completed

from flows.endings import ends_in_words
from flows.ledger import NOT_BEGUN, Entry, Ledger, State, look_from_plain, look_to_plain, open_ledger
from flows.notifying import Notify, Outbox, message_of, none_finished, read_notify
from flows.parameters import ProcessPlateParameters, WatchPlatesParameters
from flows.recipes import read_recipes, recipe_for
from flows.service_runs import again, begin, follow, now
from flows.status_page import write_status_page
from flows.watching import Decision, decide, find_plates
from hcs_nuclei.errors import NotAPlateError, SettingsError, listed
from hcs_nuclei.sources.completeness import Completeness, check_completeness

_STATES: dict[str, State] = {"wait": "writing", "hold": "held", "start": "starting"}


@flow(name="watch-plates", flow_run_name="watch", retries=0, persist_result=False)
@ends_in_words
def watch_plates(parameters: WatchPlatesParameters) -> str:
    """Look once at the watched directories: follow the runs that were begun, begin those of new complete plates."""
    parameters.check_places()
    with open_ledger(Path(parameters.state)) as ledger, get_client(sync_client=True) as client:
        if ledger is None:
            return _completed("Another pass has not ended yet.")
        state = Path(parameters.state)
        notify, outbox = _notify(state), Outbox(state)
        _follow_all(client, ledger, parameters, outbox, notify)
        for decision, look in _look(ledger, parameters):
            entry = _entry(decision, look, ledger.entries.get(str(decision.found.root)), parameters)
            if decision.action == "start":
                entry = begin(entry, parameters.deployment, ledger.write)
                get_run_logger().info("%s: begun with recipe %s; %s", entry.root, entry.recipe, decision.reason)
            ledger.write(entry)
        local = datetime.now().astimezone()
        write_status_page(state, ledger.entries.values(), local)
        if notify.finished_by is not None:
            outbox.put(none_finished(ledger.entries.values(), notify.finished_by, outbox.since, local))
        outbox.send(notify.to, get_run_logger().warning)
        return _completed(_in_words(ledger))


def _notify(state: Path) -> Notify:
    """Who is told; a mistake in that must not stop plates."""
    try:
        return read_notify(state)
    except SettingsError as error:
        get_run_logger().error("%s", error)
        return Notify()


def _follow_all(
    client: SyncPrefectClient, ledger: Ledger, parameters: WatchPlatesParameters, outbox: Outbox, notify: Notify
) -> None:
    """What became of the runs; those that were ended from outside are begun again."""
    for entry in list(ledger.entries.values()):
        followed = follow(client, entry, stale=timedelta(minutes=notify.stale_minutes))
        if followed != entry:
            outbox.put(message_of(entry, followed))
            ledger.write(followed)
        repeated = followed if followed.state == "starting" else again(followed)
        if repeated is not None:
            begin(repeated, parameters.deployment, ledger.write)
            get_run_logger().warning("%s: begun again (%s)", entry.root, followed.reason)


def _look(ledger: Ledger, parameters: WatchPlatesParameters) -> list[tuple[Decision, Completeness | None]]:
    """What to do about the plates that were not begun; plates that are there no more are forgotten."""
    recipes, faults = read_recipes(Path(parameters.recipes) if parameters.recipes else None)
    for fault in faults:
        get_run_logger().warning("%s", fault)
    begun = {Path(root) for root, entry in ledger.entries.items() if entry.state not in NOT_BEGUN}
    found = find_plates(map(Path, parameters.roots), begun=begun, leave_out=[Path(parameters.out)])
    there = {str(plate.root) for plate in found}
    for root, entry in list(ledger.entries.items()):
        if entry.state in NOT_BEGUN and root not in there:
            ledger.drop(root)
    looks: dict[Path, Completeness] = {}
    for plate in found:
        if isinstance(recipe_for(plate.root, plate.plate, recipes, faults), str):
            continue
        former = ledger.entries.get(str(plate.root))
        with suppress(NotAPlateError):  # gone since
            last = look_from_plain(former.look if former else None)
            looks[plate.root] = check_completeness(plate.root, last, quiet=parameters.quiet)
    decisions = decide(found, looks, recipes, ledger.entries, faults=faults, quiet=parameters.quiet)
    return [(decision, looks.get(decision.found.root)) for decision in decisions]


def _entry(
    decision: Decision, look: Completeness | None, former: Entry | None, parameters: WatchPlatesParameters
) -> Entry:
    """What is kept of a plate that was not begun; with the state ``starting``, what its run is to be given."""
    root, out = str(decision.found.root), Path(parameters.out).absolute()
    pausing = decision.action == "wait" and look is not None and look.state == "incomplete"
    entry = Entry(
        root=root,
        plate=decision.found.plate,
        run=decision.found.run,
        state="incomplete" if pausing else _STATES[decision.action],
        reason=decision.reason,
        recipe=decision.recipe.name if decision.recipe else "",
        run_dir=str(out / decision.found.run),
        found=former.found if former else now(),
        look=look_to_plain(look) if look else None,
    )
    if decision.action != "start" or decision.recipe is None:
        return entry
    given = ProcessPlateParameters(
        plate=root,
        out=str(out),
        settings=decision.recipe.settings,
        cluster=parameters.cluster,
        workers=parameters.workers,
    )
    plain = given.model_dump(mode="json")
    return entry.model_copy(update={"look": None, "attempt": 1, "begun": now(), "parameters": plain})


def _in_words(ledger: Ledger) -> str:
    """One line: how many plates are in which state, and which of them are held."""
    counts = Counter(entry.state for entry in ledger.entries.values())
    line = ", ".join(f"{counts[state]} {state}" for state in get_args(State) if counts[state]) or "no plate yet"
    held = [f"{entry.root}: {entry.reason}" for entry in ledger.entries.values() if entry.state == "held"]
    return f"{line}. Held: {listed(held, 3)}" if held else line


def _completed(message: str) -> str:
    return cast(str, Completed(message=message, data=message))
