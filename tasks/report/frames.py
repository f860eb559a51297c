"""All frames of a report. Public: a notebook gets the same data by `read_frames`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import psycopg

from infra.connections.clients import Clients
from infra.display import count_of, printable
from infra.errors.exceptions import SpillwayError, Terminal
from infra.errors.redact import one_line
from infra.tables.table import Table
from tasks.base.clock import server_now
from tasks.maintain.check import check
from tasks.maintain.jobs import read_job_runs
from tasks.maintain.maintained_table import MaintainedTable, find_tables
from tasks.maintain.table_report import MaintainOutcome, TableReport, table_result
from tasks.preflight.preflight import preflight_rights
from tasks.report.load_frames import loads, outcomes, quarantined, streams_of
from tasks.table.quarantine import Selection, group_entries

_MOST_REASONS = 20


@dataclass(frozen=True)
class Frames:
    """What a report shows. The columns are documented where each frame is made; times are in UTC.

    `chunks`: one row for each chunk: `table`, `start`, `end`, `rows` (an estimate unless `exact`), `bytes`, `state`,
    `ratio` (null if it is not compressed), `next` (what happens to it next, in words). `compressions`: the runs
    of compression policies since then, as far as the database keeps them, and the last of each: `table`, `start`,
    `seconds`. `reasons`: the quarantine by reason, the most frequent first:
    `stream`, `kind`, `field`, `reason`, `entries`, `example` (an entry id), `first`, `last`. `runs`: of Prefect:
    `name`, `flow`, `state`, `due`, `started`, `seconds`; empty without a server. `attention`: what needs attention, in
    words.
    """

    since: datetime
    now: datetime
    loads: pd.DataFrame
    outcomes: pd.DataFrame
    quarantined: pd.DataFrame
    chunks: pd.DataFrame
    compressions: pd.DataFrame
    reasons: pd.DataFrame
    runs: pd.DataFrame
    attention: list[str] = field(default_factory=list)

    def write(self, folder: Path) -> list[Path]:
        """Write each frame as a Parquet file of its name, and return the files."""
        folder.mkdir(parents=True, exist_ok=True)
        written = []
        for name in (one.name for one in fields(self) if isinstance(getattr(self, one.name), pd.DataFrame)):
            path = folder / f"{name}.parquet"
            getattr(self, name).to_parquet(path, index=False)
            written.append(path)
        return written


RUN_COLUMNS = ("name", "flow", "state", "due", "started", "seconds")
_CHUNK_COLUMNS = ("table", "start", "end", "rows", "exact", "bytes", "state", "ratio", "next")


def read_frames(
    clients: Clients, span: timedelta, table: str | None = None, runs: Sequence[dict[str, Any]] = ()
) -> Frames:
    """The frames of the last `span`, of one table if it is named (`events` or `public.events`), and `runs` of Prefect.

    Reads the ledger, the quarantine and the catalog; writes nothing. Raises `SpillwayError`.
    """
    preflight_rights(clients, "report")
    with clients.translate_errors("report"), clients.postgres() as connection:
        now = server_now(connection)
        found = find_tables(clients)
        wanted = _wanted(found.tables, table)
        one_table = None if table is None else wanted[0].table
        attention = [*found.failed, *found.lost] if table is None else []
        since = now - span
        chunks, compressions, more = _chunks(clients, connection, wanted, since)
        names = {one.table.regclass: one.table.display_name for one in found.tables}
        summary = _with_names(outcomes(connection, one_table), names)
        frames = Frames(
            since,
            now,
            _with_names(loads(connection, since, now, one_table), names),
            summary,
            quarantined(connection, since, now, one_table),
            chunks,
            compressions,
            _reasons(connection, one_table),
            pd.DataFrame(list(runs), columns=list(RUN_COLUMNS)),
        )
    frames.attention.extend(map(printable, [*attention, *more, *_losses(summary), *_waiting(summary)]))
    return frames


def _wanted(tables: Sequence[MaintainedTable], name: str | None) -> list[MaintainedTable]:
    """All tables, or the one of that name. Raises `Terminal` unless exactly one has it."""
    names = [one.table.display_name for one in tables]
    if name is None:
        return list(tables)
    found = [one for one in tables if name in (one.table.display_name, one.table.display_name.partition(".")[2])]
    if len(found) != 1:
        raise Terminal(
            f"report: expected a table that is loaded or maintained, found {name!r}; nothing was written; name one of"
            f" {', '.join(names)}"
        )
    return found


def _chunks(
    clients: Clients, connection: psycopg.Connection, tables: Sequence[MaintainedTable], since: datetime
) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """The chunks of all tables, when they were compressed, and what needs attention."""
    rows: list[dict[str, Any]] = []
    compressions: list[dict[str, Any]] = []
    attention: list[str] = []
    for one in tables:
        name = one.table.display_name
        try:
            # As the role that maintains it would say: that of a report need not own any table.
            result = check(clients, replace(one, owned=True), 0, dry_run=True)
        except SpillwayError as error:
            attention.append(one_line(error))
            continue
        report = table_result(TableReport(one, MaintainOutcome(dry_run=True), result))
        rows += [{"table": name} | chunk for chunk in report["chunks"]]
        compressions += [
            {"table": name, "start": start, "seconds": seconds}
            for start, seconds in read_job_runs(connection, result.compression.jobs, since)
        ]
        attention += [*report["violations"], *report["warnings"]]
    return _with(rows, _CHUNK_COLUMNS), _with(compressions, ("table", "start", "seconds")), attention


def _with(rows: list[dict[str, Any]], columns: Sequence[str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(columns))


def _reasons(connection: psycopg.Connection, table: Table | None) -> pd.DataFrame:
    names = () if table is None else streams_of(connection, table)
    chosen = table is None or names  # without names, a selection has all streams
    groups = group_entries(connection, Selection(names, waiting=True), _MOST_REASONS).groups if chosen else ()
    rows = [
        {"stream": group.path or group.stream, "kind": group.kind, "field": group.field, "reason": group.reason}
        | {"entries": group.count, "example": group.example, "first": group.first, "last": group.last}
        for group in groups
    ]
    reasons = _with(rows, ("stream", "kind", "field", "reason", "entries", "example", "first", "last"))
    for name in ("stream", "field", "reason", "example"):
        reasons[name] = [None if text is None else printable(text) for text in reasons[name]]
    return reasons


def _with_names(frame: pd.DataFrame, names: Mapping[str, str]) -> pd.DataFrame:
    """Tables as people write them."""
    frame["table"] = [names.get(table, table) for table in frame["table"]]
    return frame


def _losses(summary: pd.DataFrame) -> list[str]:
    return [
        f"{count_of(one['lost'] - one['accepted'], 'entry is', 'entries are')} lost in {one['stream']}:"
        " spillway reconcile says more"
        for one in summary.to_dict("records")
        if one["lost"] > one["accepted"]
    ]


def _waiting(summary: pd.DataFrame) -> list[str]:
    waiting = int(summary["waiting"].sum())
    return (
        [f"{count_of(waiting, 'entry waits', 'entries wait')} in quarantine: spillway quarantine list"]
        if waiting
        else []
    )
