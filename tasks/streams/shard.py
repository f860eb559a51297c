"""A fixed part of all streams, for workers that share them without talking to each other."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from infra.errors.exceptions import WrongUse

_SHARD = re.compile(r"([1-9][0-9]{0,5})/([1-9][0-9]{0,5})")


@dataclass(frozen=True)
class Shard:
    """Part `number`, from 1 on, of `count` parts. By a hash of its name, a stream is always in the same one."""

    number: int
    count: int

    def __contains__(self, stream: str) -> bool:
        digest = hashlib.sha256(stream.encode("utf-8", "surrogateescape")).digest()
        return int.from_bytes(digest[:8]) % self.count == self.number - 1


def parse_shard(text: str) -> Shard:
    """`2/8` as a shard. Raises `WrongUse`."""
    found = _SHARD.fullmatch(text.strip())
    if found is None or int(found[1]) > int(found[2]):
        raise WrongUse(
            "shard: expected a part and the number of parts, such as 2/8, with 1 to 8 before the slash, found"
            f" {text!r}; nothing was read"
        )
    return Shard(int(found[1]), int(found[2]))
