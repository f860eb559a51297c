"""Real CSV files with columns of their own, as files and as a stream, into tables of a user; hypertables if it can."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import psycopg
import pytest
import redis

from flows.backfill import backfill
from flows.drain import drain
from flows.reconcile import reconcile
from tests.any_table.real_files import as_moment, as_number, csv_rows, real_file
from tests.support.results import backfill_counts, drain_counts

pytestmark = pytest.mark.usefixtures("prefect_server")

WEATHER = """
    CREATE TABLE users.weather (
        origin TEXT, time_hour TIMESTAMPTZ, temp DOUBLE PRECISION, dewp DOUBLE PRECISION, humid DOUBLE PRECISION,
        wind_dir SMALLINT, wind_speed DOUBLE PRECISION, wind_gust DOUBLE PRECISION, precip NUMERIC(4,2),
        pressure NUMERIC(5,1), visib DOUBLE PRECISION, PRIMARY KEY (origin, time_hour));
    SELECT create_hypertable('users.weather', 'time_hour', chunk_time_interval => INTERVAL '1 month')"""
WEATHER_ROWS = 26_115
MAPPING = """
    [streams."weather*"]
    table = "users.weather"
    null = ["NA"]"""
FLIGHTS = """
    CREATE TABLE users.flights (
        year SMALLINT, month SMALLINT, day SMALLINT, dep_time INT, sched_dep_time INT, dep_delay INT, arr_time INT,
        sched_arr_time INT, arr_delay INT, carrier CHAR(2), flight INT, tailnum VARCHAR(6), origin CHAR(3),
        dest CHAR(3), air_time INT, distance INT, hour SMALLINT, minute SMALLINT, time_hour TIMESTAMPTZ,
        PRIMARY KEY (carrier, flight, origin, time_hour));
    SELECT create_hypertable('users.flights', 'time_hour', chunk_time_interval => INTERVAL '3 months')"""
FLIGHT_ROWS = 336_776

Rows = dict[tuple[str, datetime], tuple[Any, ...]]
_NUMBERS = ("temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib")


def expected_weather() -> Rows:
    rows = csv_rows(real_file("flights/weather.csv.gz"))
    return {
        (row["origin"], as_moment(row["time_hour"])): tuple(as_number(row[name]) for name in _NUMBERS) for row in rows
    }


def weather_held(connection: psycopg.Connection) -> Rows:
    numbers = ", ".join(f"{name}::float8" for name in _NUMBERS)
    query = f"SELECT origin, time_hour, {numbers} FROM users.weather"
    return {(origin, time): tuple(values) for origin, time, *values in connection.execute(query.encode())}


def test_a_file_of_weather_fills_a_table_of_eleven_columns_by_a_mapping_of_two_lines(
    users: psycopg.Connection, create: Callable[[str], None], mapped: Callable[[str], None]
) -> None:
    create(WEATHER)
    mapped(MAPPING)
    path = real_file("flights/weather.csv.gz")
    assert backfill_counts(backfill(str(path))) == (WEATHER_ROWS, WEATHER_ROWS, 0, 0)
    assert weather_held(users) == expected_weather()
    assert backfill_counts(backfill(str(path))) == (0, 0, 0, 0)
    assert backfill_counts(backfill(str(path), again=True)) == (WEATHER_ROWS, 0, WEATHER_ROWS, 0)
    assert weather_held(users) == expected_weather()
    found = reconcile("*", deep=True)
    assert (found["balanced"], found["notes"]) == (True, [])


def test_a_stream_of_weather_fills_the_same_table_and_again_gives_only_duplicates(
    users: psycopg.Connection, create: Callable[[str], None], redis_client: redis.Redis, mapped: Callable[[str], None]
) -> None:
    create(WEATHER)
    mapped(MAPPING)
    for stream in ("weather", "weather-again"):
        with redis_client.pipeline(transaction=False) as pipeline:
            for row in csv_rows(real_file("flights/weather.csv.gz")):
                pipeline.xadd(stream, row)  # type: ignore[arg-type]
            pipeline.execute()
    assert drain_counts(drain("weather")) == (WEATHER_ROWS, WEATHER_ROWS, 0, 0, 0)
    assert weather_held(users) == expected_weather()
    assert drain_counts(drain("weather-again")) == (WEATHER_ROWS, 0, WEATHER_ROWS, 0, 0)
    assert weather_held(users) == expected_weather()


def test_a_year_of_flights_is_loaded_with_the_values_of_its_file(
    users: psycopg.Connection, create: Callable[[str], None], mapped: Callable[[str], None]
) -> None:
    create(FLIGHTS)
    mapped('[streams."flights*"]\ntable = "users.flights"\nnull = ["NA"]')
    path = real_file("flights/flights.csv.gz")
    assert backfill_counts(backfill(str(path))) == (FLIGHT_ROWS, FLIGHT_ROWS, 0, 0)
    # Every row as text, in any order: the values of the file are in the server's own spelling.
    users.execute("SET TimeZone = 'UTC'")
    with users.cursor().copy("COPY (SELECT * FROM users.flights) TO STDOUT (NULL 'NA')") as copy:
        held = {line for data in copy for line in bytes(data).decode().splitlines()}
    expected = set()
    for row in csv_rows(path):
        time = row.pop("time_hour").replace("T", " ").replace("Z", "+00")
        expected.add("\t".join([*row.values(), time]))
    assert held == expected
    assert len(expected) == FLIGHT_ROWS
