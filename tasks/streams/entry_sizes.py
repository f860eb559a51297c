"""The sizes of entries, without sending them: a script that adds them up in Redis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import redis

from tasks.base.addresses import id_text, parse_id
from tasks.streams.limited_reply import Command

# Entry by entry: XRANGE copies what it returns to the script.
_SIZES = """
local entries, total, last, at = 0, 0, '', ARGV[1]
while entries < tonumber(ARGV[3]) and total < tonumber(ARGV[4]) do
  local entry = redis.call('XRANGE', KEYS[1], at, ARGV[2], 'COUNT', 1)[1]
  if not entry then break end
  local size = 0
  for _, part in ipairs(entry[2]) do size = size + #part end
  local oversized = size > tonumber(ARGV[5])
  if entries > 0 and (oversized or total + size > tonumber(ARGV[4])) then break end
  entries, total, last, at = entries + 1, total + size, entry[1], '(' .. entry[1]
  if oversized then break end
end
return {entries, total, last}
"""


@dataclass(frozen=True)
class MeasuredEntries:
    """The entries from an id to before `stop`: their number, and the bytes of their field names and values."""

    entries: int
    bytes: int
    stop: int


_NONE = MeasuredEntries(0, 0, 0)


def measure_command(stream: str, span: tuple[int, int], count: int, most_bytes: int, max_entry: int) -> Command:
    """The command whose reply `read_measurement` reads. See `measure_entries`."""
    start, stop = span
    return ("EVAL_RO", _SIZES, 1, stream, id_text(start), id_text(stop - 1), count, most_bytes, max_entry)


def read_measurement(reply: Any) -> MeasuredEntries:
    """The entries that a reply to `measure_command` counts."""
    entries, total, last = reply
    return MeasuredEntries(entries, total, parse_id(last) + 1) if entries else _NONE


def measure_entries(
    client: redis.Redis, stream: str, span: tuple[int, int], count: int, most_bytes: int, max_entry: int
) -> MeasuredEntries:
    """The first entries of `span` (its first id, and the one after its last): at most `count` with `most_bytes`
    together, but at least one. An entry of more than `max_entry` bytes is measured alone.

    Also 0 without the right to EVAL_RO, or on a server that does not know it. Raises `redis.RedisError`.
    """
    try:
        return read_measurement(client.execute_command(*measure_command(stream, span, count, most_bytes, max_entry)))
    except redis.exceptions.ResponseError:
        return _NONE
