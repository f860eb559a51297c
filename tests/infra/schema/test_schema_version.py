"""The preflight of every flow detects a schema that does not fit the program."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest
import redis

from flows.backfill import backfill
from flows.drain import drain
from flows.maintain import maintain
from flows.reconcile import reconcile
from flows.redrive import redrive
from infra.errors.exceptions import Terminal
from infra.schema.schema_version import InstalledSchema, check_schema, needed_version, schema_fault


@pytest.mark.parametrize(
    ("found", "fault"),
    [
        (InstalledSchema(True, True, 3), None),
        (InstalledSchema(False, False, 0), "no Spillway tables; .*; run `spillway schema`"),
        (InstalledSchema(False, True, 0), "no Spillway tables; .*; run `spillway schema`"),
        (InstalledSchema(True, False, 3), "no table .*events.*; run `spillway schema`"),
        (InstalledSchema(True, True, 2), "older .*: expected version 3, found version 2; .*; run `spillway schema`"),
        (InstalledSchema(True, True, 0), "older .*, found none, as in earlier releases; .*; run `spillway schema`"),
        (InstalledSchema(True, True, 4), "newer .*: expected version 3, found version 4; .*; upgrade Spillway"),
    ],
)
def test_a_fault_names_what_was_expected_and_found_and_the_next_step(found: InstalledSchema, fault: str | None) -> None:
    said = schema_fault(found, 3)
    if fault is None:
        assert said is None
    else:
        with pytest.raises(Terminal, match=fault):
            raise Terminal(said or "")


@contextmanager
def recorded_version(database: psycopg.Connection, difference: int) -> Iterator[None]:
    """In the block the database's schema is newer or older by `difference` versions."""
    version = needed_version()
    if difference > 0:
        change = "INSERT INTO spillway.schema_version (version, name) VALUES (%s, 'later')"
        undo = "DELETE FROM spillway.schema_version WHERE version = %s"
        changed = version + difference
    else:
        change = "DELETE FROM spillway.schema_version WHERE version = %s"
        undo = "INSERT INTO spillway.schema_version (version, name) VALUES (%s, 'again')"
        changed = version
    database.execute(change, [changed])  # type: ignore[arg-type]
    try:
        yield
    finally:
        database.execute(undo, [changed])  # type: ignore[arg-type]


FLOWS: dict[str, Callable[[str], object]] = {
    "drain": lambda stream: drain(stream),
    "backfill": lambda stream: backfill(stream=stream),
    "maintain": lambda _: maintain(),
    "reconcile": lambda _: reconcile(),
    "redrive": lambda _: redrive(),
}


@pytest.mark.usefixtures("prefect_server")
@pytest.mark.parametrize("flow", FLOWS.values(), ids=FLOWS)
@pytest.mark.parametrize(
    ("difference", "refusal"), [(1, "newer .* upgrade Spillway"), (-1, "older .*; run `spillway schema`")]
)
def test_every_flow_refuses_a_schema_of_another_version_before_it_reads_or_writes(
    flow: Callable[[str], object],
    difference: int,
    refusal: str,
    database: psycopg.Connection,
    redis_client: redis.Redis,
    stream: str,
) -> None:
    redis_client.xadd(stream, {"event_type": "t"})
    with recorded_version(database, difference), pytest.raises(Terminal, match=refusal):
        flow(stream)
    tables = ("events", *(f"spillway.{name}" for name in ("streams", "ledger", "quarantine", "drops", "files")))
    counts = ", ".join(f"(SELECT count(*) FROM {table})" for table in tables)
    assert database.execute(f"SELECT {counts}".encode()).fetchone() == (0,) * len(tables)


def test_the_schema_of_the_tests_fits(database: psycopg.Connection) -> None:
    check_schema(database)
