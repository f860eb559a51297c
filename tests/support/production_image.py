"""The image of the Dockerfile, built from a Debian base that is made here: no registry of images is needed.

Debian 12 has Python 3.11, as the official image that is the default has. What differs is where Python is.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from infra.settings import PROJECT_ROOT
from tests.support.stand_in_images import Podman

IMAGE = "localhost/spillway:test"
_BASE = "localhost/debian-python:12"
_SUITE = "bookworm"
_BUILD_SECONDS = 600
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


def make_base(tar: Path) -> Path:
    """Make the root of the base image as a tar file."""
    argv = ["mmdebstrap", "--quiet", "--variant=minbase", "--include=python3-venv", _SUITE, str(tar)]
    subprocess.run(argv, stdin=subprocess.DEVNULL, check=True, timeout=600)
    return tar


def build_image(podman: Podman, base: Path) -> None:
    """Build the image on the base of `make_base`. Packages come from the index that pip uses on this machine."""
    podman.run("import", "--quiet", base, _BASE)
    secret = podman.folder / "pip.conf"
    secret.write_text(_pip_configuration())
    # Some networks have a certificate authority of their own.
    authority = ["--volume", f"{_CERTIFICATES}:{_CERTIFICATES}:ro"] if _CERTIFICATES.exists() else []
    podman.run(
        *("build", "--quiet", "--format", "docker", "--layers=false", "--network", "host", *authority),
        *("--build-arg", f"BASE={_BASE}", "--secret", f"id=pip,src={secret}", "--tag", IMAGE, PROJECT_ROOT),
        timeout=_BUILD_SECONDS,
    )


def _pip_configuration() -> str:
    """What a build needs of pip's configuration on this machine: the index, unless it is a local folder."""
    argv = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True, env=os.environ).stdout
    found = dict(line.split("=", 1) for line in listed.splitlines() if "=" in line)
    lines = ["[global]"]
    for name in ("index-url", "trusted-host", "timeout"):
        for section in (":env:", "install", "global"):
            if value := found.get(f"{section}.{name}", "").strip("'"):
                lines.append(f"{name} = {value}")
                break
    if _CERTIFICATES.exists():
        lines.append(f"cert = {_CERTIFICATES}")
    return "\n".join([*lines, ""])
