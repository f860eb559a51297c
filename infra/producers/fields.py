"""Convert JSON lines to stream entries: the whole line in one field, or one field per key."""

from __future__ import annotations

import msgspec

DATA = b"data"  # the field that Spillway's layout "json" reads by default

# `Raw` keeps the bytes of a value. A number keeps its digits, which parsing as a float would change.
_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_text = msgspec.json.Decoder(str)


def as_data(line: bytes) -> dict[bytes, bytes]:
    """The entry that holds `line` unchanged. The drain validates it."""
    return {DATA: line}


def as_fields(line: bytes) -> dict[bytes, bytes]:
    """The entry with one field per top-level key of the JSON object `line`.

    A string becomes its text in UTF-8. Any other value keeps the bytes of its JSON. Null is skipped. The last value of
    a repeated key counts. Raises `ValueError` with the reason if the line cannot be converted.
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
        raise ValueError(f"expected a JSON object, found invalid JSON: {error}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"expected UTF-8: {error.reason}") from None
    except RecursionError:
        raise ValueError("expected a JSON object, found too many nested levels") from None
    if not entry:
        raise ValueError("expected a key with a value other than null, found an object without one")
    return entry
