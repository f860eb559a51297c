"""The engine that last started an instance, stored in the file `<state_dir>/<instance>/engine`."""

from __future__ import annotations

import contextlib

from infra.servers.lock import make_traversable_folder
from infra.settings import Settings


def read(settings: Settings) -> str | None:
    """The engine's name; None if this instance was never started or was reset."""
    with contextlib.suppress(OSError):
        return (settings.state_dir / settings.instance / "engine").read_text().strip() or None
    return None


def write(settings: Settings, name: str) -> None:
    """Store the engine's name."""
    folder = settings.state_dir / settings.instance
    make_traversable_folder(folder)
    (folder / "engine").write_text(f"{name}\n")


def remove(settings: Settings) -> None:
    """Remove the file, and its folder if that is empty."""
    folder = settings.state_dir / settings.instance
    with contextlib.suppress(FileNotFoundError):
        (folder / "engine").unlink()
    with contextlib.suppress(OSError):
        folder.rmdir()
