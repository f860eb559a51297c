"""What an error shows: one line, without passwords and without the content of rows."""

from __future__ import annotations

from urllib.parse import quote

import psycopg
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from infra.errors.redact import may_quote_a_row, one_line, redact
from tests.support.sqlstates import error_of_state, server_error


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://h:6379/0", "redis://h:6379/0"),
        ("redis://:secret@h:6379/0", "redis://:***@h:6379/0"),
        ("rediss://u:secret@h/0", "rediss://u:***@h/0"),
        ("unix://u:secret@/run/redis.sock", "unix://u:***@/run/redis.sock"),
        ("postgresql://u@h/d", "postgresql://u@h/d"),
        ("postgresql://u:secret@h:5432/d?sslmode=require", "postgresql://u:***@h:5432/d?sslmode=require"),
        ("postgresql://u:secret@[::1]:5432/d", "postgresql://u:***@[::1]:5432/d"),
        ("postgresql://us%40er:secret@h/d", "postgresql://us%40er:***@h/d"),
        ("postgresql://us@er:secret@h/d", "postgresql://us@er:***@h/d"),
        ("postgresql://u:se%40cret%2F@h/d", "postgresql://u:***@h/d"),
        ("postgresql://u:s@secret@h/d", "postgresql://u:***@h/d"),
        ("postgresql://u:s:secret:@h/d", "postgresql://u:***@h/d"),
        ("postgresql://u:s/secret#?@h/d", "postgresql://u:***@h/d"),
        ("postgresql://u:s secret@h/d", "postgresql://u:***@h/d"),
        (
            "postgresql://h/d?user=u&password=secret&sslmode=require",
            "postgresql://h/d?user=u&password=***&sslmode=require",
        ),
        ("postgresql://h:5432/d?password=s@secret", "postgresql://h:5432/d?password=***"),
        ("redis://h/0?password=secret&db=1", "redis://h/0?password=***&db=1"),
        ("host=h password=secret dbname=d", "host=h password=*** dbname=d"),
        ("host=h PASSWORD = secret dbname=d", "host=h PASSWORD = *** dbname=d"),
        ("host=h password='s secret' dbname=d", "host=h password=*** dbname=d"),
        (r"host=h password='it\'s secret' dbname=d", "host=h password=*** dbname=d"),
        (r"host=h password=s\ secret dbname=d", "host=h password=*** dbname=d"),
        ("host=h sslpassword=secret", "host=h sslpassword=***"),
        ("PGPASSWORD=secret psql", "PGPASSWORD=*** psql"),
        (
            "tried redis://:secret@a/0 and postgresql://u:secret@b/d",
            "tried redis://:***@a/0 and postgresql://u:***@b/d",
        ),
        ("no secret: mail a@b.org about http://h:80/x", "no secret: mail a@b.org about http://h:80/x"),
    ],
)
def test_only_the_password_is_hidden(text: str, shown: str) -> None:
    assert redact(text) == shown
    assert redact(shown) == shown, "and twice is as good as once"
    assert one_line(RuntimeError(f"before\n  {text}\nafter")) == f"before {shown} after"


PASSWORD = st.text(st.characters(min_codepoint=33, max_codepoint=0x24F, exclude_categories=("Z", "C")), min_size=1)


@given(PASSWORD, st.sampled_from(["", "u", "us.er"]))
def test_any_password_is_hidden_encoded_or_not(password: str, user: str) -> None:
    assume("password" not in password.lower())  # a pair inside a password: hidden further than need be
    for written in (password, quote(password, safe="")):
        shown = redact(f"cannot reach postgresql://{user}:{written}@host:5432/d today")
        assert shown == f"cannot reach postgresql://{user}:***@host:5432/d today"
    quoted = password.replace("\\", "\\\\").replace("'", "\\'")
    assert redact(f"host=h password='{quoted}' user=u") == "host=h password=*** user=u"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:s%zzsecret@h/d",
        "postgresql://u:s secret@h/d",
        "postgresql://u:s@secret@h.invalid/d",
        "postgresql://u:secret@h.invalid:port/d",
        "postgresql://u:secret@127.0.0.1:1/d",
    ],
)
def test_no_message_of_libpq_about_a_url_contains_its_password(url: str) -> None:
    with pytest.raises(psycopg.Error) as refused:
        psycopg.connect(url, connect_timeout=2)
    assert "secret" not in one_line(refused.value)


def test_an_error_without_a_message_is_shown_by_its_class() -> None:
    assert one_line(KeyError()) == "KeyError"
    assert one_line(RuntimeError("two\n\tlines ")) == "two lines"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('invalid percent-encoded token: "s%zzsecret"', 'invalid percent-encoded token: "***"'),
        ('unexpected spaces found in "s secret", use %20', 'unexpected spaces found in "***", use %20'),
        ('invalid integer value "secret@h" for option "port"', 'invalid integer value "***" for option "port"'),
        ("could not be cast to integer value as 'secret'", "could not be cast to integer value as '***'"),
        ('could not translate host name "secret@h.invalid"', 'could not translate host name "***@h.invalid"'),
        ("could not translate host name 'secret@h'", "could not translate host name '***@h'"),
        ('no token: "a"', 'no token: "a"'),
        ('relation "events" has no column "a b@c"', 'relation "events" has no column "a b@c"'),
        ('it\'s a@b "or" c', 'it\'s a@b "or" c'),
    ],
)
def test_a_part_of_a_url_that_a_message_quotes_is_hidden(text: str, shown: str) -> None:
    assert redact(text) == shown
    assert one_line(RuntimeError(text)) == shown


@pytest.mark.parametrize(
    ("error", "quotes"),
    [
        (server_error("22P02", "m"), True),
        (server_error("22023", "m"), True),
        (server_error("23514", "m"), True),
        (server_error("P0001", "m"), True),
        (server_error("42P01", "m"), False),
        (server_error("53100", "m"), False),
        (server_error("53100", "m", source_function="exec_stmt_raise"), True),
        (server_error("53100", "m", source_function="exec_stmt_assert"), True),
        (server_error("53100", "m", source_function="mdextend"), False),
        (psycopg.OperationalError("no answer"), False),
    ],
    ids=lambda value: str(getattr(value, "sqlstate", "")),
)
def test_an_error_about_a_value_or_from_a_function_may_quote_a_row(error: psycopg.Error, quotes: bool) -> None:
    assert may_quote_a_row(error) is quotes


def test_a_message_that_may_quote_a_row_is_replaced_by_its_code() -> None:
    expected = "the server's message may quote a row: read it in the server's log"
    invalid = server_error("22P02", 'invalid input syntax for type json: "secret"')
    assert one_line(invalid) == f"InvalidTextRepresentation [22P02]; {expected}"
    raised = server_error("23514", "no secret", source_function="exec_stmt_raise")
    assert one_line(raised) == f"CheckViolation [23514]; {expected}"


def test_a_detail_that_may_quote_a_row_is_left_out() -> None:
    duplicate = server_error("23505", 'duplicate key\nin "events_pkey"', "Key (user_id)=(secret) already exists.")
    assert one_line(duplicate) == 'duplicate key in "events_pkey"'


def test_a_message_and_a_detail_that_quote_no_row_are_shown_without_the_last_full_stop() -> None:
    denied = server_error("42501", "permission denied", "Role r may not.")
    assert one_line(denied) == "permission denied DETAIL: Role r may not"
    assert one_line(error_of_state("22P02")) == "words", "an error that no server sent has no row to quote"


def test_control_characters_are_escaped() -> None:
    assert one_line(RuntimeError("a\x1b[31m red password=s\x1b")) == "a\\x1b[31m red password=***"
