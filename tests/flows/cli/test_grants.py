"""`spillway grants` prints the rights that preflight checks."""

from __future__ import annotations

from collections.abc import Callable

from infra.settings import Settings
from tasks.preflight.rights import rights, statements
from tests.support.command_line import RunSpillway

ROLE, DATABASE = "spillway_least", "rights"


def test_the_command_prints_the_same_statements(command_line: RunSpillway, configure: Callable[..., Settings]) -> None:
    """No server is asked: the database of the URL need not exist."""
    configure(database_url=f"postgresql://somebody@127.0.0.1:1/{DATABASE}")
    code, out, _ = command_line("grants", ROLE)
    assert code == 0
    assert out.splitlines() == [f"{statement};" for statement in statements(rights("drain"), ROLE, DATABASE)]
    code, out, _ = command_line("grants", ROLE, "--table", "shop.copy", "--table", '"A b"')
    assert code == 0
    for table in ('"shop"."copy"', '"public"."A b"'):
        assert f'GRANT SELECT, INSERT ON {table} TO "{ROLE}";' in out.splitlines()
    assert "events" not in out
    code, _, err = command_line("grants", ROLE, "--for", "dance")
    assert code == 1
    assert "expected one of: drain, backfill" in err
