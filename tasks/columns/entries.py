"""Stream entries as Arrow columns, unchanged. No Python object of an entry outlives its page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

# One entry as hiredis returns it: its id, then field names and values, alternating.
RawEntry = tuple[bytes, Sequence[bytes]]

# The most shapes of a page that get columns of their own. An optional field makes two shapes; field names that carry
# data make one per entry. Entries of all other shapes share one group and cost 20 times the CPU (30 µs each).
_SHAPES = 8


# The only field of a CSV record whose number of values differs from the header: its text, unchanged. No other record
# has this field.
MALFORMED = b"(malformed record)"


# The only field of an entry that is too large to be read: the reason. Its own fields stay in the stream.
UNREAD = b"(entry not read)"


@dataclass(frozen=True)
class EntryColumns:
    """n entries with the same k fields in the same order, or n entries of any shape.

    `ids`: binary, n. `keys`: the k field names. `values`: k arrays, each binary, n. A null means that the row of a file
    lacks the field.
    `keys` is None for entries of mixed shapes. `values` is then one array, list of binary: names and values,
    alternating.
    """

    ids: pa.Array
    keys: tuple[bytes, ...] | None
    values: tuple[pa.Array, ...]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def nbytes(self) -> int:
        """The size of the values in memory, in bytes."""
        return sum(array.nbytes for array in self.values)

    def column(self, key: bytes) -> pa.Array:
        """The values of a field: binary, n. Null if an entry lacks it; the last value if it occurs more than once."""
        if self.keys is None:
            rows = self.values[0].to_pylist()
            found = [dict(zip(row[::2], row[1::2], strict=False)).get(key) for row in rows]
            return pa.array(found, pa.binary())
        for name, array in zip(reversed(self.keys), reversed(self.values), strict=True):
            if name == key:
                return array
        return pa.nulls(len(self), pa.binary())

    def documents(self) -> list[dict[bytes, bytes]]:
        """Each entry as a dict. The last value of a repeated field wins."""
        return [dict(zip(fields[::2], fields[1::2], strict=False)) for _, fields in map(self.raw, range(len(self)))]

    def take(self, rows: NDArray[np.int64]) -> EntryColumns:
        """The entries at `rows`, in that order."""
        at = pa.array(rows)
        return EntryColumns(self.ids.take(at), self.keys, tuple(array.take(at) for array in self.values))

    def raw(self, index: int) -> tuple[str, list[bytes]]:
        """The id and the fields of one entry: names and values, alternating, in their original order."""
        entry_id = self.ids[index].as_py().decode()
        if self.keys is None:
            return entry_id, list(self.values[0][index].as_py())
        fields = zip(self.keys, (array[index].as_py() for array in self.values), strict=True)
        return entry_id, list(chain.from_iterable(field for field in fields if field[1] is not None))


def page_to_columns(page: Sequence[RawEntry]) -> list[EntryColumns]:
    """The entries of one reply as groups: one for each common shape, one for all other entries."""
    ids = [entry[0] for entry in page]
    fields = [entry[1] for entry in page]
    if common := common_keys(fields):
        return [_group(ids, fields, 2 * len(common), common)]
    rows_of: dict[tuple[bytes, ...], list[int]] = {}
    for i, f in enumerate(fields):
        rows_of.setdefault(tuple(f[::2]), []).append(i)
    groups, odd = [], []
    for keys, rows in rows_of.items():
        if keys and len(rows) * _SHAPES >= len(page):
            groups.append(_group([ids[i] for i in rows], [fields[i] for i in rows], 2 * len(keys), keys))
        else:
            odd += rows
    if odd:
        odd.sort()
        values = pa.array([fields[i] for i in odd], pa.list_(pa.binary()))
        groups.append(EntryColumns(pa.array([ids[i] for i in odd], pa.binary()), None, (values,)))
    return groups


def common_keys(fields: list[Sequence[bytes]]) -> tuple[bytes, ...]:
    """The field names of all entries, if all have the same in the same order; else none."""
    # On the hot path: every comparison runs in C.
    width, keys = len(fields[0]), tuple(fields[0][::2])
    if set(map(len, fields)) != {width}:
        return ()
    flat = list(chain.from_iterable(fields))
    return keys if all(flat[2 * i :: width].count(key) == len(fields) for i, key in enumerate(keys)) else ()


def _group(ids: list[bytes], fields: list[Sequence[bytes]], width: int, keys: tuple[bytes, ...]) -> EntryColumns:
    flat = list(chain.from_iterable(fields))
    values = tuple(pa.array(flat[i::width], pa.binary()) for i in range(1, width, 2))
    return EntryColumns(pa.array(ids, pa.binary()), keys, values)


def concat_entries(pages: Iterable[list[EntryColumns]]) -> list[EntryColumns]:
    """Merge the groups of many pages by shape. Entries keep their order within a group."""
    by_shape: dict[tuple[bytes, ...] | None, list[EntryColumns]] = {}
    for group in chain.from_iterable(pages):
        by_shape.setdefault(group.keys, []).append(group)
    merged = []
    for keys, groups in by_shape.items():
        if len(groups) == 1:  # concat_arrays would copy it, and an entry may have tens of megabytes
            merged += groups
            continue
        columns = zip(*(group.values for group in groups), strict=True)
        ids = pa.concat_arrays([group.ids for group in groups])
        merged.append(EntryColumns(ids, keys, tuple(pa.concat_arrays(list(column)) for column in columns)))
    return merged
