"""The table of SQLSTATEs: what an error concerns, and the parts of it that other modules rely on."""

from __future__ import annotations

import psycopg
import pytest

from infra.errors.classify import error_scope, is_transient
from infra.errors.sqlstates import ErrorScope, classes_of, sqlstate_rule
from tests.support.sqlstates import TRANSIENT_STATES, error_of_state


@pytest.mark.parametrize(
    ("state", "scope"),
    [
        ("22P02", ErrorScope.ROW),
        ("23505", ErrorScope.ROW),
        ("44000", ErrorScope.ROW),
        ("54000", ErrorScope.ROW),
        ("P0001", ErrorScope.ROW),
        ("ZZ999", ErrorScope.ROW),  # made up by a user's function
        ("0A000", ErrorScope.STATEMENT),
        ("42501", ErrorScope.STATEMENT),
        ("42P01", ErrorScope.STATEMENT),
        ("3F000", ErrorScope.STATEMENT),
        ("28P01", ErrorScope.SERVER),
        ("53400", ErrorScope.SERVER),
        ("55006", ErrorScope.SERVER),
        ("57P04", ErrorScope.SERVER),
        ("XX001", ErrorScope.SERVER),
    ],
)
def test_an_error_concerns_a_row_a_statement_or_the_server(state: str, scope: ErrorScope) -> None:
    assert sqlstate_rule(state).scope is scope


@pytest.mark.parametrize("state", TRANSIENT_STATES)
def test_a_transient_error_never_concerns_a_row(state: str) -> None:
    assert error_scope(error_of_state(state)) is ErrorScope.SERVER


def test_an_error_without_a_sqlstate_concerns_the_server() -> None:
    assert error_scope(psycopg.OperationalError("connection refused")) is ErrorScope.SERVER


def test_a_configured_limit_is_not_retried_although_its_class_is_transient() -> None:
    assert is_transient(error_of_state("53100"))
    assert not is_transient(error_of_state("53400"))


def test_each_class_has_one_scope() -> None:
    server = {"08", "25", "28", "2D", "3D", "40", "53", "55", "57", "58", "F0", "XX"}
    assert set(classes_of(ErrorScope.SERVER)) == server
    assert set(classes_of(ErrorScope.STATEMENT)) == {"0A", "26", "34", "3F", "42"}
    assert set(classes_of(ErrorScope.ROW)) == {"22", "23", "44", "54", "P0"}


@pytest.mark.parametrize(
    ("state", "quotes"),
    [
        ("22P02", "message"),
        ("22023", "detail"),
        ("23505", "detail"),
        ("P0001", "message"),
        ("42P01", None),
        ("40P01", None),
    ],
)
def test_the_part_that_may_quote_a_row_is_known(state: str, quotes: str | None) -> None:
    assert sqlstate_rule(state).quotes_row == quotes
