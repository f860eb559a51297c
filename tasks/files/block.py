"""Some rows of a file as columns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


@dataclass(frozen=True)
class Rows:
    """n rows of a file, as fields, as a stream's entries have them.

    `row`: int64, n: the number of each, from 1 on and growing: of NDJSON the line (blank lines count but are left out),
    of CSV the record after the header, of Parquet the row.
    `keys`: k field names. `values`: k arrays, binary, n each; null where the row has no such field.
    All `Rows` of a file have the same keys. Of CSV the last one is `MALFORMED`.
    """

    row: NDArray[np.int64]
    keys: tuple[bytes, ...]
    values: tuple[pa.Array, ...]

    def __len__(self) -> int:
        return len(self.row)
