"""What commands say to people on stderr: lines, or JSON objects where logs are asked for in that form."""

from __future__ import annotations

import logging
import os
import sys
from typing import Annotated, Any

import typer

from hcs_nuclei.errors import SettingsError
from hcs_nuclei.logs import LOG_FORMAT, json_wanted, scrub, set_up_logs

LogFormatOption = Annotated[
    str | None,
    typer.Option(
        metavar="text|json", help="json: one JSON object a line on stderr; else as HCS_NUCLEI_LOG_FORMAT says."
    ),
]
logger = logging.getLogger("hcs_nuclei.cli")


def tell(line: str, *, level: int = logging.INFO, **places: Any) -> None:
    """Say `line`; in JSON with the `places` (plate, well …) that it is about."""
    if json_wanted():
        logger.log(level, "%s", line.strip(), extra=places)
    else:
        print(scrub(line), file=sys.stderr, flush=True)


def tell_error(error: Exception | str) -> None:
    """Say why a command could not do what it was asked for; where the log's own format is the mistake, in text."""
    try:
        tell(str(error) if json_wanted() else f"hcs-nuclei: {error}", level=logging.ERROR)
    except SettingsError:
        print(f"hcs-nuclei: {error}", file=sys.stderr)


def tell_fault(error: Exception) -> bool:
    """Log an error of ours that nobody expected, where that is done in JSON; a terminal gets its traceback."""
    wanted = json_wanted()
    if wanted:
        logger.critical("%s: %s", type(error).__name__, error, exc_info=error)
    return wanted


def use_log_format(chosen: str | None) -> None:
    """Log in the format that was chosen, here and in every process that is started from here.

    Raises:
        SettingsError: there is no such format.
    """
    if chosen is not None:
        os.environ[LOG_FORMAT] = chosen
    set_up_logs()
