"""Why entries went to quarantine, grouped: the same defect is one cause, and no cause quotes an entry."""

from __future__ import annotations

from tasks.columns.decode import Fault
from tasks.table.causes import count_causes, exceeds_bad_share, format_causes
from tasks.table.stage import rejected_row


def test_faults_that_differ_only_in_position_or_value_have_one_cause() -> None:
    faults = [
        Fault(0, "time", "expected ISO 8601 or a number of s, ms or µs since 1970, found 'geheim'"),
        Fault(1, "time", "expected ISO 8601 or a number of s, ms or µs since 1970, found 'x, found y'"),
        Fault(2, "user_id", "missing field user_id"),
        Fault(3, "data", "JSON is malformed: invalid character (byte 7)"),
        Fault(4, "data", "JSON is malformed: invalid character (byte 12)"),
        Fault(5, "data", "'utf-8' codec can't decode byte 0xe9 in position 3: invalid continuation byte"),
        Fault(6, "data", "'utf-8' codec can't decode byte 0xff in position 40: invalid continuation byte"),
        Fault(7, "user_id", "conflict: the table has this event_id and time with another user_id", conflict=True),
        rejected_row(8, "user_id", "value too long", "geheim", "22001"),
        rejected_row(9, "user_id", "value too long", "other", "22001"),
        rejected_row(10, "", "geheim", "", "P0001"),
        Fault(11, "a\x1b]", "expected UTF-8, found byte 0xe9 at 3"),
        Fault(12, "", "a trigger on events skipped the row (it returned NULL), so the entry is not in the table"),
    ]
    assert count_causes(faults) == {
        "time: expected ISO 8601 or a number of s, ms or µs since 1970": 2,
        "user_id: missing field user_id": 1,
        "data: JSON is malformed: invalid character": 2,
        "data: 'utf-8' codec can't decode invalid continuation byte": 2,
        "conflict: the table has this event_id and time with another user_id": 1,
        "user_id: refused by the table [SQLSTATE 22001]": 2,
        "refused by the table [SQLSTATE P0001]": 1,
        r"a\x1b]: expected UTF-8": 1,
        "a trigger on events skipped the row (it returned NULL), so the entry is not in the table": 1,
    }


def test_a_cause_has_no_control_characters() -> None:
    faults = [
        Fault(0, "data", "missing field a\x1b]"),
        Fault(1, "", "expected an object at a\x1b]"),
        Fault(2, "data", "conflict: the table has another a\x1b]", conflict=True),
    ]
    assert count_causes(faults) == {
        r"data: missing field a\x1b]": 1,
        r"expected an object at a\x1b]": 1,
        r"conflict: the table has another a\x1b]": 1,
    }


def test_the_most_frequent_causes_come_first_and_the_rest_are_summed_up() -> None:
    assert format_causes({"b": 2, "a": 2, "c": 1_000}) == "1,000 × c; 2 × a; 2 × b"
    assert format_causes({str(n): n for n in range(1, 9)}) == "8 × 8; 7 × 7; 6 × 6; 5 × 5; 4 × 4; 6 × 3 other causes"


def test_fewer_than_ten_bad_entries_never_exceed_the_share() -> None:
    assert not exceeds_bad_share(9, 9, 0.5)
    assert not exceeds_bad_share(10, 20, 0.5)
    assert exceeds_bad_share(11, 20, 0.5)
    assert exceeds_bad_share(10, 19, 0.5)
    assert not exceeds_bad_share(0, 0, 0)
