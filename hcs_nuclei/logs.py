"""Log records in, lines out: one JSON object each where ``$HCS_NUCLEI_LOG_FORMAT`` asks for it, and never a secret.

::

    {"time": "2026-11-28T12:50:03.120Z", "level": "WARNING", "logger": "hcs_nuclei.run", "message": "B03 field 4: …",
     "plate": "SIM-0001", "run": "SIM-0001__3420", "well": "B03", "field": 4}

`plate`, `well`, `field` and `run` (the run directory's name) stand where they are known; `flow_run` is Prefect's id.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType, TracebackType
from typing import Any, TextIO

from hcs_nuclei.errors import SettingsError

LOG_FORMAT = "HCS_NUCLEI_LOG_FORMAT"
_FORMATS = ("text", "json")
_PLACES = ("plate", "well", "field", "run")
#: Prefect builds its handlers from a file, of which the environment may change a class; its children inherit that.
_PREFECT_HANDLERS = ("PREFECT_LOGGING_HANDLERS_CONSOLE_CLASS", "PREFECT_LOGGING_HANDLERS_DEBUG_CLASS")
#: Where this context is, for records that do not say it themselves.
_HERE: ContextVar[Mapping[str, Any]] = ContextVar("here", default=MappingProxyType({}))

HIDDEN = "***"
_SECRET = r"(?:password|passwd|secret|token|signature|credential|api[_-]?key|access[_-]?key|auth[_-]?string)"
_PATTERNS = (
    # scheme://user:password@host
    (re.compile(r"(\w://)[^\s/@'\"]*:(?!\d{1,5}[/?#])[^\s@'\"]*@"), rf"\1{HIDDEN}@"),
    # ?X-Amz-Signature=..., &sig=..., password: ..., "token": "..."
    (re.compile(rf"(?i)([?&](?:[\w-]*{_SECRET}[\w-]*|sig|key)=)[^&\s'\"]+"), rf"\1{HIDDEN}"),
    (re.compile(rf"(?i)(\b[\w-]*{_SECRET}['\"]?\s*[:=]\s*['\"]?)[^\s,;&'\"}}]{{6,}}"), rf"\1{HIDDEN}"),
    (
        re.compile(r"(?i)(authorization['\"]?\s*[:=]\s*['\"]?(?:(?:bearer|basic|token|apikey)\s+)?)[^\s'\"]+"),
        rf"\1{HIDDEN}",
    ),
    (re.compile(r"\bBearer\s+[\w.~+/=-]{8,}"), f"Bearer {HIDDEN}"),
    # A webhook's path is what lets one in.
    (
        re.compile(r"(hooks\.slack\.com(?::\d+)?/|\bwebhook\.office\.com(?::\d+)?/|logic\.azure\.com\S*?/)[^\s'\"]+"),
        rf"\1{HIDDEN}",
    ),
)
_SECRET_VARIABLE = re.compile(rf"(?i){_SECRET}|WEBHOOK")


def scrub(text: str) -> str:
    """`text` without what looks like a secret, and without what this process's environment keeps as one."""
    for name, value in os.environ.items():
        if len(value) >= 8 and not value.startswith(("/", "$")) and _SECRET_VARIABLE.search(name):
            # Of user:password, as Prefect's API wants it, the second half alone is one as well.
            for secret in {value, value.partition(":")[2]}:
                text = text.replace(secret, HIDDEN) if len(secret) >= 8 else text
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def json_wanted() -> bool:
    """Whether ``$HCS_NUCLEI_LOG_FORMAT`` asks for JSON.

    Raises:
        SettingsError: it is neither ``json`` nor ``text``.
    """
    form = os.environ.get(LOG_FORMAT) or "text"
    if form not in _FORMATS:
        raise SettingsError(f"{LOG_FORMAT} is {form!r}; expected json or text.")
    return form == "json"


class JsonFormatter(logging.Formatter):
    """A record as one JSON object on one line."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {
            "time": time.replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": scrub(record.getMessage()),
        }
        here = _HERE.get()
        for name in _PLACES:
            value = here.get(name) if (own := getattr(record, name, None)) is None else own
            if value is not None:
                line[name] = scrub(value) if isinstance(value, str) else value
        if flow_run := getattr(record, "flow_run_id", None):
            line["flow_run"] = str(flow_run)
        if record.exc_info:
            line["exception"] = scrub(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False, default=str)


class JsonHandler(logging.StreamHandler[TextIO]):
    """Writes JSON to stderr whatever formatter it is given: takes the place of the handlers that Prefect makes."""

    def __init__(self, stream: TextIO | None = None, styles: Any = None) -> None:
        super().__init__(stream)
        self.formatter = JsonFormatter()

    def setFormatter(self, fmt: logging.Formatter | None) -> None:  # noqa: N802 - the name is Python's
        pass


class _Record(logging.LogRecord):
    """A record whose message holds no secret, whoever writes it, and wherever to."""

    def getMessage(self) -> str:  # noqa: N802 - the name is Python's
        return scrub(super().getMessage())


def set_up_logs() -> None:
    """Make this process log as the environment says: for processes of ours, not for programs that import the package.

    May be called again, when the environment or the handlers have changed.

    Raises:
        SettingsError: the environment asks for a format that is not there.
    """
    wanted = json_wanted()
    logging.setLogRecordFactory(_Record)
    root, ours = logging.getLogger(), logging.getLogger("hcs_nuclei")
    if not wanted:
        return
    for name in _PREFECT_HANDLERS:
        os.environ.setdefault(name, f"{__name__}.{JsonHandler.__name__}")
    loggers = [each for each in root.manager.loggerDict.values() if isinstance(each, logging.Logger)]
    for handler in [handler for each in loggers for handler in each.handlers]:
        if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler):
            handler.setFormatter(JsonFormatter())
    if not any(isinstance(handler, JsonHandler) for handler in root.handlers):
        root.handlers[:] = [JsonHandler()]
    ours.setLevel(logging.INFO)
    logging.captureWarnings(True)
    sys.excepthook = _log_exception


def dask_setup(_: object) -> None:
    """``dask worker --preload hcs_nuclei.logs``: log so from the worker's beginning on."""
    set_up_logs()


@contextmanager
def log_places(**places: Any) -> Iterator[dict[str, Any]]:
    """Within it, records that do not say themselves where they belong are of this plate, run, well or field.

    What is yielded may be added to, when more is known.
    """
    here = {**_HERE.get(), **places}
    token = _HERE.set(here)
    try:
        yield here
    finally:
        _HERE.reset(token)


def _log_exception(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    logging.getLogger("hcs_nuclei").critical("%s: %s", kind.__name__, error, exc_info=(kind, error, trace))
