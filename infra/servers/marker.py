"""Which engine an instance was last brought up with: the file `<state_dir>/<instance>/engine`."""

from __future__ import annotations

import contextlib

from infra.servers.lock import make_open_folder
from infra.settings import Settings


def read(settings: Settings) -> str | None:
    """The engine's name; None if this instance was never up, or was reset."""
    with contextlib.suppress(OSError):
        return (settings.state_dir / settings.instance / "engine").read_text().strip() or None
    return None


def write(settings: Settings, name: str) -> None:
    """Remember the engine's name."""
    folder = settings.state_dir / settings.instance
    make_open_folder(folder)
    (folder / "engine").write_text(f"{name}\n")


def remove(settings: Settings) -> None:
    """Forget it, and remove the folder if nothing else is in it."""
    folder = settings.state_dir / settings.instance
    with contextlib.suppress(FileNotFoundError):
        (folder / "engine").unlink()
    with contextlib.suppress(OSError):
        folder.rmdir()
