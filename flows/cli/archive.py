"""`spillway archive`: list the archives, and verify that they are complete."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Final

import orjson
import typer

from flows.cli.options import JsonLines
from infra.connections.clients import Clients
from infra.display import count_of
from infra.errors.exceptions import SpillwayError, WrongUse
from infra.errors.exit_codes import ExitCode
from infra.errors.redact import one_line
from infra.output import error as print_error
from infra.output import print_json, print_table, result, warn
from infra.settings import settings

if TYPE_CHECKING:
    from tasks.archive.archive_root import ArchiveRoot
    from tasks.archive.manifest import Manifest
    from tasks.archive.missing_archives import ArchivedDrop

_VERIFY: Final = "archive verify"  # as Clients and the table of successes name it
_MOST_LINES = 20  # of missing archives
app = typer.Typer(no_args_is_help=True, help="Chunks in the archive: list them, verify that they are complete.")

_Url = Annotated[str, typer.Option(help="The archive's folder or URL.", show_default="SPILLWAY_ARCHIVE_URL")]


@app.command("list")
def list_command(url: _Url = "", as_json: JsonLines = False) -> None:
    """List the archives of all tables, the oldest of each first. Exit code 1 if a manifest cannot be read."""
    roots = _roots(url)
    found, faults = _manifests(roots, ())
    if as_json:
        for _, manifest in found:
            print_json(_as_json(manifest))
    else:
        _print(roots, [manifest for _, manifest in found])
    _report(list(faults.values()))


@app.command("verify")
def verify_command(
    names: Annotated[list[str] | None, typer.Argument(help="Only these archives.", show_default=False)] = None,
    url: _Url = "",
    record: Annotated[
        bool,
        typer.Option(
            "--record", help="If all are complete and none is missing, record that in the database, for alerts."
        ),
    ] = False,
    as_json: JsonLines = False,
) -> None:
    """Read every row of the archives and compare it with the manifests; and look for the archive of each chunk that was
    dropped after it was archived. Exit code 0 only if all are complete and none is missing."""
    if record and names:
        raise WrongUse("archive verify: --record means that all archives were read, found names; leave one of them out")
    from tasks.archive.verify import verify

    roots = _roots(url)
    found, faults = _manifests(roots, names or ())
    if as_json:
        for name in faults:
            print_json({"name": name, "whole": False})
    whole = []
    for root, manifest in found:
        try:
            verify(root, manifest)
            whole.append(manifest)
        except SpillwayError as error:
            faults[manifest.name] = one_line(error)
        if as_json:
            print_json(_as_json(manifest) | {"whole": manifest in whole})
    # Names and a URL ask for some archives, such as those of a copy.
    missing = _missing(roots, found, faults, record) if record or not (names or url) else []
    if as_json:
        for drop in missing:
            times = {"from": drop.range_start, "to": drop.range_end}
            print_json({"name": None, "table": drop.table} | times | {"rows": drop.rows, "whole": False})
    else:
        gone = f"; {len(missing):,} missing, {count_of(sum(one.rows for one in missing), 'row')}" if missing else ""
        rows = sum(manifest.rows for manifest in whole)
        result(f"{len(whole):,} complete, {count_of(rows, 'row')}; {len(faults):,} failed{gone}")
    if not (names or faults):
        _warn_of_strays(roots, found)
    _report([*faults.values(), *_describe(missing, roots)])
    if record and not found:
        warn(f"there is no archive in {_places(roots)}, and none is expected: nothing was recorded")
    elif record:
        from tasks.ledger.successes import record_success

        with Clients(settings(), _VERIFY) as clients:
            record_success(clients, _VERIFY)


def _missing(
    roots: Sequence[ArchiveRoot], found: Sequence[tuple[ArchiveRoot, Manifest]], faults: Iterable[str], record: bool
) -> list[ArchivedDrop]:
    """The archives that the database expects and that are not there, except those that `faults` names already.

    Without `record` it needs no database: a warning says that nothing was compared.
    """
    from tasks.archive.missing_archives import find_missing
    from tasks.preflight.preflight import preflight_rights

    with Clients(settings(), _VERIFY) as clients:
        try:
            preflight_rights(clients, f"{_VERIFY} --record")
            missing = find_missing(clients, [manifest for _, manifest in found])
        except SpillwayError as error:
            if record:
                raise
            warn(f"the archives were not compared with the chunks that the database has dropped: {one_line(error)}")
            return []
    return [drop for drop in missing if not any(name.startswith(f"{drop.range_name}_") for name in faults)]


def _describe(missing: Sequence[ArchivedDrop], roots: Sequence[ArchiveRoot]) -> list[str]:
    """The missing archives as errors: those of one location that is away may be thousands."""
    from tasks.archive.missing_archives import describe

    lines = [describe(drop, _places(roots)) for drop in missing[:_MOST_LINES]]
    if more := missing[_MOST_LINES:]:
        rows = count_of(sum(one.rows for one in more), "row")
        lines.append(f"{count_of(len(more), 'more archive')} with {rows} are missing; with --json all are listed")
    return lines


def _warn_of_strays(roots: Sequence[ArchiveRoot], found: Sequence[tuple[ArchiveRoot, Manifest]]) -> None:
    from tasks.archive.archive_root import translate_errors
    from tasks.archive.verify import unlisted_files

    strays = []
    for root in roots:
        with translate_errors("archive", root):
            strays += unlisted_files(root, [manifest for its_root, manifest in found if its_root == root])
    if strays:
        warn(
            f"no manifest lists {count_of(len(strays), 'file')}, such as {strays[0]}: a run is writing them, or a run"
            " was killed and the next one of that chunk removes them, or they are not Spillway's"
        )


def _roots(url: str) -> list[ArchiveRoot]:
    """The folder of each table at the URL; without a URL, at every location that is configured."""
    from infra.mapping.toml import load_table_sections
    from tasks.archive.archive_root import open_root, translate_errors
    from tasks.archive.manifest import archived_folders

    config = settings()
    options = [options for _, options in load_table_sections(config.mappings).sections.values()]
    urls = [url] if url else [config.archive_url, *(one["archive_url"] for one in options if "archive_url" in one)]
    roots = []
    for one in dict.fromkeys(filter(None, urls)) or [""]:
        root = open_root(one)
        with translate_errors("archive", root):
            roots += [replace(root, folder=folder) for folder in archived_folders(root) or [root.folder]]
    return roots


def _manifests(
    roots: Iterable[ArchiveRoot], wanted: Sequence[str]
) -> tuple[list[tuple[ArchiveRoot, Manifest]], dict[str, str]]:
    """The manifests with the wanted names, or all, with their roots; and the errors of unreadable ones, by name."""
    from tasks.archive.archive_root import translate_errors
    from tasks.archive.manifest import archive_names, load_manifest

    found, faults, missing = [], {}, set(wanted)
    for root in roots:
        with translate_errors("archive", root):
            for name in archive_names(root):
                if wanted and name not in wanted:
                    continue
                missing.discard(name)
                try:
                    found.append((root, load_manifest(root, name)))
                except SpillwayError as error:
                    faults[name] = one_line(error)
    for name in (one for one in wanted if one in missing):
        faults[name] = f"archive {name}: expected a manifest of this name, found no file; see spillway archive list"
    return found, faults


def _as_json(manifest: Manifest) -> dict[str, Any]:
    content: dict[str, Any] = orjson.loads(manifest.to_json())
    return {"name": manifest.name, "bytes": manifest.size} | content


# What is needed to name an archive to another command comes first.
_WHOLE = ("from", "to", "first", "last", "archived", "name")
_DROP = ("first", "last", "files", "archived", "MB", "rows", "to", "from")


def _print(roots: Sequence[ArchiveRoot], found: Sequence[Manifest]) -> None:
    several = len({root.folder for root in roots}) > 1
    if found:
        columns = ["table"] * several + ["from", "to", "rows", "first", "last", "files", "MB", "archived", "name"]
        print_table(
            columns, [[m.hypertable] * several + _row(m) for m in found], right=["MB"], whole=_WHOLE, drop=_DROP
        )
    rows, size = sum(manifest.rows for manifest in found), sum(manifest.size for manifest in found)
    result(f"{count_of(len(found), 'archive')} in {_places(roots)}, {count_of(rows, 'row')}, {size / 1e6:,.1f} MB")


def _places(roots: Sequence[ArchiveRoot]) -> str:
    return ", ".join(dict.fromkeys(root.display_name for root in roots))


def _row(manifest: Manifest) -> list[object]:
    chunk = manifest.chunk
    first, last = (time and f"{time:%Y-%m-%d %H:%M:%S}" for time in (manifest.min_time, manifest.max_time))
    archived = f"{manifest.archived_at:%Y-%m-%d %H:%M}"
    times = [f"{time:%Y-%m-%d %H:%M}" for time in (chunk.range_start, chunk.range_end)]
    size = f"{manifest.size / 1e6:,.1f}"
    return [*times, manifest.rows, first, last, len(manifest.files), size, archived, manifest.name]


def _report(faults: Sequence[str]) -> None:
    """Print the errors. Exits with 1 if there are any."""
    for fault in faults:
        print_error(fault)
    if faults:
        raise typer.Exit(ExitCode.FAILED)
