"""Read a loaded file again, to compare it with the table."""

from __future__ import annotations

from collections.abc import Sequence

from infra.connections.clients import Clients
from infra.errors.exceptions import SpillwayError
from infra.mapping.stream_mapping import StreamMappings
from tasks.base.addresses import IdRange
from tasks.base.step import step
from tasks.columns.batch import BatchLimits
from tasks.columns.decode import EVERY_TIME
from tasks.files.file_ledger import find_layout, find_path
from tasks.files.file_reader import FileReader
from tasks.files.find import find_files
from tasks.files.scan import scan
from tasks.files.spool import Spool
from tasks.ledger.names import FILE, original_name


@step("read the file again")
def reread(
    clients: Clients, stream: str, mappings: StreamMappings, spool: Spool, ranges: Sequence[IdRange]
) -> FileReader | str:
    """A reader of the drained ranges of a file, or a note that says why the file cannot be compared."""
    with clients.translate_errors(f"reconcile {stream}"), clients.postgres() as connection:
        path = find_path(connection, stream)
        layout = find_layout(connection, stream, mappings)
    if path is None:
        return f"{stream} is not compared: expected its path in spillway.files, found none; only its totals are checked"
    try:
        (file,) = find_files(path)
        scanned = scan(file, layout, spool, as_texts=not layout.json_keys)
    except SpillwayError as error:
        return _note(path, stream, error.fault)
    except ValueError:
        return _note(path, stream, "expected one file at that path, found several")
    if original_name(stream) == f"{FILE}{scanned.sha256}" != scanned.ledger_name:
        return (
            f"{path} is not compared: it was loaded without the columns of its path, by an earlier version; only its"
            " totals are checked"
        )
    if scanned.ledger_name != original_name(stream):
        return _note(path, stream, "it has changed since it was loaded")
    limits = BatchLimits(clients.settings.batch_rows, clients.settings.batch_bytes)
    return FileReader(stream, scanned.section, ranges, limits, scanned.layout, EVERY_TIME)


def _note(path: str, stream: str, fault: str) -> str:
    return (
        f"{path} is not compared: {fault}; only its totals are checked; put back the file that was loaded, then run"
        f" `spillway reconcile --stream {stream} --deep`"
    )
