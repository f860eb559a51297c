"""`spillway quarantine`: list and show entries that could not be loaded, replay them, or discard them."""

from __future__ import annotations

import getpass
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.options import Entries, Field, Json, JsonLines, Kind, OfStreams, Yes
from flows.cli.run import run_flow
from infra.connections.clients import Clients
from infra.errors.exceptions import Terminal, WrongUse
from infra.output import print_json, print_table, result, warn
from infra.settings import settings

if TYPE_CHECKING:
    from tasks.table.quarantine import QuarantinedEntry, QuarantineSummary, Selection

app = typer.Typer(no_args_is_help=True, help="Entries that could not be loaded: list, show, replay, discard.")


@app.command("list")
def list_command(
    stream: OfStreams = None,
    kind: Kind = None,
    field: Field = None,
    everything: Annotated[bool, typer.Option("--all", help="Also list what was redriven or discarded.")] = False,
    each: Annotated[
        bool, typer.Option("--entries", help="List each entry, the newest first, as --json always does.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, help="List at most this many reasons or entries.")] = 20,
    as_json: JsonLines = False,
) -> None:
    """List the waiting entries by reason, the most frequent first, with an example of each."""
    from tasks.table.quarantine import count_entries, group_entries, list_entries

    with (
        Clients(settings(), "quarantine list") as clients,
        clients.translate_errors("list the quarantine"),
        clients.postgres() as connection,
    ):
        selection = _selection(stream, None, kind, field, waiting=not everything)
        if not (each or as_json):
            _print_groups(group_entries(connection, selection, limit), everything)
            return
        entries = list_entries(connection, selection, limit)
        total = count_entries(connection, selection)
    if as_json:
        for entry in entries:
            print_json(_as_json(entry))
        return
    if entries:
        columns = ["stream", "entry", "kind", "field", "reason", "since", *(["outcome"] if everything else [])]
        rows = [_row(entry, everything) for entry in entries]
        print_table(columns, rows, whole=("entry", "since"), drop=("since", "kind", "field"))
    listed = f", {limit} listed" if total > limit else ""
    result(f"{total:,} {'in all' if everything else 'waiting'}{listed}")


def _print_groups(summary: QuarantineSummary, everything: bool) -> None:
    """Print a table of the groups, the totals, and what to type next for the first group."""
    if summary.groups:
        columns = ["stream", "entries", "kind", "field", "reason, for example", "of entry", "last"]
        rows = [
            [
                one.path or one.stream,
                one.count,
                one.kind,
                one.field,
                one.reason,
                one.example,
                f"{one.last:%Y-%m-%d %H:%M}",
            ]
            for one in summary.groups
        ]
        print_table(columns, rows, whole=("of entry", "last"), drop=("last", "kind", "field"))
    omitted = summary.all_groups - len(summary.groups)
    listed = f", {len(summary.groups)} of {summary.all_groups:,} reasons listed (--limit)" if omitted else ""
    result(f"{summary.entries:,} {'in all' if everything else 'waiting'}{listed}")
    if summary.groups:
        first = summary.groups[0]
        of = f"--stream {quote(first.path or first.stream)}"
        result(f"next: spillway quarantine show {of} {first.example}")
        if not everything:
            chosen = f"{of} --kind {first.kind}" + (f" --field {quote(first.field)}" if first.field else "")
            result(f"after the cause is fixed, what would be rescued: spillway quarantine redrive {chosen} --dry-run")


def _row(entry: QuarantinedEntry, everything: bool) -> list[object]:
    since = f"{entry.quarantined_at:%Y-%m-%d %H:%M}"
    row: list[object] = [entry.path or entry.stream, entry.entry_id, entry.kind, entry.field, entry.reason, since]
    return [*row, entry.outcome or "waits"] if everything else row


@app.command("show")
def show_command(entry: Annotated[str, typer.Argument(help="The entry's id.")], stream: OfStreams = None) -> None:
    """Show one entry as a JSON object: its raw fields, the reason, and its outcome.

    If several elements of the entry could not be loaded, there is an object for each, 100 at most.
    """
    from tasks.table.quarantine import list_entries

    with (
        Clients(settings(), "quarantine show") as clients,
        clients.translate_errors("show an entry"),
        clients.postgres() as connection,
    ):
        found = list_entries(connection, _selection(stream, [entry], None, None, waiting=False), 100)
    if len({one.stream for one in found}) != 1:
        advice = "several streams have it: name one (--stream)" if found else "spillway quarantine list --all lists all"
        raise Terminal(f"quarantine show: expected one entry {entry}, found {len(found)}; {advice}")
    for one in found:
        print_json(_as_json(one), indent=True)


@app.command("redrive")
def redrive_command(
    entries: Entries = None,
    stream: OfStreams = None,
    kind: Kind = None,
    field: Field = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="FIELD=VALUE or FIELD=@FILE: replay with this value; may be repeated."),
    ] = None,
    yes: Yes = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count for each reason what would be rescued, and write nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Replay the entries that wait, each once. The deployment `redrive/ad-hoc` runs the same flow.

    Entries that fail again stay, with the reason of this attempt. Exit code 4 if none of them succeeded.
    """
    edits = dict(_edit(text) for text in set_ or [])
    totals, error = run_flow(
        "redrive", needs_redis=False, stream=stream, entries=entries, kind=kind, field=field, set=edits, yes=yes,
        dry_run=dry_run,
    )  # fmt: skip
    for warning in totals.pop("warnings"):
        warn(warning)
    if as_json:
        print_json(totals)
    else:
        reasons, all_reasons = totals.pop("reasons", []), totals.pop("all_reasons", 0)
        _print_outcomes(reasons, all_reasons)
        counts = " · ".join(f"{name.replace('_', ' ')} {number:,}" for name, number in totals.items())
        result(f"{counts}{'; a dry run: nothing was written' if dry_run else ''}")
    if error is not None:
        raise error


def _print_outcomes(reasons: Sequence[Mapping[str, Any]], all_reasons: int) -> None:
    """Print what a dry run found, a row for each reason."""
    if not reasons:
        return
    columns = ["stream", "field", "reason, for example", "waiting", "rescued", "refused", "because, for example"]
    rows = [
        [one["stream"], one["field"], one["reason"], one["waiting"], one["rescued"], one["waiting"] - one["rescued"],
         "; ".join(f"{count:,} × {why}" if len(one["still_refused"]) > 1 else why
                   for why, count in one["still_refused"])]
        for one in reasons
    ]  # fmt: skip
    print_table(columns, rows, drop=("field", "refused"))
    if all_reasons > len(reasons):
        result(f"{len(reasons)} of {all_reasons:,} reasons listed")


@app.command("discard")
def discard_command(
    entries: Entries = None,
    stream: OfStreams = None,
    kind: Kind = None,
    field: Field = None,
    everything: Annotated[bool, typer.Option("--all", help="Discard every selected entry, without its id.")] = False,
) -> None:
    """Discard entries. They stay on record, and are never redriven."""
    from tasks.table.quarantine import discard_entries

    if not (entries or everything):
        raise WrongUse("quarantine discard: name the entries, or add --all to discard every selected one")
    with (
        Clients(settings(), "quarantine discard") as clients,
        clients.translate_errors("discard entries"),
        clients.postgres() as connection,
    ):
        discarded = discard_entries(connection, _selection(stream, entries, kind, field), getpass.getuser())
    result(f"{discarded:,} discarded")


def _selection(
    stream: list[str] | None, entries: list[str] | None, kind: str | None, field: str | None, waiting: bool = True
) -> Selection:
    from tasks.table.quarantine import Selection

    return Selection(tuple(stream or ()), tuple(entries or ()), kind, field, waiting)


def _edit(text: str) -> tuple[str, str]:
    """The field and the value of one `--set`."""
    name, separator, value = text.partition("=")
    if not (name and separator):
        raise WrongUse(f"--set: expected FIELD=VALUE or FIELD=@FILE, found {text!r}")
    if not value.startswith("@"):
        return name, value
    try:
        return name, Path(value[1:]).read_text(encoding="utf-8").removesuffix("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise WrongUse(f"--set {name}: {value[1:]} cannot be read: {error}; name a file of UTF-8 text") from None


def _as_json(entry: QuarantinedEntry) -> dict[str, Any]:
    """For JSON: entry fields as a list of pairs, name and value. Bytes that are not UTF-8 become \\x escapes."""
    row: dict[str, Any] = {field.name: getattr(entry, field.name) for field in fields(entry)}
    for name in ("fields", "replayed"):
        if row[name] is not None:
            texts = [bytes(part).decode(errors="backslashreplace") for part in row[name]]
            row[name] = list(zip(texts[::2], texts[1::2], strict=True))
    return row
