"""The error of a file, folder or URL that a backfill refuses before it loads anything."""

from __future__ import annotations

from infra.errors.exceptions import Terminal


def bad_source(name: str, fault: str, next_step: str) -> Terminal:
    """The error to raise. `name`: the source, or a row of it. `fault`: what was expected and what was found."""
    return Terminal(f"backfill: {name}: {fault}; nothing was loaded; {next_step}", fault)
