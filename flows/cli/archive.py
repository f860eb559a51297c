"""`spillway archive`: list the archives, and verify that they are complete."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from flows.cli.options import JsonLines
from infra.errors.exceptions import SpillwayError
from infra.errors.exit_codes import ExitCode
from infra.errors.redact import one_line
from infra.output import error as print_error
from infra.output import print_json, print_table, result, warn
from infra.settings import settings

if TYPE_CHECKING:
    from tasks.archive.archive_root import ArchiveRoot
    from tasks.archive.manifest import Manifest

app = typer.Typer(no_args_is_help=True, help="Chunks in the archive: list them, verify that they are complete.")

_Url = Annotated[str, typer.Option(help="The archive's folder or URL.", show_default="SPILLWAY_ARCHIVE_URL")]


@app.command("list")
def list_command(url: _Url = "", as_json: JsonLines = False) -> None:
    """List the archives, the oldest first. Exit code 1 if a manifest cannot be read."""
    root = _root(url)
    found, faults = _manifests(root, ())
    if as_json:
        for manifest in found:
            print_json(_as_json(manifest))
    else:
        _print(root, found)
    _report(faults)


@app.command("verify")
def verify_command(
    names: Annotated[list[str] | None, typer.Argument(help="Only these archives.", show_default=False)] = None,
    url: _Url = "",
    as_json: JsonLines = False,
) -> None:
    """Read every row of the archives and compare it with the manifests. Exit code 0 only if all are complete."""
    from tasks.archive.archive_root import translate_errors
    from tasks.archive.verify import unlisted_files, verify

    root = _root(url)
    found, faults = _manifests(root, names or ())
    if as_json:
        for name in faults:
            print_json({"name": name, "whole": False})
    for manifest in found:
        try:
            verify(root, manifest)
        except SpillwayError as error:
            faults[manifest.name] = one_line(error)
        if as_json:
            print_json(_as_json(manifest) | {"whole": manifest.name not in faults})
    whole = [manifest for manifest in found if manifest.name not in faults]
    if not as_json:
        result(f"{len(whole):,} complete, {sum(manifest.rows for manifest in whole):,} rows; {len(faults):,} failed")
    with translate_errors("archive", root):
        strays = [] if names or faults else unlisted_files(root, found)
    if strays:
        warn(
            f"no manifest lists {len(strays):,} files, such as {strays[0]}: a run is writing them, or a run was killed"
            " and the next one of that chunk removes them, or they are not Spillway's"
        )
    _report(faults)


def _root(url: str) -> ArchiveRoot:
    from tasks.archive.archive_root import open_root

    return open_root(url or settings().archive_url)


def _manifests(root: ArchiveRoot, wanted: Iterable[str]) -> tuple[list[Manifest], dict[str, str]]:
    """The manifests with the wanted names, or all; and the errors of unreadable ones, by name."""
    from tasks.archive.archive_root import translate_errors
    from tasks.archive.manifest import archive_names, load_manifest

    found, faults = [], {}
    with translate_errors("archive", root):
        for name in wanted or archive_names(root):
            try:
                found.append(load_manifest(root, name))
            except SpillwayError as error:
                faults[name] = one_line(error)
    return found, faults


def _as_json(manifest: Manifest) -> dict[str, Any]:
    content: dict[str, Any] = orjson.loads(manifest.to_json())
    return {"name": manifest.name, "bytes": manifest.size} | content


def _print(root: ArchiveRoot, found: list[Manifest]) -> None:
    if found:
        columns = ["from", "to", "rows", "first", "last", "files", "MB", "archived", "name"]
        print_table(columns, [_row(manifest) for manifest in found], right=["MB"])
    rows, size = sum(manifest.rows for manifest in found), sum(manifest.size for manifest in found)
    result(f"{len(found):,} archives in {root.display_name}, {rows:,} rows, {size / 1e6:,.1f} MB")


def _row(manifest: Manifest) -> list[object]:
    chunk = manifest.chunk
    first, last = (time and f"{time:%Y-%m-%d %H:%M:%S}" for time in (manifest.min_time, manifest.max_time))
    archived = f"{manifest.archived_at:%Y-%m-%d %H:%M}"
    times = [f"{time:%Y-%m-%d %H:%M}" for time in (chunk.range_start, chunk.range_end)]
    size = f"{manifest.size / 1e6:,.1f}"
    return [*times, manifest.rows, first, last, len(manifest.files), size, archived, manifest.name]


def _report(faults: dict[str, str]) -> None:
    """Print the errors. Exits with 1 if there are any."""
    for fault in faults.values():
        print_error(fault)
    if faults:
        raise typer.Exit(ExitCode.FAILED)
