"""Layouts for small tables of any types, without a server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from infra.mapping.column_source import ColumnSource
from infra.mapping.stream_mapping import StreamMapping
from infra.tables.table import Table, TableColumn, TableKind
from tasks.columns.row_layout import RowLayout, bind
from tests.support.type_cases import column_of


def column(name: str, kind: str, **changes: Any) -> TableColumn:
    """A nullable column of a type, spelled as PostgreSQL does."""
    return replace(column_of(kind), name=name, **changes)


def table(*columns: TableColumn, **changes: Any) -> Table:
    """A plain table `public.small`."""
    return replace(Table("public", "small", TableKind.PLAIN, columns), **changes)


def layout_of(types: Mapping[str, str], sources: Mapping[str, ColumnSource] | None = None, **mapping: Any) -> RowLayout:
    """The layout of a table with columns of these types, each read from the key of its name or from its source."""
    mapping = {option: as_read(value) for option, value in mapping.items()}
    columns = {name: replace(source, whole=as_read(source.whole)) for name, source in (sources or {}).items()}
    bound = StreamMapping(name="s", table="small", columns=columns, **mapping)
    return bind(bound, table(*(column(name, kind) for name, kind in types.items())))


def as_read(value: Any) -> Any:
    """A word as it comes from a mapping file: equal to the word in the program, and not the same object."""
    return value.encode().decode() if isinstance(value, str) else value
