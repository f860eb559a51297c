"""The syntax of keys: names and paths into nested values, and templates of them."""

from __future__ import annotations

import re
from functools import lru_cache

# A name in quotes may hold every character that a JSON parser compares as it is written: no escapes are needed for it.
_QUOTED = r'"[^"\\\x00-\x1f]+"'
_BARE = r'[^."\\\[\]\x00-\x1f]+'
_STEP = re.compile(rf"(?:\.(?P<name>{_QUOTED}|{_BARE}))|\[(?P<index>[0-9]{{1,9}})\]")
_PLAIN = re.compile(r'[^."\\\[\]{}:!\x00-\x1f]+')
_NAMEABLE = re.compile(r'[^"\\\x00-\x1f]+')
# A part of a template: an escaped brace, a key in braces, or literal text.
_PART = re.compile(rf"(?P<brace>\{{\{{|\}}\}})|\{{(?P<key>(?:{_QUOTED}|[^{{}}\":!])+)\}}|(?P<text>[^{{}}]+)")

Path = tuple[str | int, ...]

CARRIED = "$"  # with `each`, the key of an element that holds what is read of the whole document
WHOLE_DOCUMENT = f"{CARRIED}."  # a key that begins so is read from the whole document, not from the element


class InvalidKey(ValueError):
    """A key or template that cannot be parsed. The message says what was expected."""


@lru_cache(maxsize=4096)
def parse_path(key: str) -> Path:
    """The names and indexes of a path: `a.b[0]."c.d"` is `("a", "b", 0, "c.d")`. A plain name is a path of one name.

    Raises `InvalidKey`.
    """
    steps: list[str | int] = []
    rest = "." + key
    while rest:
        step = _STEP.match(rest)
        if step is None or (step["index"] and not steps):
            raise InvalidKey('expected a key such as name, a.b or a[0].b, with other names in quotes as in a."b.c"')
        steps.append(int(step["index"]) if step["index"] else step["name"].strip('"'))
        rest = rest[step.end() :]
    return tuple(steps)


def first_name(key: str) -> str:
    """The name with which a path begins. A key that is not a valid path is a name."""
    try:
        return str(parse_path(key)[0])
    except InvalidKey:
        return key


def field_name(key: str) -> str:
    """The name that a key means if it is not taken for a path: without quotes if it is a single name in quotes."""
    return first_name(key) if key.startswith('"') and key.find('"', 1) == len(key) - 1 else key


def path_text(path: Path) -> str:
    """The key of a path: `parse_path` of it is the path again. Names are in quotes if they need it.

    Raises `InvalidKey` if no key can name it.
    """
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif _NAMEABLE.fullmatch(step):
            text += "." + (step if _PLAIN.fullmatch(step) else f'"{step}"')
        else:
            raise InvalidKey("expected a name without quotes, backslashes and control characters")
    return text.removeprefix(".")


def literal_key(name: str) -> str:
    """The key of a field with exactly this name, even if the name looks like a path. Raises `InvalidKey`."""
    try:
        parse_path(name)
    except InvalidKey:
        return path_text((name,))
    return name


def parse_template(text: str) -> tuple[str, ...]:
    """A key, or literal text and keys in braces, as the `pieces` of a `ColumnSource`.

    `{{` and `}}` are braces. Text without braces is one key. The keys are not parsed. Raises `InvalidKey`.
    """
    if "{" not in text and "}" not in text:
        return ("", text, "")
    pieces = [""]
    end = 0
    while end < len(text):
        part = _PART.match(text, end)
        if part is None:
            raise InvalidKey("expected a key, or keys in braces such as {a}.{b.c}, with {{ and }} for braces")
        if part["key"]:
            pieces += [part["key"], ""]
        else:
            pieces[-1] += part["brace"][0] if part["brace"] else part["text"]
        end = part.end()
    if len(pieces) == 1:
        raise InvalidKey("expected a key, or keys in braces such as {a}.{b.c}, and for a fixed text `constant`")
    return tuple(pieces)


def template_text(pieces: tuple[str, ...]) -> str:
    """The template of some pieces: `parse_template` of it gives them again."""
    if len(pieces) == 3 and not pieces[0] and not pieces[2] and not set("{}") & set(pieces[1]):
        return pieces[1]
    braces = str.maketrans({"{": "{{", "}": "}}"})
    texts = [piece.translate(braces) for piece in pieces[::2]]
    return texts[0] + "".join(f"{{{key}}}{text}" for key, text in zip(pieces[1::2], texts[1:], strict=True))
