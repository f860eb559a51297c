"""Which keys a source reads, and what kind of source it is."""

from __future__ import annotations

from uuid import UUID

import pytest

from infra.mapping.column_source import DEFAULT_NAMESPACE, ColumnSource, key_source


def test_the_default_namespace_never_changes() -> None:
    """The ids are in tables."""
    assert UUID("25fe88e5-510d-5d2a-8acf-822385208f28") == DEFAULT_NAMESPACE


@pytest.mark.parametrize(
    ("source", "keys", "single_key", "constant"),
    [
        (key_source("a"), ("a",), "a", None),
        (key_source("a", "b", "c"), ("a", "b", "c"), "a", None),
        (ColumnSource(("", "a", ".", "b", "")), ("a", "b"), None, None),
        (ColumnSource(("", "a", ".", "b", ""), alternatives=("c",)), ("a", "b", "c"), None, None),
        (ColumnSource(("", "a", "", "b", "")), ("a", "b"), None, None),
        (ColumnSource(("x", "a", "")), ("a",), None, None),
        (ColumnSource(("", "a", "x")), ("a",), None, None),
        (ColumnSource(("x", "a", "y")), ("a",), None, None),
        (ColumnSource(("same",)), (), None, "same"),
        (ColumnSource(), (), None, ""),
        (ColumnSource(whole="document"), (), None, None),
        (ColumnSource(("", "a", ""), whole="document"), ("a",), None, None),
    ],
)
def test_the_kind_of_a_source(
    source: ColumnSource, keys: tuple[str, ...], single_key: str | None, constant: str | None
) -> None:
    assert (source.keys, source.single_key, source.constant) == (keys, single_key, constant)


def test_a_source_is_plain_unless_it_says_otherwise() -> None:
    source = key_source("a")
    assert (source.default, source.null, source.changes) == (None, (), ())
    assert (source.unit, source.format, source.timezone, source.namespace) == (None, None, None, None)
    assert (source.ulid, source.json) == (False, False)
