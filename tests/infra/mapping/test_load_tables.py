"""`[tables."…"]` of spillway.toml: the options of a table, and the settings that are their defaults."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from infra.errors.exceptions import WrongUse
from infra.mapping.table_options import TableOptions
from infra.mapping.toml import load_table_sections
from infra.mapping.toml_names import is_events
from infra.settings import Settings, settings_folder
from infra.tables.table import Table, TableKind


def options(folder: Path, text: str, name: str = "weather", schema: str = "public", **settings: object) -> TableOptions:
    path = folder / "spillway.toml"
    path.write_text(text)
    table = Table(schema, name, TableKind.HYPERTABLE, ())
    return load_table_sections(path).options(Settings(_env_file=None, **settings), table)  # type: ignore[arg-type]


def test_the_options_of_a_section_go_before_the_settings(tmp_path: Path) -> None:
    found = options(
        tmp_path,
        """
        [tables.weather]
        keep = "90d"
        compress_after = "36h"
        segmentby = "origin"
        orderby = ["time_hour DESC NULLS LAST", '"Temp °C"']
        retention = "archive"
        archive_url = "s3://bucket/weather"
        """,
        keep="5d",
    )
    assert (found.keep, found.compress_after) == (timedelta(days=90), timedelta(hours=36))
    assert (found.segmentby, found.orderby) == ("origin", 'time_hour DESC NULLS LAST, "Temp °C"')
    assert (found.retention, found.archive_url) == ("archive", "s3://bucket/weather")
    assert found.source("keep") == 'keep of [tables."weather"]'


def test_what_a_section_leaves_out_is_a_setting(tmp_path: Path) -> None:
    found = options(tmp_path, '[tables.weather]\nsegmentby = ""\n', keep="5d", archive_url="s3://b")
    assert (found.keep, found.archive_url, found.segmentby, found.orderby) == (timedelta(days=5), "s3://b", "", None)
    assert found.source("keep") == "SPILLWAY_KEEP"
    assert found.written == {"segmentby"}
    assert found.configured == {"segmentby", "keep", "archive_url"}
    again = options(tmp_path, '[tables.weather]\nkeep = "90d"\n', keep="5d")
    assert (again.written, again.configured) == ({"keep"}, {"keep"})


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *[(name, True) for name in (None, "events", "EVENTS", '"events"')],
        *[(name, False) for name in ("alerts", "weather", '"Events"', "other.events")],
    ],
)
def test_the_table_of_the_events_is_known_by_its_name(name: str | None, expected: bool) -> None:
    assert is_events(name) == expected


def test_only_the_table_of_the_events_has_the_columns_of_the_settings(tmp_path: Path) -> None:
    columns = {"compress_segmentby": "event_type", "compress_orderby": "time DESC"}
    for name, schema in (("alerts", "public"), ("weather", "public"), ("events", "other"), ("Events", "public")):
        found = options(tmp_path, "", name, schema, events_schema="public", **columns)
        assert (found.segmentby, found.orderby) == (None, None)
    for schema in ("public", "other"):
        found = options(tmp_path, "", "events", schema, events_schema=schema, **columns)
        assert (found.segmentby, found.orderby) == ("event_type", "time DESC")


def test_an_empty_duration_is_never(tmp_path: Path) -> None:
    found = options(tmp_path, '[tables.weather]\nkeep = ""\ncompress_after = ""\n', keep="5d")
    assert (found.keep, found.compress_after) == (None, None)


def test_a_relative_archive_is_a_folder_of_the_project(tmp_path: Path) -> None:
    found = options(tmp_path, '[tables.weather]\narchive_url = "archive"\n')
    assert found.archive_url == str(settings_folder() / "archive")


@pytest.mark.parametrize("name", ["weather", "WEATHER", "public.weather", 'public."weather"', '"weather"'])
def test_a_section_names_a_table_as_sql_does(name: str, tmp_path: Path) -> None:
    text = f"[tables.'{name}']\nkeep = \"90d\"\n"
    assert options(tmp_path, text).keep == timedelta(days=90)
    assert options(tmp_path, text, "Weather").keep is None
    assert options(tmp_path, text, "weather", "other").keep is None


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (
            "keep = 7",
            'tables."t".keep: expected a duration such as "7d", "36h", "90m" or "30s", or "" for never, found 7',
        ),
        ('keep = "0d"', 'tables."t".keep: expected a duration such as'),
        ('keep = "7 weeks"', 'tables."t".keep: expected a duration such as'),
        ('segmentby = "a DESC"', 'tables."t".segmentby: expected columns such as origin or origin, carrier, found \'a'),
        ("segmentby = 5", 'tables."t".segmentby: expected columns such as'),
        ('orderby = "a,,b"', 'tables."t".orderby: expected columns such as time_hour DESC'),
        ('orderby = ["a; DROP TABLE t"]', 'tables."t".orderby: expected columns such as'),
        ('retention = "never"', "tables.\"t\".retention: expected one of policy, flow, archive, found 'never'"),
        ("archive_url = 5", 'tables."t".archive_url: expected a folder or a URL, found 5'),
        ('kep = "7d"', 'tables."t".kep: unknown key, did you mean keep?'),
        ('[tables."a.b.c"]', 'tables."a.b.c": expected a table such as weather or shop.orders'),
        ('[tables."public.t"]', 'tables."public.t": expected one section for a table, found also [tables."t"]'),
    ],
    ids=lambda value: ascii(value[:30]),
)
def test_a_mistake_in_a_section_is_named(text: str, fault: str, tmp_path: Path) -> None:
    with pytest.raises(WrongUse) as refused:
        options(tmp_path, f"[tables.t]\n{text}\n")
    assert fault in str(refused.value)
