"""The cases of `tests.support.type_cases` without a server: what is understood, judged, or left to the server."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from infra.mapping.column_source import ColumnSource
from tasks.columns.types.registry import type_of
from tests.support.type_cases import CASES, TYPES, TypeCase, column_of

SOURCE = ColumnSource()


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.kind}: {case.text!a:.40}")
@pytest.mark.parametrize("arrow", [pa.string(), pa.binary()], ids=str)
def test_a_text_is_understood_refused_or_left_to_the_server(case: TypeCase, arrow: pa.DataType) -> None:
    kind = type_of(case.column)
    parsed = kind.parse(pa.array([case.text, None], pa.string()).cast(arrow), SOURCE)
    if case.judged:
        assert parsed.bad is not None
        assert parsed.bad.tolist() == [True, False]
        return
    assert parsed.bad is None
    assert len(parsed.values) == 2
    assert parsed.values.is_null().to_pylist() == [False, True]
    assert (parsed.values.type == kind.arrow) == case.binary
    if not case.binary and not case.kind.endswith("[]"):
        assert parsed.values.to_pylist() == [case.text, None]  # unchanged


@pytest.mark.parametrize("name", TYPES)
def test_one_text_for_the_server_keeps_all_texts_of_the_column(name: str) -> None:
    kind = type_of(column_of(name))
    texts = [case.text for case in CASES if case.kind == name and not case.judged]
    parsed = kind.parse(pa.array([*texts, None]), SOURCE)
    all_binary = all(case.binary for case in CASES if case.kind == name and not case.judged)
    assert (parsed.values.type == kind.arrow) == all_binary
    if not all_binary and not name.endswith("[]"):
        assert parsed.values.to_pylist() == [*texts, None]


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("nulls", [0, 1, 300])
def test_a_column_of_nulls_needs_no_server(name: str, nulls: int) -> None:
    kind = type_of(column_of(name))
    for arrow in (pa.string(), pa.binary()):
        parsed = kind.parse(pa.nulls(nulls, arrow), SOURCE)
        assert parsed.values.type == kind.arrow
        assert parsed.values.null_count == nulls
        assert parsed.bad is None
        assert len(kind.encode(parsed.values)) == nulls
        assert kind.to_text(parsed.values).null_count == nulls


@pytest.mark.parametrize("name", TYPES)
def test_a_width_that_a_type_states_is_that_of_its_values(name: str) -> None:
    kind = type_of(column_of(name))
    encoded = kind.encode(pa.nulls(1, kind.arrow))
    if kind.width is not None:
        assert isinstance(encoded, np.ndarray)
        assert encoded.shape == (1, kind.width)


@pytest.mark.parametrize("name", ["smallint", "integer", "bigint", "boolean", "uuid", "date", "text", "bytea"])
def test_values_of_these_types_are_equal_if_and_only_if_their_bytes_are(name: str) -> None:
    assert type_of(column_of(name)).exact


@pytest.mark.parametrize("name", TYPES)
def test_a_slice_is_encoded_like_its_values_alone(name: str) -> None:
    kind = type_of(column_of(name))
    texts = [case.text for case in CASES if case.kind == name and not case.judged and case.binary]
    values = kind.parse(pa.array([texts[0], *texts, None, texts[-1], None]) if texts else pa.nulls(4), SOURCE).values
    for start, stop in ((1, 3), (0, len(values)), (2, 2), (len(values) - 3, len(values))):
        part = values[start:stop]
        alone = part.take(pa.array(range(len(part)), pa.int32()))
        assert kind.to_text(part).to_pylist() == kind.to_text(alone).to_pylist()
        valid = np.asarray(part.is_valid())
        encoded, expected = kind.encode(part), kind.encode(alone)
        if isinstance(encoded, np.ndarray):
            assert encoded[valid].tolist() == expected[valid].tolist()
        else:
            assert encoded.filter(pa.array(valid)).to_pylist() == expected.filter(pa.array(valid)).to_pylist()
