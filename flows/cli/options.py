"""Options that several commands have, under the same name and with the same meaning."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

Streams = Annotated[
    list[str], typer.Option("--stream", "-s", help="A stream, or a pattern such as 'events*'; may be repeated.")
]
OfStreams = Annotated[
    list[str] | None, typer.Option("--stream", "-s", help="Only entries of this stream or file; may be repeated.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object on the last line.")]
JsonLines = Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show the log.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Allow more new chunks than SPILLWAY_MAX_NEW_CHUNKS.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and do nothing.")]

Entries = Annotated[list[str] | None, typer.Argument(help="Entry ids, of one stream.", show_default=False)]
Kind = Annotated[Literal["refused", "conflict"] | None, typer.Option(help="Only entries of this kind.")]
Field = Annotated[str | None, typer.Option(help="Only entries with this field at fault.")]
