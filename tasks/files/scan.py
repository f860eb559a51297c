"""Read a whole file once: determine its hash and its days, validate its columns, and spool its rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from infra.mapping.paths import field_name, first_name
from infra.mapping.stream_mapping import BUILT_IN
from infra.mapping.toml import explain_no_mapping
from infra.settings import settings
from tasks.columns.column_forms import STANDARD_COLUMNS
from tasks.columns.decode import event_times
from tasks.columns.entries import EntryColumns
from tasks.columns.row_layout import FilledColumn, RowLayout, Shape
from tasks.files.archive_paths import is_archived
from tasks.files.bad_source import bad_source
from tasks.files.file_reader import DAY_MS, row_address
from tasks.files.find import SourceFile
from tasks.files.formats.blocks import RowBlock
from tasks.files.formats.spelling import spellings_of
from tasks.files.formats.text_shape import check_utf8
from tasks.files.partition import add_path_columns, content_name
from tasks.files.reading import describe_reading
from tasks.files.spool import Spool, SpoolSection
from tasks.files.verified_read import VerifiedRead
from tasks.ledger.names import FILE
from tasks.preflight.mapping_fit import check_mapping
from tasks.preflight.propose_mapping import proposal

_DAY_US = DAY_MS * 1000
_SAMPLE_ROWS = 1_000


@dataclass(frozen=True)
class ScannedFile:
    """A file that was read once. `layout`: how its rows become rows of the table.

    `days`: start of a day in ms since 1970 → number of rows. Day 0 has the rows without a valid time.
    """

    file: SourceFile
    sha256: str
    rows: int
    layout: RowLayout
    days: dict[int, int]
    section: SpoolSection
    warnings: Sequence[str] = ()

    @property
    def ledger_name(self) -> str:
        """The name of its ledger. The same bytes have the same name under any path without path columns."""
        return FILE + content_name(self.sha256, self.file.path_columns)

    @property
    def end(self) -> int:
        """The address after that of the last row."""
        last = self.section.pieces[-1]
        return row_address(last.day, last.last) + 1

    @property
    def reading(self) -> str:
        """What the ledger records about how it was read."""
        return describe_reading(self.layout)


def fit_layout(layout: RowLayout, keys: tuple[bytes, ...]) -> RowLayout:
    """Adapt a layout to the fields of a file: the same keys, from one document or from separate columns.

    If the mapping does not say which, the fields do."""
    mapping = layout.mapping
    shape: Shape = layout.shape_of(keys)
    field = mapping.document_field
    if shape == "json" and keys and field not in keys:
        shape = "flat"
    elif shape == "flat" and keys == (BUILT_IN.document_field,) and mapping.layout is not None:
        shape, field = "json", BUILT_IN.document_field
    return replace(layout, mapping=replace(mapping, layout=shape, document_field=field))


def scan(file: SourceFile, layout: RowLayout, spool: Spool, as_texts: bool = False) -> ScannedFile:
    """Read all of `file` into the spool. `as_texts`: as the first release did, which read no value of Parquet as JSON.

    Raises `Terminal`, with nothing loaded, if the file is corrupt, changes during the read, lacks a column that the
    mapping needs, or contradicts the columns in its path."""
    section = SpoolSection(spool)
    mapping = layout.mapping
    field = mapping.document_field if mapping.layout == "json" else BUILT_IN.document_field
    reading = VerifiedRead(file, field, spellings_of(layout, nan_as_null=as_texts))
    days: dict[int, int] = {}
    count = 0
    warnings: list[str] = []
    used = fit_layout(layout, ())
    for block in reading:
        if not count:
            used = fit_layout(layout, block.keys)
            if file.format != "parquet":
                check_utf8(block, file.display_name)
        rows = add_path_columns(
            block, file.path_columns, used.mapping.document_field if _shape(used) == "json" else None, file.display_name
        )
        group = rows_to_entries(rows)
        if not count:
            used = used if as_texts else used.with_json_keys(rows.json_keys)
            _check_columns(file, used, rows.keys, group)
            warnings = check_mapping(file.display_name, used, [_first(group)])
            if layout.restored is None:
                warnings += _warn_of_archive_columns(file, rows.keys)
        times, valid = event_times(group, used, _shape(used))
        of_row = np.where(valid & (times >= 0), times // _DAY_US * DAY_MS, 0)
        section.add(rows, of_row)
        for day, number in zip(*np.unique(of_row, return_counts=True), strict=True):
            days[int(day)] = days.get(int(day), 0) + int(number)
        count += len(group)
    section.seal()
    return ScannedFile(file, reading.sha256, count, used, dict(sorted(days.items())), section, warnings)


def _warn_of_archive_columns(file: SourceFile, keys: tuple[bytes, ...]) -> list[str]:
    """Warn about extra columns in a file of our archive that is loaded as an ordinary file: a mapping ignores them."""
    extra = [key.decode() for key in keys if key.decode() not in {column.name for column in STANDARD_COLUMNS}]
    if not extra or not is_archived(file.path):
        return []
    named = ", ".join(map(repr, extra))
    return [
        f"{file.display_name} is a file of an archive; its columns {named} are not loaded; restore them with --archive"
    ]


def rows_to_entries(rows: RowBlock) -> EntryColumns:
    """Rows as entries. Their ids are the row numbers and are not used."""
    return EntryColumns(_numbers(rows.row), rows.keys, rows.values)


def _numbers(rows: NDArray[np.int64]) -> pa.Array:
    return pa.array(rows).cast(pa.string()).cast(pa.binary())


def _first(group: EntryColumns) -> EntryColumns:
    return group.take(np.arange(min(len(group), _SAMPLE_ROWS)))


def _shape(layout: RowLayout) -> Shape:
    """The shape of a layout that `fit_layout` has returned."""
    return layout.mapping.layout or "flat"


def _check_columns(file: SourceFile, layout: RowLayout, keys: tuple[bytes, ...], group: EntryColumns) -> None:
    """Raise `Terminal` if the file has no column at all for a field that every row needs."""
    if layout.mapping.layout == "json":
        return
    mapping = layout.mapping
    for column in layout.columns:
        if not column.column.required or column.source.default is not None or _has_columns(column, keys):
            continue
        wanted = " or ".join(repr(key) for key in column.source.keys)
        found = ", ".join(key[:60].decode(errors="replace") for key in keys[:40])
        rule = f'streams."{mapping.name}" of spillway.toml' if mapping.name else "the flat layout"
        rule += "" if mapping.name else f", since {explain_no_mapping(settings().mappings)}"
        line = "" if mapping.name else proposal(file.display_name, [group])
        proposed = f"; or check this line and put it first into spillway.toml: {line}" if line else ""
        raise bad_source(
            file.display_name,
            f"expected a column {wanted} for {column.name}, as required by {rule}; found the columns {found}",
            f"name another mapping (--mapping), or correct the file{proposed}",
        )


def _has_columns(column: FilledColumn, keys: tuple[bytes, ...]) -> bool:
    """Whether the file has a column for each key of a template, or for one of the alternatives."""
    source = column.source
    ways = [source.pieces[1::2], *((key,) for key in source.alternatives)]
    return any(all(first_name(key).encode() in keys or field_name(key).encode() in keys for key in way) for way in ways)
