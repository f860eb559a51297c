"""The source of one column: which keys of an entry give its value."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ColumnSource:
    """The source of one column: a key, or a template of keys and literal text.

    `pieces`: literal text and keys, alternating, such as `("", "source_id", ".", "relation_type_id", "")`.
    `default`: the text of an entry that lacks a key. `fallback`: the key to read if the only key is absent.
    """

    pieces: tuple[str, ...]
    default: str | None = None
    fallback: str | None = None

    @property
    def keys(self) -> tuple[str, ...]:
        """All keys that are read, in order, the fallback last."""
        return self.pieces[1::2] + ((self.fallback,) if self.fallback else ())

    @property
    def single_key(self) -> str | None:
        """The key whose value is the whole text of the column. None for a template."""
        return self.pieces[1] if len(self.pieces) == 3 and not self.pieces[0] and not self.pieces[2] else None

    @property
    def required(self) -> tuple[str, ...]:
        """The keys that an entry must have to become a row."""
        return () if self.default is not None or self.fallback else self.pieces[1::2]
