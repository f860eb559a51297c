"""Makes stream entries out of JSON lines: whole in one field, or one field per key."""

from __future__ import annotations

import msgspec

DATA = b"data"  # the field that Spillway's layout "json" reads by default

# `Raw` keeps the bytes of a value as they were written: a number keeps its digits, which no parser of floats does.
_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_text = msgspec.json.Decoder(str)


def as_data(line: bytes) -> dict[bytes, bytes]:
    """The entry that carries `line` untouched. Whether it is JSON is for the drain to judge."""
    return {DATA: line}


def as_fields(line: bytes) -> dict[bytes, bytes]:
    """The entry with one field per top-level key of the JSON object `line`.

    A string becomes its text in UTF-8; any other value the very bytes of its JSON; null is left out. Of a key that
    is there twice the last value counts. Raises `ValueError` with the reason where that cannot be.
    """
    try:
        entry = {
            key.encode(): _text.decode(value).encode() if value[:1] == b'"' else value
            for key, raw in _object.decode(line).items()
            if (value := bytes(raw)) != b"null"
        }
    except msgspec.ValidationError as error:
        raise ValueError(f"expected a JSON object: {error}") from None
    except msgspec.DecodeError as error:
        raise ValueError(f"expected a JSON object, found no JSON: {error}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"expected UTF-8: {error.reason}") from None
    except RecursionError:
        raise ValueError("nested too deeply to be read") from None
    if not entry:
        raise ValueError("expected a key whose value is not null, found none")
    return entry
