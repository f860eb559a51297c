"""The minimum versions of the servers: compared by number, and stated once."""

from __future__ import annotations

import re

import pytest
from packaging.version import Version

from infra.settings import PROJECT_ROOT
from infra.versions import MIN_POSTGRES, MIN_REDIS, MIN_TIMESCALEDB, parse_version


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


@pytest.mark.parametrize("page", ["README.md", "docs/how-to/production.md"])
def test_the_documents_state_the_minimum_versions(page: str) -> None:
    text = " ".join((PROJECT_ROOT / page).read_text(encoding="utf-8").split())
    assert f"TimescaleDB {MIN_TIMESCALEDB} or later" in text
    minimum = {"Redis": MIN_REDIS, "PostgreSQL": Version(str(MIN_POSTGRES))}
    for server, version in re.findall(r"(Redis|PostgreSQL) (\d+(?:\.\d+)?) or later", text):
        assert Version(version) == minimum[server]
