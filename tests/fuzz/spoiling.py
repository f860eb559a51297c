"""Ways to break an entry: for the client or the server to detect, by size, by unusual fields, or by noise."""

from __future__ import annotations

import json
from random import Random

from tests.fuzz.jsonb import BEYOND_DEPTH
from tests.fuzz.prediction import Layout

Members = dict[str, bytes]

BAD_IDS = ["", " ", "17", "not-a-uuid", "0123abcd-4567-89ab-cdef-0123456789a", "g123abcd-4567-89ab-cdef-0123456789ab"]
BAD_IDS += ["0123abcd4-567-89ab-cdef-0123456789ab", "0123abcd_4567_89ab_cdef_0123456789ab", "\0" * 36, "é" * 18]
BAD_IDS += [
    "{0123abcd-4567-89ab-cdef-0123456789ab",
    " 0123abcd456789abcdef0123456789ab",
    "٠123abcd456789abcdef0123456789ab",
]
BAD_TIMES = ["", " ", "soon", "2026-02-30T00:00:00Z", "2026-13-01", "2026-11-20T25:00:00Z", "2026-11-20T10:00:00 UTC"]
BAD_TIMES += ["nan", "inf", "1e400", "1_700_000_000", "0x6593", "١٧٠٤١٦٤٦٤٥", "9" * 40, "\0", "--1", "1.2.3", "12:00"]
# Valid but implausible times: each would create a chunk.
ABSURD_TIMES = ["0001-01-01T00:00:00Z", "1215-06-15", "1799-12-31T23:59:59.999999+14:00", "2300-01-01T00:00:00Z"]
ABSURD_TIMES += ["9999-12-31T23:59:59.999999Z", "-99999999999", "99999999999", "99999999999999", "999999999999999999"]
NOT_UTF8 = [b"caf\xe9", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\xaf", b"a\x80b"]
LONE_SURROGATES = [b'"\\ud83d"', b'"\\ude00"', b'"\\ude00\\ud83d"', b'"a\\ud800\\u0041"', b'"\\ud83d\\ud83d\\ude00"']
NOT_JSON = [b"", b" ", b"{", b"nul", b"{'a': 1}", b'{"a": 1,}', b"[1 2]", b'{"a" 1}', b"01", b"1.", b".5", b"+1", b"-"]
NOT_JSON += [b"NaN", b"-Infinity", b'"\\q"', b'"\\u12"', b'"\x01"', b'"a', b"{}{}", b"\xef\xbb\xbf{}", b"{1: 2}", b"1e"]
BEYOND_NUMERIC = [b"1e131072", b"-1e200000", b"1e-16384", b"0." + b"1" * 16_384, b"9" * 131_073, b"1e99999999999"]
WITHIN_NUMERIC = [b"1e131071", b"1e-16383", b"0e99999", b"9" * 1_000, b"0." + b"1" * 16_383]
_DEPTH = BEYOND_DEPTH + 1
TOO_DEEP = [b"[" * _DEPTH + b"]" * _DEPTH, b'{"a":' * _DEPTH + b"1" + b"}" * _DEPTH]


def _any_of_columns(random: Random, members: Members, layout: Layout) -> str:
    keys = [key for column in layout.columns for key in column.keys if key in members]
    return random.choice(keys or list(members))


def _text(value: bytes, layout: Layout) -> bytes:
    """The bytes of a text as written: quoted in a document, even if they are not UTF-8."""
    return value if layout.document is None else b'"' + value.replace(b"\0", b"\\u0000") + b'"'


def for_the_client(random: Random, members: Members, layout: Layout) -> None:
    """Break one of the columns so that the client detects it."""
    way = random.randrange(6)
    time, event_id = layout.time.keys[0], layout.event_id.keys[0]
    if way == 0:
        del members[_any_of_columns(random, members, layout)]
    elif way == 1:
        members[event_id] = _text(random.choice(BAD_IDS).encode(), layout)
    elif way == 2:
        members[time] = _text(random.choice(BAD_TIMES).encode(), layout)
    elif way == 3:
        members[time] = _text(random.choice(ABSURD_TIMES).encode(), layout)
    elif way == 4:
        members[_any_of_columns(random, members, layout)] = _text(random.choice(NOT_UTF8), layout)
    else:
        key = _any_of_columns(random, members, layout)
        values = [b"{}", b"[1]", b"true", b"1e400", b"-1e999", b"null", b"9" * 5_000, *LONE_SURROGATES, *NOT_JSON]
        members[key] = random.choice(values)


def for_the_server(random: Random, members: Members, layout: Layout) -> None:
    """Break an entry so that only the server's rules for text, jsonb and indexes detect it."""
    way = random.randrange(20)
    if way < 3:
        members[_any_of_columns(random, members, layout)] = _text(b"a\0b", layout)
        return
    if way == 3:
        key = random.choice((layout.event_type.keys[0], layout.user_id.keys[0]))
        letters = "".join(chr(random.randrange(0x4E00, 0x9FFF)) for _ in range(9_000))
        members[key] = _text(letters.encode(), layout)
        return
    if way == 4:
        bad = random.choice(TOO_DEEP)
    elif way < 9:
        bad = random.choice((b'{"a":"\\u0000"}', b'{"a\\u0000b":1}', b'["a\\u0000"]', b'{"a":"\\u0000","a":1}'))
    elif way < 12:
        bad = random.choice(BEYOND_NUMERIC)
    elif way < 14:
        bad = b'{"a":' + random.choice(LONE_SURROGATES) + b"}"
    elif way < 16:
        bad = b'{"a":"' + random.choice(NOT_UTF8) + b'"}'
    elif way < 17:
        bad = b'{"a":"\0"}'
    else:
        bad = random.choice(NOT_JSON)
    members[layout.properties or "more"] = bad


def make_large(random: Random, members: Members, layout: Layout) -> None:
    """Make the properties several megabytes large, sometimes with a defect at the very end."""
    size = random.randint(1_000_000, 4_000_000)
    kind = random.randrange(3)
    if kind == 0:
        inner = json.dumps(random.choice(("é✓x", "plain ")) * (size // 6)).encode()
    elif kind == 1:
        inner = b"[" + b",".join(b"%d.%d" % (n, n) for n in range(size // 14)) + b"]"
    else:
        inner = b"[" + b",".join(b'{"key-%d":"value"}' % n for n in range(size // 22)) + b"]"
    end = random.choice((b"", b"", b"", b',"z":"\\u0000"', b',"z":1e131072', b',"z"'))
    members[layout.properties or "more"] = b'{"large":' + inner + end + b"}"


def whole_entry(random: Random, fields: list[bytes], layout: Layout) -> list[bytes]:
    """An entry of no known layout, or with a document that is not an object."""
    way = random.randrange(5)
    if way == 0:
        return [b"foo", b"bar"] if random.random() < 0.5 else [b"", b""]
    if way == 1:
        return [random.randbytes(random.randint(0, 12)) for _ in range(2 * random.randint(1, 6))]
    if layout.document is None:
        return [part for i in range(0, len(fields), 2) for part in (fields[i], b"")]
    if way == 2:
        return [layout.document, fields[1][: random.randrange(len(fields[1]))]]
    if way == 3:
        return [
            layout.document,
            random.choice((b"[]", b"null", b"5", b'"text"', b"[{}]", b"{}", b"", b"\0", *NOT_JSON)),
        ]
    return [layout.document, fields[1] + random.choice((b"x", b"{}", b",", b"\0", b"]"))]


def make_odd(random: Random, fields: list[bytes]) -> list[bytes]:
    """Make an entry unusual in ways that no layout mentions: extra, nameless or repeated fields, another order."""
    pairs = [fields[i : i + 2] for i in range(0, len(fields), 2)]
    way = random.randrange(20)
    if way == 0:
        pairs += [[b"extra-%d" % n, b"%d" % n] for n in range(1_000)]
    elif way < 4:
        pairs.insert(random.randint(0, len(pairs)), [b"", random.choice((b"", b"x", b"\xff"))])
    elif way < 9:  # the last one counts
        name = random.choice(pairs)[0]
        pairs.insert(random.randint(0, len(pairs)), [name, random.choice((b"", b"x", b"{}", random.choice(pairs)[1]))])
    elif way < 14:
        pairs.insert(random.randint(0, len(pairs)), [random.choice((b"x", b"Time", b"data ", b"\xfe")), b"\xff\0"])
    elif way < 15:
        pairs.append([random.choice((b"data", b"doc", b"timestamp", b"event_id")), b"{}"])
    random.shuffle(pairs)
    return [part for pair in pairs for part in pair]


def with_noise(random: Random, fields: list[bytes]) -> list[bytes]:
    """Insert, remove or change random bytes in a name or a value."""
    at = random.randrange(len(fields))
    noisy = bytearray(fields[at])
    for _ in range(random.randint(1, 3)):
        place = random.randint(0, len(noisy))
        byte = random.choice((random.randrange(256), ord(random.choice('0123456789abcdefTZ:-+., {}[]"\\u\0'))))
        noisy[place : place + random.randint(0, 2)] = bytes([byte] * random.randint(0, 2))
    return [*fields[:at], bytes(noisy), *fields[at + 1 :]]
