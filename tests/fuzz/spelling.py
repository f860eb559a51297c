"""Random spellings of one value: times, ids, JSON."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from random import Random
from typing import Any
from uuid import UUID

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Texts that break code which counts characters or takes bytes for text.
ODD_TEXTS = ["", " ", "né ✓", "e\u0301", "\u202eabc\u202c", "\U0001f468\u200d\U0001f469", "\x7f", "\u0085", "\ufeff"]
ODD_TEXTS += ["\uffff", "\U0010ffff", "\x01", "\r\n\t", '"', "\\", "\\N", "\\.", "'; --", "{}", "null", "%s", "\u2028"]


def number(text: str) -> Any:
    """A number for `any_tree`, with all its digits."""
    return Decimal(text)


def any_text(random: Random) -> str:
    if random.random() < 0.15:
        return random.choice(ODD_TEXTS)
    return "".join(random.choices("abcdefghijklmnopqrstuvwxyz -_.éש", k=random.randint(1, 12)))


def any_tree(random: Random, depth: int = 2) -> Any:
    """A random JSON value, mostly an object."""
    way = random.random()
    if depth == 2 or (depth and way < 0.3):
        if way < 0.93:
            return {any_text(random): any_tree(random, depth - 1) for _ in range(random.randint(0, 3))}
        return [any_tree(random, depth - 1) for _ in range(random.randint(0, 3))]
    if way < 0.6:
        digits = str(random.randint(-(10 ** random.randint(1, 25)), 10 ** random.randint(1, 6)))
        return number(digits + random.choice(["", "", ".0", ".50", "e3", "e-7", f".{random.randint(1, 10**20)}"]))
    return any_text(random) if way < 0.9 else random.choice([None, True, False, number("0"), number("-0.0")])


def spell_tree(random: Random, tree: Any, plain: bool = False) -> str:
    """A random spelling of a tree, all of which jsonb considers equal. With `plain`, always the same spelling."""
    gap = "" if plain else random.choice(["", " ", "\n\t", ""])
    if isinstance(tree, dict):
        members = list(tree.items())
        if not plain:
            random.shuffle(members)
        inner = [f"{spell_text(random, k, plain)}:{gap}{spell_tree(random, v, plain)}" for k, v in members]
        if members and not plain and random.random() < 0.05:
            inner.insert(0, f"{json.dumps(members[0][0])}:{spell_tree(random, any_tree(random, 1))}")
        return f"{{{gap}{f'{gap},'.join(inner)}{gap}}}"
    if isinstance(tree, list):
        return f"[{gap}{f',{gap}'.join(spell_tree(random, v, plain) for v in tree)}{gap}]"
    if isinstance(tree, Decimal):
        return _spell_number(random, tree, plain)
    return spell_text(random, tree, plain) if isinstance(tree, str) else json.dumps(tree)


def spell_text(random: Random, text: str, plain: bool = False) -> str:
    if not plain and text and random.random() < 0.1:
        return json.dumps(text)[:-1].replace("a", "\\u0061").replace("/", "\\/") + '"'
    return json.dumps(text, ensure_ascii=plain or random.random() < 0.5)


def _spell_number(random: Random, value: Decimal, plain: bool) -> str:
    text = f"{value:f}"
    way = 1.0 if plain else random.random()
    if way < 0.1:
        return text + ("0" if "." in text else ".0")
    if way < 0.2:
        return f"{text}{random.choice(['e0', 'E+0', 'e-0'])}"
    return text


def spell_id(random: Random, value: UUID) -> str:
    text = random.choices([str(value), value.hex, f"{{{value}}}", f"{{{value.hex}}}", value.urn], [80, 5, 5, 5, 5])[0]
    way = random.random()
    if way < 0.1:
        return text.upper()
    return text.swapcase() if way < 0.12 else text


def spell_time(random: Random, micros: int) -> str:
    """ISO 8601 in one of its forms, or a number of seconds, milliseconds or microseconds."""
    way = random.randrange(12)
    if way < 3:
        return _spell_as_number(way, micros)
    moment = _EPOCH + timedelta(microseconds=micros)
    offset = "Z"
    if way == 3:
        moment, offset = moment.astimezone(timezone(timedelta(minutes=random.randint(-840, 840)))), ""
    elif way == 4:
        offset = ""
    spec = "auto" if moment.second or moment.microsecond or random.random() < 0.5 else "minutes"
    naive = offset != "" or way == 4
    text = (moment.replace(tzinfo=None) if naive else moment).isoformat(random.choice("TTT "), spec)
    if way == 4 and not moment.microsecond and random.random() < 0.5:
        return moment.strftime("%Y%m%dT%H%M%S")
    if moment.microsecond and naive and random.random() < 0.3:
        text += str(random.randint(0, 999))  # more digits than microseconds, to be truncated
    return f" {text}{offset}\n" if way == 5 else text + offset


def _spell_as_number(way: int, micros: int) -> str:
    digits = (6, 3, 0)[way]
    text = f"{Decimal(micros).scaleb(-digits):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
