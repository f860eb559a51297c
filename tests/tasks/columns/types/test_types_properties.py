"""Random texts for every type: what Spillway understands becomes what the server's input function makes of the text."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.columns.types.registry import type_of
from tests.support.servers import Servers
from tests.support.strategies import DOCUMENT, TEXT
from tests.support.type_cases import CASES, column_of
from tests.support.type_server import SOURCE, TypeTable, insert_each, prepare


def from_cases(*kinds: str) -> st.SearchStrategy[str]:
    return st.sampled_from([case.text for case in CASES if case.kind in kinds])


def integers(bits: int) -> st.SearchStrategy[str]:
    limit = 2 ** (bits - 1)
    return (
        st.integers(-limit - 2, limit + 1).map(str)
        | st.sampled_from([-limit - 1, -limit, limit - 1, limit]).map(str)
        | st.text("0123456789+-_xX. eEb", max_size=8)
        | st.from_regex(r"[ +-]?0{0,3}[0-9]{1,20} ?", fullmatch=True)
    )


DECIMALS = (
    st.from_regex(r"[+-]?[0-9]{0,20}\.?[0-9]{0,20}([eE][+-]?[0-9]{1,3})?", fullmatch=True)
    | st.from_regex(r"-?[0-9]{1,9}\.[0-9]{1,9}", fullmatch=True)
    | st.text("0123456789+-._ eExXnaNiIf", max_size=9)
)
FLOATS = (
    st.floats().map(repr)
    | st.floats(width=32).map(repr)
    | DECIMALS
    | st.sampled_from(["nan", "NaN", "inf", "Infinity", "1e"])
    .flatmap(
        lambda word: st.tuples(
            st.sampled_from(["", "+", "-", " "]), st.just(word), st.sampled_from(["", " ", "1", "y"])
        )
    )
    .map("".join)
)
BOOLEANS = st.tuples(
    st.sampled_from(["", " ", "\t"]),
    st.sampled_from(["true", "false", "yes", "no", "on", "off", "1", "0"]).flatmap(
        lambda word: st.integers(0, len(word)).map(lambda size: word[:size]) | st.just(word + "x")
    ),
    st.sampled_from(["", " ", "\n"]),
    st.sampled_from([str.lower, str.upper, str.capitalize, str.swapcase]),
).map(lambda parts: parts[3](parts[0] + parts[1] + parts[2]))
TIMES = st.from_regex(r"[0-9]{1,2}:[0-9]{1,2}(:[0-9]{1,2}(\.[0-9]{0,8})?)?", fullmatch=True) | st.text(
    "0123456789:. TZ+-apmAPM", max_size=12
)
ADDRESSES = (
    st.ip_addresses().map(str)
    | st.from_regex(r"[0-9]{1,3}(\.[0-9]{1,3}){1,4}(/[0-9]{0,3})?", fullmatch=True)
    | st.from_regex(r"[0-9a-fA-F]{0,4}(:[0-9a-fA-F]{0,5}){2,8}(/[0-9]{0,3})?", fullmatch=True)
    | st.builds(lambda network, bits: f"{network}/{bits}", st.ip_addresses(), st.integers(0, 130))
    | from_cases("inet", "cidr")
)
LITERALS = st.text("{},\" \\NUL1a2.-'\t", max_size=16)
ARRAYS = (
    st.lists(
        st.sampled_from(["1", "-2", "NULL", "null", '"3"', " 4 ", '"a b"', "a b", "", '""', '"\\\\"', '"\\""', "1.5"])
    )
    .map(",".join)
    .map("{{{}}}".format)
    | LITERALS
)

TEXTS: dict[str, st.SearchStrategy[str]] = {
    "boolean": BOOLEANS,
    "smallint": integers(16),
    "integer": integers(32),
    "bigint": integers(64),
    "positive": integers(32),
    "real": FLOATS,
    "double precision": FLOATS,
    "numeric": DECIMALS,
    "numeric(5,2)": DECIMALS,
    "numeric(3,-2)": DECIMALS,
    "text": TEXT,
    "character varying(3)": TEXT | st.text(" ab", max_size=6),
    "short": st.text(" ab", max_size=6),
    "character(3)": TEXT | st.text(" ab", max_size=6),
    "bytea": st.text("\\x09aF g\n'é", max_size=10) | st.binary(max_size=9).map(lambda data: "\\x" + data.hex()),
    "time without time zone": TIMES,
    "time(0) without time zone": TIMES,
    "json": DOCUMENT | TEXT,
    "jsonb": DOCUMENT | TEXT,
    "mood": from_cases("mood"),
    "inet": ADDRESSES,
    "cidr": ADDRESSES,
    "macaddr": st.from_regex(r"([0-9a-fA-F]{1,2}[:-]?){4,6}", fullmatch=True) | from_cases("macaddr"),
    "interval": from_cases("interval", "time without time zone"),
    "integer[]": ARRAYS,
    "double precision[]": ARRAYS,
    "numeric[]": ARRAYS,
    "text[]": ARRAYS,
    "character varying(2)[]": ARRAYS,
    "boolean[]": ARRAYS,
    "mood[]": ARRAYS | from_cases("mood[]"),
}


@pytest.fixture(scope="module")
def session(servers: Servers) -> Iterator[psycopg.Connection]:
    with psycopg.connect(servers.settings.database, autocommit=True) as connection:
        prepare(connection)
        yield connection


@pytest.mark.parametrize("name", TEXTS)
def test_what_is_understood_is_what_the_server_reads(session: psycopg.Connection, name: str) -> None:
    table = TypeTable(session, name)
    kind = type_of(column_of(name))
    texts_of_type = TEXTS[name] | from_cases(*([name] if any(case.kind == name for case in CASES) else ["text"]))

    @settings(max_examples=20, suppress_health_check=list(HealthCheck))
    @given(st.lists(texts_of_type, min_size=1, max_size=20))
    def check(texts: list[str]) -> None:
        texts = [text for text in texts if not (name.endswith("[]") and text.lstrip()[:1] in '["')]
        expected = dict(zip(texts, insert_each(session, texts), strict=True))
        parsed = {text: kind.parse(pa.array([text]), SOURCE) for text in expected}
        assert all(found.bad is None for found in parsed.values())
        understood = [text for text in expected if parsed[text].values.type == kind.arrow]
        for group, binary in ((understood, True), (list(expected), False)):
            good = [text for text in group if expected[text] is not None]
            held = [expected[text] for text in good]
            values = kind.parse(pa.array(good, pa.string()), SOURCE).values
            if name != "bytea":  # hexadecimal and plain texts are not mixed
                assert (values.type == kind.arrow) == (set(good) <= set(understood))
            assert table.copy(values, kind, binary and values.type == kind.arrow) == held
            for text in group:
                if expected[text] is None:
                    assert table.copy(parsed[text].values, kind, binary) is None, text

    check()
