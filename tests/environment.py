"""Prefect's environment for the tests. Import this before anything that imports Prefect, which reads it only once."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from flows.environment import prefect_defaults
from tests.support.ports import free_port

PREFECT_PORT = free_port()
_HOME = tempfile.TemporaryDirectory(prefix="spillway-test-")
PREFECT_HOME = Path(_HOME.name)

os.environ |= {
    **prefect_defaults(),
    "PREFECT_HOME": str(PREFECT_HOME),
    "PREFECT_API_URL": f"http://127.0.0.1:{PREFECT_PORT}/api",
    "PREFECT_SERVER_DATABASE_TIMEOUT": "60",  # seconds to wait for a lock of its SQLite; a longer wait ends as a 503
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "DO_NOT_TRACK": "1",
}
# The developer's own servers must not be used by a test.
for _name in [name for name in os.environ if name.startswith("SPILLWAY_") and not name.startswith("SPILLWAY_TEST_")]:
    del os.environ[_name]
