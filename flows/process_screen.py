"""Many plates as one Prefect flow, one after another or side by side; each is a flow run of its own below it."""

from collections import Counter
from typing import Any, cast

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from flows.endings import QUARANTINED, StoppedError, ends_in_words
from flows.parameters import ProcessScreenParameters
from flows.process_plate import process_plate
from flows.side_by_side import process_side_by_side
from hcs_nuclei.errors import listed


@flow(name="process-screen", flow_run_name="screen-{parameters.name}", retries=0, persist_result=False)
@ends_in_words
def process_screen(parameters: ProcessScreenParameters) -> dict[str, str]:
    """Process plates; one that fails does not stop the others.

    Ends as *Failed* where a plate failed, as *CompletedWithQuarantinedWells* where one ended so, else as *Completed*.

    Returns:
        The plates in the order in which they were given, each with the state in which it ended, and why.
    """
    parameters.check_places()
    if parameters.deployment:
        say, times = get_run_logger().info, range(2, (flow_run.run_count or 1) + 1)
        keys = [f"screen-{flow_run.id}", *(f"screen{time}-{flow_run.id}" for time in times)]
        return _ended(process_side_by_side(parameters.each(), parameters.deployment, parameters.at_once, keys, say))
    ends: dict[str, State[Any]] = {}
    for plate in parameters.each():
        ends[plate.plate] = process_plate(plate, return_state=True)
        if ends[plate.plate].is_cancelled():
            raise StoppedError
    return _ended(ends)


def _ended(ends: dict[str, State[Any]]) -> dict[str, str]:
    """The state to end in; the caller of the flow receives what became of each plate."""
    words = {plate: f"{state.name}: {state.message}" for plate, state in ends.items()}
    counts = Counter(state.name or "" for state in ends.values())
    line = ", ".join(f"{number} {name}" for name, number in counts.items())
    failed = [f"{plate}: {state.message}" for plate, state in ends.items() if not state.is_completed()]
    if failed:
        return cast(dict[str, str], Failed(message=f"{line}. {listed(failed, 3)}", data=words))
    name = QUARANTINED if QUARANTINED in counts else "Completed"
    return cast(dict[str, str], Completed(name=name, message=line, data=words))
