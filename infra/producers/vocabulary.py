"""Content of generated events: skewed weights, event types, and properties in several alphabets."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import orjson

# By frequency: the first is the most frequent, as pages are in real click streams.
EVENT_TYPES = (
    "page.view",
    "product.view",
    "search",
    "session.start",
    "cart.add",
    "video.play",
    "message.sent",
    "checkout.start",
    "order.paid",
    "user.signup",
    "refund.asked",
    "error.client",
)
USERS = 50_000
HEADS_PER_TYPE = 64

_PAGES = ("/", "/größen", "/акции", "/商品/一覧", "/hjälp", "/offres-d’été", "/help?topic=returns&page=2", "/חדש")
_QUERIES = ("żółta kurtka", "running shoes", "зимние сапоги", "ワイヤレス イヤホン", "قهوة", 'tv 55"', "naïve café")
_TEXTS = ("Danke 🙏", "ok\nsee you", "C:\\temp", "पहुँच गया", "👩‍👩‍👧 family plan?", "再见", "it's late…")
_TAGS = ("new", "été", "セール", "b2b", "αβγ", "50%")
_LOCALES = ("en-US", "de-DE", "pl-PL", "ja-JP", "ru-RU", "ar-EG", "hi-IN", "fr-CA")
_SYSTEMS = ("Android", "iOS", "Windows", "macOS", "Linux")


def zipf_cumulated(size: int, exponent: float) -> npt.NDArray[np.float64]:
    """Cumulative shares of ranks 1..`size` with weights 1 / rank^`exponent`, for `searchsorted`. The last one is 1."""
    weights = np.arange(1, size + 1, dtype=np.float64) ** -exponent
    cumulated = np.cumsum(weights)
    cumulated /= cumulated[-1]
    return cumulated


def property_heads(rng: np.random.Generator) -> list[bytes]:
    """JSON objects without their closing brace, `HEADS_PER_TYPE` for each of `EVENT_TYPES` in order."""
    return [
        orjson.dumps(_properties(rng, event_type)).removesuffix(b"}")
        for event_type in EVENT_TYPES
        for _ in range(HEADS_PER_TYPE)
    ]


def _properties(rng: np.random.Generator, event_type: str) -> dict[str, object]:
    def one(choices: tuple[str, ...]) -> str:
        return choices[int(rng.integers(len(choices)))]

    common: dict[str, object] = {
        "locale": one(_LOCALES),
        "device": {"os": one(_SYSTEMS), "app": f"{rng.integers(1, 9)}.{rng.integers(20)}"},
    }
    match event_type:
        case "search":
            return common | {"query": one(_QUERIES), "hits": int(rng.integers(2000))}
        case "message.sent":
            return common | {"text": one(_TEXTS), "to": None}
        case "cart.add" | "checkout.start" | "order.paid" | "refund.asked":
            items = [{"sku": f"S{rng.integers(10_000)}", "n": int(rng.integers(1, 5))} for _ in range(2)]
            return common | {"items": items[: int(rng.integers(1, 3))], "gift": bool(rng.integers(2))}
        case _:
            return common | {"page": one(_PAGES), "tags": [one(_TAGS)]}
