"""One GeoJSON document with 1,707 earthquakes: as a file, as one entry for each, and as one entry for all of them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
import redis

from flows.backfill import backfill
from flows.drain import drain
from tests.any_table.real_files import earthquakes, real_file
from tests.support.results import backfill_counts, drain_counts

pytestmark = pytest.mark.usefixtures("prefect_server")

FILE = "earthquakes/usgs_all_week.geojson.gz"
COUNT = 1_707
TABLE = """
    CREATE TABLE users.quakes (
        id TEXT, time TIMESTAMPTZ, mag DOUBLE PRECISION, longitude DOUBLE PRECISION, latitude DOUBLE PRECISION,
        depth NUMERIC, place TEXT, felt INT, tsunami BOOL, net VARCHAR(8), properties JSONB, PRIMARY KEY (id, time));
    SELECT create_hypertable('users.quakes', 'time', chunk_time_interval => INTERVAL '7 days')"""
COLUMNS = """
    time = { key = "properties.time", unit = "ms" }
    mag = "properties.mag"
    longitude = "geometry.coordinates[0]"
    latitude = "geometry.coordinates[1]"
    depth = "geometry.coordinates[2]"
    place = "properties.place"
    felt = "properties.felt"
    tsunami = "properties.tsunami"
    net = "properties.net"
    """
MAPPING = f"""
    [streams."usgs*"]
    table = "users.quakes"
    layout = "json"
    each = "features"
    [streams."usgs*".columns]{COLUMNS}
    [streams."features"]
    table = "users.quakes"
    layout = "json"
    [streams."features".columns]{COLUMNS}"""

Rows = dict[str, tuple[Any, ...]]


def expected() -> Rows:
    """The values of each feature by its id, every digit as in the file."""
    rows: Rows = {}
    for feature in earthquakes(real_file(FILE)):
        properties, (longitude, latitude, depth) = feature["properties"], feature["geometry"]["coordinates"]
        time = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=properties["time"])
        tsunami = {0: False, 1: True}[properties["tsunami"]]
        values = (properties["mag"], longitude, latitude, depth, properties["place"], properties["felt"], tsunami)
        rows[feature["id"]] = (time, *values, properties["net"], properties)
    assert len(rows) == COUNT
    return rows


def held(connection: psycopg.Connection) -> Rows:
    query = """
        SELECT id, time, mag, longitude, latitude, depth::float8, place, felt, tsunami, net, properties
          FROM users.quakes"""
    rows = connection.execute(query).fetchall()
    assert len(rows) == COUNT
    return {id_: tuple(values) for id_, *values in rows}


@pytest.fixture
def quakes(
    users: psycopg.Connection, create: Callable[[str], None], mapped: Callable[[str], None]
) -> psycopg.Connection:
    create(TABLE)
    mapped(MAPPING)
    return users


def test_the_features_of_a_file_become_rows(quakes: psycopg.Connection) -> None:
    assert backfill_counts(backfill(str(real_file(FILE))))[1:] == (COUNT, 0, 0)
    assert held(quakes) == expected()


def test_one_entry_for_each_feature_becomes_a_row(quakes: psycopg.Connection, redis_client: redis.Redis) -> None:
    for feature in earthquakes(real_file(FILE)):
        redis_client.xadd("features", {b"data": json.dumps(feature, ensure_ascii=False).encode()})
    assert drain_counts(drain("features")) == (COUNT, COUNT, 0, 0, 0)
    assert held(quakes) == expected()


def test_one_entry_with_all_features_becomes_as_many_rows(
    quakes: psycopg.Connection, redis_client: redis.Redis
) -> None:
    document = gzip.decompress(real_file(FILE).read_bytes())
    redis_client.xadd("usgs", {b"data": document})
    redis_client.xadd("usgs", {b"data": document})
    assert drain("usgs")["inserted"] == COUNT
    assert held(quakes) == expected()
    sums = "SELECT sum(read)::int, sum(rows)::int, sum(inserted)::int, sum(duplicates)::int FROM spillway.ledger"
    assert quakes.execute(sums).fetchone() == (2, 2 * COUNT, COUNT, COUNT)
