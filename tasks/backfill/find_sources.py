"""Find the sources that an operator names: files, archives, or a range of a stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import PurePosixPath

import psycopg

from infra.connections.clients import Clients
from infra.errors.exceptions import Terminal, WrongUse
from infra.mapping.stream_mapping import BUILT_IN, StreamMapping, StreamMappings
from infra.mapping.toml import explain_no_mapping
from infra.settings import Settings, settings
from infra.tables.read_table import is_default
from infra.tables.table import Table
from tasks.archive.archive_root import translate_errors
from tasks.archive.manifest import archive_names
from tasks.archive.manifest import load_manifest as load_manifest
from tasks.archive.restore import doubled_archives, explain_doubled, restored_columns
from tasks.archive.table_root import table_root
from tasks.archive.verify import verify
from tasks.backfill.source import BackfillSource
from tasks.backfill.stream_range import look_at_stream
from tasks.backfill.target_table import TargetTables, borders_of, tables_of
from tasks.base.addresses import IdRange, parse_since, parse_until
from tasks.base.progress import Advanced, emit
from tasks.base.step import step
from tasks.columns.batch import BatchLimits, BatchReader
from tasks.columns.decode import TimeWindow
from tasks.columns.row_layout import RowLayout, bind
from tasks.files.file_ledger import Remaining, remaining_of
from tasks.files.file_reader import FileReader, clip_ranges
from tasks.files.find import SourceFile, find_files
from tasks.files.scan import ScannedFile, scan
from tasks.files.spool import Spool
from tasks.ledger.names import ledger_name_again
from tasks.ledger.plan import plan
from tasks.maintain.maintained_table import maintained_table
from tasks.preflight.rights import check_rights
from tasks.preflight.stream_sample import check_sample
from tasks.preflight.table_fit import check_tables
from tasks.streams.reader import Reader

FILES = "files read"  # the name of this part in the progress


def mapping_for(file: SourceFile, mappings: StreamMappings, name: str | None) -> StreamMapping:
    """The mapping of a file: the one called `name`, or else the one whose pattern matches the file name.

    Raises `WrongUse` if there is no mapping called `name`.
    """
    if name is None:
        return mappings.for_stream(PurePosixPath(file.path).name)
    found = mappings.for_stream(name)
    if found is BUILT_IN:
        reason = explain_no_mapping(settings().mappings)
        raise WrongUse(f"backfill: --mapping {name}: {reason}; nothing was loaded: name one of its streams, or none")
    return found


@step("find files")
def find_source_files(sources: Sequence[str]) -> tuple[list[SourceFile], list[str]]:
    """All files that the sources stand for, each once, and warnings.

    Raises `SpillwayError` if a source stands for no file.
    """
    found: dict[str, SourceFile] = {}
    warnings: list[str] = []
    for source in sources:
        for file in find_files(source, warnings):
            found.setdefault(file.display_name, file)
    return list(found.values()), warnings


@step("find archives")
def find_archived(
    clients: Clients, table: Table, since: str | None, until: str | None, without: Sequence[str]
) -> tuple[list[tuple[SourceFile, RowLayout]], list[str]]:
    """The files of all archives of `table` that overlap the times from `since` to `until`, verified, with their
    layouts; and warnings. `without`: archived columns that are left out.

    Raises `BadArchive` if an archive is damaged, `Terminal` if there is no such archive, and what `restored_columns`
    raises.
    """
    root = table_root(maintained_table(clients.settings, table))
    first = parse_since(since) >> 64 if since else None
    last = parse_until(until) >> 64 if until else None
    manifests = []
    with translate_errors("restore", root):
        for name in archive_names(root):
            manifest = load_manifest(root, name)
            low, high = manifest.chunk.range_start.timestamp() * 1000, manifest.chunk.range_end.timestamp() * 1000
            if (first is not None and high <= first) or (last is not None and low > last):
                continue
            verify(root, manifest)
            manifests.append(manifest)
    if not any(manifest.files for manifest in manifests):
        raise Terminal(
            f"restore: expected an archive of those times in {root.display_name}/{root.folder}, found none; nothing was"
            " loaded; see spillway archive list"
        )
    # If two archives have the same row, the later one may have more of its columns.
    manifests.sort(key=lambda manifest: manifest.archived_at, reverse=True)
    with translate_errors("restore", root), clients.translate_errors("restore"), clients.postgres() as connection:
        doubled = doubled_archives(connection, table, manifests)
        manifests = [manifest for manifest in manifests if manifest not in doubled]
        found = restored_columns(connection, table, root, manifests, without)
        layouts = [_restoring(table, columns) for columns in found.columns]
        check_rights(connection, "backfill", [table.regclass])
        check_tables(connection, layouts)
    files = [
        (SourceFile(root.files, root.path(file.path), f"{root.display_name}/{file.path}", "parquet", None), layout)
        for manifest, layout in zip(manifests, layouts, strict=True)
        for file in manifest.files
    ]
    left_out = [explain_doubled(table, manifest, reason) for manifest, reason in doubled.items()]
    return files, [*left_out, *found.warnings]


def _restoring(table: Table, columns: Sequence[str]) -> RowLayout:
    """The layout of the files of an archive: every column has the field of its name."""
    mapping = replace(BUILT_IN, layout="flat", table=None if is_default(table) else table.regclass)
    return bind(mapping, table, columns)


@step("read files")
def read_files(
    clients: Clients,
    files: Sequence[tuple[SourceFile, RowLayout]],
    spool: Spool,
    again: bool,
    targets: TargetTables,
) -> list[BackfillSource]:
    """`file_source` for several files with their layouts, since a step costs more than reading a small file."""
    with clients.translate_errors("read files"), clients.postgres() as connection:
        found = []
        for file, layout in files:
            borders = borders_of(layout, targets)
            found.append(file_source(connection, clients.settings, file, layout, spool, again, borders))
            emit(Advanced(FILES, 1))
        return found


def file_source(
    connection: psycopg.Connection,
    config: Settings,
    file: SourceFile,
    layout: RowLayout,
    spool: Spool,
    again: bool,
    borders: Sequence[int],
) -> BackfillSource:
    """Read a whole file and find its remaining rows. Raises `SpillwayError` or `psycopg.Error`."""
    scanned = scan(file, layout, spool)
    if not scanned.rows:
        left = Remaining((), 0)
    elif again:
        left = Remaining((IdRange(0, scanned.end),), scanned.rows)
    else:
        left = remaining_of(connection, scanned)
        if left.rows and left.as_texts:
            scanned = scan(file, layout, spool, as_texts=True)
    ledger_name = ledger_name_again(scanned.ledger_name) if again else scanned.ledger_name
    window = TimeWindow.around_now(config.max_age_days, config.max_ahead_days)
    days = {day: n for day, n in scanned.days.items() if clip_ranges(left.gaps, day << 64, (day + 1) << 64)}
    reader = partial(_file_reader, ledger_name, scanned, window, borders)
    return BackfillSource(
        ledger_name,
        file.display_name,
        layout.table.regclass,
        scanned.rows,
        left.rows,
        left.gaps,
        days,
        reader,
        file=scanned,
        warnings=scanned.warnings,
        tables=tuple(table.regclass for table in tables_of(scanned.layout)),
    )  # fmt: skip


def _file_reader(
    ledger_name: str,
    scanned: ScannedFile,
    window: TimeWindow,
    borders: Sequence[int],
    gaps: Sequence[IdRange],
    limits: BatchLimits,
) -> BatchReader:
    return FileReader(ledger_name, scanned.section, gaps, limits, scanned.layout, window, borders)


def stream_source(
    clients: Clients,
    stream: str,
    layout: RowLayout,
    since: str | None,
    until: str | None,
    again: bool,
    dry_run: bool,
) -> BackfillSource:
    """Find the remaining entries of a range of a stream, and their days. Raises `SpillwayError`."""
    config = clients.settings
    first = parse_since(since) if since else 0
    last = parse_until(until) if until else None
    table = layout.table.regclass
    planned = plan(clients, stream, last, register=False, table=None if again else table)
    ledger_name = ledger_name_again(stream) if again else stream
    gaps = (IdRange(first, planned.upto + 1),) if again else clip_ranges(planned.gaps, first, planned.upto + 1)
    gaps = tuple(gap for gap in gaps if gap.start < gap.stop)
    window = TimeWindow.around_now(config.max_age_days, config.max_ahead_days)

    def reader(gaps: Sequence[IdRange], limits: BatchLimits) -> Reader:
        return Reader(
            clients.redis, stream, gaps, planned.tail, limits, layout, window, ledger_name=ledger_name,
            replica=clients.replica,
        )  # fmt: skip

    limits = BatchLimits(config.batch_rows, config.batch_bytes)
    warnings = check_sample(clients, reader(gaps, limits), layout, planned.upto) if planned.fresh else []
    if not planned.known and not dry_run:  # only now, so that nothing is recorded for a stream that is refused
        plan(clients, stream, last, table=table)
    whole = None if again or first > planned.upto else IdRange(first, planned.upto + 1)
    days, loaded_days = look_at_stream(clients, reader(gaps, limits), layout, whole)
    rows = sum(days.values())
    return BackfillSource(
        ledger_name,
        stream,
        table,
        rows,
        rows,
        gaps,
        days,
        reader,
        loaded_days=loaded_days,
        warnings=warnings,
        tables=tuple(table.regclass for table in tables_of(layout)),
    )
