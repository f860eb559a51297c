"""Log lines as JSON, one object a line on standard error: `SPILLWAY_LOG_FORMAT=json`.

Prefect's handlers are replaced as well: all lines of a process have one format. What a library writes to standard error
itself, such as the traceback of a thread, becomes the message of a line.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, TextIO

from pydantic import ValidationError
from pydantic_settings import BaseSettings

from infra.errors.exceptions import WrongUse
from infra.errors.redact import one_line, redact
from infra.setting_values import LogFormat
from infra.settings import Settings, settings

# Prefect's logging.yml has two handlers that write to standard error. Prefect reads these when it is imported.
_PREFECT_HANDLERS = ("PREFECT_LOGGING_HANDLERS_CONSOLE_CLASS", "PREFECT_LOGGING_HANDLERS_DEBUG_CLASS")
# Attributes of a record, as Prefect's loggers set them, and their names here.
_FIELDS = {
    "flow_name": "flow",
    "flow_run_name": "flow_run",
    "flow_run_id": "flow_run_id",
    "task_run_name": "task_run",
    "task_run_id": "task_run_id",
    "stream": "stream",
}
_UNKNOWN = "<unknown>"  # what Prefect says of a flow before it has looked
_MOST_ERRORS = 10  # of a chain of exceptions

_stream: ContextVar[str | None] = ContextVar("stream of log lines", default=None)


class _OnlyLogFormat(BaseSettings):
    """The one setting that the message about an invalid setting needs."""

    model_config = Settings.model_config
    log_format: LogFormat = "text"


def json_lines() -> bool:
    """Whether log lines are JSON. False if the setting itself is invalid."""
    try:
        return settings().log_format == "json"
    except (WrongUse, OSError, ValueError):
        try:
            return _OnlyLogFormat().log_format == "json"
        except (ValidationError, OSError, ValueError):
            return False


@contextmanager
def about_stream(name: str) -> Iterator[None]:
    """Log lines of the block have the stream's name in a field."""
    token = _stream.set(name)
    try:
        yield
    finally:
        _stream.reset(token)


def line_of(record: logging.LogRecord) -> str:
    """A record as one line of JSON, in ASCII and without passwords."""
    moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    fields: dict[str, Any] = {"time": moment, "level": record.levelname.lower(), "logger": record.name}
    fields["message"] = redact(record.getMessage())
    known = {name: getattr(record, attribute, None) for attribute, name in _FIELDS.items()}
    fields |= {name: str(value) for name, value in known.items() if value not in (None, _UNKNOWN)}
    if "stream" not in fields and (stream := _stream.get()) is not None:
        fields["stream"] = stream
    if record.exc_info and record.exc_info[1] is not None:
        fields["exception"] = _exception(record.exc_info[1])
    return json.dumps({key: _whole(value) for key, value in fields.items()})


def _exception(error: BaseException) -> dict[str, str]:
    """An exception with those that it came from, the last one first. No row is quoted."""
    chain: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and following not in chain and len(chain) < _MOST_ERRORS:
        chain.append(following)
        following = following.__cause__ or (None if following.__suppress_context__ else following.__context__)
    frames = [
        f"{''.join(traceback.format_tb(one.__traceback__))}{type(one).__name__}: {one_line(one)}" for one in chain
    ]
    return {"type": type(error).__name__, "message": one_line(error), "traceback": "\n".join(frames)}


def _whole(value: Any) -> Any:
    """Without halves of surrogate pairs, which strict readers of JSON refuse."""
    if isinstance(value, dict):
        return {key: _whole(inner) for key, inner in value.items()}
    return value.encode(errors="backslashreplace").decode()


def write_line(level: int, message: str, logger: str = "spillway", error: BaseException | None = None) -> None:
    """Write a line that does not come from a logger."""
    about = None if error is None else (type(error), error, error.__traceback__)
    _write(line_of(logging.LogRecord(logger, level, "", 0, message, None, about)))


def _write(line: str) -> None:
    if sys.__stderr__ is None:
        return
    try:
        sys.__stderr__.write(line + "\n")  # in one piece: other threads and processes write too
        sys.__stderr__.flush()
    except (OSError, ValueError):  # nobody reads it any more
        pass


class JsonLinesHandler(logging.Handler):
    """Writes records as JSON. Prefect's configuration gives it a stream and styles, which it does not need."""

    def __init__(self, level: int | str = logging.NOTSET, **_: Any) -> None:
        super().__init__(level)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        try:
            _write(line_of(record))
        except Exception:
            self.handleError(record)


class _StandardError:
    """What is written to `sys.stderr`: lines that are JSON objects as they are, others as messages."""

    def __init__(self, real: TextIO) -> None:
        self._real = real
        self._lock = threading.Lock()
        self._begun = ""

    def write(self, text: str) -> int:
        with self._lock:
            *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            self._write_line(line)
        return len(text)

    def _write_line(self, line: str) -> None:
        if _is_object(line):  # of a process that this one started
            _write(line)
        elif line.strip():
            write_line(logging.WARNING, line.rstrip(), "stderr")

    def isatty(self) -> bool:
        """Nobody types, and nothing is coloured."""
        return False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def _is_object(line: str) -> bool:
    try:
        return line.startswith("{") and isinstance(json.loads(line), dict)
    except ValueError:
        return False


def use_json_lines(whole_process: bool = False) -> None:
    """If the setting says so, log as JSON in this process from now on, and in those that it starts. Safe to repeat.

    `whole_process`: also what is written to standard error without a logger. For a process that is Spillway's own.
    """
    if not json_lines():
        return
    handler_class = f"{JsonLinesHandler.__module__}.{JsonLinesHandler.__qualname__}"
    for variable in _PREFECT_HANDLERS:
        os.environ.setdefault(variable, handler_class)
    root = logging.getLogger()
    loggers = [one for one in logging.Logger.manager.loggerDict.values() if isinstance(one, logging.Logger)]
    for logger in (root, *loggers):
        for handler in logger.handlers[:]:
            if isinstance(handler, logging.StreamHandler) and handler.stream in (sys.stderr, sys.__stderr__):
                logger.removeHandler(handler)
                logger.addHandler(JsonLinesHandler(handler.level))
    if not any(isinstance(one, JsonLinesHandler) for one in root.handlers):
        root.addHandler(JsonLinesHandler())
    logging.captureWarnings(True)
    if whole_process and not isinstance(sys.stderr, _StandardError):
        threading.excepthook = lambda found: write_unexpected(found.exc_value)
        sys.stderr = _StandardError(sys.stderr)


def write_unexpected(error: BaseException | None) -> None:
    """Write a line about an exception that nothing caught."""
    if error is not None and not isinstance(error, SystemExit):
        write_line(logging.CRITICAL, f"unexpected {type(error).__name__}: {one_line(error)}", error=error)
