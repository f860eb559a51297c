"""One record as one line of JSON."""

from __future__ import annotations

import json
import logging
from typing import Any

import psycopg

from infra.json_lines import about_stream, line_of


def line(message: str, error: BaseException | None = None, **attributes: Any) -> dict[str, Any]:
    about = None if error is None else (type(error), error, error.__traceback__)
    record = logging.LogRecord("spillway", logging.WARNING, "", 0, message, None, about)
    for name, value in attributes.items():
        setattr(record, name, value)
    text = line_of(record)
    assert text.isascii()
    assert "\n" not in text
    found: dict[str, Any] = json.loads(text)
    return found


def test_the_run_and_the_stream_are_fields_if_they_are_known() -> None:
    with about_stream("events-web"):
        found = line("x", flow_run_name="drain 10:05", flow_name="<unknown>", task_run_id="7")
    assert {name: found[name] for name in found if name not in ("time", "level", "logger")} == {
        "message": "x", "flow_run": "drain 10:05", "task_run_id": "7", "stream": "events-web",
    }  # fmt: skip
    assert "stream" not in line("x")


def test_no_password_and_half_a_character_become_part_of_a_line() -> None:
    found = line("postgresql://ann:Kq7xW9z@h/d failed\nfor \ud800 and \x1b[31m")
    assert found["message"] == "postgresql://ann:***@h/d failed\nfor \\ud800 and \x1b[31m"


def test_an_exception_has_its_causes_and_quotes_no_password() -> None:
    try:
        try:
            raise psycopg.OperationalError("password=Kq7xW9z is wrong")
        except psycopg.OperationalError as error:
            raise RuntimeError("outer") from error
    except RuntimeError as error:
        found = line("failed", error)["exception"]
    assert (found["type"], found["message"]) == ("RuntimeError", "outer")
    assert "test_json_lines.py" in found["traceback"]
    assert found["traceback"].endswith("OperationalError: password=*** is wrong")
