"""`spillway quarantine`: look at what could not be loaded, replay it, or put it away."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.environment import set_prefect_defaults
from infra.connections.clients import Clients
from infra.display import printable, printable_json
from infra.errors.exceptions import Terminal, WrongUse
from infra.settings import settings

app = typer.Typer(no_args_is_help=True, help="Entries that could not be loaded: look, replay, put away.")

Stream = Annotated[list[str] | None, typer.Option("--stream", "-s", help="Of this stream, or file; may be repeated.")]
Entries = Annotated[list[str] | None, typer.Argument(help="Entry ids (of one stream).", show_default=False)]
Kind = Annotated[str | None, typer.Option(help="Only `refused`, or only `conflict`.")]
Field = Annotated[str | None, typer.Option(help="Only those with this field at fault.")]


@app.command("list")
def list_command(
    stream: Stream = None,
    kind: Kind = None,
    field: Field = None,
    everything: Annotated[bool, typer.Option("--all", help="Also what was redriven or discarded.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="Show so many, the newest first.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """List what waits, the newest first."""
    from tasks.table.quarantine import count_entries, list_entries

    with (
        Clients(settings(), "quarantine list") as clients,
        clients.translate_errors("list the quarantine"),
        clients.postgres() as connection,
    ):
        selection = _selection(stream, None, kind, field, waiting=not everything)
        kept = list_entries(connection, selection, limit)
        total = count_entries(connection, selection)
    if as_json:
        for one in kept:
            print(printable_json(orjson.dumps(_plain(one)).decode()))
        return
    table = Table("stream", "entry", "kind", "field", "reason", "since", box=SIMPLE_HEAD)
    if everything:
        table.add_column("outcome")
    for one in kept:
        since = f"{one.quarantined_at:%Y-%m-%d %H:%M}"
        row = [one.path or one.stream, one.entry_id, one.kind, one.field, one.reason, since]
        row += [one.outcome or "waits"] if everything else []
        table.add_row(*(Text(printable(one)) for one in row))  # a reason may hold what rich takes for markup
    console = Console()
    if kept:
        (console if console.is_terminal else Console(width=240)).print(table)
    console.print(f"{total:,} {'in all' if everything else 'waiting'}" + (f", {limit} shown" if total > limit else ""))


@app.command("show")
def show_command(entry: Annotated[str, typer.Argument(help="The entry's id.")], stream: Stream = None) -> None:
    """Show one entry as one JSON object: its raw fields, the reason, and what became of it."""
    from tasks.table.quarantine import list_entries

    with (
        Clients(settings(), "quarantine show") as clients,
        clients.translate_errors("show an entry"),
        clients.postgres() as connection,
    ):
        kept = list_entries(connection, _selection(stream, [entry], None, None, waiting=False), 2)
    if len(kept) != 1:
        found = "several streams have it: name one (--stream)" if kept else "spillway quarantine list --all shows all"
        raise Terminal(f"quarantine show: expected one entry {entry}, found {len(kept)}; {found}")
    print(printable_json(orjson.dumps(_plain(kept[0]), option=orjson.OPT_INDENT_2).decode()))


@app.command("redrive")
def redrive_command(
    entries: Entries = None,
    stream: Stream = None,
    kind: Kind = None,
    field: Field = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", help="FIELD=VALUE or FIELD=@FILE: replay with this instead of what came."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Make as many new chunks as their times need.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:
    """Replay what waits, each entry once; what is still bad stays, with today's reason. The flow `redrive/ad-hoc`.

    Exit code 4 if entries were tried and none succeeded.
    """
    set_prefect_defaults(quiet=True)
    from flows.cli.prefect_api import demand_prefect, run_flow
    from flows.redrive import redrive

    selected = _selection(stream, entries, kind, field)
    edits = dict(_change(change) for change in changes or [])
    demand_prefect(needs_redis=False)
    result, error = run_flow(lambda: redrive(list(selected.streams), list(selected.entries), kind, field, edits, yes))
    for warning in result["warnings"]:
        print(f"warning: {printable(warning)}", file=sys.stderr)
    counts = {name: number for name, number in result.items() if name != "warnings"}
    if as_json:
        print(orjson.dumps(counts).decode())
    else:
        print(" · ".join(f"{name.replace('_', ' ')} {number:,}" for name, number in counts.items()))
    if error is not None:
        raise error


@app.command("discard")
def discard_command(
    entries: Entries = None,
    stream: Stream = None,
    kind: Kind = None,
    field: Field = None,
    everything: Annotated[bool, typer.Option("--all", help="All that are selected, without naming ids.")] = False,
) -> None:
    """Put entries away: they stay on record and are not redriven any more."""
    from tasks.table.quarantine import discard_entries

    if not (entries or everything):
        raise WrongUse("quarantine discard: name the entries, or say --all for every one that is selected")
    with (
        Clients(settings(), "quarantine discard") as clients,
        clients.translate_errors("discard entries"),
        clients.postgres() as connection,
    ):
        selection = _selection(stream, entries, kind, field)
        gone = discard_entries(connection, selection, getpass.getuser())
    print(f"{gone:,} discarded")


def _selection(
    stream: list[str] | None, entries: list[str] | None, kind: str | None, field: str | None, waiting: bool = True
) -> Any:
    from tasks.table.quarantine import Selection

    if kind not in (None, "refused", "conflict"):
        raise WrongUse(f"quarantine: expected the kind refused or conflict, found {kind!r}")
    return Selection(tuple(stream or ()), tuple(entries or ()), kind, field, waiting)


def _change(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not (name and separator):
        raise WrongUse(f"--set: expected FIELD=VALUE or FIELD=@FILE, found {text!r}")
    if not value.startswith("@"):
        return name, value
    try:
        return name, Path(value[1:]).read_text(encoding="utf-8").removesuffix("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise WrongUse(f"--set {name}: {value[1:]} cannot be read: {error}; name a file of UTF-8 text") from None


def _plain(kept: Any) -> dict[str, Any]:
    """For JSON: fields as a list of name and value pairs, bytes that are no UTF-8 as \\x escapes."""
    row: dict[str, Any] = {name: getattr(kept, name) for name in kept.__dataclass_fields__}
    for name in ("fields", "replayed"):
        if row[name] is not None:
            texts = [bytes(part).decode(errors="backslashreplace") for part in row[name]]
            row[name] = list(zip(texts[::2], texts[1::2], strict=True))
    return row
