"""The columns by which chunks are compressed, as the settings write them and as the server does."""

from __future__ import annotations

import pytest

from infra.errors.exceptions import Terminal
from tasks.maintain.compression_layout import CompressionLayout


@pytest.mark.parametrize(
    ("mine", "servers"),
    [
        (("", ""), ("", '"time" DESC')),
        (("event_type, user_id", "time desc"), ("event_type,user_id", '"time" DESC')),
        (("", "user_id"), ("", 'user_id,"time" DESC')),
        (("", "event_id desc nulls first, time asc"), ("", 'event_id DESC,"time"')),
        (("", "event_id ASC NULLS LAST"), ("", 'event_id,"time" DESC')),
    ],
)
def test_equal_layouts_compare_equal_however_they_are_written(mine: tuple[str, str], servers: tuple[str, str]) -> None:
    assert CompressionLayout.parse(*mine) == CompressionLayout.of_server(*servers, "time")


@pytest.mark.parametrize("other", [("", "time"), ("", "time DESC NULLS LAST"), ("user_id", ""), ("", "user_id, time")])
def test_different_orders_compare_different(other: tuple[str, str]) -> None:
    assert CompressionLayout.parse(*other) != CompressionLayout.parse("", "time DESC")


@pytest.mark.parametrize(("segmentby", "orderby"), [("a;b", ""), ("", "time SIDEWAYS"), ("", "a,,b")])
def test_an_invalid_list_is_refused_by_the_name_of_its_setting(segmentby: str, orderby: str) -> None:
    with pytest.raises(Terminal, match=r"SPILLWAY_COMPRESS_.*BY: expected columns such as"):
        CompressionLayout.parse(segmentby, orderby)
