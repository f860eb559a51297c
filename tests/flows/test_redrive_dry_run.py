"""A dry run of a redrive counts by reason what the redrive then does, and changes nothing."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis

from flows.drain import drain
from flows.maintain import maintain
from flows.redrive import redrive
from infra.errors.exceptions import Terminal, Unsuccessful
from infra.producers.send import send
from infra.settings import Settings
from tasks.table import redrive as replaying
from tests.support.backfill_sources import crossref_columns
from tests.support.chunk_states import chunk_statuses, paused_job
from tests.support.command_line import RunSpillway
from tests.support.oracle import flat_rows, table_rows
from tests.support.results import redrive_counts
from tests.support.stream_entries import event
from tests.support.tables import ledger_tables, redrive_outcomes

pytestmark = pytest.mark.usefixtures("prefect_server")

Configure = Callable[..., Settings]
Alter = Callable[[str], None]
Entry = dict[bytes, bytes]


def _real_entries(sample: Path) -> list[Entry]:
    """Real events, many of them bad: without a user, with a broken id or broken properties, repeated, in conflict."""
    lines = sample.read_bytes().splitlines()[:900]
    entries = [{k.encode(): v.encode() for k, v in crossref_columns(line).items()} for line in lines]
    for n, entry in enumerate(entries):
        if n % 3 == 0:
            del entry[b"user_id"]
        if n % 7 == 0:
            entry[b"event_id"] += b"?"
        if n % 11 == 0:
            entry[b"properties"] = b"{" + entry[b"properties"]
    conflicts = [entries[n] | {b"event_type": b"other"} for n in (1, 2, 4, 12, 15)]
    return [*entries, *conflicts, *entries[::9]]


def _everything(database: psycopg.Connection) -> dict[str, list[tuple[Any, ...]]]:
    """All rows; of our own tables with the transactions that wrote them."""
    found = {t: sorted(database.execute(f"SELECT xmin::text, x::text FROM {t} AS x".encode()))
             for t in ledger_tables(database)}  # fmt: skip
    return found | {"events": sorted(database.execute("SELECT e::text FROM events AS e"))}


def _drained(client: redis.Redis, stream: str, entries: list[Entry]) -> None:
    send(client, stream, entries)
    with suppress(Terminal):  # so many entries are bad
        drain(stream)


def _first_words(reason: str) -> str:
    return reason.partition(", found ")[0].partition(": ")[0]


def _outcomes(database: psycopg.Connection, reasons: dict[tuple[str, int], tuple[str, str]]) -> Counter[Any]:
    """How many entries of each reason, as it was, are redriven or wait, the latter with their new reason."""
    found: Counter[Any] = Counter()
    for entry, part, outcome, reason in database.execute(
        "SELECT entry_id, part, outcome, reason FROM spillway.quarantine"
    ):
        field, before = reasons[entry, part]
        found[field, _first_words(before), _first_words(reason) if outcome is None else "rescued"] += 1
    return found


@pytest.mark.parametrize("state", ["as rows", pytest.param("compressed", marks=pytest.mark.community)])
def test_a_dry_run_foretells_a_redrive_of_real_events_and_changes_nothing(
    sample: Path, redis_client: redis.Redis, database: psycopg.Connection, alter: Alter, stream: str,
    configure: Configure, monkeypatch: pytest.MonkeyPatch, state: str, request: pytest.FixtureRequest,
) -> None:  # fmt: skip
    """Some entries repeat others that are in another transaction of the redrive."""
    alter("ALTER TABLE events ADD CONSTRAINT no_wikipedia CHECK (event_type NOT LIKE 'wikipedia.%')")
    _drained(redis_client, stream, _real_entries(sample))
    if state == "compressed":
        request.getfixturevalue("community")
        maintain()
        paused_job(database, "policy_compression")
        database.execute("SELECT count(compress_chunk(c, if_not_compressed => true)) FROM show_chunks('events') AS c")
    monkeypatch.setattr(replaying, "_MAX_ENTRIES", 50)
    configure(parallel_loads=1)
    query = "SELECT entry_id, part, coalesce(field, ''), reason FROM spillway.quarantine"
    reasons = {(entry, part): (field, reason) for entry, part, field, reason in database.execute(query)}
    before, statuses = _everything(database), chunk_statuses(database) if state == "compressed" else []

    foretold = redrive(stream, set={"user_id": "late"}, dry_run=True)
    assert _everything(database) == before
    assert (chunk_statuses(database) if state == "compressed" else []) == statuses
    again = redrive(stream, set={"user_id": "late"}, dry_run=True)
    assert again == foretold

    done = redrive(stream, set={"user_id": "late"})
    assert redrive_counts(foretold) == redrive_counts(done)
    assert min(redrive_counts(done)) > 0
    outcomes = _outcomes(database, reasons)
    assert len(foretold["reasons"]) == foretold["all_reasons"] > 4
    found: Counter[Any] = Counter()
    for one in foretold["reasons"]:
        assert one["waiting"] - one["rescued"] == sum(count for _, count in one["still_refused"])
        found[one["field"], _first_words(one["reason"]), "rescued"] += one["rescued"]
        for reason, count in one["still_refused"]:
            found[one["field"], _first_words(one["reason"]), _first_words(reason)] += count
    assert +found == outcomes


def test_the_command_shows_each_reason_and_ends_with_0_even_if_nothing_would_be_rescued(
    spillway: RunSpillway, redis_client: redis.Redis, database: psycopg.Connection, stream: str
) -> None:
    good = [event(n) for n in range(10)]
    late = [event(n, user_id="") for n in range(20, 26)] + [event(1, user_id="")]
    no_id = [event(n, event_id=f"no-uuid-{n}") for n in range(30, 33)]
    _drained(redis_client, stream, [*good, *late, *no_id])
    command = ("quarantine", "redrive", "--stream", stream, "--dry-run")
    code, out, _ = spillway(*command, "--set", "user_id=late")
    assert code == 0
    rows = [re.split(" {2,}", line.strip()) for line in out.splitlines() if stream in line]
    assert [[stream, row[1], *row[-4:]] for row in rows] == [
        [stream, "user_id", "7", "6", "1", "conflict: the table has this event_id and time with another user_id"],
        [stream, "event_id", "3", "0", "3", "expected a UUID, found 'no-uuid-30'"],
    ]
    assert out.splitlines()[-1] == (
        "tried 10 · inserted 6 · duplicates 0 · still bad 4; a dry run: nothing was written"
    )
    code, out, _ = spillway(*command, "--field", "event_id", "--json")
    shown = json.loads(out)
    assert (code, shown["tried"], shown["still_bad"], shown["all_reasons"]) == (0, 3, 3, 1)
    assert shown["reasons"][0]["still_refused"] == [["expected a UUID, found 'no-uuid-30'", 3]]
    assert spillway(*command, "--kind", "conflict")[:2] == (
        0,
        "tried 0 · inserted 0 · duplicates 0 · still bad 0; a dry run: nothing was written\n",
    )
    assert redrive_outcomes(database) == {"waits": 10}
    assert table_rows(database) == flat_rows(good)
    with pytest.raises(Unsuccessful):
        redrive(stream, field="event_id")
