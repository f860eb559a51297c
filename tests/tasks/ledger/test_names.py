"""The names of streams in the ledger, and the names in Redis that they come from."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tasks.ledger.names import is_file_ledger, ledger_name_again, original_name


@pytest.mark.parametrize(
    ("name", "original"),
    [
        ("orders", "orders"),
        ("orders@until-2026-01-02T03:04:05.000006Z", "orders"),
        ("orders@again-2026-01-02T03:04:05.000006Z", "orders"),
        ("orders@again-2026-01-02T03:04:05.000006Z@until-2026-01-03T00:00:00.000000Z", "orders"),
        ("orders@eu@until-2026-01-02T03:04:05.000006Z", "orders@eu"),
        ("orders@until", "orders@until"),
        ("orders@again", "orders@again"),
        ("two\nlines@until-one\ntwo", "two\nlines"),
        ("file:" + "0" * 64 + "@again-2026-01-02T03:04:05.000006Z", "file:" + "0" * 64),
    ],
)
def test_the_original_name_has_no_suffix_of_the_ledger(name: str, original: str) -> None:
    assert original_name(name) == original


def test_what_is_loaded_again_has_the_time_in_its_name() -> None:
    before = datetime.now(UTC)
    name = ledger_name_again("orders")
    after = datetime.now(UTC)
    prefix, text = name[: len("orders@again-")], name[len("orders@again-") :]
    assert prefix == "orders@again-"
    assert before <= datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC) <= after
    assert original_name(name) == "orders"


@pytest.mark.parametrize(
    ("name", "is_file"),
    [
        ("file:" + "0a" * 32, True),
        ("file:" + "0a" * 32 + "@again-2026-01-02T03:04:05.000006Z", True),
        ("file:uploads", False),
        ("file:" + "0" * 63, False),
        ("file:" + "0" * 65, False),
        ("file:" + "0A" * 32, False),
        ("my file:" + "0a" * 32, False),
        ("orders", False),
    ],
)
def test_a_name_is_that_of_a_file_if_it_has_a_hash(name: str, is_file: bool) -> None:
    assert is_file_ledger(name) == is_file
