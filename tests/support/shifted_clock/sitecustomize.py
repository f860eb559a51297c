"""For a Python process under libfaketime, which shifts the deadline of `time.sleep` although that clock is not shifted.

Prefect's client sleeps before it asks again, so a busy Prefect server ended a command with `OSError`.
"""

import select
import time


def _sleep(seconds: float) -> None:
    select.select([], [], [], seconds)


time.sleep = _sleep
