"""Read the values of keys and paths from JSON documents. Each is parsed once, in C; what is not wanted is skipped."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from operator import attrgetter
from typing import Any, Literal

import msgspec

from infra.mapping.paths import Path, parse_path

# How a value is read. `text`: a string, number or boolean as text. `json`: any value as JSON. `either`: a string as
# text, any other value as JSON. `list`: any value as Python has it, but a fraction as its text.
Form = Literal["text", "json", "either", "list"]
_NULL = msgspec.Raw(b"null")
_ANY = msgspec.json.Decoder(float_hook=str)  # a float would lose digits: 5.10, 1e400
_NAMEABLE = re.compile(r'[^"\\\x00-\x1f]*')  # a name that msgspec can give to a field of a struct


@dataclass(frozen=True)
class Wanted:
    """A value to read: the key or path as the mapping spells it, and its form."""

    key: str
    form: Form


@dataclass
class _Node:
    """A part of the documents. `wanted`: it is a value itself. `cut`: what is below it is read from its raw JSON."""

    children: dict[str, _Node] = field(default_factory=dict)
    wanted: Form | None = None
    cut: bool = False


@dataclass(frozen=True)
class _Value:
    """Where the quick decoder puts a value: in the field number `top` of the row, and there `attributes` lead to it.

    `raw`: as raw JSON, `below` the path in it. `key`: for messages.
    """

    top: int
    attributes: tuple[str, ...]
    raw: bool
    below: Path
    form: Form
    key: str


@dataclass(frozen=True)
class DocumentReader:
    """Reads the wanted values of documents. A wanted key has one or two places: the key itself, and the path.

    `empty`: what `quick` returns for an empty document.
    """

    wanted: tuple[Wanted, ...]
    quick: Callable[[bytes], Any]
    empty: Any
    places: tuple[tuple[_Value, ...], ...]

    def columns(self, rows: Sequence[Any]) -> list[list[Any]]:
        """For each wanted value, what it is in each row that `quick` returned: str, int, bool, None, or a list or dict
        where a text or a list was wanted; bytes of JSON for the other forms, and an empty dict for an object where it
        was not."""
        width = len(self.empty.__struct_fields__)
        flat = list(chain.from_iterable(map(msgspec.structs.astuple, rows)))
        tops = [flat[number::width] for number in range(width)]
        return [_first_present([_values(tops[place.top], place) for place in places]) for places in self.places]

    def exact(self, document: bytes) -> list[Any]:
        """The wanted values of one document, as in `columns`, but without the quick decoder.

        Raises `msgspec.MsgspecError` for invalid JSON.
        """
        whole = msgspec.json.decode(document, type=dict[str, msgspec.Raw])
        return [_exact(whole, one) for one in self.wanted]


@lru_cache(maxsize=64)
def document_reader(wanted: tuple[Wanted, ...]) -> DocumentReader:
    """A reader of these values."""
    root = _Node()
    paths = [[(path, one.form) for path in _paths(one.key)] for one in wanted]
    for path, form in (pair for pairs in paths for pair in pairs):
        _add(root, path, form)
    places = tuple(tuple(_place(root, path, form) for path, form in pairs) for pairs in paths)
    quick = msgspec.json.Decoder(_struct(root), float_hook=str)
    is_nameable = all(_NAMEABLE.fullmatch(str(step)) for pairs in paths for path, _ in pairs for step in path)
    return DocumentReader(wanted, quick.decode if is_nameable else _refuse, quick.decode(b"{}"), places)


def _refuse(document: bytes) -> Any:
    """For a key that msgspec cannot look up: every document is read by `exact`, which takes longer."""
    raise msgspec.ValidationError("a key with a quote, a backslash or a control character")


def _paths(key: str) -> list[Path]:
    """The key itself, and if it is a path, the path: a key that has exactly this name comes first."""
    try:
        path = parse_path(key)
    except ValueError:  # of the first release, whose keys were never paths
        path = (key,)
    return [path] if path == (key,) or '"' in key else [(key,), path]


def _add(root: _Node, path: Path, form: Form) -> None:
    node = root
    for step in path:
        if isinstance(step, int):
            node.cut = True
            return
        node = node.children.setdefault(step, _Node())
    if node.wanted is not None and node.wanted != form:
        node.cut = True
    node.wanted = form


def _is_raw(node: _Node) -> bool:
    return node.cut or (node.wanted is not None and (bool(node.children) or node.wanted in ("json", "either")))


def _place(root: _Node, path: Path, form: Form) -> _Value:
    numbers: list[int] = []
    node = root
    rest: Path = ()
    for depth, step in enumerate(path):
        if isinstance(step, int) or (node is not root and _is_raw(node)):
            rest = path[depth:]
            break
        numbers.append(list(node.children).index(step))
        node = node.children[step]
    attributes = tuple(f"f{number}" for number in numbers[1:])
    return _Value(numbers[0], attributes, bool(rest) or _is_raw(node), rest, form, ".".join(map(str, path)))


def _struct(node: _Node) -> Any:
    """The type of an object with only the children of the node: child number i becomes `f{i}`."""
    fields: list[tuple[str, Any, Any]] = []
    for number, child in enumerate(node.children.values()):
        if _is_raw(child):
            fields.append((f"f{number}", msgspec.Raw, _NULL))
        elif child.children:
            fields.append((f"f{number}", _struct(child) | None, None))
        else:
            fields.append((f"f{number}", Any, None))
    names = {
        f"f{number}": name if _NAMEABLE.fullmatch(name) else f"({number})" for number, name in enumerate(node.children)
    }
    return msgspec.defstruct("Document", fields, rename=names, gc=False)


def _values(tops: list[Any], place: _Value) -> list[Any]:
    found = _attributes(tops, place.attributes) if place.attributes else tops
    if not place.raw:
        return found
    if not place.below and place.form == "json":
        return [None if raw is None or raw == _NULL else bytes(raw) for raw in found]
    return [None if raw is None else _form(below(bytes(raw), place.below), place.form, place.key) for raw in found]


def _attributes(parts: list[Any], names: Sequence[str]) -> list[Any]:
    """What is reached from each part by these names in turn; None where a part of the way is None."""
    try:
        return list(map(attrgetter(".".join(names)), parts))
    except AttributeError:
        pass
    for name in names:
        get = attrgetter(name)
        parts = [None if part is None else get(part) for part in parts]
    return parts


def _first_present(columns: list[list[Any]]) -> list[Any]:
    first, *others = columns
    for other in others:
        first = [b if a is None else a for a, b in zip(first, other, strict=True)]
    return first


def below(raw: bytes | None, path: Path) -> bytes | None:
    """The raw JSON at a path within raw JSON. None if there is nothing, or null. Strings may hold JSON themselves."""
    for step in path:
        if raw is None:
            return None
        if raw.startswith(b'"'):
            raw = _inner(raw)
        if isinstance(step, str):
            if raw is None or not raw.startswith(b"{"):
                return None
            found = msgspec.json.decode(raw, type=dict[str, msgspec.Raw]).get(step)
        else:
            if raw is None or not raw.startswith(b"["):
                return None
            items = msgspec.json.decode(raw, type=list[msgspec.Raw])
            found = items[step] if step < len(items) else None  # an index is never negative
        raw = None if found is None else bytes(found)
    return None if raw == b"null" else raw


def _inner(raw: bytes) -> bytes | None:
    """The JSON that a JSON string holds, without blanks around it. None if it holds none."""
    try:
        text = msgspec.json.decode(raw, type=str).strip().encode()
        msgspec.json.decode(text, type=msgspec.Raw)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return text


def _exact(whole: dict[str, msgspec.Raw], one: Wanted) -> Any:
    for path in _paths(one.key):
        found = whole.get(str(path[0]))
        raw = None if found is None else below(bytes(found), path[1:])
        if raw is not None:
            return _form(raw, one.form, one.key)
    return None


def _form(raw: bytes | None, form: Form, key: str) -> Any:
    """A raw value, not null, in the form that is wanted, as `quick` would give it. Raises `msgspec.ValidationError`."""
    if raw is None:
        return None
    match form:
        case "text":
            return exact_or_nested(raw)
        case "list":
            return _ANY.decode(raw)
        case "json":
            return raw
    if raw.startswith(b"{"):  # `{}` is also the literal of an empty array
        return {}
    return msgspec.json.decode(raw, type=str).encode() if raw.startswith(b'"') else raw


def exact_or_nested(raw: bytes) -> Any:
    """A JSON value as text; an object or an array as an empty dict or list, which have no text."""
    if raw.startswith(b"{"):
        return {}
    return [] if raw.startswith(b"[") else exact_text(raw, "")


def exact_text(raw: bytes, key: str) -> str | None:
    """A JSON value as text, None for null. Raises `ValidationError` for an object or an array."""
    if raw.startswith(b'"'):
        return msgspec.json.decode(raw, type=str)
    if raw.startswith((b"{", b"[")):
        raise msgspec.ValidationError(no_text(raw.startswith(b"{"), key))
    return None if raw == b"null" else raw.decode()


def no_array(key: str) -> str:
    """Why an object is not the value of a column of arrays."""
    return f"Expected an array or a text, got `object` - at `$.{key}`"


def no_text(is_object: bool, key: str) -> str:
    """Why an object or an array is not the value of a column that needs a text."""
    return f"Expected `str | int | float | bool | null`, got `{'object' if is_object else 'array'}` - at `$.{key}`"
