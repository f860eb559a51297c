"""Streams into tables of a user under the campaign: two of different shape side by side, or one without a key."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar

import psycopg

from infra.producers.broken import Entry
from tests.faults.campaign.fault_series import FaultSeries
from tests.faults.campaign.kinds import KINDS
from tests.faults.campaign.produce import Produced, endless
from tests.faults.campaign.shared import SHARED_KINDS, SharedSeries
from tests.faults.campaign.testbed import FaultTestbed
from tests.faults.campaign.verdict import Verdict, VerdictCounts, judge
from tests.support.processes import Drain, Harness

# Faults of the table `events`, of a second database, or of streams that start over: they say nothing about a table of a
# user, or need another oracle.
_OTHERS = ("table-", "role-", "two-databases", "runs-at-once", "redis-restored-and-accepted", "worker-")
_OTHERS += ("cluster-", "dask-", "postgres-disk-full", "postgres-table-locked", "redis-replica-promoted")
USER_TABLE_KINDS = tuple(kind for kind in KINDS if not kind.startswith(_OTHERS))

# A row as `(id, time, type, user, properties)`, the last one as canonical JSON.
Row = tuple[str, datetime, str, str, str]


@dataclass(frozen=True)
class UserTable:
    """A table and the mapping of the generated entries. `keyed`: duplicates do not become rows.

    `rows`: a query for its rows, without those of other sources.
    """

    name: str
    create: str
    columns: str
    rows: str
    keyed: bool


READINGS = UserTable(
    "users.readings",
    """
    CREATE TABLE users.readings (
        loaded TIMESTAMPTZ DEFAULT clock_timestamp(), who VARCHAR(100) NOT NULL, doc JSONB NOT NULL, at TIMESTAMPTZ,
        id UUID, kind TEXT NOT NULL, source CHAR(3) NOT NULL, half NUMERIC(4,2), number BIGINT GENERATED ALWAYS AS
        IDENTITY, upper_kind TEXT GENERATED ALWAYS AS (upper(kind)) STORED, PRIMARY KEY (at, id));
    SELECT create_hypertable('users.readings', 'at', chunk_time_interval => INTERVAL '1 day')""",
    """
    who = "user_id"
    doc = "properties"
    at = "time"
    id = "event_id"
    kind = "event_type"
    source = { constant = "web" }
    half = { constant = "0.5" }
    """,
    "SELECT id::text, at, kind, who, doc::text FROM users.readings WHERE source = 'web' AND upper_kind = upper(kind)",
    True,
)
VISITS = UserTable(
    "users.visits",
    """
    CREATE TABLE users.visits (
        "Time" TIMESTAMPTZ NOT NULL, event_id UUID NOT NULL, event_type TEXT NOT NULL, user_id TEXT NOT NULL,
        properties JSONB NOT NULL);
    SELECT create_hypertable('users.visits', 'Time', chunk_time_interval => INTERVAL '7 days');
    -- The Apache edition has no columnstore.
    DO $$ BEGIN
        IF current_setting('timescaledb.license') = 'timescale' THEN
            ALTER TABLE users.visits SET (timescaledb.compress, timescaledb.compress_orderby = '"Time"');
        END IF;
    END $$""",
    """
    Time = "time"
    """,
    'SELECT event_id::text, "Time", event_type, user_id, properties::text FROM users.visits',
    False,
)


@dataclass
class UserTableSeries(FaultSeries):
    """A series whose first stream goes to the first of `tables`, and the other one to the second."""

    tables: ClassVar[tuple[UserTable, UserTable]] = (READINGS, VISITS)
    _mappings: str = field(init=False, default="")

    def produce(self, testbed: FaultTestbed) -> None:
        if not self._mappings:
            self._create(testbed)
        super().produce(testbed)

    def _create(self, testbed: FaultTestbed) -> None:
        with testbed.sql() as connection:
            connection.execute("SET client_min_messages = error; DROP SCHEMA IF EXISTS users CASCADE")
            connection.execute("CREATE SCHEMA users")
            for table in dict.fromkeys(self.tables):
                connection.execute(table.create.encode())
        path = testbed.log.with_name("spillway.toml")
        path.write_text(
            "\n".join(
                f'[streams."{stream}"]\ntable = "{table.name}"\n[streams."{stream}".columns]{table.columns}'
                for stream, table in zip(self.streams, self.tables, strict=True)
            )
        )
        self._mappings = str(path)

    def start(self, testbed: FaultTestbed, harness: Harness, batch_rows: int = 50_000, **parameters: Any) -> Drain:
        env = testbed.env | {"SPILLWAY_BATCH_ROWS": str(batch_rows), "SPILLWAY_MAPPINGS": self._mappings}
        return Drain(self.streams, env, harness, **parameters)

    def judge(self, connection: psycopg.Connection) -> Verdict:
        return judge(connection, self.everything_produced, self._compare_rows)

    def _compare_rows(self, connection: psycopg.Connection, produced: Sequence[Produced], counts: VerdictCounts) -> int:
        total = 0
        for table in dict.fromkeys(self.tables):
            its = [one for one, target in zip(produced, self.tables, strict=True) if target is table]
            expected = _expected(its, table.keyed)
            found = _held(connection, table)
            counts.lost += (expected - found).total()
            for row, more in (found - expected).items():
                if row in expected:
                    counts.doubled += more
                else:
                    counts.different += more
            total += expected.total()
        return total


@dataclass
class KeylessSeries(UserTableSeries):
    """Both streams go to one table without a key, in batches that the server compresses while it copies them.

    Few entries are bad, since one that the server rejects keeps a batch from being compressed.
    """

    batch_rows: ClassVar[tuple[int, int]] = (1_000, 2_500)
    tables: ClassVar[tuple[UserTable, UserTable]] = (VISITS, VISITS)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._source = endless(self.seed, 6_000, bad=0.0005)


def _expected(produced: Iterable[Produced], keyed: bool) -> Counter[Row]:
    rows = Counter(_row(entry) for one in produced for entry in one.good())
    return Counter(rows.keys()) if keyed else rows


def _row(entry: Entry | Mapping[bytes, bytes]) -> Row:
    text = {name.decode(): value.decode() for name, value in entry.items()}
    moment = datetime.fromisoformat(text["time"]).astimezone(UTC)
    return text["event_id"], moment, text["event_type"], text["user_id"], _canonical(text["properties"])


def _canonical(document: str) -> str:
    return json.dumps(json.loads(document), sort_keys=True)


def _held(connection: psycopg.Connection, table: UserTable) -> Counter[Row]:
    connection.execute("SET TimeZone = 'UTC'")
    rows = connection.execute(table.rows.encode())
    return Counter((key, moment, kind, user, _canonical(document)) for key, moment, kind, user, document in rows)


def compressed_chunks(connection: psycopg.Connection, table: UserTable) -> int:
    """How many chunks of the table hold compressed rows."""
    query = """
        SELECT count(*) FILTER (WHERE is_compressed)::int FROM timescaledb_information.chunks
         WHERE format('%%I.%%I', hypertable_schema, hypertable_name) = %s"""
    row = connection.execute(query, [table.name]).fetchone()
    assert row is not None  # an aggregate
    return int(row[0])


# Kinds of series, by the name that the command line of a campaign uses.
SERIES: Mapping[str, type[FaultSeries]] = {
    "events": FaultSeries,
    "two-tables": UserTableSeries,
    "keyless": KeylessSeries,
}


def kinds_for(series: type[FaultSeries]) -> list[str]:
    """The kinds of faults that a series can be exposed to."""
    if series is FaultSeries:
        return [name for name, kind in KINDS.items() if not kind.shared]
    return list(SHARED_KINDS if issubclass(series, SharedSeries) else USER_TABLE_KINDS)
