"""Hypothesis strategies for text and JSON that break careless code."""

from __future__ import annotations

import json

from hypothesis import strategies as st

# Text that breaks code which counts characters or takes bytes for text: combining marks, right-to-left text and
# overrides, a family of five code points, the ends of the planes and of the UTF-8 lengths, control characters, JSON's
# special characters.
ODD = ["e\u0301", "\u05e9\u05dc\u05d5\u05dd", "\u202eabc\u202c", "\U0001f468\u200d\U0001f469\u200d\U0001f467"]
ODD += ["\x7f", "\x80", "\u07ff", "\u0800", "\ufeff", "\uffff", "\U00010000", "\U0010ffff"]
ODD += ["\x01", "\x1f", "\r\n", "\t", '"', "\\", "\\N", "\\."]


TEXT = st.lists(
    st.sampled_from(ODD) | st.characters(exclude_characters="\x00", exclude_categories=("Cs",)), max_size=12
).map("".join)


# jsonb keeps every digit, as numeric does.
DIGITS = st.from_regex(r"-?(0|[1-9][0-9]{0,40})(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,2})?", fullmatch=True)


BLANKS = st.text(" \t\r\n", max_size=2)


JSON = st.recursive(
    st.sampled_from(["null", "true", "false", '""', "[]", "{}", "-0", "0.0"])
    | DIGITS
    | st.builds(json.dumps, TEXT, ensure_ascii=st.booleans()),
    lambda inner: (
        st.builds("[{}]".format, st.lists(inner, max_size=3).map(" ,".join))
        | st.builds(
            "{{{}}}".format,
            st.dictionaries(TEXT.map(json.dumps), inner, max_size=3).map(
                lambda members: ",\n".join(f"{key} : {value}" for key, value in members.items())
            ),
        )
    ),
    max_leaves=6,
)


DOCUMENT = st.builds("{}{}{}".format, BLANKS, JSON, BLANKS)
