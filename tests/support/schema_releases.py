"""The schemas of earlier releases, and rows as they left them."""

from __future__ import annotations

from pathlib import Path

_RELEASES = Path(__file__).parent.parent / "infra" / "schema_releases"
FIRST, PREVIOUS = _RELEASES / "first.sql", _RELEASES / "previous.sql"
# What a drain of the first release left: two ranges, a duplicate, an entry in quarantine.
FIRST_ROWS = """
    INSERT INTO events VALUES ('2024-01-02', '00000000-0000-0000-0000-000000000001', 't', 'u', '{"a": 1}'),
                              ('2024-01-03', '00000000-0000-0000-0000-000000000002', 't', 'u', NULL);
    INSERT INTO spillway.streams (name, baseline, settled_id, settled_entries_added, settled_at)
    VALUES ('web', 5, 40, 9, '2024-01-04Z');
    INSERT INTO spillway.ledger (stream, ids, read, inserted, duplicates, quarantined, bytes, loaded_by)
    VALUES (1, '[10,20)', 2, 1, 1, 0, 100, 'run 1'), (1, '[20,41)', 2, 1, 0, 1, 100, 'run 2');
    INSERT INTO spillway.quarantine (stream, entry_id, fields, field, reason)
    VALUES (1, '0-30', '{"\\\\x61","\\\\x62"}', 'time', 'not a time');"""
# What the previous release has besides: lost entries, some accepted; a merged range; a file of an archive; drops.
PREVIOUS_ROWS = (
    FIRST_ROWS
    + """
    UPDATE spillway.streams SET lost = 3, accepted = 2, accepted_by = 'ann', accepted_at = '2024-01-05Z',
                                settled_hash = '\\x01';
    UPDATE spillway.ledger SET ranges = 7, lost = 3, lost_ids = '[10,15)', seconds = 1.5 WHERE ids @> 10::numeric;
    UPDATE spillway.quarantine SET outcome = 'redriven', replayed = fields, resolved_by = 'bob', resolved_at = now();
    INSERT INTO spillway.streams (name, baseline) VALUES ('file:00', 0);
    INSERT INTO spillway.files (stream, path, mapping, reading, rows, own) VALUES (2, 'f.csv', 'm', 'r', 2, '{a}');
    INSERT INTO spillway.drops (chunk, range_end, rows, dropped_by) VALUES ('c', '2023-01-01Z', 4, 'maintain');"""
)
# The same as this release writes it.
ROWS = (
    PREVIOUS_ROWS.replace("stream, ids, read, ins", "stream, ids, rows, read, ins")
    .replace("', 2, 1,", "', 2, 2, 1,")
    .replace("drops (chunk", """drops ("table", chunk""")
    .replace("('c', '2023", """('"public"."events"', 'c', '2023""")
    + """
    UPDATE spillway.streams SET drained = '{[10,41)}', read = 4, inserted = 2,
                                loaded_at = (SELECT max(loaded_at) FROM spillway.ledger) WHERE id = 1;"""
)
