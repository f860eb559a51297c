"""Patterns of names, as Redis matches them: `*`, `?`, `[…]`, and a backslash before a character that means itself."""

from __future__ import annotations

import re
from collections.abc import Iterable


def is_pattern(name: str) -> bool:
    """Whether a name is a pattern: it has a `*`, `?` or `[` without a backslash before it."""
    return re.search(r"(?<!\\)[*?\[]", name) is not None


def literal(name: str) -> str:
    """A name without the backslashes that keep it from being a pattern."""
    return re.sub(r"\\([*?\[])", r"\1", name)


def glob_regex(pattern: str) -> re.Pattern[bytes]:
    """The regular expression of the keys that `MATCH pattern` matches. Use `fullmatch`.

    Follows `stringmatchlen` of Redis, also for what no shell knows: `[!a]` has no negation, and a class may be open.
    """
    rest, parts = pattern.encode(errors="surrogateescape"), []
    while rest:
        first, rest = rest[:1], rest[1:]
        if first == b"[":
            part, rest = _class(rest)
            parts.append(part)
        elif first == b"*":
            if parts[-1:] != [b".*"]:
                parts.append(b".*")
        elif first == b"?":
            parts.append(b".")
        else:
            if first == b"\\" and rest:
                first, rest = rest[:1], rest[1:]
            parts.append(re.escape(first))
    return re.compile(b"".join(parts), re.DOTALL)


def _class(rest: bytes) -> tuple[bytes, bytes]:
    """The expression of a class in brackets, whose `[` was read, and what follows it."""
    negated = rest.startswith(b"^")
    rest = rest[negated:]
    members: set[int] = set()
    while rest and not rest.startswith(b"]"):
        if rest.startswith(b"\\") and len(rest) > 1:
            members.add(rest[1])
            rest = rest[2:]
        elif len(rest) > 2 and rest[1:2] == b"-":
            members.update(range(min(rest[0], rest[2]), max(rest[0], rest[2]) + 1))
            rest = rest[3:]
        else:
            members.add(rest[0])
            rest = rest[1:]
    found = sorted(set(range(256)) - members if negated else members)
    return (b"[" + b"".join(b"\\x%02x" % one for one in found) + b"]" if found else b"(?!)"), rest[1:]


def covering_pattern(patterns: Iterable[str]) -> str:
    """One pattern that matches every key that one of `patterns` matches: it, if it is the only one, or their common
    beginning."""
    patterns = list(dict.fromkeys(patterns))
    if len(patterns) == 1:
        return patterns[0]
    beginnings = [re.split(r"[*?\[\\]", pattern, maxsplit=1)[0] for pattern in patterns]
    least, greatest = min(beginnings), max(beginnings)
    common = next((i for i, one in enumerate(least) if one != greatest[i]), len(least))
    return least[:common] + "*"
