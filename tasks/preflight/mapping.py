"""Does the mapping fit the stream? Asked before the first drain of a stream reads anything."""

from __future__ import annotations

import numpy as np
import orjson

from infra.errors import Terminal
from infra.mapping import Mapping
from tasks.columns.entries import Group
from tasks.columns.extract import extract


def check_mapping(stream: str, mapping: Mapping, sample: list[Group]) -> None:
    """Raise `Terminal` where the mapping names a key that none of the sampled entries has.

    For the first drain of a stream only: later, such an entry is a bad one and no reason to stop.
    """
    absent = set(mapping.sources) if sample else set()
    for group in sample:
        columns = extract(group, mapping)
        for name, source in mapping.sources.items():
            if all((~np.asarray(columns.texts[key].is_null())).any() for key in source.required):
                absent.discard(name)
    if not absent:
        return
    name = min(absent)
    missing = ", ".join(repr(key) for key in mapping.sources[name].required)
    which = (
        f'spillway.toml: streams."{mapping.name}".{name} names {missing}'
        if mapping.name
        else f"{stream}: without a mapping {name} is {missing}"
    )
    raise Terminal(
        f"{which}, which none of the first {sum(map(len, sample))} entries of {stream} has; they have:"
        f" {_keys(sample[0], mapping)}; nothing was written: mend the mapping, or name another one"
    )


def _keys(group: Group, mapping: Mapping) -> str:
    entry = group.documents()[0]
    try:
        document = orjson.loads(entry[mapping.field]) if mapping.layout == "json" else entry
        names = [key.decode(errors="replace") if isinstance(key, bytes) else str(key) for key in document]
    except (KeyError, orjson.JSONDecodeError, TypeError):
        names = [key.decode(errors="replace") for key in entry]
    return ", ".join(names[:20])
