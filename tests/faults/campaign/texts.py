"""Checks the messages of a fault: what failed and on what, what was found, the next step, in one line and without
credentials."""

from __future__ import annotations

import re
from collections.abc import Iterable

SECRETS = ("analytics_pass",)  # passwords of the local servers, see infra/settings.py

_STEPS = (
    "preflight|find idle streams|find the streams that wait|plan|sample|read|load|recover|settle|report|redrive"
    r"|drain \d+ small streams"
)
# Several streams can fail in one run: each part starts with its step or its stream.
_PARTS = re.compile(rf"; (?=(?:(?:{_STEPS})(?: \S+)*|stream \S+): |stream '\S+' does not exist)")
_SERVER = re.compile(
    rf"(?P<step>{_STEPS})(?: (?P<object>.+?))?: (?P<server>(?:PostgreSQL|Redis) at \S+:\d+):"
    r" (?P<found>.+?); (?P<next>[^;]+)"
)
_REFUSAL = re.compile(
    r"plan: stream \S+ went back: (its|it|\d+ entries) .+; nothing was read; .+accept-rewind \S+ \(see «[^»]+» in"
    r" docs/operations\.md\)"
)
# A stream that is away for a moment, or when a run starts.
_AWAY = re.compile(
    r"(?:plan|read|settle)(?: \S+)?: stream \S+: .+; nothing was recorded, and this run trims nothing; bring the"
    r" stream back, then try again; if it will not come back: spillway stream accept-rewind \S+"
)
_ABSENT = re.compile(r"stream '\S+' does not exist in Redis; check the name \(.+\)")
# Words of a running server: the advice to start it would not help.
_IT_RUNS = re.compile(r"deadlock|canceling statement|read-only|too many|remaining connection|No space left|terminating")
_PREFECT = re.compile(r"the Prefect server \(\S+\) .+; [^;]+")
_EMPTY_NEXT_STEP = "see docs/operations.md"  # the fallback for unknown errors


def wrong_text(text: str, places: Iterable[str]) -> str | None:
    """The defect of an error `Class: message`; None if it has none. `places`: host:port of the two servers."""
    kind, _, words = text.partition(": ")
    if any(secret in text for secret in SECRETS):
        return "it shows a password"
    if "\n" in text:
        return "it has several lines"
    if kind not in ("Transient", "Terminal", "Unsuccessful", "PrefectUnreachable", "StreamAway"):
        return f"it is not written for people: {kind}"
    if _PREFECT.fullmatch(words):
        return None
    return next((wrong for part in _PARTS.split(words) if (wrong := _wrong_part(part, places))), None)


def wrong_retry(words: str, places: Iterable[str]) -> str | None:
    """The defect of the reason for a retry; None if it has none."""
    return wrong_text(f"Transient: {words}", places)


def _wrong_part(part: str, places: Iterable[str]) -> str | None:
    if any(known.fullmatch(part) for known in (_REFUSAL, _AWAY, _ABSENT)):
        return None
    found = _SERVER.fullmatch(part)
    if found is None:
        return "it is not «step object: server at host:port: words; next step»"
    if found["server"].partition(" at ")[2] not in places:
        return f"there is no {found['server']}"
    if found["next"] == _EMPTY_NEXT_STEP:
        return "it has no next step"
    if "start it" in found["next"] and _IT_RUNS.search(found["found"]):
        return "its next step does not fit"
    return None
