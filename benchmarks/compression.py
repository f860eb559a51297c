"""Costs and benefits of `segmentby` and `orderby` on the real events: python -m benchmarks.compression

The candidates take turns on one table: compress it, run six queries, merge late events and roll back, decompress it.
Needs TimescaleDB Community.
"""

from __future__ import annotations

import gzip
import statistics
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import orjson
import psycopg
import redis
import typer
from psycopg import sql
from rich.console import Console
from rich.table import Table

from benchmarks.contenders import Workload, plain_drain
from benchmarks.workloads import REAL, documents
from infra.errors.exceptions import Terminal
from infra.producers.send import send
from infra.servers.throwaway import throwaway_servers
from infra.settings import Settings
from tasks.columns.batch import Batch
from tasks.table.insert import InsertRoute, insert_all

# segmentby → orderby
CANDIDATES = [
    ("", "time DESC"),
    ("event_type", "time DESC"),
    ("user_id", "time DESC"),
    ("", "event_type, time DESC"),
    ("", "user_id, time DESC"),
    ("", "event_id, time DESC"),
]
LATE = 1_000  # events that the table has, and as many new ones
_SET = sql.SQL(
    "ALTER TABLE events SET (timescaledb.compress, timescaledb.compress_segmentby = {segmentby},"
    " timescaledb.compress_orderby = {orderby})"
)
_ASKED = 10  # different values for each query

QUESTIONS = {
    "by event id": "SELECT * FROM events WHERE event_id = %(event_id)s",
    "by user over 30 days": """
        SELECT * FROM events WHERE user_id = %(user_id)s AND time >= %(time)s::timestamptz - interval '15 days'
           AND time < %(time)s::timestamptz + interval '15 days'""",
    "by type over 7 days": """
        SELECT time, user_id, properties->>'obj_id' FROM events WHERE event_type = %(event_type)s
           AND time >= %(time)s::timestamptz - interval '3.5 days'
           AND time < %(time)s::timestamptz + interval '3.5 days'""",
    "counts per hour over 30 days": """
        SELECT time_bucket('1 hour', time) AS hour, event_type, count(*) FROM events
         WHERE time >= %(time)s::timestamptz - interval '15 days' AND time < %(time)s::timestamptz + interval '15 days'
         GROUP BY 1, 2""",
    "JSON containment": "SELECT time, event_id FROM events WHERE properties @> %(contains)s",
    "latest 100": "SELECT * FROM events ORDER BY time DESC LIMIT 100",
}


@dataclass(frozen=True)
class Round:
    """One turn of a candidate. `bytes` on disk; all others in seconds, for a query with one value."""

    bytes: int
    convert: float
    answers: dict[str, float]
    late: float


def measure(
    settings: Settings, rounds: int, say: Callable[[str], None]
) -> tuple[int, dict[tuple[str, str], list[Round]]]:
    """The bytes of the uncompressed table, and the turns of every candidate. Raises `Terminal` on another edition."""
    plain_drain(documents(settings), 1)()
    late = _late_events(settings)
    with psycopg.connect(settings.database, autocommit=True) as connection:
        if connection.execute("SELECT current_setting('timescaledb.license')").fetchone() != ("timescale",):
            raise Terminal("compression needs the Community edition of TimescaleDB; name an engine that has it")
        connection.execute("VACUUM ANALYZE events")  # from a defined state, not from wherever autovacuum is
        rows = _bytes(connection)
        values = _values(connection)
        before = _ask(connection, values)
        say(f"as rows: {rows / 1e6:.1f} MB; " + "; ".join(f"{k} {v * 1e3:.1f} ms" for k, v in before.items()))
        found: dict[tuple[str, str], list[Round]] = {candidate: [] for candidate in CANDIDATES}
        for number in range(rounds):
            for candidate in CANDIDATES:
                found[candidate].append(_turn(connection, candidate, values, late))
                turn = found[candidate][-1]
                said = f"{turn.bytes / 1e6:.1f} MB, converted in {turn.convert:.1f} s"
                say(f"round {number + 1} of {rounds}: {_name(candidate)}: {said}")
        found[("rows", "")] = [Round(rows, 0, before, _merge(connection, late))]
    return rows, found


def _turn(
    connection: psycopg.Connection, candidate: tuple[str, str], values: list[dict[str, Any]], late: Batch
) -> Round:
    segmentby, orderby = candidate
    connection.execute(_SET.format(segmentby=segmentby, orderby=orderby))
    began = time.perf_counter()
    connection.execute("SELECT compress_chunk(c) FROM show_chunks('events') AS c")
    convert = time.perf_counter() - began
    connection.execute("VACUUM ANALYZE events")
    size = _bytes(connection)
    answers = _ask(connection, values)
    upsert = _merge(connection, late)
    connection.execute("SELECT decompress_chunk(c) FROM show_chunks('events') AS c")
    connection.execute("VACUUM ANALYZE events")
    return Round(size, convert, answers, upsert)


def _bytes(connection: psycopg.Connection) -> int:
    row = connection.execute("SELECT hypertable_size('events')").fetchone()
    assert row is not None  # a function has one row
    size: int = row[0]
    return size


def _values(connection: psycopg.Connection) -> list[dict[str, Any]]:
    """Values of real rows spread over the table, the same ones for all candidates."""
    query = """
        SELECT event_id, user_id, event_type, time, jsonb_build_object('obj_id', properties->'obj_id')
          FROM (SELECT *, row_number() OVER (ORDER BY event_id) AS n FROM events) AS numbered
         WHERE n %% (SELECT count(*) / %s FROM events) = 1 LIMIT %s"""
    names = ("event_id", "user_id", "event_type", "time", "contains")
    rows = connection.execute(query, [_ASKED, _ASKED]).fetchall()
    return [dict(zip(names, (*row[:4], orjson.dumps(row[4]).decode()), strict=True)) for row in rows]


def _ask(connection: psycopg.Connection, values: list[dict[str, Any]]) -> dict[str, float]:
    """The seconds of each query: the median over its values, each run twice, of which the second counts."""
    took: dict[str, float] = {}
    for name, question in QUESTIONS.items():
        times = []
        for value in values:
            connection.execute(question, value).fetchall()
            began = time.perf_counter()
            connection.execute(question, value).fetchall()
            times.append(time.perf_counter() - began)
        took[name] = statistics.median(times)
    return took


def _merge(connection: psycopg.Connection, late: Batch) -> float:
    """The seconds to merge the late events as a drain does, which is rolled back."""
    with connection.transaction(force_rollback=True):
        connection.execute("SET LOCAL timescaledb.max_tuples_decompressed_per_dml_transaction = 0")
        began = time.perf_counter()
        outcome = insert_all(connection, late.tables, InsertRoute.MERGE)
        took = time.perf_counter() - began
    if (outcome.inserted, outcome.duplicates) != (LATE, LATE):
        raise Terminal(f"the late events: {outcome}, expected {LATE} inserted and as many duplicates")
    return took


def _late_events(settings: Settings) -> Batch:
    """A batch of events: half are in the table, half are new, at the same times."""

    def entries() -> Iterator[dict[bytes, bytes]]:
        with gzip.open(REAL) as lines:
            for number, line in enumerate(islice(lines, 0, None, 100)):
                if number == LATE:
                    return
                yield {b"data": line.rstrip(b"\n")}
                fresh = orjson.loads(line) | {"id": str(uuid.UUID(int=number))}
                yield {b"data": orjson.dumps(fresh)}

    with redis.Redis.from_url(settings.redis) as client:
        workload = Workload(settings, "crossref-late", send(client, "crossref-late", entries()))
    (batch,) = workload.batches()
    return batch


def _name(candidate: tuple[str, str]) -> str:
    segmentby, orderby = candidate
    return f"{segmentby or '–'} / {orderby}" if orderby else "as rows"


def table(rows: int, found: dict[tuple[str, str], list[Round]]) -> Table:
    """Medians: megabytes and their ratio, seconds to convert and to merge, milliseconds per query."""
    shown = Table("segmentby / orderby", "MB", "ratio", "convert, s", *(f"{name}, ms" for name in QUESTIONS), "late, s")
    for candidate, turns in found.items():
        size = statistics.median(turn.bytes for turn in turns)
        answers = [statistics.median(turn.answers[name] for turn in turns) * 1e3 for name in QUESTIONS]
        figures = [f"{size / 1e6:.1f}", f"{rows / size:.1f}", f"{statistics.median(t.convert for t in turns):.1f}"]
        figures += [f"{answer:.1f}" for answer in answers]
        shown.add_row(_name(candidate), *figures, f"{statistics.median(turn.late for turn in turns):.2f}")
    return shown


def main(rounds: int = 3, engine: str | None = None) -> None:
    """Measure and print."""
    console = Console(width=220, highlight=False)
    with throwaway_servers("bench", engine) as (settings, _):
        console.print(table(*measure(settings, rounds, console.print)))


if __name__ == "__main__":
    typer.run(main)
