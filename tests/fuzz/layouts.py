"""The streams of the campaign: their mappings for spillway.toml, and the oracle's layouts from the same file."""

from __future__ import annotations

import tomllib

from tests.fuzz.prediction import Layout

MAPPINGS = """
[streams.fuzz-document]                         # the whole document becomes properties
layout = "json"
field = "doc"
time = "at"
event_id = { key = "ref", uuid5 = true }
event_type = "{source}.{kind}"
user_id = { key = "who", default = "nobody" }

[streams.fuzz-member]                           # one member of it does
layout = "json"
time = { key = "occurred_at", default = "2026-11-20T00:00:00Z" }
event_id = "id"
event_type = { key = "{source}/{kind}", default = "unknown" }
user_id = "who"
properties = "object"

[streams.fuzz-fields]                           # all fields of the entry do
layout = "flat"
time = "at"
event_id = "id"
event_type = "{{{kind}}}"
user_id = { key = "who", default = "" }
"""

# None: the fields show the layout, so the stream may mix the two layouts that need no mapping.
LAYOUTS: dict[str, Layout | None] = {
    "fuzz-flat": None,
    "fuzz-json": None,
    "fuzz-mixed": None,
    **{name: Layout.of(table) for name, table in tomllib.loads(MAPPINGS)["streams"].items()},
}
