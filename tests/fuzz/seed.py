"""The seed of all that is random here: fixed, so that a run can be had again; another one by the environment."""

from __future__ import annotations

import os

SEED = os.environ.get("SPILLWAY_TEST_FUZZ_SEED", "1")
