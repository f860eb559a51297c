"""Random entries of a stream, half of them good: in many spellings, repeated, changed, broken or unusual."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random
from typing import Any
from uuid import UUID

from tests.fuzz import spoiling
from tests.fuzz.prediction import FLAT, JSON, Layout
from tests.fuzz.spelling import any_text, any_tree, spell_id, spell_text, spell_time, spell_tree

_FIRST_DAY = 1_763_942_400_000_000  # 2025-11-24
_DAYS = 35  # five or six chunks: each one is a table with five indexes
_SECOND, _DAY = 1_000_000, 86_400_000_000
_REMEMBERED = 3_000


@dataclass(frozen=True)
class Event:
    """The content of an entry. `kinds`: the texts from which a mapping makes the event type."""

    id: UUID
    time: int
    kinds: tuple[str, str]
    user: str
    tree: Any


@dataclass(frozen=True)
class Mix:
    """Shares of the entries. Nearly all that are neither repeated nor broken become rows."""

    same: float = 0.13  # the same event as an earlier one
    other: float = 0.06  # the key of an earlier one, with other content
    spoilt: float = 0.34
    by_server: float = 0.03  # broken so that only the server detects it, which costs the loader another attempt
    odd: float = 0.05
    noise: float = 0.03  # random bytes within a good entry
    large: float = 0.0001  # several MB


class Source:
    """The entries of one stream, from a seed. No other stream has its event ids."""

    def __init__(self, seed: str, layout: Layout | None) -> None:
        self._random = Random(seed)
        self._layout = layout
        self._earlier: list[Event] = []

    def entries(self, count: int, mix: Mix) -> Iterator[list[bytes]]:
        """The next `count` entries, each as alternating names and values."""
        for _ in range(count):
            yield self._entry(mix)

    def _entry(self, mix: Mix) -> list[bytes]:
        random = self._random
        layout = self._layout or random.choice((FLAT, JSON))
        members = self._members(layout, self._event(mix))
        way = random.random()
        if way < mix.by_server:
            spoiling.for_the_server(random, members, layout)
        elif way < mix.spoilt:
            spoiling.for_the_client(random, members, layout)
        elif way < mix.spoilt + mix.large:
            spoiling.make_large(random, members, layout)
        fields = self._fields(members, layout)
        if mix.by_server <= way < mix.spoilt and random.random() < 0.3:
            fields = spoiling.whole_entry(random, fields, layout)
        if random.random() < mix.odd:
            fields = spoiling.make_odd(random, fields)
        if random.random() < mix.noise:
            fields = spoiling.with_noise(random, fields)
        return fields

    def _event(self, mix: Mix) -> Event:
        """A new event, or a repeated one: often one of the last few, so that both are in one batch."""
        random = self._random
        way = random.random()
        if self._earlier and way < mix.same + mix.other:
            back = random.randint(1, min(len(self._earlier), random.choice((3, 100, _REMEMBERED))))
            event = self._earlier[-back]
            return event if way < mix.same else self._remembered(self._changed(event))
        event = Event(
            UUID(int=random.getrandbits(128)),
            _FIRST_DAY + random.randrange(_DAYS) * _DAY + random.randrange(86_400) * _SECOND + self._fraction(),
            (random.choice(("click", "view", "né")), any_text(random)),
            f"user-{random.randrange(500)}" if random.random() < 0.8 else any_text(random),
            any_tree(random) if random.random() < 0.85 else None,
        )
        return self._remembered(event)

    def _remembered(self, event: Event) -> Event:
        self._earlier.append(event)
        del self._earlier[:-_REMEMBERED]
        return event

    def _fraction(self) -> int:
        return self._random.choice((0, 0, self._random.randrange(_SECOND), self._random.randrange(1000) * 1000))

    def _changed(self, event: Event) -> Event:
        random = self._random
        return random.choice(
            (
                replace(event, kinds=(event.kinds[0] + "!", event.kinds[1])),
                replace(event, user=event.user + "'"),
                replace(event, tree={} if event.tree is None else None),
                replace(event, tree={"changed": event.tree, "n": random.randrange(10)}),
            )
        )

    def _members(self, layout: Layout, event: Event) -> dict[str, bytes]:
        """Every key that the layout reads, with its value as written in a flat entry or a document."""
        random = self._random
        # If all keys are part of properties, only the same spelling makes the same event.
        plain = layout.properties is None and random.random() < 0.7
        texts = {
            layout.time.keys[0]: str(event.time) if plain else spell_time(random, event.time),
            layout.event_id.keys[0]: str(event.id) if plain else self._id(layout, event),
        }
        texts |= dict(zip(layout.event_type.keys, event.kinds, strict=False))
        texts |= {layout.user_id.keys[0]: event.user}
        if layout.time.instead and random.random() < 0.2:
            texts[layout.time.instead] = texts.pop(layout.time.keys[0])
        is_document = layout.document is not None
        members = {
            key: (self._in_document(text, plain) if is_document else text).encode() for key, text in texts.items()
        }
        if event.tree is not None:
            members[layout.properties or "more"] = spell_tree(random, event.tree, not layout.properties).encode()
        return members

    def _id(self, layout: Layout, event: Event) -> str:
        if layout.uuid5 and event.id.int % 3 == 0:
            return f"order-{event.id.int}"
        return spell_id(self._random, event.id)

    def _in_document(self, text: str, plain: bool) -> str:
        """A text as JSON: quoted, or bare if it is a number in JSON's spelling."""
        bare = text.isdigit() and text.isascii() and text[0] != "0" and not plain
        return text if bare and self._random.random() < 0.7 else spell_text(self._random, text, plain)

    def _fields(self, members: dict[str, bytes], layout: Layout) -> list[bytes]:
        """The entry, with its members in random order."""
        random = self._random
        names = list(members)
        if random.random() < 0.2:
            random.shuffle(names)
        if layout.document is None:
            return [part for name in names for part in (name.encode(), members[name])]
        gap = random.choice((b"", b"", b" ", b"\n"))
        pairs = [spell_text(random, name).encode() + gap + b":" + gap + members[name] for name in names]
        return [layout.document, gap + b"{" + b",".join(pairs) + gap + b"}"]
