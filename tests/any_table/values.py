"""Texts for columns of every type: usual values, extreme ones, and ones that hardly any column accepts.

Nothing here decides whether a text is valid: the oracle asks a server.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from uuid import UUID

from tests.fuzz.spelling import ODD_TEXTS, any_text, any_tree, spell_id, spell_time, spell_tree

# The first day of usual times and their number: six or seven chunks.
FIRST_DAY = datetime(2026, 1, 1, tzinfo=UTC)
DAYS = 40
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class TextPool:
    """The texts of one kind of type. `usual` draws a random value; `edge` and `bad` are fixed.

    `few`: draws one of a few values, for a key that several entries share.
    """

    usual: Callable[[Random], str]
    edge: tuple[str, ...] = ()
    bad: tuple[str, ...] = ()
    few: Callable[[Random], str] | None = None


def _integer(bits: int) -> TextPool:
    top = 2 ** (bits - 1)
    edge = (str(top - 1), str(-top), "0", "-0", "+7", " 7 ", "007", "0x1F", "1_000")
    bad = (str(top), str(-top - 1), "1.5", "1e3", "7.0", "", " ", "seven", "9" * 40, "NaN", "true", "٣", "1,000")
    limit = min(top - 1, 10**9)
    return TextPool(lambda r: str(r.randint(-limit, limit)), edge, bad, lambda r: str(r.randint(1, 40)))


def _float(edge: tuple[str, ...], bad: tuple[str, ...]) -> TextPool:
    common = ("0", "-0", "1e0", "Infinity", "-inf", "NaN", "nan", " 1.5 ", ".5", "5.", "1E+2", "0.1", "1.10")
    wrong = ("", "1,5", "one", "1e", "--1", "0x", "true", "1_0_", "infinite")
    return TextPool(_decimal, common + edge, wrong + bad, lambda r: f"{r.randint(0, 30) / 2}")


def _decimal(random: Random) -> str:
    digits = random.choice((0, 1, 2, 3, 6, 12))
    number = random.randint(-(10 ** (digits + 2)), 10 ** (digits + 2))
    return f"{number / 10**digits:.{digits}f}"


def micros_of(random: Random) -> int:
    """A usual time in microseconds since 1970."""
    fraction = random.choice((0, 0, random.randrange(10**6), random.randrange(1000) * 1000))
    seconds = random.randrange(DAYS * 86_400)
    return (FIRST_DAY - _EPOCH) // _MICROSECOND + seconds * 10**6 + fraction


def _midnight(random: Random) -> int:
    return (FIRST_DAY - _EPOCH) // _MICROSECOND + random.randrange(DAYS) * 86_400 * 10**6


def _day(random: Random) -> str:
    text = (_EPOCH + timedelta(microseconds=_midnight(random))).date().isoformat()
    return random.choice((text, text, text, f"{text}T00:00:00Z", f"{text} 00:00"))


def _hour(random: Random) -> str:
    return spell_time(random, _midnight(random) + random.randrange(3) * 3_600 * 10**6)


def _seldom_hour(random: Random) -> str:
    """One of 40 times, in any spelling."""
    hour = (FIRST_DAY - _EPOCH) // _MICROSECOND + random.randrange(40) * 86_400 * 10**6
    return spell_time(random, hour)


_TIME_EDGE = ("infinity", "-infinity", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", "0", "-1", "1e9")
_TIME_EDGE += ("2026-01-05T10:00:00.1234567Z", "2026-01-05T24:00:00Z", "99999999999", "2026-01-05T10:00+14:00")
_TIME_BAD = ("now", "today", "yesterday", "tomorrow", "epoch", "", " ", "soon", "2026-02-30", "2026-13-01", "12:00")
_TIME_BAD += ("Jan 5 2026", "05/01/2026", "2026-01-05T10:00:00 UTC", "2026-01-05 10:00 Europe/Berlin", "1e400", "nan")
_TIME_BAD += (
    "9" * 40,
    "allballs",
    "2026-01-05 BC",
    "Mon Jan 5 10:00:00 2026",
    "20260105 100000 PST",
    "J2461046",
    "true",
)
TIME = TextPool(lambda r: spell_time(r, micros_of(r)), _TIME_EDGE, _TIME_BAD, _seldom_hour)
DATE = TextPool(
    _day,
    ("infinity", "-infinity", "0001-01-01", "9999-12-31", "1767571200", "1767571200000"),
    (*_TIME_BAD, "2026-01-05T10:00:00Z", "2026-01-05 00:00:00.000001", "1767571201"),
    lambda r: (FIRST_DAY + timedelta(days=r.randrange(DAYS))).date().isoformat(),
)


def _uuid(random: Random) -> str:
    return spell_id(random, UUID(int=random.getrandbits(128), version=4))


UUID_BAD = ("", " ", "17", "not-a-uuid", "0123abcd-4567-89ab-cdef-0123456789a", "g123abcd-4567-89ab-cdef-0123456789ab")
UUID_BAD += ("0123abcd4-567-89ab-cdef-0123456789ab", "{0123abcd-4567-89ab-cdef-0123456789ab", "é" * 18)
UUID_BAD += ("0123-abcd-4567-89ab-cdef-0123-4567-89ab", " 0123abcd-4567-89ab-cdef-0123456789ab")
_JSON_EDGE = ("null", "1.10", '"text"', "[]", "{}", ' {"b": 1.0, "a": [1, 2.50]} ', '{"a":1,"a":2}', "1e3", "true")
_JSON_BAD = ("", " ", "{", "nul", "{'a': 1}", '{"a": 1,}', "01", "1.", "NaN", '"\\q"', '"a', "{}{}", "abc")
_BYTES_BAD = ("\\x0", "\\xzz", "\\", "\\9", "a\\")
_INET_BAD = ("10.0.0.300", "10.0.0.1/33", "10.0.0", ":::", "", "localhost", "10.0.0.1/8/8")
_MOODS = ("sad", "ok", "happy day", "né", 'quo"te', "comma, brace}")
_INTERVALS = ("1 day", "P1DT2H", "1 mon -1 day", "-00:00:00.000001", "10:00", "1.5 hours", "178000000 years", "P1Y2M")


def _bytes(random: Random) -> str:
    return "\\x" + random.randbytes(random.randint(0, 9)).hex()


def _tree(random: Random) -> str:
    return spell_tree(random, any_tree(random))


def _host(random: Random) -> str:
    return f"10.{random.randrange(256)}.{random.randrange(256)}.{random.randrange(256)}"


def _small(texts: tuple[str, ...]) -> Callable[[Random], str]:
    return lambda random: random.choice(texts)


def _clock(random: Random) -> str:
    return f"{random.randrange(24):02}:{random.randrange(60):02}:{random.choice(('00', '07.5', '59.999999'))}"


_WORDS = ("eins", "zwei", "né", "a b", "A", "a", "ß", "x'y", 'x"y', "%s", "\\N")
_TEXT = TextPool(any_text, (*ODD_TEXTS, "x" * 2_000), (), _small(_WORDS))
POOLS: dict[str, TextPool] = {
    "bool": TextPool(
        _small(("true", "false", "t", "f", "yes", "no", "1", "0", "on", "off", "TRUE", " tr ")),
        ("y", "n", "tru", "fals", "of"),
        ("", "2", "maybe", "o", "wahr", "1.0", "null", "-1"),
    ),
    "int2": _integer(16),
    "int4": _integer(32),
    "int8": _integer(64),
    "float4": _float(("3.4028235e38", "1.17549435e-38", "1e-45", "16777217"), ("1e39", "-1e39", "1e-60", "1e400")),
    "float8": _float(("1.7976931348623157e308", "5e-324", "2.2250738585072014e-308"), ("1e309", "-1e400", "1e-400")),
    "numeric": _float(("1e100", "9" * 60, "0." + "0" * 50 + "1", "1.50", "-0.0"), ("1e131072", "1e99999999999")),
    "decimal": _float(("999.99", "-999.99", "999.994", "0.005", "1.005", "2.675"), ("999.995", "1000", "1e3", "-1e5")),
    "text": _TEXT,
    "short": TextPool(
        _small(("a", "ab", "abc", "né ", "", "äöü")), ("abc  ", "   ", "ab ", "%s"), ("abcd", "äöüx", " abc")
    ),
    "bytea": TextPool(_bytes, ("", "\\x", "abc", "\\\\", "\\000a", "né", "\\xDE AD"), _BYTES_BAD),
    "uuid": TextPool(_uuid, ("0" * 32, "F" * 32), UUID_BAD, lambda r: spell_id(r, UUID(int=r.randint(1, 40)))),
    "timestamptz": TIME,
    "timestamp": TIME,
    "date": DATE,
    "time": TextPool(
        _clock, ("24:00:00", "00:00", "10:00 PM", "040506", "12:00:00.1234567"), ("25:00", "", "noon", "1e3")
    ),
    "interval": TextPool(
        _small(_INTERVALS), ("0", "1", "infinite", "@ 1 minute ago"), ("", "soon", "1 dya", "1e400 days", "P")
    ),
    "json": TextPool(_tree, (*_JSON_EDGE, '"\\u0000"', '"\\u00e9"'), _JSON_BAD),
    "jsonb": TextPool(_tree, _JSON_EDGE, (*_JSON_BAD, '"\\u0000"', "1e131072")),
    "inet": TextPool(_host, ("10.0.0.1/8", "::1", "::ffff:1.2.3.4", "fe80::1/64", "0.0.0.0/0"), _INET_BAD),
    "cidr": TextPool(
        lambda r: f"10.{r.randrange(256)}.0.0/16", ("10", "10.0.0.0/8", "::/0", "1.2.3.4"), (*_INET_BAD, "10.0.0.1/8")
    ),
    "macaddr": TextPool(
        lambda r: ":".join(f"{r.randrange(256):02x}" for _ in range(6)),
        ("08-00-2b-01-02-03", "08002b010203", "0800.2b01.0203", "FF:FF:FF:FF:FF:FF"),
        ("", "08:00:2b:01:02", "08:00:2b:01:02:0g", "08:00:2b:01:02:03:04:05"),
    ),
    "mood": TextPool(_small(_MOODS), (), ("", "SAD", "angry", "sad ", " ok", "né\u0301")),
    "mail": TextPool(lambda r: f"{any_text(r)}@x", ("@", "a@b@c"), ("", "none", "x" * 60 + "@")),
    # Types that are not in the list of those that Spillway knows: the server parses their texts.
    "point": TextPool(lambda r: f"({r.randrange(9)},{r.randrange(9)})", ("1,2", "(1e300,-0)"), ("", "(1)", "x")),
    "int4range": TextPool(
        lambda r: f"[{r.randrange(9)},{r.randrange(9, 20)})", ("empty", "(,)", "[1,1]"), ("[2,1]", "", "1")
    ),
    "tsvector": TextPool(_small(("a b", "'x y':1", "fat:2A cat")), ("",), ("'", "a:b")),
    "bit": TextPool(_small(("101", "000", "111")), ("B101", "x7"), ("1010", "10", "2", "")),
    "money": TextPool(_small(("1.50", "$2", "-3")), ("0.005", "92233720368547758.07"), ("", "x", "1e400")),
    "xml": TextPool(_small(("<a/>", "<a>1</a>", "text")), ("",), ("<a>", "<a></b>")),
    "timetz": TextPool(_small(("10:00+01", "10:00:00Z")), ("24:00+00",), ("", "25:00Z")),
    "positive": TextPool(lambda r: str(r.randint(1, 10**9)), ("1", "2147483647"), ("0", "-1", *_integer(32).bad)),
    "tiny": TextPool(lambda r: str(r.randint(1, 99)), ("1", "99"), ("0", "100", *_integer(32).bad)),
    "small": TextPool(lambda r: str(r.randint(1, 40)), ("0", "+3", " 4 "), _integer(32).bad),
    "identity": TextPool(lambda r: str(r.randint(10**6, 10**9)), ("1000000",), _integer(64).bad),
}
