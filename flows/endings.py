"""How runs end: in a state whose message is the reason, one line, instead of a traceback."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar, cast

from prefect.states import Cancelled, Failed

from hcs_nuclei.errors import HcsNucleiError

P = ParamSpec("P")
T = TypeVar("T")

#: The name of the state of a run that is completed, with wells that have faults; its type is COMPLETED.
QUARANTINED = "CompletedWithQuarantinedWells"


class StoppedError(Exception):
    """Ctrl-C on its way through Prefect, whose event loop would die of a KeyboardInterrupt in a state."""


def ends_in_words(function: Callable[P, T]) -> Callable[P, T]:
    """End a run with one line instead of a traceback, where the reason is known; the caller gets the error itself.

    Prefect looks annotations that are texts up in this module and not in the flow's: a flow's must not be texts.
    """

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except HcsNucleiError as error:
            return cast(T, Failed(message=" ".join(str(error).split()), data=error))
        except (KeyboardInterrupt, StoppedError):
            return cast(T, Cancelled(message="Stopped by Ctrl-C; finished wells are kept.", data=StoppedError()))

    return run
