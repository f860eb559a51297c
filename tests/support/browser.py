"""A page in a real browser: Chromium without a window."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# Appended to a copy of a page: the page itself allows no script. The browser prints the document when it is loaded.
_MEASURE = """<script>document.title = [document.documentElement.scrollWidth, window.innerWidth,
  document.querySelectorAll("svg").length, typeof window.attacked].join(" ");</script>"""


def measured(page: str, width: int) -> tuple[int, int, int, bool]:
    """Width of the content and of the window in pixels, number of pictures, and whether the page set `window.attacked`.

    Its policy is taken out, so that nothing but its own escaping protects it."""
    free = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page) + _MEASURE
    with TemporaryDirectory() as folder:
        path = Path(folder) / "page.html"
        path.write_text(free)
        shown = _run(path.as_uri(), folder, f"--window-size={width},900", "--dump-dom")
    found = re.search(r"<title>(\d+) (\d+) (\d+) (\w+)</title>", shown)
    assert found is not None, shown[:500]
    return int(found[1]), int(found[2]), int(found[3]), found[4] != "undefined"


def document(url: str) -> str:
    """The document of a page after its scripts ran for 20 s, as HTML."""
    with TemporaryDirectory() as folder:
        return _run(url, folder, "--window-size=1400,2000", "--virtual-time-budget=20000", "--dump-dom")


def picture(url: str, path: Path, width: int, height: int) -> None:
    """Write a picture of a page as PNG. Scripts have 20 s to draw."""
    with TemporaryDirectory() as folder:
        options = [f"--window-size={width},{height}", f"--screenshot={path}", "--virtual-time-budget=20000"]
        _run(url, folder, "--hide-scrollbars", *options)


def _run(url: str, folder: str, *options: str) -> str:
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}/profile"]
    done = subprocess.run([*command, *options, url], capture_output=True, text=True, timeout=240, check=True)
    return done.stdout
