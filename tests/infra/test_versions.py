"""The minimum versions of the servers: compared by number, and stated once."""

from __future__ import annotations

import re

import pytest
from packaging.version import Version

from infra.settings import PROJECT_ROOT
from infra.versions import (
    MIN_POSTGRES,
    MIN_REDIS,
    MIN_TIMESCALEDB,
    parse_version,
    unsupported_database,
    unsupported_redis,
)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("2.28.3", "2.28.3"),
        ("2.18.1-dev", "2.18.1"),
        ("7.2.4-rhel.1", "7.2.4"),
        ("7", "7.0.0"),
        ("2.100.0", "2.100"),
        ("", "0"),
        ("dev", "0"),
    ],
)
def test_a_version_is_the_numbers_that_it_begins_with(text: str, version: str) -> None:
    assert parse_version(text) == Version(version)


def test_a_later_number_with_more_digits_is_a_later_version() -> None:
    assert parse_version("2.9.3") < parse_version("2.18.1") < parse_version("2.100.0-dev")


@pytest.mark.parametrize("page", ["README.md", "docs/production.md"])
def test_the_documents_state_the_minimum_versions(page: str) -> None:
    text = " ".join((PROJECT_ROOT / page).read_text(encoding="utf-8").split())
    assert f"TimescaleDB {MIN_TIMESCALEDB} or later" in text
    minimum = {"Redis": MIN_REDIS, "PostgreSQL": Version(str(MIN_POSTGRES))}
    for server, version in re.findall(r"(Redis|PostgreSQL) (\d+(?:\.\d+)?) or later", text):
        assert Version(version) == minimum[server]


def test_a_single_redis_from_the_minimum_version_on_is_supported() -> None:
    assert unsupported_redis("7.0.0") is None
    assert unsupported_redis("7.0") is None
    assert unsupported_redis("8.2.1", "standalone") is None
    assert unsupported_redis("8.2.1", "cluster") is None


@pytest.mark.parametrize(
    ("version", "mode", "reason"),
    [
        ("6.2.14", "standalone", "it is version 6.2.14, expected 7.0 or later; upgrade it"),
        ("6.9", "standalone", "it is version 6.9, expected 7.0 or later; upgrade it"),
        (
            "8.0.0",
            "sentinel",
            "it is a Sentinel, expected the Redis that it watches; name Sentinel and service in SPILLWAY_REDIS_URL"
            " (redis+sentinel://host:26379/service)",
        ),
    ],
)
def test_another_redis_is_refused_with_the_reason_and_the_next_step(version: str, mode: str, reason: str) -> None:
    assert unsupported_redis(version, mode) == reason


def test_a_database_from_the_minimum_versions_on_is_supported() -> None:
    assert unsupported_database(150_000, "2.18.1") is None
    assert unsupported_database(180_001, "2.29.2") is None
    assert unsupported_database(150_000, None) is None, "without TimescaleDB another check decides"


@pytest.mark.parametrize(
    ("version_num", "timescaledb", "reason"),
    [
        (149_999, "2.29.2", "it is PostgreSQL 14, expected 15 or later; upgrade it"),
        (140_010, None, "it is PostgreSQL 14, expected 15 or later; upgrade it"),
        (
            150_000,
            "2.18.0",
            "its TimescaleDB is 2.18.0, expected 2.18.1 or later (2.17 can lose rows silently, timescaledb issue 7672);"
            " ALTER EXTENSION timescaledb UPDATE",
        ),
    ],
)
def test_an_older_database_is_refused_with_the_reason_and_the_next_step(
    version_num: int, timescaledb: str | None, reason: str
) -> None:
    assert unsupported_database(version_num, timescaledb) == reason
