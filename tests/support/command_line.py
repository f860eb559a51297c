"""The command line as a fixture gives it, and what it prints."""

from __future__ import annotations

from collections.abc import Callable


def assert_one_error(err: str, *parts: str) -> None:
    """Standard error has exactly one error line, with all of `parts`, and neither a traceback nor a password."""
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    for part in parts:
        assert part in line
    assert "Traceback" not in err
    assert "analytics_pass" not in err


RunSpillway = Callable[..., tuple[int, str, str]]
