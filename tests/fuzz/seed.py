"""The seed of the fuzz tests: fixed, so that a run can be repeated. SPILLWAY_TEST_FUZZ_SEED sets another one."""

from __future__ import annotations

import os

SEED = os.environ.get("SPILLWAY_TEST_FUZZ_SEED", "1")
