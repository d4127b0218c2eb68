"""Many plates as one Prefect flow, one after another; each is a flow run of its own below it."""

from collections import Counter
from typing import cast

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.endings import QUARANTINED, StoppedError, ends_in_words
from flows.parameters import ProcessScreenParameters
from flows.process_plate import process_plate
from hcs_nuclei.errors import listed
from hcs_nuclei.pipeline import RunResult


@flow(name="process-screen", flow_run_name="screen-{parameters.name}", retries=0, persist_result=False)
@ends_in_words
def process_screen(parameters: ProcessScreenParameters) -> list[RunResult]:
    """Process plates one after another; one that fails does not stop the others.

    Ends as *Failed* where a plate failed, as *CompletedWithQuarantinedWells* where one ended so, else as *Completed*.
    The results of the plates that are finished are in the order in which they were given.
    """
    parameters.check_places()
    ends: dict[str, State[RunResult]] = {}
    for plate in parameters.each():
        ends[plate.plate] = process_plate(plate, return_state=True)
        if ends[plate.plate].is_cancelled():
            raise StoppedError
    return _ended(ends)


def _ended(ends: dict[str, State[RunResult]]) -> list[RunResult]:
    results = [state.result() for state in ends.values() if state.is_completed()]
    counts = Counter(state.name or "" for state in ends.values())
    line = ", ".join(f"{number} {name}" for name, number in counts.items())
    failed = [f"{plate}: {state.message}" for plate, state in ends.items() if not state.is_completed()]
    if failed:
        return cast(list[RunResult], Failed(message=f"{line}. {listed(failed, 3)}", data=results))
    name = QUARANTINED if QUARANTINED in counts else "Completed"
    return cast(list[RunResult], Completed(name=name, message=line, data=results))
