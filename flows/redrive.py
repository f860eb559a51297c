"""Replay entries of the quarantine after the mapping was mended, or with edited fields: exactly once."""

from __future__ import annotations

from functools import partial
from typing import Any
from uuid import uuid4

from prefect import flow, get_run_logger
from prefect.runtime import flow_run

from infra.connections.clients import Clients
from infra.display import printable
from infra.errors.exceptions import Unsuccessful, WrongUse
from infra.errors.exit_codes import ExitCode
from infra.mapping import mappings_of
from infra.settings import settings
from tasks.base.arrow_memory import use_system_allocator
from tasks.base.progress import Advanced, Started, emit
from tasks.files.file_ledger import mapping_of
from tasks.preflight.preflight import preflight_clocks, preflight_rights
from tasks.table.new_chunks import NewChunkLimit
from tasks.table.quarantine import Selection
from tasks.table.redrive import RedriveResult, replay_entries, report_redrive, select


@flow(name="redrive", retries=0, persist_result=False)
def redrive(
    stream: str | list[str] = "",
    entries: list[str] | None = None,
    kind: str | None = None,
    field: str | None = None,
    changes: dict[str, str] | None = None,
    yes: bool = False,
) -> dict[str, Any]:
    """Replay what waits in the quarantine: of `stream` (a name, a list, or all), `entries` (their ids), of one `kind`
    (refused or conflict) or one `field` at fault; nothing given means everything.

    `changes`: entry field → the text to replay instead of what came; the original stays on record. `yes`: more new
    chunks than SPILLWAY_MAX_NEW_CHUNKS are meant. Returns counts, tried = inserted + duplicates + still_bad, and
    warnings. Raises `SpillwayError`; what was replayed until then stays so. If none of the entries succeeded, it is
    `Unsuccessful`, with the counts.
    """
    names = [stream] if isinstance(stream, str) else stream
    if entries and len([name for name in names if name]) != 1:
        raise WrongUse("redrive: entries are ids of one stream; name that stream")
    use_system_allocator()
    config = settings()
    find_mapping = partial(mapping_of, mappings=mappings_of(config))
    run = f"{flow_run.name or 'redrive'} {uuid4()}"
    selection = Selection(tuple(name for name in names if name), tuple(entries or ()), kind, field)
    new_chunks = None if yes else NewChunkLimit(config.max_new_chunks)
    with Clients(config, "quarantine redrive") as clients:
        preflight_rights(clients, "quarantine redrive")
        warnings = preflight_clocks(clients)
        done: list[RedriveResult] = []
        chosen = select(clients, selection)
        emit(Started("quarantine", sum(len(portion.entries) for portion in chosen)))
        for portion in chosen:
            done.append(replay_entries(clients, portion, find_mapping, changes or {}, run, new_chunks))
            emit(Advanced("quarantine", len(portion.entries)))
        if done:
            report_redrive(done)
    counts = ("tried", "inserted", "duplicates", "still_bad")
    result: dict[str, Any] = {name: sum(getattr(part, name) for part in done) for name in counts}
    get_run_logger().info("redriven: %s", result)
    result["warnings"] = warnings + (new_chunks.warnings() if new_chunks else [])
    for warning in result["warnings"]:
        get_run_logger().warning(printable(warning))
    if result["tried"] and not (result["inserted"] or result["duplicates"]):
        raise Unsuccessful(
            f"redrive: none of the {result['tried']} entries succeeded; each still waits, with today's reason: see"
            " spillway quarantine list, and fix the mapping, or the entries (spillway quarantine redrive ID --set)",
            result,
            ExitCode.NOTHING_REDRIVEN,
        )
    return result
