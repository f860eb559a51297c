"""Choose earlier entries for a generated stream to repeat, from a bounded history."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from infra.producers.broken import Entry

# Entries kept, about 0.6 kB each: 15 MB at most.
RECENT = 5_000
FAR = 20_000

# At-least-once producers repeat recent entries; a replay repeats entries of any age.
_FAR_SHARE = 0.2
_MEAN_DISTANCE = 300.0  # in entries


class Repeats:
    """Candidates for repeats: the last `RECENT` entries, and a uniform sample of all (Vitter's algorithm R)."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._recent: list[Entry] = []
        self._far: list[Entry] = []
        self._seen = 0

    def weave(self, entries: list[Entry], fresh: npt.NDArray[np.bool_], duplicate: npt.NDArray[np.bool_]) -> None:
        """Replace the entries at `duplicate` by copies of earlier entries.

        Candidates are the entries at `fresh` and the history. All arguments have the same length. An entry that can be
        repeated must precede the first duplicate.
        """
        known = self._recent + [entries[i] for i in np.flatnonzero(fresh).tolist()]
        positions = np.flatnonzero(duplicate)
        before = len(self._recent) + np.cumsum(fresh)[positions]
        # A distance beyond the history wraps to 0..before.
        distance = self._rng.exponential(_MEAN_DISTANCE, positions.size).astype(np.int64) % np.maximum(before, 1)
        far = self._rng.random(positions.size) < _FAR_SHARE
        slots = (self._rng.random(positions.size) * len(self._far)).astype(np.int64)
        for position, nearby, is_far, slot in zip(
            positions.tolist(), (before - 1 - distance).tolist(), far.tolist(), slots.tolist(), strict=True
        ):
            entries[position] = dict(self._far[slot] if is_far and self._far else known[nearby])
        self._sample(known[len(self._recent) :])
        self._recent = known[-RECENT:]

    def _sample(self, fresh: list[Entry]) -> None:
        slots = self._rng.random(len(fresh)) * (self._seen + np.arange(1, len(fresh) + 1))
        for entry, slot in zip(fresh, slots.astype(np.int64).tolist(), strict=True):
            if len(self._far) < FAR:
                self._far.append(entry)
            elif slot < FAR:
                self._far[slot] = entry
        self._seen += len(fresh)
