"""Read a whole file once: determine its hash and its days, validate its columns, and spool its rows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from infra.mapping import FLAT, JSON, Mapping, explain_no_mapping
from infra.settings import settings
from tasks.columns.column_forms import STANDARD_COLUMNS
from tasks.columns.decode import event_times
from tasks.columns.entries import EntryColumns
from tasks.files.archive_paths import is_archived
from tasks.files.bad_source import bad_source
from tasks.files.file_reader import DAY_MS, row_address
from tasks.files.find import SourceFile
from tasks.files.formats.blocks import RowBlock
from tasks.files.formats.text_shape import check_utf8
from tasks.files.partition import add_path_columns, content_name
from tasks.files.spool import Spool, SpoolSection
from tasks.files.verified_read import VerifiedRead
from tasks.preflight.mapping_fit import check_mapping
from tasks.preflight.propose_mapping import proposal

_DAY_US = DAY_MS * 1000
_SAMPLE_ROWS = 1_000


@dataclass(frozen=True)
class ScannedFile:
    """A file that was read once. `mapping`: the one that decodes its rows.

    `days`: start of a day in ms since 1970 → number of rows. Day 0 has the rows without a valid time.
    """

    file: SourceFile
    sha256: str
    rows: int
    mapping: Mapping
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
        """The source of the times, on which the addresses of the rows depend."""
        source = self.mapping.time
        return "|".join((self.mapping.layout, "".join(source.pieces), source.default or "", source.fallback or ""))


FILE = "file:"
_LEDGER_NAME = re.compile(rf"{FILE}[0-9a-f]{{64}}(@.*)?", re.DOTALL)


def is_file_ledger(stream: str) -> bool:
    """Whether a ledger name belongs to a file. A stream in Redis may be called `file:uploads`; that is not a file."""
    return _LEDGER_NAME.fullmatch(stream) is not None


def fit_mapping(mapping: Mapping | None, keys: tuple[bytes, ...]) -> Mapping:
    """Adapt a mapping to the fields of a file: the same keys, from one document or from separate columns.

    Without a mapping, the fields select one of the built-in layouts."""
    if mapping is None:
        return JSON if JSON.field in keys and b"event_id" not in keys else FLAT
    if mapping.layout == "json" and mapping.field not in keys:
        return replace(mapping, layout="flat")
    if mapping.layout == "flat" and keys == (JSON.field,):
        return replace(mapping, layout="json", field=JSON.field)
    return mapping


def scan(file: SourceFile, mapping: Mapping | None, spool: Spool) -> ScannedFile:
    """Read all of `file` into the spool.

    Raises `Terminal`, with nothing loaded, if the file is corrupt, changes during the read, lacks a column that the
    mapping needs, or contradicts the columns in its path."""
    section = SpoolSection(spool)
    reading = VerifiedRead(file, mapping.field if mapping is not None and mapping.layout == "json" else JSON.field)
    days: dict[int, int] = {}
    count = 0
    warnings: list[str] = []
    used = fit_mapping(mapping, ())
    for block in reading:
        if not count:
            used = fit_mapping(mapping, block.keys)
            if file.format != "parquet":
                check_utf8(block, file.display_name)
        rows = add_path_columns(
            block, file.path_columns, used.field if used.layout == "json" else None, file.display_name
        )
        group = rows_to_entries(rows)
        if not count:
            _check_columns(file, used, rows.keys, group)
            warnings = check_mapping(file.display_name, used, [_first(group)])
            if mapping is None or mapping.name:
                warnings += _warn_of_archive_columns(file, rows.keys)
        times, valid = event_times(group, used)
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


def _check_columns(file: SourceFile, mapping: Mapping, keys: tuple[bytes, ...], group: EntryColumns) -> None:
    """Raise `Terminal` if the file has no column at all for a field that every row needs."""
    if mapping.layout == "json":
        return
    for name, source in mapping.sources.items():
        alternatives = [source.required] if source.required else [(key,) for key in source.keys]
        if source.default is not None or any(all(key.encode() in keys for key in way) for way in alternatives):
            continue
        wanted = " or ".join(repr(key) for way in alternatives for key in way)
        found = ", ".join(key[:60].decode(errors="replace") for key in keys[:40])
        rule = f'streams."{mapping.name}" of spillway.toml' if mapping.name else "the flat layout"
        rule += "" if mapping.name else f", since {explain_no_mapping(settings().mappings)}"
        line = "" if mapping.name else proposal(file.display_name, [group])
        proposed = f"; or check this line and put it first into spillway.toml: {line}" if line else ""
        raise bad_source(
            file.display_name,
            f"expected a column {wanted} for {name}, as required by {rule}; found the columns {found}",
            f"name another mapping (--mapping), or correct the file{proposed}",
        )
