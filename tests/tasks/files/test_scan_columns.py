"""Which columns of a file a mapping finds before anything is loaded."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from infra.mapping.column_source import key_source
from tasks.files.find import find_files
from tasks.files.scan import scan
from tasks.files.spool import Spool
from tests.support.decoded_entries import ID, TIME
from tests.support.events_layouts import FLAT, with_sources


@pytest.mark.parametrize("key", ['"who.is"', "who.is"])
def test_a_column_whose_name_looks_like_a_path_is_found_with_and_without_quotes(key: str, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(f"time,event_id,event_type,who.is\n{TIME},{ID},click,anna\n")
    (file,) = find_files(str(path))
    with closing(Spool()) as spool:
        assert scan(file, with_sources(FLAT, user_id=key_source(key)), spool).rows == 1
