"""Text for people: counts with their nouns, and ages."""

from __future__ import annotations

import pytest

from infra.display import coarse_age, count_of


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 entries"), (1, "1 entry"), (2, "2 entries"), (12_345, "12,345 entries")]
)
def test_a_count_agrees_with_its_noun(number: int, text: str) -> None:
    assert count_of(number, "entry", "entries") == text
    assert count_of(number, "row") == text.replace("entries", "rows").replace("entry", "row")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0 seconds"),
        (1.9, "1 second"),
        (122, "2 minutes"),
        (119, "119 seconds"),
        (86_400, "24 hours"),
        (200_000, "2 days"),
    ],
)
def test_an_age_is_in_the_largest_unit_that_it_has_two_of(seconds: float, text: str) -> None:
    assert coarse_age(seconds) == text
