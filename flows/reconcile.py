"""Reconcile: do the books balance, and with `deep`, is every drained entry that is still there in the table?"""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from typing import Any

from prefect import flow, get_run_logger

from infra.connections.clients import Clients
from infra.display import printable
from infra.errors.exceptions import Unsuccessful, WrongUse
from infra.errors.exit_codes import ExitCode
from infra.mapping import mappings_of
from infra.settings import settings
from tasks.base.addresses import parse_from, parse_until
from tasks.base.arrow_memory import use_system_allocator
from tasks.base.progress import Advanced, Started, emit
from tasks.files.file_reader import FileReader
from tasks.files.reread import reread
from tasks.files.scan import is_file
from tasks.files.spool import Spool
from tasks.preflight.preflight import preflight_rights
from tasks.reconcile.balance import Finding, LedgerTotals, find_known, reconcile_stream
from tasks.reconcile.compare import compare_batch, drained_ranges, reader
from tasks.reconcile.comparison import ComparisonTotals
from tasks.reconcile.reconcile_report import report_reconciliation
from tasks.streams.reader import Reader, read

_NO_END = 1 << 128  # no id is greater


@flow(name="reconcile", persist_result=False)
def reconcile(
    stream: str | list[str] = "events*",
    deep: bool = False,
    start: str | None = None,
    stop: str | None = None,
    repair: bool = False,
    fail: bool = True,
) -> dict[str, Any]:
    """Check both laws of every stream that `stream` stands for, range by range, and its ledger for gaps and overlaps.

    `deep`: also compare every drained entry that is still there, from `start` to `stop` (entry ids or ISO 8601 times),
    with the table; `repair`: put in the rows that are missing. What retention dropped is counted, and is neither a
    finding nor put back. Files that were backfilled are streams like others, `file:SHA-256`; one that has gone, or
    changed, is not compared, which `notes` say. Returns sums and findings. Raises `Unsuccessful` with them if something
    does not balance, or if entries are lost and nobody has accepted that; unless `fail` is false.
    """
    use_system_allocator()
    config = settings()
    first = parse_from(start) if start else 0
    beyond = parse_until(stop, "to") + 1 if stop else _NO_END
    if repair and not deep:
        raise WrongUse("reconcile: repair goes with deep, which finds what is missing")
    mappings = mappings_of(config)
    books: list[LedgerTotals] = []
    findings: list[Finding] = []
    notes: list[str] = []
    compared = repaired = dropped = 0
    with Clients(config, "reconcile") as clients, closing(Spool()) as spool:
        preflight_rights(clients, "reconcile" + " --deep" * deep + " --repair" * repair)
        for name in find_known(clients, [stream] if isinstance(stream, str) else stream):
            ledger, found = reconcile_stream(clients, name)
            books.append(ledger)
            findings += found
            if deep and ledger.ranges and not any(finding.what in ("gone", "went back") for finding in found):
                so_far = ComparisonTotals()
                emit(Started(name, ledger.read))
                ranges = drained_ranges(clients, name, first, beyond)
                source: Reader | FileReader | str = (
                    reread(clients, name, mappings, spool, ranges)
                    if is_file(name)
                    else reader(clients, ranges, name, mappings.of(name))
                )
                if isinstance(source, str):
                    notes.append(source)
                    continue
                while (batch := source.read() if isinstance(source, FileReader) else read(clients, source)) is not None:
                    so_far = so_far.plus(compare_batch(clients, batch, repair))
                    emit(Advanced(name, batch.read))
                    batch.release()
                findings += so_far.findings(name)
                compared, repaired = compared + so_far.compared, repaired + so_far.repaired
                dropped += so_far.dropped
        report_reconciliation(books, findings, compared, repaired, dropped)
    for note in notes:
        get_run_logger().warning(printable(note))
    get_run_logger().info("%d streams, %d entries compared, %d findings", len(books), compared, len(findings))
    losses = [ledger.loss for ledger in books if ledger.loss]
    result = {
        "balanced": not findings,
        "compared": compared,
        "repaired": repaired,
        "dropped": dropped,
        "streams": [asdict(ledger) for ledger in books],
        "findings": [asdict(finding) for finding in findings],
        "losses": losses,
        "accepted": [ledger.acceptance for ledger in books if ledger.acceptance],
        "notes": notes,
    }
    problems = [f"{f.stream}: {f.count} {f.what} ({f.detail}), repair: {f.repair}" for f in findings]
    if problems:
        problems[0] = f"the books do not balance: {problems[0]}"
    if fail and (problems or losses):
        code = ExitCode.LOST if losses else ExitCode.FAILED
        raise Unsuccessful(f"reconcile: {'; '.join([*losses, *problems])}", result, code)
    return result
