"""Entries of the quarantine are grouped by their cause, whatever their content was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psycopg
import redis

from flows.plain.drain import drain
from infra.producers.send import send
from infra.settings import Settings
from tasks.columns.decode import Fault
from tasks.table.causes import count_causes
from tasks.table.quarantine import Selection, group_entries, list_entries

# Reasons in groups: those of one group differ only in the content of the entry.
GROUPS = [
    ["JSON is malformed: invalid character (byte 88)", "JSON is malformed: invalid character (byte 94)"],
    ["JSON is malformed: trailing characters (byte 3)"],
    [
        "'utf-8' codec can't decode byte 0xe9 in position 3: invalid continuation byte",
        "'utf-8' codec can't decode byte 0xff in position 40: invalid continuation byte",
    ],
    ["'utf-8' codec can't decode bytes in position 3-4: unexpected end of data"],
    ["expected a number, found 'x'", "expected a number, found 'byte 7 (byte 9) in position 3'"],
    ["expected a number of bytes of a byte in position"],
    ["refused: a byte (byte 7) [22P02]", "refused: another (byte 9) [22P02]"],
]


def test_reasons_that_differ_in_a_position_or_a_value_are_one_group(database: psycopg.Connection) -> None:
    database.execute("INSERT INTO spillway.streams (name, baseline) VALUES ('s', 0)")
    reasons = [reason for group in GROUPS for reason in group]
    with database.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO spillway.quarantine (stream, entry_id, kind, field, reason, fields)"
            " SELECT id, %s, 'refused', 'data', %s, '{}' FROM spillway.streams",
            [(f"{number}-0", reason) for number, reason in enumerate(reasons)],
        )
    found = group_entries(database, Selection(), 100)
    assert (found.all_groups, found.entries) == (len(GROUPS), len(reasons))
    counts = sorted(
        (next(n for n, group in enumerate(GROUPS) if one.reason in group), one.count) for one in found.groups
    )
    assert counts == [(n, len(group)) for n, group in enumerate(GROUPS)]
    # The message about too many bad entries counts the same causes.
    decoded = [reason for group in GROUPS[:-1] for reason in group]
    assert sorted(count_causes(Fault(n, "data", reason) for n, reason in enumerate(decoded)).values()) == sorted(
        len(group) for group in GROUPS[:-1]
    )
    # Each entry keeps its whole reason.
    assert {one.reason for one in list_entries(database, Selection(), 100)} == set(reasons)


def test_malformed_documents_are_one_group_wherever_they_break(
    redis_client: redis.Redis,
    database: psycopg.Connection,
    stream: str,
    configure: Callable[..., Settings],
    tmp_path: Path,
) -> None:
    file = tmp_path / "spillway.toml"
    file.write_text(
        f'[streams."{stream}"]\nlayout = "json"\nfield = "body"\ntime = "at"\nevent_type = "kind"\n'
        'event_id = { key = "n", uuid5 = true }\n'
    )
    configure(mappings=file)
    bad = [b'{"kind": ' + b" " * n + b"!}" for n in range(9)]
    good = [b'{"kind": "k", "user_id": "u", "n": %d, "at": "2026-11-01T00:00:00Z"}' % n for n in range(30)]
    send(redis_client, stream, [{b"body": body} for body in bad + good])
    drain(stream)
    found = group_entries(database, Selection(), 100)
    assert [(one.count, one.field) for one in found.groups] == [(9, "body")]
    reasons = {one.reason for one in list_entries(database, Selection(), 100)}
    assert len(reasons) == len(bad), reasons
