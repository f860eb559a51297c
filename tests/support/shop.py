"""The orders of a shop as its producer writes them: ULIDs, times in ms since 1970, nested objects, a tenant."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any
from uuid import UUID

_DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_START_MS = 1_795_000_000_000


def ulid(value: UUID) -> str:
    """The ULID with the bits of a UUID, written here without Spillway's code."""
    return "".join(_DIGITS[(value.int >> 5 * place) & 31] for place in reversed(range(26)))


def orders(count: int, seed: int = 7) -> list[dict[str, Any]]:
    """Some orders, one every ten minutes on average."""
    random, at = Random(seed), _START_MS
    found = []
    for number in range(count):
        at += random.randrange(1_200_000)
        found.append(
            {
                "orderId": ulid(UUID(int=(at << 80) | random.getrandbits(80))),
                "tenant": random.choice(["acme", "globex"]),
                "placedAt": at,
                "customer": {"id": random.randrange(10_000), "email": f"u{number}@example.com"},
                "total": f"{random.randrange(100, 99_999) / 100:.2f}",
                "items": [{"sku": f"SKU-{random.randrange(99)}", "qty": 1 + number % 3} for _ in range(number % 4)],
                "note": "gift" if number % 5 == 0 else None,
            }
        )
    return found


def order_rows(found: list[dict[str, Any]]) -> Iterator[tuple[Any, ...]]:
    """What each order must be in a table, by this module alone."""
    for order in found:
        number = 0
        for digit in order["orderId"]:
            number = number * 32 + _DIGITS.index(digit)
        yield (
            UUID(int=number),
            order["tenant"],
            datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=order["placedAt"]),
            order["customer"]["id"],
            order["customer"]["email"],
            Decimal(order["total"]),
            order["items"],
            order["note"],
        )


def order_fields(order: dict[str, Any]) -> dict[bytes, bytes]:
    """The fields of the entry of an order."""
    return {b"data": json.dumps(order).encode()}
