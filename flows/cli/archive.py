"""`spillway archive`: what is archived, and whether it is whole."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from infra.display import printable, printable_json
from infra.errors.exceptions import SpillwayError
from infra.errors.exit_codes import ExitCode
from infra.errors.redact import one_line
from infra.settings import settings

if TYPE_CHECKING:
    from tasks.archive.archive_root import ArchiveRoot
    from tasks.archive.manifest import Manifest

app = typer.Typer(no_args_is_help=True, help="Chunks in the archive: which, and are they whole?")

Url = Annotated[str, typer.Option(help="The archive's folder or URL.", show_default="SPILLWAY_ARCHIVE_URL")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]


@app.command("list")
def list_command(url: Url = "", as_json: Json = False) -> None:
    """List the archives, the oldest times first. Exit code 1 where a manifest cannot be read."""
    root = _root(url)
    found, faults = _manifests(root, ())
    if as_json:
        for manifest in found:
            print(printable_json(orjson.dumps(_plain(manifest)).decode()))
    else:
        _print(root, found)
    _fail(faults)


@app.command("verify")
def verify_command(
    names: Annotated[list[str] | None, typer.Argument(help="Only these archives.", show_default=False)] = None,
    url: Url = "",
    as_json: Json = False,
) -> None:
    """Read archives back, every row of them, and compare them with their manifests. Exit code 0: all are whole."""
    from tasks.archive.archive_root import translate_errors
    from tasks.archive.verify import unlisted_files, verify

    root = _root(url)
    found, faults = _manifests(root, names or ())
    if as_json:
        for name in faults:
            print(printable_json(orjson.dumps({"name": name, "whole": False}).decode()))
    for manifest in found:
        try:
            verify(root, manifest)
        except SpillwayError as error:
            faults[manifest.name] = one_line(error)
        if as_json:
            print(printable_json(orjson.dumps(_plain(manifest) | {"whole": manifest.name not in faults}).decode()))
    whole = [manifest for manifest in found if manifest.name not in faults]
    if not as_json:
        print(f"{len(whole):,} whole, {sum(manifest.rows for manifest in whole):,} rows; {len(faults):,} not")
    with translate_errors("archive", root):
        strays = [] if names or faults else unlisted_files(root, found)
    if strays:
        such = escape(printable(strays[0]))
        Console(stderr=True, soft_wrap=True, highlight=False).print(
            f"[yellow]warning:[/yellow] no manifest lists {len(strays):,} files, such as {such}: a run is writing"
            " them, or one was killed and the next of that chunk removes them, or they are not Spillway's"
        )
    _fail(faults)


def _root(url: str) -> ArchiveRoot:
    from tasks.archive.archive_root import open_root

    return open_root(url or settings().archive_url)


def _manifests(root: ArchiveRoot, wanted: Iterable[str]) -> tuple[list[Manifest], dict[str, str]]:
    """The manifests of those names, or all, and by name what is wrong with those that cannot be read."""
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


def _plain(manifest: Manifest) -> dict[str, Any]:
    plain: dict[str, Any] = orjson.loads(manifest.to_json())
    return {"name": manifest.name, "bytes": manifest.size} | plain


def _print(root: ArchiveRoot, found: list[Manifest]) -> None:
    table = Table("from", "to", "rows", "first", "last", "files", "MB", "archived", "name", box=SIMPLE_HEAD)
    for column in ("rows", "files", "MB"):
        next(c for c in table.columns if c.header == column).justify = "right"
    for one in found:
        times = [f"{moment:%Y-%m-%d %H:%M:%S}" if moment else "" for moment in (one.min_time, one.max_time)]
        table.add_row(
            f"{one.chunk.range_start:%Y-%m-%d %H:%M}", f"{one.chunk.range_end:%Y-%m-%d %H:%M}", f"{one.rows:,}", *times,
            f"{len(one.files)}", f"{one.size / 1e6:,.1f}", f"{one.archived_at:%Y-%m-%d %H:%M}",
            Text(printable(one.name)),
        )  # fmt: skip
    if found:
        console = Console()
        (console if console.is_terminal else Console(width=240)).print(table)
    rows, size = sum(one.rows for one in found), sum(one.size for one in found)
    print(f"{len(found):,} archives in {printable(root.shown)}, {rows:,} rows, {size / 1e6:,.1f} MB")


def _fail(faults: dict[str, str]) -> None:
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    for fault in faults.values():
        console.print("[red]error:[/red] ", Text(printable(fault)), sep="")
    if faults:
        raise typer.Exit(ExitCode.FAILED)
