"""Reconcile: do the totals balance, and with `deep`, is every drained entry that still exists in the table?"""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict, dataclass, field
from typing import Any

from infra.connections.clients import Clients
from infra.display import printable
from infra.errors.exceptions import Unsuccessful, WrongUse
from infra.errors.exit_codes import ExitCode
from infra.mapping.stream_mapping import StreamMappings
from infra.mapping.toml import configured_mappings
from infra.settings import settings
from tasks.base.addresses import IdRange, parse_range
from tasks.base.arrow_memory import use_system_allocator
from tasks.base.progress import Advanced, Started, emit
from tasks.base.run_log import in_deployment, run_logger
from tasks.base.step import step
from tasks.files.file_reader import FileReader
from tasks.files.reread import reread
from tasks.files.spool import Spool
from tasks.ledger.names import is_file_ledger, original_name
from tasks.ledger.stream_balance import Finding
from tasks.ledger.successes import record_success
from tasks.preflight.layouts import read_stream_layout
from tasks.preflight.preflight import preflight_rights
from tasks.reconcile.balance import LedgerTotals, find_known, reconcile_stream
from tasks.reconcile.compare import compare_batch, drained_ranges, reader
from tasks.reconcile.comparison import ComparisonTotals
from tasks.reconcile.reconcile_report import report_reconciliation
from tasks.streams.reader import Reader, read

_NOT_COMPARED = ("gone", "went back")  # after these findings there is nothing to compare with


def reconcile(
    stream: str | list[str] | None = None,
    deep: bool = False,
    since: str | None = None,
    until: str | None = None,
    repair: bool = False,
    fail: bool = True,
    files: bool = True,
    retired: bool = False,
) -> dict[str, Any]:
    """Check that the totals of each stream balance, as a whole and range by range, and that its ledger has no gaps or
    overlaps. Files that were backfilled are streams too, named `file:SHA-256`.

    Args:
        stream: A name, a pattern such as `events*`, or a list of both. Without it: `SPILLWAY_SCHEDULED_STREAMS`.
        deep: Also compare every drained entry that still exists with the table. Rows that retention dropped are
            counted, and are not findings.
        since: With `deep`: start at this entry id or ISO 8601 time.
        until: With `deep`: stop after this entry id or ISO 8601 time.
        repair: With `deep`: put back the rows that are missing, except those that retention dropped.
        files: Whether patterns match files too. Their rows do not change, so the daily run leaves them out.
        retired: Whether patterns match the ledgers of former streams (`NAME@until-…`) and of repeated loads
            (`NAME@again-…`) too. Nothing is loaded under these names any more.
        fail: Fail the run if something does not balance, or if entries were lost and the loss was not accepted.

    Returns:
        Totals, `findings`, `losses`, and `notes`: files that could not be compared because they are missing or changed.

    Raises:
        Unsuccessful: With the totals, if `fail` is set and there is a finding or an unaccepted loss.
    """
    use_system_allocator()
    config = settings()
    ids = parse_range(since, until)
    if repair and not deep:
        raise WrongUse("reconcile: repair needs deep, which finds the missing rows; add --deep")
    mappings = configured_mappings(config)
    checked = _Checked()
    wanted = [stream] if isinstance(stream, str) else stream or list(config.scheduled_streams)
    with Clients(config, "reconcile") as clients, closing(Spool()) as spool:
        preflight_rights(clients, "reconcile" + " --deep" * deep + " --repair" * repair)
        comparison = _Comparison(ids, mappings, spool, repair) if deep else None
        _check_all(clients, find_known(clients, wanted, files, retired), comparison, checked)
        checked.notes += clients.replica_warnings
        report_reconciliation(checked.streams, checked.findings, checked.compared, checked.repaired, checked.dropped)
        result = checked.result()
        problems = [*result["losses"], *checked.problems()]
        if not problems:
            record_success(clients, "reconcile")
        if in_deployment():
            from tasks.report.publish import publish_pictures  # pandas: only where somebody will look

            publish_pictures(clients)
    for note in checked.notes:
        run_logger().warning(printable(note))
    run_logger().info(
        "%d streams, %d entries compared, %d findings", len(checked.streams), checked.compared, len(checked.findings)
    )
    if fail and problems:
        code = ExitCode.LOST if result["losses"] else ExitCode.FAILED
        raise Unsuccessful(f"reconcile: {'; '.join(problems)}", result, code)
    return result


@dataclass
class _Checked:
    """What one run has found so far. `dropped`: compared entries whose rows were in dropped chunks."""

    streams: list[LedgerTotals] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    compared: int = 0
    repaired: int = 0
    dropped: int = 0

    def problems(self) -> list[str]:
        """One sentence for each finding."""
        problems = [f"{f.stream}: {f.count} {f.what} ({f.detail}), repair: {f.repair}" for f in self.findings]
        return [f"the books do not balance: {problems[0]}", *problems[1:]] if problems else []

    def result(self) -> dict[str, Any]:
        """What the flow returns."""
        return {
            "balanced": not self.findings,
            "compared": self.compared,
            "repaired": self.repaired,
            "dropped": self.dropped,
            "streams": [asdict(totals) for totals in self.streams],
            "findings": [asdict(finding) for finding in self.findings],
            "losses": [totals.loss for totals in self.streams if totals.loss],
            "accepted": [totals.acceptance for totals in self.streams if totals.acceptance],
            "redriven": [totals.addition for totals in self.streams if totals.addition],
            "notes": self.notes,
        }


@dataclass(frozen=True)
class _Comparison:
    """What `deep` compares, and how. `ids`: the part of each stream. `repair`: put missing rows back."""

    ids: IdRange
    mappings: StreamMappings
    spool: Spool
    repair: bool


@step("check streams", retries=0)
def _check_all(clients: Clients, streams: list[str], comparison: _Comparison | None, checked: _Checked) -> None:
    """Check stream by stream, in one task run."""
    for name in streams:
        totals, found = reconcile_stream(clients, name)
        checked.streams.append(totals)
        checked.findings += found
        if comparison and totals.ranges and not any(finding.what in _NOT_COMPARED for finding in found):
            _compare(clients, totals, comparison, checked)


def _compare(clients: Clients, totals: LedgerTotals, comparison: _Comparison, checked: _Checked) -> None:
    """Compare the drained entries of a stream or file, batch by batch, with the table."""
    name = totals.stream
    if name != original_name(name) and not is_file_ledger(name):
        checked.notes.append(f"{name} is not compared: its totals are checked, but Redis has no stream of this name")
        return
    emit(Started(name, totals.read))
    ranges = drained_ranges(clients, name, comparison.ids.start, comparison.ids.stop)
    mappings = comparison.mappings
    source: Reader | FileReader | str = (
        reread(clients, name, mappings, comparison.spool, ranges)
        if is_file_ledger(name)
        else reader(clients, ranges, name, read_stream_layout(clients, mappings.for_stream(name)))
    )
    if isinstance(source, str):
        checked.notes.append(source)
        return
    sums, table = ComparisonTotals(), "events"
    while (batch := source.read() if isinstance(source, FileReader) else read(clients, source)) is not None:
        table = batch.layout.table.name
        sums = sums.plus(compare_batch(clients, batch, comparison.repair))
        emit(Advanced(name, batch.read))
        del batch  # before the next one is read
    checked.findings += sums.findings(name, table)
    checked.compared += sums.compared
    checked.repaired += sums.repaired
    checked.dropped += sums.dropped
