"""The commands that fill streams: `spillway produce` and `spillway generate`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated

import typer

from infra.errors.exceptions import Terminal
from infra.producers.fields import as_data, as_fields
from infra.producers.lines import InputFault, Lines, open_lines
from infra.producers.progress import Meter, meter
from infra.producers.send import connect_redis, send

app = typer.Typer()


def _positive(value: float | None) -> float | None:
    if value is not None and not 0 < value < float("inf"):
        raise typer.BadParameter("expected a positive number")
    return value


def _iso(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"expected a time such as 2025-01-31T12:00Z, found {text!r}") from None


_Stream = Annotated[str, typer.Option("--stream", "-s", help="The stream to add to.")]
_Rate = Annotated[
    float | None, typer.Option(callback=_positive, help="Entries per second. Default: as fast as possible.")
]


@app.command()
def produce(
    file: Annotated[str, typer.Argument(help="NDJSON, plain or gzip; - is standard input.")],
    stream: _Stream,
    flat: Annotated[
        bool, typer.Option("--flat", help="Send one field per top-level key instead of the line in the field data.")
    ] = False,
    rate: _Rate = None,
) -> None:
    """Load a file of events into a stream, one entry per line.

    Without --flat each line is sent unchanged and the drain validates it. With --flat each key becomes a field: strings
    as their text, other values as their JSON text. Null values and blank lines are skipped.
    """
    with open_lines(file) as lines:
        with (
            meter(stream, lines.size, (lambda: lines.position) if lines.size else None) as count,
            _reported(count, stream),
        ):
            try:
                with connect_redis() as client:
                    send(client, stream, _split(lines) if flat else map(as_data, lines), rate=rate, on_sent=count)
            except InputFault as fault:
                raise Terminal(
                    f"{fault.what}; {count.sent:,} entries before it are in {stream}; {fault.next_step}"
                ) from fault
        blank = f"; {lines.blank:,} blank lines skipped" if lines.blank else ""
        typer.echo(count.summary(stream) + blank)


def _split(lines: Lines) -> Iterator[dict[bytes, bytes]]:
    for line in lines:
        try:
            yield as_fields(line)
        except ValueError as error:
            raise InputFault(
                f"{lines.name}, line {lines.number}: {error}",
                f"fix the line and send the rest (tail -n +{lines.number}), or send all lines without --flat",
            ) from error


@app.command()
def generate(
    events: Annotated[int, typer.Option(min=0, help="How many entries, duplicates and bad ones included.")],
    stream: _Stream,
    seed: Annotated[int, typer.Option(min=0, help="The same seed and options give the same events.")] = 0,
    duplicates: Annotated[
        float, typer.Option(min=0, max=1, metavar="SHARE", help="This share of the entries repeat an earlier entry.")
    ] = 0.0,
    bad: Annotated[
        float, typer.Option(min=0, max=1, metavar="SHARE", help="This share of the entries are broken.")
    ] = 0.0,
    late: Annotated[
        float,
        typer.Option(min=0, max=1, metavar="SHARE", help="This share of the entries are an hour to 60 days older."),
    ] = 0.0,
    start: Annotated[
        datetime | None,
        typer.Option(
            parser=_iso,
            metavar="ISO",
            help="The time of the last event, UTC without a zone. Default: the current minute.",
        ),
    ] = None,
    span: Annotated[
        float, typer.Option(metavar="HOURS", callback=_positive, help="The period before start that the events cover.")
    ] = 24.0,
    json: Annotated[
        bool, typer.Option("--json", help="Send one document in the field data instead of flat fields.")
    ] = False,
    rate: _Rate = None,
) -> None:
    """Fill a stream with realistic events. A SHARE (0..1) of them is late, repeated or broken."""
    # Imported here because numpy loads slowly and every command imports this module.
    from infra.producers.generate import as_document, batches, default_start

    start = start or default_start()
    made = batches(events, seed=seed, duplicates=duplicates, bad=bad, late=late, start=start, span_hours=span)
    entries = (entry for batch in made for entry in batch.entries)
    with meter(stream, events) as count, _reported(count, stream), connect_redis() as client:
        send(client, stream, map(as_document, entries) if json else entries, rate=rate, on_sent=count)
    typer.echo(f"{count.summary(stream)}; to repeat: --seed {seed} --start {start.isoformat()}")


@contextmanager
def _reported(count: Meter, stream: str) -> Iterator[None]:
    """Report what was sent if the user interrupts."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(f"stopped: {count.summary(stream)}; up to one more batch may have arrived", err=True)
        raise
