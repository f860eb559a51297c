"""Run several commands of Spillway in one process, whose start takes longer than they do."""

from __future__ import annotations

import json
import sys

END = "\x1e"  # after each command, with its exit code

if __name__ == "__main__":
    from flows.cli import main
    from infra.settings import settings

    for arguments in json.loads(sys.argv[1]):
        sys.argv = ["spillway", *arguments]
        settings.cache_clear()
        try:
            main.main()
        except SystemExit as exit_:
            sys.stdout.write(f"{END}{exit_.code or 0}{END}")
            sys.stdout.flush()
