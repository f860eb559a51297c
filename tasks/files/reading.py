"""What `spillway.files.reading` records: how a file was read. Its remaining rows must be read in the same way."""

from __future__ import annotations

import json
import re

from tasks.columns.row_layout import RowLayout

_JSON_KEYS = re.compile(r"\|json=(\[.*\])", re.DOTALL)


def describe_reading(layout: RowLayout) -> str:
    """The source of the times, on which the addresses of the rows depend; and the keys whose values are JSON.

    There are such keys in a Parquet file with flat rows only. An entry of the quarantine does not have its types.
    """
    shape: str = layout.mapping.layout or ""
    if layout.time is None:
        parts = [shape]
    else:
        source = layout.time.source
        parts = [shape, "".join(source.pieces), source.default or "", "".join(source.alternatives[:1])]
    if layout.json_keys:
        parts.append("json=" + json.dumps(sorted(key.decode() for key in layout.json_keys), separators=(",", ":")))
    return "|".join(parts)


def times_of(reading: str) -> str:
    """The part about the times."""
    found = _JSON_KEYS.search(reading)
    return reading[: found.start()] if found and found.end() == len(reading) else reading


def json_keys_of(reading: str) -> frozenset[bytes]:
    """The keys whose values are JSON. The first release recorded none, and read every value as a text."""
    recorded = reading[len(times_of(reading)) :]
    return frozenset(key.encode() for key in json.loads(recorded.removeprefix("|json="))) if recorded else frozenset()


def is_of_texts(layout: RowLayout, recorded: str) -> bool:
    """Whether a file with this layout was read by the first release, which read all its values as texts."""
    return bool(layout.json_keys) and not json_keys_of(recorded)


def is_document(reading: str) -> bool:
    """Whether each row is one JSON document."""
    return reading.split("|", 1)[0] == "json"
