"""Locations of files, and how messages name them."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from infra.errors.exceptions import SpillwayError, Terminal, Transient
from infra.locations import open_location, translate_errors


def test_a_path_and_a_file_url_are_the_same_location(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for source in ("a b/ü", f"{tmp_path}/a b/ü/", f"file://{tmp_path}/a%20b/%C3%BC", f"file://{tmp_path}/a b/ü/"):
        location = open_location(source, "test", "fix it")
        assert (location.local, location.path, location.display_name) == (
            True,
            f"{tmp_path}/a b/ü",
            f"{tmp_path}/a b/ü",
        )


@pytest.mark.parametrize(
    ("url", "path", "display_name", "other"),
    [
        ("memory://a/b", "/a/b", "memory://a/b", "/a/c"),
        ("s3://key:secret@a/b/?region=x&scheme=http", "a/b", "s3://a/b", "a/c"),
        ("s3://a/b%20c*?.csv?region=secret", "a/b c*?.csv", "s3://a/b%20c*?.csv", "a/c"),
    ],
)
def test_a_url_is_shown_without_credentials_and_parameters(url: str, path: str, display_name: str, other: str) -> None:
    location = open_location(url, "test", "fix it")
    assert (location.local, location.path, location.display_name) == (False, path, display_name)
    assert location.display_name_of(other) == f"{url.partition(':')[0]}://a/c"


@pytest.mark.parametrize(
    ("error", "kind", "next_step"),
    [
        (OSError(errno.EIO, "Input/output error"), Transient, "it is retried"),
        (OSError("AWS Error SLOW_DOWN during GetObject of s3://key:secret@bucket/x"), Transient, "it is retried"),
        (OSError(errno.EACCES, "Permission denied"), Terminal, "fix it"),
        (OSError("AWS Error ACCESS_DENIED during GetObject of s3://key:secret@bucket/x"), Terminal, "fix it"),
    ],
)
def test_an_error_names_the_location_and_the_next_step(
    error: OSError, kind: type[SpillwayError], next_step: str
) -> None:
    with (
        pytest.raises(kind, match=f"^test: s3://bucket: .*; {next_step}") as caught,
        translate_errors("test", "s3://bucket", "fix it"),
    ):
        raise error
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("name", ["tenant=a%2Fb/x.csv", "50%/x.csv", "a b/ü?.csv", "%25/x.csv"])
def test_a_file_found_in_a_bucket_is_found_again_by_its_display_name(name: str) -> None:
    location = open_location("s3://bucket/data?region=eu-west-1", "test", "fix it")
    display_name = location.display_name_of(f"bucket/data/{name}")
    assert open_location(f"{display_name}?region=eu-west-1", "test", "fix it").path == f"bucket/data/{name}"
