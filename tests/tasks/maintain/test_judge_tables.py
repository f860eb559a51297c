"""What the check concludes about tables other than `events`."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from infra.mapping.table_options import TableOptions, table_options
from infra.settings import Settings
from infra.tables.table import Table, TableColumn, TableKind
from tasks.maintain.chunk_states import ChunkState
from tasks.maintain.compression import CurrentPolicy, desired_policy
from tasks.maintain.compression_layout import CompressionLayout
from tasks.maintain.forecast import Policies
from tasks.maintain.jobs import Edition, Job
from tasks.maintain.judge import CheckFacts, CheckResult, judge
from tasks.maintain.maintained_table import MaintainedTable
from tasks.maintain.row_audit import RowAudit
from tasks.maintain.table_report import MaintainOutcome, TableReport, table_result, table_row
from tasks.table.chunks import Chunk

NOW = datetime(2026, 6, 1, tzinfo=UTC)
DAY = timedelta(days=1)
HYPER = Table("s", "t", TableKind.HYPERTABLE, (TableColumn("at", "date", "date", nullable=False),), time="at")
PLAIN = Table("s", "t", TableKind.PLAIN, HYPER.columns)


def options(written: dict[str, Any] | None = None, **values: Any) -> TableOptions:
    return table_options(Settings(_env_file=None, **values), False, written, '[tables."s.t"]')


def judged(
    table: Table,
    found: TableOptions,
    edition: Edition | None = "Community",
    owned: bool = True,
    audit: RowAudit | None = None,
) -> CheckResult:
    """The verdict on a table with a chunk of rows that is a year old, if it has chunks."""
    end = NOW - 365 * DAY
    one = MaintainedTable(table, found, owned=owned)
    current = CurrentPolicy(None, (), enabled=False)
    wanted = desired_policy(one, current) if owned else None
    states = (ChunkState(Chunk("s", "c", end - 7 * DAY, end), 10, 8192, "rows", end),) if table.time else ()
    policies = Policies(wanted if edition == "Community" else None, (), found.keep if owned else None, "flow", ())
    audit = audit or RowAudit(None, 10, 10, 0, checked=True)
    return judge(
        CheckFacts(NOW, one, edition, states, current, wanted, policies, None, audit, None, rows=10), dry_run=False
    )


def test_chunks_of_a_table_that_the_role_does_not_own_are_no_problem_of_this_run() -> None:
    keep = options({"keep": 30 * DAY})
    assert len(judged(HYPER, keep).violations) == 1
    found = judged(HYPER, keep, owned=False)
    (warning,) = found.warnings
    assert (found.violations, found.overdue) == ((), ())
    assert warning.startswith("the role of SPILLWAY_DATABASE_URL does not own the table, ")


@pytest.mark.parametrize(
    ("table", "edition", "what"),
    [
        (PLAIN, "Community", "a table"),
        (PLAIN, None, "a table on a server without TimescaleDB"),
        (replace(PLAIN, kind=TableKind.PARTITIONED), "Apache", "a partitioned table"),
        (replace(HYPER, time=None), "Apache", "a hypertable without a time"),
    ],
)
def test_options_without_effect_are_named_and_settings_are_not(
    table: Table, edition: Edition | None, what: str
) -> None:
    assert judged(table, options(keep=30 * DAY), edition).warnings == ()
    assert judged(table, options({"keep": 30 * DAY, "orderby": "at"}), edition).warnings == (
        'keep of [tables."s.t"], orderby of [tables."s.t"]: expected a hypertable with a time, found'
        f" {what}; the rest of maintenance works",
    )


def test_rows_are_missing_and_not_events() -> None:
    (violation,) = judged(PLAIN, options(), audit=RowAudit(None, 12, 10, 0, checked=True)).violations
    assert violation.startswith("2 rows are gone: the ledger says 12 were inserted in all, found 10 rows")
    assert judged(PLAIN, options(), audit=RowAudit()).warnings == (
        "the rows could not be counted in time: whether any are missing was not checked",
    )


def test_a_report_names_its_table_and_one_whose_check_failed_is_not_checked() -> None:
    one = MaintainedTable(PLAIN, options())
    found = judged(PLAIN, options(), audit=RowAudit(None, 12, 10, 0, checked=True))
    report = TableReport(one, MaintainOutcome(False), found)
    assert report.violations[0].startswith("s.t: 2 rows are gone")
    assert table_row(table_result(report)) == {
        "table": "s.t", "kind": "table", "rows": "10", "size": "0 B", "chunks": "0", "compressed": "0", "oldest": "",
        "missing": "2",
    }  # fmt: skip
    failed = TableReport(one, MaintainOutcome(False, failed=("s.t: check: no",)), None)
    assert failed.violations == ["s.t: check: no"]
    assert table_row(table_result(failed)) == {"table": "s.t", "kind": "table", "missing": "not checked"}


JOB = Job(7, "compression", 80 * DAY, True)
LAYOUT = CompressionLayout.parse("", "at", "at")


@pytest.mark.parametrize(
    ("found", "current", "after", "layout"),
    [
        (options(), CurrentPolicy(None, (), enabled=False), 7 * DAY, CompressionLayout.parse("", "", "at")),
        (options(), CurrentPolicy(None, (JOB,)), 80 * DAY, None),  # the server chooses the layout
        (options(), CurrentPolicy(LAYOUT, (JOB,)), 80 * DAY, LAYOUT),
        (options(compress_after=9 * DAY), CurrentPolicy(LAYOUT, (JOB,)), 9 * DAY, LAYOUT),
        (options({"compress_after": 9 * DAY}), CurrentPolicy(LAYOUT, (JOB,)), 9 * DAY, LAYOUT),
        (options({"segmentby": "at"}), CurrentPolicy(LAYOUT, (JOB,)), 80 * DAY, CompressionLayout(("at",))),
    ],
)
def test_what_nothing_configures_stays_as_the_user_has_set_it(
    found: TableOptions, current: CurrentPolicy, after: timedelta, layout: CompressionLayout | None
) -> None:
    wanted = desired_policy(MaintainedTable(HYPER, found), current)
    assert wanted is not None
    assert (wanted.after, wanted.layout) == (after, layout)
